//! Kafka by hand: topics, and messages that no producer of ours would send.

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, TopicPartitionList};
use std::time::Duration;

/// How long the brokers may take to answer.
fn timeout() -> Duration {
    crate::slowness::allowed(Duration::from_secs(30), Duration::ZERO)
}

fn config(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("message.max.bytes", "100000000");
    config
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn admin(kafka: &str) -> AdminClient<DefaultClientContext> {
    config(kafka).create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(timeout())).request_timeout(Some(timeout()))
}

pub fn create_topics(kafka: &str, topics: &[String], partitions: i32) {
    block_on(async {
        let admin = admin(kafka);
        let new = topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(1)));
        let new: Vec<NewTopic> = new.collect();
        for created in admin.create_topics(&new, &options()).await.unwrap() {
            created.unwrap();
        }
    });
}

/// Deletes topics. Returns when no broker knows them any more.
pub fn delete_topics(kafka: &str, topics: &[String]) {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let admin = admin(kafka);
    block_on(async {
        for deleted in admin.delete_topics(&names, &options()).await.unwrap() {
            deleted.unwrap();
        }
    });
    let exists = |topic: &str| {
        let metadata = admin.inner().fetch_metadata(Some(topic), timeout()).unwrap();
        metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none())
    };
    crate::world::wait_for("the topics to go", || (!names.iter().any(|topic| exists(topic))).then_some(()));
}

pub fn add_partitions(kafka: &str, topic: &str, count: usize) {
    block_on(async {
        let admin = admin(kafka);
        for created in admin.create_partitions(&[NewPartitions::new(topic, count)], &options()).await.unwrap()
        {
            created.unwrap();
        }
    });
}

/// Deletes everything below `offset`, as retention would.
pub fn delete_records(kafka: &str, topic: &str, partition: i32, offset: i64) {
    delete_records_before(rdkafka::Offset::Offset(offset), kafka, topic, partition);
}

/// Deletes everything in the log.
pub fn delete_all_records(kafka: &str, topic: &str, partition: i32) {
    delete_records_before(rdkafka::Offset::End, kafka, topic, partition);
}

fn delete_records_before(end: rdkafka::Offset, kafka: &str, topic: &str, partition: i32) {
    block_on(async {
        let admin = admin(kafka);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, end).unwrap();
        for deleted in admin.delete_records(&list, &options()).await.unwrap().elements() {
            deleted.error().unwrap();
        }
    });
}

/// Sets the largest message that a topic takes, in bytes.
pub fn limit_messages(kafka: &str, topic: &str, bytes: u32) {
    set_topic(kafka, topic, &[("max.message.bytes", &bytes.to_string())]);
}

/// Sets these settings of a topic, and all others back to their defaults. Returns when the brokers know of it.
pub fn set_topic(kafka: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in settings {
        config = config.set(name, value);
    }
    block_on(async {
        for altered in admin(kafka).alter_configs([&config], &options()).await.unwrap() {
            altered.unwrap();
        }
    });
}

/// The offsets that a group has committed, as text.
pub fn committed(kafka: &str, group: &str, topics: &[String], partitions: i32) -> Vec<String> {
    let consumer: BaseConsumer = config(kafka).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    topics.iter().for_each(|topic| list.add_partition_range(topic, 0, partitions - 1));
    let committed = consumer.committed_offsets(list, timeout()).unwrap();
    committed
        .elements()
        .iter()
        .map(|at| format!("{} {} {:?}", at.topic(), at.partition(), at.offset()))
        .collect()
}

/// The topics whose names begin so, with the beginning and the end of each log.
pub fn logs(kafka: &str, prefix: &str) -> Vec<String> {
    let consumer: BaseConsumer = config(kafka).create().unwrap();
    let metadata = consumer.fetch_metadata(None, timeout()).unwrap();
    let topics = metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix));
    let logs =
        topics.flat_map(|topic| topic.partitions().iter().map(|partition| (topic.name(), partition.id())));
    let mut logs: Vec<String> = logs
        .map(|(topic, partition)| {
            let ends = consumer.fetch_watermarks(topic, partition, timeout()).unwrap();
            format!("{topic} {partition} {ends:?}")
        })
        .collect();
    logs.sort();
    logs
}

/// The ids of the members of a group.
pub fn members(kafka: &str, group: &str) -> Vec<String> {
    let groups = admin(kafka).inner().fetch_group_list(Some(group), timeout()).unwrap();
    let members =
        groups.groups().iter().filter(|found| found.name() == group).flat_map(|found| found.members());
    members.map(|member| member.id().to_owned()).collect()
}

/// A producer without transactions.
pub struct Plain(ThreadedProducer<DefaultProducerContext>);

impl Plain {
    pub fn new(kafka: &str) -> Self {
        Self(config(kafka).create().unwrap())
    }

    pub fn compressed(kafka: &str, codec: &str) -> Self {
        Self(config(kafka).set("compression.type", codec).create().unwrap())
    }

    /// Chooses the partition of a message that is sent to partition -1.
    pub fn partitioning(kafka: &str, partitioner: &str) -> Self {
        Self(config(kafka).set("partitioner", partitioner).create().unwrap())
    }

    pub fn transactional(kafka: &str, id: &str) -> Self {
        let producer = Self(config(kafka).set("transactional.id", id).create().unwrap());
        producer.0.init_transactions(timeout()).unwrap();
        producer
    }

    pub fn begin(&self) {
        self.0.begin_transaction().unwrap();
    }

    pub fn commit(&self) {
        self.0.commit_transaction(timeout()).unwrap();
    }

    pub fn abort(&self) {
        self.0.abort_transaction(timeout()).unwrap();
    }

    pub fn send(&self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.send_at(topic, partition, key, value, None);
    }

    /// Sends with a timestamp of the sender's own, in milliseconds since 1970.
    pub fn send_at(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        time: Option<i64>,
    ) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
        record.key = key;
        record.payload = value;
        record.timestamp = time;
        self.0.send(record).map_err(|(error, _)| error).unwrap();
    }

    /// Waits until everything has arrived.
    pub fn flush(&self) {
        self.0.flush(timeout()).unwrap();
    }
}
