//! What the segments of a map mean: which scores they are for, and what that says of their customers.
//!
//! The scores are those of the map that the batch has in the database. **Only the segments of the built-in map have a
//! sentence**: in a map of one's own, a segment of the same name may have other scores.

use super::super::format::Name;
use super::super::queries::Cell;
use super::palette::Palette;
use std::fmt::Write as _;

/// The built-in map, as `batches.segment_map` names it.
const BUILT_IN: &str = "default";

/// What the segments of the built-in map say, compared with the other customers.
const SENTENCES: [(&str, &str); 10] = [
    ("champions", "Bought very recently, and buy often."),
    ("loyal_customers", "Buy often, and bought not long ago."),
    ("potential_loyalists", "Bought recently, and sometimes buy: they may become loyal."),
    ("new_customers", "Bought very recently, and hardly ever before."),
    ("need_attention", "In the middle: neither recent nor long gone, neither frequent nor rare."),
    ("promising", "Bought recently, and hardly ever before."),
    ("cant_lose", "Bought most often of all, but long ago."),
    ("about_to_sleep", "Rarely buy, and have not bought for a while."),
    ("at_risk", "Bought fairly often, but long ago."),
    ("hibernating", "Rarely bought, and long ago."),
];

/// What a segment means.
pub struct Meaning {
    /// Its name.
    pub name: Name,
    /// Its colour.
    pub class: String,
    /// Its RF scores, in words.
    pub scores: String,
    /// Its cells in a grid of five by five units: up is more recent, right is more often.
    pub cells: String,
    /// What that says of its customers, if it is a segment of the built-in map.
    pub sentence: Option<&'static str>,
}

/// The segments of a map, the best first. `cells` are the 25 of a batch that was scored with it.
pub fn meanings(cells: &[Cell], map: &str, palette: &Palette) -> Vec<Meaning> {
    let meaning = |name: &str| {
        let of_segment = || cells.iter().filter(|cell| cell.segment == name);
        let scores: Vec<&str> = of_segment().map(|cell| cell.rf_score.as_str()).collect();
        let sentence = SENTENCES.iter().find(|(segment, _)| map == BUILT_IN && *segment == name);
        Meaning {
            name: Name::new(name),
            class: palette.class(name),
            scores: scores.join(", "),
            cells: outline(&scores),
            sentence: sentence.map(|(_, sentence)| *sentence),
        }
    };
    palette.order().map(meaning).filter(|meaning| !meaning.scores.is_empty()).collect()
}

/// A square for each score.
fn outline(scores: &[&str]) -> String {
    let mut path = String::new();
    for score in scores {
        let mut digits = score.chars().filter_map(|digit| digit.to_digit(10));
        if let (Some(recency), Some(frequency)) = (digits.next(), digits.next()) {
            // Writing to a string cannot fail.
            let _ =
                write!(path, "M{} {}h1v1h-1z", frequency.saturating_sub(1), 5_u32.saturating_sub(recency));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::super::super::queries::Rule;
    use super::*;
    use crate::reader::segment::SegmentMap;

    /// Those of a map, named as in the database.
    fn of(map: &SegmentMap) -> Vec<Meaning> {
        let cell = |(r, f): (u8, u8)| Cell {
            rf_score: format!("{r}{f}"),
            segment: map.segment(r, f).to_owned(),
            customers: None,
            recency: None,
            frequency: None,
            monetary: None,
        };
        let cells: Vec<Cell> = (1..=5).flat_map(|r| (1..=5).map(move |f| (r, f))).map(cell).collect();
        let rule = |cell: &Cell| Rule {
            segment_map: map.identity().to_owned(),
            rf_score: cell.rf_score.clone(),
            segment: cell.segment.clone(),
        };
        let rules: Vec<Rule> = cells.iter().map(rule).collect();
        meanings(&cells, map.identity(), &Palette::new(&rules))
    }

    #[test]
    fn each_score_is_of_one_segment_and_each_segment_of_the_built_in_map_has_a_sentence() {
        let meanings = of(&SegmentMap::built_in().unwrap());
        let mut scores: Vec<&str> = meanings.iter().flat_map(|meaning| meaning.scores.split(", ")).collect();
        scores.sort_unstable();
        let all: Vec<String> = (1..=5).flat_map(|r| (1..=5).map(move |f| format!("{r}{f}"))).collect();
        assert_eq!(scores, all);
        assert!(meanings.iter().all(|meaning| meaning.sentence.is_some()));
        assert_eq!(meanings.len(), SENTENCES.len(), "no sentence is of a segment that there is not");
        let [champions, .., hibernating] = &meanings[..] else { panic!("two at least") };
        assert_eq!((champions.name.text.as_str(), champions.scores.as_str()), ("champions", "54, 55"));
        assert_eq!(champions.cells, "M3 0h1v1h-1zM4 0h1v1h-1z", "on the top right");
        assert_eq!(
            hibernating.cells, "M0 4h1v1h-1zM1 4h1v1h-1zM0 3h1v1h-1zM1 3h1v1h-1z",
            "on the bottom left"
        );
    }

    #[test]
    fn a_segment_of_an_own_map_has_its_scores_and_no_sentence_even_if_its_name_is_built_in() {
        let meanings = of(&SegmentMap::from_file(b"1. champions\n.. others\n").unwrap());
        let told: Vec<(&str, &str, Option<&str>)> = meanings
            .iter()
            .map(|meaning| (meaning.name.text.as_str(), meaning.scores.as_str(), meaning.sentence))
            .collect();
        let others = "21, 22, 23, 24, 25, 31, 32, 33, 34, 35, 41, 42, 43, 44, 45, 51, 52, 53, 54, 55";
        assert_eq!(told, [("others", others, None), ("champions", "11, 12, 13, 14, 15", None)]);
    }
}
