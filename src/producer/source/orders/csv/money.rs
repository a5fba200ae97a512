//! Money: decimal numbers as text, their products, and their sums. Pure, and **exact**: only a whole sum is rounded,
//! once, to the nearest f64.
//!
//! Nearly all amounts are short: whole units of a power of ten, in an i64, and their sums in an i128. What these
//! cannot hold exactly goes on as [`BigDecimal`].

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, Signed, Zero};
use std::fmt;

/// One amount.
#[derive(Clone, Debug)]
pub enum Amount {
    /// `units / 10^places`.
    Short {
        /// The digits.
        units: i64,
        /// How many of them stand behind the point: 36 at most.
        places: u8,
    },
    /// Any other.
    Long(Box<BigDecimal>),
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing.
    Empty,
    /// It is no plain decimal number.
    NoNumber,
    /// f64 has no number so great.
    TooGreat,
    /// `numeric` of Postgres has no number with so many places.
    TooManyPlaces,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NoNumber => {
                "is no amount: digits with a decimal point, like -1234.56, without separators, blanks or currency"
            }
            Self::TooGreat => "is too great: 64-bit floating point ends before 1.8e308",
            Self::TooManyPlaces => "has more than 16383 decimal places, and so many has not even Postgres's numeric",
        })
    }
}

/// The digits of the greatest f64.
const MOST_DIGITS: i64 = 309;

/// Postgres's limit on the places of `numeric`.
const MOST_PLACES: i64 = 16_383;

/// The most places of [`Amount::Short`]: those of a product of two texts.
const MOST_SHORT_PLACES: i64 = 36;

impl Amount {
    /// Reads what Postgres reads as a plain decimal number: a sign, digits with a point among them, an exponent.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::Empty);
        }
        short(text).map_or_else(|| long(text), Ok)
    }

    /// Whether it is less than zero.
    pub fn is_negative(&self) -> bool {
        match self {
            Self::Short { units, .. } => *units < 0,
            Self::Long(number) => number.is_negative(),
        }
    }

    /// The product.
    pub fn times(&self, other: &Self) -> Result<Self, Refusal> {
        if let (Self::Short { units: a, places: p }, Self::Short { units: b, places: q }) = (self, other)
            && let Some(units) = a.checked_mul(*b)
            && i64::from(p + q) <= MOST_SHORT_PLACES
        {
            return Ok(Self::Short { units, places: p + q });
        }
        let product = self.to_big() * other.to_big();
        let (digits, places) = product.into_bigint_and_scale();
        bounded(digits, places)
    }

    fn to_big(&self) -> BigDecimal {
        match self {
            Self::Short { units, places } => BigDecimal::new((*units).into(), i64::from(*places)),
            Self::Long(number) => (**number).clone(),
        }
    }
}

/// The amount of a text of at most 18 digits and a point, with a sign or without.
fn short(text: &[u8]) -> Option<Amount> {
    let (is_negative, number) = match text {
        [b'-', number @ ..] => (true, number),
        [b'+', number @ ..] => (false, number),
        number => (false, number),
    };
    if number.len() > 19 {
        return None;
    }
    // 19 digits do not fit into an i64, but into a u64.
    let (mut units, mut digits, mut places) = (0_u64, 0, None);
    for &byte in number {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            units = units * 10 + u64::from(digit);
            digits += 1;
        } else if byte == b'.' && places.is_none() {
            places = Some(digits);
        } else {
            return None;
        }
    }
    if digits == 0 || digits > 18 {
        return None;
    }
    let places = places.map_or(0, |before| digits - before);
    let units = units as i64;
    Some(Amount::Short { units: if is_negative { -units } else { units }, places })
}

/// The amount of any text.
fn long(text: &[u8]) -> Result<Amount, Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::NoNumber)?;
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(place) => (&text[..place], self::exponent(&text[place + 1..])?),
        None => (text, 0),
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return Err(Refusal::NoNumber);
    }
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(Amount::Short { units: 0, places: 0 });
    }
    // Before anything is computed: an exponent of a few bytes can ask for any amount of memory.
    let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(exponent);
    check(i64::try_from(digits.len()).unwrap_or(i64::MAX), places)?;
    let digits = BigInt::parse_bytes([sign, digits].concat().as_bytes(), 10).ok_or(Refusal::NoNumber)?;
    bounded(digits, places)
}

/// The number of a text behind an `e`. Beyond i64 it is its end, and refused later.
fn exponent(text: &str) -> Result<i64, Refusal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::NoNumber);
    }
    let end = if text.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    Ok(text.parse().unwrap_or(end).clamp(i64::MIN / 2, i64::MAX / 2))
}

/// Whether a number can be held of which so many digits are not leading zeros.
fn check(digits: i64, places: i64) -> Result<(), Refusal> {
    if places > MOST_PLACES {
        return Err(Refusal::TooManyPlaces);
    }
    if digits.saturating_sub(places) > MOST_DIGITS { Err(Refusal::TooGreat) } else { Ok(()) }
}

/// `digits / 10^places`, in its shortest form.
fn bounded(digits: BigInt, places: i64) -> Result<Amount, Refusal> {
    if digits.is_zero() {
        return Ok(Amount::Short { units: 0, places: 0 });
    }
    let short = i64::try_from(&digits).ok().and_then(|units| {
        let power = u32::try_from(-places.min(0)).ok()?;
        let units = units.checked_mul(10_i64.checked_pow(power)?)?;
        let places =
            u8::try_from(places.max(0)).ok().filter(|&places| i64::from(places) <= MOST_SHORT_PLACES)?;
        Some(Amount::Short { units, places })
    });
    if let Some(short) = short {
        return Ok(short);
    }
    let number = BigDecimal::new(digits, places);
    check(i64::try_from(number.digits()).unwrap_or(i64::MAX), places)?;
    Ok(Amount::Long(Box::new(number)))
}

/// A sum of amounts.
#[derive(Clone, Debug)]
pub enum Sum {
    /// `units / 10^places`, the i128 in two halves: in one piece it would make each customer's record longer.
    Short {
        /// The upper half of the units.
        high: i64,
        /// The lower half.
        low: u64,
        /// How many digits stand behind the point.
        places: u8,
    },
    /// Any other.
    Long(Box<BigDecimal>),
}

impl Default for Sum {
    fn default() -> Self {
        Self::short(0, 0)
    }
}

impl Sum {
    fn short(units: i128, places: u8) -> Self {
        Self::Short { high: (units >> 64) as i64, low: units as u64, places }
    }

    /// Adds an amount.
    pub fn add(&mut self, amount: &Amount) {
        if let Some(sum) = self.added(amount) {
            *self = sum;
            return;
        }
        let sum = match std::mem::take(self) {
            Self::Short { high, low, places } => BigDecimal::new(units(high, low).into(), places.into()),
            Self::Long(sum) => *sum,
        };
        *self = Self::Long(Box::new(sum + amount.to_big()));
    }

    /// The sum with an amount, if both and the result are short.
    fn added(&self, amount: &Amount) -> Option<Self> {
        let (&Self::Short { high, low, places }, &Amount::Short { units: more, places: its }) =
            (self, amount)
        else {
            return None;
        };
        let (sum, more) = (units(high, low), i128::from(more));
        if its == places {
            return Some(Self::short(sum.checked_add(more)?, places));
        }
        let power = |places: u8| 10_i128.checked_pow(places.into());
        if its < places {
            let more = more.checked_mul(power(places - its)?)?;
            Some(Self::short(sum.checked_add(more)?, places))
        } else {
            let sum = sum.checked_mul(power(its - places)?)?;
            Some(Self::short(sum.checked_add(more)?, its))
        }
    }

    /// The nearest f64, of two as near the even one; `None`: f64 ends before it, or it is not zero, and nearer to zero
    /// than all of f64 (Postgres has no float8 for it either).
    pub fn to_f64(&self) -> Option<f64> {
        let text = match self {
            Self::Short { high: 0, low: 0, .. } => return Some(0.0),
            &Self::Short { high, low, places } => {
                let units = units(high, low);
                if let Some(exact) = divided(units, places) {
                    return Some(exact);
                }
                format!("{units}e-{places}")
            }
            Self::Long(sum) if sum.is_zero() => return Some(0.0),
            Self::Long(sum) => {
                let (digits, places) = sum.as_bigint_and_exponent();
                format!("{digits}e{}", -places)
            }
        };
        text.parse::<f64>().ok().filter(|sum| sum.is_finite() && *sum != 0.0)
    }
}

/// An i128 of its halves.
fn units(high: i64, low: u64) -> i128 {
    (i128::from(high) << 64) | i128::from(low)
}

/// The quotient where both numbers are exact in f64, so that dividing rounds once.
fn divided(units: i128, places: u8) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    let power = POWERS.get(usize::from(places))?;
    (units.unsigned_abs() <= 1 << 53).then(|| units as f64 / power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<BigDecimal, Refusal> {
        Amount::parse(text.as_bytes()).map(|amount| amount.to_big())
    }

    fn big(text: &str) -> BigDecimal {
        text.parse().unwrap()
    }

    fn sum(texts: &[&str]) -> Sum {
        let mut sum = Sum::default();
        texts.iter().for_each(|text| sum.add(&Amount::parse(text.as_bytes()).unwrap()));
        sum
    }

    #[test]
    fn what_postgres_reads_as_a_plain_decimal_is_read() {
        let same = [
            "0",
            "-0",
            "+1",
            "-1.50",
            "1.",
            ".5",
            "-.5",
            "007",
            "1e3",
            "1.5E-3",
            "1e+2",
            "0e99999999999999999999",
            "999999999999999999",
            "9999999999999999999",
            "0.000000000000000001",
            "1e308",
            "-1e308",
            "1e-16383",
            "123456789012345678901234567890.123456789012345678901234567890",
        ];
        for text in same {
            let expected =
                if text.starts_with("0e") { BigDecimal::zero() } else { big(text.trim_end_matches('.')) };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        assert_eq!(parse(""), Err(Refusal::Empty));
        let wrong = [
            "-", "+", ".", "-.", "e1", "1e", "1e+", "1e1.5", "1e5e5", "--1", "+-1", "1-", "1.2.3", "1,5",
            " 1", "1 ", "1_0", "0x1", "NaN", "inf", "Infinity", "$1", "1\u{660}", "\u{661}", "1\0",
        ];
        for text in wrong {
            assert_eq!(parse(text), Err(Refusal::NoNumber), "{text}");
        }
        assert_eq!(Amount::parse(b"1\xff").unwrap_err(), Refusal::NoNumber);
    }

    #[test]
    fn what_cannot_be_held_is_refused_before_it_takes_memory() {
        for text in
            ["1e309", "-1e309", "1e1000000", "1e99999999999999999999", &"9".repeat(310), &"9".repeat(1 << 20)]
        {
            assert_eq!(parse(text), Err(Refusal::TooGreat), "{text}");
        }
        for text in ["1e-16384", "1e-1000000", "1e-99999999999999999999", &format!(".{}", "1".repeat(16_384))]
        {
            assert_eq!(parse(text), Err(Refusal::TooManyPlaces), "{text}");
        }
        assert_eq!(parse(&format!("{}1", "0".repeat(1 << 20))), Ok(big("1")));
    }

    #[test]
    fn products_are_exact_or_refused() {
        let times = |a: &str, b: &str| {
            let product = Amount::parse(a.as_bytes()).unwrap().times(&Amount::parse(b.as_bytes()).unwrap());
            product.map(|product| product.to_big())
        };
        let exact = [
            ("3", "0.1"),
            ("-2", "1.25"),
            ("999999999999999999", "999999999999999999"),
            ("1e200", "1e-200"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("1e200", "0"),
            ("12345678901234567890.1", "98765432109876543210.9"),
        ];
        for (a, b) in exact {
            assert_eq!(times(a, b), Ok(big(a) * big(b)), "{a} * {b}");
        }
        assert_eq!(times("1e200", "1e200"), Err(Refusal::TooGreat));
        assert_eq!(times("1e-9000", "1e-9000"), Err(Refusal::TooManyPlaces));
    }

    #[test]
    fn a_sum_is_rounded_once_to_the_nearest_even() {
        let cases: [(&[&str], f64); 9] = [
            (&[], 0.0),
            (&["0.1", "0.2"], 0.3),
            (&["9007199254740993"], 9_007_199_254_740_992.0),
            (&["9007199254740993", "0.0000000000000000000000000000000001"], 9_007_199_254_740_994.0),
            (&["9007199254740995"], 9_007_199_254_740_996.0),
            (&["1e300", "1", "-1e300"], 1.0),
            (&["-0.00"], 0.0),
            (&["1", "-1.00"], 0.0),
            (&["0.000000000000000000001", "17.85"], 17.85),
        ];
        for (texts, expected) in cases {
            let found = sum(texts).to_f64();
            assert_eq!(found.map(f64::to_bits), Some(expected.to_bits()), "{texts:?}");
        }
    }

    #[test]
    fn a_sum_that_f64_does_not_have_is_none() {
        assert_eq!(sum(&["1.7e308", "1.7e308"]).to_f64(), None);
        assert_eq!(sum(&["1e-400"]).to_f64(), None);
        assert_eq!(sum(&["1e-323"]).to_f64(), Some(1e-323));
    }

    proptest! {
        #[test]
        fn sums_and_products_are_those_of_big_decimals(
            texts in prop::collection::vec(("[-+]?[0-9]{1,20}(\\.[0-9]{0,20})?([eE]-?[0-9]{1,2})?", "-?[0-9]{1,9}(\\.[0-9]{1,19})?"), 0..9)
        ) {
            let (mut found, mut expected) = (Sum::default(), BigDecimal::zero());
            for (a, b) in &texts {
                let big = |text: &str| text.replace(".e", "e").replace(".E", "e").trim_end_matches('.').parse::<BigDecimal>().unwrap();
                let (one, other) = (Amount::parse(a.as_bytes()).unwrap(), Amount::parse(b.as_bytes()).unwrap());
                prop_assert_eq!(one.to_big(), big(a));
                prop_assert_eq!(one.is_negative(), big(a).is_negative());
                found.add(&one);
                found.add(&one.times(&other).unwrap());
                expected += big(a) + big(a) * big(b);
            }
            let expected = expected.to_plain_string().parse::<f64>().unwrap() + 0.0;
            prop_assert_eq!(found.to_f64().map(f64::to_bits), Some(expected.to_bits()));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eE,$ ]{0,30}") {
            let _ = Amount::parse(text.as_bytes());
        }
    }
}
