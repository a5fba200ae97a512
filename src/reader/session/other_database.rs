//! Partitions of the group that somebody stores in another database.
//!
//! Two readers of one group share its partitions, whatever database each of them writes to. With two
//! databases, each gets a part, and neither would notice. **A reader commits to Kafka only what Postgres
//! already has**, so a committed offset above the progress in this database belongs to somebody else.

use super::{Membership, Session, SessionError};
use crate::backoff::LogThrottle;
use crate::metric::Metric;
use crate::reader::store::Store;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The metric whose topic is asked about. One is enough: progress moves in all three together.
const ASKED: Metric = Metric::Recency;
/// Pauses between questions: the first two, then all others. A partition whose reader catches up moves
/// between two of them.
const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

/// Per partition, an offset.
type Offsets = BTreeMap<i32, i64>;

/// What was asked, and what was found.
#[derive(Debug, Default)]
pub(super) struct OtherDatabase {
    /// When the brokers were asked last, or the partitions were assigned.
    asked: Option<Instant>,
    /// How many answers there were since the assignment.
    answers: u32,
    /// The progress in the answer before.
    before: Option<Offsets>,
    /// When to log it.
    log: LogThrottle,
}

/// What Kafka and the table say, asked in this order.
pub(super) struct Compared {
    /// What the group has committed to Kafka.
    committed: Offsets,
    /// What `progress` has.
    stored: Offsets,
}

impl OtherDatabase {
    /// Begins with an assignment.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { asked: Some(now), ..Self::default() };
    }

    /// Whether to ask now; if so, the question counts as asked.
    fn is_due(&mut self, now: Instant) -> bool {
        let pause = if self.answers < 2 { SOON } else { LATER };
        let due = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= pause);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// The partitions that are not `held` here and were stored elsewhere: what Kafka has is above progress,
    /// and progress has not moved since the answer before.
    fn find(
        &mut self,
        Compared { committed, stored }: Compared,
        held: impl Fn(i32) -> bool,
    ) -> Vec<(i32, i64, Option<i64>)> {
        self.answers += 1;
        let before = self.before.replace(stored.clone());
        let found = committed.into_iter().filter_map(|(partition, committed)| {
            let here = stored.get(&partition).copied();
            let stands_still = before.as_ref().is_some_and(|before| before.get(&partition).copied() == here);
            let is_above = committed > here.unwrap_or_default();
            (stands_still && is_above && !held(partition)).then_some((partition, committed, here))
        });
        found.collect()
    }
}

impl Session<'_> {
    /// Asks for the offsets that the group has committed to Kafka, if it is time to.
    pub(super) fn ask_whether_stored_elsewhere(&mut self) {
        if !self.membership.holds_some() || !self.brokers.other_database.is_due(Instant::now()) {
            return;
        }
        let group = self.options.group_id.clone();
        let stored = self.owner.task(Store::group_positions);
        self.brokers.ask(move |cluster| {
            // Kafka first: the table may move on meanwhile, and never back.
            let committed = cluster.committed(&group, ASKED)?.into_iter().collect();
            let stored = stored()?.into_iter().map(|(partition, next)| (partition, next[ASKED])).collect();
            Ok::<_, SessionError>(Compared { committed, stored })
        });
    }

    /// Logs the partitions that are stored elsewhere.
    pub(super) fn on_other_database(
        &mut self,
        compared: Result<Compared, SessionError>,
    ) -> Result<(), SessionError> {
        let compared = match compared {
            Ok(compared) => compared,
            Err(error @ SessionError::Store(_)) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "cannot ask for the group's offsets");
                return Ok(());
            }
        };
        let membership = &self.membership;
        let held = |partition| match membership {
            Membership::Holding(holding) => holding.ownership(partition).is_some(),
            Membership::Joining | Membership::Misfit => true,
        };
        let found = self.brokers.other_database.find(compared, held);
        let Some(&(partition, committed, here)) = found.first() else {
            self.brokers.other_database.log.reset();
            return Ok(());
        };
        if let Some(lasted) = self.brokers.other_database.log.due() {
            let partitions: Vec<String> = found.iter().map(|(partition, ..)| partition.to_string()).collect();
            let here = here.map_or_else(|| "no row".to_owned(), |here| here.to_string());
            tracing::warn!(
                for_s = lasted.as_secs(),
                partitions = partitions.join(","),
                "partitions of the group `{}` are stored elsewhere: Kafka's committed offset of partition {partition} is \
                 {committed}, and progress in this database has {here}. Does another reader of the group use another \
                 database? Give each its own --group-id. (If not: Postgres went back in time, or somebody set the offset)",
                self.options.group_id
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(offsets: &[(i32, i64)]) -> Offsets {
        offsets.iter().copied().collect()
    }

    #[test]
    fn only_what_stands_still_below_kafka_and_is_not_held_is_stored_elsewhere() {
        type Pairs = &'static [(i32, i64)];
        // committed, stored before, stored now, how many are found
        let cases: [(Pairs, Pairs, Pairs, usize); 6] = [
            (&[(1, 17)], &[(1, 7)], &[(1, 7)], 1),
            (&[(1, 17)], &[], &[], 1),
            (&[(1, 17)], &[(1, 7)], &[(1, 9)], 0),
            (&[(1, 7)], &[(1, 7)], &[(1, 7)], 0),
            (&[(1, 0)], &[], &[], 0),
            (&[(0, 17)], &[(0, 7)], &[(0, 7)], 0),
        ];
        for (committed, before, now, expected) in cases {
            let mut other_database = OtherDatabase::default();
            let compared = |stored| Compared { committed: offsets(committed), stored: offsets(stored) };
            // Partition 0 is held.
            let held = |partition| partition == 0;
            assert!(other_database.find(compared(before), held).is_empty(), "one answer says nothing");
            assert_eq!(other_database.find(compared(now), held).len(), expected, "{committed:?} {now:?}");
        }
    }

    #[test]
    fn the_first_two_questions_come_soon_and_none_before_an_assignment() {
        let (mut other_database, begun) = (OtherDatabase::default(), Instant::now());
        assert!(!other_database.is_due(begun + LATER));
        other_database.begin(begun);
        assert!(!other_database.is_due(begun + SOON / 2));
        assert!(other_database.is_due(begun + SOON));
        other_database.answers = 2;
        assert!(!other_database.is_due(begun + 3 * SOON));
        assert!(other_database.is_due(begun + SOON + LATER));
    }
}
