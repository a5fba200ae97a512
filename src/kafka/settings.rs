//! What properties make of a client's settings: librdkafka itself is asked.
//!
//! Owns the questions, in unsafe code: rdkafka hands properties over in the order of a hash map, and reads
//! settings one by one. Does not own which settings are reserved (`properties`).
//!
//! The one idea: **a setting has one name here, however a property spells it**. librdkafka resolves aliases, and
//! takes `topic.` off names that it does not know; its own list of what it is configured with has neither.

#![expect(unsafe_code, reason = "rdkafka neither applies properties in order nor lists all settings")]

use super::KafkaError;
use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::config::NativeClientConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char};

/// Room for librdkafka's sentence about a property.
const SENTENCE: usize = 512;

/// All settings of a client, by librdkafka's own names. There may be passwords among them, so it cannot be printed.
#[derive(PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The settings after these properties, applied in this order.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub(super) fn after(properties: &[(&str, &str)]) -> Result<Self, KafkaError> {
        let config = ClientConfig::new().create_native_config()?;
        for (name, value) in properties {
            set(&config, name, value)?;
        }
        Ok(Self::of(&config))
    }

    /// The settings of a client that is made of this configuration.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub(super) fn of_client(config: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self::of(&config.create_native_config()?))
    }

    fn of(config: &NativeClientConfig) -> Self {
        let mut settings = BTreeMap::new();
        let mut count = 0;
        // SAFETY: the configuration is alive, and with it its part for topics: its own, or one that it takes over here
        // and that nobody else has. Each list is as long as the call says.
        unsafe {
            let list = native::rd_kafka_conf_dump(config.ptr(), &raw mut count);
            copy(list, count, "", &mut settings);
            // An address, which is another one each time. What stands there comes now.
            settings.remove("default_topic_conf");
            if native::rd_kafka_conf_get_default_topic_conf(config.ptr()).is_null() {
                native::rd_kafka_conf_set_default_topic_conf(config.ptr(), native::rd_kafka_topic_conf_new());
            }
            let topic = native::rd_kafka_conf_get_default_topic_conf(config.ptr());
            let list = native::rd_kafka_topic_conf_dump(topic, &raw mut count);
            copy(list, count, "topic.", &mut settings);
        }
        Self(settings)
    }

    /// The names of the settings in which two clients differ.
    pub(super) fn differing(&self, other: &Self) -> BTreeSet<String> {
        let names = self.0.keys().chain(other.0.keys());
        names.filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// Sets a property; an empty value is none, as librdkafka has it.
fn set(config: &NativeClientConfig, name: &str, value: &str) -> Result<(), KafkaError> {
    let refused = |message: String| KafkaError::Property { name: name.to_owned(), message };
    let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
        return Err(refused("there is a zero byte in it".to_owned()));
    };
    let mut sentence: [c_char; SENTENCE] = [0; SENTENCE];
    // SAFETY: the configuration is alive, both strings end in zero and are copied, and the sentence has the room that
    // is said; librdkafka ends it with zero.
    let (result, sentence) = unsafe {
        let (room, length) = (sentence.as_mut_ptr(), sentence.len());
        let result = native::rd_kafka_conf_set(config.ptr(), c_name.as_ptr(), c_value.as_ptr(), room, length);
        (result, CStr::from_ptr(sentence.as_ptr()).to_string_lossy())
    };
    match result {
        native::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
        _ => Err(refused(sentence.trim_end().to_owned())),
    }
}

/// Copies a list of names and values, and frees it.
///
/// # Safety
/// `list` has `count` elements, each null or a string, and is librdkafka's to be freed by `rd_kafka_conf_dump_free`.
unsafe fn copy(
    list: *mut *const c_char,
    count: usize,
    prefix: &str,
    settings: &mut BTreeMap<String, String>,
) {
    for place in (0..count).step_by(2) {
        // SAFETY: by the contract of this function; names and values take turns.
        let (name, value) = unsafe { (*list.add(place), *list.add(place + 1)) };
        if !name.is_null() && !value.is_null() {
            // SAFETY: as above; both are strings that end in zero.
            let [name, value] = unsafe { [CStr::from_ptr(name), CStr::from_ptr(value)] };
            settings
                .insert(format!("{prefix}{}", name.to_string_lossy()), value.to_string_lossy().into_owned());
        }
    }
    // SAFETY: by the contract of this function; nothing of the list is used any more.
    unsafe { native::rd_kafka_conf_dump_free(list, count) }
}
