//! End to end: the real binaries, a real Kafka, a real Postgres, as a user runs them.
//!
//! `scripts/test e2e` starts the servers and says where they are (`RFM_TEST_KAFKA`, `RFM_TEST_POSTGRES`);
//! each test has topics and a database of its own. What is stored is judged by `tests/python/verify.py`,
//! which reads the topics and computes with pandas.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "`world`, `kafka` and `slowness` are shared with the fault tests")]

mod bad_input;
mod batches;
mod crashes;
mod cut_log;
mod dead_letters;
mod kafka;
mod keys;
mod memory;
mod outages;
mod producing;
mod recovery;
mod retention;
mod slowness;
mod startup;
mod time_travel;
mod topics;
mod versions;
mod world;
