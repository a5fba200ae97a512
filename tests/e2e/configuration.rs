//! Files and variables that a person writes: what they get wrong is said, and nothing succeeds wrongly.

use crate::world::{Daemon, World};
use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAMS: [&str; 2] = [env!("CARGO_BIN_EXE_reader"), env!("CARGO_BIN_EXE_producer")];

/// A program that runs in `folder` with these variables.
fn start(program: &str, folder: &Path, variables: &[(&str, &str)]) -> Daemon {
    Daemon::start(Command::new(program).current_dir(folder).envs(variables.iter().copied()))
}

#[test]
fn a_word_in_rust_log_that_is_no_level_ends_both_programs() {
    for program in PROGRAMS {
        for (text, word) in [("warning", "`warning`"), ("rfm_stream=verbose", "`verbose`")] {
            let mut daemon = start(program, Path::new("/"), &[("RUST_LOG", text)]);
            daemon.fails(
                2,
                &format!("RUST_LOG: {word} is not a level; the levels are error, warn, info, debug"),
            );
            assert!(daemon.said().contains("hint: "), "{}", daemon.said());
        }
    }
}

#[test]
fn a_target_of_another_program_in_rust_log_silences_no_dead_letter() {
    let world = World::new("targets", 2);
    world.topics.iter().for_each(|topic| {
        crate::kafka::Plain::new(&world.kafka).send(topic, 0, None, Some(b"{}"));
    });
    let mut command = world.reader_command();
    let mut reader = Daemon::start(command.env("RUST_LOG", "sqlx=warn,librdkafka=off"));
    reader.wait_until_it_says("dead letter");
    reader.wait_until_it_says("RUST_LOG names targets that no line has: `sqlx`");
    reader.stop();
}

#[test]
fn a_dollar_in_the_env_file_that_stands_for_nothing_is_warned_of_and_its_value_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    // A byte order mark and the line ends of Windows are ignored.
    let file = "\u{feff}KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1\r\nDATABASE_URL=postgres://u:hush$secret@127.0.0.1:1/x\r\n";
    fs::write(folder.path().join(".env"), file).unwrap();
    let mut reader = start(PROGRAMS[0], folder.path(), &[]);
    reader.wait_until_it_says("`DATABASE_URL` in line 2 of `.env` has a `$`");
    reader.wait_until_it_says("no broker answers at 127.0.0.1:1");
    reader.stop();
    assert!(!reader.said().contains("hush") && !reader.said().contains("secret"), "{}", reader.said());

    fs::write(
        folder.path().join(".env"),
        file.replace("u:hush$secret", "'u:hush$secret").replace("/x", "/x'"),
    )
    .unwrap();
    let mut quoted = start(PROGRAMS[0], folder.path(), &[]);
    quoted.wait_until_it_says("no broker answers");
    quoted.stop();
    assert!(!quoted.said().contains(".env"), "{}", quoted.said());
}

#[test]
fn a_dollar_is_warned_of_in_libpqs_variables_and_in_what_the_address_takes_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1\nOTHER=hush$secret\nPGPASSWORD=hush$secret\nPW=hush$secret\n\
                DATABASE_URL=postgres://u:${PW}@127.0.0.1:1/x\n";
    fs::write(folder.path().join(".env"), file).unwrap();
    let mut reader = start(PROGRAMS[0], folder.path(), &[]);
    reader.wait_until_it_says("`PGPASSWORD` in line 3 of `.env` has a `$`");
    reader.wait_until_it_says("`PW` in line 4 of `.env` has a `$`");
    reader.stop();
    let said = reader.said();
    assert!(
        !said.contains("hush") && !said.contains("`OTHER`") && !said.contains("`DATABASE_URL`"),
        "{said}"
    );
    // The producer uses none of them.
    let mut producer = start(PROGRAMS[1], folder.path(), &[]);
    producer.wait_until_it_says("no broker answers");
    producer.stop();
    assert!(!producer.said().contains(".env"), "{}", producer.said());
}

#[test]
fn a_variable_of_the_environment_beats_the_other_one_in_the_env_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from_file, url_file) = ("postgres:///x?of_the_file=1", folder.path().join("url"));
    fs::write(&url_file, from_file).unwrap();
    let url_file = url_file.to_str().unwrap();
    let from_variable = "postgres:///x?of_the_variable=1";
    let [of_file, of_variable] = ["`of_the_file`", "`of_the_variable`"];
    let cases = [
        (format!("DATABASE_URL={from_variable}\n"), ("DATABASE_URL_FILE", url_file), of_file),
        (format!("DATABASE_URL_FILE={url_file}\n"), ("DATABASE_URL", from_variable), of_variable),
        // An empty variable is none.
        (format!("DATABASE_URL={from_variable}\n"), ("DATABASE_URL_FILE", ""), of_variable),
        (format!("DATABASE_URL={from_variable}\nDATABASE_URL_FILE={url_file}\n"), ("TIES", "share"), "both"),
    ];
    for (file, variable, words) in cases {
        fs::write(folder.path().join(".env"), &file).unwrap();
        start(PROGRAMS[0], folder.path(), &[variable]).fails(2, words);
    }
    fs::write(folder.path().join(".env"), "TIES=share\n").unwrap();
    let both = [("DATABASE_URL", from_variable), ("DATABASE_URL_FILE", url_file)];
    start(PROGRAMS[0], folder.path(), &both).fails(2, "both");
}

#[test]
fn an_argument_that_may_hold_a_password_is_not_shown() {
    let address = "postgres://rfm:hunter2@127.0.0.1/rfm";
    let cases: [(&str, &[&str], &str); 5] = [
        (PROGRAMS[0], &[address], "an argument belongs to no flag"),
        (PROGRAMS[1], &["--kafka-property", "sasl.password", "hunter2"], "an argument belongs to no flag"),
        (PROGRAMS[1], &["--database-url=hunter2"], "there is no flag `--database-url`"),
        (PROGRAMS[0], &["--database-url-file", address], "--database-url-file takes the name of a file"),
        (PROGRAMS[0], &["--database-url", " "], "the address of --database-url is blank"),
    ];
    for (program, args, words) in cases {
        let mut daemon = Daemon::start(Command::new(program).args(args).current_dir("/"));
        daemon.fails(2, words);
        assert!(daemon.said().contains("hint: "), "{}", daemon.said());
        assert!(!daemon.said().contains("hunter2"), "{}", daemon.said());
    }
}

#[test]
fn a_line_of_the_env_file_that_cannot_be_read_is_named_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "TIES=share\nDATABASE_URL=host=h password=\"hush$secret\"\n")
        .unwrap();
    for program in PROGRAMS {
        let mut daemon = start(program, folder.path(), &[]);
        daemon.fails(2, "line 2 of `");
        assert!(!daemon.said().contains("hush"), "{}", daemon.said());
    }
}

#[test]
fn ready_names_the_env_file_of_a_folder_above_and_what_the_reader_works_with() {
    let world = World::new("ready", 1);
    let folder = tempfile::tempdir().unwrap();
    let [above, below] = [folder.path().to_owned(), folder.path().join("a/b")];
    fs::create_dir_all(&below).unwrap();
    let [recency, frequency, monetary] = &world.topics;
    let file = format!(
        "KAFKA_BOOTSTRAP_SERVERS={}\nDATABASE_URL={}\nKAFKA_GROUP_ID={}\nTIES=rank\nRECENCY_TOPIC={recency}\n\
         FREQUENCY_TOPIC={frequency}\nMONETARY_TOPIC={monetary}\nPRODUCE_TRANSACTIONAL_ID={}\n",
        world.kafka, world.database_url, world.name, world.name
    );
    fs::write(above.join(".env"), file).unwrap();
    let named = format!("env_file={}", above.join(".env").display());
    for (program, words) in
        PROGRAMS.into_iter().zip(["ties=\"rank\" segment_map=\"default\"", "transactional_id="])
    {
        let mut daemon = start(program, &below, &[]);
        daemon.wait_until_it_says("ready version=");
        daemon.stop();
        let said = daemon.said();
        let ready = said.lines().find(|line| line.contains("ready version=")).unwrap();
        assert!(ready.contains(&named) && ready.contains(words), "{ready}");
        assert!(said.contains("variables come from a `.env` in a folder above"), "{said}");
    }
}

#[test]
fn a_segment_map_with_a_byte_order_mark_gives_the_same_segments() {
    let plain = "5[4-5] champions\n.. others\n";
    let windows = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
    let champions = [plain, &windows].map(|text| {
        let world = World::new("bom", 1);
        world.produce(&["--batches", "2", "--customers", "500", "--interval", "0", "--seed", "7"]);
        let map = tempfile::NamedTempFile::new().unwrap();
        fs::write(map.path(), text).unwrap();
        world.catch_up(&["--segment-map", map.path().to_str().unwrap()]);
        world.number("SELECT count(*) FROM segments WHERE segment = 'champions'")
    });
    assert!(champions[0] > Some(0) && champions[0] == champions[1], "{champions:?}");
}
