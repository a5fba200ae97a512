//! How the programs speak: log lines and the last word, both on stderr.

use crate::failure::Failure;
use std::env::VarError;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// Sends log lines to stderr, from level `RUST_LOG` on (`info` where it is unset or empty). **A stderr that
/// cannot be written to (a full disk, a closed pipe) does not end the program**; its lines are lost.
///
/// # Errors
/// `RUST_LOG` is not a filter.
pub fn start(format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).try_from_env();
    // An unset variable is no error of `try_from_env`'s to us.
    let filter = filter.or_else(|error| match error.source() {
        Some(source) if source.is::<VarError>() => Ok(EnvFilter::new("info")),
        _ => Err(error),
    });
    let hint = "RUST_LOG is a level (error, warn, info, debug, trace) or TARGET=LEVEL,…".to_owned();
    let filter = filter
        .map_err(|error| Failure::configuration(anyhow::anyhow!("RUST_LOG is no filter: {error}"), hint))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Says why the program ends; returns its exit code.
pub fn report(failure: &Failure) -> ExitCode {
    let mut last_word = format!("error: {}\n", failure.error);
    for cause in failure.error.chain().skip(1) {
        last_word += &format!("  caused by: {}\n", cause.to_string().trim_end());
    }
    if let Some(hint) = &failure.hint {
        last_word += &format!("  hint: {hint}\n");
    }
    // Where nobody can be told, nobody is.
    let _ = std::io::stderr().write_all(last_word.as_bytes());
    ExitCode::from(failure.exit_code)
}
