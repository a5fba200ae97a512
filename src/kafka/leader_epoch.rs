//! Leader epochs (KIP-320): Kafka counts the leaders of a partition, and every record has the number of the leader
//! that wrote it.
//!
//! Owns unsafe code: rdkafka tells no leader epochs, and of an error not whose it is; librdkafka does. Does not own
//! what they are good for (`log`).

#![expect(unsafe_code, reason = "rdkafka tells no leader epochs; its bindings to librdkafka do")]

use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

/// What the brokers say of one partition.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The key of a message, or librdkafka's code and sentence of an error.
    pub(super) what: Result<Option<Vec<u8>>, (RDKafkaRespErr, String)>,
}

/// Sets the leader epoch of a list's element, if there is one of that topic and partition.
pub(super) fn set(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    // A topic with a zero byte in its name is in no list.
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list is borrowed and so alive, the name ends in zero; an element that is found belongs to the list.
    unsafe {
        let element = native::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !element.is_null() {
            native::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
        }
    }
}

/// The leader epochs of a list's elements, in their order; `None` where none is known.
pub(super) fn of(list: &TopicPartitionList) -> Vec<Option<i32>> {
    // SAFETY: the list is borrowed and so alive; its elements are `cnt` ones in a row, which are only read.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or_default();
        let epoch = |place| native::rd_kafka_topic_partition_get_leader_epoch(list.elems.add(place));
        (0..count).map(epoch).map(|epoch| (epoch >= 0).then_some(epoch)).collect()
    }
}

/// The next message or error of a consumer that belongs to no group; `None` if none comes in time.
pub(super) fn next<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Option<Heard> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is borrowed, so its pointer is alive; what comes is ours, and freed below.
    let message = NonNull::new(unsafe { native::rd_kafka_consumer_poll(client.native_ptr(), millis) })?;
    // SAFETY: the message is alive until it is destroyed. An error may have no topic. The payload of an error is its
    // sentence, which ends in zero; of a message only the key is looked at, which is `key_len` bytes or null.
    let heard = unsafe {
        let said = message.as_ref();
        let topic = match said.rkt.is_null() {
            true => String::new(),
            false => text(native::rd_kafka_topic_name(said.rkt)),
        };
        let what = match said.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR if said.key.is_null() => Ok(None),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                Ok(Some(std::slice::from_raw_parts(said.key.cast::<u8>(), said.key_len).to_vec()))
            }
            code => Err((code, text(native::rd_kafka_message_errstr(said)))),
        };
        Heard { topic, partition: said.partition, offset: said.offset, what }
    };
    // SAFETY: it came from `rd_kafka_consumer_poll`, is destroyed once, and all that is kept of it was copied.
    unsafe { native::rd_kafka_message_destroy(message.as_ptr()) };
    Some(heard)
}

/// A copy of a string of librdkafka; of none, an empty one.
///
/// # Safety
/// `string` is null, or ends in zero and is alive while this runs.
unsafe fn text(string: *const std::ffi::c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: by the contract of this function.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_set_is_there_and_others_are_not_known() {
        let mut list = TopicPartitionList::new();
        for partition in 0..3 {
            list.add_partition("recency", partition);
        }
        set(&mut list, "recency", 1, 7);
        set(&mut list, "recency", 5, 9);
        set(&mut list, "frequency", 0, 9);
        assert_eq!(of(&list), [None, Some(7), None]);
        assert_eq!(of(&TopicPartitionList::new()), []);
    }
}
