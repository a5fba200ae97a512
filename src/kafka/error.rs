//! Failures of Kafka, by what can be done about them.
//!
//! Brokers answer with codes, and codes decide. librdkafka has one code for every failed SASL handshake, and
//! one for every failed TLS handshake, whether the broker refuses the client or merely restarts. Only its
//! sentence tells these apart; `tests.rs` checks the words against the real library.

use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};

/// What to do about a property that librdkafka does not accept.
pub const PROPERTY_HINT: &str = "see --kafka-property and KAFKA_PROPERTIES; for what these do not set, this program has its \
     own defaults, such as session.timeout.ms=16000";

/// What the brokers allow a user to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Reading a topic, or as a member of a group.
    Read,
    /// Writing to a topic, or under a transactional id.
    Write,
    /// Creating a topic.
    Create,
}

/// A failure of Kafka, by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka does not know a property, or does not accept its value.
    #[error("librdkafka does not accept the property `{name}`: {message}")]
    Property {
        /// The property.
        name: String,
        /// librdkafka's own sentence.
        message: String,
    },
    /// librdkafka accepts each property, but not all of them together, or not in a client of this kind.
    #[error("librdkafka does not accept the properties of a client: {0}")]
    Properties(String),
    /// No retry can help: wrong credentials, a missing right, a name that no topic can have.
    #[error("{what}")]
    Refused {
        /// What is refused, and why.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A retry can help.
    #[error("kafka: {0}")]
    Transient(String),
}

impl KafkaError {
    /// Classifies an error of rdkafka; `reason` is librdkafka's own sentence, if there is one.
    pub(super) fn new(error: &RdKafkaError, reason: Option<&str>) -> Self {
        if let RdKafkaError::ClientConfig(_, message, name, _) = error {
            return KafkaError::Property { name: name.clone(), message: message.clone() };
        }
        let code = code_of(error);
        let what = match (reason, code) {
            (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
            (_, Some(code)) => code.to_string(),
            (_, None) => error.to_string(),
        };
        if let Some(hint) = code.and_then(hint_of_setting) {
            let what = format!("the brokers do not accept a setting: {what}");
            return KafkaError::Refused { what, hint: hint.to_owned() };
        }
        match code {
            Some(code) if is_refusal_of_client(code, &what) => KafkaError::refused_client(code, &what),
            Some(code) if is_missing_right(code) => KafkaError::Refused {
                what: format!("kafka does not allow this: {what}"),
                hint: RIGHTS_HINT.to_owned(),
            },
            _ => KafkaError::Transient(what),
        }
    }

    /// The brokers refuse the client, or the client refuses the brokers' certificate.
    pub(super) fn refused_client(code: Code, what: &str) -> Self {
        let (who, hint) = match code {
            Code::SSL => ("the certificate of a broker is not accepted", CERTIFICATE_HINT),
            _ => ("kafka refuses the client", CREDENTIALS_HINT),
        };
        KafkaError::Refused { what: format!("{who}: {what}"), hint: hint.to_owned() }
    }

    /// The user lacks a right on what `resources` names, such as ``the topic `recency` ``.
    pub(super) fn denied(right: Right, resources: &str) -> Self {
        let what = format!("kafka does not allow this user `{right:?}` on {resources}");
        KafkaError::Refused { what, hint: RIGHTS_HINT.to_owned() }
    }

    /// No topic can have this name.
    pub(super) fn invalid_topic(topic: &str) -> Self {
        KafkaError::Refused {
            what: format!("the brokers do not accept the topic name `{topic}`"),
            hint:
                "a topic name has at most 249 letters, digits, dots, hyphens and underscores (ASCII); change \
                   --recency-topic, --frequency-topic or --monetary-topic"
                    .to_owned(),
        }
    }
}

impl From<RdKafkaError> for KafkaError {
    fn from(error: RdKafkaError) -> Self {
        KafkaError::new(&error, None)
    }
}

/// What to do when the brokers refuse a client.
const CREDENTIALS_HINT: &str = "check security.protocol, sasl.mechanism, sasl.username and sasl.password in --kafka-property \
     and KAFKA_PROPERTIES";

/// What to do about a certificate.
const CERTIFICATE_HINT: &str = "check that ssl.ca.location in --kafka-property has the CA of the brokers, and that \
     --bootstrap-servers has a name that their certificate is for";

/// What to do about a missing right.
const RIGHTS_HINT: &str = "give the user of this program the right (`kafka-acls --add`); docs/guide.md lists those that are \
     needed";

/// The code of an error. rdkafka does not give that of an administrator's request.
fn code_of(error: &RdKafkaError) -> Option<Code> {
    match error {
        RdKafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether a code means that the client will never be let in, not that it is not let in now.
pub(super) fn is_refusal_of_client(code: Code, reason: &str) -> bool {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            !is_broken_handshake(reason)
        }
        Code::SSL => is_unverified(reason),
        _ => false,
    }
}

/// What to do about a setting that librdkafka accepts and the brokers do not.
fn hint_of_setting(code: Code) -> Option<&'static str> {
    match code {
        Code::InvalidSessionTimeout => Some(
            "set session.timeout.ms between group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers",
        ),
        Code::InvalidTransactionTimeout => {
            Some("set transaction.timeout.ms to transaction.max.timeout.ms of the brokers at most")
        }
        Code::InvalidGroupId => Some("use another --group-id"),
        _ => None,
    }
}

/// Whether a code means that the user lacks a right.
pub(super) fn is_missing_right(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

/// Whether a SASL handshake failed without an answer: the broker restarts or hangs in the middle of it.
fn is_broken_handshake(reason: &str) -> bool {
    ["transport failure", "imed out", "isconnected", "onnection reset", "onnection refused"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Whether a TLS handshake failed because the client does not trust the broker's certificate. (The number is
/// OpenSSL's code for that.)
fn is_unverified(reason: &str) -> bool {
    ["error:0A000086", "certificate verify failed", "verify broker certificate", "not provide a certificate"]
        .iter()
        .any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_waiting_mends_is_a_refusal() {
        let cases = [
            (Code::SSL, "error:0A000086:SSL routines::certificate verify failed", true),
            (Code::SSL, "Failed to verify broker certificate: expired", true),
            (Code::SSL, "error:0A000126:SSL routines::unexpected eof while reading", false),
            (Code::SSL, "error:0A00010B:SSL routines::wrong version number", false),
            (Code::Authentication, "SASL authentication error: Invalid username or password", true),
            (Code::Authentication, "SASL authentication error: Disconnected", false),
            (Code::Resolve, "Failed to resolve 'kafka:9092'", false),
            (Code::BrokerTransportFailure, "Connection refused", false),
            (Code::TopicAuthorizationFailed, "", true),
            (Code::GroupAuthorizationFailed, "", true),
            (Code::InvalidSessionTimeout, "", true),
            (Code::InvalidTransactionTimeout, "", true),
            (Code::CoordinatorLoadInProgress, "", false),
            (Code::GroupMaxSizeReached, "", false),
        ];
        for (code, reason, expected) in cases {
            let error = KafkaError::new(&RdKafkaError::Global(code), Some(reason));
            assert_eq!(matches!(error, KafkaError::Refused { .. }), expected, "{code}: {error}");
        }
        // rdkafka gives no code of an administrator's request.
        let denied = KafkaError::from(RdKafkaError::AdminOp(Code::ClusterAuthorizationFailed));
        assert!(matches!(denied, KafkaError::Refused { .. }), "{denied}");
    }
}
