//! The ids that brokers give to topics. A topic that is deleted and created anew has another one.
//!
//! Owns a question in unsafe code: rdkafka tells no ids, librdkafka does (`DescribeTopics`). Does not
//! own what an id means to the reader (`reader::session::topics`).
//!
//! The one idea: **every object of librdkafka is held by [`Owned`], which frees it on every path**; what it
//! lends is copied before its owner goes.

#![expect(unsafe_code, reason = "rdkafka does not tell topic ids; its bindings to librdkafka do")]

use super::cluster::Quiet;
use super::{KafkaError, TopicIds};
use rdkafka::bindings as native;
use rdkafka::client::Client;
use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

/// librdkafka itself gives up after the timeout of the request; this is for its answer to arrive.
const GRACE: Duration = Duration::from_secs(1);

/// An object that librdkafka made for us.
struct Owned<T> {
    object: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `object` is null or ours alone, and `free` is librdkafka's function that frees such an object.
    unsafe fn new(object: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, KafkaError> {
        let object = NonNull::new(object)
            .ok_or_else(|| KafkaError::Transient("librdkafka does not answer the question for ids".into()))?;
        Ok(Self { object, free })
    }

    fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the contract of `new`, this frees what is ours, and nobody can do so before or after.
        unsafe { (self.free)(self.as_ptr()) }
    }
}

/// Asks a broker for the ids of three topics; blocks for `timeout` at most, and a little.
///
/// # Errors
/// [`KafkaError::Transient`] if it does not answer, or a topic has an error other than not to exist.
pub(super) fn ask(
    client: &Client<Quiet>,
    broker: i32,
    topics: &[String; 3],
    timeout: Duration,
) -> Result<TopicIds, KafkaError> {
    let event = describe(client, broker, topics, timeout)?;
    // SAFETY: the event lives to the end of this function. The result is the event itself in other words, or null.
    let result = unsafe { native::rd_kafka_event_DescribeTopics_result(event.as_ptr()) };
    let mut count = 0;
    let described = if result.is_null() {
        std::ptr::null_mut()
    } else {
        // SAFETY: the result is not null and lives as long as the event; `count` is ours to be written.
        unsafe { native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) }
    };
    if count != topics.len() || described.is_null() {
        // SAFETY: the event lives; what it says lives as long, and is copied here.
        let what = unsafe { text(native::rd_kafka_event_error_string(event.as_ptr())) };
        return Err(KafkaError::Transient(format!("the brokers do not tell the ids of the topics: {what}")));
    }
    let mut ids = TopicIds::default();
    for (place, id) in ids.iter_mut().enumerate() {
        // SAFETY: `described` points to `count` pointers, which is three; they live as long as the event.
        *id = unsafe { id_of(*described.add(place)) }?;
    }
    Ok(ids)
}

/// Puts the question, and waits for the event that answers it.
fn describe(
    client: &Client<Quiet>,
    broker: i32,
    topics: &[String; 3],
    timeout: Duration,
) -> Result<Owned<native::rd_kafka_event_t>, KafkaError> {
    let names = topics.each_ref().map(|topic| CString::new(topic.as_str()));
    let [Ok(recency), Ok(frequency), Ok(monetary)] = &names else {
        return Err(KafkaError::Refused(format!("a topic has no such name: {}", topics.join(", "))));
    };
    let mut names: [*const c_char; 3] = [recency.as_ptr(), frequency.as_ptr(), monetary.as_ptr()];
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is borrowed, so its pointer is alive until this function returns.
    let queue = unsafe {
        Owned::new(native::rd_kafka_queue_new(client.native_ptr()), native::rd_kafka_queue_destroy)
    }?;
    // SAFETY: three pointers to strings that end in zero and live until this function returns; they are copied.
    let collection = unsafe {
        let collection = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        Owned::new(collection, native::rd_kafka_TopicCollection_destroy)
    }?;
    // SAFETY: as for the queue.
    let options = unsafe {
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        Owned::new(options, native::rd_kafka_AdminOptions_destroy)
    }?;
    // SAFETY: all four are alive, and the question keeps copies; no message is asked for (null, 0). The event
    // that comes off the queue is ours. One that comes too late is freed with the queue, by librdkafka.
    unsafe {
        let no_text = std::ptr::null_mut();
        native::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), millis(timeout), no_text, 0);
        native::rd_kafka_AdminOptions_set_broker(options.as_ptr(), broker, no_text, 0);
        let (topics, options) = (collection.as_ptr(), options.as_ptr());
        native::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue.as_ptr());
        let event = native::rd_kafka_queue_poll(queue.as_ptr(), millis(timeout + GRACE));
        Owned::new(event, native::rd_kafka_event_destroy)
    }
}

/// The id of a topic as the tools of Kafka write it; `None` if the topic does not exist, or has no id.
///
/// # Safety
/// `topic` is null or the description of a topic, alive while this runs.
unsafe fn id_of(topic: *const native::rd_kafka_TopicDescription_t) -> Result<Option<String>, KafkaError> {
    if topic.is_null() {
        return Err(KafkaError::Transient("the brokers leave out a topic".into()));
    }
    // SAFETY: the description is alive, and so is what it lends: the error (or null) and the id. Whoever reads
    // an id may write its text into it; the event is known to this thread alone.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            // By its name: a code that a newer broker has made up would not be one of the enumeration.
            return match text(native::rd_kafka_error_name(error)).as_str() {
                "UNKNOWN_TOPIC_OR_PART" => Ok(None),
                _ => Err(KafkaError::Transient(text(native::rd_kafka_error_string(error)))),
            };
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let is_none = native::rd_kafka_Uuid_most_significant_bits(id) == 0
            && native::rd_kafka_Uuid_least_significant_bits(id) == 0;
        Ok((!is_none).then(|| text(native::rd_kafka_Uuid_base64str(id))))
    }
}

/// A copy of a string of librdkafka; of none, an empty one.
///
/// # Safety
/// `string` is null, or ends in zero and is alive while this runs.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: by the contract of this function.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
