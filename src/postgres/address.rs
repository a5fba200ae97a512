//! Where a database is: the connection string, with defaults for what it leaves open.
//!
//! Owns what is checked before the first connection. libpq takes the string apart (`libpq`); here nobody
//! looks for a character in it, except to name a parameter that libpq does not know.

use super::PostgresError;
use super::libpq::{self, Parameters};
use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

/// How long a host of the string may take to answer.
const CONNECT_TIMEOUT: u64 = 3;

/// Used where neither the string nor the environment nor a service says otherwise. A peer that vanishes
/// without a word is noticed within half a minute; a host that does not answer costs 3 s before the next one
/// of the string is tried.
const DEFAULTS: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("connect_timeout", "3"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// Used where the string names several hosts: a server that only reads (a standby that is not promoted yet)
/// cannot take a commit. **Not with a single host**: a pooler remembers what its server said once, and would
/// be taken for read-only long after that server was promoted.
const OF_SEVERAL_HOSTS: (&str, &str) = ("target_session_attrs", "read-write");

/// Parameters that name a file which must be there.
const FILES: [&str; 4] = ["sslrootcert", "sslcert", "sslkey", "sslcrl"];

/// Parameters that are whole numbers.
const INTEGERS: [&str; 6] = [
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// Values of `target_session_attrs` with which nothing can be stored.
const ONLY_READ: [&str; 3] = ["read-only", "standby", "prefer-standby"];

/// Values of `sslmode` with which libpq does not go on without TLS.
const WITH_TLS: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// Where a database is, and how its user named it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// What the connection string gives, and the defaults for what nobody gives. Holds a password.
    parameters: Parameters,
    /// Where that leads, as `host:port/database`.
    shown: String,
    /// How long connecting may take.
    longest_connect: Duration,
    /// Whether a connection must have TLS.
    needs_tls: bool,
    /// The flag that gave it, for error messages.
    flag: &'static str,
}

/// Without the parameters, which hold a password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters: _, shown, longest_connect: _, needs_tls: _, flag } = self;
        f.debug_struct("Address").field("shown", shown).field("flag", flag).finish_non_exhaustive()
    }
}

impl Address {
    /// The address `url` (as libpq reads it), which the flag `flag` gave to the program `application`.
    /// Connects to nobody.
    ///
    /// # Errors
    /// [`PostgresError::BadUrl`], [`PostgresError::RawPassword`].
    pub fn new(url: &str, flag: &'static str, application: &'static str) -> Result<Self, PostgresError> {
        Self::parse(url, flag, application, true)
    }

    /// The address of a database that is only read: any server will do.
    ///
    /// # Errors
    /// As above.
    pub fn to_read(url: &str, flag: &'static str, application: &'static str) -> Result<Self, PostgresError> {
        Self::parse(url, flag, application, false)
    }

    fn parse(
        url: &str,
        flag: &'static str,
        application: &'static str,
        is_written: bool,
    ) -> Result<Self, PostgresError> {
        let mut parameters = libpq::parse(url).map_err(|_| PostgresError::BadUrl {
            flag,
            what: unknown_parameter(url).map_or_else(
                // What libpq says here may quote a password.
                || "libpq cannot parse it".to_owned(),
                |name| format!("libpq knows no parameter `{name}`"),
            ),
        })?;
        if is_password_cut(url, &parameters) {
            return Err(PostgresError::RawPassword { flag });
        }
        let unusable = |what| PostgresError::BadUrl { flag, what };
        let effective = libpq::effective(&string(&parameters)).map_err(unusable)?;
        let hosts =
            1 + ["host", "hostaddr"].map(|name| commas(&effective, name)).into_iter().max().unwrap_or(0);
        check_values(&effective, hosts, is_written)
            .and_then(|()| check_files(&effective))
            .map_err(unusable)?;
        let of_several =
            (is_written && hosts > 1 && effective.get(OF_SEVERAL_HOSTS.0).is_none_or(|attrs| attrs == "any"))
                .then_some(OF_SEVERAL_HOSTS)
                .filter(|(name, _)| !parameters.contains_key(*name));
        let missing = DEFAULTS.into_iter().filter(|(name, _)| !effective.contains_key(*name));
        let defaults: Vec<_> =
            missing.chain(of_several).chain([("fallback_application_name", application)]).collect();
        for (name, value) in defaults {
            parameters.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let shown = shown(&effective);
        let needs_tls = effective.get("sslmode").is_some_and(|mode| WITH_TLS.contains(&mode.as_str()));
        let longest_connect = longest_connect(&effective, hosts);
        Ok(Self { parameters, shown, longest_connect, needs_tls, flag })
    }

    /// How long connecting may take: each host of the string has `connect_timeout`, and a name may have two
    /// addresses.
    pub fn longest_connect(&self) -> Duration {
        self.longest_connect
    }

    /// The flag that gave it.
    pub(super) fn flag(&self) -> &'static str {
        self.flag
    }

    /// The connection string for libpq.
    pub(super) fn string(&self) -> String {
        string(&self.parameters)
    }

    /// Whether a connection must have TLS.
    pub(super) fn needs_tls(&self) -> bool {
        self.needs_tls
    }

    /// A connection string for each host of the string, with some parameters replaced. (Beside
    /// `PQconnectdb`, libpq does not turn to the next host if one is mute.)
    pub(super) fn string_per_host(&self, changes: &[(&str, &str)]) -> Vec<String> {
        let mut parameters = self.parameters.clone();
        parameters.extend(changes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let lists = ["host", "hostaddr", "port"];
        let count = lists.iter().map(|name| 1 + commas(&parameters, name)).max().unwrap_or(1);
        let each = (0..count as usize).map(|place| {
            let mut one = parameters.clone();
            for (name, list) in lists.iter().filter_map(|&name| Some((name, parameters.get(name)?))) {
                // A single port is that of all hosts.
                let value = list.split(',').nth(place).unwrap_or(list);
                one.insert(name.to_owned(), value.to_owned());
            }
            string(&one)
        });
        each.collect()
    }
}

/// `db.example:5432/rfm`; of several hosts all.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn string(parameters: &Parameters) -> String {
    libpq::string(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn shown(effective: &Parameters) -> String {
    let of = |name: &str| effective.get(name).filter(|value| !value.is_empty()).map(String::as_str);
    // An address in the environment wins over the name in the URL without a word.
    let host = match (of("host"), of("hostaddr")) {
        (Some(name), Some(address)) => format!("{name} ({address})"),
        (Some(host), None) | (None, Some(host)) => host.to_owned(),
        (None, None) => "local socket".to_owned(),
    };
    let port = of("port").unwrap_or("5432");
    let database = of("dbname").or_else(|| of("user")).unwrap_or_default();
    format!("{host}:{port}/{database}")
}

fn longest_connect(effective: &Parameters, hosts: u64) -> Duration {
    const WITHOUT_LIMIT: u64 = 60;
    let seconds = match effective.get("connect_timeout").and_then(|seconds| seconds.trim().parse().ok()) {
        Some(0) => WITHOUT_LIMIT,
        Some(seconds) => seconds,
        None => CONNECT_TIMEOUT,
    };
    Duration::from_secs(2 * hosts * seconds)
}

/// Checks what libpq looks at only when it connects.
fn check_values(effective: &Parameters, hosts: u64, is_written: bool) -> Result<(), String> {
    let of = |name: &str| effective.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    for name in INTEGERS {
        if of(name).is_some_and(|value| value.parse::<i32>().is_err()) {
            return Err(format!("`{name}` is not a whole number without a unit"));
        }
    }
    // The value may be a part of a password.
    let is_port = |port: &str| port.is_empty() || port.parse().is_ok_and(|port: u16| port > 0);
    let ports = effective.get("port").map_or("", String::as_str);
    if !ports.split(',').map(str::trim).all(is_port) {
        return Err("the port is not a number from 1 to 65535".to_owned());
    }
    if of("hostaddr").is_some_and(|list| !list.split(',').all(|one| one.parse::<IpAddr>().is_ok())) {
        return Err("`hostaddr` is not an IP address".to_owned());
    }
    if is_written && of("target_session_attrs").is_some_and(|attributes| ONLY_READ.contains(&attributes)) {
        return Err("`target_session_attrs` asks for a server that only reads".to_owned());
    }
    let ports = 1 + commas(effective, "port");
    if ports > 1 && ports != hosts {
        return Err(format!("it has {hosts} hosts and {ports} ports"));
    }
    Ok(())
}

/// How many more values than one a parameter has.
fn commas(parameters: &Parameters, name: &str) -> u64 {
    parameters.get(name).map_or(0, |value| value.matches(',').count() as u64)
}

/// Checks the files of TLS that are named. libpq looks for them with every connection, when it is too late to
/// say that a flag is wrong.
fn check_files(effective: &Parameters) -> Result<(), String> {
    for name in FILES {
        let Some(path) = effective.get(name).filter(|path| !path.is_empty()) else { continue };
        // The certificates of the operating system; a key in a security token (`engine:name`).
        if name == "sslrootcert" && path == "system" || name == "sslkey" && path.contains(':') {
            continue;
        }
        File::open(path).map_err(|error| format!("`{name}`: cannot read the file `{path}`: {error}"))?;
    }
    Ok(())
}

/// Whether a raw `/` or `@` in the password of a URL ends it early. libpq then takes its end for the name of a
/// host or a database, and shows that in its errors.
fn is_password_cut(url: &str, parameters: &Parameters) -> bool {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    // What was percent-encoded does not stand in the URL as it is.
    let is_raw = |name: &str| {
        parameters.get(name).is_some_and(|value| value.contains('@') && url.contains(value.as_str()))
    };
    is_url && ["host", "port", "dbname"].into_iter().any(is_raw)
}

/// The first parameter of a URL that libpq does not know, of those before the password.
fn unknown_parameter(url: &str) -> Option<&str> {
    let (before, parameters) = url.split_once('?')?;
    // Else the `?` stands in a password.
    if !before.contains('@') && parameters.contains('@') && before.matches(':').count() > 1 {
        return None;
    }
    let known = libpq::names();
    let names = parameters.split('&').filter_map(|part| Some(part.split_once('=')?.0));
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    names
        .take_while(|name| *name != "password")
        .filter(is_name)
        .find(|name| !known.contains(*name) && *name != "ssl")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str) -> Result<Address, PostgresError> {
        Address::new(url, "--database-url", "rfm-reader")
    }

    fn address(url: &str) -> Address {
        new(url).unwrap()
    }

    #[test]
    fn connecting_may_take_its_time_for_each_host() {
        let cases = [
            ("postgres://h/d", 6),
            ("postgres://h,i:5433/d?connect_timeout=20&application_name=1", 80),
            ("host=h connect_timeout=0", 120),
            ("host=h,i,j dbname=d", 18),
            ("postgres://u:a,b@h/d?options=c,d", 6),
        ];
        for (url, seconds) in cases {
            assert_eq!(address(url).longest_connect(), Duration::from_secs(seconds), "{url}");
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_writes_is_looked_for_and_a_single_one_is_taken_as_it_is() {
        let cases = [
            ("postgres://h,i/d", Some("read-write")),
            ("postgres://u:a,b@h/d", None),
            ("host=h,i", Some("read-write")),
            ("postgres://h,i/d?target_session_attrs=any", Some("any")),
            ("postgres://h,i/d?target_session_attrs=primary", Some("primary")),
        ];
        for (url, expected) in cases {
            let attributes = address(url).parameters.get("target_session_attrs").cloned();
            assert_eq!(attributes.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn what_is_only_read_may_be_any_server() {
        let of = |url| Address::to_read(url, "--orders-url", "rfm-producer").unwrap();
        assert_eq!(of("postgres://h,i/d").parameters.get("target_session_attrs"), None);
        let standby = of("postgres://h,i/d?target_session_attrs=prefer-standby");
        assert_eq!(standby.parameters["target_session_attrs"], "prefer-standby");
    }

    #[test]
    fn connection_defaults_do_not_override() {
        let parameters = address("postgres://u@h/d?connect_timeout=7&application_name=shop").parameters;
        let of = |name: &str| parameters[name].as_str();
        assert_eq!((of("connect_timeout"), of("client_encoding")), ("7", "UTF8"));
        assert_eq!((of("application_name"), of("fallback_application_name")), ("shop", "rfm-reader"));
        assert_eq!(address("host=h dbname=d").parameters["connect_timeout"], "3");
    }

    #[test]
    fn each_host_has_a_string_of_its_own() {
        let address = address("postgres://u@h,i:7/d?application_name=a,b");
        let each = address.string_per_host(&[("user", "x,y")]);
        let parsed: Vec<Parameters> = each.iter().map(|string| libpq::parse(string).unwrap()).collect();
        assert_eq!(parsed.len(), 2);
        for (one, host) in parsed.iter().zip(["h", "i"]) {
            assert_eq!((one["host"].as_str(), one["user"].as_str()), (host, "x,y"));
            assert_eq!((one["application_name"].as_str(), one["dbname"].as_str()), ("a,b", "d"));
        }
        assert_eq!((parsed[0].get("port").map(String::as_str), parsed[1]["port"].as_str()), (Some(""), "7"));
    }

    #[test]
    fn an_address_is_shown_as_host_port_and_database() {
        let cases = [
            ("postgres://u:secret@h/d", "h:5432/d"),
            ("postgres://u:secret@h:7,i:8/d", "h,i:7,8/d"),
            ("postgres://u:secret@/d?host=/cloudsql/p:eu:i", "/cloudsql/p:eu:i:5432/d"),
            ("postgres://%2Frun%2Fpg/d", "/run/pg:5432/d"),
            ("hostaddr=10.0.0.1 user=u password=secret", "10.0.0.1:5432/u"),
            ("host=h hostaddr=10.0.0.1 user=u password=secret", "h (10.0.0.1):5432/u"),
        ];
        for (url, shown) in cases {
            let address = address(url);
            assert_eq!(address.to_string(), shown, "{url}");
            assert!(!format!("{address:?}").contains("secret"));
        }
    }

    #[test]
    fn a_password_with_a_character_that_ends_it_is_refused_and_not_shown() {
        let cases = [
            ("postgres://rfm:sec/ret@h/d", true),
            ("postgres://rfm:123/ret@h/d", true),
            ("postgres://rfm:sec@ret@h/d", true),
            ("postgres://rfm:s@c/ret@h/d", true),
            ("postgres://rfm:s@c:ret@h/d", true),
            ("postgres://rfm:sec/ret@h/d?application_name=a@b", true),
            // As `psql` reads them, these end at the `@`.
            ("postgres://rfm:sec?ret@h/d", false),
            ("postgres://rfm:sec#ret@h/d", false),
            ("postgres://rfm:sec:ret@h/d", false),
            ("postgres://rfm:sec%2Fret%40@h/d", false),
            ("postgres://h/d?options=a@b", false),
            ("postgres://rfm:secret@h:5432/rfm?application_name=a@b", false),
            ("postgres://h:5432,i:5433/rfm?user=rfm&password=s@x", false),
            ("postgres://[::1]:5432/rfm?password=s@x", false),
            ("postgres:///rfm?host=/run&password=s@x", false),
            ("postgres://rfm:x@%40abstract/rfm", false),
            ("host=h password=sec/ret@", false),
        ];
        for (url, refused) in cases {
            let address = new(url);
            assert_eq!(matches!(address, Err(PostgresError::RawPassword { .. })), refused, "{url}");
            assert!(!address.is_err_and(|error| error.to_string().contains("ret")), "{url}");
        }
    }

    #[test]
    fn a_string_that_libpq_cannot_read_is_not_quoted_but_an_unknown_parameter_is_named() {
        let cases = [
            ("postgresq://rfm:secret@localhost/db", "libpq cannot parse it"),
            ("postgres://rfm:sec%zzret@h/d", "libpq cannot parse it"),
            ("host=h secret", "libpq cannot parse it"),
            ("postgres://rfm:secret@h/d?schema=public", "`schema`"),
            ("postgres://rfm:secret@h/d?sslmode=require&pgbouncer=true", "`pgbouncer`"),
            ("postgres://rfm:x?secret=1@h/d?sslmode=disable&schema=a", "libpq cannot parse it"),
            ("postgres:///d?schema=a&password=se?cret=1", "`schema`"),
            ("postgres:///d?user=a&password=se?cret=1&schema=x", "libpq cannot parse it"),
            ("postgres://h/d?connect_timeout=3s", "`connect_timeout` is not a whole number"),
            ("postgres://h/d?keepalives_idle=10s", "`keepalives_idle`"),
            ("postgres://h:99999/d", "the port is not a number"),
            ("postgres://rfm:secret/d", "the port is not a number"),
            ("postgres://rfm:secret@h:PORT/d", "the port is not a number"),
            ("host=h port=1,2", "it has 1 hosts and 2 ports"),
            ("hostaddr=abc", "`hostaddr`"),
            ("postgres://h,i/d?target_session_attrs=standby", "only reads"),
            ("postgres://rfm:secret@h/d?sslmode=no-verify", "no-verify"),
            ("postgres://rfm:secret@h/d?sslrootcert=/no/such/ca.pem", "/no/such/ca.pem"),
            ("postgres://rfm:secret@h/d?service=nowhere", "nowhere"),
        ];
        for (url, expected) in cases {
            let Err(PostgresError::BadUrl { what, .. }) = new(url) else { panic!("{url}") };
            assert!(what.contains(expected) && !what.contains("secret"), "{url}: {what}");
        }
    }
}
