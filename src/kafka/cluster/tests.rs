//! A broker by hand, for answers that a real one gives for a moment only.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Requests by their numbers in the protocol, and the newest version that this broker takes.
const METADATA: (i16, i16) = (3, 4);
const API_VERSIONS: (i16, i16) = (18, 3);
/// The error of a topic whose only broker is fenced.
const LEADER_NOT_AVAILABLE: i16 = 5;

/// A broker of a cluster of one. Fenced, it names no broker in its metadata.
struct Fenced {
    /// Where it listens.
    address: SocketAddr,
    /// Whether it still is.
    fenced: Arc<AtomicBool>,
}

impl Fenced {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fenced = Arc::new(AtomicBool::new(true));
        let is_fenced = Arc::clone(&fenced);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let fenced = Arc::clone(&is_fenced);
                // The client may leave at any time.
                thread::spawn(move || serve(stream, address.port(), &fenced));
            }
        });
        Self { address, fenced }
    }
}

/// Answers requests until the client leaves.
fn serve(mut stream: TcpStream, port: u16, fenced: &AtomicBool) -> std::io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request)?;
        let api = i16::from_be_bytes([request[0], request[1]]);
        let body = if api == METADATA.0 {
            metadata(port, fenced.load(Ordering::SeqCst), asked_for(&request))
        } else {
            versions()
        };
        let answer = [&request[4..8], &body[..]].concat();
        stream.write_all(&[&(answer.len() as u32).to_be_bytes(), &answer[..]].concat())?;
    }
}

fn versions() -> Vec<u8> {
    let mut answer = vec![0, 0, 3];
    for (api, newest) in [METADATA, API_VERSIONS] {
        answer.extend([api, 0, newest].iter().flat_map(|number: &i16| number.to_be_bytes()));
        answer.push(0);
    }
    [answer, vec![0; 5]].concat()
}

/// The topics of a request for metadata, as they stand in it: how many, then each name behind its length.
fn asked_for(request: &[u8]) -> Vec<&[u8]> {
    let two = |at: usize| usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
    let mut at = 10 + two(8);
    let count = i32::from_be_bytes(request[at..at + 4].try_into().unwrap());
    at += 4;
    let names = (0..count).map(|_| {
        let begin = at;
        at += 2 + two(begin);
        &request[begin..at]
    });
    names.collect()
}

/// Metadata of version 4.
fn metadata(port: u16, is_fenced: bool, topics: Vec<&[u8]>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat();
    let mut answer = vec![0; 4];
    let (brokers, null) = (i32::from(!is_fenced), (-1_i16).to_be_bytes());
    answer.extend(brokers.to_be_bytes());
    if !is_fenced {
        answer.extend([&1_i32.to_be_bytes()[..], &text("127.0.0.1")].concat());
        answer.extend([&i32::from(port).to_be_bytes()[..], &null].concat());
    }
    answer.extend([text("the-cluster"), 1_i32.to_be_bytes().to_vec()].concat());
    answer.extend((topics.len() as i32).to_be_bytes());
    for name in topics {
        answer.extend([&LEADER_NOT_AVAILABLE.to_be_bytes()[..], name, &[0], &[0; 4]].concat());
    }
    answer
}

/// A cluster's only broker is fenced while it wakes up, and a client that connects in this moment learns of no
/// broker. librdkafka would ask again after five minutes.
#[test]
fn a_broker_that_is_fenced_when_the_client_connects_is_asked_again() {
    let broker = Fenced::start();
    let connection = Connection {
        bootstrap_servers: broker.address.to_string(),
        topics: PerMetric::from_fn(|metric| metric.name().to_owned()),
        properties: Vec::new(),
    };
    let cluster = Cluster::new(&connection, Right::Read).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let ask = |what: &dyn Fn() -> Result<String, KafkaError>| loop {
        match what() {
            Ok(answer) => return answer,
            Err(error) => assert!(matches!(error, KafkaError::Transient(_)), "{error}"),
        }
        assert!(Instant::now() < deadline, "the client does not ask the broker");
    };
    assert_eq!(ask(&|| cluster.id()), "the-cluster");
    broker.fenced.store(false, Ordering::SeqCst);
    let none = "recency 0, frequency 0, monetary 0";
    assert_eq!(ask(&|| Ok(cluster.topic_partitions()?.to_string())), none);
}
