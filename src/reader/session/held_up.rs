//! What holds a session up: a transaction that a producer has open, and partners that have not come.
//!
//! Nothing behind an open transaction can be read, however long it lasts. A producer that died leaves its
//! transaction open until the brokers abort it, which may take a quarter of an hour.

use super::{Membership, Session};
use crate::backoff::LogThrottle;
use crate::coordinates::{NextOffset, TopicPartition};
use crate::kafka::LogEnd;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Transactions that last for less are not worth a line.
const SAY_AFTER: Duration = Duration::from_secs(4);

/// What is known of the topics that are held up.
#[derive(Debug, Default)]
pub(super) struct HeldUp {
    /// The topic that has been held up for longest.
    case: Option<Case>,
    /// The partitions in which a topic is held up.
    partitions: BTreeSet<i32>,
}

/// A topic that cannot be read on.
#[derive(Debug)]
struct Case {
    /// The position, which does not move.
    at: (TopicPartition, i64),
    /// Since when.
    since: Instant,
    /// When to log it.
    log: LogThrottle,
}

/// What to log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The topic that cannot be read on.
    pub(super) at: TopicPartition,
    /// The next offset to read: of the open transaction, or of a marker before it.
    pub(super) next: i64,
    /// The high watermark.
    pub(super) high: i64,
    /// For how long.
    pub(super) lasted: Duration,
}

impl HeldUp {
    /// Whether a topic of a partition is held up.
    pub(super) fn has(&self, partition: i32) -> bool {
        self.partitions.contains(&partition)
    }

    /// Looks at the positions and at the ends of their logs. Returns what to log, if it is time to.
    pub(super) fn look(
        &mut self,
        positions: &[NextOffset],
        end: impl Fn(TopicPartition) -> Option<LogEnd>,
        now: Instant,
    ) -> Option<Said> {
        let held: Vec<(&NextOffset, LogEnd)> = positions
            .iter()
            .filter_map(|next| Some((next, end(next.topic_partition())?)))
            .filter(|(next, end)| (0..=next.offset).contains(&end.stable) && next.offset < end.high)
            .collect();
        self.partitions = held.iter().map(|(next, _)| next.partition).collect();
        let same =
            |case: &Case| held.iter().find(|(next, _)| case.at == (next.topic_partition(), next.offset));
        let (next, end) = *self.case.as_ref().and_then(same).or(held.first()).or_else(|| {
            self.case = None;
            None
        })?;
        let at = (next.topic_partition(), next.offset);
        if self.case.as_ref().is_none_or(|case| case.at != at) {
            self.case = Some(Case { at, since: now, log: LogThrottle::begun() });
        }
        let case = self.case.as_mut()?;
        let lasted = now.saturating_duration_since(case.since);
        let is_due = lasted >= SAY_AFTER && case.log.due().is_some();
        is_due.then_some(Said { at: at.0, next: at.1, high: end.high, lasted })
    }
}

impl Session<'_> {
    /// Logs that nothing behind an open transaction can be read, if it is time to.
    pub(super) fn say_what_holds_up(&mut self, positions: &[NextOffset]) {
        let end = |at| self.consumer.log_end(at);
        if let Some(Said { at, next, high, lasted }) =
            self.brokers.held_up.look(positions, end, Instant::now())
        {
            let topic = self.options.kafka.topic(at.metric);
            tracing::warn!(
                for_s = lasted.as_secs(),
                topic,
                partition = at.partition,
                "waiting for the end of a transaction that a producer has open: read up to {next}, the log has {high}"
            );
        }
    }

    /// Logs which topics lack the partner of the message that has waited longest, if it is time to.
    pub(super) fn say_who_waits(&mut self) {
        let now = self.clock.now();
        let Membership::Holding(holding) = &mut self.membership else { return };
        let Some((partition, lacks, waited)) = holding.awaited(now) else { return };
        let topics: Vec<&str> = lacks.into_iter().map(|metric| self.options.kafka.topic(metric)).collect();
        tracing::info!(
            for_s = waited.as_secs(),
            partition,
            "waiting for partners: of the message that has waited longest, none has come on {}",
            topics.join(" and ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    fn next(metric: Metric, offset: i64) -> NextOffset {
        NextOffset { metric, partition: 0, offset, leader_epoch: None }
    }

    #[test]
    fn only_a_position_at_an_open_transaction_is_held_up() {
        let cases = [
            // stable, high, whether it is held up
            (Some((7, 9)), true),
            (Some((6, 9)), true),
            (Some((9, 9)), false),
            (Some((8, 9)), false),
            (Some((7, 7)), false),
            // Brokers that report no stable offset.
            (Some((-1, 9)), false),
            (None, false),
        ];
        for (end, expected) in cases {
            let mut held_up = HeldUp::default();
            let end = |_| end.map(|(stable, high)| LogEnd { high, stable });
            held_up.look(&[next(Metric::Recency, 7)], end, Instant::now());
            assert_eq!(held_up.case.is_some(), expected, "{:?}", held_up.case);
            assert_eq!(held_up.has(0), expected);
        }
    }

    #[test]
    fn it_is_said_after_a_while_and_forgotten_when_reading_goes_on() {
        let mut held_up = HeldUp::default();
        let begun = Instant::now();
        let at = [next(Metric::Recency, 9), next(Metric::Monetary, 3)];
        let end = |at: TopicPartition| match at.metric {
            Metric::Monetary => Some(LogEnd { high: 14, stable: 3 }),
            _ => Some(LogEnd { high: 9, stable: 9 }),
        };
        assert_eq!(held_up.look(&at, end, begun), None);
        assert_eq!(held_up.look(&at, end, begun + SAY_AFTER / 2), None);
        let moved = [next(Metric::Recency, 9), next(Metric::Monetary, 14)];
        assert_eq!(held_up.look(&moved, end, begun + SAY_AFTER), None);
        assert!(held_up.case.is_none());
        held_up.look(&at, end, begun);
        // The line itself is due by the clock of the throttle, which needs 2 s.
        if let Some(case) = held_up.case.as_mut() {
            case.log = LogThrottle::default();
        }
        let at_monetary = TopicPartition { metric: Metric::Monetary, partition: 0 };
        let said = Said { at: at_monetary, next: 3, high: 14, lasted: SAY_AFTER };
        assert_eq!(held_up.look(&at, end, begun + SAY_AFTER), Some(said));
    }
}
