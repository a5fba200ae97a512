//! Writing to stderr without waiting for its reader.
//!
//! stderr may be a pipe that nobody empties: a log driver that blocks, a supervisor that was stopped. A write
//! then waits for ever, and with it would everything else. So a thread of tracing-appender writes, and log
//! lines reach it through a queue. **While the queue is full, lines are lost and counted**; once there is room
//! again, a line says how many. The last words of a program wait for the thread, but only for a moment.

use super::progress;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait for the thread. A burst of dead letters is some thousands.
const QUEUE: usize = 8_192;

/// How many lines were lost.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();
/// The queue and its thread, until the last words.
static LINES: Mutex<Option<(NonBlocking, WorkerGuard)>> = Mutex::new(None);

/// Starts the thread. Takes lines, for `tracing_subscriber`.
pub(super) fn start() -> NonBlocking {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(QUEUE).thread_name("log");
    let (lines, thread) = builder.finish(Stderr { said: 0 });
    LOST.get_or_init(|| lines.error_counter());
    *LINES.lock().unwrap_or_else(PoisonError::into_inner) = Some((lines.clone(), thread));
    lines
}

/// Writes the last words of the program, after all lines before them. Gives up after a second.
pub(super) fn end_with(words: &[u8]) {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner).take();
    // If stderr cannot be written to, there is nowhere else to report it.
    let _ = match lines {
        // Dropping the thread waits for it.
        Some((mut lines, _thread)) => lines.write_all(words),
        None => io::stderr().write_all(words),
    };
}

/// What the thread writes to.
struct Stderr {
    /// How many lost lines were counted when it last said so.
    said: usize,
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = progress::beside(|| io::stderr().write(line))?;
        let lost = LOST.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.said {
            // Through the queue, in the format of all lines. If it is full, this one is counted, too.
            tracing::warn!(lines = lost - self.said, "log lines are lost: stderr was not read");
            self.said = lost;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
