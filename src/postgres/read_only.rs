//! A read-only transaction in any Postgres, for a query whose text is a user's: what columns it has, and its
//! rows as a stream.
//!
//! Owns the transaction and its settings, and what an error of such a query means. Does not own which query
//! that is. Nothing here writes, so a standby will do.
//!
//! **Times are in UTC there, dates are ISO, and a float is written with all its digits**, whatever the role's
//! own settings: the same rows give the same texts on every server.

use super::connecting;
use super::libpq::{Complaint, Connection};
use super::sqlstate::SqlState;
use super::{Address, PostgresError};

/// A transaction whose statements see the same moment. A standby has no stricter one.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Settings beside those of every transaction, and what the server is. `DateStyle` keeps the order of day and
/// month, which the query may rely on where it reads dates. (libpq would write notices of the query to the
/// terminal.) With the interval, the server notices within 10 s that this program is gone, also while it adds
/// up (since PostgreSQL 14, and not on every system).
const SETTINGS: &str = "
    SELECT current_setting('server_version'), pg_is_in_recovery(),
        EXISTS (SELECT FROM pg_collation WHERE NOT collisdeterministic),
        set_config('client_encoding', 'UTF8', true),
        set_config('TimeZone', 'UTC', true),
        set_config('DateStyle', 'ISO', true),
        set_config('extra_float_digits', '1', true),
        set_config('client_min_messages', 'error', true),
        CASE WHEN current_setting('server_version_num')::int >= 140000 AND version() LIKE '%linux%'
            THEN set_config('client_connection_check_interval', '10s', true) END";

/// The names of types, from their oids and modifiers.
const TYPES: &str = "
    SELECT format_type(oid, modifier)
    FROM unnest($1::oid[], $2::int[]) WITH ORDINALITY AS types (oid, modifier, place) ORDER BY place";

/// How much of a server's sentence is shown, in characters.
const LONGEST: usize = 200;

/// A column of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The oid of its type. Those of built-in types are the same everywhere.
    pub oid: u32,
    /// Its type, as SQL writes it.
    pub type_name: String,
}

/// Why a query was not executed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No connection.
    #[error(transparent)]
    NoConnection(#[from] PostgresError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The query has parameters.
    #[error("it has a parameter, `$1`: write the value into the query")]
    HasParameters,
    /// The server refused it.
    #[error("{sqlstate}: {message}{place}")]
    Refused {
        /// The server's code.
        sqlstate: SqlState,
        /// What the server says, in its language.
        message: String,
        /// ` (line 1, column 8)`, or nothing.
        place: String,
    },
}

impl QueryError {
    /// `query` is what the server was given, if that is the user's own text.
    fn new(complaint: Complaint, query: Option<&str>) -> Self {
        let Complaint { sqlstate, message, position } = complaint;
        let message = short(&connecting::one_line(&message));
        let Some(sqlstate) = sqlstate else { return QueryError::Broken(message) };
        let message = if is_of_a_value(sqlstate) { without_value(&message) } else { message };
        let place = query.zip(position).map(|(query, position)| {
            let (line, column) = place(query, position);
            format!(" (line {line}, column {column})")
        });
        QueryError::Refused { sqlstate, message, place: place.unwrap_or_default() }
    }

    /// Whether a value was not what an operation takes, or too large for it.
    pub fn is_of_a_value(&self) -> bool {
        matches!(self, QueryError::Refused { sqlstate, .. } if is_of_a_value(*sqlstate))
    }

    /// Whether the server cannot say how to compare a text: it is made of texts of different collations.
    pub fn is_of_a_collation(&self) -> bool {
        matches!(self, QueryError::Refused { sqlstate, .. } if sqlstate.to_string() == "42P22")
    }

    /// What to do about it, if that is known.
    pub fn hint(&self, address: &Address) -> Option<String> {
        let hint = match self {
            QueryError::NoConnection(error) => match error.remedy() {
                super::Remedy::Repair(hint) | super::Remedy::Configure(hint) => return Some(hint),
                super::Remedy::Retry => return None,
            },
            QueryError::Refused { sqlstate, place, .. } => match sqlstate.to_string().as_str() {
                // What is no subquery, or more than one statement, has no place in the user's text.
                "42601" if place.is_empty() => "it must be one SELECT",
                "42P01" => "check the table's name, and its schema: options=-csearch_path%3DNAME in FLAG",
                "42501" => "allow it: GRANT SELECT ON … TO the role in FLAG",
                "25006" => "the query must only read",
                "40001" => "on a standby, raise max_standby_streaming_delay, or ask the primary",
                "53100" | "53200" | "54000" => "the server lacks disk or memory for it",
                "55P03" => "somebody has locked a table for longer than 10 s",
                _ => return None,
            },
            QueryError::Broken(_) | QueryError::HasParameters => return None,
        };
        Some(hint.replace("FLAG", address.flag()))
    }
}

/// Class 22 of the SQLSTATEs: "Data Exception".
fn is_of_a_value(sqlstate: SqlState) -> bool {
    sqlstate.to_string().starts_with("22")
}

/// A sentence up to the value that it quotes, which may be a customer's. (Languages have quotes of their own.)
fn without_value(message: &str) -> String {
    let quote = message.find(['"', '\'', '«', '»', '„', '“', '”', '‘', '’']);
    quote.map_or_else(|| message.to_owned(), |quote| format!("{}…", &message[..quote]))
}

/// A sentence without most of what it quotes.
fn short(message: &str) -> String {
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// Line and column of a character of a text, all counted from 1.
fn place(text: &str, position: usize) -> (usize, usize) {
    let before: String = text.chars().take(position.saturating_sub(1)).collect();
    let column = before.chars().rev().take_while(|&c| c != '\n').count();
    (before.matches('\n').count() + 1, column + 1)
}

/// The transaction. Dropped without [`end`](Self::end), it ends with its connection.
pub struct ReadOnly {
    /// The connection.
    connection: Connection,
    /// What the server says it is.
    server: String,
    /// Whether texts of different bytes may be equal there.
    has_lax_collations: bool,
}

impl ReadOnly {
    /// Connects, and begins.
    ///
    /// # Errors
    /// No connection, or the server is none for this.
    pub fn begin(address: &Address) -> Result<Self, QueryError> {
        let mut connection = connecting::connect_plainly(address)?;
        let mut row = |sql| -> Result<Vec<Option<String>>, QueryError> {
            let rows = connection.rows(sql, &[]).map_err(|complaint| QueryError::new(complaint, None))?;
            Ok(rows.into_iter().next().unwrap_or_default())
        };
        row(BEGIN)?;
        row(super::BEGIN)?;
        let mut facts = row(SETTINGS)?.into_iter().flatten();
        let version = facts.next().unwrap_or_default();
        let [is_standby, has_lax_collations] = [(); 2].map(|()| facts.next().as_deref() == Some("t"));
        let standby = if is_standby { ", a standby" } else { "" };
        Ok(Self { connection, server: format!("PostgreSQL {version}{standby}"), has_lax_collations })
    }

    /// `PostgreSQL 17.6, a standby`
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether texts of different bytes may be equal there: the database has a collation that is not
    /// deterministic.
    pub fn has_lax_collations(&self) -> bool {
        self.has_lax_collations
    }

    /// The columns of a query, which is not executed. Errors point into its text.
    ///
    /// # Errors
    /// The server does not accept it.
    pub fn describe(&mut self, query: &str) -> Result<Vec<Column>, QueryError> {
        let described = self.connection.describe(query);
        let described = described.map_err(|complaint| QueryError::new(complaint, Some(query)))?;
        if described.parameters > 0 {
            return Err(QueryError::HasParameters);
        }
        let list = |of: fn(&(String, u32, i32)) -> String| {
            format!("{{{}}}", described.columns.iter().map(of).collect::<Vec<_>>().join(","))
        };
        let (oids, modifiers) =
            (list(|(_, oid, _)| oid.to_string()), list(|(.., modifier)| modifier.to_string()));
        let types = self.connection.rows(TYPES, &[&oids, &modifiers]);
        let types = types.map_err(|complaint| QueryError::new(complaint, None))?.into_iter().flatten();
        let columns = described.columns.iter().zip(types);
        let columns = columns.map(|((name, oid, _), type_name)| Column {
            name: name.clone(),
            oid: *oid,
            type_name: type_name.unwrap_or_default(),
        });
        Ok(columns.collect())
    }

    /// Checks that a query can be executed, as far as the server says without executing it: the rights, too.
    ///
    /// # Errors
    /// It cannot.
    pub fn plan(&mut self, query: &str) -> Result<(), QueryError> {
        self.first(&format!("EXPLAIN {query}")).map(drop)
    }

    /// The first row of a query, as texts.
    ///
    /// # Errors
    /// The server does not execute it.
    pub fn first(&mut self, query: &str) -> Result<Vec<Option<String>>, QueryError> {
        let rows = self.connection.rows(query, &[]).map_err(|complaint| QueryError::new(complaint, None))?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// Executes a query of `N` columns, and gives each row to `take`, in Postgres's binary format. Nobody
    /// waits for the last row before the first one is taken, and none is kept. (COPY takes less of client and
    /// server than any other way.)
    ///
    /// # Errors
    /// The server does not execute it, or the connection breaks, after any number of rows.
    pub fn stream<const N: usize>(
        &mut self,
        query: &str,
        mut take: impl FnMut([Option<&[u8]>; N]),
    ) -> Result<(), QueryError> {
        let (mut is_first, mut is_whole, mut is_sound) = (true, false, true);
        let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        self.connection
            .copy_out(&copy, |portion| {
                let rows = if std::mem::take(&mut is_first) { after_head(portion) } else { Some(portion) };
                match (rows.and_then(fields), rows) {
                    (Some(row), _) => take(row),
                    (None, Some(END)) => is_whole = true,
                    (None, rows) => is_sound &= rows.is_some_and(<[u8]>::is_empty),
                }
            })
            .map_err(|complaint| QueryError::new(complaint, None))?;
        match is_whole && is_sound {
            true => Ok(()),
            false => Err(QueryError::Broken("what came is no COPY of these columns".to_owned())),
        }
    }

    /// Ends the transaction. A pooler can give its process to others then.
    pub fn end(mut self) {
        if let Err(Complaint { message, .. }) = self.connection.rows("COMMIT", &[]) {
            tracing::debug!("a read-only transaction did not end: {message}");
        }
    }
}

/// The end of a binary COPY, in the place of the count of a row's fields.
const END: &[u8] = &(-1_i16).to_be_bytes();

/// What follows the head of a binary COPY: 11 bytes of signature, 4 of flags, and an extension with its
/// length.
fn after_head(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"PGCOPY\n\xff\r\n\0")?.get(4..)?;
    let (length, rest) = rest.split_first_chunk()?;
    rest.get(usize::try_from(i32::from_be_bytes(*length)).ok()?..)
}

/// The fields of a row: their count, and of each its length (-1 is null) and its bytes.
fn fields<const N: usize>(row: &[u8]) -> Option<[Option<&[u8]>; N]> {
    let (count, mut rest) = row.split_first_chunk()?;
    if usize::try_from(i16::from_be_bytes(*count)).ok()? != N {
        return None;
    }
    let mut fields = [None; N];
    for field in &mut fields {
        let (length, after) = rest.split_first_chunk()?;
        rest = after;
        if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
            let (bytes, after) = rest.split_at_checked(length)?;
            (*field, rest) = (Some(bytes), after);
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_the_server_quotes_is_not_shown() {
        let said = |message: &str, sqlstate: &str| {
            let sqlstate = SqlState::new(sqlstate);
            let complaint = Complaint { sqlstate, message: message.to_owned(), position: None };
            QueryError::new(complaint, None).to_string()
        };
        assert_eq!(
            said("invalid input syntax for type integer: \"ann\"", "22P02"),
            "22P02: invalid input syntax for type integer: …"
        );
        assert_eq!(
            said("ungültige Eingabesyntax für Typ integer: »ann«", "22P02"),
            "22P02: ungültige Eingabesyntax für Typ integer: …"
        );
        assert_eq!(said("column \"x\" does not exist", "42703"), "42703: column \"x\" does not exist");
    }

    #[test]
    fn a_row_has_its_fields_and_a_null_is_none() {
        let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02ab";
        let row = b"\0\x03\0\0\0\x01x\xff\xff\xff\xff\0\0\0\0";
        let first = [&head[..], &row[..]].concat();
        assert_eq!(after_head(&first), Some(&row[..]));
        assert_eq!(fields::<3>(row), Some([Some(&b"x"[..]), None, Some(&b""[..])]));
        assert_eq!(fields::<2>(row), None, "another number of fields");
        assert_eq!(fields::<3>(&row[..row.len() - 2]), None, "cut");
        assert_eq!(fields::<3>(END), None);
        assert_eq!(after_head(b"PGCOPX"), None);
    }

    #[test]
    fn the_servers_position_becomes_a_line_and_a_column_of_characters() {
        let cases = [("SELEKT", 1, (1, 1)), ("SELECT é,\n  x FORM t", 13, (2, 3)), ("a\nb", 3, (2, 1))];
        for (text, position, expected) in cases {
            assert_eq!(place(text, position), expected, "{text}");
        }
    }

    #[test]
    fn an_error_without_a_code_is_a_broken_connection() {
        let complaint = |sqlstate: Option<&str>| Complaint {
            sqlstate: sqlstate.and_then(SqlState::new),
            message: "so\nit is".to_owned(),
            position: Some(2),
        };
        let broken = QueryError::new(complaint(None), Some("query"));
        assert_eq!(broken.to_string(), "the connection broke: so it is");
        let refused = QueryError::new(complaint(Some("42P01")), Some("query"));
        assert_eq!(refused.to_string(), "42P01: so it is (line 1, column 2)");
        let address = Address::to_read("postgres://h/d", "--orders-url", "rfm-producer").unwrap();
        assert!(refused.hint(&address).unwrap().contains("in --orders-url") && !refused.is_of_a_value());
        assert!(QueryError::new(complaint(Some("22012")), None).is_of_a_value());
    }
}
