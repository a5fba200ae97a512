//! JSON numbers of every shape and at every limit.

use crate::choices::Choices;

const LIMITS: [&str; 30] = [
    "0",
    "-0",
    "-0.0",
    "1",
    "2.5",
    "-17",
    "1e3",
    "1E+2",
    "1e-2",
    "0.1",
    "100.50",
    "1.7976931348623157e308",
    "1.7976931348623158e308",
    "1.7976931348623159e308",
    "-1.8e308",
    "5e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "2.2250738585072011e-308",
    "2.2250738585072014e-308",
    "1e400",
    "-1e999",
    "1e-400",
    "0e99999999999999999999",
    "1e-99999999999999999999",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "9007199254740993",
    "3.14159265358979323846264338327950288419716939937510",
];

/// Not valid JSON, though other parsers accept them.
const WRONG: [&str; 10] = ["01", "+1", ".5", "1.", "1e", "0x10", "1_000", "--1", "1e+", "-"];

/// A number, mostly a small one, so that columns have ties.
pub fn number(c: &mut Choices) -> String {
    match c.below(16) {
        0..=6 => c.below(6).to_string(),
        7 | 8 => c.pick(&LIMITS).to_owned(),
        9 | 10 => finite(c).to_string(),
        11 => format!("{:e}", finite(c)),
        12 => halfway(c),
        13 => digits(c),
        14 if c.once_in(60) => c.pick(&WRONG).to_owned(),
        // Larger than 2^53: most lie between two f64.
        _ => (c.wide() as i64).to_string(),
    }
}

/// Any finite f64.
fn finite(c: &mut Choices) -> f64 {
    Some(f64::from_bits(c.wide())).filter(|x| x.is_finite()).unwrap_or(1.5)
}

/// The number halfway between two neighbouring f64, or its neighbour in the last decimal: all digits count.
fn halfway(c: &mut Choices) -> String {
    // Between 2^53 and 2^54, f64 has steps of 2, so odd numbers lie halfway. They are scaled by a power of
    // two, in decimals.
    let odd = u128::from(((1u64 << 53) + (c.wide() >> 11)) | 1);
    let whole = (odd << c.below(73)).to_string();
    let whole = if c.once_in(2) { whole } else { format!("{whole}.{}", "0".repeat(c.below(40))) + "1" };
    if c.once_in(2) { whole } else { format!("{whole}e-{}", c.below(340)) }
}

/// A number of very many digits.
fn digits(c: &mut Choices) -> String {
    let mut run = |most: usize| -> String {
        (0..=c.below(most)).map(|_| char::from(b'0' + c.below(10) as u8)).collect()
    };
    let (whole, fraction) = (run(25), run(40));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let zeros = "0".repeat(c.pick(&[0, 0, 0, 20, 400]));
    let exponent = c.below(700) as i64 - 350;
    match c.below(3) {
        0 => format!("{whole}.{fraction}"),
        1 => format!("{whole}.{zeros}{fraction}e{exponent}"),
        _ => format!("{whole}{zeros}"),
    }
}
