use super::*;
use clap::CommandFactory;
use std::collections::BTreeSet;

fn reader(flags: &[&str]) -> Result<reader::Options, Failure> {
    Reader::try_parse_from([&["reader"], flags].concat()).unwrap().flags.options(&EnvFile::default())
}

#[test]
fn the_flags_are_well_formed() {
    Producer::command().debug_assert();
    Reader::command().debug_assert();
}

#[test]
fn every_variable_of_the_programs_stands_in_the_example_and_no_other() {
    let commands = [Producer::command(), Reader::command()];
    let of_flags: BTreeSet<String> = commands
        .iter()
        .flat_map(|command| command.get_arguments())
        .filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()))
        .chain(["RUST_LOG".to_owned()])
        .collect();
    let example = include_str!("../../.env.example");
    let of_example: BTreeSet<String> = example
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert_eq!(of_flags, of_example);
}

#[test]
fn the_defaults_of_the_example_are_those_of_the_flags() {
    let example = include_str!("../../.env.example");
    for command in [Producer::command(), Reader::command()] {
        for arg in command.get_arguments() {
            let (Some(name), [default]) = (arg.get_env(), arg.get_default_values()) else { continue };
            let line = format!("{}={}", name.display(), default.display());
            let written = example.lines().any(|l| l.trim_start_matches(['#', ' ']) == line);
            assert!(written, "`{line}` does not stand in .env.example");
        }
    }
}

#[test]
fn a_missing_database_is_a_configuration_error_with_a_hint() {
    if std::env::var_os("DATABASE_URL").is_some() {
        return;
    }
    let failure = reader(&[]).unwrap_err();
    assert_eq!(failure.exit_code, 2);
    assert!(failure.hint.unwrap().contains("DATABASE_URL"));
}

#[test]
fn what_is_wrong_with_a_flag_is_a_configuration_error() {
    let cases: [(&[&str], &str); 10] = [
        (&["--kafka-property", "isolation.level=read_uncommitted"], "reserved"),
        (&["--kafka-property", "topic.auto.offset.reset=earliest"], "sets `auto.offset.reset`"),
        (&["--kafka-property", "no.such.property=1"], "`no.such.property`"),
        (&["--kafka-property", "fetch.wait.max.ms=soon"], "`fetch.wait.max.ms`"),
        // librdkafka accepts it alone, but not beside the session timeout.
        (&["--kafka-property", "max.poll.interval.ms=5000"], "session.timeout.ms"),
        (&["--kafka-property", "nonsense"], "--kafka-property is wrong: property 1 is not NAME=VALUE"),
        (&["--recency-topic", "a", "--monetary-topic", "a"], "same name"),
        (&["--segment-map", "/no/such/file"], "not usable"),
        (&["--edges", "/no/such/file"], "--edges `/no/such/file` is not usable: cannot read it"),
        (&["--edges", "/no/such/file", "--edges-from", "7"], "both --edges and --edges-from"),
    ];
    for (flags, message) in cases {
        let failure = reader(&[&["--database-url", "postgres:///x"], flags].concat()).unwrap_err();
        assert_eq!(failure.exit_code, 2, "{flags:?}");
        assert!(format!("{:#}", failure.error).contains(message), "{:#}", failure.error);
    }
}

#[test]
fn a_poll_interval_below_librdkafkas_session_timeout_fits_every_client() {
    let flags = ["--database-url", "postgres:///x", "--kafka-property", "max.poll.interval.ms=20000"];
    assert!(reader(&flags).is_ok());
}

#[test]
fn a_password_that_would_be_taken_for_a_host_is_refused_and_not_shown() {
    for url in ["postgres://u:se/cret@h/d", "postgres://u:se@cret@h:5432/d", "postgres://u:s@e/cret@h/d"] {
        let failure = reader(&["--database-url", url]).unwrap_err();
        assert_eq!(failure.exit_code, 2);
        assert!(!format!("{:#}", failure.error).contains("cret"), "{:#}", failure.error);
    }
    for url in
        ["postgres://u:se%2Fcret@h/d", "postgres://h/d", "postgres://u@h/d?options=a:b", "host=h dbname=d"]
    {
        assert!(reader(&["--database-url", url]).is_ok(), "{url}");
    }
}

#[test]
fn a_blank_address_is_refused_and_not_taken_for_this_host() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["", " ", "\n", "\u{feff}\r\n"] {
        std::fs::write(file.path(), text).unwrap();
        let flags = ["--database-url-file", file.path().to_str().unwrap()];
        for failure in [reader(&flags).unwrap_err(), reader(&["--database-url", text]).unwrap_err()] {
            assert_eq!(failure.exit_code, 2, "{text:?}");
            let said = failure.error.to_string();
            // A byte order mark belongs to files only.
            assert!(said.contains("is blank") || text.starts_with('\u{feff}'), "{said}");
        }
        assert!(reader(&flags).unwrap_err().error.to_string().contains("--database-url-file is blank"));
    }
    assert!(reader(&["--database-url", "postgres://"]).is_ok());
}

#[test]
fn an_address_in_the_place_of_a_file_name_is_not_shown() {
    for address in ["postgres://rfm:hunter2@h/d", "host=h password=hunter2"] {
        let failure = reader(&["--database-url-file", address]).unwrap_err();
        let said = format!("{:#} {}", failure.error, failure.hint.unwrap());
        assert!(said.contains("takes the name of a file") && !said.contains("hunter2"), "{said}");
        assert_eq!(failure.exit_code, 2);
    }
    let failure = reader(&["--database-url-file", "/no/such/file"]).unwrap_err();
    let said = format!("{:#}", failure.error);
    assert!(said.starts_with("cannot read --database-url-file `/no/such/file`: "), "{said}");
}

#[test]
fn a_property_given_as_a_flag_keeps_its_commas() {
    let flags = [
        "--database-url",
        "dbname=x",
        "--kafka-property",
        "debug=cgrp,fetch",
        "--kafka-property",
        "client.rack=b",
    ];
    let properties = reader(&flags).unwrap().kafka.properties;
    assert_eq!(properties, [("debug".into(), "cgrp,fetch".into()), ("client.rack".into(), "b".into())]);
}

fn property(flags: &[&str]) -> Result<(String, String), Failure> {
    let Reader { flags, .. } = Reader::try_parse_from([&["reader"], flags].concat()).unwrap();
    let mut properties = flags.kafka.connection()?.properties;
    assert_eq!(properties.len(), 1, "{properties:?}");
    Ok(properties.remove(0))
}

#[test]
fn a_property_given_as_a_flag_keeps_its_commas_and_quotes() {
    let cases = [
        (r#"a,"b""#, r#"a,"b""#),
        (r#"a"b,c"#, r#"a"b,c"#),
        (r#"a""b"#, r#"a""b"#),
        (r#"Module required user="me" password="a,""b";"#, r#"Module required user="me" password="a,""b";"#),
        (" a,b ", "a,b"),
        // A value that starts with a quote is a quoted one.
        (r#""a,b""#, "a,b"),
        (r#"" a ""#, " a "),
        (r#""""a"",""b""""#, r#""a","b""#),
    ];
    for (given, expected) in cases {
        let found = property(&["--kafka-property", &format!("client.rack={given}")]).unwrap();
        assert_eq!(found, ("client.rack".to_owned(), expected.to_owned()), "{given}");
    }
}

#[test]
fn a_quoted_property_is_read_alike_from_the_flag_and_the_variable() {
    for value in ["", " ", "a", " a ", ",", "\"", "\"\"", "\",\"", ",\"", "a=\"b,c\"", "\"a\",b", "é=\n,"] {
        let quoted = format!("client.rack=\"{}\"", value.replace('"', "\"\""));
        for name in ["--kafka-property", "--kafka-properties"] {
            let found = property(&[name, &quoted]).unwrap();
            assert_eq!(found, ("client.rack".to_owned(), value.to_owned()), "{name} {quoted}");
        }
    }
}

#[test]
fn times_are_read_with_and_without_units() {
    for (text, millis) in
        [("60s", 60_000), ("0", 0), ("0s", 0), ("2", 2_000), ("250ms", 250), ("1min 1s", 61_000)]
    {
        assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
    }
    assert!(duration("soon").is_err() && duration("-1s").is_err());
}
