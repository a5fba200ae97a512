//! The order and the colours of segments: the best first.
//!
//! A map may have any names. So the place in the grid says what a segment is worth: two points for recency,
//! one for frequency.

use super::super::queries::Rule;
use std::collections::BTreeMap;

/// Colours in `page.css`: `c0` to `c11`.
const COLOURS: usize = 12;
/// The class of a segment that is not of the map.
const OTHER: &str = "cx";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Palette {
    /// The segments, the best first.
    order: Vec<String>,
}

impl Palette {
    /// That of a map, which has 25 rules.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut points: BTreeMap<&str, (i32, i32)> = BTreeMap::new();
        for rule in rules {
            let mut digits =
                rule.rf_score.chars().filter_map(|digit| digit.to_digit(10)).map(u32::cast_signed);
            let (recency, frequency) = (digits.next().unwrap_or(0), digits.next().unwrap_or(0));
            let (sum, count) = points.entry(&rule.segment).or_default();
            (*sum, *count) = (*sum + 2 * recency + frequency, *count + 1);
        }
        let mut order: Vec<_> = points.into_iter().collect();
        // Of two equal ones, the first by name.
        order.sort_by(|(_, (a, m)), (_, (b, n))| (b * m).cmp(&(a * n)));
        Self { order: order.into_iter().map(|(name, _)| name.to_owned()).collect() }
    }

    /// The segments, the best first.
    pub fn order(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The place of a segment; those of other maps come last.
    pub fn place(&self, segment: &str) -> usize {
        self.order.iter().position(|name| name == segment).unwrap_or(self.order.len())
    }

    /// The class of a segment, with a colour.
    pub fn class(&self, segment: &str) -> String {
        let (place, last) = (self.place(segment), self.order.len().saturating_sub(1));
        if place == self.order.len() {
            return OTHER.to_owned();
        }
        let colour = (place * (COLOURS - 1) + last / 2).checked_div(last).unwrap_or(0);
        format!("c{colour}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::segment::SegmentMap;

    fn palette(map: &SegmentMap) -> Palette {
        let scores = (1..=5).flat_map(|r| (1..=5).map(move |f| (r, f)));
        let rules: Vec<Rule> = scores
            .map(|(r, f)| Rule {
                segment_map: "default".to_owned(),
                rf_score: format!("{r}{f}"),
                segment: map.segment(r, f).to_owned(),
            })
            .collect();
        Palette::new(&rules)
    }

    #[test]
    fn segments_are_ordered_by_their_place_in_the_grid() {
        let palette = palette(&SegmentMap::built_in().unwrap());
        let expected = [
            "champions",
            "loyal_customers",
            "potential_loyalists",
            "new_customers",
            "need_attention",
            "promising",
            "cant_lose",
            "about_to_sleep",
            "at_risk",
            "hibernating",
        ];
        assert_eq!(palette.order().collect::<Vec<_>>(), expected);
        let classes: Vec<String> = expected.iter().map(|name| palette.class(name)).collect();
        assert_eq!(classes, ["c0", "c1", "c2", "c4", "c5", "c6", "c7", "c9", "c10", "c11"]);
        assert_eq!(palette.class("of another map"), "cx");
    }

    #[test]
    fn maps_of_one_and_of_25_segments_have_colours_too() {
        let one = palette(&SegmentMap::from_file(b".. all\n").unwrap());
        assert_eq!((one.class("all").as_str(), one.class("x").as_str()), ("c0", "cx"));
        let many: String = (1..=5).flat_map(|r| (1..=5).map(move |f| format!("{r}{f} s{r}{f}\n"))).collect();
        let many = palette(&SegmentMap::from_file(many.as_bytes()).unwrap());
        assert_eq!(["s55", "s54", "s11"].map(|name| many.class(name)), ["c0", "c0", "c11"]);
        assert_eq!(Palette::new(&[]).class("x"), "cx");
    }
}
