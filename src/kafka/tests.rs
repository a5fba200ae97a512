//! The words of librdkafka on which this code depends, checked against the real library.

use super::*;
use crate::kafka::bootstrap::{RESTING, is_out_of_use};
use crate::metric::PerMetric;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::mocking::MockCluster;
use rdkafka::statistics::{Broker, Statistics};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is waited for comes within this time or never.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests of a handshake, by their numbers in the protocol.
const API_VERSIONS: i16 = 18;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;

/// Brokers before 1.0 take the credentials without a request around them. These begin with a zero and `r`.
const BARE_CREDENTIALS: i16 = 0x72;

/// What a broker does with a request.
#[derive(Clone, Copy, Debug)]
enum Treatment {
    /// Answers it with this error code; 0 is none.
    Answer(i16),
    /// Closes the connection.
    Close,
    /// Closes it with a reset.
    Reset,
    /// Keeps it open and never answers.
    Hang,
}

/// Serves one connection: everything is answered but `special`, which is treated like this.
fn serve(mut stream: TcpStream, special: i16, treatment: Treatment) -> std::io::Result<()> {
    loop {
        let mut head = [0; 6];
        stream.read_exact(&mut head)?;
        let [l0, l1, l2, l3, a0, a1] = head;
        let (length, api) = (u32::from_be_bytes([l0, l1, l2, l3]), i16::from_be_bytes([a0, a1]));
        let treatment = if api == special { treatment } else { Treatment::Answer(0) };
        // A connection that is closed before everything was read is reset.
        if matches!(treatment, Treatment::Reset) {
            return Ok(());
        }
        let mut rest = vec![0; length as usize - 2];
        stream.read_exact(&mut rest)?;
        match treatment {
            Treatment::Answer(code) => {
                let answer = [&rest[2..6], &code.to_be_bytes(), &answer_to(api, special)].concat();
                let length = u32::try_from(answer.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())?;
            }
            // Ends when the client has given up.
            Treatment::Hang => drop(stream.read(&mut [0])?),
            Treatment::Close | Treatment::Reset => return Ok(()),
        }
    }
}

/// What follows the error code of an answer. Only a broker that takes bare credentials lacks
/// `SASL_AUTHENTICATE`.
fn answer_to(api: i16, special: i16) -> Vec<u8> {
    match api {
        // Of version 3: requests with their least and greatest versions, no throttling.
        API_VERSIONS => {
            let newest = if special == BARE_CREDENTIALS { 0 } else { 1 };
            let mut versions = vec![(3, 0, 4), (SASL_HANDSHAKE, 0, newest), (API_VERSIONS, 0, 3)];
            versions.extend((newest == 1).then_some((SASL_AUTHENTICATE, 0, 0)));
            let mut answer = vec![versions.len() as u8 + 1];
            for (api, least, most) in versions {
                answer.extend([api, least, most].iter().flat_map(|number: &i16| number.to_be_bytes()));
                answer.push(0);
            }
            [answer, vec![0; 5]].concat()
        }
        SASL_HANDSHAKE => [&1_i32.to_be_bytes()[..], &5_i16.to_be_bytes(), b"PLAIN"].concat(),
        // No sentence, and nothing to authenticate the broker by.
        _ => [&0_i16.to_be_bytes()[..], &0_i32.to_be_bytes()].concat(),
    }
}

/// The first error that a consumer reports of a SASL handshake with a broker that treats one request like
/// this.
fn error_of_handshake(special: i16, treatment: Treatment) -> KafkaError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bootstrap_servers = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The client may leave at any time.
            let _ = serve(stream, special, treatment);
        }
    });
    let properties = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "reader"),
        ("sasl.password", "wrong"),
        ("socket.timeout.ms", "1000"),
    ];
    let topics = PerMetric::from_fn(|metric| metric.name().to_owned());
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let connection = Connection { bootstrap_servers, topics, properties };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut consumer = Consumer::subscribe(&connection, "handshakes").unwrap();
        let error = tokio::time::timeout(PATIENCE, async {
            loop {
                match consumer.next().await {
                    Event::Error(error) if error.to_string().contains("SASL") => return error,
                    _ => {}
                }
            }
        });
        let error = error.await.unwrap();
        consumer.close().await;
        error
    })
}

#[test]
fn a_handshake_that_breaks_off_is_no_refusal() {
    let mut cases = Vec::new();
    for api in [SASL_HANDSHAKE, SASL_AUTHENTICATE, BARE_CREDENTIALS] {
        cases.extend([(api, Treatment::Close), (api, Treatment::Reset)]);
    }
    // Without an answer to bare credentials the client gives up as with any other connection.
    cases.extend([(SASL_HANDSHAKE, Treatment::Hang), (SASL_AUTHENTICATE, Treatment::Hang)]);
    for (api, treatment) in cases {
        let error = error_of_handshake(api, treatment);
        assert!(matches!(error, KafkaError::Transient(_)), "{api} {treatment:?}: {error:?}");
    }
}

#[test]
fn a_handshake_that_the_broker_refuses_is_a_refusal() {
    let (unsupported_mechanism, authentication_failed) = (33, 58);
    for (api, code) in [(SASL_HANDSHAKE, unsupported_mechanism), (SASL_AUTHENTICATE, authentication_failed)] {
        let error = error_of_handshake(api, Treatment::Answer(code));
        assert!(matches!(error, KafkaError::Refused { .. }), "{api} {code}: {error:?}");
    }
}

#[test]
fn a_tls_handshake_that_breaks_off_is_no_refusal_and_its_end_is_reported() {
    let cases = [
        (Treatment::Close, "SSL"),
        (Treatment::Reset, "SSL"),
        // A listener without TLS answers with something else.
        (Treatment::Answer(0), "SSL"),
        // The client waits for `socket.connection.setup.timeout.ms`.
        (Treatment::Hang, "no broker answers"),
    ];
    let asked = cases.map(|(treatment, words)| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bootstrap_servers = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut hello = [0; 512];
                let room = if matches!(treatment, Treatment::Reset) { 1 } else { hello.len() };
                let _ = stream.read(&mut hello[..room]);
                match treatment {
                    Treatment::Answer(_) => drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
                    Treatment::Hang => drop(stream.read_to_end(&mut Vec::new())),
                    Treatment::Close | Treatment::Reset => {}
                }
            }
        });
        let topics = PerMetric::from_fn(|metric| metric.name().to_owned());
        let properties = vec![("security.protocol".to_owned(), "ssl".to_owned())];
        let connection = Connection { bootstrap_servers, topics, properties };
        let asking = std::thread::spawn(move || Cluster::new(&connection, Right::Read).unwrap().id());
        (treatment, words, asking)
    });
    for (treatment, words, asking) in asked {
        let error = asking.join().unwrap().unwrap_err();
        assert!(matches!(error, KafkaError::Transient(_)), "{treatment:?}: {error:?}");
        assert!(error.to_string().contains(words), "{treatment:?}: {error}");
    }
}

/// Keeps the brokers of the newest statistics.
#[derive(Default)]
struct Statistician(Mutex<Vec<Broker>>);

impl ClientContext for Statistician {
    fn stats(&self, statistics: Statistics) {
        *self.0.lock().unwrap() = statistics.brokers.into_values().collect();
    }
}

impl ConsumerContext for Statistician {}

/// Polls a client until its statistics show what is wanted.
fn wait_for(client: &BaseConsumer<Statistician>, what: &str, is_so: impl Fn(&[Broker]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        drop(client.poll(Duration::from_millis(50)));
        let brokers = client.context().0.lock().unwrap();
        if is_so(&brokers) {
            return;
        }
        let seen = brokers.iter().map(|broker| (&broker.source, &broker.state)).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "{what}: {seen:?}");
    }
}

#[test]
fn statistics_name_the_sources_and_states_of_brokers_as_expected() {
    let client = |servers: &str| -> BaseConsumer<Statistician> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers);
        config.set("group.id", "statistics").set("statistics.interval.ms", "50");
        config.create_with_context(Statistician::default()).unwrap()
    };
    // Nobody listens there, so it stays a bootstrap server and is never learned.
    let unconnected = client("127.0.0.1:1");
    wait_for(&unconnected, "a bootstrap server", |brokers| brokers.iter().any(|b| b.source == "configured"));
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("recency", 1, 1).unwrap();
    let client = client(&cluster.bootstrap_servers());
    client.subscribe(&["recency"]).unwrap();
    wait_for(&client, "a broker that is up", |brokers| {
        brokers.iter().any(|broker| broker.source == "learned" && !is_out_of_use(broker))
    });
    wait_for(&client, "a role", |brokers| brokers.iter().any(|b| b.source == "logical" && is_out_of_use(b)));
    drop(cluster);
    wait_for(&client, "a broker that is away", |brokers| {
        brokers.iter().any(|b| b.source == "learned" && RESTING.contains(&b.state.as_str()))
    });
}
