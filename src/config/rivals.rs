//! Flags that exclude each other: a flag beats the variable of its rival, too, and a variable of the environment beats
//! the rival's in `.env`.

use super::EnvFile;
use clap::Arg;
use std::env;
use std::ffi::OsString;

/// A flag and its variable.
type Named = (&'static str, &'static str);

const DATABASE_URL: Named = ("--database-url", "DATABASE_URL");
const DATABASE_URL_FILE: Named = ("--database-url-file", "DATABASE_URL_FILE");
const ORDERS: Named = ("--orders", "PRODUCE_ORDERS");
const ORDERS_SQL: Named = ("--orders-sql", "PRODUCE_ORDERS_SQL");
const CUSTOMERS: Named = ("--customers", "PRODUCE_CUSTOMERS");
const EDGES: Named = ("--edges", "EDGES");
const EDGES_FROM: Named = ("--edges-from", "EDGES_FROM");
const SEED: Named = ("--seed", "PRODUCE_SEED");

/// Who beats whom, if both are given: a flag, and those that beat its variable.
const RIVALS: [(Named, &[Named]); 8] = [
    (DATABASE_URL, &[DATABASE_URL_FILE]),
    (DATABASE_URL_FILE, &[DATABASE_URL]),
    (ORDERS, &[ORDERS_SQL, CUSTOMERS, SEED]),
    (ORDERS_SQL, &[ORDERS, CUSTOMERS, SEED]),
    (CUSTOMERS, &[ORDERS, ORDERS_SQL]),
    (SEED, &[ORDERS, ORDERS_SQL]),
    (EDGES, &[EDGES_FROM]),
    (EDGES_FROM, &[EDGES]),
];

/// Whether the variable of `arg` does not count, since a rival is given in a way that beats it.
pub(super) fn is_beaten(arg: &Arg, args: &[OsString], env_file: &EnvFile) -> bool {
    let is_flag = |flag: &str| {
        let is_it =
            |arg: &str| arg.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
        args.iter().any(|arg| arg.to_str().is_some_and(is_it))
    };
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let own = arg.get_env().and_then(|name| name.to_str());
    let rivals = RIVALS.iter().find(|((_, variable), _)| own == Some(variable));
    let Some(((_, own), rivals)) = rivals else { return false };
    let is_in_file = |name: &str| env_file.defines(name);
    rivals.iter().any(|(flag, variable)| {
        is_flag(flag) || (is_in_file(own) && is_set(variable) && !is_in_file(variable))
    })
}
