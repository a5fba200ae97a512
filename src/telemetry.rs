//! What the programs write to stderr: log lines, a bar that shows progress, and the error that ends them.

mod progress;
mod stderr;

pub use progress::Progress;

use crate::failure::Failure;
use anyhow::anyhow;
use std::env::{self, VarError};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text, a line per event.
    Text,
    /// JSON, an object per line.
    Json,
}

/// The targets of the lines: this crate, librdkafka's own lines, and those of its bindings.
const TARGETS: [&str; 3] = ["rfm_stream", "librdkafka", "rdkafka"];

/// The levels. (tracing also takes numbers, and `RUST_LOG=1` would silence dead letters.)
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
    LevelFilter::OFF,
];

/// Sends log lines to stderr. `RUST_LOG` sets the level, `info` by default. **If stderr cannot be written to
/// (a full disk, a closed pipe, a pipe that nobody empties), the program goes on**; the lines are lost.
///
/// # Errors
/// `RUST_LOG` has a word that is no level.
pub fn start(format: LogFormat) -> Result<(), Failure> {
    let wrong = |what: String| {
        let hint =
            "RUST_LOG is a level (error, warn, info, debug, trace or off) or TARGET=LEVEL,…; targets are \
                    rfm_stream and librdkafka"
                .to_owned();
        Failure::configuration(anyhow!(what), hint)
    };
    let text = match env::var("RUST_LOG") {
        Err(VarError::NotUnicode(_)) => return Err(wrong("RUST_LOG is not UTF-8".to_owned())),
        text => text.unwrap_or_default(),
    };
    let Filter { levels, unknown } = filter(&text).map_err(wrong)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr::start())
        .with_target(false)
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    progress::allow(format == LogFormat::Text && std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines.with_filter(levels)).init();
    if !unknown.is_empty() {
        let (unknown, known) = (unknown.join(", "), TARGETS.join(", "));
        tracing::info!("RUST_LOG names targets that no line has: {unknown}; there are {known}");
    }
    Ok(())
}

/// What `RUST_LOG` asks for.
struct Filter {
    /// The level of each target.
    levels: Targets,
    /// Targets of its that no line has.
    unknown: Vec<String>,
}

/// Reads `LEVEL,TARGET=LEVEL,…`. **Without a level for all, that is `info`**: naming a target, be it one of
/// another program, silences nothing. A target without a level has all its lines.
fn filter(text: &str) -> Result<Filter, String> {
    let level = |word: &str| {
        let named = LEVELS.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(word));
        named.ok_or_else(|| {
            format!(
                "RUST_LOG: `{word}` is not a level; the levels are error, warn, info, debug, trace and off"
            )
        })
    };
    let (mut levels, mut unknown) = (Targets::new().with_default(LevelFilter::INFO), Vec::new());
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (target, level) = match word.split_once('=') {
            Some((target, word)) => (target.trim(), level(word.trim())?),
            None if has_lines(word) => (word, LevelFilter::TRACE),
            None => {
                levels = levels.with_default(level(word)?);
                continue;
            }
        };
        if !has_lines(target) {
            unknown.push(format!("`{target}`"));
        }
        levels = levels.with_target(target, level);
    }
    Ok(Filter { levels, unknown })
}

/// Whether lines have this target or one below it.
fn has_lines(target: &str) -> bool {
    let crate_name = target.split("::").next().unwrap_or_default();
    TARGETS.contains(&crate_name)
}

/// Waits a moment until all log lines are written; for the end of the program.
pub fn finish() {
    stderr::end_with(b"");
}

/// Writes why the program ends. Returns its exit code.
pub fn report(failure: &Failure) -> ExitCode {
    let mut text = format!("error: {}\n", failure.error);
    for cause in failure.error.chain().skip(1) {
        text += &format!("  caused by: {}\n", cause.to_string().trim_end());
    }
    if let Some(hint) = &failure.hint {
        text += &format!("  hint: {hint}\n");
    }
    stderr::end_with(text.as_bytes());
    ExitCode::from(failure.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_word_that_is_no_level_is_an_error_that_names_it() {
        let cases = [
            ("warning", "`warning`"),
            ("info,verbose", "`verbose`"),
            ("rfm_stream=warning", "`warning`"),
            ("librdkafka=", "``"),
            ("info;debug", "`info;debug`"),
            ("\"debug\"", "`\"debug\"`"),
            ("reader", "`reader`"),
            ("1", "`1`"),
            ("true", "`true`"),
            ("error debug", "`error debug`"),
        ];
        for (text, word) in cases {
            let error = filter(text).map(|filter| filter.levels.to_string()).unwrap_err();
            assert!(error.contains(word) && error.contains("trace and off"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_named_stays_at_info() {
        let (ours, theirs) = ("rfm_stream::reader::session", "librdkafka");
        // Text, the most verbose level of our lines, and that of librdkafka's.
        let cases = [
            ("", Some(Level::INFO), Some(Level::INFO)),
            (" , ", Some(Level::INFO), Some(Level::INFO)),
            ("warn", Some(Level::WARN), Some(Level::WARN)),
            ("WARN", Some(Level::WARN), Some(Level::WARN)),
            ("off", None, None),
            ("foo=debug", Some(Level::INFO), Some(Level::INFO)),
            ("foo=off", Some(Level::INFO), Some(Level::INFO)),
            ("rfm_stream=debug", Some(Level::DEBUG), Some(Level::INFO)),
            ("rfm_stream::reader=trace", Some(Level::TRACE), Some(Level::INFO)),
            ("librdkafka=debug, info", Some(Level::INFO), Some(Level::DEBUG)),
            ("librdkafka", Some(Level::INFO), Some(Level::TRACE)),
            ("error,rfm_stream=info", Some(Level::INFO), Some(Level::ERROR)),
            ("rfm_stream=off", None, Some(Level::INFO)),
        ];
        for (text, expected, expected_of_librdkafka) in cases {
            let levels = filter(text).map(|filter| filter.levels).unwrap();
            let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
            let most = |target| all.into_iter().rfind(|level| levels.would_enable(target, level));
            assert_eq!((most(ours), most(theirs)), (expected, expected_of_librdkafka), "{text}");
        }
    }

    #[test]
    fn targets_that_no_line_has_are_found() {
        let unknown = |text| filter(text).map(|filter| filter.unknown).unwrap();
        assert_eq!(
            unknown("reader=debug,rfm_stream::reader=debug,rdkafka=warn,sqlx=off"),
            ["`reader`", "`sqlx`"]
        );
    }
}
