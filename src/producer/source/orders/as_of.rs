//! `--as-of`: the instants of the snapshots.
//!
//! Pure: an instant, or a range with a step, becomes a list of instants.

use super::time;
use anyhow::{Context, anyhow, bail, ensure};
use chrono::{DateTime, Months, SecondsFormat, Timelike, Utc};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The instants of the snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The time at which each snapshot is made: one per interval, without end.
    Now,
    /// These, once each; an instant alone is a range of one.
    Range(Range),
}

/// START, START + STEP, START + 2 STEP, … up to END.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first instant, in whole microseconds.
    start: DateTime<Utc>,
    /// The last one at most.
    end: DateTime<Utc>,
    /// From one to the next.
    step: Step,
}

/// What lies between two instants of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A time of always the same length.
    Time(Duration),
    /// Calendar months from START; where a month has no such day, its last one.
    Months(u32),
}

/// The most instants of a range: their keys are kept in memory.
const MOST: usize = 1_000_000;

/// Units that are no fixed time.
const CALENDAR: [&str; 7] = ["M", "month", "months", "y", "yr", "year", "years"];

/// What a usable value looks like.
const EXAMPLES: &str =
    "give a time like 2011-12-10 or 2011-12-10T08:00:00Z, or a range like 2011-01-01..2011-12-01/1mo";

impl FromStr for AsOf {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "now" {
            return Ok(Self::Now);
        }
        let Some((start, rest)) = text.split_once("..") else {
            let instant = instant(text)?;
            return Ok(Self::Range(Range { start: instant, end: instant, step: Step::Months(1) }));
        };
        let (end, step) = rest.split_once('/').ok_or_else(|| anyhow!("the range has no step: {EXAMPLES}"))?;
        let range = Range { start: instant(start)?, end: instant(end)?, step: step.parse()? };
        ensure!(range.start <= range.end, "the range ends before it begins");
        let count = range.instants().take(MOST + 1).count();
        ensure!(count <= MOST, "the range has more than {MOST} instants");
        Ok(Self::Range(range))
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |instant: &DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        match self {
            Self::Now => f.write_str("now"),
            Self::Range(Range { start, end, .. }) if start == end => f.write_str(&shown(start)),
            Self::Range(Range { start, end, step }) => write!(f, "{}..{}/{step}", shown(start), shown(end)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => humantime::format_duration(*time).fmt(f),
            Self::Months(months) => write!(f, "{months}mo"),
        }
    }
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let months = text.strip_suffix("mo").map(str::parse::<u32>);
        let step = match months {
            Some(Ok(months)) => Self::Months(months),
            // Those of `humantime` have 30.44 days, and 365.25.
            _ if text.split(|c: char| !c.is_alphabetic()).any(|unit| CALENDAR.contains(&unit)) => {
                bail!("the step `{text}` is none: a month is 1mo, a year 12mo")
            }
            _ => {
                let time = humantime::parse_duration(text);
                Self::Time(
                    time.with_context(|| format!("the step `{text}` is none: give one like 7d, 1h or 1mo"))?,
                )
            }
        };
        match step {
            Self::Months(0) | Self::Time(Duration::ZERO) => bail!("the step is 0"),
            Self::Time(time) if time.subsec_nanos() % 1_000 != 0 => {
                bail!("the step has a fraction of a microsecond")
            }
            step => Ok(step),
        }
    }
}

/// An instant in whole microseconds: Postgres stores no shorter times.
fn instant(text: &str) -> anyhow::Result<DateTime<Utc>> {
    let instant = time::parse(text.as_bytes()).ok_or_else(|| anyhow!("`{text}` is no time: {EXAMPLES}"))?;
    ensure!(instant.nanosecond() % 1_000 == 0, "`{text}` has a fraction of a microsecond");
    Ok(instant)
}

impl AsOf {
    /// Whether there are several instants, so that the orders are read more than once.
    pub fn is_several(&self) -> bool {
        matches!(self, Self::Range(range) if range.instants().nth(1).is_some())
    }
}

impl Range {
    /// The instants, in ascending order.
    pub fn instants(&self) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let Self { start, end, step } = *self;
        (0..).map_while(move |k| step.times(k, start)).take_while(move |instant| *instant <= end)
    }
}

impl Step {
    /// `start` and `k` steps; `None` beyond all times.
    fn times(self, k: u32, start: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Months(months) => start.checked_add_months(Months::new(months.checked_mul(k)?)),
            Self::Time(step) => {
                let step = chrono::TimeDelta::from_std(step.checked_mul(k)?).ok()?;
                start.checked_add_signed(step)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instants(text: &str) -> Vec<String> {
        match text.parse().unwrap() {
            AsOf::Now => vec!["now".into()],
            AsOf::Range(range) => range
                .instants()
                .map(|instant| instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
                .collect(),
        }
    }

    #[test]
    fn an_instant_is_a_range_of_one() {
        assert_eq!(instants("now"), ["now"]);
        assert_eq!(instants("2011-12-10"), ["2011-12-10T00:00:00Z"]);
        assert_eq!(instants("2011-12-10T01:30:00+01:00"), ["2011-12-10T00:30:00Z"]);
    }

    #[test]
    fn a_range_ends_with_the_last_step_that_is_not_beyond_its_end() {
        assert_eq!(instants("2011-01-01..2011-01-15/7d").len(), 3);
        assert_eq!(instants("2011-01-01..2011-01-14/7d").len(), 2);
        assert_eq!(instants("2011-01-01..2011-01-01/1h").len(), 1);
        assert_eq!(instants("2011-01-01..2011-01-01T01:00:00.5Z/30m").len(), 3);
    }

    #[test]
    fn months_are_counted_from_the_start_and_days_that_a_month_lacks_are_its_last() {
        let expected = ["2012-01-31", "2012-02-29", "2012-03-31", "2012-04-30"];
        assert_eq!(instants("2012-01-31..2012-05-01/1mo"), expected.map(|day| format!("{day}T00:00:00Z")));
        assert_eq!(
            instants("2012-01-31..2013-02-28/12mo"),
            ["2012-01-31T00:00:00Z"; 1].into_iter().chain(["2013-01-31T00:00:00Z"]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_no_instant_and_no_range_is_refused() {
        let wrong = [
            ("", "no time"),
            ("yesterday", "no time"),
            ("2011-01-01..2011-02-01", "no step"),
            ("2011-02-01..2011-01-01/1d", "ends before"),
            ("2011-01-01..2011-02-01/0mo", "step is 0"),
            ("2011-01-01..2011-02-01/0d", "step is 0"),
            ("2011-01-01..2011-02-01/soon", "`soon`"),
            ("2011-01-01..2011-12-01/1month", "a month is 1mo"),
            ("2011-01-01..2011-12-01/2M", "a month is 1mo"),
            ("2011-01-01..2014-01-01/1y 2days", "a year 12mo"),
            ("2011-01-01..2012-01-01/1s", "more than 1000000"),
            ("2011-01-01..2011-02-01/1ns", "fraction of a microsecond"),
            ("2011-01-01T00:00:00.0000001Z", "fraction of a microsecond"),
        ];
        for (text, why) in wrong {
            let error = text.parse::<AsOf>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
