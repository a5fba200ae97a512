//! rfm-stream: continuous RFM customer segmentation. Customer snapshots arrive on three Kafka topics;
//! scored, named segments land in Postgres, each snapshot exactly once.
//!
//! ```text
//!  producer ──► recency   ─┐                                         ┌─► segments
//!           ──► frequency ─┼─► reader: pair ─► score ─► one commit ──┼─► batches
//!           ──► monetary  ─┘        (per partition)                  ├─► dead_letters
//!                                                                    └─► progress
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | [`metric`], [`coordinates`] | the three metrics; partitions, messages and positions in Kafka |
//! | [`message`] | the wire format: encoding snapshots, decoding bodies; the reasons for which a message is refused |
//! | [`kafka`] | the only door to rdkafka: consumer, transactional producer, questions to the brokers |
//! | [`postgres`] | the door to Postgres: connections and transactions, errors, the schema, the watch on a silent server |
//! | [`producer`] | the daemon that takes snapshots from a source and sends each whole, in a transaction |
//! | [`reader`] | the daemon that scores and stores snapshots: session after session |
//! | `reader::session` | the loop *read, pair, score, commit*; rebalances; what is held of an assignment |
//! | `reader::verdict` | what an error of a session means: a new session, or the end with a hint and an exit code |
//! | `reader::store` | the reader's queries: taking partitions, the exactly-once commit |
//! | [`reader::pairing`], [`reader::progress`], [`reader::budget`] | which messages belong together, how far each topic is settled, how far ahead to read |
//! | [`reader::quintile`], [`reader::segment`], [`reader::score`] | pandas' `qcut`, the table of segments, a batch's scores |
//! | `reader::page` | the page and its JSON, on a connection that only reads |
//! | [`reader::key`] | how the tables write the key of a message |
//! | [`http`], [`health`], [`metrics`] | `--http`: the server, whether the program works, the numbers |
//! | [`config`] | flags and environment |
//! | [`checklist`] | the questions of `check`, and a line for each answer |
//! | [`failpoint`] | the steps at which crash tests kill a program; empty in every other build |
//! | [`failure`], [`telemetry`], [`shutdown`], [`backoff`], [`allocator`] | the final error, log lines, stopping, waiting, returning memory |
//!
//! Reading order: [`message`], [`reader::pairing`], `reader/store.rs` (the exactly-once commit), then
//! `reader/session.rs` (the loop) and `reader/session/holding.rs`. ARCHITECTURE.md explains the same with
//! walkthroughs.

pub mod allocator;
pub mod backoff;
mod c_text;
pub mod checklist;
pub mod config;
pub mod coordinates;
pub mod failpoint;
pub mod failure;
pub mod health;
pub mod http;
pub mod kafka;
pub mod message;
pub mod metric;
pub mod metrics;
pub mod postgres;
pub mod producer;
pub mod reader;
pub mod shutdown;
pub mod telemetry;
