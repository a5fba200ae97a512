//! Health: whether the program's own loop goes round, and whether the program does its work.
//!
//! The loop and its tasks write it, the server of `--http` reads it from another thread. Owns no policy: the two
//! daemons say what stands in the way of their work, in the words of their log lines.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The loop stands still if it has not gone round for this long.
const LONGEST_ROUND: Duration = Duration::from_secs(10);
/// How often the loop goes round at least.
const BEAT: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub struct Health {
    /// When the loop went round last, in milliseconds after `begun`.
    beat: AtomicU64,
    /// When the program began.
    begun: Instant,
    /// What stands in the way of the work.
    readiness: Mutex<Readiness>,
}

/// What stands in the way of the work. **If several things do, the first of this order is the reason**: the one
/// that explains the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The brokers do not answer a question.
    Brokers,
    /// The client does not reach the brokers that it reads from.
    Connections,
    /// Postgres does not answer.
    Postgres,
    /// The program is starting, or starting over.
    Session,
    /// The topics are missing or do not fit together, or the group has assigned nothing yet.
    Assignment,
    /// Something failed, and nothing has shown yet that it is over.
    Doubt,
}

/// See [`Health`].
#[derive(Debug)]
struct Readiness {
    /// What stands in the way, each with its sentence.
    obstacles: BTreeMap<Obstacle, String>,
    /// When the program became ready, or ceased to be.
    since: DateTime<Utc>,
}

/// Whether the program does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it does.
    pub ready: bool,
    /// Why it does not.
    pub why: Option<String>,
    /// Since when it does, or does not.
    #[serde(serialize_with = "rfc_3339")]
    pub since: DateTime<Utc>,
}

impl Health {
    /// That of a program that is starting.
    pub fn starting() -> Self {
        let obstacles = BTreeMap::from([(Obstacle::Session, "starting".to_owned())]);
        let readiness = Mutex::new(Readiness { obstacles, since: Utc::now() });
        Self { beat: AtomicU64::new(0), begun: Instant::now(), readiness }
    }

    /// Goes round on the thread of the loop for as long as the program runs. **A loop that waits for a peer does
    /// not hold it up, and one that holds up its thread does.**
    pub async fn go_round(self: Arc<Self>) {
        loop {
            self.beat.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Whether the loop has gone round lately.
    pub fn is_alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(beat) < LONGEST_ROUND
    }

    /// Something stands in the way, or does not any more.
    pub fn set(&self, obstacle: Obstacle, why: Option<String>) {
        let mut readiness = self.lock();
        let was_ready = readiness.obstacles.is_empty();
        match why {
            Some(why) => readiness.obstacles.insert(obstacle, why),
            None => readiness.obstacles.remove(&obstacle),
        };
        if readiness.obstacles.is_empty() != was_ready {
            readiness.since = Utc::now();
        }
    }

    /// Something failed that a program which merely goes on, or starts over, may run into again.
    pub fn doubt(&self, what: &str) {
        self.set(Obstacle::Doubt, Some(format!("nothing has been stored since this happened: {what}")));
    }

    /// The program starts over: nothing else is known to stand in the way, but a doubt remains.
    pub fn start_over(&self, why: String) {
        self.set(Obstacle::Session, Some(why));
        let remains = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Session | Obstacle::Doubt);
        self.lock().obstacles.retain(|obstacle, _| remains(obstacle));
    }

    /// Whether this stands in the way.
    pub fn has(&self, obstacle: Obstacle) -> bool {
        self.lock().obstacles.contains_key(&obstacle)
    }

    /// Whether the program does its work.
    pub fn status(&self) -> Status {
        let readiness = self.lock();
        let why = readiness.obstacles.values().next().cloned();
        Status { ready: why.is_none(), why, since: readiness.since }
    }

    /// The lock is held for a change of the map only, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Readiness> {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rfc_3339<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_obstacle_is_the_reason_and_the_time_is_that_of_the_change() {
        let health = Health::starting();
        let begun = health.status();
        assert_eq!((begun.ready, begun.why.as_deref()), (false, Some("starting")));
        health.set(Obstacle::Assignment, Some("waiting for the group".into()));
        health.set(Obstacle::Session, None);
        assert_eq!(health.status().why.as_deref(), Some("waiting for the group"));
        assert_eq!(health.status().since, begun.since, "it was not ready in between");
        health.set(Obstacle::Assignment, None);
        let ready = health.status();
        assert!(ready.ready && ready.why.is_none() && ready.since >= begun.since);
        health.set(Obstacle::Postgres, Some("postgres".into()));
        health.set(Obstacle::Brokers, Some("brokers".into()));
        assert_eq!(health.status().why.as_deref(), Some("brokers"));
        health.start_over("gone".into());
        assert_eq!(health.status().why.as_deref(), Some("gone"));
        health.set(Obstacle::Session, None);
        assert!(health.status().ready);
    }

    #[test]
    fn a_doubt_outlives_what_starts_over_with_the_time_of_the_first_failure() {
        let health = Health::starting();
        health.set(Obstacle::Session, None);
        health.doubt("a lock");
        let failed = health.status();
        assert!(failed.why.as_ref().is_some_and(|why| why.ends_with(": a lock")));
        health.set(Obstacle::Postgres, Some("no answer".into()));
        health.start_over("starting over".into());
        assert_eq!(health.status().why.as_deref(), Some("starting over"));
        health.set(Obstacle::Session, None);
        assert_eq!(health.status(), failed);
        assert!(health.has(Obstacle::Doubt));
        health.set(Obstacle::Doubt, None);
        assert!(health.status().ready);
    }

    #[test]
    fn a_status_is_json_with_a_time() {
        let status = Status { ready: false, why: Some("a \"lock\"".into()), since: DateTime::UNIX_EPOCH };
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(json, r#"{"ready":false,"why":"a \"lock\"","since":"1970-01-01T00:00:00.000Z"}"#);
    }
}
