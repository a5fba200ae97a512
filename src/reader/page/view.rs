//! The page as HTML: the frame, what the reader does, and the part that depends on the question.
//!
//! Pure: rows of the database go in, text comes out. **The templates escape every text**; only the parts that
//! they are put together from are taken as they are.

mod chart;
mod figures;
mod meanings;
mod movements;
mod palette;

use super::answers::{Answer, Told};
use super::format::{Moment, Name, Number, Times};
use super::queries::{Batch, Cell, Move, Population, Rule, Snapshot, Summary};
use super::request::{Named, View, address};
use crate::health::Status;
use crate::reader::vitals::Figures;
use askama::Template;
use figures::Figured;
use movements::Matrix;
use palette::Palette;
use std::collections::BTreeSet;

/// How many snapshots the page shows at once.
pub const LOOKS_BACK: u16 = 60;

/// What the part of a question is made from.
pub struct Pages<'a> {
    /// What was asked for.
    pub view: &'a View,
    /// The populations to choose from.
    pub populations: &'a BTreeSet<Population>,
    /// The one that is shown.
    pub population: &'a Named,
    /// Its newest snapshot.
    pub newest: Option<&'a Snapshot>,
    /// Why the batch that was asked for is not shown.
    pub missing: Option<String>,
    /// Why it is not compared with the batch that was asked for.
    pub unfit: Option<String>,
    /// What is shown.
    pub shown: Option<Shown>,
}

/// A batch with its surroundings.
pub struct Shown {
    /// The batch.
    pub batch: Batch,
    /// The earlier one that it is compared with: the snapshot before, or one that was chosen.
    pub before: Option<Batch>,
    /// Whether that was chosen.
    pub is_chosen: bool,
    /// The segments of both.
    pub summaries: Vec<Summary>,
    /// The cells of the batch.
    pub cells: Vec<Cell>,
    /// The segments of all scores in all maps of the window.
    pub rules: Vec<Rule>,
    /// The last snapshots up to the batch, newest first, or up to the newest; and one more, which is not
    /// shown.
    pub window: Vec<Snapshot>,
    /// Whether the customers of the batch have ids; `None` if its rows are gone.
    pub has_ids: Option<bool>,
}

impl Shown {
    /// The snapshots that are shown.
    fn listed(&self) -> &[Snapshot] {
        &self.window[..self.window.len().min(LOOKS_BACK.into())]
    }

    /// All times that are shown.
    fn times(&self) -> Times {
        let of_window = self.window.iter().map(|snapshot| snapshot.as_of);
        Times::new(of_window.chain([self.batch.as_of]).chain(self.before.as_ref().map(|before| before.as_of)))
    }
}

/// Something to choose.
struct Choice {
    /// What the address gets.
    value: String,
    /// What people read.
    name: Name,
    /// Whether it is chosen.
    is_chosen: bool,
}

/// See `frame.html`.
#[derive(Template)]
#[template(path = "frame.html")]
struct Frame<'a> {
    /// The group.
    group: Name,
    /// What the reader does.
    reader: &'a str,
    /// The part of the question.
    snapshot: &'a str,
    /// The movements, if they were asked for.
    matrix: &'a str,
    /// The tag of the last two.
    seen: &'a str,
    /// The version of this program.
    version: &'a str,
}

/// See `reader.html`.
#[derive(Template)]
#[template(path = "reader.html")]
struct Reader<'a> {
    /// Whether it works.
    ready: bool,
    /// Since when it does, or does not.
    since: Moment,
    /// Why it does not.
    why: Option<&'a str>,
    /// Since when the page cannot ask, and why.
    trouble: Option<(Moment, &'a str)>,
    /// Whether there are figures all the same.
    has_figures: bool,
    /// Of when they are, if there are no newer ones yet.
    of: Option<String>,
    /// Messages not stored yet.
    lag: Option<Number>,
    /// When something was last stored.
    last_commit: Option<Moment>,
    /// Customers per second.
    rate: Number,
    /// Batches since the start.
    batches: Number,
    /// Customers since the start.
    customers: Number,
    /// Messages refused since the start, by reason.
    letters: Vec<(&'static str, Number)>,
}

/// See `snapshot.html`.
#[derive(Template)]
#[template(path = "snapshot.html")]
struct Part<'a> {
    /// Why the batch that was asked for is not shown.
    missing: Option<&'a str>,
    /// Why it is not compared with the batch that was asked for.
    unfit: Option<&'a str>,
    /// The populations, if there are several.
    populations: Vec<Choice>,
    /// The one to keep when another snapshot is chosen.
    population: Option<&'a str>,
    /// The snapshots to choose from.
    snapshots: Vec<Choice>,
    /// Whether the newest is shown, whichever that is.
    is_live: bool,
    /// Whether it is the newest.
    is_newest: bool,
    /// Where the snapshots before these are.
    older: Option<String>,
    /// Where the newest is.
    to_newest: Option<String>,
    /// The figures.
    shown: Option<Figured>,
}

/// What the reader does, as a section. `told` is what is sent with it.
pub fn reader(status: &Status, figures: &Figures, told: &Told) -> String {
    let count = |count: u64| Number::count(i64::try_from(count).unwrap_or(i64::MAX));
    let section = Reader {
        ready: status.ready,
        since: Moment::new(status.since),
        why: status.why.as_deref(),
        trouble: told.trouble.as_ref().map(|trouble| (Moment::new(trouble.since), trouble.what.as_str())),
        has_figures: told.answer.is_some(),
        of: told.of.map(|of| of.format("%H:%M:%S UTC").to_string()),
        lag: figures.lag.map(Number::count),
        last_commit: figures.last_commit.map(Moment::new),
        rate: Number::count(figures.rate.round() as i64),
        batches: count(figures.batches),
        customers: count(figures.customers),
        letters: figures.dead_letters.iter().map(|&(reason, letters)| (reason, count(letters))).collect(),
    };
    rendered(&section)
}

/// The whole page.
pub fn frame(group: &str, reader: &str, snapshot: &str, matrix: &str, seen: &str) -> String {
    rendered(&Frame {
        group: Name::new(group),
        reader,
        snapshot,
        matrix,
        seen,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The part of a question.
pub fn page(pages: &Pages<'_>) -> Answer {
    let Pages { view, populations, population, newest, missing, unfit, shown } = pages;
    let has_several = populations.len() > 1;
    let kept = (has_several || !population.is_empty()).then_some(population.as_str());
    let is_newest = |id: i64| newest.is_some_and(|newest| newest.batch_id == id);
    let to = |batch| address(&View { population: kept.map(ToOwned::to_owned), batch, since: None });
    let batch = shown.as_ref().map(|shown| shown.batch.batch_id);
    let window = shown.as_ref().map_or(&[][..], Shown::listed);
    let is_live = view.batch.is_none() || missing.is_some();
    let older = window.last().filter(|_| window.len() >= usize::from(LOOKS_BACK));
    let part = Part {
        missing: missing.as_deref(),
        unfit: unfit.as_deref(),
        populations: if has_several { population_choices(populations, population) } else { Vec::new() },
        population: kept,
        snapshots: shown.as_ref().map_or_else(Vec::new, |shown| choices(window, &shown.times(), batch)),
        is_live,
        is_newest: batch.is_some_and(is_newest),
        older: older.and_then(|oldest| oldest.previous_batch_id).map(|id| to(Some(id))),
        to_newest: batch.filter(|&id| !is_live && !is_newest(id)).map(|_| to(None)),
        shown: shown.as_ref().map(Figured::new),
    };
    let status = if missing.is_some() || unfit.is_some() { 404 } else { 200 };
    let moved = shown.as_ref().filter(|shown| shown.is_chosen && shown.has_ids == Some(true));
    let compared = moved.and_then(|shown| shown.before.as_ref());
    let compared = compared.map(|before| before.batch_id).zip(batch);
    Answer { compared, ..Answer::new(status, rendered(&part)) }
}

/// The movements between two batches.
pub fn matrix(moves: &[Move], rules: &[Rule]) -> Answer {
    Answer::new(200, rendered(&Matrix::new(moves, &Palette::new(rules))))
}

/// Why there are no movements.
pub fn no_matrix(status: u16, why: &str) -> Answer {
    Answer::new(status, rendered(&Matrix::none(why)))
}

/// The part of a question that could not be answered.
pub fn failed(why: &str) -> Answer {
    let part = Part {
        missing: Some(why),
        unfit: None,
        populations: Vec::new(),
        population: None,
        snapshots: Vec::new(),
        is_live: true,
        is_newest: false,
        older: None,
        to_newest: None,
        shown: None,
    };
    Answer::new(503, rendered(&part))
}

fn population_choices(populations: &BTreeSet<Population>, chosen: &Named) -> Vec<Choice> {
    let named = |population: &Population| Choice {
        value: population.named.clone(),
        name: if population.named.is_empty() {
            Name::new("(without a name)")
        } else {
            Name::new(&population.begins)
        },
        is_chosen: population.named == *chosen,
    };
    let mut choices: Vec<Choice> = populations.iter().map(named).collect();
    if choices.iter().all(|choice| !choice.is_chosen) {
        choices.push(Choice { value: chosen.clone(), name: Name::new(chosen), is_chosen: true });
    }
    choices
}

/// Snapshots to choose from. Those of one time differ by their batches. (A name that is empty and none have one list.)
fn choices(snapshots: &[Snapshot], times: &Times, chosen: Option<i64>) -> Vec<Choice> {
    let name = |snapshot: &Snapshot| {
        let text = times.moment(snapshot.as_of).text;
        let has_twin = snapshots.iter().filter(|other| other.as_of == snapshot.as_of).count() > 1;
        if has_twin { format!("{text}, batch {}", snapshot.batch_id) } else { text }
    };
    let choice = |snapshot: &Snapshot| Choice {
        value: snapshot.batch_id.to_string(),
        name: Name { text: name(snapshot), title: String::new() },
        is_chosen: chosen == Some(snapshot.batch_id),
    };
    snapshots.iter().map(choice).collect()
}

/// Nothing but memory could be missing.
fn rendered(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| format!("<p>{error}</p>"))
}
