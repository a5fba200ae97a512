//! The settings of the producer: what the user may change, and what not.

/// Settings that the user may override.
pub(super) const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "rfm-producer"),
    ("linger.ms", "0"),
    ("statistics.interval.ms", "1000"),
    // While partitions are added, the client may know of more in one topic than in another; with librdkafka's 5
    // minutes the same batch would be refused and sent again for as long.
    ("topic.metadata.refresh.interval.ms", "2000"),
    // Brokers decide what is too large; librdkafka's own bound of 1 MB is below a batch of 100 000.
    ("message.max.bytes", "1000000000"),
];

/// Settings that carry a guarantee; see `properties::RESERVED`. The partitioner is that of the Java
/// clients: with equal partition counts a key has the same partition number in the three topics.
pub(super) const FIXED: [(&str, &str); 3] = [
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("allow.auto.create.topics", "false"),
];
