//! Time, naively: RFC 3339 and Kafka's milliseconds as instants.

use crate::contract::Instant;

/// Seconds from 1970 to the beginning of a day of the proleptic Gregorian calendar.
fn seconds_to(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1;
    (days - 719_468) * 86_400
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The unread rest of a time.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// A number of exactly `digits` digits, at most `largest`.
    fn number(&mut self, digits: usize, largest: i64) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let number = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse::<i64>().ok())??;
        (number <= largest).then_some(number)
    }

    fn one_of(&mut self, characters: &[char]) -> Option<char> {
        let c = self.0.chars().next().filter(|c| characters.contains(c))?;
        self.0 = &self.0[c.len_utf8()..];
        Some(c)
    }

    /// Nanoseconds; further digits are cut off.
    fn fraction(&mut self) -> Option<u32> {
        if self.one_of(&['.']).is_none() {
            return Some(0);
        }
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let digits: String = self.0[..end].chars().chain("000000000".chars()).take(9).collect();
        self.0 = &self.0[end..];
        (end > 0).then(|| digits.parse().ok())?
    }

    fn offset(&mut self) -> Option<i64> {
        let sign = match self.one_of(&['Z', 'z', '+', '-'])? {
            '+' => 1,
            '-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2, 23)?;
        self.one_of(&[':'])?;
        Some(sign * (hours * 3600 + self.number(2, 59)? * 60))
    }
}

/// The instant that an RFC 3339 time names.
pub fn rfc3339(text: &str) -> Option<Instant> {
    let mut rest = Rest(text);
    let year = rest.number(4, 9999)?;
    rest.one_of(&['-'])?;
    let month = rest.number(2, 12)?;
    rest.one_of(&['-'])?;
    let day = rest.number(2, days_in(year, month))?;
    rest.one_of(&['T', 't', ' '])?;
    let hour = rest.number(2, 23)?;
    rest.one_of(&[':'])?;
    let minute = rest.number(2, 59)?;
    rest.one_of(&[':'])?;
    let second = rest.number(2, 60)?;
    let fraction = rest.fraction()?;
    let offset = rest.offset()?;
    if !rest.0.is_empty() || month == 0 || day == 0 {
        return None;
    }
    let seconds = seconds_to(year, month, day) + hour * 3600 + minute * 60 - offset;
    let (second, leap) = if second == 60 { (59, 1_000_000_000) } else { (second, 0) };
    Some((seconds + second, fraction + leap))
}

/// Milliseconds since 1970 as an instant, if Postgres and `chrono` both know it.
pub fn of_milliseconds(milliseconds: i64) -> Option<Instant> {
    let seconds = milliseconds.div_euclid(1000);
    let known = seconds_to(-4712, 1, 1)..seconds_to(262_143, 1, 1);
    known.contains(&seconds).then(|| (seconds, milliseconds.rem_euclid(1000) as u32 * 1_000_000))
}
