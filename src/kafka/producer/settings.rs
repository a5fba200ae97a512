//! The settings of the producer: those that the user may change, and those that are fixed.

/// Settings that the user may override.
pub(super) const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "rfm-producer"),
    ("linger.ms", "0"),
    ("statistics.interval.ms", "1000"),
    // While partitions are added, the client may know more of them in one topic than in another. With
    // librdkafka's default of 5 minutes, the same batch would fail and be sent again for as long.
    ("topic.metadata.refresh.interval.ms", "2000"),
    // The brokers decide what is too large. librdkafka's default of 1 MB is less than a batch of 100 000
    // customers.
    ("message.max.bytes", "1000000000"),
];

/// Settings that carry a guarantee; see `properties::RESERVED`. The partitioner is that of the Java clients:
/// with equal partition counts, a key has the same partition number in the three topics.
pub(super) const FIXED: [(&str, &str); 3] = [
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("allow.auto.create.topics", "false"),
];
