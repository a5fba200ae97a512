//! Which types the columns of a query may have, and how each is taken. Pure.

use super::super::Columns;
use crate::postgres::Column;
use anyhow::{bail, ensure};

/// How the columns are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// The customer.
    pub customer: Id,
    /// The time.
    pub time: Time,
    /// The factors of the amount.
    pub amount: Vec<Number>,
    /// The order, if it is named.
    pub order: Option<Id>,
}

/// What tells customers and orders apart: **two ids are one if their texts have the same bytes**.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// Equal where the texts are: compared as it is, which is the fastest.
    Plain,
    /// A text, equal where the bytes are, too.
    Text,
    /// A text whose collation may have an equality of its own.
    Collated,
    /// Compared as a text.
    Other,
}

/// What a time lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Nothing.
    WithZone,
    /// The zone; of a date, also the hour.
    WithoutZone,
}

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Its sum is exact.
    Exact,
    /// A binary number. It stands for the shortest decimal that is read as it, which is what a file has of
    /// it.
    Float,
}

impl Kinds {
    /// The kinds of the named columns, among those that were found. `is_lax`: a text may have an equality of
    /// its own.
    ///
    /// # Errors
    /// One is missing, is there twice, or has a type that cannot be taken.
    pub fn choose(columns: &Columns, found: &[Column], is_lax: bool) -> anyhow::Result<Self> {
        let Columns { customer, time, amount, order } = columns;
        let amount = amount.iter().map(|name| number(one(found, name)?));
        let id = |column: &Column| id(column, is_lax);
        Ok(Self {
            customer: id(one(found, customer)?),
            time: self::time(one(found, time)?)?,
            amount: amount.collect::<anyhow::Result<_>>()?,
            order: order.as_ref().map(|name| one(found, name).map(id)).transpose()?,
        })
    }
}

/// The column of a name.
fn one<'a>(found: &'a [Column], name: &str) -> anyhow::Result<&'a Column> {
    let mut named = found.iter().filter(|column| column.name == name);
    let Some(column) = named.next() else {
        ensure!(!found.is_empty(), "--orders-sql returns no columns: it must be a SELECT");
        let names: Vec<String> = found.iter().map(|column| format!("`{}`", column.name)).collect();
        bail!("--orders-sql has no column `{name}`, but {} (see --orders-columns)", names.join(", "))
    };
    ensure!(
        named.next().is_none(),
        "--orders-sql has two columns `{name}`: give one of them another name with AS"
    );
    Ok(column)
}

/// smallint, integer, bigint; uuid; text, varchar.
fn id(column: &Column, is_lax: bool) -> Id {
    match column.oid {
        21 | 23 | 20 | 2950 => Id::Plain,
        25 | 1043 if is_lax => Id::Collated,
        25 | 1043 => Id::Text,
        _ => Id::Other,
    }
}

/// timestamptz; timestamp, date.
fn time(column: &Column) -> anyhow::Result<Time> {
    match column.oid {
        1184 => Ok(Time::WithZone),
        1114 | 1082 => Ok(Time::WithoutZone),
        _ => refuse(column, "a time", "timestamptz"),
    }
}

/// smallint, integer, bigint, numeric; real, double precision.
fn number(column: &Column) -> anyhow::Result<Number> {
    match column.oid {
        21 | 23 | 20 | 1700 => Ok(Number::Exact),
        700 | 701 => Ok(Number::Float),
        _ => refuse(column, "an amount", "numeric"),
    }
}

fn refuse<T>(Column { name, type_name, .. }: &Column, what: &str, target: &str) -> anyhow::Result<T> {
    bail!(
        "`{name}` of --orders-sql is {type_name}, and not {what}: cast it in the query, such as \"{name}\"::{target}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(amount: &[&str], order: Option<&str>) -> Columns {
        let amount = amount.iter().map(|&name| name.to_owned()).collect();
        Columns { customer: "who".into(), time: "at".into(), amount, order: order.map(str::to_owned) }
    }

    fn found(types: &[(&str, u32)]) -> Vec<Column> {
        let column =
            |&(name, oid): &(&str, u32)| Column { name: name.into(), oid, type_name: format!("type{oid}") };
        types.iter().map(column).collect()
    }

    #[test]
    fn every_type_is_taken_for_what_it_is() {
        let found =
            found(&[("who", 1042), ("at", 1082), ("a", 23), ("b", 701), ("o", 25), ("u", 2950), ("x", 0)]);
        let kinds = Kinds::choose(&columns(&["a", "b"], Some("o")), &found, false).unwrap();
        assert_eq!((kinds.customer, kinds.time, kinds.order), (Id::Other, Time::WithoutZone, Some(Id::Text)));
        assert_eq!(kinds.amount, [Number::Exact, Number::Float]);
        let order = |name, is_lax| Kinds::choose(&columns(&["a"], Some(name)), &found, is_lax).unwrap().order;
        assert_eq!(order("u", true), Some(Id::Plain));
        assert_eq!(order("o", true), Some(Id::Collated));
    }

    #[test]
    fn what_cannot_be_taken_is_named_with_what_to_do() {
        let sound = [("who", 25), ("at", 1184), ("a", 1700)];
        let cases: [(&[(&str, u32)], &str); 6] = [
            (&[], "returns no columns"),
            (&sound[..2], "no column `a`, but `who`, `at` (see --orders-columns)"),
            (&[sound[0], ("At", 1184), sound[2]], "no column `at`, but `who`, `At`, `a`"),
            (&[sound[0], sound[1], sound[2], sound[2]], "two columns `a`"),
            (&[sound[0], ("at", 25), sound[2]], "`at` of --orders-sql is type25, and not a time: cast it"),
            (&[sound[0], sound[1], ("a", 790)], "such as \"a\"::numeric"),
        ];
        for (types, words) in cases {
            let error = Kinds::choose(&columns(&["a"], None), &found(types), false).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
