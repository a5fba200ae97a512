//! SQLSTATE: what a server's answer means, in any language.
//!
//! Pure. Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes".

use std::fmt;

/// A code of five characters; the first two are its class.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SqlState([u8; 5]);

/// `28P01`
impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| write!(f, "{}", char::from(byte)))
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is to be done where a server refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Try again: it starts, it is full, it shuts down.
    Later,
    /// Nothing comes by itself: a person has to do what the text says. `FLAG` stands for the flag that gave
    /// the address.
    Never(&'static str),
}

impl SqlState {
    /// A role has no free connection, or the server has none.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// Said by a pooler: PostgreSQL itself has no reason to.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// The transaction or the server takes no changes.
    pub const READ_ONLY: Self = Self(*b"25006");

    /// A code as the server sends it.
    pub fn new(code: &str) -> Option<Self> {
        let code: [u8; 5] = code.as_bytes().try_into().ok()?;
        code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()).then_some(Self(code))
    }

    /// The first code in a message that libpq writes in full: `FATAL:  3D000: database …`. (Of several
    /// attempts, over hosts or with and without TLS, the first that was answered has the reason.) The severity
    /// is a word of the server's language.
    pub fn in_message(message: &str) -> Option<Self> {
        message.lines().find_map(|line| {
            line.match_indices(":  ").find_map(|(place, _)| {
                let (code, rest) = line.get(place + 3..)?.split_at_checked(5)?;
                if rest.starts_with(": ") { Self::new(code) } else { None }
            })
        })
    }

    fn class(&self) -> &[u8] {
        &self.0[..2]
    }

    /// What it means that a connection was refused with this code.
    pub fn admission(self) -> Admission {
        match (&self.0, self.class()) {
            (b"28P01", _) => Admission::Never("check user and password in FLAG"),
            (_, b"28") => Admission::Never(
                "the server does not admit this user from this host: check the user in FLAG, that the role exists and \
                 has LOGIN, and pg_hba.conf of the server",
            ),
            (_, b"3D") => Admission::Never("check the database in FLAG, or create it: createdb NAME"),
            (b"42501", _) => Admission::Never("allow it: GRANT CONNECT ON DATABASE … TO …"),
            // Of a setting in `options`, or of a role that others are set to.
            (_, b"22" | b"42") => Admission::Never(
                "the server does not accept a setting of the connection: check `options` in FLAG",
            ),
            _ => Admission::Later,
        }
    }

    /// Whether a statement that failed with this code is itself to blame, and not the state of the server or
    /// what others do there.
    pub fn blames_statement(self) -> bool {
        match self.class() {
            // No connection, transaction rolled back (deadlock, serialization), resources (disk, memory),
            // object in use (a lock), operator intervention (cancelled, shut down), system and internal errors.
            b"08" | b"40" | b"53" | b"55" | b"57" | b"58" | b"XX" => false,
            // The server only reads.
            b"25" => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_in_any_language() {
        let cases = [
            ("FATAL:  3D000: database \"shop\" does not exist\nLOCATION:  InitPostgres", Some("3D000")),
            (
                "connection to server at \"::1\", port 5432 failed: SCHWERWIEGEND:  28P01: Passwort …",
                Some("28P01"),
            ),
            ("connection failed: Connection refused\nconnection failed: 致命错误:  57P03: …", Some("57P03")),
            ("FATAL:  53300: sorry\nFATAL:  28000: no entry", Some("53300")),
            ("FATAL:  database \"a: 28P01: b\" does not exist", None),
            ("could not translate host name \"db\" to address: Name or service not known", None),
            ("", None),
        ];
        for (message, code) in cases {
            assert_eq!(
                SqlState::in_message(message).map(|code| code.to_string()).as_deref(),
                code,
                "{message}"
            );
        }
    }

    #[test]
    fn a_connection_is_refused_for_good_only_where_no_retry_can_help() {
        let cases = [
            ("28P01", true),
            ("28000", true),
            ("3D000", true),
            ("42501", true),
            ("42704", true),
            ("22023", true),
            ("57P03", false),
            ("57P01", false),
            ("53300", false),
            ("55000", false),
            ("08P01", false),
            ("58000", false),
        ];
        for (code, refused) in cases {
            let admission = SqlState::new(code).unwrap().admission();
            assert_eq!(matches!(admission, Admission::Never(_)), refused, "{code}");
        }
    }

    #[test]
    fn a_statement_is_to_blame_only_if_nothing_else_was_in_its_way() {
        let cases = [
            ("22P05", true),
            ("23514", true),
            ("42P01", true),
            ("P0001", true),
            ("55P03", false),
            ("57014", false),
            ("40P01", false),
            ("53100", false),
            ("25006", false),
        ];
        for (code, blamed) in cases {
            assert_eq!(SqlState::new(code).unwrap().blames_statement(), blamed, "{code}");
        }
    }
}
