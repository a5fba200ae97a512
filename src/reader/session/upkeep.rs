//! The upkeep of `segments`: beginning windows, taking expired rows away, covering new rows by the index.
//!
//! A pass works beside the loop, on a thread and a connection of its own, and its result comes back as one more answer.
//! **Nothing here ends a session or holds up a commit.** What fails is logged once it lasts, and tried again: a window
//! that cannot be begun is stayed in.
//!
//! **A new window waits for one step of expiring at most, and never for what has failed there.** Otherwise windows would
//! last too long, their first rows would be overdue before their last ones, and would have to be deleted row by row; which
//! takes longer still.

use super::{Membership, Session, SessionError};
use crate::backoff::{Backoff, LogThrottle};
use crate::postgres::{Address, PostgresError};
use crate::reader::retention::Retention;
use crate::reader::store::{DueWindow, Expired, KafkaSource, Store, StoreError, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether batches were stored since a pass last looked at it; also while one is under way.
    has_stored: Arc<AtomicBool>,
    /// When the next pass may begin.
    next: Instant,
    /// When expired rows are looked for.
    look: Instant,
    /// Windows that cannot be begun, rows that cannot be covered.
    beginning: Trouble,
    /// Rows that cannot be taken away.
    expiring: Trouble,
    /// When to log that a pass takes long; `None` while none does.
    slow: Option<LogThrottle>,
}

/// What fails again and again.
struct Trouble {
    /// Pauses before it is tried again.
    backoff: Backoff,
    /// When to log it; `None` while nothing fails.
    log: Option<LogThrottle>,
}

impl Trouble {
    fn none() -> Self {
        Self { backoff: Backoff::new(PAUSE, LONGEST_PAUSE), log: None }
    }

    /// How long it has lasted, if it is time to log it.
    fn log_due(&mut self) -> Option<Duration> {
        self.log.get_or_insert_with(LogThrottle::begun).due()
    }
}

/// The result of a pass.
#[derive(Default)]
pub(super) struct Pass {
    /// The connection, if it is as good as before.
    store: Option<Box<Store>>,
    /// Whether expired rows were looked for.
    looked: bool,
    /// The windows that were begun.
    began: Vec<i64>,
    /// What was taken away.
    expired: Expired,
    /// What failed first of beginning windows and covering rows.
    error: Option<StoreError>,
    /// What failed first of taking rows away.
    not_expired: Option<StoreError>,
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
            has_stored: Arc::default(),
            next: now,
            look: now,
            beginning: Trouble::none(),
            expiring: Trouble::none(),
            slow: None,
        }
    }

    /// Batches were stored.
    pub(super) fn on_stored(&mut self) {
        self.has_stored.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to do now.
    fn is_due(&self, now: Instant) -> bool {
        self.under_way.is_none()
            && now >= self.next
            && (self.has_stored.load(Ordering::Relaxed) || self.is_look_due(now))
    }

    fn is_look_due(&self, now: Instant) -> bool {
        self.retention.retain.is_some() && now >= self.look
    }

    /// Begins a pass: returns the work for a thread.
    fn begin(&mut self, now: Instant) -> impl FnOnce() -> Pass + Send + use<> {
        let (address, source, watch) = (self.address.clone(), self.source.clone(), Arc::clone(&self.watch));
        let (store, retention, looks) = (self.store.take(), self.retention, self.is_look_due(now));
        let has_stored = Arc::clone(&self.has_stored);
        self.under_way = Some(now);
        move || {
            let opened = store.map_or_else(|| Store::connect(&address, source, watch).map(Box::new), Ok);
            match opened {
                Ok(store) => pass(store, retention, &has_stored, looks),
                Err(error) => Pass { error: Some(error), ..Pass::default() },
            }
        }
    }

    /// A pass has ended.
    fn end(&mut self, pass: Pass, now: Instant) {
        self.under_way = None;
        self.slow = None;
        self.store = pass.store;
        let has_more = pass.expired.more;
        let pause = PAUSE.min(self.retention.window / LOOKS);
        self.next = now;
        if pass.error.is_some() {
            self.next += self.beginning.backoff.pause();
        } else {
            self.beginning = Trouble::none();
            self.next += if has_more { Duration::ZERO } else { pause };
        }
        if !pass.looked {
            return;
        }
        if pass.not_expired.is_some() {
            let longer = self.expiring.backoff.pause();
            self.look = now + if has_more { PAUSE } else { longer };
        } else {
            self.expiring = Trouble::none();
            if !has_more {
                self.look =
                    now + (self.retention.window / LOOKS).clamp(PAUSE / 10, Duration::from_secs(3600));
            }
        }
    }
}

/// Does what is due. What fails leaves the rest to be done.
fn pass(mut store: Box<Store>, retention: Retention, has_stored: &AtomicBool, looks: bool) -> Pass {
    let mut pass = Pass { looked: looks, ..Pass::default() };
    let mut stored = pass.begin_window(&mut store, retention, has_stored);
    let due = if looks { store.due_windows(retention) } else { Ok(Vec::new()) };
    for window in due.unwrap_or_else(|error| (pass.not_expired = Some(error), Vec::new()).1) {
        pass.expire(&mut store, window);
        stored |= pass.begin_window(&mut store, retention, has_stored);
    }
    if stored && let Err(error) = store.summarize(retention.window) {
        has_stored.store(true, Ordering::Relaxed);
        pass.error.get_or_insert(error);
    }
    pass.store = (pass.error.is_none() && pass.not_expired.is_none()).then_some(store);
    pass
}

impl Pass {
    /// Begins a window if batches were stored since somebody last looked, and the day is over. Returns whether they were.
    fn begin_window(&mut self, store: &mut Store, retention: Retention, has_stored: &AtomicBool) -> bool {
        if !has_stored.swap(false, Ordering::Relaxed) {
            return false;
        }
        match store.roll(retention.window) {
            Ok(began) => self.began.extend(began),
            Err(error) => {
                // What was stored has still to be looked at.
                has_stored.store(true, Ordering::Relaxed);
                self.error.get_or_insert(error);
            }
        }
        true
    }

    /// Takes away rows of a window, unless the connection is gone. **A window that cannot be expired keeps no other one.**
    fn expire(&mut self, store: &mut Store, window: DueWindow) {
        let is_lost =
            |error: &StoreError| matches!(error, StoreError::Postgres(PostgresError::Unreachable(_)));
        if self.not_expired.as_ref().is_some_and(is_lost) {
            return;
        }
        match store.expire(window, &mut self.expired) {
            Err(error) if is_lost(&error) => self.not_expired = Some(error),
            Err(error) => drop(self.not_expired.get_or_insert(error)),
            Ok(()) => {}
        }
    }
}

/// Why nothing could be done, and what to do.
fn why(error: &StoreError) -> String {
    match error {
        StoreError::Unready(what) => {
            format!("{what} (a restore is under way, or somebody removed what is missing)")
        }
        StoreError::Postgres(
            PostgresError::Unsuitable { hint, .. } | PostgresError::Refused { hint, .. },
        ) => {
            format!("{} (hint: {hint})", error.chain())
        }
        _ => error.chain(),
    }
}

impl Session<'_> {
    /// Begins a pass if there is something to do, and logs one that takes long.
    pub(super) fn keep_up(&mut self) {
        let now = Instant::now();
        let Some(upkeep) = &mut self.owner.upkeep else { return };
        if let Some(begun) = upkeep.under_way
            && begun.elapsed() >= SLOW
            && let Some(lasted) = upkeep.slow.get_or_insert_with(LogThrottle::begun).due()
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
        for window in &pass.began {
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
        let troubles = [(&mut upkeep.beginning, &pass.error), (&mut upkeep.expiring, &pass.not_expired)];
        for (trouble, error) in troubles {
            let Some(error) = error else { continue };
            let Some(lasted) = trouble.log_due() else { continue };
            let (for_s, why) = (lasted.as_secs(), why(error));
            tracing::warn!(for_s, "the windows of `segments` stay as they are: {why}; trying again");
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
