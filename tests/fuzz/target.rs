//! A target: what is fuzzed, and the loop that fuzzes it until the time is over.

use crate::choices::Choices;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Executions between two looks at the clock; each such round has a seed of its own.
const ROUND: u32 = 100;
/// The longest list of numbers that an input is made of.
const CHOICES: usize = 700;
/// After a failure: how many times, and for how long, to try a smaller input.
const SHRINKS: u32 = 50_000;
const LONGEST_SHRINK_MS: u32 = 20_000;

/// A name, and what to check for each input.
pub struct Target {
    pub name: &'static str,
    pub check: fn(&mut Choices, &mut Story) -> Result<(), String>,
}

/// What an execution reports.
#[derive(Default)]
pub struct Story {
    /// How many times each outcome occurred, which shows that the inputs reach everything.
    outcomes: BTreeMap<&'static str, u64>,
    /// The input as code, if somebody wants it.
    code: Option<Vec<String>>,
}

impl Story {
    pub fn outcome(&mut self, name: &'static str) {
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// A line of the input as code.
    pub fn code(&mut self, line: impl FnOnce() -> String) {
        if let Some(code) = &mut self.code {
            code.push(line());
        }
    }
}

impl Target {
    /// Fuzzes until the time is over. Returns whether all was well.
    pub fn run(&self, time: Duration, seed: u64) -> bool {
        // A panic is a failure like any other; the report contains its message.
        std::panic::set_hook(Box::new(|_| {}));
        let begun = Instant::now();
        let (executions, story) = (Cell::new(0u64), RefCell::new(Story::default()));
        let mut failure = None;
        let mut round = 0;
        while begun.elapsed() < time && failure.is_none() {
            failure = self.round(seed, round, begun, &executions, &story);
            round += 1;
        }
        let (name, executions) = (self.name, executions.get());
        let failures = u8::from(failure.is_some());
        if let Some((why, choices, after)) = failure {
            println!(
                "fuzz {name}: FAILED after {:.1} s: {why}\n{}",
                after.as_secs_f64(),
                self.code(&choices)
            );
        }
        let outcomes: Vec<String> =
            story.take().outcomes.iter().map(|(outcome, times)| format!("{outcome} {times}")).collect();
        println!(
            "fuzz {name}: {executions} executions in {:.0} s, seed {seed}, {failures} failures ({})",
            begun.elapsed().as_secs_f64(),
            outcomes.join(", ")
        );
        failures == 0
    }

    /// One round; returns the smallest failing input found, if any failed, and when the first did.
    fn round(
        &self,
        seed: u64,
        round: u64,
        begun: Instant,
        executions: &Cell<u64>,
        story: &RefCell<Story>,
    ) -> Option<(String, Vec<u32>, Duration)> {
        let failed = Cell::new(None);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&round.to_le_bytes());
        let config = Config {
            cases: ROUND,
            failure_persistence: None,
            max_shrink_iters: SHRINKS,
            max_shrink_time: LONGEST_SHRINK_MS,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let numbers = proptest::collection::vec(any::<u32>(), 0..=CHOICES);
        let result = runner.run(&numbers, |numbers| {
            // What is tried after a failure does not count as an execution: it only makes the input smaller.
            let (mut shrinking, mut fuzzing) = (Story::default(), story.borrow_mut());
            let story = if failed.get().is_some() { &mut shrinking } else { &mut *fuzzing };
            executions.set(executions.get() + u64::from(failed.get().is_none()));
            let check = || (self.check)(&mut Choices::of(&numbers), story);
            let outcome = catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| Err(words(&*panic)));
            outcome.map_err(|why| {
                failed.set(failed.get().or(Some(begun.elapsed())));
                TestCaseError::fail(why)
            })
        });
        match result {
            Ok(()) => None,
            Err(TestError::Fail(why, numbers)) => Some((why.to_string(), numbers, failed.get()?)),
            Err(TestError::Abort(why)) => Some((why.to_string(), Vec::new(), begun.elapsed())),
        }
    }

    /// The input that these choices make, as code.
    fn code(&self, numbers: &[u32]) -> String {
        let mut story = Story { code: Some(Vec::new()), ..Story::default() };
        let check = || (self.check)(&mut Choices::of(numbers), &mut story);
        let _ = catch_unwind(AssertUnwindSafe(check));
        story.code.unwrap_or_default().join("\n")
    }
}

/// The message of a panic.
fn words(panic: &dyn std::any::Any) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
    format!("panicked: {}", words.unwrap_or_default())
}
