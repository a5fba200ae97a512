//! The settings of the consumer: those that the user may change, and those that are fixed.

use super::super::SESSION_TIMEOUT;

/// Settings that the user may override.
pub(super) const DEFAULTS: [(&str, &str); 13] = [
    ("client.id", "rfm-reader"),
    // The group notices after this long that a reader has died. **It must exceed the time in which the
    // brokers replace one of them.** Otherwise, if the coordinator's broker dies, every reader loses its
    // membership too, and the group waits for its old members. The brokers need 9 s
    // (`broker.session.timeout.ms`), or 12.4 s if the controller died as well; 1 s for the last heartbeat and
    // 1 s to find the new coordinator are added.
    SESSION_TIMEOUT,
    ("heartbeat.interval.ms", "1000"),
    // If the coordinator hangs, librdkafka waits for it until the session times out, unless it learns of
    // another coordinator. By default it asks every ten minutes.
    ("coordinator.query.interval.ms", "2000"),
    ("max.poll.interval.ms", "60000"),
    // New topics, new partitions, and the successor of a leader that hangs are found within this time.
    ("topic.metadata.refresh.interval.ms", "2000"),
    // `--buffer-bytes` does not count what librdkafka fetches ahead, so keep it small. librdkafka's own
    // defaults (64 MiB, and a pause of one second once the queue is full) look like a leak and a stall.
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "250"),
    // The first fetch of a topic that was deleted and created again fails. `reader::session::topics` asks for
    // the topic's id every second, and so before the next fetch.
    ("fetch.error.backoff.ms", "2000"),
    // Messages may be as large as the brokers allow. This only guards against responses that cannot be real.
    ("receive.message.max.bytes", "1000000000"),
    ("statistics.interval.ms", "1000"),
];

/// Settings that carry a guarantee; see `properties::RESERVED`.
pub(super) const FIXED: [(&str, &str); 6] = [
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("partition.assignment.strategy", "range"),
    ("allow.auto.create.topics", "false"),
];
