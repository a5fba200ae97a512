//! `producer`: signals, arguments, telemetry, run, exit code.

use rfm_stream::config::{self, Producer, ProducerCommand};
use rfm_stream::failure::Failure;
use rfm_stream::shutdown::{self, Shutdown};
use rfm_stream::{producer, telemetry};
use std::process::ExitCode;

fn main() -> ExitCode {
    shutdown::run_to_exit(run)
}

async fn run() -> Result<ExitCode, Failure> {
    // First of all: until the handlers are there, a signal kills the program.
    let shutdown = Shutdown::on_signals()?;
    let (Producer { command, flags }, env_file) = config::parse()?;
    telemetry::start(flags.log_format())?;
    env_file.log();
    let options = flags.options(&env_file)?;
    match command {
        None => {}
        Some(ProducerCommand::Check) => return producer::check::run(options, shutdown).await,
    }
    producer::run(options, shutdown).await.map(|()| ExitCode::SUCCESS)
}
