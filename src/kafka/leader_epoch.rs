//! Leader epochs (KIP-320): Kafka counts the leaders of a partition, and every record carries the number of
//! the leader that wrote it.
//!
//! Owns unsafe code: librdkafka reports leader epochs, and to which partition an error belongs; rdkafka does
//! not. Does not own what they are used for (`log`).

#![expect(unsafe_code, reason = "rdkafka does not report leader epochs; its bindings to librdkafka do")]

use crate::c_text::c_text;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CString, c_void};
use std::ptr::NonNull;
use std::time::Duration;

/// What a consumer received from one partition.
#[derive(Debug)]
pub(super) struct Received<T> {
    /// The topic; empty if an error has none.
    pub(super) topic: String,
    /// The partition number.
    pub(super) partition: i32,
    /// The offset of the message, or the one that the error is about.
    pub(super) offset: i64,
    /// What was kept of a message, or the code and librdkafka's sentence of an error.
    pub(super) what: Result<T, (RDKafkaRespErr, String)>,
}

/// A message, as long as librdkafka lends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent<'a> {
    /// Its key.
    pub(super) key: Option<&'a [u8]>,
    /// Its body; `None` is a tombstone.
    pub(super) body: Option<&'a [u8]>,
    /// Its time, in milliseconds since 1970; -1 if it has none.
    pub(super) time: i64,
}

impl<'a> Lent<'a> {
    /// # Safety
    /// `said` is a message, and no error, and lives as long as what is returned.
    unsafe fn new(said: &'a native::rd_kafka_message_t) -> Self {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: by the contract of this function; key and payload are null or as long as the message says.
        unsafe {
            let bytes = |bytes: *mut c_void, length| {
                (!bytes.is_null()).then(|| std::slice::from_raw_parts(bytes.cast::<u8>(), length))
            };
            Self {
                key: bytes(said.key, said.key_len),
                body: bytes(said.payload, said.len),
                time: native::rd_kafka_message_timestamp(said, &raw mut kind),
            }
        }
    }
}

/// Sets the leader epoch of a list's element, if the list has that topic and partition.
pub(super) fn set(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    // No list has a topic whose name contains a zero byte.
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list is borrowed and so alive, and the name ends in zero. The element belongs to the list.
    unsafe {
        let element = native::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !element.is_null() {
            native::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
        }
    }
}

/// The leader epochs of a list's elements, in their order; `None` if none is known.
pub(super) fn of(list: &TopicPartitionList) -> Vec<Option<i32>> {
    // SAFETY: the list is borrowed and so alive. It has `cnt` elements in a row; they are only read.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or_default();
        let epoch = |place| native::rd_kafka_topic_partition_get_leader_epoch(list.elems.add(place));
        (0..count).map(epoch).map(|epoch| (epoch >= 0).then_some(epoch)).collect()
    }
}

/// The next message, of which `keep` says what is kept, or the next error of a consumer that belongs to no
/// group; `None` if none comes in time.
pub(super) fn next<C: ClientContext, T>(
    client: &Client<C>,
    timeout: Duration,
    keep: impl FnOnce(Lent<'_>) -> T,
) -> Option<Received<T>> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is borrowed, so its pointer is alive. The message belongs to the caller, and is
    // freed below.
    let message = NonNull::new(unsafe { native::rd_kafka_consumer_poll(client.native_ptr(), millis) })?;
    // SAFETY: the message is alive until it is destroyed. An error may have no topic. The payload of an error
    // is its sentence and ends in zero.
    let received = unsafe {
        let said = message.as_ref();
        let topic = match said.rkt.is_null() {
            true => String::new(),
            false => c_text(native::rd_kafka_topic_name(said.rkt)),
        };
        let what = match said.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(keep(Lent::new(said))),
            code => Err((code, c_text(native::rd_kafka_message_errstr(said)))),
        };
        Received { topic, partition: said.partition, offset: said.offset, what }
    };
    // SAFETY: it came from `rd_kafka_consumer_poll` and is destroyed once. What is kept of it was copied.
    unsafe { native::rd_kafka_message_destroy(message.as_ptr()) };
    Some(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_set_is_known_and_no_other() {
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
