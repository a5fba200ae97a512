//! `reader`: signals, arguments, telemetry, run, exit code.

use rfm_stream::config::{self, Reader, ReaderCommand};
use rfm_stream::failure::Failure;
use rfm_stream::reader::command::{self, Rescoring, Retraction};
use rfm_stream::reader::{self, Ending};
use rfm_stream::shutdown::{self, Shutdown};
use rfm_stream::telemetry;
use std::process::ExitCode;

fn main() -> ExitCode {
    shutdown::run_to_exit(run)
}

async fn run() -> Result<ExitCode, Failure> {
    // First of all: until the handlers are there, a signal kills the program.
    let shutdown = Shutdown::on_signals()?;
    let (Reader { command, flags }, env_file) = config::parse()?;
    telemetry::start(flags.log_format())?;
    env_file.log();
    let options = flags.options(&env_file)?;
    match command {
        None => return Ok(exit_code(reader::run(options, shutdown).await?)),
        Some(ReaderCommand::Rescore { reason, dry_run }) => {
            command::rescore(options, Rescoring { reasons: reason, dry_run }, shutdown).await?;
        }
        Some(ReaderCommand::Retract { batches, dry_run }) => {
            command::retract(options, Retraction { batches, dry_run }, shutdown).await?;
        }
        Some(ReaderCommand::SkipLost { dry_run }) => command::skip_lost(options, dry_run, shutdown).await?,
        Some(ReaderCommand::Check) => return reader::check::run(options, shutdown).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(ending: Ending) -> ExitCode {
    match ending {
        Ending::Done => ExitCode::SUCCESS,
        Ending::DeadLetters => ExitCode::from(3),
    }
}
