//! One session: a consumer, its connections to Postgres, and everything that was read and not yet stored.
//!
//! Owns the loop *read, pair, score, commit*. Does not decide what happens after an error: a session returns
//! its error and is dropped as a whole.
//!
//! **A single task owns all state**, so there is nothing to lock. Threads score, commit and query the
//! brokers; the loop handles their results between two messages. State lives as long as what it describes:
//! everything about an assignment is one value, a [`holding::Holding`], and a revocation drops it.

mod assignment;
mod brokers;
mod catch_up;
mod clock;
mod commit;
mod comparison;
mod error;
mod held;
mod held_up;
mod holding;
mod idle;
pub(super) mod log;
mod marks;
mod membership;
mod memory;
pub(super) mod opening;
mod other_database;
pub(super) mod owner;
mod partners;
mod queue;
mod receipt;
mod refusals;
mod rest;
mod scorers;
mod signs;
mod soundness;
pub(super) mod topics;
mod torn;
mod upkeep;
pub(super) mod watchdog;
mod writers;

pub use error::SessionError;
pub use memory::Memory;

use super::budget::Reading;
use super::progress::Read;
use super::{Ending, Options};
use crate::kafka::{Cluster, Consumer, Event, KafkaError, Right};
use crate::shutdown::Shutdown;
use brokers::Brokers;
use clock::ReadingClock;
use futures_util::FutureExt as _;
use idle::Idle;
use membership::Membership;
use opening::{Connections, ask_cluster_id, connect};
use owner::Owner;
use signs::Signs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior, interval};
use upkeep::Upkeep;
use watchdog::Watchdog;
use writers::Writers;

/// Messages handled before the loop turns to everything else again.
const MESSAGES_AT_ONCE: usize = 512;
/// How often the loop turns to positions, overdue messages and questions to the brokers.
const TICK: Duration = Duration::from_millis(100);

/// See the module.
pub struct Session<'a> {
    /// What the flags say.
    options: &'a Options,
    /// Whether the reader is to stop.
    shutdown: &'a Shutdown,
    /// What one session of this process leaves to the next.
    memory: &'a mut Memory,
    /// The Kafka consumer, a member of the group.
    consumer: Consumer,
    /// Questions to the brokers.
    brokers: Brokers,
    /// The connection that takes partitions.
    owner: Owner,
    /// The connections that commit.
    writers: Writers,
    /// What the group has assigned.
    membership: Membership,
    /// How long no partition has been held, and what was asked and logged about it.
    idle: Idle,
    /// The time spent reading.
    clock: ReadingClock,
    /// See [`TICK`].
    tick: Interval,
    /// What it shows of itself.
    signs: Signs,
}

impl<'a> Session<'a> {
    /// Connects to Kafka and Postgres; waits for the brokers as long as it takes. `None`: it is to stop.
    pub async fn open(
        options: &'a Options,
        shutdown: &'a Shutdown,
        memory: &'a mut Memory,
    ) -> Result<Option<Self>, SessionError> {
        let cluster = Arc::new(Cluster::new(&options.kafka, Right::Read)?);
        let cluster_id = tokio::select! {
            () = shutdown.requested() => return Ok(None),
            id = ask_cluster_id(Arc::clone(&cluster), &memory.vitals.health) => id?,
        };
        let source = opening::source(options, cluster_id);
        let health = Arc::clone(&memory.vitals.health);
        let mut watchdog = Watchdog::new(&options.database, Arc::clone(&health));
        let connecting = connect(&mut watchdog, options, &source, memory);
        let Connections { owner, writers, topics, rules } = tokio::select! {
            () = shutdown.requested() => return Ok(None),
            connected = connecting => connected?,
        };
        let consumer = Consumer::subscribe(&options.kafka, &options.group_id)?;
        opening::log_ready(options, &rules, &source);
        memory.vitals.session_opened();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let upkeep = Upkeep::new(&options.database, &source, options.retention);
        let mut session = Self {
            options,
            shutdown,
            memory,
            consumer,
            brokers: Brokers::new(cluster, topics, health),
            owner: Owner::new(owner, watchdog, source).with(upkeep),
            writers: Writers::new(rules, writers),
            membership: Membership::Joining,
            idle: Idle::begun(),
            clock: ReadingClock::start(),
            tick,
            signs: Signs::begun(),
        };
        // As early as possible: it may take a while until the group assigns.
        tokio::select! {
            () = shutdown.requested() => return Ok(None),
            found = session.find_marks() => found?,
        }
        Ok(Some(session))
    }

    /// Whether this session has worked. If it has, an outage that ends it counts as a new one.
    pub fn was_sound(&self) -> bool {
        self.signs.sound.has_worked()
    }

    /// Leaves the group.
    pub async fn close(self) {
        self.consumer.close().await;
    }

    /// Runs the loop until the reader is to stop or, with `--until-caught-up`, has caught up.
    pub async fn work(&mut self) -> Result<Ending, SessionError> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.requested() => return self.drain().await.map(|()| Ending::Done),
                mute = self.owner.mute() => return Err(mute),
                Some(receipt) = self.writers.next(&mut self.memory.refusals) => self.on_commit(&receipt?),
                Some(scored) = self.membership.scored() => scored?,
                Some(answer) = self.brokers.answer() => self.on_answer(answer?).await?,
                _ = self.tick.tick() => self.on_tick()?,
                event = self.consumer.next() => self.on_events(event).await?,
            }
            if let Membership::Holding(holding) = &mut self.membership {
                holding.collect();
            }
            self.start_work()?;
            self.control_reading()?;
            if self.has_caught_up() {
                return self.end_caught_up().await;
            }
        }
    }

    /// Finishes the commits under way, and stores what is scored and how far reading got. (By the time the
    /// reader comes back, retention may have removed a transaction marker behind the last batch.) What is not
    /// scored yet is read again.
    async fn drain(&mut self) -> Result<(), SessionError> {
        self.finish_commits().await?;
        while let Some(Some(scored)) = self.membership.scored().now_or_never() {
            scored?;
        }
        self.read_positions()?;
        if let Membership::Holding(holding) = &mut self.membership {
            holding.note_all_progress();
        }
        self.start_commits()?;
        self.finish_commits().await
    }

    /// Handles an event, and the events that are ready behind it.
    async fn on_events(&mut self, event: Event) -> Result<(), SessionError> {
        self.on_event(event).await?;
        for _ in 0..MESSAGES_AT_ONCE {
            // Near the memory limit, the budget decides after every message what may be read.
            if self.membership.reading() != Reading::All {
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
                self.brokers.on_message();
                let Membership::Holding(holding) = &mut self.membership else { return Ok(()) };
                let id = message.id();
                match holding.push(message, self.clock.now()) {
                    Read::New | Read::Passed => Ok(()),
                    Read::Replaced => self.on_replaced(id).await,
                }
            }
            Event::Assigned(partitions) => self.on_assigned(partitions).await,
            Event::Revoked => self.on_revoked().await,
            // The next session finds out which position, when it takes the partitions.
            Event::PositionLost => Err(SessionError::Broken("a position is not in the log".into())),
            Event::Fatal(what) => Err(SessionError::Broken(format!("kafka: {what}"))),
            Event::Denied => Err(self.denied().await.into()),
            Event::Error(KafkaError::Transient(what)) => {
                self.brokers.on_trouble(&what);
                Ok(())
            }
            Event::Error(error) => Err(error.into()),
        }
    }

    fn on_tick(&mut self) -> Result<(), SessionError> {
        self.show_signs()?;
        self.clock.tick(self.membership.reading() != Reading::Nothing, Instant::now());
        self.read_positions()?;
        self.expire_messages();
        self.say_who_waits();
        self.ask_why_idle();
        self.ask_topic_ids();
        self.compare_progress();
        self.watch_others();
        self.ask_whether_stored_elsewhere();
        self.keep_up();
        Ok(())
    }

    /// Notes how far each topic was read, including offsets that hold no message.
    fn read_positions(&mut self) -> Result<(), SessionError> {
        if let Membership::Holding(holding) = &mut self.membership {
            let positions = self.consumer.positions()?;
            holding.read_up_to(&positions);
            let positions = holding.positions(positions);
            self.say_what_holds_up(&positions);
        }
        Ok(())
    }

    /// Gives up messages whose partners are missing, and queues progress that no batch would store.
    fn expire_messages(&mut self) {
        let Membership::Holding(holding) = &mut self.membership else { return };
        let now = self.clock.now();
        let wanted = holding.watermarks_wanted(now);
        holding.expire(now);
        holding.note_progress(self.memory.marks.as_ref(), self.writers.busy(), Instant::now());
        wanted.into_iter().for_each(|at| self.ask_watermark(at, now));
    }

    /// Pauses and resumes topics as the memory budget requires.
    fn control_reading(&mut self) -> Result<(), SessionError> {
        let Membership::Holding(holding) = &mut self.membership else { return Ok(()) };
        if holding.make_room(!self.writers.are_idle()) {
            self.start_work()?;
        }
        let Membership::Holding(holding) = &mut self.membership else { return Ok(()) };
        let (pause, resume) = holding.change_paused();
        if !pause.is_empty() {
            self.consumer.pause(&pause)?;
        }
        if !resume.is_empty() {
            self.consumer.resume(&resume)?;
        }
        Ok(())
    }
}

/// Runs blocking work on a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SessionError> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
