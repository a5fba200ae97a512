//! The signs of life of a session: what `/readyz` and `/metrics` show of it, and a log line when it has nothing to do.
//!
//! **A scrape costs the loop nothing**: the loop leaves its numbers where the server finds them, twice a second.
//! With `--http` it also asks Postgres whether it is there, while nothing else does, because an idle reader would
//! notice an outage after ten seconds only (`comparison`).

use super::rest::{self, Rest};
use super::soundness::Soundness;
use super::{Membership, Session, SessionError};
use crate::coordinates::TopicPartition;
use crate::health::Obstacle;
use crate::metric::Metric;
use crate::reader::store::StoreError;
use crate::reader::vitals::Backlog;
use futures_util::FutureExt as _;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often the numbers are left, and Postgres is asked.
const EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Signs {
    /// Whether the session has worked.
    pub(super) sound: Soundness,
    /// How long there has been nothing to do.
    pub(super) rest: Rest,
    /// When the numbers were left last.
    shown: Instant,
    /// A question to Postgres under way.
    pulse: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Signs {
    pub(super) fn begun() -> Self {
        Self { sound: Soundness::begun(), rest: Rest::default(), shown: Instant::now(), pulse: None }
    }
}

impl Session<'_> {
    /// Shows whether the session works, and what it holds.
    pub(super) fn show_signs(&mut self) -> Result<(), SessionError> {
        let health = &self.memory.vitals.health;
        health.set(Obstacle::Connections, self.consumer.unreached().map(|what| format!("kafka: {what}")));
        health.set(Obstacle::Assignment, self.awaits().map(|what| format!("waiting for {what}")));
        self.end_doubt();
        let now = Instant::now();
        if now.saturating_duration_since(self.signs.shown) < EVERY {
            return Ok(());
        }
        self.signs.shown = now;
        let lags = self.lags();
        if let Some(lasted) = self.signs.rest.due(self.has_nothing_to_do(&lags), now) {
            rest::say(lasted, lags.len() / Metric::ALL.len(), self.memory.last_commit);
        }
        if self.options.http.is_none() {
            return Ok(());
        }
        self.memory.vitals.holds(self.backlog(lags));
        self.feel_pulse()
    }

    /// After an outage, a reader that has nothing to store counts as sound once it holds what the group has assigned:
    /// its last transaction was to take that. (One that has something to store must store it.)
    fn end_doubt(&self) {
        let is_doubted = self.memory.vitals.health.has(Obstacle::Doubt);
        let has_assigned = matches!(self.membership, Membership::Holding(_));
        if is_doubted && has_assigned && self.lags().iter().all(|(_, lag)| *lag == 0) {
            self.memory.vitals.is_sound();
        }
    }

    /// Whether it holds partitions of which everything is stored. (Of a reader that holds none, and of one that
    /// waits for something, other lines tell.)
    fn has_nothing_to_do(&self, lags: &[(TopicPartition, i64)]) -> bool {
        self.membership.holds_some() && lags.iter().all(|(_, lag)| *lag == 0)
    }

    /// What the reader waits for before it can work.
    fn awaits(&self) -> Option<String> {
        match &self.membership {
            Membership::Holding(_) => None,
            Membership::Joining | Membership::Misfit => {
                let known = self.idle.waits_for.clone();
                Some(known.unwrap_or_else(|| "the group to assign partitions".to_owned()))
            }
        }
    }

    fn backlog(&self, lags: Vec<(TopicPartition, i64)>) -> Backlog {
        let Membership::Holding(holding) = &self.membership else { return Backlog::default() };
        let topic = |metric| self.options.kafka.topic(metric).to_owned();
        let lag = lags.into_iter().map(|(at, lag)| (topic(at.metric), at.partition, lag)).collect();
        Backlog { lag, buffered: holding.buffered(), partitions: holding.count() }
    }

    /// Asks Postgres whether it is there. Ends the session if the connection is broken; the watchdog notices that
    /// there is no answer.
    fn feel_pulse(&mut self) -> Result<(), SessionError> {
        if let Some(pulse) = &mut self.signs.pulse {
            let Some(felt) = pulse.now_or_never() else { return Ok(()) };
            self.signs.pulse = None;
            felt??;
        }
        let feel = self.owner.task(|store| store.feel_pulse());
        self.signs.pulse = Some(tokio::task::spawn_blocking(feel));
        Ok(())
    }
}
