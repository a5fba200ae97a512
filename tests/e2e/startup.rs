//! Errors at the start are clear, are printed once, and end the program with the right exit code.

use crate::world::{Daemon, Server, World, connect, repository, shared_kafka, shared_postgres};
use diesel::connection::SimpleConnection;
use std::net::TcpListener;
use std::process::Command;

fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    // So that the developer's `.env` is not read.
    command.current_dir("/");
    command
}

fn reader(flags: &[&str]) -> Daemon {
    Daemon::start(program(env!("CARGO_BIN_EXE_reader")).args(flags))
}

#[test]
fn usage_and_configuration_errors_exit_with_2() {
    let map = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(map.path(), "[1-4]. some\n").unwrap();
    let map = map.path().to_str().unwrap();
    let url = "postgres://nobody@127.0.0.1:1/none";
    let never = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(never.path(), ".. all\n55 best\n").unwrap();
    let never = never.path().to_str().unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&[], "no database"),
        (&["--database-url", url, "--group-id", "rfm-reader\n"], "--group-id begins or ends with"),
        (&["--database-url", url, "--recency-topic", "\"recency\""], "--recency-topic is in quotes"),
        (&["--database-url", url, "--bootstrap-servers", "a:1;b:2"], "--bootstrap-servers has"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--database-url", url, "--ties", "maybe"], "maybe"),
        (&["--database-url", url, "--pairing-timeout", "soon"], "soon"),
        (&["--database-url", url, "--segment-map", map], "51, 52, 53, 54, 55"),
        (
            &["--database-url", url, "--segment-map", never],
            "line 2 of the segment map: the pattern `55` can never",
        ),
        (&["--database-url", url, "--segment-map", "/no/such/file"], "/no/such/file"),
        (&["--database-url", url, "--kafka-property", "isolation.level=read_uncommitted"], "isolation.level"),
        (&["--database-url", url, "--kafka-property", "no.such.property=1"], "no.such.property"),
    ];
    // libpq finds this error, after a broker has answered.
    let kafka = shared_kafka();
    let mut misspelt = reader(&["--bootstrap-servers", &kafka, "--database-url", "postgresq://u:secret@h/d"]);
    misspelt.fails(2, "libpq cannot parse it");
    assert!(!misspelt.said().contains("secret"), "{}", misspelt.said());
    for (flags, words) in cases {
        reader(flags).fails(2, words);
    }
    let producer = |flags: &[&str]| Daemon::start(program(env!("CARGO_BIN_EXE_producer")).args(flags));
    producer(&["--customers", "0"]).fails(2, "--customers");
    producer(&["--kafka-property", "no.such.property=1"]).fails(2, "no.such.property");
    producer(&["--kafka-property", "transactional.id=x"]).fails(2, "--transactional-id");
}

#[test]
fn a_property_that_no_client_can_have_is_refused_before_any_connection() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    broker.set_nonblocking(true).unwrap();
    let address = broker.local_addr().unwrap().to_string();
    let cases = [
        ("topic.auto.offset.reset=earliest", "`topic.auto.offset.reset` sets `auto.offset.reset`"),
        ("metadata.broker.list=localhost:1", "--bootstrap-servers"),
        ("topic.enable.auto.commit=true", "`auto.commit.enable`"),
        ("topic.partitioner=random", "`partitioner`"),
        ("plugin.library.paths=/no/such/plugin", "`plugin.library.paths` is reserved"),
        ("test.mock.num.brokers=1", "`test.mock.num.brokers` is reserved"),
        // Not reserved, but wrong: by itself, or together with another one.
        ("fetch.wait.max.ms=soon", "`fetch.wait.max.ms`"),
        ("ssl.ca.location=/no/such/file,security.protocol=ssl", "`/no/such/file`"),
        ("ssl.ca.location=/no/such/file", "`/no/such/file`"),
        ("ssl.key.location=/no/such/file", "`/no/such/file`"),
        ("security.protocol=SASL_SSL", "`sasl.mechanism`"),
        ("security.protocol=sasl_plaintext,sasl.mechanism=PLAIN", "sasl.username and sasl.password"),
        ("security.protocol=sasl_plaintext,sasl.mechanism=OAUTHBEARER", "OAUTHBEARER"),
        ("max.poll.interval.ms=1000", "session.timeout.ms"),
        ("group.protocol.type=x", "`group.protocol.type` is reserved"),
    ];
    for (properties, words) in cases {
        for path in [env!("CARGO_BIN_EXE_reader"), env!("CARGO_BIN_EXE_producer")] {
            let start = |configure: &dyn Fn(&mut Command)| {
                let mut command = program(path);
                command
                    .args(["--bootstrap-servers", &address])
                    .env("DATABASE_URL", "postgres://127.0.0.1:1/x");
                configure(&mut command);
                Daemon::start(&mut command)
            };
            start(&|command| {
                command.env("KAFKA_PROPERTIES", properties);
            })
            .fails(2, words);
            start(&|command| {
                properties.split(',').for_each(|property| {
                    command.args(["--kafka-property", property]);
                });
            })
            .fails(2, words);
        }
    }
    assert!(broker.accept().is_err(), "somebody connected");
}

#[test]
fn a_property_that_only_the_reader_uses_is_judged_beside_its_own_defaults() {
    let accepted =
        ["max.poll.interval.ms=20000", "fetch.max.bytes=1500000000,receive.message.max.bytes=2000000000"];
    for properties in accepted {
        for path in [env!("CARGO_BIN_EXE_reader"), env!("CARGO_BIN_EXE_producer")] {
            let mut command = program(path);
            command
                .args(["--bootstrap-servers", "127.0.0.1:1"])
                .env("DATABASE_URL", "postgres://127.0.0.1:1/x");
            let mut program = Daemon::start(command.env("KAFKA_PROPERTIES", properties));
            program.wait_until_it_says("no broker answers");
            program.stop();
        }
    }
}

#[test]
fn a_timeout_that_only_the_brokers_refuse_exits_with_1_and_names_their_limit() {
    let world = World::new("timeouts", 1);
    let mut producer = world.producer(&["--kafka-property", "transaction.timeout.ms=3600000"]);
    producer.fails(1, "the brokers do not accept a setting");
    assert!(producer.said().contains("hint: set transaction.timeout.ms"), "{}", producer.said());
    // The brokers of these tests accept a second and more.
    let mut reader = world.reader(&[
        "--kafka-property",
        "session.timeout.ms=900",
        "--kafka-property",
        "heartbeat.interval.ms=100",
    ]);
    reader.fails(1, "the brokers do not accept a setting");
    assert!(reader.said().contains("hint: set session.timeout.ms between"), "{}", reader.said());
}

#[test]
fn what_postgres_refuses_for_good_exits_with_1_and_a_hint() {
    refuses_for_good(&shared_postgres());
}

#[test]
fn an_english_postgres_refuses_for_good_what_any_other_refuses() {
    refuses_for_good(&Server::postgres_in("C").address);
}

/// Checks what a reader says of the refusals of a server, which may speak any language.
fn refuses_for_good(postgres: &str) {
    let world = World::on("refused", &shared_kafka(), postgres, 1);
    let mut admin = connect(postgres);
    let role = format!("{}_role", world.name);
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'")).unwrap();
    let _ = admin.batch_execute("CREATE ROLE locked LOGIN PASSWORD 'right'");
    let database = format!("{}_no_such", world.name);
    let as_role = |role: &str| world.database_url.replace("postgres@", &format!("{role}@"));
    let cases = [
        (world.database_url.replace(&world.name, &database), "3D000", "createdb"),
        (as_role("no_such_role"), "28000", "--database-url"),
        // It may not create the tables.
        (as_role(&role), "may not create tables in schema `public`", "GRANT CREATE"),
        (as_role("locked:wrong"), "28P01", "password"),
    ];
    for (url, code, hint) in cases {
        let mut reader = reader(&["--bootstrap-servers", &world.kafka, "--database-url", &url]);
        reader.fails(1, code);
        let said = reader.said();
        let hints = said.split_once("hint: ").map(|(_, hints)| hints);
        assert!(hints.is_some_and(|hints| hints.contains(hint)), "expected a hint with `{hint}`: {said}");
        assert!(!said.contains("wrong@"), "no password is shown: {said}");
    }
}

#[test]
fn a_program_that_is_asked_to_stop_while_it_starts_ends_with_0() {
    let world = World::new("at_once", 1);
    for _ in 0..5 {
        world.reader(&[]).stop();
        world.producer(&[]).stop();
    }
}

#[test]
fn a_second_producer_with_the_same_id_ends_the_first() {
    let world = World::new("fenced", 1);
    let mut first = world.producer(&["--interval", "300ms"]);
    first.wait_until_it_says("sent ");
    world.produce(&["--batches", "1", "--interval", "0"]);
    first.fails(1, "took over");
    assert!(first.said().contains("--transactional-id"), "{}", first.said());
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_batch_that_the_brokers_will_never_take_ends_the_producer() {
    let world = World::new("too_large", 1);
    world.topics.iter().for_each(|topic| crate::kafka::limit_messages(&world.kafka, topic, 1_000));
    let mut producer = world.producer(&["--batches", "1", "--customers", "5000"]);
    producer.fails(1, "at most (max.message.bytes)");
    assert!(producer.said().contains("--customers"), "{}", producer.said());
}

#[test]
fn flags_beat_the_environment_which_beats_the_env_file() {
    let world = World::new("precedence", 1);
    let folder = tempfile::tempdir().unwrap();
    let (file, variable, flag) = ("file_group", "variable_group", "flag_group");
    let kafka = format!("KAFKA_BOOTSTRAP_SERVERS={}\n", world.kafka);
    let content =
        format!("{kafka}DATABASE_URL={}\nKAFKA_GROUP_ID={file}\nUNTIL_CAUGHT_UP=true\n", world.database_url);
    std::fs::write(folder.path().join(".env"), content).unwrap();
    let run = |configure: &dyn Fn(&mut Command)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reader"));
        for (name, topic) in ["RECENCY_TOPIC", "FREQUENCY_TOPIC", "MONETARY_TOPIC"].iter().zip(&world.topics)
        {
            command.env(name, topic);
        }
        command.current_dir(folder.path());
        configure(&mut command);
        Daemon::start(&mut command).succeeds();
    };
    run(&|_| {});
    run(&|command| {
        command.env("KAFKA_GROUP_ID", variable).arg("--log-format=json");
    });
    run(&|command| {
        command.env("KAFKA_GROUP_ID", variable).args(["--group-id", flag]);
    });
    // An empty variable counts as unset: the default of `--ties`, and the group of the file.
    run(&|command| {
        command.env("TIES", "").env("SEGMENT_MAP", "").env("MAX_CUSTOMERS", "");
    });
    for group in [file, variable, flag] {
        let query = format!("SELECT count(*) FROM progress WHERE consumer_group = '{group}'");
        assert_eq!(world.number(&query), Some(1), "{group}");
    }
}

#[test]
fn the_guide_names_every_flag() {
    let guide = std::fs::read_to_string(repository().join("docs/guide.md")).unwrap();
    for (program, path) in
        [("producer", env!("CARGO_BIN_EXE_producer")), ("reader", env!("CARGO_BIN_EXE_reader"))]
    {
        let help = Command::new(path).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let flags = help
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with("--"));
        for flag in flags.filter(|flag| !["--help", "--version"].contains(flag)) {
            assert!(guide.contains(flag), "{flag} of {program} does not stand in docs/guide.md");
        }
    }
}

#[test]
fn every_row_of_the_guides_table_of_errors_is_expected_by_a_test() {
    let guide = std::fs::read_to_string(repository().join("docs/guide.md")).unwrap();
    let (_, section) = guide.split_once("## What can go wrong, and what you will see\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let tests = std::fs::read_dir(repository().join("tests/e2e")).unwrap();
    let tests = tests.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let tests = tests.map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what "));
    let mut count = 0;
    for row in rows {
        let seen = row.split(" | ").nth(1).unwrap();
        let words = seen.split_once('`').and_then(|(_, rest)| rest.split_once('`')).map(|(words, _)| words);
        let words = words.unwrap_or_else(|| panic!("no words in: {row}"));
        assert!(tests.contains(words), "no test expects `{words}` of: {row}");
        count += 1;
    }
    assert!(count > 50, "{count} rows");
}
