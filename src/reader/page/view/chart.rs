//! The shares of segments over time, as areas on top of each other.

use super::super::format::{Moment, Name, Times, percent};
use super::super::queries::{Rule, Snapshot};
use super::palette::Palette;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The size of the picture, in units of its own.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 400.0;

/// See the module.
pub struct Chart {
    /// The areas, from the top to the bottom.
    pub areas: Vec<Area>,
    /// How many snapshots there are.
    pub count: usize,
    /// The first of them.
    pub from: Moment,
    /// The last of them.
    pub to: Moment,
    /// Where the snapshot is that is shown, unless it is the last.
    pub marked: Option<String>,
}

/// A segment over time.
pub struct Area {
    /// Its colour.
    pub class: String,
    /// Its name.
    pub name: Name,
    /// Its outline.
    pub path: String,
    /// Its first share.
    pub first: String,
    /// Its last share.
    pub last: String,
}

/// A snapshot whose shares are known.
struct Column<'a> {
    /// When.
    as_of: DateTime<Utc>,
    /// Its batch.
    batch_id: i64,
    /// The shares.
    shares: BTreeMap<&'a str, f64>,
}

impl Chart {
    /// Of these snapshots, newest first. `None` if fewer than two have sums.
    pub fn new(
        window: &[Snapshot],
        rules: &[Rule],
        palette: &Palette,
        shown: i64,
        times: &Times,
    ) -> Option<Self> {
        let columns: Vec<Column<'_>> =
            window.iter().rev().filter_map(|snapshot| column(snapshot, rules)).collect();
        let (first, last) = (columns.first()?, columns.last()?);
        let begin = first.as_of.timestamp_micros() as f64;
        let length = last.as_of.timestamp_micros() as f64 - begin;
        if columns.len() < 2 || length <= 0.0 {
            return None;
        }
        let x = |column: &Column<'_>| WIDTH * (column.as_of.timestamp_micros() as f64 - begin) / length;
        let names: BTreeSet<&str> = columns.iter().flat_map(|column| column.shares.keys().copied()).collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_by_key(|name| palette.place(name));
        let mut tops = vec![0.0; columns.len()];
        let mut areas = Vec::new();
        for name in names {
            let share = |column: &Column<'_>| column.shares.get(name).copied().unwrap_or(0.0);
            let bottoms: Vec<f64> =
                tops.iter().zip(&columns).map(|(top, column)| top + share(column)).collect();
            let upper = columns.iter().map(x).zip(tops.iter().copied());
            let lower = columns.iter().map(x).zip(bottoms.iter().copied());
            areas.push(Area {
                class: palette.class(name),
                name: Name::new(name),
                path: path(upper.chain(lower.rev())),
                first: percent(share(first)),
                last: percent(share(last)),
            });
            tops = bottoms;
        }
        let marked = columns.iter().find(|column| column.batch_id == shown && shown != last.batch_id);
        Some(Self {
            areas,
            count: columns.len(),
            from: times.moment(first.as_of),
            to: times.moment(last.as_of),
            marked: marked.map(|column| format!("{:.0}", x(column))),
        })
    }
}

/// The shares of a snapshot; `None` if it has no sums, or its map is not known.
fn column<'a>(snapshot: &Snapshot, rules: &'a [Rule]) -> Option<Column<'a>> {
    let cells = snapshot.rf_customers.as_ref()?;
    let total: f64 = cells.iter().map(|&customers| f64::from(customers)).sum();
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.segment_map == snapshot.segment_map) {
        let digit = |place| rule.rf_score.chars().nth(place)?.to_digit(10)?.checked_sub(1);
        let place = (5 * digit(0)? + digit(1)?) as usize;
        *shares.entry(&rule.segment).or_default() += f64::from(*cells.get(place)?) / total;
    }
    (total > 0.0 && !shares.is_empty()).then_some(Column {
        as_of: snapshot.as_of,
        batch_id: snapshot.batch_id,
        shares,
    })
}

/// An outline through these points; the share of the ordinate is 0 at the top.
fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (place, (x, share)) in points.enumerate() {
        let letter = if place == 0 { "M" } else { "L" };
        // Writing to a string cannot fail.
        let _ = write!(path, "{letter}{x:.0} {:.1}", (share * HEIGHT).min(HEIGHT));
    }
    path + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn snapshot(day: i64, counts: Option<[i32; 2]>) -> Snapshot {
        let rf_customers = counts.map(|[low, high]| {
            let mut cells = vec![0; 25];
            (cells[0], cells[24]) = (low, high);
            cells
        });
        Snapshot {
            batch_id: day,
            population: None,
            as_of: DateTime::UNIX_EPOCH + TimeDelta::days(day),
            produced_at: None,
            customers: 0,
            expired: false,
            empty_quintiles: Some(0),
            previous_batch_id: None,
            segment_map: "map".to_owned(),
            rf_customers,
        }
    }

    #[test]
    fn areas_lie_on_each_other_by_time_and_what_has_no_sums_is_left_out() {
        let rules = [("11", "low"), ("55", "high")].map(|(rf_score, segment)| Rule {
            segment_map: "map".to_owned(),
            rf_score: rf_score.to_owned(),
            segment: segment.to_owned(),
        });
        let palette = Palette::new(&rules);
        let window = [
            snapshot(4, Some([1, 1])),
            snapshot(3, None),
            snapshot(2, Some([0, 0])),
            snapshot(1, Some([0, 9])),
            snapshot(0, Some([3, 1])),
        ];
        let chart = Chart::new(&window, &rules, &palette, 1, &Times::default()).unwrap();
        assert_eq!((chart.count, chart.marked.as_deref()), (3, Some("300")));
        let paths: Vec<(&str, &str)> =
            chart.areas.iter().map(|area| (area.name.text.as_str(), area.path.as_str())).collect();
        assert_eq!(
            paths,
            [
                ("high", "M0 0.0L300 0.0L1200 0.0L1200 200.0L300 400.0L0 100.0Z"),
                ("low", "M0 100.0L300 400.0L1200 200.0L1200 400.0L300 400.0L0 400.0Z"),
            ]
        );
        assert_eq!(
            (chart.areas[0].first.as_str(), chart.areas[0].last.as_str()),
            ("25.0\u{a0}%", "50.0\u{a0}%")
        );
        assert!(
            Chart::new(&window[3..4], &rules, &palette, 1, &Times::default()).is_none(),
            "one is no line"
        );
    }
}
