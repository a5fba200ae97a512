//! The connection string, with what it leaves open.

use std::time::Duration;

/// Put into the connection string where it does not say otherwise. A peer that is gone without a word is noticed
/// within half a minute; a host that does not answer costs 3 s before the next one of the string is tried.
const DEFAULTS: [(&str, &str); 7] = [
    ("client_encoding", "UTF8"),
    ("application_name", "rfm-reader"),
    ("connect_timeout", "3"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// The same, where the string names several hosts: a server that only reads (a standby that is not promoted yet) is no
/// server to commit to. **Not with a single host**: a pooler tells what it once heard from its server, and would be
/// taken for read-only long after that was promoted.
const OF_SEVERAL_HOSTS: (&str, &str) = ("target_session_attrs", "read-write");

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
    Duration::from_secs(2 * hosts(database_url) * seconds)
}

/// How many hosts the string names.
fn hosts(database_url: &str) -> u64 {
    let authority = database_url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let after_user = authority.rsplit('@').next().unwrap_or_default();
    let named = |part: &&str| part.starts_with("host=") || part.starts_with("hostaddr=");
    let parameters = database_url.split(['?', '&', ' ']).filter(named);
    let commas = parameters.chain([after_user]).map(|part| part.matches(',').count() as u64);
    1 + commas.max().unwrap_or_default()
}

/// The connection string with the defaults for what it leaves open.
pub(super) fn with_defaults(database_url: &str) -> String {
    let mut url = database_url.to_owned();
    let is_uri = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let of_several = (hosts(database_url) > 1).then_some(OF_SEVERAL_HOSTS);
    for (name, value) in DEFAULTS.into_iter().chain(of_several) {
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
            ("host=h,i,j dbname=d", 18),
            ("postgres://u:a,b@h/d?options=c,d", 6),
        ];
        for (url, seconds) in cases {
            assert_eq!(longest_connect(url), Duration::from_secs(seconds), "{url}");
        }
    }

    #[test]
    fn only_of_several_hosts_the_one_that_writes_is_looked_for() {
        for (url, expected) in
            [("postgres://h,i/d", true), ("postgres://u:a,b@h/d", false), ("host=h,i", true)]
        {
            assert_eq!(with_defaults(url).contains("target_session_attrs=read-write"), expected, "{url}");
        }
        assert!(!with_defaults("postgres://h,i/d?target_session_attrs=any").contains("read-write"));
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
