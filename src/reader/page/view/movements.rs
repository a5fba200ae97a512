//! Who went where, as a table of segments by segments.

use super::super::format::{Name, Number};
use super::super::queries::Move;
use super::palette::Palette;
use askama::Template;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How many movements are told in words.
const TOLD: usize = 3;

/// See `matrix.html`.
#[derive(Default, Template)]
#[template(path = "matrix.html")]
pub struct Matrix {
    /// Why there is none.
    why: Option<String>,
    /// The segments after.
    columns: Vec<Name>,
    /// The segments before.
    rows: Vec<Row>,
    /// How many customers there were before.
    there: Number,
    /// How many are where they were.
    stayed: Number,
    /// How many are in another segment.
    moved: Number,
    /// How many are gone.
    gone: Number,
    /// How many are new.
    new: Number,
    /// The largest movements between two segments.
    largest: Vec<Largest>,
}

/// A segment before.
struct Row {
    /// Its name.
    name: Name,
    /// Its customers, by where they are.
    cells: Vec<Cell>,
    /// All of them.
    sum: Number,
}

/// From one segment to another.
struct Cell {
    /// How many.
    customers: Number,
    /// How it looks.
    class: &'static str,
}

/// A large movement.
struct Largest {
    /// From here.
    from: Name,
    /// To here.
    to: Name,
    /// How many.
    customers: Number,
}

/// Where somebody was or is; `None`: nowhere.
type Place<'a> = Option<&'a str>;

impl Matrix {
    /// With the segments in the order of a palette.
    pub fn new<'a>(moves: &'a [Move], palette: &'a Palette) -> Self {
        let mut counts: BTreeMap<(Place<'a>, Place<'a>), i64> = BTreeMap::new();
        for row in moves {
            *counts.entry((row.from_segment.as_deref(), row.to_segment.as_deref())).or_default() +=
                row.customers;
        }
        let [before, after] = [true, false].map(|is_before| {
            let side = |&(from, to): &(Place<'a>, Place<'a>)| if is_before { from } else { to };
            let mut places: Vec<Place<'_>> =
                counts.keys().map(side).chain(palette.order().map(Some)).collect();
            // Nowhere comes last.
            places.sort_by_key(|place| (place.is_none(), place.map(|name| palette.place(name)), *place));
            places.dedup();
            places
        });
        let count = |from: Place<'a>, to: Place<'a>| counts.get(&(from, to)).copied().unwrap_or(0);
        let row = |&from: &Place<'a>| Row {
            name: from.map_or_else(|| Name::new("(new)"), Name::new),
            cells: after
                .iter()
                .map(|&to| Cell { customers: Number::count(count(from, to)), class: class(from, to) })
                .collect(),
            sum: Number::count(after.iter().map(|&to| count(from, to)).sum()),
        };
        let sum = |of: fn(Place<'_>, Place<'_>) -> bool| {
            Number::count(
                counts.iter().filter(|&(&(from, to), _)| of(from, to)).map(|(_, customers)| customers).sum(),
            )
        };
        Self {
            why: None,
            columns: after.iter().map(|to| to.map_or_else(|| Name::new("(gone)"), Name::new)).collect(),
            rows: before.iter().map(row).collect(),
            there: sum(|from, _| from.is_some()),
            stayed: sum(|from, to| from.is_some() && from == to),
            moved: sum(|from, to| from.is_some() && to.is_some() && from != to),
            gone: sum(|from, to| from.is_some() && to.is_none()),
            new: sum(|from, to| from.is_none() && to.is_some()),
            largest: largest(&counts),
        }
    }

    /// There is none, for this reason.
    pub fn none(why: &str) -> Self {
        Self { why: Some(why.to_owned()), ..Self::default() }
    }
}

fn largest(counts: &BTreeMap<(Place<'_>, Place<'_>), i64>) -> Vec<Largest> {
    let between = |(&(from, to), &customers): (&(Place<'_>, Place<'_>), &i64)| {
        let (from, to) = (from?.to_owned(), to?.to_owned());
        (from != to && customers > 0).then_some((customers, from, to))
    };
    let mut moves: Vec<(i64, String, String)> = counts.iter().filter_map(between).collect();
    moves.sort_by_key(|&(customers, ..)| Reverse(customers));
    let told = moves.into_iter().take(TOLD);
    told.map(|(customers, from, to)| Largest {
        from: Name::new(&from),
        to: Name::new(&to),
        customers: Number::count(customers),
    })
    .collect()
}

fn class(from: Place<'_>, to: Place<'_>) -> &'static str {
    match (from, to) {
        (None, _) | (_, None) => "edge",
        (from, to) if from == to => "same",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::page::queries::Rule;

    fn moved(from: Option<&str>, to: Option<&str>, customers: i64) -> Move {
        let [from_segment, to_segment] = [from, to].map(|name| name.map(ToOwned::to_owned));
        Move { from_segment, to_segment, customers }
    }

    #[test]
    fn everybody_is_in_the_table_once_and_nowhere_comes_last() {
        let rule = |rf_score: &str, segment: &str| Rule {
            segment_map: String::new(),
            rf_score: rf_score.to_owned(),
            segment: segment.to_owned(),
        };
        let palette = Palette::new(&[rule("11", "worst"), rule("55", "best"), rule("33", "between")]);
        let moves = [
            moved(None, Some("best"), 4),
            moved(Some("best"), Some("best"), 10),
            moved(Some("best"), Some("worst"), 3),
            moved(Some("of an earlier map"), Some("worst"), 5),
            moved(Some("worst"), None, 2),
        ];
        let matrix = Matrix::new(&moves, &palette);
        let names = |names: &[Name]| names.iter().map(|name| name.text.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&matrix.columns), "best between worst (gone)");
        let rows: Vec<Name> = matrix.rows.iter().map(|row| row.name.clone()).collect();
        assert_eq!(names(&rows), "best between worst of an earlier map (new)");
        let cells = |row: &Row| {
            row.cells.iter().map(|cell| cell.customers.text.clone()).collect::<Vec<_>>().join(" ")
        };
        let cells: Vec<String> = matrix.rows.iter().map(cells).collect();
        assert_eq!(cells, ["10 0 3 0", "0 0 0 0", "0 0 0 2", "0 0 5 0", "4 0 0 0"]);
        let sums = [&matrix.there, &matrix.stayed, &matrix.moved, &matrix.gone, &matrix.new];
        assert_eq!(sums.map(|sum| sum.text.as_str()), ["20", "10", "8", "2", "4"]);
        assert_eq!(matrix.largest[0].from.text, "of an earlier map");
    }
}
