//! The connection string, with what it leaves open.

use std::time::Duration;

/// Put into the connection string where it does not say otherwise. A peer that is gone without a word is noticed
/// within half a minute; a host that does not answer costs 3 s before the next one of the string is tried. A server
/// that only reads (a standby that is not promoted yet) is no server to commit to.
const DEFAULTS: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("application_name", "rfm-reader"),
    ("connect_timeout", "3"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
    ("target_session_attrs", "read-write"),
];

/// How long connecting may take: each host of the string has `connect_timeout`, and a name may have two addresses.
pub fn longest_connect(database_url: &str) -> Duration {
    const WHEN_FOR_EVER: u64 = 60;
    let given = database_url.split_once("connect_timeout=").map(|(_, rest)| rest);
    let digits = given.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    let seconds = match digits.and_then(|digits| digits.parse().ok()) {
        Some(0) => WHEN_FOR_EVER,
        Some(seconds) => seconds,
        None => 3,
    };
    let hosts = 1 + database_url.matches(',').count() as u64;
    Duration::from_secs(2 * hosts * seconds)
}

/// The connection string with the defaults for what it leaves open.
pub(super) fn with_defaults(database_url: &str) -> String {
    let mut url = database_url.to_owned();
    let is_uri = url.starts_with("postgres://") || url.starts_with("postgresql://");
    for (name, value) in DEFAULTS {
        if url.contains(&format!("{name}=")) {
            continue;
        }
        let separator = match (is_uri, url.contains('?')) {
            (true, false) => '?',
            (true, true) => '&',
            (false, _) => ' ',
        };
        url.push_str(&format!("{separator}{name}={value}"));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_may_take_its_time_for_each_host() {
        let cases = [
            ("postgres://h/d", 6),
            ("postgres://h,i:5433/d?connect_timeout=20&x=1", 80),
            ("host=h connect_timeout=0", 120),
        ];
        for (url, seconds) in cases {
            assert_eq!(longest_connect(url), Duration::from_secs(seconds), "{url}");
        }
    }

    #[test]
    fn connection_defaults_do_not_override() {
        let url = with_defaults("postgres://u@h/d?connect_timeout=7");
        assert!(
            url.starts_with(
                "postgres://u@h/d?connect_timeout=7&client_encoding=UTF8&application_name=rfm-reader&"
            ),
            "{url}"
        );
        assert_eq!(url.matches("connect_timeout").count(), 1);
        assert!(
            with_defaults("host=h dbname=d")
                .starts_with("host=h dbname=d client_encoding=UTF8 application_name=rfm-reader ")
        );
        assert!(with_defaults("postgres://h/d").starts_with("postgres://h/d?client_encoding="));
    }
}
