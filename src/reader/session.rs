//! One session: a consumer, its connections to Postgres, and all that was read and not yet stored.
//!
//! Owns the loop *read, pair, score, commit* and the memory budget. Does not own what happens after an
//! error: it returns it, and everything here is thrown away.
//!
//! The one idea: **a single task owns all state**, so there is nothing to lock. Threads only score and
//! commit; what they hand back is taken in here, between two messages.

mod assignment;
mod error;
mod pipeline;
mod suspicion;
mod waiting;

pub use error::SessionError;
pub use suspicion::Suspicion;

use super::Options;
use super::budget::{Budget, Reading};
use super::pairing::Pairing;
use super::store::{Source, Store};
use crate::backoff::{Steps, patiently};
use crate::kafka::{Cluster, Consumer, Event, KafkaError};
use crate::message::Metric;
use crate::shutdown::Shutdown;
use pipeline::{Pipeline, Receipt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use waiting::{Answer, ReadingClock, Waiting};

/// Connections that commit different partitions at the same time. Postgres works a connection with one
/// process, so one writer uses one core of the server.
const WRITERS: usize = 2;
/// Messages taken in before the loop looks after everything else again.
const MESSAGES_AT_ONCE: usize = 512;
/// Positions, overdue messages and waiting are looked after this often.
const TICK: Duration = Duration::from_millis(100);
/// Progress past what is no message is stored when nothing else was for this long.
const NOTE_AFTER: Duration = Duration::from_secs(1);
/// How long a commit under way may take when its partition is taken away, or the reader is to stop.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two questions for the brokers at the start.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What is known to be stored of a partition.
#[derive(Clone, Copy, Debug)]
struct Stored {
    next: [i64; 3],
    at: Instant,
    /// The high watermarks when the partition was taken.
    high: [i64; 3],
}

/// See the module.
pub struct Session<'a> {
    options: &'a Options,
    shutdown: &'a Shutdown,
    suspicion: &'a mut Suspicion,
    source: Source,
    cluster: Arc<Cluster>,
    consumer: Consumer,
    /// The connection that takes partitions; away while it does.
    owner: Option<Store>,
    pairing: Pairing,
    pipeline: Pipeline,
    budget: Budget,
    clock: ReadingClock,
    paused: BTreeSet<(Metric, i32)>,
    stored: BTreeMap<i32, Stored>,
    /// With `--until-caught-up`: the high watermarks when a partition was first assigned.
    targets: BTreeMap<i32, [i64; 3]>,
    answers: JoinSet<Answer>,
    tick: Interval,
    waiting: Waiting,
    trouble: Steps,
    /// The group has spoken: what it assigned is held, be it nothing.
    assigned: bool,
    /// The topics did not fit when the group last assigned them.
    misfit: bool,
    committed: bool,
}

impl<'a> Session<'a> {
    /// Connects to both sides; waits for the brokers as long as it takes. `None` if the reader is to stop.
    pub async fn open(
        options: &'a Options,
        shutdown: &'a Shutdown,
        suspicion: &'a mut Suspicion,
    ) -> Result<Option<Self>, SessionError> {
        let cluster = Arc::new(Cluster::new(&options.kafka)?);
        let asking = ask_cluster_id(Arc::clone(&cluster), options);
        let cluster_id = tokio::select! {
            () = shutdown.requested() => return Ok(None),
            id = asking => id?,
        };
        let [recency_topic, frequency_topic, monetary_topic] = options.kafka.topics.clone();
        let consumer_group = options.group_id.clone();
        let source = Source { consumer_group, cluster_id, recency_topic, frequency_topic, monetary_topic };

        let (url, of) = (options.database_url.clone(), source.clone());
        let connecting = blocking(move || connect(&url, &of));
        let (owner, writers) = tokio::select! {
            () = shutdown.requested() => return Ok(None),
            stores = connecting => stores??,
        };
        let consumer = Consumer::subscribe(&options.kafka, &options.group_id)?;
        tracing::info!(
            group = options.group_id,
            cluster = source.cluster_id,
            topics = options.kafka.topics.join(","),
            "ready"
        );
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Some(Self {
            options,
            shutdown,
            suspicion,
            source,
            cluster,
            consumer,
            owner: Some(owner),
            pairing: Pairing::new(options.pairing_timeout),
            pipeline: Pipeline::new(options.rules.clone(), writers),
            budget: Budget::new(options.buffer_bytes),
            clock: ReadingClock::start(),
            paused: BTreeSet::new(),
            stored: BTreeMap::new(),
            targets: BTreeMap::new(),
            answers: JoinSet::new(),
            tick,
            waiting: Waiting::begun(),
            trouble: Steps::default(),
            assigned: false,
            misfit: false,
            committed: false,
        }))
    }

    /// Whether this session has stored anything.
    pub fn committed(&self) -> bool {
        self.committed
    }

    /// Leaves the group.
    pub async fn close(self) {
        self.consumer.close().await;
    }

    /// The loop. Returns when the reader is to stop, or has caught up if it is to stop then.
    pub async fn work(&mut self) -> Result<(), SessionError> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.requested() => return self.drain().await,
                receipt = self.pipeline.next(self.suspicion), if self.pipeline.is_busy() => {
                    self.on_commit(receipt?);
                }
                Some(answer) = self.answers.join_next() => self.on_answer(answer)?,
                _ = self.tick.tick() => self.on_tick()?,
                event = self.consumer.next() => self.on_events(event).await?,
            }
            self.pipeline.collect(&mut self.pairing);
            self.pipeline.start(&mut self.pairing, self.suspicion);
            self.control_reading()?;
            if self.options.until_caught_up && self.has_caught_up() {
                tracing::info!("caught up");
                return Ok(());
            }
        }
    }

    /// Takes in an event, and what else is there already.
    async fn on_events(&mut self, event: Event) -> Result<(), SessionError> {
        self.on_event(event).await?;
        for _ in 0..MESSAGES_AT_ONCE {
            // Near the limit, what may be read is looked at after every message.
            if self.budget.reading() != Reading::All {
                break;
            }
            let Some(event) = self.consumer.next_ready() else { break };
            self.on_event(event).await?;
        }
        Ok(())
    }

    async fn on_event(&mut self, event: Event) -> Result<(), SessionError> {
        match event {
            Event::Message(message) => {
                let weight = message.weight();
                if self.pairing.push(message, self.clock.now()) {
                    self.budget.hold(weight);
                }
                self.trouble.reset();
                Ok(())
            }
            Event::Assigned(partitions) => self.on_assigned(partitions).await,
            Event::Revoked => self.on_revoked().await,
            // The next session finds out which, when it takes the partitions.
            Event::PositionLost => Err(SessionError::Broken("a position is not in the log".into())),
            Event::Fatal(what) => Err(SessionError::Broken(format!("kafka: {what}"))),
            Event::Error(KafkaError::Transient(what)) => {
                if let Some(lasted) = self.trouble.due() {
                    tracing::warn!(for_s = lasted.as_secs(), "kafka: {what}; going on");
                }
                Ok(())
            }
            Event::Error(error) => Err(error.into()),
        }
    }

    fn on_tick(&mut self) -> Result<(), SessionError> {
        self.clock.tick(self.budget.reading() != Reading::Nothing);
        self.look_at_positions()?;
        let now = self.clock.now();
        for (partition, metric) in self.pairing.ask_marks(now) {
            self.ask_mark(partition, metric);
        }
        self.pairing.expire(now);
        self.note_progress();
        self.look_after_waiting();
        Ok(())
    }

    /// Takes in how far each topic was read, past what is no message.
    fn look_at_positions(&mut self) -> Result<(), SessionError> {
        for (metric, partition, position) in self.consumer.positions()? {
            self.pairing.read_up_to(partition, metric, position);
        }
        Ok(())
    }

    /// Has progress stored that no batch carries: a while after the last commit, or at once if it is all
    /// that is missing to have caught up.
    fn note_progress(&mut self) {
        for (&partition, stored) in &self.stored {
            let Some(progress) = self.pairing.progress(partition) else { continue };
            let reached = |next: [i64; 3], target: &[i64; 3]| next.iter().zip(target).all(|(n, t)| n >= t);
            let target = self.targets.get(&partition);
            let awaited = target.is_some_and(|t| reached(progress, t) && !reached(stored.next, t));
            let due = progress != stored.next && (awaited || stored.at.elapsed() >= NOTE_AFTER);
            if due && !self.pipeline.is_committing(partition) {
                self.pipeline.note_progress(partition);
            }
        }
    }

    /// Pauses and resumes topics as the memory budget wants it.
    fn control_reading(&mut self) -> Result<(), SessionError> {
        let reading = self.budget.reading();
        if reading == Reading::All && self.paused.is_empty() {
            return Ok(());
        }
        let closed = self.closed_topics(reading);
        // Nothing that the oldest message lacks may be read, and nothing is under way that would free
        // memory: it makes room, or the reader would stall for ever.
        let stalled = self.pairing.oldest_lacks().is_some_and(|(partition, lacks)| {
            lacks.iter().all(|&metric| closed.contains(&(metric, partition)))
        });
        if stalled && self.pipeline.is_empty() {
            self.pairing.evict_oldest();
            self.pipeline.collect(&mut self.pairing);
            self.pipeline.start(&mut self.pairing, self.suspicion);
        }
        let pause: Vec<_> = closed.difference(&self.paused).copied().collect();
        if !pause.is_empty() {
            self.consumer.pause(&pause)?;
        }
        let resume: Vec<_> = self.paused.difference(&closed).copied().collect();
        if !resume.is_empty() {
            self.consumer.resume(&resume)?;
        }
        self.paused = closed;
        Ok(())
    }

    /// The topics that may not be read now.
    fn closed_topics(&self, reading: Reading) -> BTreeSet<(Metric, i32)> {
        let oldest = self.pairing.oldest_lacks().map(|(partition, _)| partition);
        let partitions = self.pairing.partitions().count();
        let is_open = |metric: Metric, partition: i32| match reading {
            Reading::All => true,
            Reading::Nothing => false,
            Reading::Behind => {
                let waiting = self.pairing.waiting_bytes(partition)[metric.index()];
                self.budget.is_behind(waiting, partitions, oldest == Some(partition))
            }
        };
        let held =
            self.pairing.partitions().flat_map(|partition| Metric::ALL.map(|metric| (metric, partition)));
        held.filter(|&(metric, partition)| !is_open(metric, partition)).collect()
    }

    /// Takes in a commit that succeeded, and says so.
    fn on_commit(&mut self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        self.committed = true;
        self.budget.release(receipt.weight);
        let at = Instant::now();
        let mut advice = Vec::with_capacity(3 * receipt.progress.len());
        for &(partition, next) in &receipt.progress {
            // A partition that was taken away meanwhile is not ours to remember.
            if let Some(stored) = self.stored.get_mut(&partition) {
                *stored = Stored { next, at, ..*stored };
                advice.extend(Metric::ALL.map(|metric| (metric, partition, next[metric.index()])));
            }
        }
        self.consumer.advise(&advice);
        for letter in &receipt.dead_letters {
            tracing::warn!("dead letter {letter}");
        }
        if receipt.batches > 0 {
            tracing::info!(
                batches = receipt.batches,
                customers = receipt.customers,
                lag = self.lag(),
                ms = receipt.took.as_millis() as u64,
                "committed"
            );
        }
    }

    /// Messages (and transaction markers) in the partitions held that are not yet stored, as of about a
    /// second ago.
    fn lag(&self) -> i64 {
        let behind = self.stored.iter().flat_map(|(&partition, stored)| {
            Metric::ALL.map(|metric| {
                let high = self.consumer.high_watermark(metric, partition).unwrap_or_default();
                (high.max(stored.high[metric.index()]) - stored.next[metric.index()]).max(0)
            })
        });
        behind.sum()
    }

    /// Whether everything is stored that was in the log when its partition was first assigned.
    fn has_caught_up(&self) -> bool {
        let reached = |(partition, stored): (&i32, &Stored)| {
            let target = self.targets.get(partition);
            target.is_some_and(|target| stored.next.iter().zip(target).all(|(next, t)| next >= t))
        };
        self.assigned && self.stored.iter().all(reached) && !self.pipeline.has_commits()
    }

    /// Finishes the commits under way, for a bounded time; the rest is read again by whoever comes next.
    async fn drain(&mut self) -> Result<(), SessionError> {
        self.finish_commits().await
    }

    async fn finish_commits(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + COMMIT_PATIENCE;
        while self.pipeline.has_commits() {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.pipeline.next(self.suspicion)).await {
                Ok(receipt) => self.on_commit(receipt?),
                Err(_) => {
                    tracing::warn!("a commit takes longer than {} s; leaving it", COMMIT_PATIENCE.as_secs());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Asks what cluster this is until a broker answers.
async fn ask_cluster_id(cluster: Arc<Cluster>, options: &Options) -> Result<String, SessionError> {
    let asking = async {
        loop {
            let cluster = Arc::clone(&cluster);
            match blocking(move || cluster.id()).await? {
                Err(KafkaError::Transient(_)) => tokio::time::sleep(ASK_AGAIN).await,
                answer => return Ok(answer?),
            }
        }
    };
    let brokers = &options.kafka.bootstrap_servers;
    patiently(asking, |away| {
        tracing::warn!(for_s = away.as_secs(), "no broker answers at {brokers}; still trying");
    })
    .await
}

/// Opens the connections: one that owns, and the writers. Brings the tables up to date.
fn connect(database_url: &str, source: &Source) -> Result<(Store, Vec<Store>), SessionError> {
    let mut owner = Store::connect(database_url, source.clone())?;
    for migration in owner.migrate()? {
        tracing::info!(migration, "created or changed the tables");
    }
    owner.claim_source()?;
    let writers =
        (0..WRITERS).map(|_| Store::connect(database_url, source.clone())).collect::<Result<_, _>>()?;
    Ok((owner, writers))
}

/// Runs what blocks on a thread for such.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SessionError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SessionError::Broken(format!("a thread failed: {error}")))
}
