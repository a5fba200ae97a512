//! The upkeep of `segments`: beginning windows, taking expired rows away, covering new rows by the index.
//!
//! A pass works beside the loop, on a thread and a connection of its own, and its result comes back as one more answer.
//! **Nothing here ends a session or holds up a commit.** What fails is logged once it lasts, and tried again: a window
//! that cannot be begun is stayed in.

use super::{Membership, Session, SessionError};
use crate::backoff::{Backoff, LogThrottle};
use crate::postgres::{Address, PostgresError};
use crate::reader::retention::Retention;
use crate::reader::store::{Expired, KafkaSource, Store, StoreError, Watch};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two passes while there is something to do, and the longest one after failures.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many times in the length of a window expired rows are looked for; at least once an hour.
const LOOKS: u32 = 24;
/// A pass that takes longer is logged.
const SLOW: Duration = Duration::from_secs(5);
/// How long the last pass of a reader that has caught up may take.
const LAST_PASS: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Upkeep {
    /// Where the database is.
    address: Address,
    /// The group whose rows expire.
    source: KafkaSource,
    /// How long windows last and rows are kept.
    retention: Retention,
    /// What the connection waits for.
    watch: Arc<Watch>,
    /// The connection, once it was needed, while no pass is under way.
    store: Option<Box<Store>>,
    /// Since when a pass has been under way.
    under_way: Option<Instant>,
    /// Whether batches were stored since the last pass.
    has_stored: bool,
    /// When the next pass may begin.
    next: Instant,
    /// When expired rows are looked for.
    look: Instant,
    /// Pauses after failures.
    backoff: Backoff,
    /// When to log what fails or is slow; `None` while nothing does.
    log: Option<LogThrottle>,
}

/// The result of a pass.
pub(super) struct Pass {
    /// The connection, if it is as good as before.
    store: Option<Box<Store>>,
    /// Whether expired rows were looked for.
    looked: bool,
    /// The window that was begun.
    began: Option<i64>,
    /// What was taken away.
    expired: Expired,
    /// What failed first.
    error: Option<StoreError>,
}

impl Upkeep {
    pub(super) fn new(address: &Address, source: &KafkaSource, retention: Retention) -> Self {
        let now = Instant::now();
        Self {
            address: address.clone(),
            source: source.clone(),
            retention,
            watch: Arc::default(),
            store: None,
            under_way: None,
            has_stored: false,
            next: now,
            look: now,
            backoff: Backoff::new(PAUSE, LONGEST_PAUSE),
            log: None,
        }
    }

    /// How long something has failed or been slow, if it is time to log it.
    fn log_due(&mut self) -> Option<Duration> {
        self.log.get_or_insert_with(LogThrottle::begun).due()
    }

    /// Batches were stored.
    pub(super) fn on_stored(&mut self) {
        self.has_stored = true;
    }

    /// Whether there is something to do now.
    fn is_due(&self, now: Instant) -> bool {
        self.under_way.is_none() && now >= self.next && (self.has_stored || self.is_look_due(now))
    }

    fn is_look_due(&self, now: Instant) -> bool {
        self.retention.retain.is_some() && now >= self.look
    }

    /// Begins a pass: returns the work for a thread.
    fn begin(&mut self, now: Instant) -> impl FnOnce() -> Pass + Send + use<> {
        let (address, source, watch) = (self.address.clone(), self.source.clone(), Arc::clone(&self.watch));
        let (store, retention, looks) = (self.store.take(), self.retention, self.is_look_due(now));
        let stored = std::mem::take(&mut self.has_stored);
        self.under_way = Some(now);
        move || {
            let opened = store.map_or_else(|| Store::connect(&address, source, watch).map(Box::new), Ok);
            match opened {
                Ok(store) => pass(store, retention, stored, looks),
                Err(error) => {
                    let expired = Expired::default();
                    Pass { store: None, looked: looks, began: None, expired, error: Some(error) }
                }
            }
        }
    }

    /// A pass has ended.
    fn end(&mut self, pass: Pass, now: Instant) {
        self.under_way = None;
        self.store = pass.store;
        if pass.error.is_some() {
            // What was stored has still to be looked at.
            self.has_stored = true;
            self.next = now + self.backoff.pause();
            return;
        }
        self.backoff.reset();
        self.log = None;
        self.next = if pass.expired.more { now } else { now + PAUSE.min(self.retention.window / LOOKS) };
        if pass.looked && !pass.expired.more {
            self.look = now + (self.retention.window / LOOKS).clamp(PAUSE / 10, Duration::from_secs(3600));
        }
    }
}

/// Does what is due. What fails leaves the rest to be done.
fn pass(mut store: Box<Store>, retention: Retention, stored: bool, looks: bool) -> Pass {
    let mut error = None;
    let mut note = |failed: StoreError| {
        error.get_or_insert(failed);
    };
    let began =
        if stored { store.roll(retention.window).unwrap_or_else(|e| (note(e), None).1) } else { None };
    let mut expired = Expired::default();
    if looks && let Err(failed) = store.expire(retention, &mut expired) {
        note(failed);
    }
    if stored && let Err(failed) = store.summarize(retention.window) {
        // VACUUM, which holds the lock, covers new rows, too.
        let is_locked = matches!(failed, StoreError::Postgres(PostgresError::Busy(_)));
        if !is_locked {
            note(failed);
        }
    }
    let store = error.is_none().then_some(store);
    Pass { store, looked: looks, began, expired, error }
}

impl Session<'_> {
    /// Begins a pass if there is something to do, and logs one that takes long.
    pub(super) fn keep_up(&mut self) {
        let now = Instant::now();
        let Some(upkeep) = &mut self.owner.upkeep else { return };
        if let Some(begun) = upkeep.under_way
            && begun.elapsed() >= SLOW
            && let Some(lasted) = upkeep.log_due()
        {
            let step = upkeep.watch.waiting().map_or("nothing", |waiting| waiting.step);
            tracing::info!(for_s = lasted.as_secs(), step, "the upkeep of `segments` takes long");
        }
        if matches!(self.membership, Membership::Holding(_)) && upkeep.is_due(now) {
            let work = upkeep.begin(now);
            self.brokers.ask(move |_| work());
        }
    }

    /// Takes in the result of a pass, and logs it.
    pub(super) fn on_upkeep(&mut self, pass: Pass) {
        if let Some(window) = pass.began {
            tracing::info!(window, "began a window of `segments`");
        }
        let Expired { batches, dropped, deleted, .. } = &pass.expired;
        if *batches > 0 || !dropped.is_empty() {
            let dropped: Vec<String> = dropped.iter().map(ToString::to_string).collect();
            tracing::info!(batches, rows_deleted = deleted, windows_dropped = dropped.join(","), "expired");
        }
        for window in &pass.expired.orphaned {
            tracing::warn!(window, "a window of `segments` has rows of no batch, and stays");
        }
        let Some(upkeep) = &mut self.owner.upkeep else { return };
        if let Some(error) = &pass.error
            && let Some(lasted) = upkeep.log_due()
        {
            let hint = match error {
                StoreError::Postgres(
                    PostgresError::Unsuitable { hint, .. } | PostgresError::Refused { hint, .. },
                ) => format!(" (hint: {hint})"),
                _ => String::new(),
            };
            let error = error.chain();
            tracing::warn!(
                for_s = lasted.as_secs(),
                "the windows of `segments` stay as they are: {error}{hint}; trying again"
            );
        }
        upkeep.end(pass, Instant::now());
    }

    /// Lets a reader that is about to end do once what is due: it may be one that runs for a moment, once a day.
    pub(super) async fn finish_upkeep(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + LAST_PASS;
        if let Some(upkeep) = &mut self.owner.upkeep {
            upkeep.next = Instant::now();
        }
        self.keep_up();
        while self.owner.upkeep.as_ref().is_some_and(|upkeep| upkeep.under_way.is_some()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.brokers.answer()).await {
                Ok(Some(answer)) => self.on_answer(answer?).await?,
                Ok(None) | Err(_) => break,
            }
            // As long as there are expired rows left.
            self.keep_up();
        }
        Ok(())
    }
}
