//! The JSON below `/api/`. Fields are named as the columns of the views are; docs/guide.md lists them.

use super::answers::Answer;
use super::queries::{Batch, Cell, Move, Snapshot, Summary};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

/// A row of `snapshots`.
#[derive(Serialize)]
struct ListedSnapshot<'a> {
    /// The group.
    consumer_group: &'a str,
    /// Whose customers.
    population: Option<&'a str>,
    /// When they were so.
    as_of: String,
    /// The batch that counts.
    batch_id: i64,
    /// When the newest of its messages was sent.
    produced_at: Option<String>,
    /// How many.
    customers: i32,
    /// Whether its rows were taken away.
    expired: bool,
    /// Equal neighbouring edges.
    empty_quintiles: Option<i32>,
    /// The batch that counts for the snapshot before.
    previous_batch_id: Option<i64>,
}

/// A row of `segment_summary`, of a batch that is named elsewhere.
#[derive(Serialize)]
struct Segment<'a> {
    /// Its name.
    segment: &'a str,
    /// Its customers.
    customers: Option<i64>,
    /// Which part of all customers these are.
    share: Option<f64>,
    /// Their mean recency.
    mean_recency: Option<f64>,
    /// Their mean frequency.
    mean_frequency: Option<f64>,
    /// The sum of their monetary value.
    monetary: Option<f64>,
    /// Which part of the whole sum this is.
    monetary_share: Option<f64>,
}

/// A cell of the RF grid.
#[derive(Serialize)]
struct GridCell<'a> {
    /// Its two scores.
    rf_score: &'a str,
    /// Its segment.
    segment: &'a str,
    /// Its customers.
    customers: Option<i32>,
    /// Their mean recency.
    mean_recency: Option<f64>,
    /// Their mean frequency.
    mean_frequency: Option<f64>,
    /// Their mean monetary value.
    mean_monetary: Option<f64>,
}

/// What is said of one batch.
#[derive(Serialize)]
struct WholeBatch<'a> {
    /// The group.
    consumer_group: &'a str,
    /// Whose customers.
    population: Option<&'a str>,
    /// When they were so.
    as_of: String,
    /// The batch.
    batch_id: i64,
    /// When the newest of its messages was sent.
    produced_at: Option<String>,
    /// When it was stored.
    stored_at: String,
    /// How many customers.
    customers: i32,
    /// Whether its rows were taken away.
    expired: bool,
    /// How it was scored.
    #[serde(flatten)]
    rules: Rules<'a>,
    /// Its segments.
    segments: Vec<Segment<'a>>,
    /// Its cells, from `11` to `55`.
    grid: Vec<GridCell<'a>>,
}

/// How a batch was scored.
#[derive(Serialize)]
struct Rules<'a> {
    /// `--ties`
    ties: &'a str,
    /// `default`, or the hash of a file.
    segment_map: &'a str,
    /// Where its edges are from.
    edges_from: Option<&'a str>,
}

/// A row of `segment_moves`.
#[derive(Serialize)]
struct Went<'a> {
    /// Where they were.
    from_segment: Option<&'a str>,
    /// Where they are.
    to_segment: Option<&'a str>,
    /// How many.
    customers: i64,
}

/// `/api/batches`
pub fn list(group: &str, snapshots: &[Snapshot]) -> Answer {
    /// The answer.
    #[derive(Serialize)]
    struct List<'a> {
        /// Newest first.
        batches: Vec<ListedSnapshot<'a>>,
    }
    let batches = snapshots.iter().map(|snapshot| ListedSnapshot {
        consumer_group: group,
        population: snapshot.population.as_deref(),
        as_of: time(snapshot.as_of),
        batch_id: snapshot.batch_id,
        produced_at: snapshot.produced_at.map(time),
        customers: snapshot.customers,
        expired: snapshot.expired,
        empty_quintiles: snapshot.empty_quintiles,
        previous_batch_id: snapshot.previous_batch_id,
    });
    answer(200, &List { batches: batches.collect() })
}

/// `/api/batches/ID`
pub fn batch(group: &str, batch: &Batch, segments: &[Summary], cells: &[Cell]) -> Answer {
    let segments = segments.iter().map(|row| Segment {
        segment: &row.segment,
        customers: row.customers,
        share: row.share,
        mean_recency: row.mean_recency,
        mean_frequency: row.mean_frequency,
        monetary: row.monetary,
        monetary_share: row.monetary_share,
    });
    let grid = cells.iter().map(|cell| GridCell {
        rf_score: &cell.rf_score,
        segment: &cell.segment,
        customers: cell.customers,
        mean_recency: cell.mean(cell.recency),
        mean_frequency: cell.mean(cell.frequency),
        mean_monetary: cell.mean(cell.monetary),
    });
    let whole = WholeBatch {
        consumer_group: group,
        population: batch.population.as_deref(),
        as_of: time(batch.as_of),
        batch_id: batch.batch_id,
        produced_at: batch.produced_at.map(time),
        stored_at: time(batch.stored_at),
        customers: batch.customers,
        expired: batch.expired,
        rules: Rules {
            ties: &batch.ties,
            segment_map: &batch.segment_map,
            edges_from: batch.edges_from.as_deref(),
        },
        segments: segments.collect(),
        grid: grid.collect(),
    };
    answer(200, &whole)
}

/// `/api/moves`
pub fn moves(from: i64, to: i64, moves: &[Move]) -> Answer {
    /// The answer.
    #[derive(Serialize)]
    struct Moves<'a> {
        /// The earlier batch.
        from_batch: i64,
        /// The later one.
        to_batch: i64,
        /// Who went where.
        moves: Vec<Went<'a>>,
    }
    let went = moves.iter().map(|row| Went {
        from_segment: row.from_segment.as_deref(),
        to_segment: row.to_segment.as_deref(),
        customers: row.customers,
    });
    answer(200, &Moves { from_batch: from, to_batch: to, moves: went.collect() })
}

/// What is wrong.
pub fn problem(status: u16, why: &str) -> Answer {
    /// The answer.
    #[derive(Serialize)]
    struct Problem<'a> {
        /// In words.
        error: &'a str,
    }
    answer(status, &Problem { error: why })
}

fn answer(status: u16, body: &impl Serialize) -> Answer {
    match serde_json::to_string(body) {
        Ok(json) => Answer::new(status, json + "\n"),
        // Nothing here has keys that are no texts.
        Err(error) => {
            Answer::new(500, format!("{{\"error\":\"{}\"}}\n", error.to_string().replace(['"', '\\'], "'")))
        }
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
