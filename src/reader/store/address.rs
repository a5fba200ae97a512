//! The connection string, with what it leaves open.

/// Put into the connection string where it does not say otherwise. A peer that is gone without a word is noticed
/// within half a minute; a host that does not answer costs 3 s before the next one of the string is tried. A server
/// that only reads (a standby that is not promoted yet) is no server to commit to.
const DEFAULTS: [(&str, &str); 7] = [
    ("application_name", "rfm-reader"),
    ("connect_timeout", "3"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
    ("target_session_attrs", "read-write"),
];

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
    fn connection_defaults_do_not_override() {
        let url = with_defaults("postgres://u@h/d?connect_timeout=7");
        assert!(url.starts_with("postgres://u@h/d?connect_timeout=7&application_name=rfm-reader&"), "{url}");
        assert_eq!(url.matches("connect_timeout").count(), 1);
        assert!(with_defaults("host=h dbname=d").starts_with("host=h dbname=d application_name=rfm-reader "));
        assert!(with_defaults("postgres://h/d").starts_with("postgres://h/d?application_name="));
    }
}
