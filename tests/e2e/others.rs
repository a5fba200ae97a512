//! What others have set up in the database: triggers, rules, policies, schemas, defaults. None of it may keep
//! rows out or lead to a second set of tables without a word.

use crate::world::{Daemon, World, connect, shared_postgres, wait_for};
use diesel::connection::SimpleConnection;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A database with the tables and three stored batches, and three more batches to read.
fn half_read(name: &str) -> World {
    let world = World::new(name, 1);
    world.produce(&["--batches", "3", "--interval", "0"]);
    world.catch_up(&[]);
    world.produce(&["--batches", "3", "--interval", "0"]);
    world
}

/// A role that may log in and does not own the tables of `world`, and the URL with it.
fn stranger(world: &World) -> (String, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let role = format!("{}_stranger_{}", world.name, COUNT.fetch_add(1, Ordering::Relaxed));
    let mut admin = world.connect();
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let url = world.database_url.replace("postgres@", &format!("{role}@"));
    (role, url)
}

#[test]
fn rows_that_a_trigger_or_a_rule_keeps_out_stop_the_reader_and_are_stored_once_it_is_gone() {
    let world = half_read("kept_out");
    let keep_out = [
        (
            "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER keep_out BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION keep_out()",
            "`segments` took 0 of 300 rows",
            "DROP TRIGGER keep_out ON segments",
        ),
        (
            "CREATE RULE keep_out AS ON INSERT TO batches DO INSTEAD NOTHING",
            "`batches` took 0 of 3 rows",
            "DROP RULE keep_out ON batches",
        ),
    ];
    for (begin, words, end) in keep_out {
        world.connect().batch_execute(begin).unwrap();
        let mut reader = world.reader(&[]);
        reader.fails(1, words);
        assert!(reader.said().contains("hint: a trigger or a rule"), "{}", reader.said());
        assert_eq!(world.number("SELECT count(*) FROM segments"), Some(300), "nothing is stored by half");
        world.connect().batch_execute(end).unwrap();
    }
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("6 batches"), "{said}");
}

#[test]
fn dead_letters_that_a_rule_keeps_out_stop_the_reader() {
    let world = World::new("lost_letters", 1);
    world.catch_up(&[]);
    world
        .connect()
        .batch_execute("CREATE RULE keep_out AS ON INSERT TO dead_letters DO INSTEAD NOTHING")
        .unwrap();
    let plain = crate::kafka::Plain::new(&world.kafka);
    world.topics.iter().for_each(|topic| plain.send(topic, 0, Some(b"key"), Some(b"no JSON")));
    plain.flush();
    world.reader(&[]).fails(1, "`dead_letters` took 0 of 3 rows");
    assert_eq!(world.number("SELECT recency_next FROM progress"), Some(0));
}

#[test]
fn row_level_security_that_applies_to_the_reader_stops_it_before_it_reads_or_writes() {
    let world = half_read("policies");
    let (role, url) = stranger(&world);
    let mut admin = world.connect();
    admin
        .batch_execute(&format!(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
             GRANT ALL ON SCHEMA public TO {role}"
        ))
        .unwrap();
    let as_stranger = World {
        database_url: url,
        topics: world.topics.clone(),
        name: world.name.clone(),
        kafka: world.kafka.clone(),
        partitions: 1,
    };
    for table in ["segments", "batches", "progress"] {
        admin.batch_execute(&format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")).unwrap();
        let mut reader = as_stranger.reader(&[]);
        reader.fails(1, &format!("row-level security applies to `{table}`"));
        assert!(reader.said().contains("BYPASSRLS"), "{}", reader.said());
        assert!(!reader.said().contains("took partition"), "{}", reader.said());
        admin.batch_execute(&format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")).unwrap();
    }
    as_stranger.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_group_whose_tables_are_in_another_schema_does_not_get_a_second_set() {
    let world = World::new("two_schemas", 1);
    let (role, url) = stranger(&world);
    let mut admin = world.connect();
    admin
        .batch_execute(&format!(
            "GRANT CREATE ON DATABASE {} TO {role}; GRANT ALL ON SCHEMA public TO {role}",
            world.name
        ))
        .unwrap();
    let world = World { database_url: url, ..world };
    world.produce(&["--batches", "3", "--interval", "0"]);
    world.catch_up(&[]);
    // From here on, `"$user"` of the search_path is a schema. The tables are found all the same.
    admin.batch_execute(&format!("CREATE SCHEMA {role} AUTHORIZATION {role}")).unwrap();
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM public.batches"), Some(4));

    // The same group on a path that does not reach them.
    let elsewhere = format!("{}?options=-csearch_path%3D{role}", world.database_url);
    let mut reader = world.reader(&["--database-url", &elsewhere]);
    reader.fails(1, "in schema `public`, but this connection would make them");
    let said = reader.said();
    assert!(said.contains(&format!("schema `{role}`")) && said.contains("search_path"), "{said}");
    let second = format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{role}'");
    assert_eq!(world.number(&second), Some(0), "no second set of tables");

    // Another group may have its tables there.
    let other = World { name: format!("{}_other", world.name), database_url: elsewhere, ..world };
    other.catch_up(&[]);
    assert_eq!(other.number(&format!("SELECT count(*) FROM {role}.batches")), Some(4));
}

#[test]
fn a_group_that_another_schema_stores_is_not_stored_again_beside_another_group() {
    let world = World::new("two_groups", 1);
    world.connect().batch_execute("CREATE SCHEMA a; CREATE SCHEMA b").unwrap();
    let in_schema = |schema: &str, group: &str, of: &World| World {
        name: group.to_owned(),
        kafka: of.kafka.clone(),
        database_url: format!("{}?options=-csearch_path%3D{schema}", world.database_url),
        topics: of.topics.clone(),
        partitions: 1,
    };
    let (first, second) = (world.name.clone(), format!("{}_second", world.name));
    world.produce(&["--batches", "3", "--interval", "0"]);
    in_schema("a", &first, &world).catch_up(&[]);
    in_schema("b", &second, &world).catch_up(&[]);
    let stored = || world.number("SELECT count(*) FROM b.batches");
    assert_eq!(stored(), Some(3));

    let mut again = in_schema("b", &first, &world).reader(&["--until-caught-up"]);
    again.fails(1, "are in schema `a`, but this connection would store the group again in schema `b`");
    assert_eq!(stored(), Some(3));
    // Each in its own place goes on.
    in_schema("a", &first, &world).catch_up(&[]);
    in_schema("b", &second, &world).catch_up(&[]);

    // Another environment has a group of the same name, and topics of its own.
    let other = World::new("two_groups_other", 1);
    other.produce(&["--batches", "2", "--interval", "0"]);
    in_schema("b", &first, &other).catch_up(&[]);
    assert_eq!(stored(), Some(5));
}

#[test]
fn partitions_of_the_group_that_are_stored_in_another_database_are_named() {
    let world = World::new("two_databases", 2);
    let other = World::without_topics("two_databases_other", &world.kafka, 2);
    let other = World { name: world.name.clone(), topics: world.topics.clone(), ..other };
    // One of them with our session timeout, which librdkafka compares with this property.
    let mut command = Command::new(env!("CARGO_BIN_EXE_reader"));
    command.args(["--bootstrap-servers", &other.kafka, "--group-id", &other.name]).args(other.topic_flags());
    command.args(["--database-url", &other.database_url, "--kafka-property", "max.poll.interval.ms=20000"]);
    let mut readers = [world.reader(&[]), Daemon::start(&mut command)];
    let plain = crate::kafka::Plain::new(&world.kafka);
    let send_to_both = || {
        for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
            let body = format!(r#"{{"{metric}":[1,2,3]}}"#);
            (0..2).for_each(|partition| plain.send(topic, partition, Some(b"key"), Some(body.as_bytes())));
        }
        plain.flush();
    };
    // Each has a partition, and goes on storing it.
    wait_for("both readers to say so", || {
        send_to_both();
        readers.iter().all(|reader| reader.said().contains("are stored elsewhere")).then_some(())
    });
    assert!(readers.iter().all(|reader| reader.said().contains("--group-id")));
    for reader in &mut readers {
        reader.stop();
    }
}

#[test]
fn a_default_isolation_of_the_database_does_not_change_what_a_commit_sees() {
    let world = World::new("isolation", 1);
    let name = &world.name;
    connect(&shared_postgres())
        .batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"))
        .unwrap();
    world.catch_up(&[]);
    world
        .connect()
        .batch_execute(
            "CREATE TABLE seen (isolation text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO seen VALUES (current_setting('transaction_isolation')); RETURN NEW; END $$;
             CREATE TRIGGER see AFTER UPDATE ON progress FOR EACH ROW EXECUTE FUNCTION see()",
        )
        .unwrap();
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM seen WHERE isolation <> 'read committed'"), Some(0));
    assert!(world.number("SELECT count(*) FROM seen") >= Some(2), "taking, and the commit");
}
