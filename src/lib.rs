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
//! | [`message`] | the wire format: what a body says, why a message can be refused |
//! | [`kafka`] | the only door to rdkafka: consumer, transactional sender, questions to the brokers |
//! | [`producer`] | the daemon that makes up batches and sends each whole, in a transaction |
//! | [`reader`] | the daemon that stores them: session after session |
//! | `reader::session` | the loop *read, pair, score, commit*; rebalances; the memory in use |
//! | [`reader::pairing`], [`reader::progress`], [`reader::budget`] | which messages belong together, how far each topic is settled, how far ahead to read |
//! | [`reader::quintile`], [`reader::segment`], [`reader::score`] | pandas' `qcut`, the table of segments, a batch's scores |
//! | `reader::store` | the only place with queries: taking partitions, the exactly-once commit |
//! | [`config`] | flags and environment |
//! | [`failpoint`] | where crash tests make a program die; empty in every other build |
//! | [`failure`], [`telemetry`], [`shutdown`], [`backoff`], [`allocator`] | the last word, log lines, stopping, waiting, giving memory back |
//!
//! Reading order: [`message`], [`reader::pairing`], `reader/store.rs` (what exactly-once rests on), then
//! `reader/session.rs` (the loop). ARCHITECTURE.md tells the same with walkthroughs.

pub mod allocator;
pub mod backoff;
pub mod config;
pub mod failpoint;
pub mod failure;
pub mod kafka;
pub mod message;
pub mod producer;
pub mod reader;
pub mod shutdown;
pub mod telemetry;
