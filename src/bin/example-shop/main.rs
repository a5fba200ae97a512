//! `example-shop`: the orders of a shop that does not exist, as CSV on standard output, to try `producer --orders` on.
//!
//! Owns flags and CSV. `law` says who orders what and when, `dice` has the distributions.

mod dice;
mod law;

use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::{CommandFactory, Parser, error::ErrorKind, value_parser};
use law::{Row, Shop};
use rfm_stream::failure::Failure;
use rfm_stream::telemetry;
use std::io::{self, BufWriter, Write, stdout};
use std::process::ExitCode;

/// Writes the orders of a shop that does not exist, as CSV, in order of time. The same flags give the same bytes.
#[derive(Clone, Debug, Parser)]
#[command(name = "example-shop")]
struct Flags {
    /// Customers that order for the first time between the two days.
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u32).range(1..))]
    customers: u32,
    /// The first day.
    #[arg(long, default_value = "2024-01-01")]
    from: NaiveDate,
    /// The day after the last one.
    #[arg(long, default_value = "2026-01-01")]
    to: NaiveDate,
    /// Another number gives another shop.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.from >= flags.to {
        Flags::command().error(ErrorKind::ValueValidation, "--to is not after --from").exit();
    }
    match write(&flags, BufWriter::new(stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough, as in `example-shop | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => telemetry::report(&Failure::at_work(error, None)),
    }
}

/// Writes a header and all rows.
fn write(flags: &Flags, mut to: impl Write) -> io::Result<()> {
    let seconds = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp();
    let shop = Shop::new(flags.customers, seconds(flags.from)..seconds(flags.to), flags.seed);
    writeln!(to, "order_id,customer_id,ordered_at,amount")?;
    for row in shop {
        writeln!(to, "{}", csv(&row))?;
    }
    to.flush()
}

/// A row without its line end. Nothing in it needs quotes.
fn csv(row: &Row) -> String {
    let customer = row.customer.map(|number| format!("C{number:06}")).unwrap_or_default();
    let at = DateTime::from_timestamp(row.at, 0).unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ");
    let (sign, cents) = (if row.cents < 0 { "-" } else { "" }, row.cents.unsigned_abs());
    format!("{},{customer},{at},{sign}{}.{:02}", row.order, cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    fn text(words: &str) -> String {
        let flags =
            Flags::try_parse_from(["example-shop"].into_iter().chain(words.split_whitespace())).unwrap();
        let mut text = Vec::new();
        write(&flags, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_same_flags_give_the_same_bytes_in_every_release() {
        let digest: String = Sha256::digest(text("--customers 1000 --seed 7"))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(digest, "24fb169f02edc03cc570274537705c02a340ab42d53c499c68fbc7487332afe7");
    }

    #[test]
    fn rows_begin_with_a_header_and_are_in_order_of_time() {
        let text = text("--customers 300");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("order_id,customer_id,ordered_at,amount"));
        let times: Vec<&str> = lines.map(|line| line.split(',').nth(2).unwrap()).collect();
        assert!(times.len() > 300 && times.is_sorted());
        assert!(times[0] >= "2024-01-01" && times[times.len() - 1] < "2026-01-01");
    }

    #[test]
    fn a_return_is_a_negative_amount_and_a_guest_has_no_customer() {
        let row = Row { order: 12, customer: Some(34), at: 1_704_067_199, cents: -5 };
        assert_eq!(csv(&row), "12,C000034,2023-12-31T23:59:59Z,-0.05");
        assert_eq!(csv(&Row { customer: None, cents: 123_456, ..row }), "12,,2023-12-31T23:59:59Z,1234.56");
    }
}
