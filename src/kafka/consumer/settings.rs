//! The settings of the consumer: what the user may change, and what not.

/// Settings that the user may override.
pub(super) const DEFAULTS: [(&str, &str); 13] = [
    ("client.id", "rfm-reader"),
    // A reader that dies is noticed after this long. **It lies above the time that the brokers need to replace one of
    // them**, or the death of a broker that coordinates the group costs every reader its membership, too, and the
    // group waits for the members that it had: 9 s (`broker.session.timeout.ms`), 12.4 s where the controller died
    // as well; and 1 s for the last heartbeat, and 1 s to find the new coordinator.
    ("session.timeout.ms", "16000"),
    ("heartbeat.interval.ms", "1000"),
    // A coordinator that hangs answers no heartbeat, and librdkafka waits for it until the session is over, unless it
    // learns of another coordinator. It asks every ten minutes by default.
    ("coordinator.query.interval.ms", "2000"),
    ("max.poll.interval.ms", "60000"),
    // New topics and partitions, and new leaders in place of one that hangs, are found within this long.
    ("topic.metadata.refresh.interval.ms", "2000"),
    // What is fetched ahead belongs to nobody's budget: keep it small. librdkafka's own defaults (64 MiB,
    // and one second of rest once full) look like a leak and a stall.
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "250"),
    // A topic that is created anew fails to be read once. Before it is tried again, its id is asked for: every
    // second, by `reader::session::topics`.
    ("fetch.error.backoff.ms", "2000"),
    // Only a bound on what is believed of a response: messages may be as large as the brokers allow.
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
