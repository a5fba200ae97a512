//! The ids that brokers give to topics, and what they allow the user to do with them. A topic that is deleted
//! and created again has another id.
//!
//! Owns a request in unsafe code: librdkafka reports both (`DescribeTopics`), rdkafka does not. Does not own
//! what an id means to the reader (`reader::session::topics`).
//!
//! **[`Owned`] holds every object of librdkafka and frees it on every path.** What the object lends is copied
//! before.

#![expect(unsafe_code, reason = "rdkafka does not report topic ids; its bindings to librdkafka do")]

use super::client_log::Reporting;
use super::{KafkaError, Right};
use crate::c_text::c_text;
use crate::metric::{Metric, PerMetric};
use rdkafka::bindings as native;
use rdkafka::client::Client;
use std::ffi::{CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

/// The ids of the three topics; `None` if a topic does not exist, or if the brokers have no ids (before Kafka
/// 2.8).
pub type TopicIds = PerMetric<Option<String>>;

/// librdkafka's names of the errors that a topic does not exist, and that the user may not see it.
const UNKNOWN_TOPIC: &str = "UNKNOWN_TOPIC_OR_PART";
const HIDDEN_TOPIC: &str = "TOPIC_AUTHORIZATION_FAILED";

/// librdkafka gives up after the timeout of the request. Its own answer needs a moment to arrive.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// An object that librdkafka made for this program.
pub(super) struct Owned<T> {
    /// The object.
    object: NonNull<T>,
    /// librdkafka's function that frees it.
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `object` is null or belongs to the caller alone, and `free` is librdkafka's function for such an
    /// object.
    pub(super) unsafe fn new(object: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, KafkaError> {
        let object = NonNull::new(object)
            .ok_or_else(|| KafkaError::Transient("librdkafka does not answer a request".into()))?;
        Ok(Self { object, free })
    }

    pub(super) fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the contract of `new`, this object belongs to `self` alone, and `drop` runs once.
        unsafe { (self.free)(self.as_ptr()) }
    }
}

/// Asks a broker for the ids of three topics; blocks for `timeout` and a second at most.
///
/// # Errors
/// [`KafkaError::Transient`] if it does not answer, or if it reports an error other than a missing topic.
pub(super) fn ask(
    client: &Client<Reporting>,
    broker: i32,
    topics: &PerMetric<String>,
    timeout: Duration,
) -> Result<TopicIds, KafkaError> {
    // SAFETY: by its contract, `each` passes descriptions that live.
    each(client, broker, topics, (timeout, false), |topic| unsafe { id_of(topic) })
}

/// Asks a broker whether the user has a right on each of three topics; blocks as long.
///
/// # Errors
/// As above.
pub(super) fn ask_right(
    client: &Client<Reporting>,
    broker: i32,
    topics: &PerMetric<String>,
    timeout: Duration,
    right: Right,
) -> Result<PerMetric<bool>, KafkaError> {
    // SAFETY: as above.
    each(client, broker, topics, (timeout, true), |topic| Ok(unsafe { is_allowed(topic, right) }))
}

/// Asks for descriptions of three topics (within a time; with or without rights) and passes each on. **It
/// lives and is not null while `read` runs.**
fn each<T: Default>(
    client: &Client<Reporting>,
    broker: i32,
    topics: &PerMetric<String>,
    (timeout, with_rights): (Duration, bool),
    read: impl Fn(*const native::rd_kafka_TopicDescription_t) -> Result<T, KafkaError>,
) -> Result<PerMetric<T>, KafkaError> {
    let event = describe(client, broker, topics, timeout, with_rights)?;
    // SAFETY: the event lives to the end of this function. The result is null or the event itself.
    let result = unsafe { native::rd_kafka_event_DescribeTopics_result(event.as_ptr()) };
    let mut count = 0;
    let described = if result.is_null() {
        std::ptr::null_mut()
    } else {
        // SAFETY: the result is not null and lives as long as the event; `count` can be written to.
        unsafe { native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) }
    };
    if count != Metric::ALL.len() || described.is_null() {
        // SAFETY: the event lives. Its text lives as long, and is copied here.
        let what = unsafe { c_text(native::rd_kafka_event_error_string(event.as_ptr())) };
        return Err(KafkaError::Transient(format!("the brokers do not describe the topics: {what}")));
    }
    let mut found = PerMetric::<T>::default();
    for (place, metric) in Metric::ALL.into_iter().enumerate() {
        // SAFETY: `described` points to `count` pointers, three of them; they live as long as the event.
        let topic = unsafe { *described.add(place) };
        if topic.is_null() {
            return Err(KafkaError::Transient("the answer leaves out a topic".into()));
        }
        found[metric] = read(topic)?;
    }
    Ok(found)
}

/// Sends the request, and waits for the event that answers it.
fn describe(
    client: &Client<Reporting>,
    broker: i32,
    topics: &PerMetric<String>,
    timeout: Duration,
    with_rights: bool,
) -> Result<Owned<native::rd_kafka_event_t>, KafkaError> {
    let names = topics.as_ref().map(|topic| CString::new(topic.as_str())).into_array();
    let [Ok(recency), Ok(frequency), Ok(monetary)] = &names else {
        return Err(KafkaError::invalid_topic(&topics.to_string()));
    };
    let mut names: [*const c_char; 3] = [recency.as_ptr(), frequency.as_ptr(), monetary.as_ptr()];
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is borrowed, so its pointer is alive until this function returns.
    let queue = unsafe {
        Owned::new(native::rd_kafka_queue_new(client.native_ptr()), native::rd_kafka_queue_destroy)
    }?;
    // SAFETY: three pointers to strings that end in zero and live until this function returns. They are
    // copied.
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
    // SAFETY: all four are alive, and the request keeps copies; no error text is wanted (null, 0). The event
    // that comes off the queue belongs to the caller. librdkafka frees a later one with the queue.
    unsafe {
        let no_text = std::ptr::null_mut();
        native::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), millis(timeout), no_text, 0);
        native::rd_kafka_AdminOptions_set_broker(options.as_ptr(), broker, no_text, 0);
        // It fails only for requests that have no such option.
        native::rd_kafka_AdminOptions_set_include_authorized_operations(options.as_ptr(), with_rights.into());
        let (topics, options) = (collection.as_ptr(), options.as_ptr());
        native::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue.as_ptr());
        let event = native::rd_kafka_queue_poll(queue.as_ptr(), millis(timeout + GRACE));
        Owned::new(event, native::rd_kafka_event_destroy)
    }
}

/// The id of a topic as Kafka's tools print it; `None` if the topic does not exist or has no id.
///
/// # Safety
/// `topic` is the description of a topic that lives while this function runs.
unsafe fn id_of(topic: *const native::rd_kafka_TopicDescription_t) -> Result<Option<String>, KafkaError> {
    // SAFETY: the description is alive, and so are the error (or null) and the id that it lends. Reading an
    // id may write its text into it; only this thread knows the event.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            // By its name: a newer broker may send a code that the enumeration does not have.
            return match c_text(native::rd_kafka_error_name(error)).as_str() {
                UNKNOWN_TOPIC => Ok(None),
                HIDDEN_TOPIC => {
                    let name = c_text(native::rd_kafka_TopicDescription_name(topic));
                    Err(KafkaError::denied(Right::Read, &format!("the topic `{name}`")))
                }
                _ => Err(KafkaError::Transient(c_text(native::rd_kafka_error_string(error)))),
            };
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let is_none = native::rd_kafka_Uuid_most_significant_bits(id) == 0
            && native::rd_kafka_Uuid_least_significant_bits(id) == 0;
        Ok((!is_none).then(|| c_text(native::rd_kafka_Uuid_base64str(id))))
    }
}

/// Whether the user has a right on a topic. Brokers before Kafka 2.3 do not say; then it has.
///
/// # Safety
/// As above.
unsafe fn is_allowed(topic: *const native::rd_kafka_TopicDescription_t, right: Right) -> bool {
    let operation = match right {
        Right::Read => native::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ,
        Right::Write => native::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE,
        Right::Create => native::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_CREATE,
    };
    // SAFETY: the description is alive, and so are the error (or null) and the list that it lends.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            return c_text(native::rd_kafka_error_name(error)) != HIDDEN_TOPIC;
        }
        let mut count = 0;
        let list = native::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        list.is_null() || (0..count).any(|place| *list.add(place) == operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaRespErr;

    #[test]
    fn librdkafka_calls_a_missing_and_a_hidden_topic_as_expected() {
        let names = [
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, UNKNOWN_TOPIC),
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, HIDDEN_TOPIC),
        ];
        for (code, expected) in names {
            // SAFETY: librdkafka gives a string that lives for ever.
            assert_eq!(unsafe { c_text(native::rd_kafka_err2name(code)) }, expected);
        }
    }
}
