//! The figures of a batch: what `snapshot.html` shows of it.

use super::super::format::{Moment, Name, Number, Times};
use super::super::queries::{Batch, Cell, Snapshot, Summary};
use super::chart::Chart;
use super::meanings::{Meaning, meanings};
use super::palette::Palette;
use super::{Choice, Shown, choices};
use std::collections::BTreeMap;

/// See the module.
pub struct Figured {
    /// What it is.
    pub head: Head,
    /// Whether its sums are known.
    pub has_sums: bool,
    /// The grid, from recency score 5 to 1.
    pub grid: Vec<GridRow>,
    /// The segments, the best first.
    pub segments: Vec<SegmentRow>,
    /// What the segments mean, the best first.
    pub meanings: Vec<Meaning>,
    /// Whether the scores are fifths of the customers of this snapshot, in all three metrics.
    pub are_fifths: bool,
    /// The shares over time, if there are two snapshots.
    pub chart: Option<Chart>,
    /// The snapshots from which customers can have moved.
    pub earlier: Vec<Choice>,
    /// Whether its customers have ids; `None` if its rows are gone.
    pub has_ids: Option<bool>,
}

/// What a batch is.
pub struct Head {
    /// Its id.
    pub batch_id: i64,
    /// When its customers were so.
    pub as_of: Moment,
    /// Its population.
    pub population: Option<Name>,
    /// How many customers.
    pub customers: Number,
    /// How many more than in the earlier snapshot, and when that was.
    pub change: Option<(Number, Moment)>,
    /// Whether that was chosen.
    pub is_compared: bool,
    /// When it was stored.
    pub stored_at: Moment,
    /// `--ties`
    pub ties: String,
    /// `default`, or the hash of a file.
    pub segment_map: Name,
    /// Whether it counts for its time.
    pub counts: bool,
    /// Whether its rows are gone.
    pub expired: bool,
    /// Equal neighbouring edges.
    pub empty_quintiles: i32,
}

/// A row of the grid.
pub struct GridRow {
    /// The recency score.
    pub score: char,
    /// The cells, from frequency score 1 to 5.
    pub cells: Vec<GridCell>,
}

/// A cell of the grid.
pub struct GridCell {
    /// Both scores.
    pub rf_score: String,
    /// The recency score.
    pub r: char,
    /// The frequency score.
    pub f: char,
    /// Its segment.
    pub segment: Name,
    /// The colour of that.
    pub class: String,
    /// Its customers.
    pub customers: Number,
    /// Their share.
    pub share: Number,
    /// Their mean recency.
    pub recency: Number,
    /// Their mean frequency.
    pub frequency: Number,
    /// Their mean monetary value.
    pub monetary: Number,
}

/// A segment.
pub struct SegmentRow {
    /// Its name.
    pub name: Name,
    /// Its colour.
    pub class: String,
    /// Its customers.
    pub customers: Number,
    /// How many more than before.
    pub change: Number,
    /// Their share.
    pub share: Number,
    /// How much more than before.
    pub shift: Number,
    /// Their mean recency.
    pub recency: Number,
    /// Their mean frequency.
    pub frequency: Number,
    /// The sum of their monetary value.
    pub monetary: Number,
    /// Its share of the whole sum.
    pub monetary_share: Number,
}

impl Figured {
    pub fn new(shown: &Shown) -> Self {
        let Shown { batch, before, is_chosen, summaries, cells, rules, window, has_ids } = shown;
        let times = shown.times();
        let palette = Palette::new(rules.iter().filter(|rule| rule.segment_map == batch.segment_map));
        let listed = window.iter().find(|snapshot| snapshot.batch_id == batch.batch_id);
        let head = Head {
            batch_id: batch.batch_id,
            as_of: times.moment(batch.as_of),
            population: batch.population.as_deref().filter(|name| !name.is_empty()).map(Name::new),
            customers: Number::count(batch.customers.into()),
            change: before.as_ref().map(|before| change(batch.customers, before, &times)),
            is_compared: *is_chosen,
            stored_at: Moment::new(batch.stored_at),
            ties: batch.ties.clone(),
            segment_map: Name::new(&batch.segment_map),
            counts: listed.is_some(),
            expired: batch.expired,
            empty_quintiles: listed.and_then(|snapshot| snapshot.empty_quintiles).unwrap_or(0),
        };
        let before = before.as_ref().map(|before| before.batch_id);
        let earlier: Vec<Snapshot> =
            window.iter().filter(|snapshot| snapshot.as_of < batch.as_of).cloned().collect();
        Self {
            head,
            has_sums: cells.iter().any(|cell| cell.customers.is_some()),
            grid: grid(cells, &palette),
            segments: segments(summaries, batch.batch_id, before, &palette),
            meanings: meanings(cells, &batch.segment_map, &palette),
            are_fifths: batch.edges_from.as_deref().is_none_or(|from| from == "quintiles"),
            chart: Chart::new(shown.listed(), rules, &palette, batch.batch_id, &times),
            earlier: choices(&earlier, &times, before),
            has_ids: *has_ids,
        }
    }
}

fn change(customers: i32, before: &Batch, times: &Times) -> (Number, Moment) {
    (Number::change(customers.into(), before.customers.into()), times.moment(before.as_of))
}

fn grid(cells: &[Cell], palette: &Palette) -> Vec<GridRow> {
    let total: i64 = cells.iter().filter_map(|cell| cell.customers).map(i64::from).sum();
    let cell = |cell: &Cell| {
        let mut digits = cell.rf_score.chars();
        let share = |customers: i32| (total > 0).then(|| f64::from(customers) / total as f64);
        GridCell {
            rf_score: cell.rf_score.clone(),
            r: digits.next().unwrap_or('?'),
            f: digits.next().unwrap_or('?'),
            segment: Name::new(&cell.segment),
            class: palette.class(&cell.segment),
            customers: cell.customers.map_or_else(Number::none, |customers| Number::count(customers.into())),
            share: Number::share(cell.customers.and_then(share)),
            recency: Number::value(cell.mean(cell.recency)),
            frequency: Number::value(cell.mean(cell.frequency)),
            monetary: Number::value(cell.mean(cell.monetary)),
        }
    };
    let rows = ['5', '4', '3', '2', '1'].map(|score| GridRow {
        score,
        cells: cells.iter().filter(|cell| cell.rf_score.starts_with(score)).map(cell).collect(),
    });
    rows.into()
}

fn segments(summaries: &[Summary], batch: i64, before: Option<i64>, palette: &Palette) -> Vec<SegmentRow> {
    let of_before = summaries.iter().filter(|row| Some(row.batch_id) == before);
    let earlier: BTreeMap<&str, &Summary> = of_before.map(|row| (row.segment.as_str(), row)).collect();
    let mut rows: Vec<&Summary> = summaries.iter().filter(|row| row.batch_id == batch).collect();
    rows.sort_by_key(|row| palette.place(&row.segment));
    let row = |row: &Summary| {
        let before = earlier.get(row.segment.as_str());
        let pair =
            |now: Option<i64>, then: Option<i64>| now.zip(then).map(|(now, then)| Number::change(now, then));
        let shift = row.share.zip(before.and_then(|before| before.share));
        SegmentRow {
            name: Name::new(&row.segment),
            class: palette.class(&row.segment),
            customers: row.customers.map_or_else(Number::none, Number::count),
            change: pair(row.customers, before.and_then(|before| before.customers))
                .unwrap_or_else(Number::none),
            share: Number::share(row.share),
            shift: shift.map_or_else(Number::none, |(now, then)| Number::shift(now, then)),
            recency: Number::value(row.mean_recency),
            frequency: Number::value(row.mean_frequency),
            monetary: Number::value(row.monetary),
            monetary_share: Number::share(row.monetary_share),
        }
    };
    rows.into_iter().map(row).collect()
}
