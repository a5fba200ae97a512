//! One session: a consumer, its connections to Postgres, and all that was read and not yet stored.
//!
//! Owns the loop *read, pair, score, commit* and the memory budget. Does not own what happens after an
//! error: it returns it, and everything here is thrown away.
//!
//! The one idea: **a single task owns all state**, so there is nothing to lock. Threads only score and
//! commit; what they hand back is taken in here, between two messages.

mod assignment;
mod commit;
mod comparison;
mod error;
mod flow;
mod log;
mod opening;
mod pipeline;
mod stored;
mod suspicion;
mod topics;
mod waiting;
mod watchdog;

pub use error::SessionError;

use super::Options;
use super::budget::{Budget, Reading};
use super::pairing::{Pairing, Position};
use super::progress::Read;
use super::store::{Source, Store, Tables};
use crate::backoff::Steps;
use crate::failpoint;
use crate::kafka::{Cluster, Consumer, Event, KafkaError, LogPosition};
use crate::message::{Message, Metric};
use crate::shutdown::Shutdown;
use opening::{Connections, ask_cluster_id, connect};
use pipeline::Pipeline;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stored::Stored;
use suspicion::Suspicion;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use topics::Topics;
use waiting::{Answer, Idle, ReadingClock};
use watchdog::Watchdog;

/// Messages taken in before the loop looks after everything else again.
const MESSAGES_AT_ONCE: usize = 512;
/// Positions, overdue messages and waiting are looked after this often.
const TICK: Duration = Duration::from_millis(100);
/// A session that lasted so long has found everything in order, even if there was nothing to store. (One that
/// only waited for a lock ends before.)
const SOUND_AFTER: Duration = Duration::from_secs(30);

/// The little that outlives a session.
#[derive(Debug, Default)]
pub struct Memory {
    suspicion: Suspicion,
    /// With `--until-caught-up`: the high watermarks when a partition was first assigned.
    targets: BTreeMap<i32, [i64; 3]>,
    /// What the tables had when the process started; `None` before they were made or found.
    tables: Option<Tables>,
}

/// See the module.
pub struct Session<'a> {
    options: &'a Options,
    shutdown: &'a Shutdown,
    memory: &'a mut Memory,
    source: Source,
    cluster: Arc<Cluster>,
    consumer: Consumer,
    /// The connection that takes partitions.
    owner: Arc<Mutex<Store>>,
    watchdog: Watchdog,
    pairing: Pairing,
    pipeline: Pipeline,
    budget: Budget,
    clock: ReadingClock,
    paused: BTreeSet<(Metric, i32)>,
    stored: BTreeMap<i32, Stored>,
    answers: JoinSet<Answer>,
    tick: Interval,
    topics: Topics,
    idle: Idle,
    trouble: Steps,
    /// The group has spoken: what it assigned is held, be it nothing.
    assigned: bool,
    /// The topics did not fit when the group last assigned them.
    misfit: bool,
    opened: Instant,
    committed: bool,
}

impl<'a> Session<'a> {
    /// Connects to both sides; waits for the brokers as long as it takes. `None` if the reader is to stop.
    pub async fn open(
        options: &'a Options,
        shutdown: &'a Shutdown,
        memory: &'a mut Memory,
    ) -> Result<Option<Self>, SessionError> {
        let cluster = Arc::new(Cluster::new(&options.kafka)?);
        let asking = ask_cluster_id(Arc::clone(&cluster), options);
        let cluster_id = tokio::select! {
            () = shutdown.requested() => return Ok(None),
            id = asking => id?,
        };
        let source = opening::source(options, cluster_id);
        let mut watchdog = Watchdog::new(&options.database_url);
        let connecting = connect(&mut watchdog, options, &source, memory);
        let Connections { owner, writers, topics } = tokio::select! {
            () = shutdown.requested() => return Ok(None),
            connected = connecting => connected?,
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
            memory,
            source,
            cluster,
            consumer,
            owner: Arc::new(Mutex::new(owner)),
            watchdog,
            pairing: Pairing::new(options.pairing_timeout),
            pipeline: Pipeline::new(options.rules.clone(), writers),
            budget: Budget::new(options.buffer_bytes),
            clock: ReadingClock::start(),
            paused: BTreeSet::new(),
            stored: BTreeMap::new(),
            answers: JoinSet::new(),
            tick,
            idle: Idle::begun(),
            trouble: Steps::default(),
            assigned: false,
            misfit: false,
            opened: Instant::now(),
            committed: false,
            topics: Topics::stored(topics),
        }))
    }

    /// Whether this session has worked: an outage that ends it is a new one.
    pub fn was_sound(&self) -> bool {
        self.committed || self.opened.elapsed() > SOUND_AFTER
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
                mute = self.watchdog.alarm() => return Err(mute),
                receipt = self.pipeline.next(&mut self.memory.suspicion), if self.pipeline.is_busy() => {
                    self.on_commit(receipt?);
                }
                Some(answer) = self.answers.join_next() => self.on_answer(answer).await?,
                _ = self.tick.tick() => self.on_tick()?,
                event = self.consumer.next() => self.on_events(event).await?,
            }
            self.pipeline.collect(&mut self.pairing);
            self.start_work()?;
            self.control_reading()?;
            if self.options.until_caught_up && self.has_caught_up() {
                tracing::info!("caught up");
                return Ok(());
            }
        }
    }

    /// Finishes what is under way, and stores how far reading got: a transaction marker behind the last batch
    /// may be gone when the reader comes back.
    async fn drain(&mut self) -> Result<(), SessionError> {
        self.finish_commits().await?;
        self.look_at_positions()?;
        self.stored.keys().for_each(|&partition| self.pipeline.note_progress(partition));
        self.pipeline.start(&mut self.pairing, &self.memory.suspicion);
        self.finish_commits().await
    }

    /// Gives threads what is ready for them. **A commit is built from the newest positions**: the marker behind
    /// the last message is read past by then as a rule, and retention may take it.
    fn start_work(&mut self) -> Result<(), SessionError> {
        if self.pipeline.may_commit() {
            self.look_at_positions()?;
        }
        self.pipeline.start(&mut self.pairing, &self.memory.suspicion);
        Ok(())
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
                let Message { metric, partition, offset, .. } = message;
                match self.pairing.push(message, self.clock.now()) {
                    Read::New => {
                        self.budget.hold(weight);
                        failpoint::reach("after_poll");
                    }
                    Read::Passed => {}
                    Read::Replaced => return self.on_replaced(Position { partition, metric, offset }).await,
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
            self.ask_mark(partition, metric, now);
        }
        self.pairing.expire(now);
        self.note_progress();
        self.look_after_idleness();
        self.look_after_topics();
        self.look_after_progress();
        Ok(())
    }

    /// Does something with the connection that owns, on a thread.
    async fn with_owner<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let owner = Arc::clone(&self.owner);
        let work = async { blocking(move || work(&mut owner.blocking_lock())).await? };
        self.watchdog.guard(work).await
    }

    /// Takes in how far each topic was read, past what is no message.
    fn look_at_positions(&mut self) -> Result<(), SessionError> {
        for LogPosition { metric, partition, offset, leader_epoch } in self.consumer.positions()? {
            self.pairing.read_up_to(partition, metric, offset, leader_epoch);
        }
        Ok(())
    }
}

/// Runs what blocks on a thread for such.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SessionError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SessionError::Broken(format!("a thread failed: {error}")))
}
