//! `--http`: health and metrics, of programs that work, that wait, and that stand still.

use crate::kafka::Plain;
use crate::probe::{ANY_PORT, Answer, Probe, sum};
use crate::slowness::{self, Deadline};
use crate::world::{Daemon, Server, World, shared_kafka, wait_for};
use diesel::connection::SimpleConnection;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Within this time `/readyz` tells that an outage has begun, or ended.
const TOLD: Duration = Duration::from_secs(2);

/// Sends three messages of one batch.
fn send(world: &World, bodies: [&str; 3], key: &str) {
    let sender = Plain::new(&world.kafka);
    for (topic, body) in world.topics.iter().zip(bodies) {
        sender.send(topic, 0, Some(key.as_bytes()), Some(body.as_bytes()));
    }
    sender.flush();
}

#[test]
fn a_reader_is_ready_once_the_group_has_assigned_be_it_nothing() {
    let world = World::new("http_ready", 1);
    let first = world.reader(&ANY_PORT);
    let probe = Probe::of(&first);
    let starting = probe.get("/readyz");
    if starting.code == 503 {
        let why = ["starting", "waiting for the group to assign partitions"];
        assert!(why.iter().any(|why| starting.body.contains(why)), "{}", starting.body);
    }
    let (_, body) = probe.wait_for_readyz(200);
    assert!(body.starts_with(r#"{"ready":true,"why":null,"since":"20"#), "{body}");
    wait_for("the number of partitions", || (probe.metrics()["rfm_partitions_held"] == 1.0).then_some(()));
    // There is one partition, so one of two readers gets none.
    let second = world.reader(&ANY_PORT);
    let probes = [probe, Probe::of(&second)];
    wait_for("a reader without partitions, and one with all", || {
        let held = probes.each_ref().map(|probe| probe.metrics()["rfm_partitions_held"]);
        (held[0] + held[1] == 1.0 && probes.iter().all(Probe::is_ready)).then_some(())
    });
}

#[test]
fn an_outage_of_postgres_is_told_within_two_seconds_of_its_begin_and_end_though_nothing_happens() {
    let postgres = Server::postgres();
    let world = World::on("http_postgres", &shared_kafka(), &postgres.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    for (begin, end, words) in
        [("kill", "start", "postgres cannot be reached"), ("STOP", "CONT", "postgres has not answered")]
    {
        told(&probe, 503, &[words], || postgres_is(&postgres, begin));
        told(&probe, 200, &[""], || postgres_is(&postgres, end));
        if begin == "kill" {
            let ended = sum(&probe.metrics(), "rfm_sessions_ended_total");
            assert_eq!(ended, 1.0, "an outage ends one session, however often the reader tries to connect");
        }
    }
}

#[test]
fn a_reader_that_cannot_store_is_not_ready_until_it_has_stored_however_many_sessions_that_takes() {
    let world = World::new("http_locked", 2);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    let mut producer = world.producer(&["--interval", "50ms"]);
    world.wait_for_batches(20);
    probe.wait_for_readyz(200);
    let mut locking = world.connect();
    locking.batch_execute("BEGIN; LOCK TABLE batches IN EXCLUSIVE MODE").unwrap();
    let (_, first) = probe.wait_for_readyz(503);
    let (begun, deadline) = (Instant::now(), Deadline::of(Duration::from_secs(60)));
    let sessions = || reader.said().matches("took partition partition=0").count();
    while begun.elapsed() < Duration::from_secs(25) || sessions() < 2 {
        let answer = probe.get("/readyz");
        assert_eq!((answer.code, since(&answer.body)), (503, since(&first)), "{}", answer.body);
        assert!(!deadline.is_over(), "no session ends:\n{}", reader.said());
        sleep(Duration::from_millis(20));
    }
    locking.batch_execute("ROLLBACK").unwrap();
    let (_, body) = probe.wait_for_readyz(200);
    let metrics = probe.metrics();
    assert!(metrics[r#"rfm_sessions_ended_total{cause="postgres_busy"}"#] >= 1.0);
    assert_ne!(since(&body), since(&first));
    producer.stop();
}

/// The time in the body of `/readyz`.
fn since(body: &str) -> &str {
    body.split_once(r#""since":"#).unwrap().1
}

#[test]
fn an_outage_of_kafka_is_told_within_two_seconds_of_its_begin_and_end_though_nothing_happens() {
    let kafka = Server::kafka();
    let world = World::without_topics("http_kafka", &kafka.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    // With the session timeout of the tests, the group would take the partition away meanwhile.
    let reader = world.reader(&[&ANY_PORT[..], &["--kafka-property", "session.timeout.ms=16000"]].concat());
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    for (begin, end, words) in [
        ("kill", "start", &["no broker can be reached", "has not answered"][..]),
        ("STOP", "CONT", &["has not answered"]),
    ] {
        told(&probe, 503, words, || kafka_is(&kafka, begin));
        kafka_is(&kafka, end);
        // A reader whose heartbeats were late has lost its place, and the group waits for the member that it was.
        let is_over = |answer: &Answer| answer.code == 200 || answer.body.contains("waiting for the group");
        let (took, body) = probe.wait_until_readyz(is_over);
        eprintln!("/readyz after {took:.2?}: {}", body.trim());
        slowness::in_time("the end of an outage", took, TOLD);
        probe.wait_for_readyz(200);
    }
}

/// Kills, starts, freezes or thaws Postgres.
fn postgres_is(server: &Server, what: &str) {
    match what {
        "STOP" | "CONT" => server.run_with("signal", &[what]),
        what => server.run(what),
    };
}

/// Kills, starts, freezes or thaws a broker.
fn kafka_is(server: &Server, what: &str) {
    match what {
        "STOP" | "CONT" => server.signal(what),
        what => drop(server.run(what)),
    }
}

/// Checks that `/readyz` changes in time once something has happened, and has one of these words.
fn told(probe: &Probe, code: u16, words: &[&str], happens: impl FnOnce()) {
    happens();
    let (took, body) = probe.wait_for_readyz(code);
    eprintln!("/readyz {code} after {took:.2?}: {}", body.trim());
    assert!(words.iter().any(|words| body.contains(words)), "expected one of {words:?}: {body}");
    slowness::in_time(&format!("{code} of /readyz"), took, TOLD);
}

#[test]
fn the_counters_of_a_reader_agree_with_the_tables_and_its_lag_returns_to_nothing() {
    let world = World::new("http_counters", 2);
    let reader = world.reader(&[&ANY_PORT[..], &["--pairing-timeout", "1s"]].concat());
    let probe = Probe::of(&reader);
    world.produce(&["--batches", "40", "--interval", "1ms", "--customers", "7"]);
    send(&world, [r#"{"recency":[1]}"#, r#"{"frequency":[]}"#, r#"{"monetary":[1]}"#], "lengths");
    send(&world, [r#"{"recency":[1]}"#, "no json", r#"{"monetary":[1]}"#], "broken");
    let alone = Plain::new(&world.kafka);
    alone.send(&world.topics[0], 1, Some(b"alone"), Some(br#"{"recency":[1]}"#));
    alone.flush();
    world.wait_for_batches(40);
    wait_for("seven dead letters", || {
        (world.number("SELECT count(*) FROM dead_letters") == Some(7)).then_some(())
    });
    let metrics = wait_for("no lag", || {
        let metrics = probe.metrics();
        let lags = metrics.keys().filter(|name| name.starts_with("rfm_lag_messages{")).count();
        (lags == 6 && sum(&metrics, "rfm_lag_messages") == 0.0).then_some(metrics)
    });
    let agree = [
        ("rfm_batches_stored_total", "SELECT count(*) FROM batches"),
        ("rfm_customers_stored_total", "SELECT count(*) FROM segments"),
        ("rfm_dead_letters_total", "SELECT count(*) FROM dead_letters"),
        (
            r#"rfm_dead_letters_total{reason="unpaired"}"#,
            "SELECT count(*) FROM dead_letters WHERE reason = 'unpaired'",
        ),
        (
            r#"rfm_dead_letters_total{reason="malformed"}"#,
            "SELECT count(*) FROM dead_letters WHERE reason = 'malformed'",
        ),
        ("rfm_batch_latency_seconds_count", "SELECT count(produced_at) FROM batches"),
    ];
    for (name, query) in agree {
        assert_eq!(sum(&metrics, name), world.number(query).unwrap() as f64, "{name}");
    }
    // A transaction may move several partitions.
    let moves = world.number("SELECT sum(commits) FROM progress").unwrap() as f64;
    let commits = metrics["rfm_commits_total"];
    assert!(commits >= moves / 2.0 && commits <= moves, "{commits} commits, {moves} moves");
    assert_eq!(metrics["rfm_commit_seconds_count"], commits);
    let query = "SELECT count(*) FROM batches WHERE produced_at BETWEEN stored_at - interval '1 min' AND clock_timestamp()";
    assert_eq!(world.number(query), Some(40), "the newest of three times of now");
    assert_eq!(metrics["rfm_buffer_bytes"], 0.0);
    let age = chrono::Utc::now().timestamp() as f64 - metrics["rfm_last_commit_timestamp_seconds"];
    assert!((-1.0..60.0).contains(&age), "{age}");
}

#[test]
fn every_metric_of_a_reader_is_there_before_anything_is_counted() {
    let world = World::new("http_metrics", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    let metrics =
        wait_for("the lag", || Some(probe.metrics()).filter(|m| m.keys().any(|k| k.starts_with("rfm_lag"))));
    let names = [
        concat!("rfm_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
        "rfm_ready",
        "rfm_batches_stored_total",
        "rfm_customers_stored_total",
        r#"rfm_dead_letters_total{reason="tied_edges"}"#,
        "rfm_commits_total",
        "rfm_commit_seconds_count",
        r#"rfm_batch_latency_seconds_bucket{le="+Inf"}"#,
        "rfm_buffer_bytes",
        "rfm_buffer_limit_bytes",
        "rfm_partitions_held",
        r#"rfm_sessions_ended_total{cause="postgres_away"}"#,
        "rfm_last_commit_timestamp_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ];
    for name in names {
        assert!(metrics.contains_key(name), "{name}: {:?}", metrics.keys());
    }
    assert_eq!(metrics["rfm_buffer_limit_bytes"], f64::from(256 * 1024 * 1024));
    let head = probe.get("/metrics").head;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
}

#[test]
fn a_loop_that_stands_still_is_told_and_so_is_its_end() {
    let world = World::new("http_frozen", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    assert_eq!(probe.get("/livez").code, 200);
    let begun = Instant::now();
    let frozen = Frozen::thread(&reader);
    let alive = wait_for("503 of /livez", || {
        let alive = begun.elapsed();
        (probe.get("/livez").code == 503).then_some(alive)
    });
    assert!(alive >= Duration::from_secs(9), "after {alive:?}: it might only be slow");
    slowness::in_time("503 of /livez", alive, Duration::from_secs(11));
    assert_eq!(probe.get("/readyz").code, 503, "nobody knows");
    assert_eq!(probe.metrics()["rfm_ready"], 0.0, "numbers are there all the same");
    drop(frozen);
    wait_for("200 of /livez", || (probe.get("/livez").code == 200).then_some(()));
}

/// A program whose main thread stands still, as if it were in an endless call. Its other threads run.
struct Frozen(libc::pid_t);

impl Frozen {
    #[expect(unsafe_code, reason = "nothing else stops a single thread")]
    fn thread(daemon: &Daemon) -> Self {
        let pid = libc::pid_t::try_from(daemon.pid()).unwrap();
        let nothing = std::ptr::null_mut::<libc::c_void>();
        let mut status = 0;
        // SAFETY: `pid` is a child of this process, and no pointer but that to `status` is used.
        let stopped = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, pid, nothing, nothing) == 0
                && libc::waitpid(pid, &raw mut status, libc::__WALL) == pid
        };
        assert!(stopped, "{}", std::io::Error::last_os_error());
        Self(pid)
    }
}

impl Drop for Frozen {
    #[expect(unsafe_code, reason = "nothing else stops a single thread")]
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: this thread has stopped it.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

#[test]
fn slow_and_large_requests_hold_up_nothing() {
    let world = World::new("http_bounds", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    let before = processor_time(&reader, "http");
    // 200 clients, each of which sends a byte a second.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| probe.connect().unwrap()).collect();
    let begun = Instant::now();
    let mut open = slow.len();
    while open > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{open} slow connections are still open");
        let asked = Instant::now();
        assert_eq!(probe.get("/livez").code, 200);
        assert!(sum(&probe.metrics(), "process_open_fds") < 200.0, "their number is bounded");
        slowness::in_time("two answers beside slow clients", asked.elapsed(), Duration::from_millis(500));
        slow.retain_mut(|stream| stream.write_all(b"G").is_ok());
        open = slow.len();
        sleep(Duration::from_secs(1));
    }
    slowness::in_time("the end of slow connections", begun.elapsed(), Duration::from_secs(15));
    let (used, lasted) = (processor_time(&reader, "http").saturating_sub(before), begun.elapsed());
    eprintln!("the server used {used:.1?} of a processor in {lasted:.1?}");
    assert!(used < lasted.mul_f64(0.02), "{used:?} of {lasted:?}: it takes the processor from the reader");

    let megabyte = "x".repeat(1024 * 1024);
    let requests = [
        format!("GET /{megabyte} HTTP/1.1\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nX: {megabyte}\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n{megabyte}"),
        format!("POST /livez HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n{megabyte}"),
    ];
    for request in requests {
        // The rest of a request that was refused may reset the connection.
        if let Ok(answer) = probe.ask(&request) {
            assert!((400..500).contains(&answer.code), "{}: {}", &request[..40], answer.code);
        }
        assert_eq!(probe.get("/livez").code, 200);
    }
}

#[test]
fn a_scrape_costs_the_loop_less_than_a_millisecond() {
    const SCRAPES: u32 = 500;
    let world = World::new("http_cost", 3);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    // What the loop uses while so many scrapes come, and how long that took.
    let work = |scrapes: u32| {
        let (begun, before) = (Instant::now(), processor_time(&reader, "reader"));
        (0..scrapes).for_each(|_| assert_eq!(probe.get("/metrics").code, 200));
        sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
        (processor_time(&reader, "reader").saturating_sub(before), begun.elapsed())
    };
    let ((without, lasted), (with, lasted_with)) = (work(0), work(SCRAPES));
    let idle = without.mul_f64(lasted_with.as_secs_f64() / lasted.as_secs_f64());
    let cost = with.saturating_sub(idle) / SCRAPES;
    eprintln!("the loop used {idle:.1?} without scrapes, {with:.1?} with {SCRAPES} of them: {cost:.1?} each");
    assert!(cost < Duration::from_millis(1), "{cost:?}");
}

/// The processor time of a program's threads of this name. (The main thread has the name of the program.)
fn processor_time(daemon: &Daemon, name: &str) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let mut nanoseconds = 0;
    for task in tasks.map(|task| task.unwrap().path()) {
        // A thread may have ended meanwhile.
        let read = |file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
        let is_main = task.file_name().unwrap().to_str() == Some(&daemon.pid().to_string());
        if read("comm").trim() == name && (name != "reader" || is_main) {
            nanoseconds += read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        }
    }
    assert!(nanoseconds > 0, "no thread `{name}`");
    Duration::from_nanos(nanoseconds)
}

#[test]
fn only_get_is_answered_and_an_unknown_path_is_not_found() {
    let world = World::new("http_paths", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        let answer = probe.ask(&format!("{method} /livez HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
        assert_eq!(answer.code, 405, "{method}");
        assert!(answer.head.to_lowercase().contains("allow: get"), "{}", answer.head);
    }
    for path in ["/nothing", "/metrics/", "/livez/../metrics"] {
        assert_eq!(probe.get(path).code, 404, "{path}");
    }
    assert_eq!(probe.get("/livez?verbose").code, 200, "a query is ignored");
    let mut stream = probe.connect().unwrap();
    stream.write_all(b"\x16\x03\x01 no http at all\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
}

#[test]
fn a_busy_port_ends_the_program_at_once_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Nothing else is there either, and is not waited for.
    let world = World::without_topics("http_busy", "127.0.0.1:1", 1);
    let begun = Instant::now();
    let mut reader = world.reader(&["--http", &address]);
    reader.fails(1, "--http cannot listen on");
    assert!(reader.said().contains("hint: another program listens there"), "{}", reader.said());
    let mut producer = world.producer(&["--http", &address]);
    producer.fails(1, "--http cannot listen on");
    slowness::in_time("a busy port, twice", begun.elapsed(), Duration::from_secs(3));
    let mut elsewhere = world.reader(&["--http", "203.0.113.1:9187"]);
    elsewhere.fails(1, "hint: give an address of this machine");
}

#[test]
fn a_producer_is_ready_once_it_can_send_and_counts_what_it_has_sent() {
    let world = World::new("http_producer", 1);
    let producer = world.producer(&[&ANY_PORT[..], &["--interval", "1h", "--customers", "9"]].concat());
    let probe = Probe::of(&producer);
    probe.wait_for_readyz(200);
    producer.wait_until_it_says("sent ");
    let metrics =
        wait_for("what was sent", || Some(probe.metrics()).filter(|m| m["rfm_batches_sent_total"] > 0.0));
    let expected = [
        (concat!("rfm_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
        ("rfm_ready", 1.0),
        ("rfm_batches_sent_total", 1.0),
        ("rfm_customers_sent_total", 9.0),
        (r#"rfm_transactions_total{result="committed"}"#, 1.0),
        (r#"rfm_transactions_total{result="aborted"}"#, 0.0),
        ("rfm_transaction_seconds_count", 1.0),
        ("rfm_orders_read_total", 0.0),
        (r#"rfm_orders_left_out_total{why="no_customer"}"#, 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(metrics.get(name), Some(&value), "{name}");
    }
    let age = chrono::Utc::now().timestamp() as f64 - metrics["rfm_last_sent_timestamp_seconds"];
    assert!((-1.0..60.0).contains(&age), "{age}");
    assert!(metrics["process_resident_memory_bytes"] > 1e6);
    assert_eq!(probe.get("/livez").code, 200);
    crate::kafka::delete_topics(&world.kafka, &world.topics[2..]);
    let (_, body) = probe.wait_for_readyz(503);
    assert!(body.contains("topics are missing") && body.contains("monetary 0"), "{body}");
}

#[test]
fn an_outage_of_kafka_is_told_by_an_idle_producer_within_two_seconds_of_its_begin_and_end() {
    let kafka = Server::kafka();
    let world = World::without_topics("http_producing", &kafka.address, 1);
    let producer = world.producer(&[&ANY_PORT[..], &["--interval", "1h"]].concat());
    let probe = Probe::of(&producer);
    probe.wait_for_readyz(200);
    for (begin, end) in [("kill", "start"), ("STOP", "CONT")] {
        told(&probe, 503, &["kafka has not answered"], || kafka_is(&kafka, begin));
        told(&probe, 200, &[""], || kafka_is(&kafka, end));
    }
}

#[test]
fn a_reader_that_has_stored_everything_says_so_once_a_minute() {
    let world = World::new("http_rest", 2);
    let reader = world.reader(&[]);
    world.produce(&["--batches", "3", "--interval", "0"]);
    world.wait_for_batches(3);
    let deadline = Deadline::of(Duration::from_secs(90));
    let said = loop {
        let said = reader.said();
        if said.contains("nothing to do") {
            break said;
        }
        assert!(!deadline.is_over(), "it says nothing:\n{said}");
        sleep(Duration::from_millis(100));
    };
    let line = said.lines().find(|line| line.contains("nothing to do")).unwrap();
    assert!(line.contains("for_s=60 partitions=2 lag=0 last_commit=\"20"), "{line}");
    let lags: Vec<&str> = said.lines().filter(|line| line.contains(" committed batches=")).collect();
    assert!(!lags.is_empty() && said.matches("nothing to do").count() == 1, "{said}");
}
