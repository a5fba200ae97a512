//! What the reader stores in Postgres, and the transaction that stores it exactly once.
//!
//! Does not decide what to store. Does not own connections, nor what their errors mean (`crate::postgres`).
//! Everything here blocks; the session calls it on threads of its own.
//!
//! **Rows, `batches`, dead letters and progress move in one transaction, which succeeds only if the partition
//! is exactly as this session left it** (`ownership`, `compare_and_set`). What the reader remembers may be
//! lost or wrong: the tables alone are enough to go on.

mod compare_and_set;
mod contradictions;
mod error;
mod evidence;
mod expiry;
mod group;
mod insert;
mod joining;
mod letters;
mod look;
mod maps;
mod other_schema;
mod ownership;
mod partitions;
mod readiness;
mod retraction;
mod rows;
mod second_opinion;
mod source;
mod stored_edges;
mod taking;
mod trial;
mod windows;

pub use crate::postgres::{Tables, Watch};
pub use error::StoreError;
pub use expiry::{DueWindow, Expired};
pub use letters::Letter;
pub use look::MOST_COUNTED;
pub use ownership::Ownership;
pub use retraction::Retracted;
pub use rows::write as write_rows;
pub use source::KafkaSource;

use crate::failpoint;
use crate::metric::PerMetric;
use crate::postgres::{Address, Client, Isolation};
use crate::reader::pairing::DeadLetter;
use crate::reader::score::{Rules, Scored};
use diesel::prelude::*;
use insert::Added;
use readiness::Known;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use windows::Window;

/// What one transaction stores of one partition.
#[derive(Debug)]
pub struct Part {
    /// The partition number.
    pub partition: i32,
    /// How the transaction must find the partition.
    pub expected: Ownership,
    /// Per topic, the lowest offset that is not settled once this is stored.
    pub next: PerMetric<i64>,
    /// Per topic, a leader epoch in which the log had everything below `next`; `None` if none is known.
    pub leader_epochs: PerMetric<Option<i32>>,
    /// Batches to store.
    pub batches: Vec<Scored>,
    /// Messages to keep unscored.
    pub dead_letters: Vec<DeadLetter>,
}

/// A connection that reads and writes the tables of one consumer group.
pub struct Store {
    /// The connection.
    client: Client,
    /// What its statements need to know.
    context: Context,
    /// Where the database is.
    address: Address,
}

/// What statements need to know beside the connection they run on.
struct Context {
    /// The group, and whose offsets its progress counts.
    source: KafkaSource,
    /// The tables that must be there.
    tables: Tables,
    /// Which tables there were when the session began; nothing before that.
    known: Known,
    /// Whether this process has had a session before.
    is_later: bool,
    /// The highest id of a batch that this connection knows to be given; `None` if it does not know that no row has
    /// a higher one.
    highest_id: Cell<Option<i64>>,
    /// Where rows go, for each window of ids that this connection has used.
    windows: RefCell<BTreeMap<i64, Window>>,
    /// The windows of ids that the transaction under way uses.
    in_use: RefCell<Vec<i64>>,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Postgres`].
    pub fn connect(address: &Address, source: KafkaSource, watch: Arc<Watch>) -> Result<Self, StoreError> {
        let client = Client::connect(address, watch)?;
        let context = Context {
            source,
            tables: Tables::default(),
            known: Known::default(),
            is_later: false,
            highest_id: Cell::new(None),
            windows: RefCell::default(),
            in_use: RefCell::default(),
        };
        Ok(Self { client, context, address: address.clone() })
    }

    /// Makes this a connection of the same session as `owner`, which has checked the tables.
    pub fn join(&mut self, owner: &Self) {
        self.context.tables = owner.context.tables.clone();
        self.context.known = owner.context.known;
        self.context.highest_id = owner.context.highest_id.clone();
    }

    /// Stores everything or nothing. Returns the ids of the batches, in the order of the parts.
    ///
    /// COPY comes first and progress last: a reader that freezes before the end holds no lock that its
    /// successor needs.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if one of the partitions is not as expected. **After any error the outcome is
    /// unknown and the connection must be dropped**; the tables say which it was.
    pub fn commit(&mut self, rules: &Rules, parts: &[Part]) -> Result<Vec<i64>, StoreError> {
        let begun = Instant::now();
        let stored =
            self.transaction("storing batches", Isolation::ReadCommitted, |connection, watch, context| {
                failpoint::reach("after_begin");
                let scored: Vec<&Scored> = parts.iter().flat_map(|part| &part.batches).collect();
                let ids = insert::new_batch_ids(connection, scored.len())?;
                failpoint::reach("after_ids");
                context.check_ids(connection, &ids)?;
                let windows = context.windows_of(connection, &ids)?;
                let source = &context.source;
                let added = Added { rules, source, ids: &ids, windows: &windows, scored: &scored, parts };
                added.insert(connection, watch)?;
                watch.step("UPDATE of `progress`");
                context.move_progress(connection, parts, &windows)?;
                failpoint::reach("before_commit");
                Ok(ids)
            });
        stored.map_err(|error| self.second_opinion(rules, parts, error, begun.elapsed()))
    }

    /// Asks the server for nothing but an answer.
    ///
    /// # Errors
    /// [`StoreError::Postgres`], and [`StoreError::Unready`] if tables are missing.
    pub fn feel_pulse(&mut self) -> Result<(), StoreError> {
        let Self { client, context, .. } = self;
        let answered = client.ask("a question whether it is there", |connection| {
            diesel::sql_query("SELECT 1").execute(connection).map_err(StoreError::from)
        });
        answered.map(drop).map_err(|error| context.why_failed(client, error))
    }

    /// Runs `work` in a transaction of its own. If a statement fails, finds out why.
    fn transaction<T>(
        &mut self,
        step: &'static str,
        isolation: Isolation,
        work: impl FnOnce(&mut PgConnection, &Watch, &Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Self { client, context, .. } = self;
        context.in_use.borrow_mut().clear();
        let done = client.transaction(step, isolation, |connection, watch| work(connection, watch, context));
        done.map_err(|error| context.why_failed(client, error.during(step)))
    }
}
