//! libpq itself, where Diesel hides what it knows: connection strings, and the SQLSTATE of a refusal.
//!
//! Owns the calls of libpq. Does not own what an answer means (`sqlstate`, `connecting`).
//!
//! **A connection string is taken apart here and nowhere else**, by libpq's own parser, so that this program
//! reads it as `psql` does.

#![expect(unsafe_code, reason = "pq-sys offers nothing else")]

mod connection;
mod query;

pub(super) use connection::{Connection, Refused};
pub(super) use query::Complaint;

use crate::c_text::c_text;
use pq_sys::{
    ConnStatusType, PGPing, PQconndefaults, PQconninfo, PQconninfoFree, PQconninfoOption, PQconninfoParse,
    PQfreemem, PQping, PQstatus,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_char};
use std::ptr;

/// The parameters of a connection, by libpq's names for them.
pub(super) type Parameters = BTreeMap<String, String>;

/// What a connection string gives, and nothing of the environment or of a service file.
///
/// # Errors
/// libpq's own sentence. **It may quote a password.**
pub(super) fn parse(string: &str) -> Result<Parameters, String> {
    let string = CString::new(string).map_err(|_| "it contains a zero byte".to_owned())?;
    let mut said: *mut c_char = ptr::null_mut();
    // SAFETY: the string ends in zero. The options, if there are any, are freed once by `take`; the sentence,
    // which libpq allocates, once below.
    unsafe {
        let options = PQconninfoParse(string.as_ptr(), &raw mut said);
        if !options.is_null() {
            return Ok(take(options));
        }
        let sentence = c_text(said);
        PQfreemem(said.cast());
        Err(sentence.trim_end().to_owned())
    }
}

/// The names of all parameters that this libpq knows.
pub(super) fn names() -> BTreeSet<String> {
    // SAFETY: the list, if there is one, has an end and is freed once.
    unsafe {
        let options = PQconndefaults();
        let names = each(options).map(|option| c_text(option.keyword)).collect();
        PQconninfoFree(options);
        names
    }
}

/// The parameters with which libpq would connect: those of the string, of the environment, and of the service
/// that either names. Connects to nobody.
///
/// # Errors
/// libpq's own sentence, if no connection could be tried with them.
pub(super) fn effective(string: &str) -> Result<Parameters, String> {
    // No host has this port, so libpq stops before it looks up a name.
    let mut parameters = tried(&format!("{string} port=0"))?;
    parameters.remove("port");
    // Nobody listens there, so libpq stops before it looks up a name here, too. (It fails with several ports.)
    let with_port = tried(&format!("{string} host=/nonexistent hostaddr=''")).or_else(|_| parse(string));
    parameters.extend(with_port.ok().and_then(|mut found| found.remove_entry("port")));
    Ok(parameters)
}

/// The parameters of a connection that cannot be made.
fn tried(string: &str) -> Result<Parameters, String> {
    let string = CString::new(string).map_err(|_| "it contains a zero byte".to_owned())?;
    // SAFETY: the string ends in zero. `started` is a connection that is alive until its end.
    unsafe {
        let unusable = PQping(string.as_ptr()) == PGPing::PQPING_NO_ATTEMPT;
        let started = Connection::start(&string);
        match (unusable, started.pointer()) {
            (false, Some(connection)) if PQstatus(connection) == ConnStatusType::CONNECTION_BAD => {
                Ok(take(PQconninfo(connection)))
            }
            _ => Err(started.message()),
        }
    }
}

/// A connection string of these parameters, in libpq's notation `name='value'`.
pub(super) fn string<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let quoted = parameters.into_iter().map(|(name, value)| {
        let value = value.replace('\\', r"\\").replace('\'', r"\'");
        format!("{name}='{value}'")
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The options that have a value. Frees the list.
///
/// # Safety
/// `options` came from libpq and is not freed yet.
unsafe fn take(options: *mut PQconninfoOption) -> Parameters {
    // SAFETY: by the contract of this function; everything that is kept is copied.
    unsafe {
        let given = each(options).filter(|option| !option.val.is_null());
        let parameters = given.map(|option| (c_text(option.keyword), c_text(option.val))).collect();
        PQconninfoFree(options);
        parameters
    }
}

/// The options of a list, which ends with one that has no name.
///
/// # Safety
/// `options` is null or came from libpq, and is not freed while the iterator is used.
unsafe fn each(options: *const PQconninfoOption) -> impl Iterator<Item = PQconninfoOption> {
    // SAFETY: by the contract of this function; nothing behind the end is read.
    let at = move |place| unsafe { *options.add(place) };
    let count = if options.is_null() { 0 } else { usize::MAX };
    (0..count).map(at).take_while(|option| !option.keyword.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_parameters_is_read_back_as_it_was() {
        let given = [("host", "a'b"), ("password", r" p\w '"), ("dbname", "")];
        let parsed = parse(&string(given)).unwrap();
        let expected: Parameters = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn names_are_libpqs() {
        let names = names();
        assert!(
            ["host", "options", "target_session_attrs", "sslmode"].iter().all(|&name| names.contains(name))
        );
        assert!(!names.contains("schema"));
    }

    #[test]
    fn what_libpq_would_connect_with_is_found_without_a_connection() {
        let found = effective(&string([("host", "nowhere.invalid"), ("user", "rfm")])).unwrap();
        assert_eq!((found["host"].as_str(), found["user"].as_str()), ("nowhere.invalid", "rfm"));
        let unusable = effective(&string([("sslmode", "no-verify")])).unwrap_err();
        assert!(unusable.contains("no-verify"), "{unusable}");
        assert!(effective(&string([("service", "no such service")])).is_err());
    }
}
