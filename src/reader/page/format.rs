//! How the page writes numbers, times and names. Pure.
//!
//! **A number stands twice in the page**: short for people, and exact in the attribute of its element
//! ([`Number`]).

use chrono::{DateTime, SecondsFormat, Timelike as _, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// How many characters of a name are shown.
const LONGEST_NAME: usize = 48;
/// How many more are in its title.
const LONGEST_TITLE: usize = 300;

/// A number: as people read it, and exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Number {
    /// For people.
    pub text: String,
    /// For programs; empty if there is no number.
    pub exact: String,
}

/// A name from outside, perhaps cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// What is shown.
    pub text: String,
    /// More of it, if it was cut.
    pub title: String,
}

/// A time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For people, in UTC.
    pub text: String,
    /// For programs.
    pub exact: String,
}

/// Times that stand beside each other: none of them is written like another one.
#[derive(Clone, Debug, Default)]
pub struct Times(BTreeMap<i64, BTreeSet<u32>>);

/// How a time is written among others of the same second: the unit, in nanoseconds, that tells them apart, and the
/// format. (Postgres has microseconds.)
const FRACTIONS: [(u32, &str); 3] = [
    (1_000_000, "%Y-%m-%d %H:%M:%S%.3f UTC"),
    (1_000, "%Y-%m-%d %H:%M:%S%.6f UTC"),
    (1, "%Y-%m-%d %H:%M:%S%.9f UTC"),
];

/// There is no number.
const NOTHING: &str = "–";
/// A minus sign, which is as wide as a plus.
const MINUS: &str = "\u{2212}";

impl Number {
    /// There is none.
    pub fn none() -> Self {
        Self { text: NOTHING.to_owned(), exact: String::new() }
    }

    /// A number of things: `12,345`.
    pub fn count(count: i64) -> Self {
        Self { text: grouped(&count.to_string()), exact: count.to_string() }
    }

    /// A value, with as many decimals as it needs for four digits.
    pub fn value(value: Option<f64>) -> Self {
        value.map_or_else(Self::none, |value| Self { text: rounded(value), exact: exact(value) })
    }

    /// A share: `12.3 %`.
    pub fn share(share: Option<f64>) -> Self {
        share.map_or_else(Self::none, |share| Self { text: percent(share), exact: exact(share) })
    }

    /// How a number of things has changed: `+12`.
    pub fn change(now: i64, before: i64) -> Self {
        let change = now - before;
        let sign = if change > 0 { "+" } else { "" };
        Self { text: format!("{sign}{}", grouped(&change.to_string())), exact: change.to_string() }
    }

    /// How a share has changed, in percentage points: `+1.2 pp`.
    pub fn shift(now: f64, before: f64) -> Self {
        let points = (now - before) * 100.0;
        let text = format!("{points:+.1}").replace("-0.0", "0.0").replace("+0.0", "0.0").replace('-', MINUS);
        Self { text: format!("{text}\u{a0}pp"), exact: exact(now - before) }
    }
}

impl Name {
    /// Cuts a name. Names are ordered by what is shown.
    pub fn new(name: &str) -> Self {
        let cut = |longest| match name.char_indices().nth(longest) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name.to_owned(),
        };
        let is_long = name.chars().nth(LONGEST_NAME).is_some();
        Self { text: cut(LONGEST_NAME), title: if is_long { cut(LONGEST_TITLE) } else { String::new() } }
    }

    /// The name in parts between which a line may break.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive('_')
    }
}

impl Moment {
    /// Without what is zero: `2026-01-31`, `2026-01-31 12:00 UTC`.
    pub fn new(time: DateTime<Utc>) -> Self {
        let format = match (time.num_seconds_from_midnight(), time.second(), time.nanosecond()) {
            (0, _, 0) => "%Y-%m-%d",
            (_, 0, 0) => "%Y-%m-%d %H:%M UTC",
            _ => "%Y-%m-%d %H:%M:%S UTC",
        };
        Self {
            text: time.format(format).to_string(),
            exact: time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        }
    }
}

impl Times {
    /// Of these times, some of which may be equal.
    pub fn new(times: impl IntoIterator<Item = DateTime<Utc>>) -> Self {
        let mut seconds: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
        for time in times {
            seconds.entry(time.timestamp()).or_default().insert(time.timestamp_subsec_nanos());
        }
        Self(seconds)
    }

    /// One of them: as short as alone, unless another one lies within the same second.
    pub fn moment(&self, time: DateTime<Utc>) -> Moment {
        let alone = Moment::new(time);
        let Some(of_second) = self.0.get(&time.timestamp()).filter(|of_second| of_second.len() > 1) else {
            return alone;
        };
        let tells_apart = |(unit, _): &&(u32, &str)| {
            let written: BTreeSet<u32> = of_second.iter().map(|nanos| nanos / unit).collect();
            written.len() == of_second.len()
        };
        let format = FRACTIONS.iter().find(tells_apart).map(|(_, format)| *format);
        Moment { text: format.map_or(alone.text, |format| time.format(format).to_string()), ..alone }
    }
}

/// `12.3 %`; what is there is never shown as nothing.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if share > 0.0 && percent < 0.05 {
        return "<0.1\u{a0}%".to_owned();
    }
    format!("{percent:.1}\u{a0}%").replace('-', MINUS)
}

/// All digits of a number.
fn exact(value: f64) -> String {
    let is_plain = value == 0.0 || (1e-6..1e15).contains(&value.abs());
    if is_plain { value.to_string() } else { format!("{value:e}") }
}

fn rounded(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if !(0.0005..1e15).contains(&size) => return format!("{value:.3e}").replace('-', MINUS),
        _ if size < 1.0 => format!("{value:.3}"),
        _ if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    grouped(&text)
}

/// With commas between the thousands, and a proper minus.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| (MINUS, digits));
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut text = sign.to_owned();
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_for_people_and_exact_for_programs() {
        let values = [
            (0.0, "0", "0"),
            (-0.0, "0", "-0"),
            (1234.5678, "1,235", "1234.5678"),
            (-1_234_567.0, "\u{2212}1,234,567", "-1234567"),
            (12.34, "12.3", "12.34"),
            (0.012_34, "0.012", "0.01234"),
            (1e300, "1.000e300", "1e300"),
            (5e-324, "4.941e\u{2212}324", "5e-324"),
        ];
        for (value, text, exact) in values {
            assert_eq!(
                Number::value(Some(value)),
                Number { text: text.into(), exact: exact.into() },
                "{value}"
            );
        }
        assert_eq!(Number::count(1_000).text, "1,000");
        assert_eq!(Number::count(100).text, "100");
        assert_eq!(Number::value(None).text, "–");
    }

    #[test]
    fn changes_have_a_sign_unless_they_are_nothing() {
        assert_eq!(
            [(5, 3), (3, 5), (3, 3)].map(|(now, then)| Number::change(now, then).text),
            ["+2", "\u{2212}2", "0"]
        );
        let shifts = [(0.25, 0.2), (0.2, 0.25), (0.2, 0.200_01), (0.200_01, 0.2)];
        let texts = shifts.map(|(now, then)| Number::shift(now, then).text);
        assert_eq!(texts, ["+5.0\u{a0}pp", "\u{2212}5.0\u{a0}pp", "0.0\u{a0}pp", "0.0\u{a0}pp"]);
    }

    #[test]
    fn a_share_that_is_there_is_not_shown_as_nothing() {
        let shares =
            [(0.0, "0.0\u{a0}%"), (0.0001, "<0.1\u{a0}%"), (0.1234, "12.3\u{a0}%"), (1.0, "100.0\u{a0}%")];
        for (share, text) in shares {
            assert_eq!(percent(share), text);
        }
        assert_eq!(percent(-0.5), "\u{2212}50.0\u{a0}%", "refunds");
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_its_title_has_more() {
        let long = "ü😀".repeat(5_000);
        let name = Name::new(&long);
        assert_eq!((name.text.chars().count(), name.title.chars().count()), (49, 301));
        let short = Name::new("<b>\"x\"");
        assert_eq!((short.text.as_str(), short.title.as_str()), ("<b>\"x\"", ""));
    }

    #[test]
    fn a_time_is_as_short_as_it_is_exact() {
        let times = [
            ("2026-01-31T00:00:00Z", "2026-01-31"),
            ("2026-01-31T12:30:00Z", "2026-01-31 12:30 UTC"),
            ("2026-01-31T12:30:01.5Z", "2026-01-31 12:30:01 UTC"),
        ];
        for (time, text) in times {
            let moment = Moment::new(time.parse().unwrap());
            assert_eq!(moment.text, text);
            assert_eq!(
                moment.exact.parse::<DateTime<Utc>>().unwrap(),
                time.parse::<DateTime<Utc>>().unwrap()
            );
        }
    }

    #[test]
    fn times_within_a_second_have_as_many_digits_as_tell_them_apart_and_others_have_none() {
        let texts = |times: &[&str]| {
            let times: Vec<DateTime<Utc>> = times.iter().map(|time| time.parse().unwrap()).collect();
            let beside = Times::new(times.iter().copied());
            times.iter().map(|&time| beside.moment(time).text).collect::<Vec<_>>()
        };
        let by_milliseconds = [
            "2026-01-31T12:30:01.5Z",
            "2026-01-31T12:30:01.7000009Z",
            "2026-01-31T12:30:02.7Z",
            "2026-02-01T00:00:00Z",
            "2026-02-01T00:00:00Z",
        ];
        let written = [
            "2026-01-31 12:30:01.500 UTC",
            "2026-01-31 12:30:01.700 UTC",
            "2026-01-31 12:30:02 UTC",
            "2026-02-01",
            "2026-02-01",
        ];
        assert_eq!(texts(&by_milliseconds), written);
        let by_microseconds =
            ["2026-02-01T00:00:00Z", "2026-02-01T00:00:00.000001Z", "2026-02-01T00:00:00.9Z"];
        let written = [
            "2026-02-01 00:00:00.000000 UTC",
            "2026-02-01 00:00:00.000001 UTC",
            "2026-02-01 00:00:00.900000 UTC",
        ];
        assert_eq!(texts(&by_microseconds), written, "a midnight among others is no date");
        let before_1970 = ["1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.75Z"];
        assert_eq!(texts(&before_1970), ["1969-12-31 23:59:59.250 UTC", "1969-12-31 23:59:59.750 UTC"]);
        let elsewhere = Times::default().moment("2026-01-31T12:30:01.5Z".parse().unwrap());
        assert_eq!(elsewhere.text, "2026-01-31 12:30:01 UTC");
    }
}
