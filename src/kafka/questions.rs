//! The questions that the brokers have not answered yet, so that a log line can say what is waited for. A
//! thread that waits for an answer can say nothing itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The silence is over if a question has failed and none is asked for this long. Brokers are asked every second
/// or two where it matters. Without this, the time in which nobody asks would count as silence.
const NOT_ASKED: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<Open>);

/// What is asked.
#[derive(Debug, Default)]
struct Open {
    /// The open questions, oldest first.
    asked: Vec<(u64, String, Instant)>,
    /// The number of the next question.
    next: u64,
    /// When the first question was asked that was not answered, and after which none was.
    since: Option<Instant>,
    /// When the last question ended.
    ended: Option<Instant>,
}

/// An open question. It ends when this is dropped.
pub(super) struct Question<'a> {
    /// Where it is noted.
    questions: &'a Questions,
    /// Its number.
    number: u64,
}

impl Questions {
    /// Notes a question, which completes the sentence "waiting for …".
    pub(super) fn begin(&self, what: impl Into<String>) -> Question<'_> {
        let number = self.open().begin(what.into(), Instant::now());
        Question { questions: self, number }
    }

    /// How long the brokers have answered nothing although they were asked.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.open().silence(Instant::now())
    }

    /// The oldest open question, if it is as old as this at least.
    pub(super) fn oldest(&self, age: Duration) -> Option<String> {
        let open = self.open();
        let oldest = open.asked.first().filter(|(.., begun)| begun.elapsed() >= age);
        oldest.map(|(_, what, _)| what.clone())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question<'_> {
    /// Ends with an answer.
    pub(super) fn answered(self) {
        let mut open = self.questions.open();
        open.since = (open.asked.len() > 1).then(Instant::now);
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.questions.open().end(self.number, Instant::now());
    }
}

impl Open {
    /// Notes a question, and returns its number.
    fn begin(&mut self, what: String, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.silence(now).is_none() {
            self.since = Some(now);
        }
        self.asked.push((number, what, now));
        number
    }

    fn end(&mut self, number: u64, now: Instant) {
        self.asked.retain(|(other, ..)| *other != number);
        self.ended = Some(now);
    }

    fn silence(&self, now: Instant) -> Option<Duration> {
        let is_asked = !self.asked.is_empty()
            || self.ended.is_some_and(|ended| now.saturating_duration_since(ended) < NOT_ASKED);
        self.since.filter(|_| is_asked).map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_lasts_from_the_first_question_to_the_next_answer() {
        let questions = Questions::default();
        assert!(questions.silence().is_none() && questions.oldest(Duration::ZERO).is_none());
        let first = questions.begin("the first");
        let second = questions.begin("the second");
        assert_eq!(questions.oldest(Duration::ZERO).as_deref(), Some("the first"));
        drop(first);
        assert!(questions.silence().is_some(), "a question that fails is not answered");
        assert_eq!(questions.oldest(Duration::ZERO).as_deref(), Some("the second"));
        drop(second);
        assert!(questions.silence().is_some() && questions.oldest(Duration::ZERO).is_none());
        questions.begin("the third").answered();
        assert!(questions.silence().is_none() && questions.oldest(Duration::ZERO).is_none());
    }

    #[test]
    fn time_in_which_nobody_asks_is_no_silence() {
        let (mut open, begun) = (Open::default(), Instant::now());
        let second = Duration::from_secs(1);
        let first = open.begin("the first".into(), begun);
        open.end(first, begun + 5 * second);
        // A question that soon follows one that failed goes on with it.
        let next = open.begin("the next".into(), begun + 6 * second);
        assert_eq!(open.silence(begun + 8 * second), Some(8 * second));
        open.end(next, begun + 10 * second);
        assert_eq!(open.silence(begun + 14 * second), Some(14 * second));
        assert_eq!(open.silence(begun + 15 * second), None);
        let late = open.begin("a late one".into(), begun + 70 * second);
        assert_eq!(open.silence(begun + 73 * second), Some(3 * second));
        // An open question counts, however long it takes.
        assert_eq!(open.silence(begun + 100 * second), Some(30 * second));
        open.end(late, begun + 100 * second);
    }
}
