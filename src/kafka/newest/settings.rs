//! The settings of the client that reads the logs: those that the user may change, and those that are fixed.

use super::super::SESSION_TIMEOUT;

/// Settings that carry the guarantee. A log that lost a position is read from its beginning, which does no
/// harm.
pub(super) const FIXED: [(&str, &str); 7] = [
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
    ("allow.auto.create.topics", "false"),
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
];

/// Settings that the user may override. Large portions, since all of it is read; librdkafka keeps 64 MiB of
/// it at most.
pub(super) const DEFAULTS: [(&str, &str); 7] = [
    SESSION_TIMEOUT,
    ("receive.message.max.bytes", "1000000000"),
    ("fetch.message.max.bytes", "8388608"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "500"),
    ("topic.metadata.refresh.interval.ms", "2000"),
];

/// librdkafka assigns nothing to a client without a group. This one joins none, and needs no right on it.
pub(super) const NO_GROUP: &str = "rfm-producer";
