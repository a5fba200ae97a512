//! The two flags that name the database.

use super::text_file;
use crate::failure::Failure;
use crate::postgres::{Address, PostgresError, Remedy};
use anyhow::anyhow;
use clap::Args;
use std::path::{Path, PathBuf};

/// The variables of the two flags.
pub(super) const URL_VARIABLE: &str = "DATABASE_URL";
const FILE_VARIABLE: &str = "DATABASE_URL_FILE";

/// What a usable address looks like.
const EXAMPLE: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// One of them must be given.
#[derive(Debug, Args)]
pub(super) struct DatabaseFlags {
    /// Address of Postgres: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, value_name = "URL", env = URL_VARIABLE, hide_env_values = true)]
    database_url: Option<String>,
    /// File that holds the address, so that no list of processes shows its password
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    database_url_file: Option<PathBuf>,
}

impl DatabaseFlags {
    /// The address of the database, by one of the two flags.
    ///
    /// # Errors
    /// None or both are given, the file cannot be read, or the address is blank or none that libpq can use.
    pub(super) fn address(&self) -> Result<Address, Failure> {
        let (url, flag) = match (&self.database_url, &self.database_url_file) {
            (Some(url), None) => (url.clone(), "--database-url"),
            (None, Some(path)) => (read(path)?, "--database-url-file"),
            (Some(_), Some(_)) => {
                let error = anyhow!("both --database-url and --database-url-file are given");
                let hint = "give one of them, or one of DATABASE_URL and DATABASE_URL_FILE".to_owned();
                return Err(Failure::configuration(error, hint));
            }
            (None, None) => {
                let hint = "give --database-url postgres://USER:PASSWORD@HOST:PORT/DATABASE, or set DATABASE_URL in \
                            the environment or in `.env`; --database-url-file takes it from a file";
                return Err(Failure::configuration(anyhow!("no database is given"), hint.to_owned()));
            }
        };
        // libpq would take it for a server on this host.
        if url.trim().is_empty() {
            let hint =
                format!("give {EXAMPLE}; where the variables of libpq say all, `postgres://` is enough");
            return Err(Failure::configuration(anyhow!("the address of {flag} is blank"), hint));
        }
        Address::new(url.trim(), flag, "rfm-reader").map_err(wrong_address)
    }
}

/// The address in a file.
fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display().to_string();
    text_file(path).map_err(|error| {
        // An address in the place of a file name may hold a password.
        if shown.contains("://") || shown.contains("password=") {
            let hint = format!("for an address there is --database-url; the file has one line: {EXAMPLE}");
            let error =
                anyhow!("--database-url-file takes the name of a file, and is given an address (not shown)");
            return Failure::configuration(error, hint);
        }
        let error = error.context(format!("cannot read --database-url-file `{shown}`"));
        Failure::configuration(error, format!("a file with one line: {EXAMPLE}"))
    })
}

/// An address that cannot be used, with what to do about it.
pub(super) fn wrong_address(error: PostgresError) -> Failure {
    let hint = match error.remedy() {
        Remedy::Configure(hint) | Remedy::Repair(hint) => Some(hint),
        Remedy::Retry => None,
    };
    Failure::configuration(error, hint)
}
