//! What is wrong at the start is said once, clearly, with the right exit code.

use crate::world::{Daemon, World, connect, repository, shared_postgres};
use diesel::connection::SimpleConnection;
use std::net::TcpListener;
use std::process::Command;

fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    // Not where a `.env` of the developer's could be found.
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
    let cases: [(&[&str], &str); 8] = [
        (&[], "no database"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--database-url", url, "--ties", "maybe"], "maybe"),
        (&["--database-url", url, "--pairing-timeout", "soon"], "soon"),
        (&["--database-url", url, "--segment-map", map], "51, 52, 53, 54, 55"),
        (&["--database-url", url, "--segment-map", "/no/such/file"], "/no/such/file"),
        (&["--database-url", url, "--kafka-property", "isolation.level=read_uncommitted"], "isolation.level"),
        (&["--database-url", url, "--kafka-property", "no.such.property=1"], "no.such.property"),
    ];
    // Found by libpq, once a broker has answered.
    let kafka = crate::world::shared_kafka();
    let mut misspelt = reader(&["--bootstrap-servers", &kafka, "--database-url", "postgresq://u:secret@h/d"]);
    misspelt.fails(2, "--database-url cannot be read");
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
        // Not reserved, but wrong: alone, or beside another one.
        ("fetch.wait.max.ms=soon", "`fetch.wait.max.ms`"),
        ("ssl.ca.location=/no/such/file,security.protocol=ssl", "ssl.ca.location"),
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
fn what_postgres_refuses_for_good_exits_with_1_and_a_hint() {
    let world = World::new("refused", 1);
    let mut admin = connect(&shared_postgres());
    let role = format!("{}_role", world.name);
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'")).unwrap();
    let as_role = world.database_url.replace("postgres@", &format!("{role}@"));
    let cases = [
        (world.database_url.replace(&world.name, "no_such_database"), "does not exist"),
        (world.database_url.replace("postgres@", "no_such_role@"), "does not exist"),
        (as_role, "permission denied"),
        ("postgres://locked:wrong@".to_owned() + world.database_url.split_once('@').unwrap().1, "password"),
    ];
    let _ = admin.batch_execute("CREATE ROLE locked LOGIN PASSWORD 'right'");
    for (url, words) in cases {
        let mut reader = reader(&["--bootstrap-servers", &world.kafka, "--database-url", &url]);
        reader.fails(1, words);
        assert!(reader.said().contains("hint: "), "{}", reader.said());
        assert!(!reader.said().contains("wrong@"), "no password is shown: {}", reader.said());
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
    producer.fails(1, "the brokers refuse the batch");
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
    // An empty variable is none: the default of `--ties`, and the group of the file.
    run(&|command| {
        command.env("TIES", "").env("SEGMENT_MAP", "").env("MAX_CUSTOMERS", "");
    });
    for group in [file, variable, flag] {
        let query = format!("SELECT count(*) FROM progress WHERE consumer_group = '{group}'");
        assert_eq!(world.number(&query), Some(1), "{group}");
    }
}

#[test]
fn help_names_every_flag_of_the_readme() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    for (program, path) in
        [("producer", env!("CARGO_BIN_EXE_producer")), ("reader", env!("CARGO_BIN_EXE_reader"))]
    {
        let help = Command::new(path).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let flags = help
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with("--"));
        for flag in flags.filter(|flag| !["--help", "--version"].contains(flag)) {
            assert!(readme.contains(flag), "{flag} of {program} does not stand in README.md");
        }
    }
}
