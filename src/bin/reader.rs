//! `reader`: arguments, telemetry, run, exit code.

use rfm_stream::config::{self, ReaderFlags};
use rfm_stream::failure::Failure;
use rfm_stream::shutdown::{self, Shutdown};
use rfm_stream::{reader, telemetry};
use std::process::ExitCode;

fn main() -> ExitCode {
    shutdown::run_to_exit(run)
}

async fn run() -> Result<(), Failure> {
    let flags: ReaderFlags = config::parse()?;
    telemetry::start(flags.log_format())?;
    let options = flags.options()?;
    reader::run(options, Shutdown::on_signals()?).await
}
