//! Strings that were pasted with something around them: the line break of a secret that was made with `echo`,
//! the quotes that `docker run --env-file` keeps, a blank.
//!
//! **Kafka takes such a name for another one.** A group with a line break at its end has no progress, so it
//! would store everything again. No error shows the value, which may hold a password.

use crate::failure::Failure;
use crate::metric::PerMetric;
use anyhow::anyhow;
use std::net::Ipv6Addr;

/// What to do about it.
const HINT: &str = "give the bare value: `echo` ends a secret with a line break (`echo -n` does not), and `docker run \
                    --env-file` keeps quotes";

/// How a broker's address may begin, in lower case.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// The value of a flag, if nothing stands around it that does not belong to it.
pub(super) fn plain<'a>(flag: &str, value: &'a str) -> Result<&'a str, Failure> {
    let what = if value.trim() != value {
        "begins or ends with a blank or a line break"
    } else if value.chars().any(char::is_control) {
        "contains a line break or another control character"
    } else if is_quoted(value) {
        "is in quotes"
    } else {
        return Ok(value);
    };
    Err(Failure::configuration(anyhow!("{flag} {what}"), HINT.to_owned()))
}

/// Checks the names of the topics.
pub(super) fn topics(topics: &PerMetric<String>) -> Result<(), Failure> {
    topics
        .iter()
        .try_for_each(|(metric, topic)| plain(&format!("--{}-topic", metric.name()), topic).map(drop))
}

/// Checks a list of brokers. (librdkafka ignores blanks around an address and addresses that are empty, and
/// says of the rest only that no broker answers.)
pub(super) fn brokers(value: &str) -> Result<(), Failure> {
    let wrong = |what: &str| {
        let hint =
            "give HOST:PORT,HOST:PORT,… without quotes; the protocol is --kafka-property security.protocol=…";
        Err(Failure::configuration(anyhow!("--bootstrap-servers {what}"), hint.to_owned()))
    };
    if is_quoted(value.trim()) {
        return wrong("is in quotes");
    }
    let given = || value.split(',').map(str::trim).filter(|broker| !broker.is_empty());
    if given().next().is_none() {
        return wrong("names no broker");
    }
    for broker in given() {
        if broker.contains(';') || broker.contains(char::is_whitespace) {
            return wrong("has `;` or a blank between two brokers");
        }
        let protocol = broker.split_once("://").map(|(protocol, _)| protocol.to_ascii_lowercase());
        if protocol.is_some_and(|protocol| !PROTOCOLS.contains(&protocol.as_str())) {
            return wrong("has an address with an unknown protocol");
        }
        // Behind a protocol, librdkafka ignores a path.
        let behind = broker.split_once("://").and_then(|(_, address)| address.split('/').next());
        let address = behind.unwrap_or(broker);
        if address.parse::<Ipv6Addr>().is_ok() {
            return wrong("has an IPv6 address without brackets");
        }
        if !has_port(address) {
            return wrong("has an address whose port is no number from 1 to 65535");
        }
    }
    Ok(())
}

/// Whether the port can be one. Without a port it is 9092.
fn has_port(address: &str) -> bool {
    let port = match address.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((_, "")) => return true,
        Some((_, rest)) => rest.strip_prefix(':'),
        None => match address.split_once(':') {
            None => return true,
            Some((_, port)) => Some(port),
        },
    };
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_some_and(|port| is_number(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_quoted(value: &str) -> bool {
    ['"', '\''].iter().any(|&quote| value.starts_with(quote) || value.ends_with(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_something_around_it_is_refused_and_not_shown() {
        let cases = [
            ("rfm-reader", None),
            ("a b'c", None),
            ("größe", None),
            ("secret\n", Some("ends with")),
            ("secret\r", Some("ends with")),
            (" secret", Some("begins")),
            ("sec\0ret", Some("control character")),
            ("\"secret\"", Some("quotes")),
            ("'secret'", Some("quotes")),
            ("\"secret", Some("quotes")),
        ];
        for (value, expected) in cases {
            let checked = plain("--group-id", value);
            assert_eq!(checked.is_err(), expected.is_some(), "{value:?}");
            let Err(failure) = checked else { continue };
            let said = failure.error.to_string();
            assert!(said.contains("--group-id") && said.contains(expected.unwrap()), "{said}");
            assert!(!said.contains("secret") && failure.exit_code == 2 && failure.hint.is_some());
        }
    }

    #[test]
    fn a_list_of_brokers_is_what_librdkafka_can_read() {
        let cases = [
            ("localhost:9092", true),
            ("a:1,b:2, c:3\n", true),
            ("SASL_SSL://a:1,b:2", true),
            ("[::1]:9092", true),
            ("\"a:1\"", false),
            ("a:1;b:2", false),
            ("a:1 b:2", false),
            ("kafka://a:1", false),
            ("a:1,http://b:2", false),
            ("localhost", true),
            ("[::1]", true),
            ("ssl://[::1]:65535", true),
            ("ssl://a:9092/", true),
            ("a:1,", true),
            ("a:1,,b:2", true),
            ("", false),
            (" , ,", false),
            ("a:", false),
            (":abc", false),
            ("a:0", false),
            ("a:+1", false),
            ("a:65536", false),
            ("a:9092/", false),
            ("a:1,127.0.0.1:99999", false),
            ("ssl://a:99999", false),
            ("::1", false),
            ("fe80::1:9092", false),
            ("1:2:3", false),
            ("[::1]9092", false),
            ("[::1]:", false),
            ("[::1", false),
        ];
        for (value, right) in cases {
            assert_eq!(brokers(value).is_ok(), right, "{value:?}");
        }
    }
}
