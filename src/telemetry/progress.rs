//! A bar on the terminal, for work that has an end: how much is done, how fast, how long it still takes.
//!
//! There is none where stderr is not a terminal, or where the log is JSON; the log lines are the same in both
//! cases. **A terminal that takes no output (Ctrl-S) stops no work**: threads of their own draw, and the
//! thread that writes log lines takes the bar away for each of them.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How often the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// How long the end of the work waits for a terminal to take the bar away.
const LONGEST_END: Duration = Duration::from_secs(1);

/// Whether there is a terminal to draw on; unset before the log was started.
static DRAWS: OnceLock<bool> = OnceLock::new();
/// The bar that is shown.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Allows bars, or not.
pub(super) fn allow(allowed: bool) {
    DRAWS.get_or_init(|| allowed);
}

/// Writes to the terminal, with the bar out of the way.
pub(super) fn beside<T>(write: impl FnOnce() -> T) -> T {
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// The progress of some work, shown until this value is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Work on `total` things, of which nothing is done yet. `unit` is their name, in the plural. Nothing is
    /// shown of work without an end.
    pub fn begin(total: Option<u64>, unit: &'static str) -> Self {
        let shown = total.is_some() && DRAWS.get().copied().unwrap_or_default();
        let bar = ProgressBar::with_draw_target(total, target(shown)).with_style(style(unit));
        if shown {
            bar.enable_steady_tick(DRAW_EVERY);
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        }
        Self(bar)
    }

    /// So many are left.
    pub fn left(&self, left: Option<u64>) {
        if let (Some(total), Some(left)) = (self.0.length(), left) {
            self.0.set_position(total.saturating_sub(left));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(bar) = shown else { return };
        let (ended, wait) = mpsc::channel();
        thread::spawn(move || {
            bar.finish_and_clear();
            // The other end may have given up.
            let _ = ended.send(());
        });
        let _ = wait.recv_timeout(LONGEST_END);
    }
}

fn target(shown: bool) -> ProgressDrawTarget {
    if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn style(unit: &str) -> ProgressStyle {
    ProgressStyle::with_template(&template(unit)).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The rate has no decimals.
fn template(unit: &str) -> String {
    format!("{{bar:40}} {{human_pos}} of {{human_len}} {unit}, {{per_sec:0}}, {{eta}} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(&template("messages")).is_ok());
    }
}
