//! `--until-caught-up`: whether the group has stored what was in the topics when the reader started, whom the
//! reader waits for, and how it ends.
//!
//! What this reader holds, it knows. How far other readers of the group are, it reads from `progress`. **It
//! ends only once the group has assigned**, because that is when the topics are checked; what is assigned may
//! be nothing.

use super::marks::{Holders, Lacking, Marks, Positions, describe};
use super::{Membership, Session, SessionError, blocking};
use crate::backoff::LogThrottle;
use crate::kafka::{Cluster, KafkaError, Member};
use crate::metric::PerMetric;
use crate::reader::Ending;
use crate::reader::store::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two looks at the progress of others.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is known of the partitions that other readers hold.
#[derive(Debug)]
pub(super) struct Others {
    /// How far the group was at the last look.
    positions: Positions,
    /// When that was.
    looked: Instant,
    /// A look is under way.
    looking: bool,
    /// When to log what is waited for.
    log: LogThrottle,
    /// What this reader lacked at its last commit, and how far it was; empty once it lacks nothing.
    own: Positions,
}

/// What a look has found.
pub(super) struct Look {
    /// How far the group is.
    positions: Result<Vec<(i32, PerMetric<i64>)>, StoreError>,
    /// If it is time to log it: for how long it was waited for, and who is in the group.
    members: Option<(Duration, Result<Vec<Member>, KafkaError>)>,
}

impl Others {
    pub(super) fn unknown() -> Self {
        let (positions, own) = (Positions::new(), Positions::new());
        Self { positions, looked: Instant::now(), looking: false, log: LogThrottle::begun(), own }
    }
}

impl Session<'_> {
    /// Finds the marks, unless they are known or the topics do not fit together yet.
    pub(super) async fn find_marks(&mut self) -> Result<(), SessionError> {
        if !self.options.until_caught_up || self.memory.marks.is_some() {
            return Ok(());
        }
        let read = self.owner.task(|store| store.group_positions());
        let cluster = Arc::clone(&self.brokers.cluster);
        // First the group, then the logs: what is stored meanwhile counts as stored since the start.
        let finding = blocking(move || {
            let positions: Positions = read()?.into_iter().collect();
            Ok::<_, SessionError>(logs(&cluster)?.map(|logs| Marks::new(logs, &positions)))
        });
        self.memory.marks = self.owner.guard(async { finding.await? }).await?;
        Ok(())
    }

    /// What the group has not stored yet; `None` while that is not known.
    fn lacking(&self) -> Option<Vec<Lacking>> {
        let (Membership::Holding(holding), Some(marks)) = (&self.membership, &self.memory.marks) else {
            return None;
        };
        let others = &self.brokers.others.positions;
        Some(marks.lacking(|p| holding.stored(p).or_else(|| others.get(&p).copied())))
    }

    /// Whether the group has stored everything that was there when the reader started.
    pub(super) fn has_caught_up(&self) -> bool {
        self.options.until_caught_up
            && self.writers.are_idle()
            && self.lacking().is_some_and(|lacking| lacking.is_empty())
    }

    /// Looks how far the others are, once this reader has nothing left to do, and logs what it waits for.
    pub(super) fn watch_others(&mut self) {
        if !self.options.until_caught_up {
            return;
        }
        let Some(lacking) = self.lacking() else { return };
        self.memory.show_progress(&lacking);
        let Membership::Holding(holding) = &self.membership else { return };
        let (own, of_others): (Vec<Lacking>, Vec<Lacking>) =
            lacking.into_iter().partition(|lacking| holding.stored(lacking.partition).is_some());
        let others = &mut self.brokers.others;
        if !own.is_empty() {
            let now: Positions = own.iter().map(|lacking| (lacking.partition, lacking.at)).collect();
            if now != others.own {
                (others.own, others.log) = (now, LogThrottle::begun());
            } else if let Some(lasted) = others.log.due() {
                // An open transaction is logged by itself.
                let held_up = &self.brokers.held_up;
                let own: Vec<Lacking> = own.into_iter().filter(|own| !held_up.has(own.partition)).collect();
                if own.is_empty() {
                    return;
                }
                let read = own.iter().filter_map(|own| Some((own.partition, holding.read(own.partition)?)));
                log(&own, &Holders::This(read.collect()), lasted);
            }
            return;
        }
        if !others.own.is_empty() {
            // From here on it waits for others only.
            (others.own, others.log) = (Positions::new(), LogThrottle::begun());
        }
        if !of_others.is_empty() && !others.looking && others.looked.elapsed() >= LOOK_AGAIN {
            others.looking = true;
            let lasted = others.log.due();
            let look = self.owner.task(|store| store.group_positions());
            let group = self.options.group_id.clone();
            self.brokers.ask(move |cluster| Look {
                positions: look(),
                members: lasted.map(|lasted| (lasted, cluster.members(&group))),
            });
        }
    }

    /// Takes in how far the others are, and logs who they are.
    pub(super) fn on_others(&mut self, look: Look) -> Result<(), SessionError> {
        let Look { positions, members } = look;
        let others = &mut self.brokers.others;
        (others.looking, others.looked) = (false, Instant::now());
        others.positions = positions?.into_iter().collect();
        if let (Some((lasted, members)), Some(lacking)) = (members, self.lacking())
            && !lacking.is_empty()
        {
            let holders = match members {
                // This reader is a member, too.
                Ok(members) if members.is_empty() => {
                    Holders::Unknown("the brokers do not say which".to_owned())
                }
                Ok(members) => Holders::Others(members),
                Err(error) => Holders::Unknown(error.to_string()),
            };
            log(&lacking, &holders, lasted);
        }
        Ok(())
    }

    /// The end of a reader that has caught up.
    pub(super) async fn end_caught_up(&mut self) -> Result<Ending, SessionError> {
        self.finish_upkeep().await?;
        let ranges = self.memory.marks.as_ref().map(Marks::ranges).unwrap_or_default();
        let dead_letters = self.owner.run(move |store| Ok(store.count_dead_letters(&ranges)?)).await?;
        self.memory.end_progress();
        let (batches, customers) = self.memory.vitals.totals();
        let s = self.memory.begun.elapsed().as_secs();
        if dead_letters == 0 {
            tracing::info!(batches, customers, s, "caught up");
            return Ok(Ending::Done);
        }
        let what = "caught up, with messages that were not scored: see `dead_letters`";
        tracing::warn!(batches, customers, dead_letters, s, "{what}");
        Ok(Ending::DeadLetters)
    }
}

fn log(lacking: &[Lacking], holders: &Holders, lasted: Duration) {
    tracing::info!(for_s = lasted.as_secs(), "waiting to catch up: {}", describe(lacking, holders));
}

/// The watermarks of all partitions; `None` if the topics do not fit together.
fn logs(cluster: &Cluster) -> Result<Option<BTreeMap<i32, super::log::Watermarks>>, SessionError> {
    let Some(count) = cluster.topic_partitions()?.equal() else { return Ok(None) };
    let of_partition = |partition| Ok((partition, super::log::watermarks(cluster, partition)?));
    (0..count as i32).map(of_partition).collect::<Result<_, SessionError>>().map(Some)
}
