//! Passwords and certificates: on a broker with SASL, TLS and ACLs, a wrong set-up ends the program and says
//! why, and a broker that is away does not.

use crate::slowness;
use crate::world::{Daemon, Server, World};
use std::time::{Duration, Instant};

/// Programs with properties, and the words with which they end or wait.
type Case<'a> = (&'a World, &'a [(&'a str, &'a str)], &'a str);

/// A broker that asks for a password. The user `admin` may do everything.
pub struct Secure {
    pub broker: Server,
    /// Its address for SASL without TLS, and for SASL over TLS.
    sasl: String,
    sasl_ssl: String,
}

impl Secure {
    pub fn start(users: &str) -> Self {
        let broker = Server::start_with("scripts/kafka", &[("KAFKA_USERS", users)], &[]);
        let read = |name: &str| std::fs::read_to_string(broker.path.join(name)).unwrap().trim().to_owned();
        let (sasl, sasl_ssl) = (read("sasl"), read("sasl_ssl"));
        Self { broker, sasl, sasl_ssl }
    }

    /// A world whose programs come to the listener for SASL.
    pub fn world(&self, name: &str) -> World {
        World::without_topics(name, &self.sasl, 1)
    }

    fn ca(&self) -> String {
        self.broker.path.join("tls/ca.pem").display().to_string()
    }
}

pub fn properties(properties: &[(&str, &str)]) -> Vec<String> {
    let flags = properties.iter().map(|(name, value)| ["--kafka-property".into(), format!("{name}={value}")]);
    flags.flatten().collect()
}

/// The flags of a user.
pub fn user<'a>(protocol: &'a str, name: &'a str, password: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("security.protocol", protocol),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", name),
        ("sasl.password", password),
    ]
}

/// Starts both programs with these properties.
fn both(world: &World, set: &[(&str, &str)]) -> [Daemon; 2] {
    let flags = properties(set);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    [world.reader(&flags), world.producer(&flags)]
}

/// Checks that it ends with 1 and these words within a few seconds, and shows no password.
pub fn is_refused(program: &mut Daemon, words: &str) {
    let begun = Instant::now();
    program.fails(1, words);
    slowness::in_time("the end of a program that is refused", begun.elapsed(), Duration::from_secs(15));
    let said = program.said();
    assert!(said.contains("hint: "), "{said}");
    assert!(!said.contains("s3cret"), "no password is shown: {said}");
}

#[test]
fn wrong_credentials_and_certificates_end_both_programs_with_the_reason() {
    let secure = Secure::start("admin:right");
    let world = secure.world("credentials");
    let scram = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "admin"),
        ("sasl.password", "s3cret"),
    ];
    let ca = secure.ca();
    let with_ca = [&user("sasl_ssl", "admin", "right")[..], &[("ssl.ca.location", &ca)]].concat();
    let over_tls = World { kafka: secure.sasl_ssl.clone(), ..secure.world("certificates") };
    // The certificate is for 127.0.0.1 only.
    let by_name = World {
        kafka: secure.sasl_ssl.replace("127.0.0.1", "localhost"),
        ..secure.world("certificates_by_name")
    };
    let cases: [Case; 5] = [
        (&world, &user("sasl_plaintext", "admin", "s3cret"), "Invalid username or password"),
        (&world, &user("sasl_plaintext", "nobody", "s3cret"), "Invalid username or password"),
        (&world, &scram, "Unsupported SASL mechanism"),
        (&over_tls, &user("sasl_ssl", "admin", "right"), "certificate verify failed"),
        (&by_name, &with_ca, "certificate verify failed"),
    ];
    for (world, set, words) in cases {
        both(world, set).iter_mut().for_each(|program| is_refused(program, words));
    }
    let flags = properties(&with_ca);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    over_tls.produce(&[&["--batches", "2", "--interval", "0"], &flags[..]].concat());
    over_tls.catch_up(&flags);
    assert_eq!(over_tls.number("SELECT count(*) FROM batches"), Some(2));
}

#[test]
fn while_no_broker_answers_the_reason_is_named_and_the_wait_goes_on() {
    let secure = Secure::start("admin:right");
    let away = World::without_topics("away", "127.0.0.1:1", 1);
    let unknown = World::without_topics("unknown_host", "no-such-host.invalid:9092", 1);
    let tls = World { kafka: secure.broker.address.clone(), ..secure.world("tls_to_plaintext") };
    let plain = secure.world("plaintext_to_sasl");
    let cases: [Case; 4] = [
        (&away, &[], "Connection refused"),
        // DNS may know the host later.
        (&unknown, &[], "Failed to resolve 'no-such-host.invalid:9092'"),
        (&tls, &user("sasl_ssl", "admin", "right"), "in state SSL_HANDSHAKE"),
        (&plain, &[], "Disconnected"),
    ];
    for (world, set, words) in cases {
        for mut program in both(world, set) {
            program.wait_until_it_says("still trying");
            let begun = Instant::now();
            program.wait_until_it_says(words);
            slowness::in_time("the reason", begun.elapsed(), Duration::from_secs(5));
            assert!(program.said().contains(&format!("no broker answers at {}", world.kafka)));
            program.stop();
        }
    }
}

#[test]
fn a_password_that_is_changed_later_ends_both_programs_and_a_restart_of_the_broker_does_not() {
    let secure = Secure::start("admin:right");
    let world = secure.world("rotation");
    let set = properties(&user("sasl_plaintext", "admin", "right"));
    let flags: Vec<&str> = set.iter().map(String::as_str).collect();
    let mut producer = world.producer(&[&["--interval", "200ms"], &flags[..]].concat());
    let mut reader = world.reader(&flags);
    world.wait_for_batches(2);
    let restart = |users: &str| {
        secure.broker.run("kill");
        let environment = [("KAFKA_USERS", users)];
        secure.broker.run_in("start", &environment);
    };
    restart("admin:right");
    let before = world.number("SELECT count(*) FROM batches").unwrap();
    world.wait_for_batches(before + 2);
    assert!(producer.is_running() && reader.is_running());
    restart("admin:another");
    for program in [&mut reader, &mut producer] {
        program.fails(1, "Invalid username or password");
    }
    // Nothing is lost: with the right password both go on.
    restart("admin:right");
    let mut producer = world.producer(&[&["--batches", "1", "--interval", "0"], &flags[..]].concat());
    producer.succeeds();
    world.catch_up(&flags);
    assert_eq!(world.number("SELECT count(*) FROM dead_letters"), Some(0));
}
