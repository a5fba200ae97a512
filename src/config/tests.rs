use super::*;
use clap::CommandFactory;
use std::collections::BTreeSet;

fn reader(flags: &[&str]) -> Result<reader::Options, Failure> {
    ReaderFlags::try_parse_from([&["reader"], flags].concat()).unwrap().options()
}

#[test]
fn the_flags_are_well_formed() {
    ProducerFlags::command().debug_assert();
    ReaderFlags::command().debug_assert();
}

#[test]
fn every_variable_of_the_programs_stands_in_the_example_and_no_other() {
    let commands = [ProducerFlags::command(), ReaderFlags::command()];
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
    for command in [ProducerFlags::command(), ReaderFlags::command()] {
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
    let cases: [(&[&str], &str); 8] = [
        (&["--kafka-property", "isolation.level=read_uncommitted"], "reserved"),
        (&["--kafka-property", "topic.auto.offset.reset=earliest"], "sets `auto.offset.reset`"),
        (&["--kafka-property", "no.such.property=1"], "`no.such.property`"),
        (&["--kafka-property", "fetch.wait.max.ms=soon"], "`fetch.wait.max.ms`"),
        // Each may be so, but not both.
        (&["--kafka-property", "max.poll.interval.ms=5000"], "session.timeout.ms"),
        (&["--kafka-property", "nonsense"], "not NAME=VALUE"),
        (&["--recency-topic", "a", "--monetary-topic", "a"], "same name"),
        (&["--segment-map", "/no/such/file"], "not usable"),
    ];
    for (flags, message) in cases {
        let failure = reader(&[&["--database-url", "postgres:///x"], flags].concat()).unwrap_err();
        assert_eq!(failure.exit_code, 2, "{flags:?}");
        assert!(format!("{:#}", failure.error).contains(message), "{:#}", failure.error);
    }
}

#[test]
fn a_password_that_would_be_taken_for_a_host_is_refused_and_not_shown() {
    for url in ["postgres://u:se/cret@h/d", "postgres://u:se?cret@h:5432/d", "postgres://u:se#cret@h/d"] {
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
fn a_property_given_as_a_flag_keeps_its_commas() {
    let flags =
        ["--database-url", "x", "--kafka-property", "debug=cgrp,fetch", "--kafka-property", "client.rack=b"];
    let properties = reader(&flags).unwrap().kafka.properties;
    assert_eq!(properties, [("debug".into(), "cgrp,fetch".into()), ("client.rack".into(), "b".into())]);
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
