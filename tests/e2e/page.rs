//! The page of a reader and its JSON: what they say is what the tables say, whatever the texts are and
//! whoever is away.

use crate::kafka::Plain;
use crate::probe::{ANY_PORT, Answer, Probe};
use crate::slowness::{self, Deadline};
use crate::world::{Daemon, Server, World, shared_kafka, wait_for};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::{Value, json};
use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A batch: key, `as_of`, population, and whether its customers have ids.
struct Sent<'a> {
    key: &'a str,
    as_of: &'a str,
    population: Option<&'a str>,
    ids: bool,
}

/// Sends a batch of so many customers to partition 0.
fn send(world: &World, sent: &Sent<'_>, customers: u64, shift: u64) {
    let plain = Plain::new(&world.kafka);
    for (place, metric) in ["recency", "frequency", "monetary"].into_iter().enumerate() {
        let values: Vec<u64> = (0..customers)
            .map(|i| (i * [7, 3, 11][place] + shift * (i % 5)) % [365, 40, 999][place])
            .collect();
        let mut body = json!({ metric: values, "as_of": sent.as_of });
        if let Some(population) = sent.population {
            body["population"] = json!(population);
        }
        if sent.ids && place == 0 {
            body["customer_id"] = (0..customers).map(|i| format!("secret-{}", i + shift)).collect();
        }
        plain.send(&world.topics[place], 0, Some(sent.key.as_bytes()), Some(body.to_string().as_bytes()));
    }
    plain.flush();
}

/// A batch of the first of a month of 2026.
fn month(world: &World, month: u64) {
    let as_of = format!("2026-{month:02}-01T00:00:00Z");
    send(world, &Sent { key: &as_of, as_of: &as_of, population: None, ids: true }, 200, month);
}

fn get(probe: &Probe, path: &str, code: u16) -> Value {
    let answer = probe.get(path);
    assert_eq!(answer.code, code, "{path}: {}", answer.body);
    assert!(answer.head.contains("application/json"), "{}", answer.head);
    serde_json::from_str(&answer.body).unwrap()
}

/// A query's answer as JSON, times as the page writes them.
fn rows(world: &World, query: &str) -> Value {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        json: String,
    }
    let query = format!("SELECT coalesce(json_agg(t), '[]')::text AS json FROM ({query}) t");
    let row: Row = diesel::sql_query(query).get_result(&mut world.connect()).unwrap();
    serde_json::from_str(&row.json).unwrap()
}

/// Whether two values are equal, numbers to 1e-12.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_equal(a, b)))
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
        }
        (a, b) => a == b,
    }
}

/// The segments of a batch, from its rows alone.
fn segments_of(batch: i64) -> String {
    format!(
        "SELECT segment, count(*) AS customers, count(*)::float8 / sum(count(*)) OVER () AS share,
            avg(recency) AS mean_recency, avg(frequency) AS mean_frequency, sum(monetary) AS monetary,
            sum(monetary) / sum(sum(monetary)) OVER () AS monetary_share
        FROM segments WHERE batch_id = {batch} GROUP BY segment ORDER BY segment COLLATE \"C\""
    )
}

/// The cells of a batch, from its rows alone.
fn cells_of(batch: i64) -> String {
    format!(
        "SELECT rf_score, segment, count(*) AS customers, avg(recency) AS mean_recency,
            avg(frequency) AS mean_frequency, avg(monetary) AS mean_monetary
        FROM segments WHERE batch_id = {batch} GROUP BY rf_score, segment ORDER BY rf_score"
    )
}

/// The objects of a list that have customers.
fn inhabited(list: &Value) -> Value {
    list.as_array().unwrap().iter().filter(|one| one["customers"] != 0).cloned().collect()
}

#[test]
fn the_json_is_what_the_rows_say() {
    let world = World::new("page_json", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    (1..=3).for_each(|number| month(&world, number));
    world.wait_for_batches(3);
    let list = &get(&probe, "/api/batches", 200)["batches"];
    let ids: Vec<i64> =
        list.as_array().unwrap().iter().map(|batch| batch["batch_id"].as_i64().unwrap()).collect();
    let view = "SELECT consumer_group, population, to_char(as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS as_of,
            batch_id, customers, expired, empty_quintiles, previous_batch_id
        FROM snapshots ORDER BY as_of DESC";
    let mut listed = list.clone();
    for batch in listed.as_array_mut().unwrap() {
        assert!(
            batch.as_object_mut().unwrap().remove("produced_at").unwrap().as_str().unwrap().ends_with('Z')
        );
    }
    assert_eq!(listed, rows(&world, view));
    for &id in &ids {
        let batch = get(&probe, &format!("/api/batches/{id}"), 200);
        let [segments, cells] = [segments_of(id), cells_of(id)].map(|query| rows(&world, &query));
        assert!(is_equal(&inhabited(&batch["segments"]), &segments), "{batch:#}\n{segments:#}");
        assert!(is_equal(&inhabited(&batch["grid"]), &cells), "{batch:#}\n{cells:#}");
        assert_eq!(batch["segments"].as_array().unwrap().len(), 10, "empty ones, too");
        assert_eq!(batch["grid"].as_array().unwrap().len(), 25);
        assert_eq!((&batch["customers"], &batch["ties"]), (&json!(200), &json!("share")));
    }
    let limited = get(&probe, "/api/batches?limit=1", 200);
    assert_eq!(limited["batches"], json!([list[0]]));
    assert_eq!(get(&probe, "/api/batches?population=nobody", 200), json!({ "batches": [] }));
    assert_eq!(get(&probe, "/api/batches?population=", 200)["batches"], *list);
}

#[test]
fn what_cannot_be_answered_is_json_that_says_why() {
    let world = World::new("page_wrong", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    let (key, as_of) = ("without ids", "2026-02-01T00:00:00Z");
    send(&world, &Sent { key, as_of, population: None, ids: false }, 10, 0);
    month(&world, 3);
    world.wait_for_batches(3);
    let id =
        |month| world.number(&format!("SELECT id FROM batches WHERE as_of = '2026-{month:02}-01Z'")).unwrap();
    let [whole, without_ids, retracted] = [1, 2, 3].map(id);
    world.command(&["retract", &retracted.to_string()]).succeeds();
    let moves = |from: i64, to: i64| format!("/api/moves?from={from}&to={to}");
    let cases = [
        ("/api/batches?limit=0".to_owned(), 400, "`limit` is not a number from 1 to 1000"),
        ("/api/moves?from=1".to_owned(), 400, "`from` and `to` are needed"),
        ("/api/moves?from=1&to=all".to_owned(), 400, "`to` is not the id of a batch"),
        ("/?batch=newest".to_owned(), 400, "`batch` is not the id of a batch"),
        ("/api/nothing".to_owned(), 404, "there are /api/batches"),
        ("/api/batches/9999".to_owned(), 404, "has no batch 9999"),
        (format!("/api/batches/{retracted}"), 404, "was retracted"),
        (moves(whole, 9999), 404, "has no batch 9999"),
        (moves(whole, retracted), 404, "was retracted"),
        (moves(without_ids, whole), 404, "have no ids"),
    ];
    for (path, code, words) in cases {
        let said = get(&probe, &path, code);
        assert!(said["error"].as_str().unwrap().contains(words), "{path}: {said}");
    }
    let page = probe.get(&format!("/?batch={retracted}"));
    assert_eq!(page.code, 404);
    assert!(
        page.body.contains("was retracted") && page.body.contains("id=\"segments\""),
        "the newest is shown"
    );
    for method in ["POST", "DELETE"] {
        let answer = probe.ask(&format!("{method} /api/batches HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
        assert_eq!(answer.code, 405, "{method}");
    }
}

#[test]
fn movements_are_told_as_soon_as_both_batches_are_there_and_no_longer() {
    let world = World::new("page_moves", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    world.wait_for_batches(1);
    let id =
        |month| world.number(&format!("SELECT id FROM batches WHERE as_of = '2026-{month:02}-01Z'")).unwrap();
    let first = id(1);
    // The ids of batches follow each other.
    let moves = |from: i64, to: i64| format!("/api/moves?from={from}&to={to}");
    let early = get(&probe, &moves(first, first + 1), 404);
    assert!(early["error"].as_str().unwrap().contains("has no batch"), "{early}");
    (2..=3).for_each(|number| month(&world, number));
    world.wait_for_batches(3);
    let (second, third) = (id(2), id(3));
    assert_eq!(second, first + 1);
    let comes = |path: &str, code: u16, words: &str| {
        wait_for(words, || {
            let answer = probe.get(path);
            (answer.code == code && answer.body.contains(words)).then_some(())
        });
    };
    comes(&moves(first, second), 200, "from_segment");
    comes(&moves(first, third), 200, "from_segment");
    comes(&moves(second, third), 200, "from_segment");
    world.command(&["retract", &second.to_string()]).succeeds();
    comes(&moves(first, second), 404, "was retracted");
    comes(&moves(second, third), 404, "was retracted");
    assert_eq!(probe.get(&moves(first, third)).code, 200, "both are there");
    let expire = format!("UPDATE batches SET expired_at = now() WHERE id = {third}");
    world.connect().batch_execute(&expire).unwrap();
    comes(&moves(first, third), 404, "taken away by --retain");
}

#[test]
fn only_an_earlier_snapshot_of_the_same_population_is_compared_with() {
    let world = World::new("page_since", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    for (number, population) in [(1, None), (2, None), (3, Some("shop")), (4, None)] {
        let as_of = format!("2026-{number:02}-01T00:00:00Z");
        send(&world, &Sent { key: &as_of, as_of: &as_of, population, ids: true }, 50, number);
    }
    world.wait_for_batches(4);
    let ids = [1, 2, 3, 4]
        .map(|month| world.number(&format!("SELECT id FROM batches WHERE as_of = '2026-{month:02}-01Z'")));
    let [first, second, shop, last] = ids.map(Option::unwrap);
    let page = probe.get(&format!("/?population=&batch={second}&since={first}"));
    assert!(page.code == 200 && page.body.contains("which was chosen below"), "{}", page.body);
    let wrong = [
        (second, last, "is no earlier snapshot"),
        (second, second, "is no earlier snapshot"),
        (last, shop, "is no earlier snapshot"),
        (second, 9999, "has no batch 9999"),
    ];
    for (batch, since, words) in wrong {
        let page = probe.get(&format!("/?batch={batch}&since={since}"));
        assert!(page.code == 404 && page.body.contains(words), "{batch} {since}: {}", page.body);
        assert!(page.body.contains("the snapshot before. Best segments first"), "{}", page.body);
        assert!(!page.body.contains("id=\"matrix\""), "{}", page.body);
    }
}

#[test]
fn snapshots_of_one_second_are_told_apart_wherever_they_are_listed() {
    let world = World::new("page_second", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    let times = ["2026-01-01T00:00:00Z", "2026-01-01T12:00:00.25Z", "2026-01-01T12:00:00.750001Z"];
    for (number, as_of) in times.into_iter().enumerate() {
        send(&world, &Sent { key: as_of, as_of, population: None, ids: true }, 50, number as u64);
    }
    // A name that is empty is listed with none.
    let twin = Sent { key: "twin", as_of: times[0], population: Some(""), ids: true };
    send(&world, &twin, 50, 7);
    world.wait_for_batches(4);
    let id = |condition: &str| world.number(&format!("SELECT id FROM batches WHERE {condition}")).unwrap();
    let twins = ["population = ''", "population IS NULL AND as_of = '2026-01-01Z'"].map(id);
    let page = probe.get("/?population=").body;
    let [of_empty, of_none] = twins.map(|id| format!("2026-01-01, batch {id}"));
    let late = ["2026-01-01 12:00:00.750 UTC", "2026-01-01 12:00:00.250 UTC"];
    assert_eq!(texts(&page, "batch")[1..], [late[0], late[1], &of_none, &of_empty], "{page}");
    assert_eq!(texts(&page, "since"), [late[1], &of_none, &of_empty]);
    let heading = format!("{}</time></h2>", late[0]);
    assert!(
        page.contains(&heading)
            && page
                .contains(&format!("Changes since <time datetime=\"2026-01-01T12:00:00.250Z\">{}", late[1])),
        "{page}"
    );
}

/// What people read in a list of the page.
fn texts(page: &str, list: &str) -> Vec<String> {
    let begin = page.split_once(&format!("<select id=\"{list}\"")).map_or("", |(_, rest)| rest);
    let list = begin.split_once("</select>").map_or("", |(list, _)| list);
    let text = |option: &str| Some(option.split_once('>')?.1.split_once("</option>")?.0.to_owned());
    list.split("<option ").skip(1).filter_map(text).collect()
}

#[test]
fn what_a_segment_means_is_told_by_the_map_in_use() {
    let world = World::new("page_meaning", 1);
    let reader = world.reader(&ANY_PORT);
    month(&world, 1);
    world.wait_for_batches(1);
    let meanings = |reader: &Daemon| {
        let page = Probe::of(reader).get("/").body;
        page.split_once("id=\"meanings\"").unwrap().1.split_once("</section>").unwrap().0.to_owned()
    };
    let built_in = meanings(&reader);
    for words in
        ["RF 54, 55<", "RF 11, 12, 21, 22<", "Bought most often of all, but long ago.", "into fifths"]
    {
        assert!(built_in.contains(words), "{words}: {built_in}");
    }
    assert_eq!(built_in.matches("<dt>").count(), 10);
    drop(reader);
    let mut map = tempfile::NamedTempFile::new().unwrap();
    writeln!(map, "1. champions\n.5 often\n.. others").unwrap();
    let reader = world.reader(&[&ANY_PORT[..], &["--segment-map", map.path().to_str().unwrap()]].concat());
    month(&world, 2);
    world.wait_for_batches(2);
    let own = meanings(&reader);
    for words in ["RF 25, 35, 45, 55<", "RF 11, 12, 13, 14, 15<"] {
        assert!(own.contains(words), "{words}: {own}");
    }
    assert!(own.matches("<dt>").count() == 3 && !own.contains("Bought"), "no sentence is of this map: {own}");
}

#[test]
fn without_ids_or_rows_the_page_offers_to_compare_segments_only_and_says_why() {
    let world = World::new("page_no_ids", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    for number in 1..=2 {
        let as_of = format!("2026-{number:02}-01T00:00:00Z");
        let sent = Sent { key: &as_of, as_of: &as_of, population: None, ids: false };
        send(&world, &sent, 50, number);
    }
    month(&world, 3);
    world.wait_for_batches(3);
    let id =
        |month| world.number(&format!("SELECT id FROM batches WHERE as_of = '2026-{month:02}-01Z'")).unwrap();
    let [first, second, third] = [1, 2, 3].map(id);
    let page = probe.get(&format!("/?batch={second}&since={first}"));
    assert_eq!(page.code, 200);
    for words in ["have no ids", "<code>customer_id</code>", "How have the segments changed since"] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert!(page.body.contains("which was chosen below"), "the segments are compared: {}", page.body);
    assert!(!page.body.contains("id=\"matrix\""), "{}", page.body);
    let with_ids = probe.get(&format!("/?batch={third}&since={second}")).body;
    assert!(with_ids.contains("and who went where, since"), "{with_ids}");
    assert!(
        with_ids.contains("id=\"matrix\"") && with_ids.contains("have no ids"),
        "the earlier ones: {with_ids}"
    );
    world.connect().batch_execute(&format!("DELETE FROM segments WHERE batch_id = {third}")).unwrap();
    let gone = probe.get(&format!("/?batch={third}")).body;
    assert!(
        gone.contains("The rows of this snapshot are gone") && !gone.contains("who went where, since"),
        "{gone}"
    );
}

#[test]
fn on_a_loopback_address_the_name_of_another_site_gets_nothing_but_health_and_metrics() {
    let world = World::new("page_host", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    let ask =
        |path: &str, host: &str| probe.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
    for path in ["/", "/page.js", "/page.css", "/api/batches", "/api/batches/1", "/api/moves?from=1&to=2"] {
        let refused = ask(path, "evil.example:80");
        assert_eq!(refused.code, 421, "{path}: {}", refused.body);
        assert!(refused.body.contains("localhost or an IP address only"), "{}", refused.body);
        assert_ne!(ask(path, "localhost:1").code, 421, "{path}");
        assert_ne!(ask(path, "[::1]:9187").code, 421, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_ne!(ask(path, "evil.example").code, 421, "{path}");
    }
    drop(reader);
    let reader = world.reader(&["--http", "0.0.0.0:0"]);
    let open = Probe::of(&reader);
    wait_for("a page for any name", || {
        let page = open.ask("GET / HTTP/1.1\r\nHost: reader.example\r\n\r\n").unwrap();
        (page.code == 200).then_some(())
    });
}

#[test]
fn nothing_but_the_files_of_the_reader_is_loaded_and_nobody_else_may_frame_it() {
    let world = World::new("page_policy", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    let policy = "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                  img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    for path in ["/", "/page.css", "/page.js", "/api/batches", "/api/batches/1", "/api/x"] {
        let head = probe.get(path).head.to_lowercase();
        for line in [
            policy,
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(head.contains(line), "{path}: {head}");
        }
    }
    let page = probe.get("/").body;
    for forbidden in ["style=", "<style", "onclick", "javascript:", "http://", "https://"] {
        let without_icon = page.replace("xmlns='http://www.w3.org/2000/svg'", "");
        assert!(!without_icon.contains(forbidden), "{forbidden}: {page}");
    }
    let script = probe.get("/page.js").body;
    assert!(script.len() < 20 * 1024 && probe.get("/page.css").body.len() < 20 * 1024);
    assert!(
        !probe.get("/readyz").head.to_lowercase().contains("content-security-policy"),
        "probes are as they were"
    );
}

#[test]
fn without_a_snapshot_the_page_says_what_comes_next_and_then_shows_the_first() {
    let world = World::new("page_empty", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    let page = wait_for("a page", || Some(probe.get("/")).filter(|page| page.code == 200)).body;
    assert!(page.contains("There is no snapshot yet") && page.contains("producer --batches 1"), "{page}");
    assert!(page.contains("<strong>Ready</strong>"), "{page}");
    assert_eq!(get(&probe, "/api/batches", 200), json!({ "batches": [] }));
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    wait_for("the first snapshot", || probe.get("/").body.contains("id=\"segments\"").then_some(()));
}

/// What the page has seen: the tag of its figures.
fn seen(page: &str) -> &str {
    page.split_once("data-seen=\"").unwrap().1.split_once('"').unwrap().0
}

#[test]
fn a_browser_that_asks_again_gets_the_figures_only_if_they_have_changed_and_within_two_seconds() {
    let world = World::new("page_live", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    world.wait_for_batches(1);
    let mut tag = wait_for("the first snapshot", || {
        let page = probe.get("/").body;
        page.contains("id=\"segments\"").then(|| seen(&page).to_owned())
    });
    for number in 2..=4 {
        let again = probe.get(&format!("/?seen={tag}")).body;
        assert!(!again.contains("id=\"segments\"") && again.contains("id=\"reader\""), "nothing has changed");
        assert_eq!(seen(&again), tag);
        month(&world, number);
        world.wait_for_batches(number as i64);
        let (begun, deadline) = (Instant::now(), Deadline::of(Duration::from_secs(30)));
        tag = loop {
            let page = probe.get(&format!("/?seen={tag}")).body;
            if page.contains(&format!(
                "datetime=\"2026-{number:02}-01T00:00:00Z\">2026-{number:02}-01</time></h2>"
            )) {
                break seen(&page).to_owned();
            }
            assert!(!deadline.is_over(), "the snapshot does not appear: {page}");
            // As often as the page's script.
            sleep(Duration::from_millis(500));
        };
        slowness::in_time("a new snapshot on the page", begun.elapsed(), Duration::from_secs(2));
    }
}

#[test]
fn any_text_is_text_and_no_answer_has_the_id_of_a_customer() {
    let world = World::new("page_texts", 1);
    let long = "long \u{1f600}".repeat(10_000 / 6);
    let names = [
        "<script>alert(1)</script>",
        "\"quotes' & <b>&amp;",
        "\u{202e}right to left \u{5d0}\u{5d1}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} emoji",
        &long,
        "a=b&population=x#y?z%41+",
    ];
    let mut map = tempfile::NamedTempFile::new().unwrap();
    let segment = "<img src=x onerror=alert(1)>\u{202e}\"'";
    writeln!(map, "[1-4]. {segment}\n5. {}", "best".repeat(2_500)).unwrap();
    let reader = world.reader(&[&ANY_PORT[..], &["--segment-map", map.path().to_str().unwrap()]].concat());
    let probe = Probe::of(&reader);
    for (number, name) in names.iter().enumerate() {
        let (key, as_of) = (format!("key <{number}>"), "2026-01-01T00:00:00Z");
        send(&world, &Sent { key: &key, as_of, population: Some(name), ids: true }, 50, number as u64);
    }
    world.wait_for_batches(names.len() as i64);
    let list = get(&probe, "/api/batches", 200);
    let populations: Vec<&str> = list["batches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|batch| batch["population"].as_str().unwrap())
        .collect();
    for name in names {
        assert!(populations.contains(&name), "{name}");
    }
    let page = probe.get("/").body;
    for value in values(&page, "population") {
        let query: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let page = probe.get(&format!("/?population={query}"));
        assert_eq!(page.code, 200, "{value}");
        assert!(page.body.contains("id=\"segments\""), "{value} has figures: {}", page.body);
        for raw in ["<script>alert", "<img", "<b>", "\"quotes'"] {
            assert!(!page.body.contains(raw), "{raw}: {}", page.body);
        }
        assert!(!page.body.contains("secret-"), "{value}: a customer's id");
        assert!(page.body.len() < 100_000, "{value}: {} bytes", page.body.len());
    }
    assert_eq!(values(&page, "population").len(), names.len());
    for batch in list["batches"].as_array().unwrap() {
        let batch = get(&probe, &format!("/api/batches/{}", batch["batch_id"]), 200);
        assert!(batch["segments"][0]["segment"].as_str().unwrap() == segment, "{batch}");
        assert!(!batch.to_string().contains("secret-"));
    }
}

/// What can be chosen in a list of the page.
fn values(page: &str, list: &str) -> Vec<String> {
    let begin = page.split_once(&format!("<select id=\"{list}\"")).map_or("", |(_, rest)| rest);
    let list = begin.split_once("</select>").map_or("", |(list, _)| list);
    let values = list.split("<option value=\"").skip(1).map(|option| option.split_once('"').unwrap().0);
    let unescape = |text: &str| {
        [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")]
            .iter()
            .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
    };
    values.map(unescape).collect()
}

#[test]
fn a_page_without_postgres_says_so_in_time_keeps_its_figures_and_comes_back() {
    let postgres = Server::postgres();
    let world = World::on("page_away", &shared_kafka(), &postgres.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    world.wait_for_batches(1);
    wait_for("the figures", || probe.get("/").body.contains("id=\"segments\"").then_some(()));
    for (begin, end) in [("kill", "start"), ("STOP", "CONT")] {
        let is = |what: &str| match what {
            "STOP" | "CONT" => postgres.run_with("signal", &[what]),
            what => postgres.run(what),
        };
        is(begin);
        let page = asked_until(&probe, |page| page.body.contains("cannot ask the database"));
        assert!(
            page.code == 200 && page.body.contains("id=\"segments\""),
            "the figures of before: {}",
            page.body
        );
        asked_until(&probe, |page| {
            let age = page.body.split_once("The figures below are those of ");
            age.is_some_and(|(_, age)| {
                age.starts_with(|c: char| c.is_ascii_digit()) && age[8..].starts_with(" UTC.")
            })
        });
        let other = probe.get("/api/batches?limit=7");
        assert_eq!(other.code, 503, "{}", other.body);
        let asked = Instant::now();
        assert_eq!(probe.get("/livez").code, 200);
        slowness::in_time("an answer to a probe", asked.elapsed(), Duration::from_millis(500));
        is(end);
        let back = asked_until(&probe, |page| !page.body.contains("cannot ask the database"));
        assert_eq!(back.code, 200);
        assert_eq!(get(&probe, "/api/batches?limit=7", 200)["batches"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn json_of_before_says_how_old_it_is_while_postgres_is_slow() {
    let postgres = Server::postgres();
    let world = World::on("page_age", &shared_kafka(), &postgres.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    world.wait_for_batches(1);
    // In seconds.
    let age = |answer: &Answer| -> Option<u64> {
        let head = answer.head.to_lowercase();
        Some(head.split_once("\r\nage: ")?.1.split("\r\n").next()?.parse().expect("a number of seconds"))
    };
    let begun = Instant::now();
    let fresh =
        wait_for("the batch", || Some(probe.get("/api/batches")).filter(|list| list.body.contains("2026")));
    assert_eq!((fresh.code, age(&fresh)), (200, None), "{}", fresh.head);
    postgres.run_with("signal", &["STOP"]);
    let old = wait_for("an answer of before", || {
        let answer = probe.get("/api/batches");
        (answer.code == 200 && age(&answer).is_some()).then_some(answer)
    });
    let limit = begun.elapsed().as_secs() + 1;
    assert!((2..=limit).contains(&age(&old).unwrap()), "{} after {limit} s", old.head);
    assert_eq!(old.body, fresh.body, "its fields are those of always");
    postgres.run_with("signal", &["CONT"]);
    wait_for("an answer of now", || {
        let answer = probe.get("/api/batches");
        (answer.code == 200 && age(&answer).is_none()).then_some(())
    });
}

/// Asks for the page as its script does until it is as awaited.
fn asked_until(probe: &Probe, is_awaited: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Deadline::of(Duration::from_secs(30));
    loop {
        let (asked, page) = (Instant::now(), probe.get("/"));
        slowness::in_time("an answer of the page", asked.elapsed(), Duration::from_secs(3));
        if is_awaited(&page) {
            deadline.met("the page");
            return page;
        }
        assert!(!deadline.is_over(), "{}", page.body);
        sleep(Duration::from_millis(300));
    }
}

#[test]
fn the_connection_of_the_page_only_reads_and_is_closed_when_nobody_looks() {
    let world = World::new("page_connection", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    probe.wait_for_readyz(200);
    let count = || {
        world.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    };
    // The owner, the two that commit, and the one for upkeep come with the session.
    let without = wait_for("the connections of the session", || count().filter(|&count| count >= 3));
    sleep(Duration::from_secs(1));
    let without = count().unwrap().max(without);
    (0..200).for_each(|_| assert_eq!(probe.get("/").code, 200));
    assert_eq!(count(), Some(without + 1), "one for all browsers");
    let transactions =
        || world.number("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()");
    let before = transactions().unwrap();
    (0..500).for_each(|_| assert_eq!(probe.get("/").code, 200));
    let asked = transactions().unwrap() - before;
    eprintln!("500 pages: {asked} transactions of everybody");
    assert!(asked < 250, "{asked}: not one for each page");
    let deadline = Deadline::of(Duration::from_secs(150));
    while count() != Some(without) {
        assert!(!deadline.is_over(), "the connection stays, although nobody looks");
        sleep(Duration::from_millis(500));
    }
}

#[test]
fn the_connection_of_the_page_cannot_write() {
    let world = World::new("page_writes", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    (1..=2).for_each(|number| month(&world, number));
    world.wait_for_batches(2);
    let attempt = "CREATE OR REPLACE FUNCTION segment_moves(from_batch bigint, to_batch bigint)
            RETURNS TABLE (from_segment text, to_segment text, customers bigint) LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE batches SET customers = 0;
        END $$";
    world.connect().batch_execute(attempt).unwrap();
    let ids = rows(&world, "SELECT id FROM batches ORDER BY id");
    let said = get(&probe, &format!("/api/moves?from={}&to={}", ids[0]["id"], ids[1]["id"]), 503);
    assert!(said["error"].as_str().unwrap().contains("postgres only reads"), "{said}");
}

/// Copies the batches of the database so often, with other values of these columns; `i` is the number of the copy.
fn copy(world: &World, others: &[(&str, &str)], copies: u32) {
    let columns = "consumer_group, partition, recency_offset, frequency_offset, monetary_offset, batch_key, population, \
                   as_of, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges, stored_at, \
                   produced_at, edges_from, fixed_metrics, rf_customers, rf_recency, rf_frequency, rf_monetary";
    let moved = |column| match column {
        "recency_offset" | "frequency_offset" | "monetary_offset" => "1000000 + i",
        "partition" => "7",
        _ => others.iter().find(|(name, _)| *name == column).map_or(column, |(_, value)| value),
    };
    let copied: Vec<&str> = columns.split(", ").map(moved).collect();
    let query = format!(
        "INSERT INTO batches (id, {columns}) SELECT -i, {} FROM batches, generate_series(1, {copies}) AS i;
         ANALYZE batches",
        copied.join(", ")
    );
    world.connect().batch_execute(&query).unwrap();
}

#[test]
fn a_population_with_100_000_snapshots_is_shown_as_fast_as_one_with_a_few() {
    let world = World::new("page_many", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    world.wait_for_batches(1);
    copy(&world, &[("as_of", "as_of - i * interval '1 hour'")], 100_000);
    let newest = get(&probe, "/api/batches?limit=1", 200)["batches"][0]["batch_id"].clone();
    for path in [
        "/?x".to_owned(),
        "/api/batches".to_owned(),
        "/?batch=-50000".to_owned(),
        format!("/?batch={newest}"),
    ] {
        let asked = Instant::now();
        let answer = probe.get(&path);
        let took = asked.elapsed();
        eprintln!("{path} took {took:.0?}");
        assert_eq!(answer.code, 200, "{}", answer.body);
        slowness::in_time(&path, took, Duration::from_secs(1));
    }
    let page = probe.get("/?batch=-50000").body;
    assert_eq!(values(&page, "batch").len(), 61, "sixty, and the newest");
    assert!(page.contains("Older ones") && page.contains("Back to the newest"));
}

#[test]
fn a_population_with_one_snapshot_is_shown_as_fast_beside_one_with_200_000() {
    let world = World::new("page_few", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    let as_of = "2026-01-01T00:00:00Z";
    send(&world, &Sent { key: "few", as_of, population: None, ids: false }, 50, 1);
    world.wait_for_batches(1);
    copy(
        &world,
        &[("population", "'many'"), ("as_of", "as_of + (i - 100000) * interval '1 second'")],
        200_000,
    );
    let few = world.number("SELECT id FROM batches WHERE population IS NULL").unwrap();
    let paths =
        ["/?population=", "/api/batches?population=", "/api/batches?population=nobody", "/?population=many"];
    for path in paths.map(str::to_owned).into_iter().chain([format!("/?batch={few}")]) {
        let (asked, answer) = (Instant::now(), probe.get(&path));
        let took = asked.elapsed();
        eprintln!("{path} took {took:.0?}");
        assert_eq!(answer.code, 200, "{}", answer.body);
        // (All populations are looked for with the first page.)
        slowness::in_time(&path, took, Duration::from_millis(1500));
    }
    assert_eq!(get(&probe, "/api/batches?population=", 200)["batches"].as_array().unwrap().len(), 1);
}

#[test]
fn the_list_is_the_view_whichever_batch_counts_and_wherever_edges_are_from() {
    let world = World::new("page_list", 1);
    let reader = world.reader(&ANY_PORT);
    let probe = Probe::of(&reader);
    month(&world, 1);
    world.wait_for_batches(1);
    let others = [
        ("as_of", "as_of + (i * 7 % 9) * interval '1 day'"),
        ("batch_key", "CASE WHEN i % 4 > 0 THEN 'key ' || i % 13 END"),
        ("produced_at", "CASE WHEN i % 5 > 0 THEN timestamptz '2026-01-01' + (i % 3) * interval '1 s' END"),
        ("population", "(ARRAY[NULL, '', 'shop', 'sha256:x', repeat('long', 100)])[1 + i * 3 % 5]"),
        ("edges_from", "(ARRAY['quintiles', 'batch:7', repeat('a', 64), NULL])[1 + i % 4]"),
        (
            "fixed_metrics",
            "CASE WHEN i % 3 = 0 THEN ARRAY['recency'] WHEN i % 3 = 1 THEN ARRAY['monetary', 'recency'] END",
        ),
        ("recency_edges", "ARRAY[0, 0, 1, i % 2, 2, 2]"),
        ("monetary_edges", "ARRAY[0, 0, 0, 0, i % 2, 2]"),
    ];
    copy(&world, &others, 300);
    world.connect().batch_execute("UPDATE batches SET retracted_at = now() WHERE id % 17 = 0").unwrap();
    let of = |condition: &str| {
        let query = format!(
            "SELECT batch_id, population, empty_quintiles, previous_batch_id, customers FROM snapshots
            WHERE {condition} ORDER BY as_of DESC, population DESC"
        );
        rows(&world, &query)
    };
    let listed = |path: &str| {
        let list = get(&probe, path, 200)["batches"].clone();
        let names = ["batch_id", "population", "empty_quintiles", "previous_batch_id", "customers"];
        let one = |batch: &Value| -> Value {
            names.into_iter().map(|name| (name.to_owned(), batch[name].clone())).collect()
        };
        list.as_array().unwrap().iter().map(one).collect::<Value>()
    };
    let all = of("true");
    assert!(all.as_array().unwrap().iter().any(|row| row["empty_quintiles"].is_null()), "{all:#}");
    assert_eq!(listed("/api/batches?limit=1000"), all);
    assert_eq!(listed("/api/batches?population="), of("coalesce(population, '') = ''"));
    assert_eq!(listed("/api/batches?population=shop"), of("population = 'shop'"));
    assert_eq!(listed("/api/batches?population=sha256%3Ax"), of("population = 'sha256:x'"));
    let long = of("length(population) = 400");
    assert!(!long.as_array().unwrap().is_empty());
    let page = probe.get("/").body;
    let named = values(&page, "population").into_iter().find(|name| name.len() > 70).expect("a long name");
    assert_eq!(listed(&format!("/api/batches?population={}", named.replace(':', "%3A"))), long);
}
