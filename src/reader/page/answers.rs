//! Answers, what is said besides, and how long an answer is true.

use super::queries::Version;
use super::request::Question;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer is as good as a new one for this long, although batches come.
const NEW: Duration = Duration::from_millis(700);
/// What no version shows (a batch that was retracted, rows that were taken away) is seen after this time.
const OLD: Duration = Duration::from_secs(10);
/// Movements between two batches stay what they are, as long as both batches are there, which is asked again
/// after [`OLD`].
const OLD_MOVES: Duration = Duration::from_secs(600);
/// An answer of before is as good as a new one for so long. Then its age is said.
const UNTOLD: Duration = Duration::from_secs(2);

/// An answer, as it is sent.
#[derive(Debug)]
pub struct Answer {
    /// The code of HTTP.
    pub status: u16,
    /// The body, or the part of the page that depends on the question.
    pub body: Arc<[u8]>,
    /// Two answers with the same tag are the same.
    pub tag: String,
    /// If it is a page: the two batches whose movements belong to it.
    pub compared: Option<(i64, i64)>,
}

impl Answer {
    /// An answer without movements.
    pub fn new(status: u16, body: String) -> Self {
        let hash = Sha256::digest(&body);
        let tag = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { status, body: body.into_bytes().into(), tag, compared: None }
    }
}

/// Why there is no answer, or none that is up to date.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub what: String,
}

/// What a browser gets.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The answer; perhaps an earlier one.
    pub answer: Option<Arc<Answer>>,
    /// When it was made, if it is an earlier one and a newer one was to be had neither at once nor soon.
    pub of: Option<DateTime<Utc>>,
    /// What is wrong.
    pub trouble: Option<Trouble>,
}

impl Told {
    /// How old the answer is, if it is an earlier one.
    pub fn age(&self) -> Option<Duration> {
        (Utc::now() - self.of?).to_std().ok()
    }
}

impl From<Arc<Answer>> for Told {
    fn from(answer: Arc<Answer>) -> Self {
        Self { answer: Some(answer), of: None, trouble: None }
    }
}

/// An answer with its age.
pub(super) struct Entry {
    /// The answer.
    pub(super) answer: Arc<Answer>,
    /// The tables that it was made from.
    pub(super) version: Version,
    /// When.
    pub(super) drawn: Instant,
    /// When the batches of movements were last found to be there.
    pub(super) checked: Instant,
    /// When it was last asked for.
    pub(super) asked: Instant,
    /// Why a newer one could not be made, and when that was tried.
    pub(super) failed: Option<(Trouble, Instant)>,
}

impl Entry {
    /// Whether it is as good as a new one, if the tables are in this state. (`None`: nobody knows in which.)
    pub(super) fn is_fresh(&self, question: &Question, version: Option<Version>) -> bool {
        let age = self.drawn.elapsed();
        match question {
            // What failed may fail again, after a while.
            _ if self.answer.status >= 500 => age < OLD,
            _ if self.is_moves(question) => self.checked.elapsed() < OLD,
            _ => age < NEW || age < OLD && version == Some(self.version),
        }
    }

    /// Whether it is movements, which change only by being gone.
    pub(super) fn is_moves(&self, question: &Question) -> bool {
        matches!(question, Question::Moves { .. } | Question::Matrix { .. })
            && self.answer.status == 200
            && self.drawn.elapsed() < OLD_MOVES
    }

    /// Why a newer answer could not be made, if that was tried a short while ago.
    pub(super) fn failure(&self) -> Option<Trouble> {
        self.failed.as_ref().filter(|(_, when)| when.elapsed() < OLD).map(|(trouble, _)| trouble.clone())
    }

    /// What is said if there is no newer answer.
    pub(super) fn told(&self) -> Told {
        let of = TimeDelta::from_std(self.drawn.elapsed()).ok().filter(|_| self.drawn.elapsed() >= UNTOLD);
        Told {
            answer: Some(Arc::clone(&self.answer)),
            of: of.map(|age| Utc::now() - age),
            trouble: self.failure(),
        }
    }
}
