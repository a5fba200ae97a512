//! The flags about orders.

use super::database::wrong_address;
use super::plain::plain;
use crate::failure::Failure;
use crate::postgres::Address;
use crate::producer::source::orders::{AsOf, Columns, Orders, Place, csv, sql};
use anyhow::anyhow;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::fs;
use std::path::{Path, PathBuf};

/// Which flags are for random values only.
const OF_RANDOM: [&str; 2] = ["customers", "seed"];

/// Flags of a producer that makes snapshots of orders.
#[derive(Debug, Args)]
pub(super) struct OrdersFlags {
    /// Make the snapshots of the orders in this CSV file (also .gz and .zst), read again for each; - is standard
    /// input, read once
    #[arg(long, value_name = "FILE", env = "PRODUCE_ORDERS", conflicts_with_all = OF_RANDOM)]
    orders: Option<PathBuf>,
    /// Make the snapshots of the orders that this query gives; Postgres adds them up
    #[arg(long, value_name = "QUERY", env = "PRODUCE_ORDERS_SQL", conflicts_with_all = OF_RANDOM, conflicts_with = "orders")]
    orders_sql: Option<String>,
    /// The Postgres of --orders-sql: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, value_name = "URL", env = "PRODUCE_ORDERS_URL", hide_env_values = true)]
    orders_url: Option<String>,
    /// Which column of the orders means what; an order=COLUMN may be added, and an amount may be a product
    /// (amount=Quantity*UnitPrice) [default: customer=customer_id,time=ordered_at,amount=amount]
    #[arg(long, value_name = "LIST", env = "PRODUCE_ORDERS_COLUMNS")]
    orders_columns: Option<Columns>,
    /// Count the orders before this time, or before each of START..END/STEP (7d, 1h, 1mo), and end [default: now,
    /// again after each interval]
    #[arg(long, value_name = "TIME", env = "PRODUCE_AS_OF")]
    as_of: Option<AsOf>,
    /// Whose customers these are (a shop, a country), where several share the topics [default: none]
    #[arg(long, value_name = "NAME", env = "PRODUCE_POPULATION", value_parser = NonEmptyStringValueParser::new())]
    population: Option<String>,
}

impl OrdersFlags {
    /// `--population`
    pub(super) fn population(&self) -> Result<Option<String>, Failure> {
        self.population.as_deref().map(|name| plain("--population", name).map(str::to_owned)).transpose()
    }

    /// The orders; `None`: there are none, and random values are wanted.
    ///
    /// # Errors
    /// Flags that contradict each other, or an address that is none.
    pub(super) fn orders(&self) -> Result<Option<Orders>, Failure> {
        let place = match (&self.orders, &self.orders_sql) {
            (Some(path), _) => Place::Csv(self.input(path)?),
            (None, Some(query)) => Place::Sql(self.query(query)?),
            (None, None) => return self.none(),
        };
        let as_of = self.as_of.clone().unwrap_or(AsOf::Now);
        if matches!(place, Place::Csv(csv::Input::StandardInput)) && as_of.is_several() {
            let error = anyhow!("--as-of has several times, and standard input can be read once");
            return Err(Failure::configuration(error, "put the orders into a file".to_owned()));
        }
        let columns = self.orders_columns.clone().unwrap_or_default();
        Ok(Some(Orders { place, columns, as_of, population: self.population()? }))
    }

    fn input(&self, path: &Path) -> Result<csv::Input, Failure> {
        if self.orders_url.is_some() {
            let error = anyhow!("--orders-url is given, and no --orders-sql");
            return Err(Failure::configuration(error, "give one of --orders and --orders-sql".to_owned()));
        }
        if path == Path::new("-") {
            return Ok(csv::Input::StandardInput);
        }
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let error =
                anyhow!("--orders `{}` is a pipe or a device, which can be read once", path.display());
            return Err(Failure::configuration(error, format!("give `--orders - <{}`", path.display())));
        }
        Ok(csv::Input::File(path.to_owned()))
    }

    fn query(&self, query: &str) -> Result<sql::Query, Failure> {
        let url = self.orders_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let Some(url) = url else {
            let hint = "give --orders-url postgres://USER:PASSWORD@HOST:PORT/DATABASE, or PRODUCE_ORDERS_URL";
            return Err(Failure::configuration(anyhow!("--orders-sql has no database"), hint.to_owned()));
        };
        let address = Address::to_read(url, "--orders-url", "rfm-producer").map_err(wrong_address)?;
        Ok(sql::Query { text: query.to_owned(), address })
    }

    /// Without orders, flags about them mean nothing, and somebody expects something else.
    fn none(&self) -> Result<Option<Orders>, Failure> {
        let given = [
            (self.orders_url.is_some(), "--orders-url"),
            (self.orders_columns.is_some(), "--orders-columns"),
            (self.as_of.as_ref().is_some_and(|as_of| *as_of != AsOf::Now), "--as-of"),
        ];
        match given.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, flag)) => {
                let error = anyhow!("{flag} is given, and no orders");
                Err(Failure::configuration(error, "give --orders FILE, or --orders-sql QUERY".to_owned()))
            }
            None => Ok(None),
        }
    }
}
