//! How slow the machine is at present, and how far deadlines stretch.
//!
//! Deadlines are those of a machine that has time for the tests. If other programs use it, too, everything
//! takes longer, which is no fault. So a thread repeats a piece of work, and compares the time that it took
//! with the processor time that it needs at best. The ratio is how much longer work takes at present.
//! Deadlines stretch by this ratio while it lasts. A wait for something that never happens still ends.

#![expect(unsafe_code, reason = "the standard library has no processor time of a thread")]

use std::cell::Cell;
use std::hint::black_box;
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Processor time of a piece of work: several slices of a scheduler, so that it has to wait like other
/// threads.
const PIECE: Duration = Duration::from_millis(10);
/// Pause between two pieces. The measurement costs a twentieth of one processor.
const PAUSE: Duration = Duration::from_millis(200);
/// A wait also suffers from the backlog of this long before it began.
const BEFORE: Duration = Duration::from_secs(3);
/// The tests themselves keep the processors busy. Below this (less than half a processor for a thread that
/// wants one) the machine counts as quiet, and deadlines hold as they are.
const BUSY: f64 = 2.0;
/// The most that a deadline stretches: one minute becomes ten.
const MOST: f64 = 10.0;

/// A piece of work.
#[derive(Clone, Copy)]
struct Piece {
    ended: Instant,
    rounds: u64,
    took: Duration,
}

#[derive(Default)]
struct Measured {
    pieces: Vec<Piece>,
    /// Rounds per second of processor time, at best.
    speed: f64,
}

static MEASURED: LazyLock<Mutex<Measured>> = LazyLock::new(|| {
    thread::spawn(|| {
        loop {
            let (piece, speed) = work();
            let mut measured = MEASURED.lock().unwrap();
            measured.pieces.push(piece);
            measured.speed = measured.speed.max(speed);
            drop(measured);
            thread::sleep(PAUSE);
        }
    });
    Mutex::default()
});

thread_local! {
    /// The longest wait of this thread past a deadline, and what was allowed, since the last call of
    /// `stretched`.
    static STRETCHED: Cell<Option<(Duration, Duration)>> = const { Cell::new(None) };
}

/// A piece of work, and its rounds per second of processor time.
fn work() -> (Piece, f64) {
    let (begun, before) = (Instant::now(), processor_time());
    let (mut rounds, mut number) = (0, 1_u64);
    loop {
        for _ in 0..1_000 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        rounds += 1;
        let needed = processor_time().saturating_sub(before);
        if needed >= PIECE {
            let piece = Piece { ended: Instant::now(), rounds, took: begun.elapsed() };
            return (piece, rounds as f64 / needed.as_secs_f64());
        }
    }
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: every thread has this clock, and `time` is a local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many times as long work has taken since then; exactly 1 on a machine that is not busy.
pub fn since(then: Instant) -> f64 {
    let from = then.checked_sub(BEFORE).unwrap_or(then);
    let measured = MEASURED.lock().unwrap();
    let recent = measured.pieces.iter().rev().take_while(|piece| piece.ended >= from);
    let (rounds, took) = recent
        .fold((0, 0.0), |(rounds, took), piece| (rounds + piece.rounds, took + piece.took.as_secs_f64()));
    stretch(took * measured.speed / rounds.max(1) as f64)
}

/// The factor by which a deadline stretches when work takes `times` as long.
fn stretch(times: f64) -> f64 {
    if times < BUSY { 1.0 } else { times.min(MOST) }
}

/// The limit at present for something that has taken `took` so far, if `limit` is its limit on a quiet
/// machine.
pub fn allowed(limit: Duration, took: Duration) -> Duration {
    let now = Instant::now();
    limit.mul_f64(since(now.checked_sub(took).unwrap_or(now)))
}

/// Checks that something that has just ended took no longer than allowed. Prints a line if only a stretched
/// limit allowed it.
pub fn in_time(what: &str, took: Duration, limit: Duration) {
    let allowed = allowed(limit, took);
    assert!(
        took < allowed,
        "{what}: it took {took:.1?}, more than {allowed:.1?} ({limit:?} on a quiet machine)"
    );
    if took >= limit {
        say_stretched(what, took, limit, allowed);
    }
}

fn say_stretched(what: &str, took: Duration, limit: Duration, allowed: Duration) {
    eprintln!("{what}: it took {took:.1?}, more than {limit:?}; allowed {allowed:.1?} on this busy machine");
    STRETCHED.set(STRETCHED.get().max(Some((took, allowed))));
}

/// The longest wait of this thread past a deadline of a quiet machine, and what was allowed, since the last
/// call.
pub fn stretched() -> Option<(Duration, Duration)> {
    STRETCHED.take()
}

/// How many times as long work took over the whole run.
pub fn of_the_run() -> f64 {
    let measured = MEASURED.lock().unwrap();
    let rounds: u64 = measured.pieces.iter().map(|piece| piece.rounds).sum();
    let took: Duration = measured.pieces.iter().map(|piece| piece.took).sum();
    took.as_secs_f64() * measured.speed / rounds.max(1) as f64
}

/// The end of a wait.
pub struct Deadline {
    begun: Instant,
    limit: Duration,
}

impl Deadline {
    pub fn of(limit: Duration) -> Self {
        LazyLock::force(&MEASURED);
        Self { begun: Instant::now(), limit }
    }

    /// Whether the time is over, on this machine.
    pub fn is_over(&self) -> bool {
        let waited = self.begun.elapsed();
        waited >= self.limit && waited >= allowed(self.limit, waited)
    }

    /// Notes that the wait has ended. Prints a line if it took longer than a quiet machine allows.
    pub fn met(&self, what: &str) {
        let waited = self.begun.elapsed();
        if waited >= self.limit {
            say_stretched(what, waited, self.limit, allowed(self.limit, waited));
        }
    }
}

#[test]
fn a_deadline_stretches_on_a_busy_machine_only_and_ends_on_every_one() {
    for (times, expected) in [(0.0, 1.0), (1.0, 1.0), (1.9, 1.0), (3.5, 3.5), (1e9, MOST)] {
        assert!((stretch(times) - expected).abs() < 1e-9, "{times}");
    }
    let limit = Duration::from_millis(1);
    let deadline = Deadline::of(limit);
    thread::sleep(limit.mul_f64(MOST));
    assert!(deadline.is_over());
}
