//! The settings of a client that result from properties, as librdkafka itself lists them.
//!
//! Owns the calls, in unsafe code: rdkafka passes properties on in the order of a hash map, and reads
//! settings one by one. Does not own which settings are reserved (`properties`).
//!
//! **A setting has one name here, however a property spells it.** librdkafka resolves aliases, and strips
//! `topic.` from names that it does not know. Its own list of settings has neither.

#![expect(unsafe_code, reason = "rdkafka neither applies properties in order nor lists all settings")]

use super::KafkaError;
use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::config::NativeClientConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char};

/// Room for librdkafka's sentence about a property.
const SENTENCE: usize = 512;

/// All settings of a client, by librdkafka's own names. They may contain passwords, so there is no `Debug`.
#[derive(PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The settings that result from these properties, applied in this order.
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

    /// The settings of a client with this configuration.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub(super) fn of_client(config: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self::of(&config.create_native_config()?))
    }

    fn of(config: &NativeClientConfig) -> Self {
        let mut settings = BTreeMap::new();
        let mut count = 0;
        // SAFETY: the configuration is alive, and so is its part for topics: its own, or a new one that it
        // takes over here. Each list is as long as the call reports.
        unsafe {
            let list = native::rd_kafka_conf_dump(config.ptr(), &raw mut count);
            copy(list, count, "", &mut settings);
            // An address, which differs each time. The settings behind it follow.
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

    /// A setting, by librdkafka's own name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names of the settings in which two clients differ.
    pub(super) fn differing(&self, other: &Self) -> BTreeSet<String> {
        let names = self.0.keys().chain(other.0.keys());
        names.filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// Sets a property. An empty value means none, as in librdkafka.
fn set(config: &NativeClientConfig, name: &str, value: &str) -> Result<(), KafkaError> {
    let refused = |message: String| KafkaError::Property { name: name.to_owned(), message };
    let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
        return Err(refused("it contains a zero byte".to_owned()));
    };
    let mut sentence: [c_char; SENTENCE] = [0; SENTENCE];
    // SAFETY: the configuration is alive, both strings end in zero and are copied. The sentence has as much
    // room as the call says, and librdkafka ends it with zero.
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
/// `list` came from librdkafka, has `count` elements, each null or a string, and is not freed yet.
unsafe fn copy(
    list: *mut *const c_char,
    count: usize,
    prefix: &str,
    settings: &mut BTreeMap<String, String>,
) {
    for place in (0..count).step_by(2) {
        // SAFETY: by the contract of this function; names and values alternate.
        let (name, value) = unsafe { (*list.add(place), *list.add(place + 1)) };
        if !name.is_null() && !value.is_null() {
            // SAFETY: as above; both strings end in zero.
            let [name, value] = unsafe { [CStr::from_ptr(name), CStr::from_ptr(value)] };
            settings
                .insert(format!("{prefix}{}", name.to_string_lossy()), value.to_string_lossy().into_owned());
        }
    }
    // SAFETY: by the contract of this function; everything that is kept was copied.
    unsafe { native::rd_kafka_conf_dump_free(list, count) }
}
