//! How far the group must get for `--until-caught-up`, and how far it was when the reader started. Pure.
//!
//! **The marks are those of all partitions, also of those that other readers hold.** A partition in which the group has no
//! progress counts as being at the beginning of its log. So an empty log is done.

use crate::coordinates::TopicPartition;
use crate::kafka::Member;
use crate::metric::{Metric, PerMetric};
use std::collections::BTreeMap;
use std::ops::Range;

/// Per partition, how far the group is: the next offset to settle of each topic.
pub(super) type Positions = BTreeMap<i32, PerMetric<i64>>;

/// Partitions named in a log line. Nobody would read a longer one.
const PARTITIONS_NAMED: usize = 8;

/// What was in a partition when the reader started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Where the group was.
    pub(super) start: PerMetric<i64>,
    /// Where the logs ended: their high watermarks.
    pub(super) end: PerMetric<i64>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(BTreeMap<i32, Mark>);

impl Marks {
    /// The marks of logs with these watermarks, of a group with this progress.
    pub(super) fn new(logs: BTreeMap<i32, PerMetric<(i64, i64)>>, progress: &Positions) -> Self {
        let mark = |(partition, log): (i32, PerMetric<(i64, i64)>)| {
            let beginning = log.map(|(low, _)| low);
            let start = progress.get(&partition).copied().unwrap_or(beginning);
            (partition, Mark { start, end: log.map(|(_, high)| high) })
        };
        Self(logs.into_iter().map(mark).collect())
    }

    /// The end of a partition.
    pub(super) fn end(&self, partition: i32) -> Option<&PerMetric<i64>> {
        self.0.get(&partition).map(|mark| &mark.end)
    }

    /// The partitions that are not at their end, if the group is at `position`; without a position, it is
    /// where it was at the start.
    pub(super) fn lacking(&self, position: impl Fn(i32) -> Option<PerMetric<i64>>) -> Vec<Lacking> {
        let lacking = |(&partition, mark): (&i32, &Mark)| {
            let at = position(partition).unwrap_or(mark.start);
            let is_done = at.zip(mark.end).values().all(|(at, end)| at >= end);
            (!is_done).then_some(Lacking { partition, at, end: mark.end })
        };
        self.0.iter().filter_map(lacking).collect()
    }

    /// Messages (and transaction markers) between the start and the end.
    pub(super) fn messages(&self) -> u64 {
        self.ranges().iter().map(|(_, range)| (range.end - range.start).unsigned_abs()).sum()
    }

    /// The offsets between the start and the end.
    pub(super) fn ranges(&self) -> Vec<(TopicPartition, Range<i64>)> {
        let of_partition = |(&partition, mark): (&i32, &Mark)| {
            let Mark { start, end } = *mark;
            Metric::ALL.map(|metric| (TopicPartition { metric, partition }, start[metric]..end[metric]))
        };
        self.0.iter().flat_map(of_partition).filter(|(_, range)| !range.is_empty()).collect()
    }
}

/// A partition that is not at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    /// The partition number.
    pub(super) partition: i32,
    /// How far the group is.
    pub(super) at: PerMetric<i64>,
    /// How far it must get.
    pub(super) end: PerMetric<i64>,
}

impl Lacking {
    /// Messages (and transaction markers) that are not settled.
    pub(super) fn messages(&self) -> u64 {
        self.at.zip(self.end).values().map(|&(at, end)| end.saturating_sub(at).max(0).unsigned_abs()).sum()
    }
}

/// Who holds the partitions that a reader waits for.
pub(super) enum Holders {
    /// This reader, which has read up to these positions.
    This(Positions),
    /// Other members of the group.
    Others(Vec<Member>),
    /// Others, and the brokers do not say who they are.
    Unknown(String),
}

/// Names partitions that are not at their end, and whom the reader waits for.
pub(super) fn describe(lacking: &[Lacking], holders: &Holders) -> String {
    let named = lacking.iter().take(PARTITIONS_NAMED).map(|lacking| {
        let Lacking { partition, at, end } = lacking;
        format!("partition {partition} at {at} of {end}, {}", holder(lacking, holders))
    });
    let more = lacking.len().saturating_sub(PARTITIONS_NAMED);
    let more = (more > 0).then(|| format!("and {more} more partitions"));
    named.chain(more).collect::<Vec<_>>().join("; ")
}

fn holder(lacking: &Lacking, holders: &Holders) -> String {
    match holders {
        Holders::This(read) => {
            let read = read.get(&lacking.partition).copied().unwrap_or(lacking.at);
            let is_read = read.zip(lacking.end).values().all(|(read, end)| read >= end);
            let why = if is_read {
                "messages wait for their partners or for postgres"
            } else {
                "the brokers hold back what follows while a transaction is open"
            };
            format!("held by this reader, which has read up to {read}: {why}")
        }
        Holders::Others(members) => {
            let has = |member: &&Member| member.assigned.iter().any(|at| at.partition == lacking.partition);
            let name = |member: &Member| format!("`{}` at {}", member.client_id, member.host);
            let named: Vec<String> = members.iter().filter(has).map(name).collect();
            if named.is_empty() {
                "which no member of the group holds at present".to_owned()
            } else {
                format!("held by {}", named.join(" and "))
            }
        }
        Holders::Unknown(why) => format!("held by another member of the group ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        // Partition 0: the group got to 3. 1 is empty, 2 lost its beginning, and 3 was never committed.
        let logs = [(0, (0, 10)), (1, (0, 0)), (2, (5, 5)), (3, (2, 4))];
        let logs = logs.map(|(partition, log)| (partition, [log; 3].into()));
        Marks::new(logs.into(), &BTreeMap::from([(0, [3; 3].into())]))
    }

    #[test]
    fn a_group_lacks_what_it_has_not_settled_and_nothing_of_an_empty_log() {
        let lacks = |positions: &[(i32, [i64; 3])]| -> Vec<i32> {
            let positions: Positions = positions.iter().map(|&(p, next)| (p, next.into())).collect();
            marks().lacking(|p| positions.get(&p).copied()).iter().map(|lacking| lacking.partition).collect()
        };
        assert_eq!(lacks(&[]), [0, 3]);
        assert_eq!(lacks(&[(0, [10, 10, 9]), (3, [4; 3])]), [0], "one topic is enough");
        assert_eq!(lacks(&[(0, [10, 12, 10]), (3, [4; 3])]), [] as [i32; 0]);
    }

    #[test]
    fn dead_letters_count_between_the_start_and_the_end() {
        let ranges = marks().ranges();
        assert_eq!(ranges.len(), 6, "three topics of the partitions 0 and 3: {ranges:?}");
        assert!(ranges.contains(&(TopicPartition { metric: Metric::Frequency, partition: 0 }, 3..10)));
        assert!(ranges.contains(&(TopicPartition { metric: Metric::Monetary, partition: 3 }, 2..4)));
    }

    #[test]
    fn what_is_left_is_counted_in_messages() {
        assert_eq!(marks().messages(), 3 * 7 + 3 * 2);
        let left = |next: i64| -> u64 {
            let at = |partition| (partition == 0).then_some([next, 12, 10].into());
            marks().lacking(at).iter().map(Lacking::messages).sum()
        };
        assert_eq!((left(4), left(10)), (6 + 6, 6), "a position above the end is no debt");
    }

    #[test]
    fn whom_the_reader_waits_for_is_named() {
        let lacking = marks().lacking(|_| None);
        let assigned = vec![TopicPartition { metric: Metric::Recency, partition: 3 }];
        let member =
            Member { client_id: "rdkafka".to_owned(), host: "10.0.0.7".to_owned(), topics: None, assigned };
        let said = describe(&lacking, &Holders::Others(vec![member]));
        assert_eq!(
            said,
            "partition 0 at 3/3/3 of 10/10/10, which no member of the group holds at present; partition 3 at 2/2/2 of \
             4/4/4, held by `rdkafka` at 10.0.0.7"
        );
        let said = describe(&lacking, &Holders::Unknown("no answer".to_owned()));
        assert!(said.contains("of 4/4/4, held by another member of the group (no answer)"), "{said}");
        let read = BTreeMap::from([(0, [5, 10, 10].into()), (3, [4; 3].into())]);
        let said = describe(&lacking, &Holders::This(read));
        assert!(said.contains("read up to 5/10/10: the brokers hold back"), "{said}");
        assert!(said.contains("read up to 4/4/4: messages wait for their partners"), "{said}");
        let many: Vec<Lacking> = (0..10).map(|partition| Lacking { partition, ..lacking[0] }).collect();
        assert!(describe(&many, &Holders::Others(Vec::new())).ends_with("; and 2 more partitions"));
    }
}
