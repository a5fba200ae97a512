//! Times of orders, as text.
//!
//! Pure. Read byte by byte, because a file has one in each row: `chrono`'s parsers take several times as long.

use chrono::{DateTime, Utc};

/// Reads RFC 3339, `YYYY-MM-DD[ T]HH:MM[:SS[.f]]`, `YYYY-MM-DD` and `YYYYMMDD`; without a zone, UTC.
///
/// As Postgres and DuckDB write zones, their minutes may be left out (`+01`). A leap second is the first second of
/// the next minute, as in Postgres. Digits beyond nanoseconds are cut off.
pub fn parse(text: &[u8]) -> Option<DateTime<Utc>> {
    let (seconds, nanoseconds) = since_1970(text)?;
    DateTime::from_timestamp(seconds, nanoseconds)
}

/// The seconds and nanoseconds of a time since 1970.
pub(super) fn since_1970(text: &[u8]) -> Option<(i64, u32)> {
    if let [y1, y2, y3, y4, m1, m2, d1, d2] = *text {
        let day = day(number([y1, y2, y3, y4])?, number([m1, m2])?, number([d1, d2])?)?;
        return Some((day * DAY, 0));
    }
    let ([y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2], clock) = text.split_first_chunk()? else {
        return None;
    };
    let midnight = day(number([*y1, *y2, *y3, *y4])?, number([*m1, *m2])?, number([*d1, *d2])?)? * DAY;
    if clock.is_empty() {
        return Some((midnight, 0));
    }
    let ([b'T' | b't' | b' ', h1, h2, b':', m1, m2], rest) = clock.split_first_chunk()? else { return None };
    let minutes = hours_and_minutes([*h1, *h2], [*m1, *m2])?;
    let (seconds, nanoseconds, zone) = match rest {
        [b':', s1, s2, b'.', rest @ ..] => {
            let (nanoseconds, zone) = fraction(rest)?;
            (number([*s1, *s2])?, nanoseconds, zone)
        }
        [b':', s1, s2, zone @ ..] => (number([*s1, *s2])?, 0, zone),
        zone => (0, 0, zone),
    };
    let ahead = ahead_of_utc(zone)?;
    (seconds <= 60).then(|| (midnight + (minutes - ahead) * 60 + i64::from(seconds), nanoseconds))
}

/// In seconds.
const DAY: i64 = 86_400;

/// The number that digits make.
fn number<const N: usize>(digits: [u8; N]) -> Option<u32> {
    let mut number = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u32::from(digit);
    }
    Some(number)
}

/// In minutes; 24:00 is none.
fn hours_and_minutes(hours: [u8; 2], minutes: [u8; 2]) -> Option<i64> {
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then(|| i64::from(hours * 60 + minutes))
}

/// The nanoseconds of a fraction, of which there is one digit at least, and what follows.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, zone) = text.split_at(digits);
    let mut nanoseconds = 0;
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    (digits > 0).then_some((nanoseconds, zone))
}

/// How many minutes a zone is ahead of UTC; none is UTC.
fn ahead_of_utc(zone: &[u8]) -> Option<i64> {
    let (sign, minutes) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, hours_and_minutes([h1, h2], *b"00")?),
        [sign, h1, h2, b':', m1, m2] => (sign, hours_and_minutes([h1, h2], [m1, m2])?),
        _ => return None,
    };
    match sign {
        b'+' => Some(minutes),
        b'-' => Some(-minutes),
        _ => None,
    }
}

/// Days from 1970 to a day of the proleptic Gregorian calendar (the algorithm `days_from_civil` of Howard Hinnant,
/// <https://howardhinnant.github.io/date_algorithms.html>).
fn day(year: u32, month: u32, day: u32) -> Option<i64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if day == 0 || day > days {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year. They are counted from 400 years earlier, so
    // that none is negative.
    let (year, month) = if month > 2 { (year + 400, month - 3) } else { (year + 399, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(i64::from(days) - 719_468 - 146_097)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate, SecondsFormat};
    use proptest::prelude::*;

    fn read(text: &str) -> Option<String> {
        Some(parse(text.as_bytes())?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    #[test]
    fn each_format_is_read_and_without_a_zone_a_time_is_utc() {
        let times = [
            ("2011-12-10", "2011-12-10T00:00:00Z"),
            ("20111210", "2011-12-10T00:00:00Z"),
            ("2011-12-10 08:30", "2011-12-10T08:30:00Z"),
            ("2011-12-10T08:30", "2011-12-10T08:30:00Z"),
            ("2011-12-10 08:30:15", "2011-12-10T08:30:15Z"),
            ("2011-12-10t08:30:15.5", "2011-12-10T08:30:15.500Z"),
            ("2011-12-10T08:30:15Z", "2011-12-10T08:30:15Z"),
            ("2011-12-10 08:30:15.000001z", "2011-12-10T08:30:15.000001Z"),
            ("2011-12-10T00:30:00+01:30", "2011-12-09T23:00:00Z"),
            ("2011-12-10T23:30:00-01:30", "2011-12-11T01:00:00Z"),
            ("2011-12-10 08:30:15+00", "2011-12-10T08:30:15Z"),
            ("2011-12-10 08:30-05", "2011-12-10T13:30:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2000-02-29", "2000-02-29T00:00:00Z"),
            ("0000-01-01", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ];
        for (text, expected) in times {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_next_minutes_first() {
        assert_eq!(read("2016-12-31T23:59:60Z").as_deref(), Some("2017-01-01T00:00:00Z"));
        assert_eq!(read("2016-12-31T23:59:60.25Z").as_deref(), Some("2017-01-01T00:00:00.250Z"));
        assert_eq!(read("2011-12-10 08:30:60").as_deref(), Some("2011-12-10T08:31:00Z"));
    }

    #[test]
    fn digits_beyond_nanoseconds_are_cut_off() {
        assert_eq!(
            read("2011-12-10T00:00:00.12345678999Z").as_deref(),
            Some("2011-12-10T00:00:00.123456789Z")
        );
        assert_eq!(read("2011-12-10T00:00:00.9999999999").as_deref(), Some("2011-12-10T00:00:00.999999999Z"));
    }

    const NO_TIMES: [&str; 47] = [
        "",
        "31/12/2010",
        "12/31/2010 10:00",
        "2010",
        "2010-12",
        "2010-1-2",
        "10-12-31",
        "2010-13-01",
        "2010-00-10",
        "2010-01-00",
        "2023-02-29",
        "1900-02-29",
        "2010-04-31",
        "0000-00-00",
        "20100231",
        "2010010",
        "201001011",
        "2010-12-31 ",
        " 2010-12-31",
        "2010-12-31T",
        "2010-12-31T10",
        "2010-12-31T24:00",
        "2010-12-31T24:00:00",
        "2010-12-31T10:60",
        "2010-12-31T10:00:61",
        "2010-12-31T10:00:",
        "2010-12-31T10:00:00.",
        "2010-12-31T10:00:00.Z",
        "2010-12-31T10:00.5",
        "2010-12-31T10:00:00,5",
        "2010-12-31  10:00",
        "2010-12-31T10:00:00 Z",
        "2010-12-31T10:00:00+",
        "2010-12-31T10:00:00+24:00",
        "2010-12-31T10:00:00+01:60",
        "2010-12-31T10:00:00+1",
        "2010-12-31T10:00:00+01:0",
        "2010-12-31T10:00:00+0100",
        "2010-12-31T10:00:00Z+01",
        "2010-12-31T10:00:00\u{2212}01:00",
        "2010-12-31Z",
        "+2010-12-31",
        "-2010-12-31",
        "2010-12-31 10:00:00 PM",
        "1293750000",
        "now",
        "infinity",
    ];

    #[test]
    fn what_is_no_time_is_refused() {
        for text in NO_TIMES {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_is_the_one_that_chrono_knows() {
        for year in (0..10_000).step_by(7) {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            for date in first.iter_days().take_while(|date| date.year() == year) {
                let text = format!("{year:04}{:02}{:02}", date.month(), date.day());
                assert_eq!(parse(text.as_bytes()).map(|time| time.date_naive()), Some(date));
            }
        }
    }

    proptest! {
        #[test]
        fn what_chrono_reads_as_rfc_3339_is_the_same_instant(
            seconds in -62_167_219_200_i64..253_402_300_800, nanoseconds in 0..1_000_000_000_u32,
            ahead in -1439..1440, digits in prop::sample::select(vec![
                SecondsFormat::Secs, SecondsFormat::Millis, SecondsFormat::Micros, SecondsFormat::Nanos,
            ]),
        ) {
            let zone = chrono::FixedOffset::east_opt(ahead * 60).unwrap();
            let time = DateTime::from_timestamp(seconds, nanoseconds).unwrap().with_timezone(&zone);
            let text = time.to_rfc3339_opts(digits, true);
            // Near both ends a zone can push the year out of its four digits.
            if text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
                let expected = DateTime::parse_from_rfc3339(&text).unwrap();
                prop_assert_eq!(parse(text.as_bytes()), Some(expected.to_utc()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9:. TZ+-]{0,40}", start in "|2011-12-10T10:20:30") {
            let _ = parse([start, text].concat().as_bytes());
        }
    }
}
