//! Where questions of browsers lie until they are answered, and answers as long as they are true.
//!
//! **The server's thread never waits for the worker's**: an answer that is fresh is given at once, and for
//! another one there is a bound ([`Desk::ask`]). However many browsers ask the same, it is asked of the
//! database once.

use super::answers::{Answer, Entry, Told, Trouble};
use super::queries::Version;
use super::request::Question;
use chrono::{DateTime, Utc};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, Receiver, Sender};
use tokio::time::timeout;

/// For this long after the tables were found unchanged, answers are taken to be true.
const CONFIRMED: Duration = Duration::from_secs(1);
/// Who has an earlier answer waits this long for a new one.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Who has none may wait this long: less than a connection lasts.
pub const LONGEST_WAIT: Duration = Duration::from_secs(9);
/// After this long, Postgres counts as mute. No statement takes so long.
const MUTE: Duration = Duration::from_secs(12);
/// Trouble that the worker has not met again for so long may be over.
const STALE: Duration = Duration::from_secs(2);
/// Who waits for Postgres this long meets its trouble again.
const SLOW: Duration = Duration::from_secs(1);
/// Somebody looks at an answer that was asked for within this time.
const WATCHED: Duration = Duration::from_secs(3);
/// Answers that are kept.
const MOST_ANSWERS: usize = 64;
/// In bytes, all that are kept.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// In bytes, the largest that is kept.
const LARGEST_KEPT: usize = 1024 * 1024;
/// Questions that wait.
const MOST_QUESTIONS: usize = 32;

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
    waiting: HashMap<Question, Vec<Sender<Told>>>,
    /// The tables as they were last, and when that was found.
    confirmed: Option<(Version, Instant)>,
    /// Why there are no answers, and when that was last met.
    trouble: Option<(Trouble, Instant)>,
    /// Since when the worker has been waiting for Postgres.
    busy: Option<(Instant, DateTime<Utc>)>,
    /// When something was last asked.
    asked: Option<Instant>,
}

/// What is found for a question.
enum Found {
    /// An answer, or trouble.
    Told(Told),
    /// An answer comes; and an earlier one.
    Coming(Receiver<Told>, Told),
}

impl Desk {
    /// The answer to a question, within this time.
    pub async fn ask(&self, question: Question, patience: Duration) -> Told {
        let (coming, earlier) = match self.find(question) {
            Found::Told(told) => return told,
            Found::Coming(coming, earlier) => (coming, earlier),
        };
        let patience = if earlier.answer.is_some() { patience.min(PATIENCE) } else { patience };
        if let Ok(Ok(told)) = timeout(patience, coming).await {
            return told;
        }
        let trouble = self.lock().trouble();
        let is_late =
            || Trouble { since: Utc::now(), what: "the database has not answered in time".to_owned() };
        let trouble = trouble.or_else(|| earlier.answer.is_none().then(is_late));
        Told { trouble, ..earlier }
    }

    fn find(&self, question: Question) -> Found {
        let now = Instant::now();
        let mut state = self.lock();
        state.asked = Some(now);
        let is_true =
            state.confirmed.filter(|(_, when)| when.elapsed() < CONFIRMED).map(|(version, _)| version);
        let mut earlier = Told::default();
        if let Some(entry) = state.entries.get_mut(&question) {
            entry.asked = now;
            if entry.is_fresh(&question, is_true) {
                return Found::Told(Arc::clone(&entry.answer).into());
            }
            earlier = entry.told();
        }
        if earlier.trouble.is_some() {
            return Found::Told(earlier);
        }
        if let Some(trouble) = state.present_trouble() {
            return Found::Told(Told { trouble: Some(trouble), ..earlier });
        }
        if !state.waiting.contains_key(&question) {
            if state.queue.len() >= MOST_QUESTIONS {
                let what = "too many questions at the same time".to_owned();
                let trouble = Some(Trouble { since: Utc::now(), what });
                return Found::Told(Told { trouble, ..earlier });
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
            let is_looked_at = entry.asked.elapsed() < WATCHED;
            is_looked_at && entry.failure().is_none() && !entry.is_fresh(question, Some(version))
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
        let told = Arc::clone(&entry.answer).into();
        state.tell(question, &told);
        true
    }

    /// Whether there are movements that are still true if both batches are there.
    pub fn has_moves(&self, question: &Question) -> bool {
        self.lock().entries.get(question).is_some_and(|entry| entry.is_moves(question))
    }

    /// Both batches of these movements are there. Those who wait for them get them.
    pub fn moves_stand(&self, question: &Question) {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(question) {
            entry.checked = Instant::now();
            let told = Arc::clone(&entry.answer).into();
            state.tell(question, &told);
        }
    }

    /// Keeps an answer, made from the tables in this state, and tells those who wait for it. **An answer that is
    /// very large is not kept**, however often it is asked for.
    pub fn answer(&self, question: Question, version: Version, answer: Answer) {
        let (answer, now) = (Arc::new(answer), Instant::now());
        let mut state = self.lock();
        state.tell(&question, &Arc::clone(&answer).into());
        let asked = state.entries.get(&question).map_or(now, |entry| entry.asked);
        if answer.body.len() > LARGEST_KEPT {
            state.entries.remove(&question);
            return;
        }
        let entry = Entry { answer, version, drawn: now, checked: now, asked, failed: None };
        state.entries.insert(question, entry);
        state.shrink();
    }

    /// A question could not be answered for this reason. An earlier answer stays beside that; without one,
    /// `answer` is what is said.
    pub fn fail(&self, question: Question, version: Version, what: String, answer: Answer) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&question).filter(|entry| entry.answer.status < 500) else {
            drop(state);
            return self.answer(question, version, answer);
        };
        let since = entry.failed.take().map_or_else(Utc::now, |(trouble, _)| trouble.since);
        entry.failed = Some((Trouble { since, what }, Instant::now()));
        let told = entry.told();
        state.tell(&question, &told);
    }

    /// Postgres does not answer for this reason. Nobody waits for it any more.
    pub fn is_away(&self, what: String) {
        let mut state = self.lock();
        let since = state.trouble.take().map_or_else(Utc::now, |(trouble, _)| trouble.since);
        state.trouble = Some((Trouble { since, what }, Instant::now()));
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
        mute.or_else(|| self.trouble.clone().map(|(trouble, _)| trouble))
    }

    /// The same, unless it may be over: **while nobody asks, nobody notices that Postgres is back**.
    fn present_trouble(&self) -> Option<Trouble> {
        let was_met = self.trouble.as_ref().is_some_and(|(_, met)| met.elapsed() < STALE);
        let is_met = self.busy.is_some_and(|(begun, _)| begun.elapsed() >= SLOW);
        self.trouble().filter(|_| was_met || is_met)
    }

    fn tell(&mut self, question: &Question, told: &Told) {
        for waiting in self.waiting.remove(question).into_iter().flatten() {
            // A browser that has gone does not mind.
            drop(waiting.send(told.clone()));
        }
        self.queue.retain(|queued| queued != question);
    }

    /// Forgets what nobody has asked for the longest, until the rest is within bounds.
    fn shrink(&mut self) {
        let mut bytes: usize = self.entries.values().map(|entry| entry.answer.body.len()).sum();
        while self.entries.len() > MOST_ANSWERS || bytes > MOST_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.asked);
            let Some(oldest) = oldest.map(|(question, _)| question.clone()) else { return };
            bytes -= self.entries.remove(&oldest).map_or(0, |entry| entry.answer.body.len());
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

    #[tokio::test]
    async fn trouble_that_nobody_has_met_for_a_while_lets_a_question_wait() {
        let desk = Desk::default();
        desk.is_away("gone".to_owned());
        assert!(desk.ask(ONE, LONGEST_WAIT).now_or_never().is_some(), "it was met just now");
        desk.lock().trouble.as_mut().unwrap().1 -= STALE;
        assert!(desk.ask(ONE, LONGEST_WAIT).now_or_never().is_none(), "it may be over");
        let late = desk.ask(ONE, SOON).await;
        assert_eq!(late.trouble.unwrap().what, "gone", "better than that it was late");
        desk.lock().busy = Some((Instant::now() - SLOW, Utc::now()));
        assert!(desk.ask(ONE, LONGEST_WAIT).now_or_never().is_some(), "it seems to be met again");
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_made_anew_stays_with_the_reason_and_its_time() {
        let desk = Desk::default();
        let failed = || Answer::new(503, "failed".to_owned());
        let fail = || desk.fail(ONE, Version::default(), "too slow".to_owned(), failed());
        desk.answer(ONE, Version::default(), Answer::new(200, "figures".to_owned()));
        let first = desk.ask(ONE, LONGEST_WAIT).now_or_never().unwrap();
        assert!(first.of.is_none() && first.trouble.is_none());
        desk.lock().entries.get_mut(&ONE).unwrap().drawn -= Duration::from_secs(11);
        let worker = async {
            assert_eq!(desk.next(Duration::ZERO), Some(ONE));
            fail();
        };
        let (told, ()) = join(desk.ask(ONE, LONGEST_WAIT), worker).await;
        let again = desk.ask(ONE, LONGEST_WAIT).now_or_never().expect("it is not tried again at once");
        for told in [told, again] {
            assert_eq!(body(&told), Some(&b"figures"[..]));
            assert_eq!(told.trouble.unwrap().what, "too slow");
            assert!((10..13).contains(&(Utc::now() - told.of.unwrap()).num_seconds()));
        }
        assert_eq!(desk.confirm(Version::default()), []);
        desk.answer(ONE, Version::default(), failed());
        fail();
        assert_eq!(body(&desk.ask(ONE, LONGEST_WAIT).await), Some(&b"failed"[..]), "there are no figures");
    }

    #[tokio::test]
    async fn an_answer_of_before_tells_its_time_if_a_new_one_is_late() {
        let desk = Desk::default();
        desk.answer(ONE, Version::default(), Answer::new(200, "figures".to_owned()));
        desk.lock().entries.get_mut(&ONE).unwrap().drawn -= Duration::from_secs(1);
        let young = desk.ask(ONE, SOON).await;
        assert!(body(&young) == Some(&b"figures"[..]) && young.of.is_none());
        desk.lock().entries.get_mut(&ONE).unwrap().drawn -= Duration::from_secs(1);
        let old = desk.ask(ONE, SOON).await;
        assert!(body(&old) == Some(&b"figures"[..]) && old.of.is_some() && old.trouble.is_none());
    }

    #[test]
    fn the_bytes_of_answers_are_bounded_and_a_large_one_is_not_kept() {
        let desk = Desk::default();
        let answer = |id, size| {
            let answer = Answer { body: vec![b'x'; size].into(), ..Answer::new(200, String::new()) };
            desk.answer(Question::Batch(id), Version::default(), answer);
        };
        (0..64).for_each(|id| answer(id, LARGEST_KEPT));
        assert_eq!(desk.lock().entries.len(), MOST_BYTES / LARGEST_KEPT);
        assert!(desk.lock().entries.contains_key(&Question::Batch(63)), "the last one");
        answer(63, LARGEST_KEPT + 1);
        assert!(!desk.lock().entries.contains_key(&Question::Batch(63)));
    }

    #[tokio::test]
    async fn only_movements_that_were_found_are_kept_and_checked_instead_of_counted_again() {
        let desk = Desk::default();
        let (moves, long) = (Question::Moves { from: 1, to: 2 }, Duration::from_secs(60));
        let age = |desk: &Desk| {
            let mut state = desk.lock();
            let entry = state.entries.get_mut(&Question::Moves { from: 1, to: 2 }).unwrap();
            (entry.drawn, entry.checked) = (entry.drawn - long, entry.checked - long);
        };
        desk.answer(moves.clone(), Version::default(), Answer::new(404, "none".to_owned()));
        age(&desk);
        assert!(!desk.has_moves(&moves));
        assert!(desk.ask(moves.clone(), LONGEST_WAIT).now_or_never().is_none(), "the batch may have come");
        desk.answer(moves.clone(), Version::default(), Answer::new(200, "moves".to_owned()));
        assert!(desk.ask(moves.clone(), LONGEST_WAIT).now_or_never().is_some());
        age(&desk);
        assert!(desk.has_moves(&moves));
        assert!(desk.ask(moves.clone(), LONGEST_WAIT).now_or_never().is_none(), "a batch may have gone");
        desk.moves_stand(&moves);
        assert!(desk.ask(moves, LONGEST_WAIT).now_or_never().is_some());
    }
}
