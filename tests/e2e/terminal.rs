//! What the programs show on a terminal: log lines, and a bar while they do work that has an end.

use crate::kafka::Plain;
use crate::slowness;
use crate::world::World;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a command writes to a terminal.
fn on_a_terminal(command: &Command, code: i32) -> String {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let patience = slowness::allowed(Duration::from_secs(120), Duration::ZERO).as_secs().to_string();
    let script = ["script", "--quiet", "--return", "--log-out", "/dev/null", "--command"];
    let mut terminal = Command::new("timeout");
    terminal.arg(patience).args(script).arg(words.join(" ")).envs(variables).env("TERM", "xterm");
    let output = terminal.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{shown}");
    shown
}

#[test]
fn a_bar_shows_how_much_is_sent_and_leaves_the_log_lines_whole() {
    let world = World::new("bar", 1);
    let mut command = world.producer_command();
    command.args(["--batches", "12", "--interval", "50ms"]);
    let shown = on_a_terminal(&command, 0);
    assert!(shown.contains("12 batches, ") && shown.contains(" left"), "{shown}");
    let rates = shown.split(['\r', '\n']).filter_map(|line| line.split_once("/s, ")?.0.rsplit(' ').next());
    let rates: Vec<&str> = rates.collect();
    assert!(!rates.is_empty() && rates.iter().all(|rate| !rate.contains('.')), "whole numbers: {rates:?}");
    let lines = shown.split(['\r', '\n']).filter(|line| line.contains(" INFO") && line.contains("offsets"));
    assert_eq!(lines.filter(|line| line.contains("ms") && line.contains("key")).count(), 12, "{shown}");
    let mut command = world.reader_command();
    command.args(["--until-caught-up", "--pairing-timeout", "2s"]);
    // It waits for this one's partners, so that there is time to draw.
    let plain = Plain::new(&world.kafka);
    plain.send(&world.topics[0], 0, Some(b"alone"), Some(br#"{"recency":[1]}"#));
    plain.flush();
    let shown = on_a_terminal(&command, 3);
    assert!(shown.contains(" messages, ") && shown.contains(" left"), "{shown}");
    assert!(shown.contains("caught up"), "{shown}");
    let mut elsewhere = world.producer(&["--batches", "1"]);
    elsewhere.succeeds();
    assert!(!elsewhere.said().contains('\u{1b}'), "no terminal: {}", elsewhere.said());
}
