//! Stopping on request: SIGTERM, SIGINT, or a call.
//!
//! A daemon gets a [`Shutdown`] as a parameter and checks it. Only the binaries connect it to signals; a
//! program that runs a daemon in process, such as `tests/e2e/in_process.rs`, stops it with
//! [`Shutdown::request`].

use crate::allocator;
use crate::failure::Failure;
use crate::telemetry;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The longest time from the request to the end. Service managers kill after 10 s.
const DRAIN_LIMIT: Duration = Duration::from_millis(7_500);

/// A request to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that SIGTERM or SIGINT requests. A second signal ends the process at once, with exit code 1.
    /// So does a drain that takes longer than 7.5 s, with exit code 0: what was not committed never happened.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> Result<Self, Failure> {
        let handler = |kind| signal(kind).map_err(|error| Failure::at_work(error, None));
        let (terminate, interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
        let shutdown = Self::default();
        tokio::spawn(watch(shutdown.clone(), terminate, interrupt));
        Ok(shutdown)
    }

    /// Requests the stop.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Whether the stop was requested.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// Runs a daemon on one thread (its blocking work has other threads) and turns its result into an exit code.
/// Threads that still wait for a connection are abandoned.
pub fn run_to_exit<F: Future<Output = Result<ExitCode, Failure>>>(daemon: impl FnOnce() -> F) -> ExitCode {
    allocator::configure();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return telemetry::report(&Failure::at_work(error, None)),
    };
    let ended = runtime.block_on(daemon());
    runtime.shutdown_background();
    ended.map_or_else(
        |failure| telemetry::report(&failure),
        |code| {
            telemetry::finish();
            code
        },
    )
}

/// Requests the stop at the first signal, and ends the process at the second.
async fn watch(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = next().await;
    tracing::info!("{name}: finishing the work in progress");
    shutdown.request();
    // On a thread of its own: the runtime's thread may be what hangs.
    std::thread::spawn(|| {
        std::thread::sleep(DRAIN_LIMIT);
        tracing::warn!("the work in progress takes too long: ending without it, as if it had not begun");
        telemetry::finish();
        std::process::exit(0);
    });
    let name = next().await;
    tracing::warn!("{name} again: ending at once");
    telemetry::finish();
    std::process::exit(1);
}
