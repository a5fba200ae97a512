//! Watches every reader of every fault over `--http`, in the way of a probe and of Prometheus:
//!
//! - no reader is ready while the only broker or the only Postgres that it knows is away for longer than 2 s;
//! - once a world has recovered, a reader of it is ready within 2 s;
//! - a reader that is at work answers;
//! - the counters of all readers of a world never exceed its tables.

use crate::load::Report;
use crate::postgres::address;
use crate::probe::{Probe, sum};
use crate::slowness::{self, Deadline};
use crate::world::{Watcher, World};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Within this time an outage's begin and end are told.
pub const TOLD: Duration = Duration::from_secs(2);
/// How often a reader is asked whether it is ready, and how often it is asked for its counters as well.
const EVERY: Duration = Duration::from_millis(200);
const SCRAPE_EVERY: u32 = 5;
/// A reader that has not answered so often, one time after the other, does not answer.
const UNANSWERED: u32 = 3;
/// The counters, and what the tables have of each. (Rows of `segments` may be retracted or expire; what `batches` says
/// of them stays.)
const TABLES: [(&str, &str); 3] = [
    ("rfm_batches_stored_total", "SELECT count(*) FROM batches"),
    ("rfm_customers_stored_total", "SELECT coalesce(sum(customers), 0) FROM batches"),
    ("rfm_dead_letters_total", "SELECT count(*) FROM dead_letters"),
];

/// The world in which `rescore` makes batches of three dead letters each, and which batches those are: the readers
/// refuse what is larger.
const RESCORED: (&str, &str) = ("rescore", "customers > 50");

pub const WATCHER: Watcher = Watcher { reader, server };

/// A reader that is watched.
struct Watched {
    /// The group, which has the name of its world.
    group: String,
    /// The servers that it needs, as `host:port`; of several brokers or hosts none.
    needs: Vec<String>,
    pid: u32,
    lines: Arc<Mutex<Vec<String>>>,
    /// The counters that it showed last.
    counters: Mutex<BTreeMap<String, f64>>,
}

/// All readers so far.
static READERS: Mutex<Vec<Arc<Watched>>> = Mutex::new(Vec::new());
/// The servers that are away, and since when.
static AWAY: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
/// What was wrong, with the group.
static WRONG: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
/// How often a reader was asked while a server was away for long.
static ASKED: Mutex<u64> = Mutex::new(0);

fn reader(command: &Command, pid: u32, lines: Arc<Mutex<Vec<String>>>) {
    let arguments: Vec<String> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let last = |flag: &str| {
        let place = arguments.iter().rposition(|argument| argument == flag)?;
        arguments.get(place + 1).cloned()
    };
    let variable = command.get_envs().find(|(name, _)| *name == "DATABASE_URL");
    let variable = variable.and_then(|(_, value)| Some(value?.to_string_lossy().into_owned()));
    let url = last("--database-url").or(variable).unwrap();
    let needs = [last("--bootstrap-servers").unwrap(), address(&url).to_owned()];
    let needs = needs.into_iter().filter(|servers| !servers.contains(',')).collect();
    let group = last("--group-id").unwrap();
    let watched = Arc::new(Watched { group, needs, pid, lines, counters: Mutex::default() });
    READERS.lock().unwrap().push(Arc::clone(&watched));
    thread::spawn(move || watched.watch());
}

fn server(server: &str, is_away: bool) {
    let server = if server.contains('@') { address(server) } else { server };
    let mut away = AWAY.lock().unwrap();
    if is_away {
        away.insert(server.to_owned(), Instant::now());
    } else {
        away.remove(server);
    }
}

impl Watched {
    fn watch(&self) {
        let (mut at_work, mut unanswered) = (None, 0);
        for round in 0.. {
            sleep(EVERY);
            if !Path::new(&format!("/proc/{}/exe", self.pid)).exists() {
                return;
            }
            let Some(probe) = self.probe() else { continue };
            // One that wakes up needs a moment to notice what has happened meanwhile.
            at_work = if self.is_at_work() { at_work.or_else(|| Some(Instant::now())) } else { None };
            if at_work.is_some_and(|since| since.elapsed() >= slowness::allowed(TOLD, TOLD)) {
                self.check_readiness(&probe);
            }
            if round % SCRAPE_EVERY != 0 {
                continue;
            }
            unanswered = match probe.try_get("/metrics") {
                Some(answer) => {
                    *self.counters.lock().unwrap() = answer.metrics();
                    0
                }
                // It may have been frozen, or have ended, since it was asked.
                None if at_work.is_some() && self.is_at_work() => unanswered + 1,
                None => 0,
            };
            if unanswered == UNANSWERED {
                self.is_wrong("does not answer over --http".to_owned());
            }
        }
    }

    fn is_wrong(&self, what: String) {
        eprintln!("{}: process {}: {what}", self.group, self.pid);
        WRONG.lock().unwrap().push((self.group.clone(), what));
    }

    fn probe(&self) -> Option<Probe> {
        Probe::in_lines(&self.lines.lock().unwrap().join("\n"))
    }

    /// Whether it is running, and not frozen.
    fn is_at_work(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('R' | 'S' | 'D'))
    }

    /// The server that it needs and that has been away for longest.
    fn misses(&self) -> Option<(String, Instant)> {
        let away = AWAY.lock().unwrap();
        let missing = self.needs.iter().filter_map(|server| Some((server.clone(), *away.get(server)?)));
        missing.min_by_key(|(_, since)| *since)
    }

    fn check_readiness(&self, probe: &Probe) {
        let Some((server, since)) = self.misses() else { return };
        let away = since.elapsed();
        if away < slowness::allowed(TOLD, away) {
            return;
        }
        let Some(answer) = probe.try_get("/readyz") else { return };
        // It may have come back meanwhile.
        if self.misses() != Some((server.clone(), since)) {
            return;
        }
        *ASKED.lock().unwrap() += 1;
        if answer.code == 200 {
            self.is_wrong(format!("ready although {server} has been away for {away:.1?}"));
        }
    }
}

fn of_world(world: &World) -> Vec<Arc<Watched>> {
    let readers = READERS.lock().unwrap();
    readers.iter().filter(|reader| reader.group == world.name).cloned().collect()
}

/// Checks that a reader of a world that has recovered says so in time.
pub fn recovered(world: &World, told: Duration) {
    let (deadline, begun) = (Deadline::of(told), Instant::now());
    let mut said = String::new();
    let mut is_ready = |reader: &Arc<Watched>| {
        let answer = reader.probe().and_then(|probe| probe.try_get("/readyz"));
        answer.is_some_and(|answer| {
            said.clone_from(&answer.body);
            answer.code == 200
        })
    };
    loop {
        let mut readers = of_world(world);
        readers.retain(|reader| reader.is_at_work());
        // One that has ended meanwhile cannot answer.
        if readers.is_empty() || readers.iter().any(&mut is_ready) {
            return;
        }
        if deadline.is_over() {
            let what = format!("no reader is ready {:.1?} after the recovery: {said}", begun.elapsed());
            WRONG.lock().unwrap().push((world.name.clone(), what));
            return;
        }
        sleep(Duration::from_millis(50));
    }
}

/// What the readers of a world have counted so far does not count: it will be deleted.
pub fn forget(world: &World) {
    READERS.lock().unwrap().retain(|reader| reader.group != world.name);
}

/// Checks what the readers of a world have shown. Notes the batches that they have counted and that the tables do
/// not have: as many as Postgres may have forgotten.
pub fn judge(world: &World, report: &mut Report) {
    let wrong: Vec<String> = {
        let wrong = WRONG.lock().unwrap();
        wrong.iter().filter(|(group, _)| *group == world.name).map(|(_, what)| what.clone()).collect()
    };
    assert!(wrong.is_empty(), "{}: {wrong:?}", world.name);
    let mut excess = TABLES.map(|(name, query)| {
        let counted: f64 =
            of_world(world).iter().map(|reader| sum(&reader.counters.lock().unwrap(), name)).sum();
        counted - world.number(query).unwrap() as f64
    });
    if world.name.starts_with(RESCORED.0) {
        let rescored = |what| world.number(&format!("SELECT {what} FROM batches WHERE {}", RESCORED.1));
        let [batches, customers] =
            ["count(*)", "coalesce(sum(customers), 0)"].map(|what| rescored(what).unwrap() as f64);
        // No reader has counted them, but their letters.
        excess = [excess[0] + batches, excess[1] + customers, excess[2] - 3.0 * batches];
    }
    let [batches, customers, letters] = excess;
    report.overcounted += batches.max(0.0) as i64;
    if batches <= 0.0 && (customers > 0.0 || letters > 0.0) {
        report.overcounted += 1;
        eprintln!("{}: counted too much: {excess:?}", world.name);
    }
}

/// What was watched, for the report.
pub fn summary() -> String {
    let readers = READERS.lock().unwrap();
    let batches: f64 =
        readers.iter().map(|reader| sum(&reader.counters.lock().unwrap(), "rfm_batches_stored_total")).sum();
    format!(
        "{} readers watched over --http: {batches} batches counted, none of them wrongly ready in {} answers during outages",
        readers.len(),
        ASKED.lock().unwrap()
    )
}
