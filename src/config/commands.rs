//! The two programs, and their commands: words that make a program do something else than its daemon's work.
//!
//! **A command takes all flags of its program, before or after the word**, and its own behind it.

use super::{ProducerFlags, ReaderFlags};
use crate::message::Reason;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

/// Sends customer snapshots, of orders or made at random, to the three topics, each in one Kafka transaction
#[derive(Debug, Parser)]
#[command(name = "producer", version, disable_help_subcommand = true)]
pub struct Producer {
    /// What to do; `None`: send.
    #[command(subcommand)]
    pub command: Option<ProducerCommand>,
    /// The flags that every command takes.
    #[command(flatten)]
    pub flags: ProducerFlags,
}

/// What the producer does instead of sending.
#[derive(Debug, Subcommand)]
pub enum ProducerCommand {
    /// Ask whether everything is as the producer needs it; change nothing, and exit with 1 if something is not
    Check,
}

/// Pairs the messages of the three topics, scores them, and stores each snapshot exactly once
#[derive(Debug, Parser)]
#[command(name = "reader", version, disable_help_subcommand = true)]
pub struct Reader {
    /// What to do; `None`: read.
    #[command(subcommand)]
    pub command: Option<ReaderCommand>,
    /// The flags that every command takes.
    #[command(flatten)]
    pub flags: ReaderFlags,
}

/// What the reader does instead of reading.
#[derive(Debug, Subcommand)]
pub enum ReaderCommand {
    /// Ask whether everything is as the reader needs it; change nothing, and exit with 1 if something is not
    Check,
    /// Score the group's dead letters again under the flags of today, and store what can be stored
    Rescore {
        /// Only dead letters of this reason; repeatable [default: all]
        #[arg(long, value_name = "REASON", value_parser = reason())]
        reason: Vec<Reason>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the rows of snapshots away and mark them, so that they count no more; the group does not store
    /// them again
    Retract {
        /// Ids of batches, as the table `batches` has them
        #[arg(value_name = "BATCH_ID", required = true)]
        batches: Vec<i64>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Go on where the logs begin, if they no longer have the stored positions, and say what is gone
    SkipLost {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// `--reason`
fn reason() -> impl TypedValueParser<Value = Reason> {
    let named = |name: String| Reason::named(&name).ok_or("no reason has this name");
    PossibleValuesParser::new(Reason::ALL.map(Reason::name)).try_map(named)
}
