//! Whether the user may read as a member of a group, asked without joining it.
//!
//! Owns a request in unsafe code: librdkafka reports the rights (`DescribeConsumerGroups`), rdkafka does not.

#![expect(unsafe_code, reason = "rdkafka does not report rights on groups; its bindings to librdkafka do")]

use super::client_log::Reporting;
use super::topic_ids::{GRACE, Owned};
use super::{ANSWER_TIMEOUT, Cluster, KafkaError, Right};
use crate::c_text::c_text;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::consumer::Consumer as _;
use std::ffi::{CString, c_char};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// librdkafka's name of the error that the user may not see the group.
const HIDDEN_GROUP: &str = "GROUP_AUTHORIZATION_FAILED";

/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Cluster {
    /// Checks that the user may read as a member of the group, which need not exist.
    ///
    /// # Errors
    /// [`KafkaError::Refused`] if not; [`KafkaError::Transient`] if the brokers do not answer.
    pub fn check_right_on_group(&self, group_id: &str) -> Result<(), KafkaError> {
        let begun = Instant::now();
        let allowed = loop {
            let asked = self.ask("the rights on the group", |client| {
                let event = describe(client.client(), group_id)?;
                // SAFETY: the event lives to the end of this closure.
                unsafe { is_allowed(&event) }
            });
            // A cluster that has had no group makes room for the first one.
            match asked {
                Err(KafkaError::Transient(_)) if begun.elapsed() < ANSWER_TIMEOUT => sleep(ASK_AGAIN),
                asked => break asked?,
            }
        };
        if allowed {
            Ok(())
        } else {
            Err(KafkaError::denied(Right::Read, &format!("the group `{group_id}`")))
        }
    }
}

/// Sends the request, and waits for the event that answers it.
fn describe(
    client: &Client<Reporting>,
    group_id: &str,
) -> Result<Owned<native::rd_kafka_event_t>, KafkaError> {
    let name = CString::new(group_id)
        .map_err(|_| KafkaError::Transient("the name of the group contains a zero byte".into()))?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is borrowed, so its pointer is alive until this function returns. What is made belongs
    // to the caller, and the name, which ends in zero, is copied. The event that comes off the queue belongs to
    // the caller; librdkafka frees a later one with the queue.
    unsafe {
        let queue =
            Owned::new(native::rd_kafka_queue_new(client.native_ptr()), native::rd_kafka_queue_destroy)?;
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let options = native::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        let options = Owned::new(options, native::rd_kafka_AdminOptions_destroy)?;
        let (no_text, within) = (std::ptr::null_mut(), millis(ANSWER_TIMEOUT));
        native::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), within, no_text, 0);
        // It fails only for requests that have no such option.
        native::rd_kafka_AdminOptions_set_include_authorized_operations(options.as_ptr(), 1);
        let (names, count) = (names.as_mut_ptr(), names.len());
        native::rd_kafka_DescribeConsumerGroups(
            client.native_ptr(),
            names,
            count,
            options.as_ptr(),
            queue.as_ptr(),
        );
        let event = native::rd_kafka_queue_poll(queue.as_ptr(), millis(ANSWER_TIMEOUT + GRACE));
        Owned::new(event, native::rd_kafka_event_destroy)
    }
}

/// Whether the answer allows to read. Brokers before Kafka 2.3 do not say; then it does.
///
/// # Safety
/// The event lives while this function runs.
unsafe fn is_allowed(event: &Owned<native::rd_kafka_event_t>) -> Result<bool, KafkaError> {
    // SAFETY: the result is null or the event itself. The description, its error (or null) and the list of
    // operations (or null) live as long as the event.
    unsafe {
        let result = native::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
        let mut count = 0;
        let described = match result.is_null() {
            true => std::ptr::null_mut(),
            false => native::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count),
        };
        if count != 1 || described.is_null() || (*described).is_null() {
            let what = c_text(native::rd_kafka_event_error_string(event.as_ptr()));
            return Err(KafkaError::Transient(format!("the brokers do not describe the group: {what}")));
        }
        let error = native::rd_kafka_ConsumerGroupDescription_error(*described);
        if !error.is_null() && native::rd_kafka_error_code(error) as i32 != 0 {
            return match c_text(native::rd_kafka_error_name(error)).as_str() {
                HIDDEN_GROUP => Ok(false),
                name => {
                    let said = c_text(native::rd_kafka_error_string(error));
                    Err(KafkaError::Transient(format!("{said} {name}")))
                }
            };
        }
        let list =
            native::rd_kafka_ConsumerGroupDescription_authorized_operations(*described, &raw mut count);
        let read = native::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ;
        Ok(list.is_null() || (0..count).any(|place| *list.add(place) == read))
    }
}
