//! Where questions of browsers lie until they are answered, and answers as long as they are true.
//!
//! **The server's thread never waits for the worker's**: an answer that is fresh is given at once, and for
//! another one there is a bound ([`Desk::ask`]). However many browsers ask the same, it is asked of the
//! database once.

use super::queries::Version;
use super::request::Question;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::timeout;

/// An answer is as good as a new one for this long, although batches come.
const NEW: Duration = Duration::from_millis(700);
/// For this long after the tables were found unchanged, answers are taken to be true.
const CONFIRMED: Duration = Duration::from_secs(1);
/// What no version shows (a batch that was retracted, rows that were taken away) is seen after this time.
const OLD: Duration = Duration::from_secs(10);
/// Movements between two batches stay what they are, but the rows of a batch may go.
const OLD_MOVES: Duration = Duration::from_secs(600);
/// Who has an earlier answer waits this long for a new one.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Who has none may wait this long: less than a connection lasts.
pub const LONGEST_WAIT: Duration = Duration::from_secs(9);
/// After this long, Postgres counts as mute. No statement takes so long.
const MUTE: Duration = Duration::from_secs(12);
/// Somebody looks at an answer that was asked for within this time.
const WATCHED: Duration = Duration::from_secs(3);
/// Answers that are kept.
const MOST_ANSWERS: usize = 64;
/// Questions that wait.
const MOST_QUESTIONS: usize = 32;

/// An answer, as it is sent.
#[derive(Debug)]
pub struct Answer {
    /// The code of HTTP.
    pub status: u16,
    /// The body, or the part of the page that depends on the question.
    pub body: Arc<[u8]>,
    /// Two answers with the same tag are the same.
    pub tag: String,
    /// The batch that it is about, if it is the page of one.
    pub batch: Option<i64>,
}

impl Answer {
    /// An answer about no certain batch.
    pub fn new(status: u16, body: String) -> Self {
        let hash = Sha256::digest(&body);
        let tag = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { status, body: body.into_bytes().into(), tag, batch: None }
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
#[derive(Debug, Default)]
pub struct Told {
    /// The answer; perhaps an earlier one, if there is trouble.
    pub answer: Option<Arc<Answer>>,
    /// What is wrong.
    pub trouble: Option<Trouble>,
}

/// See the module.
#[derive(Default)]
pub struct Desk {
    /// All of it.
    state: Mutex<State>,
    /// A question has come.
    work: Condvar,
}

/// What a [`Desk`] holds.
#[derive(Default)]
struct State {
    /// Answers.
    entries: HashMap<Question, Entry>,
    /// Questions without one, in the order in which they came.
    queue: VecDeque<Question>,
    /// Who waits for them.
    waiting: HashMap<Question, Vec<Sender<Arc<Answer>>>>,
    /// The tables as they were last, and when that was found.
    confirmed: Option<(Version, Instant)>,
    /// Why there are no answers.
    trouble: Option<Trouble>,
    /// Since when the worker has been waiting for Postgres.
    busy: Option<(Instant, DateTime<Utc>)>,
    /// When something was last asked.
    asked: Option<Instant>,
}

/// An answer with its age.
struct Entry {
    /// The answer.
    answer: Arc<Answer>,
    /// The tables that it was made from.
    version: Version,
    /// When.
    drawn: Instant,
    /// When it was last asked for.
    asked: Instant,
}

/// What is found for a question.
enum Found {
    /// An answer, or trouble.
    Told(Told),
    /// An answer comes; and an earlier one.
    Coming(Receiver<Arc<Answer>>, Option<Arc<Answer>>),
}

impl Desk {
    /// The answer to a question, within this time.
    pub async fn ask(&self, question: Question, patience: Duration) -> Told {
        let (coming, earlier) = match self.find(question) {
            Found::Told(told) => return told,
            Found::Coming(coming, earlier) => (coming, earlier),
        };
        let patience = if earlier.is_some() { patience.min(PATIENCE) } else { patience };
        if let Ok(Ok(answer)) = timeout(patience, coming).await {
            return Told { answer: Some(answer), trouble: None };
        }
        let trouble = self.lock().trouble();
        let is_late =
            || Trouble { since: Utc::now(), what: "the database has not answered in time".to_owned() };
        let trouble = trouble.or_else(|| earlier.is_none().then(is_late));
        Told { answer: earlier, trouble }
    }

    fn find(&self, question: Question) -> Found {
        let now = Instant::now();
        let mut state = self.lock();
        state.asked = Some(now);
        let is_true =
            state.confirmed.filter(|(_, when)| when.elapsed() < CONFIRMED).map(|(version, _)| version);
        let mut earlier = None;
        if let Some(entry) = state.entries.get_mut(&question) {
            entry.asked = now;
            let answer = Arc::clone(&entry.answer);
            if entry.is_fresh(&question, is_true) {
                return Found::Told(Told { answer: Some(answer), trouble: None });
            }
            earlier = Some(answer);
        }
        if let Some(trouble) = state.trouble() {
            return Found::Told(Told { answer: earlier, trouble: Some(trouble) });
        }
        if !state.waiting.contains_key(&question) {
            if state.queue.len() >= MOST_QUESTIONS {
                let what = "too many questions at the same time".to_owned();
                let trouble = Some(Trouble { since: Utc::now(), what });
                return Found::Told(Told { answer: earlier, trouble });
            }
            state.queue.push_back(question.clone());
            self.work.notify_one();
        }
        let (sender, coming) = oneshot::channel();
        state.waiting.entry(question).or_default().push(sender);
        Found::Coming(coming, earlier)
    }

    /// The next question that somebody waits for; waits `patience` for one.
    pub fn next(&self, patience: Duration) -> Option<Question> {
        let state = self.lock();
        let is_empty = |state: &mut State| state.queue.is_empty();
        let (mut state, _) =
            self.work.wait_timeout_while(state, patience, is_empty).unwrap_or_else(PoisonError::into_inner);
        while let Some(question) = state.queue.pop_front() {
            let waits =
                state.waiting.get(&question).is_some_and(|who| who.iter().any(|one| !one.is_closed()));
            if waits {
                return Some(question);
            }
            state.waiting.remove(&question);
        }
        None
    }

    /// Whether somebody has asked something within this time.
    pub fn was_asked(&self, within: Duration) -> bool {
        self.lock().asked.is_some_and(|asked| asked.elapsed() < within)
    }

    /// The tables are in this state. Returns the questions that somebody looks at and whose answers are of
    /// another state, or old.
    pub fn confirm(&self, version: Version) -> Vec<Question> {
        let mut state = self.lock();
        state.confirmed = Some((version, Instant::now()));
        state.trouble = None;
        let is_due = |(question, entry): &(&Question, &Entry)| {
            entry.asked.elapsed() < WATCHED && !entry.is_fresh(question, Some(version))
        };
        state.entries.iter().filter(is_due).map(|(question, _)| question.clone()).collect()
    }

    /// Whether there is a fresh answer to this question, which then goes to those who wait for it.
    pub fn answer_again(&self, question: &Question, version: Version) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.entries.get(question).filter(|entry| entry.is_fresh(question, Some(version)))
        else {
            return false;
        };
        let answer = Arc::clone(&entry.answer);
        state.tell(question, &answer);
        true
    }

    /// Keeps an answer, made from the tables in this state, and tells those who wait for it.
    pub fn answer(&self, question: Question, version: Version, answer: Answer) {
        let (answer, now) = (Arc::new(answer), Instant::now());
        let mut state = self.lock();
        state.tell(&question, &answer);
        let asked = state.entries.get(&question).map_or(now, |entry| entry.asked);
        state.entries.insert(question, Entry { answer, version, drawn: now, asked });
        if state.entries.len() > MOST_ANSWERS {
            let oldest = state
                .entries
                .iter()
                .min_by_key(|(_, entry)| entry.asked)
                .map(|(question, _)| question.clone());
            oldest.and_then(|oldest| state.entries.remove(&oldest));
        }
    }

    /// Postgres does not answer for this reason. Nobody waits for it any more.
    pub fn is_away(&self, what: String) {
        let mut state = self.lock();
        let since = state.trouble.take().map_or_else(Utc::now, |trouble| trouble.since);
        state.trouble = Some(Trouble { since, what });
        state.queue.clear();
        state.waiting.clear();
    }

    /// The worker begins to wait for Postgres, or ceases to.
    pub fn is_busy(&self, is_busy: bool) {
        self.lock().busy = is_busy.then(|| (Instant::now(), Utc::now()));
    }

    /// Forgets all answers.
    pub fn clear(&self) {
        self.lock().entries.clear();
    }

    /// What is locked is always whole, so a poisoned lock is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Why there are no answers; a server that is mute counts, too.
    fn trouble(&self) -> Option<Trouble> {
        let mute = self.busy.filter(|(begun, _)| begun.elapsed() >= MUTE);
        let mute = mute.map(|(begun, since)| Trouble {
            since,
            what: format!("postgres has not answered for {} s", begun.elapsed().as_secs()),
        });
        mute.or_else(|| self.trouble.clone())
    }

    fn tell(&mut self, question: &Question, answer: &Arc<Answer>) {
        for waiting in self.waiting.remove(question).into_iter().flatten() {
            // A browser that has gone does not mind.
            drop(waiting.send(Arc::clone(answer)));
        }
        self.queue.retain(|queued| queued != question);
    }
}

impl Entry {
    /// Whether it is as good as a new one, if the tables are in this state. (`None`: nobody knows in which.)
    fn is_fresh(&self, question: &Question, version: Option<Version>) -> bool {
        let age = self.drawn.elapsed();
        match question {
            // What failed may fail again, after a while.
            _ if self.answer.status >= 500 => age < OLD,
            Question::Moves { .. } | Question::Matrix { .. } => age < OLD_MOVES,
            _ => age < NEW || age < OLD && version == Some(self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::join;

    const SOON: Duration = Duration::from_millis(1);
    const ONE: Question = Question::Batch(1);

    fn body(told: &Told) -> Option<&[u8]> {
        told.answer.as_ref().map(|answer| &answer.body[..])
    }

    #[tokio::test]
    async fn however_many_ask_the_same_it_is_asked_once_and_a_fresh_answer_is_given_at_once() {
        let desk = Desk::default();
        let asked = join(desk.ask(ONE, LONGEST_WAIT), desk.ask(ONE, LONGEST_WAIT));
        let worker = async {
            assert_eq!(desk.next(Duration::ZERO), Some(ONE));
            assert_eq!(desk.next(Duration::ZERO), None);
            desk.answer(ONE, Version::default(), Answer::new(200, "first".to_owned()));
        };
        let ((one, other), ()) = join(asked, worker).await;
        assert_eq!((body(&one), body(&other)), (Some(&b"first"[..]), Some(&b"first"[..])));
        let again = desk.ask(ONE, LONGEST_WAIT).now_or_never().unwrap();
        assert_eq!(body(&again), Some(&b"first"[..]));
        assert!(desk.next(Duration::ZERO).is_none(), "nothing was asked");
    }

    #[tokio::test]
    async fn without_an_answer_in_time_or_with_trouble_the_reason_is_given() {
        let desk = Desk::default();
        let late = desk.ask(ONE, SOON).await;
        assert!(late.answer.is_none() && late.trouble.unwrap().what.contains("in time"));
        assert_eq!(desk.next(Duration::ZERO), None, "nobody waits any more");
        desk.is_away("gone".to_owned());
        let away = desk.ask(ONE, LONGEST_WAIT).now_or_never().unwrap();
        assert_eq!((away.answer.is_none(), away.trouble.unwrap().what.as_str()), (true, "gone"));
        assert_eq!(desk.confirm(Version::default()), []);
        assert!(desk.ask(ONE, LONGEST_WAIT).now_or_never().is_none(), "it is asked again");
    }

    #[tokio::test]
    async fn questions_and_answers_are_bounded() {
        let desk = Desk::default();
        for id in 0..200 {
            desk.answer(Question::Batch(id), Version::default(), Answer::new(200, String::new()));
        }
        assert_eq!(desk.lock().entries.len(), MOST_ANSWERS);
        for id in 1000..1200 {
            // Nobody takes them, and those who asked have gone.
            drop(desk.ask(Question::Batch(id), LONGEST_WAIT).now_or_never());
        }
        assert_eq!(desk.lock().queue.len(), MOST_QUESTIONS);
        assert_eq!(desk.next(Duration::ZERO), None);
        assert!(desk.lock().waiting.is_empty(), "nothing is kept for those who have gone");
    }
}
