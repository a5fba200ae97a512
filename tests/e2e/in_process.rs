//! The two daemons as a library: they run in this process, and stop through their shutdown handle, without
//! signals.

use crate::slowness;
use crate::world::World;
use rfm_stream::failure::Failure;
use rfm_stream::kafka::Connection;
use rfm_stream::postgres::Address;
use rfm_stream::producer::Origin;
use rfm_stream::producer::source::Random;
use rfm_stream::reader::score::Rules;
use rfm_stream::reader::segment::SegmentMap;
use rfm_stream::shutdown::Shutdown;
use rfm_stream::{producer, reader};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a daemon may take to end after it is asked to stop.
const DRAINED: Duration = Duration::from_secs(8);

/// A daemon on a thread of its own.
struct Running {
    shutdown: Shutdown,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Running {
    fn start<F: Future<Output = Result<(), Failure>>>(
        daemon: impl FnOnce(Shutdown) -> F + Send + 'static,
    ) -> Self {
        let shutdown = Shutdown::default();
        let handle = shutdown.clone();
        let thread = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ended = runtime.block_on(daemon(handle));
            runtime.shutdown_background();
            ended
        });
        Self { shutdown, thread }
    }

    fn producer(world: &World) -> Self {
        let options = producer::Options {
            kafka: connection(world),
            interval: Duration::from_millis(20),
            origin: Origin::Random(Random { customers: 50, seed: Some(7), population: None }),
            batches: None,
            partitions: 2,
            transactional_id: world.name.clone(),
            http: None,
            env_file: None,
        };
        Self::start(|shutdown| producer::run(options, shutdown))
    }

    fn reader(world: &World) -> Self {
        let rules = Rules { max_customers: 1_000, ..Rules::new(SegmentMap::built_in().unwrap()) };
        let options = reader::Options {
            kafka: connection(world),
            database: Address::new(&world.database_url, "the test's URL", "rfm-reader").unwrap(),
            group_id: world.name.clone(),
            rules,
            edges_from: None,
            pairing_timeout: Duration::from_secs(20),
            buffer_bytes: 64 << 20,
            until_caught_up: false,
            http: None,
            retention: Default::default(),
            env_file: None,
        };
        Self::start(|shutdown| async { reader::run(options, shutdown).await.map(|_| ()) })
    }

    /// Asks it to stop, and checks that it ends without an error and in time.
    fn stop(self) {
        assert!(!self.thread.is_finished(), "it ended by itself: {:?}", self.thread.join());
        let begun = Instant::now();
        self.shutdown.request();
        self.thread.join().unwrap().unwrap();
        slowness::in_time("the end of a daemon that was asked to stop", begun.elapsed(), DRAINED);
    }
}

fn connection(world: &World) -> Connection {
    Connection {
        bootstrap_servers: world.kafka.clone(),
        topics: world.topics.clone().into(),
        properties: Vec::new(),
    }
}

#[test]
fn daemons_at_work_stop_through_their_shutdown_handle() {
    let world = World::new("in_process", 2);
    let (producer, reader) = (Running::producer(&world), Running::reader(&world));
    world.wait_for_batches(5);
    producer.stop();
    reader.stop();
    // Neither left anything half done, and another process goes on where they ended.
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
    assert_eq!(
        world.number("SELECT count(*) FROM segments"),
        world.number("SELECT 50 * count(*) FROM batches")
    );
}

#[test]
fn daemons_that_wait_for_a_broker_stop_through_their_shutdown_handle() {
    // It accepts connections and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::without_topics("in_process_mute", &mute.local_addr().unwrap().to_string(), 1);
    for start in [Running::producer, Running::reader] {
        let daemon = start(&world);
        drop(mute.accept().unwrap());
        daemon.stop();
    }
}
