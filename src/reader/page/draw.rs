//! The answer to a question: asks the database, and has the rows written as HTML (`view`) or JSON (`json`).

use super::answers::Answer;
use super::json;
use super::queries::{Batch, Move, Population, Queries, Snapshot};
use super::request::{Named, Question, View, named};
use super::view::{self, LOOKS_BACK, Pages, Shown};
use crate::postgres::PostgresError;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a statement about movements may take.
const LONGEST_MOVES: Duration = Duration::from_secs(6);

/// How long a statement for this question may take.
pub fn limit(question: &Question, usual: Duration) -> Duration {
    match question {
        Question::Matrix { .. } | Question::Moves { .. } => LONGEST_MOVES,
        _ => usual,
    }
}

/// The answer to a question.
///
/// # Errors
/// A statement fails.
pub fn draw(
    queries: &mut Queries<'_>,
    question: &Question,
    populations: &BTreeSet<Population>,
) -> Result<Answer, PostgresError> {
    Ok(match question {
        Question::View(view) => draw_view(queries, view, populations)?,
        Question::List { population, limit } => {
            let snapshots = queries.snapshots(population.as_ref(), None, *limit)?;
            json::list(queries.group, &snapshots)
        }
        Question::Batch(id) => match find(queries, *id)? {
            Ok(batch) => {
                let (cells, segments) = (queries.cells(*id)?, queries.summaries(&[*id])?);
                json::batch(queries.group, &batch, &segments, &cells)
            }
            Err(why) => json::problem(404, &why),
        },
        Question::Moves { from, to } => match moves(queries, *from, *to)? {
            Ok(moves) => json::moves(*from, *to, &moves),
            Err(why) => json::problem(404, &why),
        },
        Question::Matrix { from, to } => match moves(queries, *from, *to)? {
            Ok(moves) => {
                let map = queries.batch(*to)?.map(|batch| batch.segment_map).unwrap_or_default();
                view::matrix(&moves, &queries.maps(&[&map])?)
            }
            Err(why) => view::no_matrix(404, &why),
        },
    })
}

/// The answer to a question that Postgres has refused or could not answer in time.
pub fn failed(question: &Question, why: &str) -> Answer {
    match question {
        Question::View(_) => view::failed(why),
        Question::Matrix { .. } => view::no_matrix(503, why),
        _ => json::problem(503, why),
    }
}

/// What a view is of.
struct Chosen {
    /// The population.
    population: Named,
    /// Its newest snapshot.
    newest: Option<Snapshot>,
    /// The batch, unless there is none.
    batch: Option<Batch>,
    /// The snapshots up to the batch, newest first, or up to the newest.
    window: Vec<Snapshot>,
    /// Why the batch that was asked for is not the one.
    missing: Option<String>,
}

fn draw_view(
    queries: &mut Queries<'_>,
    view: &View,
    populations: &BTreeSet<Population>,
) -> Result<Answer, PostgresError> {
    let Chosen { population, newest, batch, window, missing } = choose(queries, view, populations)?;
    let (shown, unfit) = match batch {
        Some(batch) => {
            let chosen = view.since.map(|id| earlier(queries, id, &batch)).transpose()?;
            let (since, unfit) = chosen.map_or((None, None), |chosen| (chosen.clone().ok(), chosen.err()));
            (Some(look_around(queries, since, batch, window)?), unfit)
        }
        None => (None, None),
    };
    let (population, newest) = (&population, newest.as_ref());
    Ok(view::page(&Pages { view, populations, population, newest, missing, unfit, shown }))
}

/// Which batch a view shows: the one that it names, or the newest.
fn choose(
    queries: &mut Queries<'_>,
    view: &View,
    populations: &BTreeSet<Population>,
) -> Result<Chosen, PostgresError> {
    let (asked, missing) = match view.batch.map(|id| find(queries, id)).transpose()? {
        Some(Ok(batch)) => (Some(batch), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let first = || populations.first().map(|population| population.named.clone());
    let population: Named = match &asked {
        Some(batch) => named(batch.population.as_deref()),
        None => view.population.clone().or_else(first).unwrap_or_default(),
    };
    let mut window = queries.snapshots(Some(&population), None, LOOKS_BACK + 1)?;
    let newest = window.first().cloned();
    let batch = match (asked, &newest) {
        (Some(batch), _) => {
            if window.iter().all(|snapshot| snapshot.batch_id != batch.batch_id) {
                window = queries.snapshots(Some(&population), Some(batch.as_of), LOOKS_BACK + 1)?;
            }
            Some(batch)
        }
        (None, Some(newest)) => queries.batch(newest.batch_id)?,
        (None, None) => None,
    };
    Ok(Chosen { population, newest, batch, window, missing })
}

/// The batch with which another one is to be compared, or why it cannot be.
fn earlier(
    queries: &mut Queries<'_>,
    id: i64,
    batch: &Batch,
) -> Result<Result<Batch, String>, PostgresError> {
    let is_earlier = |found: &Batch| found.population == batch.population && found.as_of < batch.as_of;
    Ok(find(queries, id)?.and_then(|found| {
        if is_earlier(&found) {
            return Ok(found);
        }
        Err(format!("batch {id} is no earlier snapshot of the population of batch {}", batch.batch_id))
    }))
}

/// What a batch is shown with. It is compared with `since`, or else with the snapshot before.
fn look_around(
    queries: &mut Queries<'_>,
    since: Option<Batch>,
    batch: Batch,
    window: Vec<Snapshot>,
) -> Result<Shown, PostgresError> {
    let listed = window.iter().find(|snapshot| snapshot.batch_id == batch.batch_id);
    let is_chosen = since.is_some();
    let before = match (since, listed.and_then(|snapshot| snapshot.previous_batch_id)) {
        (None, Some(id)) => queries.batch(id)?,
        (chosen, _) => chosen,
    };
    let earlier = before.as_ref().map(|before| before.batch_id);
    let ids: Vec<i64> = earlier.into_iter().chain([batch.batch_id]).collect();
    let (summaries, cells) = (queries.summaries(&ids)?, queries.cells(batch.batch_id)?);
    let maps: BTreeSet<&str> = window
        .iter()
        .map(|snapshot| snapshot.segment_map.as_str())
        .chain([batch.segment_map.as_str()])
        .collect();
    let rules = queries.maps(&Vec::from_iter(maps))?;
    let has_ids = if batch.expired { None } else { queries.has_ids(batch.batch_id)? };
    Ok(Shown { batch, before, is_chosen, summaries, cells, rules, window, has_ids })
}

/// A batch of the group that was not retracted, or why there is none.
fn find(queries: &mut Queries<'_>, id: i64) -> Result<Result<Batch, String>, PostgresError> {
    Ok(match queries.batch(id)? {
        None => Err(format!("the group `{}` has no batch {id}", queries.group)),
        Some(batch) if batch.retracted => Err(format!("batch {id} was retracted")),
        Some(batch) => Ok(batch),
    })
}

/// The movements between two batches, or why they are not known.
fn moves(queries: &mut Queries<'_>, from: i64, to: i64) -> Result<Result<Vec<Move>, String>, PostgresError> {
    for id in [from, to] {
        match find(queries, id)? {
            Err(why) => return Ok(Err(why)),
            Ok(batch) if batch.expired => {
                return Ok(Err(format!("the rows of batch {id} were taken away by --retain")));
            }
            Ok(_) => {}
        }
        match queries.has_ids(id)? {
            None => return Ok(Err(format!("batch {id} has no rows any more"))),
            Some(false) => {
                return Ok(Err(format!(
                    "the customers of batch {id} have no ids, so nobody can say where they went: send `customer_id`"
                )));
            }
            Some(true) => {}
        }
    }
    Ok(Ok(queries.moves(from, to)?))
}
