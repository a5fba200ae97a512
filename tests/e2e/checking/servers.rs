//! What a server of its own is needed for: another clock, a standby, a pooler, a server that says nothing.

use crate::kafka::{create_topics, set_topic};
use crate::world::{Server, World, connect, shared_kafka, shared_postgres, wait_for};
use diesel::connection::SimpleConnection;
use std::net::TcpListener;

/// The library of Debian's package `faketime`, whose programs read the clock with an offset.
const OTHER_CLOCK: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_clock_that_differs_and_a_synchronous_standby_that_is_away_are_named() {
    let library = std::env::var("RFM_TEST_FAKETIME").unwrap_or_else(|_| OTHER_CLOCK.to_owned());
    let ahead =
        [("LD_PRELOAD", library.as_str()), ("FAKETIME", "+5s"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let server = Server::start_with("scripts/postgres", &ahead, &[]);
    let world = World::on("check_clock", &shared_kafka(), &server.address, 1);
    create_topics(&world.kafka, &world.topics, 1);
    world.topics.iter().for_each(|topic| set_topic(&world.kafka, topic, &[("retention.ms", "-1")]));
    world.catch_up(&[]);
    world.check_reader(&[]).has_only("warn", "clock of postgres", "5.0 s from that of this host");
    let mut admin = connect(&server.address);
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'away'", "SELECT pg_reload_conf()"] {
        admin.batch_execute(statement).unwrap();
    }
    wait_for("the setting", || {
        let waits =
            "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'away'";
        (world.number(waits) == Some(1)).then_some(())
    });
    let checked = world.check_reader(&[]);
    checked.has("FAILED", "settings", "commits wait for a synchronous standby");
}

#[test]
fn a_standby_is_named() {
    let server = Server::postgres();
    let world = World::on("check_standby", &shared_kafka(), &server.address, 1);
    create_topics(&world.kafka, &world.topics, 1);
    world.topics.iter().for_each(|topic| set_topic(&world.kafka, topic, &[("retention.ms", "-1")]));
    world.catch_up(&[]);
    let standby = Server::start_with("scripts/postgres", &[("POSTGRES_STANDBY_OF", server.directory())], &[]);
    let url = standby.address.replace("/rfm", &format!("/{}", world.name));
    wait_for("the tables on the standby", || {
        let there = World { database_url: url.clone(), ..World::on("x", &world.kafka, &server.address, 1) };
        (there.number("SELECT count(*) FROM sources") == Some(1)).then_some(())
    });
    let checked = world.check_reader_of(&url);
    checked.has("FAILED", "writing", "this is a standby");
    checked.has("ok", "tables", "as they should be");
    checked.has("skipped", "commit", "does not accept writes");
}

#[test]
fn a_pooler_and_its_mode_are_named() {
    let world = World::healthy("check_pooler", 1);
    let server = shared_postgres();
    let target = server.split_once('@').unwrap().1.split_once('/').unwrap().0;
    world.check_reader(&[]).has("ok", "pooler", "none");
    for mode in ["session", "transaction", "statement"] {
        let pooler = Server::start_with("scripts/pgbouncer", &[("PGBOUNCER_MODE", mode)], &[target]);
        let through = pooler.address.replace("/rfm", &format!("/{}", world.name));
        let checked = world.check_reader_of(&through);
        if mode == "statement" {
            checked.has_only("FAILED", "postgres", "a pooler in statement mode");
            continue;
        }
        checked.has("ok", "pooler", &format!("one in {mode} mode"));
        checked.is_all_ok();
        let mut reader = world.reader(&["--database-url", &through]);
        reader.wait_until_it_says("took partition");
        let beside = world.check_reader_of(&through);
        match mode {
            // The pool of four is the reader's, but for one.
            "session" => beside.has_only("warn", "pooler", "no free connection to the server"),
            _ => beside.is_all_ok(),
        }
        reader.stop();
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_within_seconds() {
    let world = World::healthy("check_mute", 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let checked =
        world.check_reader_of(&format!("postgres://postgres@127.0.0.1:{port}/rfm?connect_timeout=60"));
    checked.has_only("FAILED", "postgres", "no answer within");
    checked.has("ok", "brokers", "");
    checked.has("skipped", "commit", "");
    let world = World { kafka: format!("127.0.0.1:{port}"), ..world };
    let checked = world.check_reader(&[]);
    checked.has_only("FAILED", "brokers", "no broker answers at");
    checked.has("ok", "commit", "");
}
