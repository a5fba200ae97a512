//! End to end: the real binaries, a real Kafka, a real Postgres, as a user runs them.
//!
//! `scripts/test e2e` starts the servers and says where they are (`RFM_TEST_KAFKA`, `RFM_TEST_POSTGRES`);
//! each test has topics and a database of its own. `tests/python/verify.py` judges what is stored: it reads
//! the topics and computes with pandas.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "`world`, `kafka` and `slowness` are shared with the fault tests")]

mod bad_input;
mod batches;
mod catching_up;
mod checking;
mod configuration;
mod crashes;
mod cut_log;
mod dead_letters;
mod edges;
mod http;
mod in_process;
mod kafka;
mod keys;
mod membership;
mod memory;
mod newest;
mod orders;
mod orders_sql;
mod others;
mod outages;
mod page;
mod page_plans;
mod probe;
mod producing;
mod purging;
mod recovery;
mod results;
mod retaining;
mod retention;
mod rights;
mod second_chances;
mod security;
mod set_ups;
mod slowness;
mod startup;
mod terminal;
mod time_travel;
mod topics;
mod upgrading;
mod versions;
mod waits;
mod windows;
mod world;
