//! Memory: what the reader needs at its peak, while messages of 32 MiB come in every codec and order.

use crate::kafka::Plain;
use crate::slowness::Deadline;
use crate::world::{Daemon, PATIENCE, World};
use std::time::Duration;

const MIB: usize = 1024 * 1024;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

/// The largest message; a batch has three.
const MESSAGE: usize = 32 * MIB;
const BATCH: usize = 3 * MESSAGE;
const BUDGET: usize = MIB;

/// The guarantee: `--buffer-bytes` plus a small multiple of the largest batch. The multiple covers the batch
/// that is being worked on, a batch that is read meanwhile (the budget lets a batch be completed), one that
/// librdkafka holds, one that it receives, and the bytes of a refused batch in the INSERT and in libpq's
/// buffer. The rest is for programs and libraries, and for librdkafka's prefetch (16 MiB).
const BOUND: usize = BUDGET + 6 * BATCH + 64 * MIB;

/// The largest resident size that a process had so far, in bytes; `None` once it has ended.
fn peak(pid: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
}

/// The peak, once the process has ended (a debug build is slow). It is sampled while the process runs, and
/// never shrinks by this measure.
fn peak_until_it_ends(reader: &mut Daemon) -> usize {
    let (mut highest, deadline) = (0, Deadline::of(4 * PATIENCE));
    while reader.is_running() {
        assert!(!deadline.is_over(), "it does not end; it said:\n{}", reader.said());
        highest = peak(reader.pid()).unwrap_or(highest);
        std::thread::sleep(Duration::from_millis(5));
    }
    highest
}

/// A body of `MESSAGE` bytes with the same content as the short one.
fn inflated(metric: &str) -> Vec<u8> {
    let mut body = format!(r#"{{"{metric}":[1,2,3]"#).into_bytes();
    body.resize(MESSAGE - 1, b' ');
    body.push(b'}');
    body
}

/// A body of `MESSAGE` bytes. A quarter of them are numbers as short as possible, and the last element is no
/// number. (Only a quarter, because a debug build is slow with millions of numbers.)
fn dense(metric: &str) -> Vec<u8> {
    let start = format!(r#"{{"{metric}":["#);
    let mut body = [start.as_bytes(), &b"1,".repeat(MESSAGE / 8), b"NaN]"].concat();
    body.resize(MESSAGE - 1, b' ');
    body.push(b'}');
    body
}

#[test]
fn memory_stays_bounded_whatever_comes_in_messages_of_32_mib() {
    let world = World::new("memory", 1);
    let mut sent = 0;
    let mut send = |codec: &str, key: &str, body: &dyn Fn(&str) -> Vec<u8>| {
        let plain = Plain::compressed(&world.kafka, codec);
        for (topic, metric) in world.topics.iter().zip(METRICS) {
            let sound = format!(r#"{{"{metric}":[1,2,3]}}"#);
            plain.send(topic, 0, Some(key.as_bytes()), Some(&body(metric)));
            plain.send(topic, 0, Some(format!("beside {key}").as_bytes()), Some(sound.as_bytes()));
            plain.flush();
        }
        sent += BATCH;
    };
    for codec in CODECS {
        send(codec, &format!("inflated {codec}"), &inflated);
    }
    send("zstd", "nothing", &|_| vec![0; MESSAGE]);
    send("none", "nothing", &|_| vec![0; MESSAGE]);
    send("lz4", "dense", &dense);
    assert!(sent > BOUND, "all of it at once would be seen");

    let mut reader = world.reader(&["--until-caught-up", "--buffer-bytes", &BUDGET.to_string()]);
    let peak = peak_until_it_ends(&mut reader);
    reader.catches_up();
    eprintln!("memory: a peak of {} MiB, {} MiB allowed", peak / MIB, BOUND / MIB);
    assert!(peak > 0 && peak < BOUND, "a peak of {} MiB, more than {} MiB", peak / MIB, BOUND / MIB);
    assert_eq!(world.number("SELECT count(*) FROM batches WHERE batch_key LIKE 'inflated%'"), Some(5));
    assert_eq!(world.number("SELECT count(*) FROM batches WHERE batch_key LIKE 'beside%'"), Some(8));
    assert_eq!(world.number("SELECT count(*) FROM dead_letters WHERE reason = 'malformed'"), Some(6));
    assert_eq!(world.number("SELECT count(*) FROM dead_letters WHERE reason = 'not_finite'"), Some(3));
}
