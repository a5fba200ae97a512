//! The questions that a program asks with the word `check`, and the line on stdout that answers each.
//!
//! Owns how questions are asked and answers written. Does not own the questions: those to the brokers are in
//! `brokers`, the others in the two programs.
//!
//! **A question changes nothing**, in Kafka, in Postgres, or in the group. Each has a bound on its time.

pub mod brokers;

use crate::failure::Failure;
use crate::kafka::KafkaError;
use crate::shutdown::Shutdown;
use anyhow::anyhow;
use std::fmt;
use std::io::{Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

/// How long a question may take. The servers have less time to answer (5 s); this bounds everything else.
const LONGEST: Duration = Duration::from_secs(12);

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is as it should be.
    Ok(String),
    /// The program works, but something may hurt later.
    Warn {
        /// What was found.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The program would not work.
    Failed {
        /// What was found.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// It could not be asked. Says why.
    Skipped(String),
}

/// What a question comes to. An error only ends it early.
pub type Outcome = Result<Answer, Answer>;

/// A question about `S`, which keeps what was found out for the questions after it.
pub struct Question<S> {
    /// What it asks about.
    pub name: &'static str,
    /// Asks. May block.
    pub ask: fn(&mut S) -> Outcome,
}

impl Answer {
    /// A failure.
    pub fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Answer::Failed { what: what.into(), hint: hint.into() }
    }

    /// A warning.
    pub fn warn(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Answer::Warn { what: what.into(), hint: hint.into() }
    }

    /// A question that an earlier answer leaves no sense in.
    pub fn skipped(why: impl Into<String>) -> Self {
        Answer::Skipped(why.into())
    }
}

/// The brokers' refusal.
impl From<KafkaError> for Answer {
    fn from(error: KafkaError) -> Self {
        let hint = match &error {
            KafkaError::Refused { hint, .. } => hint.clone(),
            KafkaError::Property { .. } | KafkaError::Properties(_) => crate::kafka::PROPERTY_HINT.to_owned(),
            KafkaError::Transient(_) => {
                "check --bootstrap-servers and --kafka-property, and that the brokers run".to_owned()
            }
        };
        Answer::Failed { what: one_line(&error.to_string()), hint }
    }
}

/// A line of the output, without the name: `ok`, or a word and a hint.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ok(what) | Answer::Skipped(what) => f.write_str(what),
            Answer::Warn { what, hint } | Answer::Failed { what, hint } => write!(f, "{what} (hint: {hint})"),
        }
    }
}

/// Several things that one question may find, joined in one answer.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is found.
    whats: Vec<String>,
    /// What to do about it.
    hints: Vec<String>,
    /// Whether one of them is a failure.
    fails: bool,
}

impl Findings {
    /// Adds a warning.
    pub fn warn(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        let (what, hint) = (what.into(), hint.into());
        self.whats.push(what);
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    /// Adds a failure.
    pub fn fail(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.warn(what, hint);
        self.fails = true;
    }

    /// The answer; `ok` if nothing was found.
    pub fn answer(self, ok: impl Into<String>) -> Answer {
        let (what, hint) = (self.whats.join("; "), self.hints.join("; "));
        match (self.whats.is_empty(), self.fails) {
            (true, _) => Answer::Ok(ok.into()),
            (false, false) => Answer::Warn { what, hint },
            (false, true) => Answer::Failed { what, hint },
        }
    }
}

/// Asks all questions, one after the other, and writes a line for each. Exit code 1 if one of them has failed.
///
/// # Errors
/// The user asked it to stop.
pub async fn go_through<S: Send + 'static>(
    questions: &'static [Question<S>],
    mut subject: S,
    shutdown: &Shutdown,
) -> Result<ExitCode, Failure> {
    let (sender, mut answers) = unbounded_channel();
    tokio::task::spawn_blocking(move || {
        for question in questions {
            let answer = (question.ask)(&mut subject).unwrap_or_else(|early| early);
            if sender.send(answer).is_err() {
                return;
            }
        }
    });
    let (mut is_sound, mut is_lost) = (true, false);
    for Question { name, .. } in questions {
        let answer = if is_lost {
            Answer::skipped("the question that had no answer is still open")
        } else {
            tokio::select! {
                () = shutdown.requested() => {
                    return Err(Failure::at_work(anyhow!("stopped before all questions were asked"), None));
                }
                answer = timeout(LONGEST, answers.recv()) => answer.ok().flatten().unwrap_or_else(|| {
                    is_lost = true;
                    unanswered()
                }),
            }
        };
        is_sound &= !matches!(answer, Answer::Failed { .. });
        write_line(name, &answer);
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unanswered() -> Answer {
    let what = format!("no answer within {} s", LONGEST.as_secs());
    Answer::failed(what, "look at the server that is asked, and at the network between")
}

/// Writes `ok      brokers: …`. A reader of stdout that is gone wants no more lines.
fn write_line(name: &str, answer: &Answer) {
    let word = match answer {
        Answer::Ok(_) => "ok",
        Answer::Warn { .. } => "warn",
        Answer::Failed { .. } => "FAILED",
        Answer::Skipped(_) => "skipped",
    };
    let mut out = stdout().lock();
    let _ = writeln!(out, "{word:<7} {name}: {answer}").and_then(|()| out.flush());
}

/// A text without line breaks.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_question_finds_is_one_line_and_as_bad_as_its_worst_part() {
        assert_eq!(Findings::default().answer("3 topics"), Answer::Ok("3 topics".into()));
        let mut findings = Findings::default();
        findings.warn("a is short", "lengthen it");
        findings.warn("b is short", "lengthen it");
        let both = Answer::warn("a is short; b is short", "lengthen it");
        assert_eq!(both.to_string(), "a is short; b is short (hint: lengthen it)");
        assert_eq!(findings.answer("fine"), both);
        let mut findings = Findings::default();
        findings.fail("c is gone", "make it");
        findings.warn("b is short", "lengthen it");
        assert_eq!(findings.answer("fine"), Answer::failed("c is gone; b is short", "make it; lengthen it"));
    }
}
