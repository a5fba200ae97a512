//! The members of a consumer group: the topics that each subscribes to and the partitions that each has, as the
//! brokers report them.
//!
//! Owns the formats of a subscription and of an assignment, which brokers pass on unread (Kafka's "consumer
//! protocol"): a version, then a list, all numbers big-endian. Members that speak the newer protocol of
//! KIP-848 are not reported.

use super::{ANSWER_TIMEOUT, Cluster, KafkaError};
use crate::coordinates::TopicPartition;
use rdkafka::consumer::Consumer as _;
use rdkafka::groups::GroupMemberInfo;

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its `client.id`; `rfm-reader` of a reader whose user has set none.
    pub client_id: String,
    /// Where it connects from, as the broker sees it.
    pub host: String,
    /// The topics that it subscribes to; `None` if that cannot be read.
    pub topics: Option<Vec<String>>,
    /// What it was assigned of the three topics.
    pub assigned: Vec<TopicPartition>,
}

impl Cluster {
    /// The members of a group.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub fn members(&self, group_id: &str) -> Result<Vec<Member>, KafkaError> {
        self.ask("the members of the group", |client| {
            let groups = client.client().fetch_group_list(Some(group_id), ANSWER_TIMEOUT)?;
            let members = groups.groups().iter().filter(|group| group.name() == group_id);
            let member = |member: &GroupMemberInfo| Member {
                client_id: member.client_id().to_owned(),
                host: member.client_host().trim_start_matches('/').to_owned(),
                topics: member.metadata().and_then(subscription),
                assigned: self.known(partitions(member.assignment().unwrap_or_default()).unwrap_or_default()),
            };
            Ok(members.flat_map(|group| group.members().iter().map(member)).collect())
        })
    }

    /// The partitions of the three topics among these.
    fn known(&self, partitions: Vec<(String, i32)>) -> Vec<TopicPartition> {
        let known = partitions.into_iter().filter_map(|(topic, partition)| {
            Some(TopicPartition { metric: self.connection.metric(&topic)?, partition })
        });
        known.collect()
    }
}

/// The topics of a subscription; more may follow.
fn subscription(bytes: &[u8]) -> Option<Vec<String>> {
    let mut bytes = Bytes(bytes);
    let _version = bytes.i16()?;
    (0..bytes.i32()?).map(|_| bytes.name()).collect()
}

/// Topic and partition of each element of an assignment; `None` if it is cut off.
fn partitions(assignment: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut bytes = Bytes(assignment);
    let _version = bytes.i16()?;
    let mut found = Vec::new();
    for _ in 0..bytes.i32()? {
        let topic = bytes.name()?;
        for _ in 0..bytes.i32()? {
            found.push((topic.clone(), bytes.i32()?));
        }
    }
    Some(found)
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        Some(taken)
    }

    /// A name after its length.
    fn name(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()?).ok()?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_one_that_is_cut_off_is_not() {
        let whole = b"\0\x03\0\0\0\x02\0\x01r\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x02fq\0\0\0\x01\0\0\0\x05\xff\xff\xff\xff";
        let expected =
            [("r", 0), ("r", 7), ("fq", 5)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(partitions(whole).unwrap(), expected);
        for length in 0..whole.len() - 4 {
            assert_eq!(partitions(&whole[..length]), None, "{length}");
        }
        assert_eq!(partitions(b"\0\0\0\0\0\0"), Some(Vec::new()));
        assert_eq!(partitions(b""), None, "a member that has none yet");
    }

    #[test]
    fn the_topics_of_a_subscription_are_read_and_nothing_is_read_beyond_its_end() {
        let whole = [&[0, 3, 0, 0, 0, 2, 0, 1][..], b"a", &[0, 2], b"bc", &[0xff; 9]].concat();
        assert_eq!(subscription(&whole), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(subscription(&[0, 0, 0, 0, 0, 0]), Some(Vec::new()));
        for cut in 0..13 {
            assert_eq!(subscription(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(subscription(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), None);
    }
}
