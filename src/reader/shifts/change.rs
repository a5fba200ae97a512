//! A change between two snapshots, and when it is worth a warning. Pure.

use super::sample::Sample;
use crate::metric::Metric;
use crate::reader::quintile::{Cut, Edges};
use std::fmt;

/// Values that are looked at first, to see whether an edge may have jumped.
const LOOKED_AT: usize = 2_048;
/// Sampled ids that must be there to look for, for a verdict.
const JUDGED: usize = 8;

/// What changed, with what a person needs to see how much. Never a customer id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Quintiles of a metric are empty.
    Empty {
        /// The metric.
        metric: Metric,
        /// Which: bit 0 is the second, bit 3 the last. (The first has at least the least value.)
        which: u32,
        /// How many customers share the value on which the edges fell together.
        sharing: usize,
        /// How many customers there are.
        customers: usize,
    },
    /// An edge jumped.
    Jumped {
        /// The metric.
        metric: Metric,
        /// Where the edge was that most customers lie on the other side of now.
        from: f64,
        /// Where it is.
        to: f64,
        /// How many customers would have another score of this metric under the edges before.
        moved: usize,
        /// How many customers there are.
        customers: usize,
    },
    /// The ids are those of other customers.
    Strangers {
        /// How many ids of the snapshot before were looked for.
        judged: usize,
        /// How many of them are there.
        found: usize,
    },
    /// There are no ids any more.
    Nameless,
    /// More than half of the customers are gone.
    Fell {
        /// How many there were.
        from: usize,
        /// How many there are.
        to: usize,
    },
}

impl Change {
    /// That quintiles are empty, and how many customers share the value that is to blame. Reads the whole column.
    pub(super) fn empty(metric: Metric, cut: &Cut, values: &[f64]) -> Self {
        let shared = cut.edges[1..].windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let sharing =
            shared.map(|edge| values.iter().filter(|&&x| x == edge).count()).max().unwrap_or_default();
        Self::Empty { metric, which: empty(cut), sharing, customers: values.len() }
    }
}

/// Which quintiles are empty because edges are equal: see [`Change::Empty`].
pub(super) fn empty(cut: &Cut) -> u32 {
    if cut.edges[1..].windows(2).all(|pair| pair[0] != pair[1]) {
        return 0;
    }
    (0..4).filter(|&bit| !cut.codes.contains(&(bit + 1))).map(|bit| 1 << bit).sum()
}

/// Whether an inner edge jumped. **It did if more customers lie between its two places than chance explains**: at
/// least 2 %, and three times the square root of their number (two samples of the same customers would differ by
/// 0.7 of it). Customers between the two places have another score only because the edge moved.
pub(super) fn jump(metric: Metric, before: &Edges, now: &Edges, values: &[f64]) -> Option<Change> {
    let (before, now) = (inner(before), inner(now));
    if before == now {
        return None;
    }
    let customers = values.len();
    let enough = (customers as f64 * 0.02).max(3.0 * (customers as f64).sqrt());
    let step = (customers / LOOKED_AT).max(1);
    if step > 1 {
        let looked_at = values.iter().copied().step_by(step);
        let most = passed(before, now, looked_at).into_iter().max().unwrap_or_default();
        if ((most * step) as f64) < enough / 2.0 {
            return None;
        }
    }
    let passed = passed(before, now, values.iter().copied());
    let (most, edge) = passed.into_iter().zip(0..4).max_by_key(|&(count, edge)| (count, 3 - edge))?;
    if (most as f64) < enough {
        return None;
    }
    let code = |edges: [f64; 4], x: f64| edges.iter().filter(|&&edge| edge < x).count();
    let moved = values.iter().filter(|&&x| code(before, x) != code(now, x)).count();
    let (from, to) = (before[edge], now[edge]);
    Some(Change::Jumped { metric, from, to, moved, customers })
}

fn inner(&[_, a, b, c, d, _]: &Edges) -> [f64; 4] {
    [a, b, c, d]
}

/// Per edge, how many values lie between its two places.
fn passed(before: [f64; 4], now: [f64; 4], values: impl Iterator<Item = f64>) -> [usize; 4] {
    let mut passed = [0; 4];
    for x in values {
        for (i, count) in passed.iter_mut().enumerate() {
            *count += usize::from((before[i] < x) != (now[i] < x));
        }
    }
    passed
}

/// Whether the ids are others than before: less than a tenth of those before are there now, and of those now were
/// there before. (Where customers fell or rose, one of the two is small, and means nothing.)
pub(super) fn strangers(before: Option<&Sample>, now: Option<&Sample>) -> Option<Change> {
    let before = before?;
    let Some(now) = now else { return Some(Change::Nameless) };
    let are_few = |(judged, found): (usize, usize)| judged >= JUDGED && 10 * found < judged;
    let (judged, found) = now.find(before);
    (are_few((judged, found)) && are_few(before.find(now))).then_some(Change::Strangers { judged, found })
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Empty { metric, which, sharing, customers } => write!(
                f,
                "{} of the 5 quintiles of {metric} are empty: {sharing} of {customers} customers share one \
                 value (see `Your data, choose this` in docs/guide.md)",
                which.count_ones()
            ),
            Change::Jumped { metric, from, to, moved, customers } => write!(
                f,
                "an edge of {metric} jumped from {from} to {to}: for that alone, {moved} of {customers} customers \
                 have another {metric} score (--edges keeps edges where they are)"
            ),
            Change::Strangers { judged, found } => write!(
                f,
                "the customer ids are not those of the snapshot before: of {judged} that were looked for, {found} \
                 are there"
            ),
            Change::Nameless => f.write_str("the customers have no ids any more, and had some before"),
            Change::Fell { from, to } => write!(f, "customers fell from {from} to {to}"),
        }
    }
}
