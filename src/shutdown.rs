//! Stopping when asked: SIGTERM and SIGINT, and nothing else.
//!
//! The one idea: whoever works gets a [`Shutdown`] as a parameter and looks at it; only a binary ties
//! it to signals, so a test stops a daemon by calling [`Shutdown::request`].

use crate::allocator;
use crate::failure::Failure;
use crate::telemetry;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// From the request to the end, at most. Service managers kill after 10 s.
const DRAIN_LIMIT: Duration = Duration::from_millis(7_500);

/// Whether the program was asked to stop. Clones are of the same request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that SIGTERM or SIGINT requests; a second signal ends the process at once. So
    /// does a drain that takes longer than 7.5 s, as if it had ended: what was not stored never happened.
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

    /// Asks to stop.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is asked for.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// Runs a daemon on one thread (its blocking work has threads of its own) and makes its end an exit code.
/// Threads that still hang on a connection are left behind.
pub fn run_to_exit<F: Future<Output = Result<(), Failure>>>(daemon: impl FnOnce() -> F) -> ExitCode {
    allocator::configure();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return telemetry::report(&Failure::at_work(error, None)),
    };
    let ended = runtime.block_on(daemon());
    runtime.shutdown_background();
    ended.map_or_else(|failure| telemetry::report(&failure), |()| ExitCode::SUCCESS)
}

async fn watch(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = next().await;
    tracing::info!("{name}: finishing what is under way");
    shutdown.request();
    // On a thread of its own: whatever hangs, hangs no longer than this.
    std::thread::spawn(|| {
        std::thread::sleep(DRAIN_LIMIT);
        tracing::warn!("leaving what is under way unfinished, as if it had not begun");
        std::process::exit(0);
    });
    let name = next().await;
    tracing::warn!("{name} again: ending at once");
    std::process::exit(1);
}
