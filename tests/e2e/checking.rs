//! The word `check`: what was broken by hand is found and named, what is sound is called so, and nothing is
//! changed.
//!
//! The tables of cases: `database` (what SQL can break), `kafka` (topics, group, rights) and `servers` (what a
//! server of its own is needed for).

mod database;
mod servers;
mod topics;
mod unchanged;

use crate::kafka::set_topic;
use crate::slowness;
use crate::world::World;
use std::process::Command;
use std::time::{Duration, Instant};

/// Questions that wait for a server that is away may add up to this, and no single one waits longer than some
/// seconds.
const LONGEST: Duration = Duration::from_secs(30);

/// What a program with the word `check` has written.
pub struct Checked {
    pub code: Option<i32>,
    pub said: String,
}

impl Checked {
    /// The line of a question: its word, and the rest.
    fn line(&self, question: &str) -> (&str, &str) {
        let line = self.said.lines().find(|line| line[8..].starts_with(&format!("{question}: ")));
        let line = line.unwrap_or_else(|| panic!("no line about `{question}`:\n{}", self.said));
        (line[..7].trim_end(), &line[8..])
    }

    /// Checks that a question has this word and these words, and that the exit code agrees.
    pub fn has(&self, word: &str, question: &str, words: &str) {
        let (found, text) = self.line(question);
        assert!(found == word && text.contains(words), "{word} {question} `{words}`:\n{}", self.said);
        if ["warn", "FAILED"].contains(&word) {
            assert!(text.contains("(hint: "), "a hint:\n{}", self.said);
        }
        let fails = self.said.lines().any(|line| line.starts_with("FAILED "));
        assert_eq!(self.code, Some(i32::from(fails)), "{}", self.said);
    }

    /// The same, and that nothing else is found.
    pub fn has_only(&self, word: &str, question: &str, words: &str) {
        self.has(word, question, words);
        let others = |line: &&str| !line.starts_with("ok ") && !line.starts_with("skipped ");
        assert_eq!(self.said.lines().filter(others).count(), 1, "{}", self.said);
    }

    pub fn is_all_ok(&self) {
        let bad: Vec<&str> = self.said.lines().filter(|line| !line.starts_with("ok ")).collect();
        assert!(bad.is_empty() && self.code == Some(0), "{}", self.said);
        assert!(self.said.lines().count() > 7, "{}", self.said);
    }
}

fn run(command: &mut Command) -> Checked {
    let begun = Instant::now();
    let output = command.output().unwrap();
    slowness::in_time("a check", begun.elapsed(), LONGEST);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    Checked { code: output.status.code(), said: String::from_utf8(output.stdout).unwrap() }
}

impl World {
    pub fn check_reader(&self, flags: &[&str]) -> Checked {
        run(self.reader_command().arg("check").args(flags))
    }

    /// With another database.
    pub fn check_reader_of(&self, url: &str) -> Checked {
        self.check_reader(&["--database-url", url])
    }

    pub fn check_producer(&self, flags: &[&str]) -> Checked {
        run(self.producer_command().arg("check").args(flags))
    }

    /// Topics that keep their messages for ever, and three batches that are stored.
    pub fn healthy(name: &str, partitions: i32) -> Self {
        let world = Self::new(name, partitions);
        world.topics.iter().for_each(|topic| set_topic(&world.kafka, topic, &[("retention.ms", "-1")]));
        world.produce(&["--batches", "3", "--interval", "0"]);
        world.catch_up(&[]);
        world
    }
}
