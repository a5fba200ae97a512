//! The reader's commands: what a person does once with what a group has stored, beside its running readers.
//!
//! Owns how a command connects, and what its failure says. Each command has a file. **A command makes no
//! tables**, so that a dry run changes nothing at all. It does not wait for what is not there either: it says
//! so, and ends. **A command that is stopped before it was done has failed**, and what it had under way is done
//! as a whole or not at all.

mod grouping;
mod rescore;
mod retract;
mod skip_lost;

pub use rescore::{Rescoring, rescore};
pub use retract::{Retraction, retract};
pub use skip_lost::skip_lost;

use super::Options;
use super::session::owner::Owner;
use super::session::watchdog::Watchdog;
use super::session::{SessionError, opening};
use super::store::Store;
use super::verdict::{Verdict, verdict};
use crate::failure::Failure;
use crate::health::Health;
use crate::kafka::KafkaError;
use crate::shutdown::Shutdown;
use anyhow::anyhow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long what is under way may take once the command was asked to stop.
const GRACE: Duration = Duration::from_secs(1);

/// How the work of a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All of it is done.
    Done,
    /// It was asked to stop.
    Stopped,
}

/// Connects to the tables of the group and does the work of a command. See [`connect`] for `rights`.
async fn carry_out(
    options: &Options,
    rights: &'static [(&'static str, &'static str)],
    shutdown: &Shutdown,
    work: impl AsyncFnOnce(&mut Owner) -> Result<Ended, SessionError>,
) -> Result<(), Failure> {
    let connected = tokio::select! {
        connected = connect(options, rights) => connected,
        () = shutdown.requested() => return Err(stopped()),
    };
    let look = || format!("check --database-url, and look at the server at {}", options.database);
    let mut owner = connected.map_err(|error| failure(error, options, look))?;
    let mut work = pin!(work(&mut owner));
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = shutdown.requested() => timeout(GRACE, work).await.unwrap_or(Ok(Ended::Stopped)),
    };
    match ended.map_err(|error| failure(error, options, || AGAIN.to_owned()))? {
        Ended::Done => Ok(()),
        Ended::Stopped => Err(stopped()),
    }
}

fn stopped() -> Failure {
    Failure::at_work(anyhow!("stopped before all was done"), AGAIN.to_owned())
}

/// Connects to the tables of the group. `rights` are what the command needs to do with them beside a reader's
/// work.
async fn connect(
    options: &Options,
    rights: &'static [(&'static str, &'static str)],
) -> Result<Owner, SessionError> {
    // Nobody asks a command for its health.
    let mut watchdog = Watchdog::new(&options.database, Arc::new(Health::starting()));
    // The stored source has the cluster.
    let (address, watch) = (options.database.clone(), watchdog.watch());
    let wanted = opening::source(options, String::new());
    let connecting = async {
        let connected = tokio::task::spawn_blocking(move || {
            let mut store = Store::connect(&address, wanted, watch)?;
            store.join_group(rights)?;
            Ok::<_, SessionError>(store)
        });
        connected.await?
    };
    let store = watchdog.guard(connecting).await?;
    let source = store.source().clone();
    Ok(Owner::new(store, watchdog, source))
}

/// The failure of a command. What a retry may mend, a person may try again, as `hint` says.
fn failure(error: SessionError, options: &Options, hint: impl FnOnce() -> String) -> Failure {
    match verdict(&error, &options.group_id) {
        Verdict::End { hint, exit_code } => Failure { error: error.into(), hint: Some(hint), exit_code },
        Verdict::Rejoin | Verdict::Retry => {
            let hint = match error {
                SessionError::Kafka(KafkaError::Transient(_)) => {
                    format!(
                        "check --bootstrap-servers and --kafka-property, and that the brokers run; then {AGAIN}"
                    )
                }
                _ => hint(),
            };
            Failure::at_work(error, hint)
        }
    }
}

const AGAIN: &str = "run the command again: what it has said it did is done, and goes on from there";
