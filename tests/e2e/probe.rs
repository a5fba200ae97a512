//! A client of `--http`: what a probe and Prometheus ask. (Shared with the fault tests.)

use crate::slowness::Deadline;
use crate::world::{Daemon, PATIENCE};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The flag that lets a program choose a free port.
pub const ANY_PORT: [&str; 2] = ["--http", "127.0.0.1:0"];

/// How long an answer may take at most.
const ANSWER: Duration = Duration::from_secs(10);

/// Where a program listens.
#[derive(Clone, Debug)]
pub struct Probe(String);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

impl Probe {
    /// That of a program that was started with [`ANY_PORT`].
    pub fn of(daemon: &Daemon) -> Self {
        daemon.wait_until_it_says("answering over http");
        Self::said(daemon).unwrap()
    }

    /// The same, if it has said so by now.
    pub fn said(daemon: &Daemon) -> Option<Self> {
        Self::in_lines(&daemon.said())
    }

    /// The same by the lines of the program.
    pub fn in_lines(said: &str) -> Option<Self> {
        let line = said.lines().find(|line| line.contains("answering over http"))?;
        Some(Self(line.split("address=").nth(1)?.trim().to_owned()))
    }

    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.0)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&self.request(path)).unwrap()
    }

    fn request(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.0)
    }

    /// Sends a request as it stands.
    pub fn ask(&self, request: &str) -> std::io::Result<Answer> {
        let mut stream = self.connect()?;
        // The server may answer, and close, before it has read everything.
        let sent = stream.write_all(request.as_bytes());
        let mut text = String::new();
        if let Err(error) = stream.read_to_string(&mut text).and(sent)
            && text.is_empty()
        {
            return Err(error);
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| std::io::Error::other(format!("no answer: {text:?}")))?;
        Ok(Answer { code, head: head.to_owned(), body: body.to_owned() })
    }

    /// The answer, if there is one soon. (A program may have ended, or be frozen.)
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        self.ask(&self.request(path)).ok()
    }

    /// The values of `/metrics`, by name with labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics");
        assert_eq!(answer.code, 200, "{}", answer.body);
        answer.metrics()
    }
}

impl Answer {
    /// The values of `/metrics`, by name with labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let lines = self.body.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }
}

impl Probe {
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").code == 200
    }

    /// Waits until `/readyz` has this code. Returns how long that took, and the body.
    pub fn wait_for_readyz(&self, code: u16) -> (Duration, String) {
        self.wait_until_readyz(|answer| answer.code == code)
    }

    /// The same for any condition.
    pub fn wait_until_readyz(&self, is_awaited: impl Fn(&Answer) -> bool) -> (Duration, String) {
        let (begun, deadline) = (Instant::now(), Deadline::of(PATIENCE));
        loop {
            let answer = self.get("/readyz");
            if is_awaited(&answer) {
                return (begun.elapsed(), answer.body);
            }
            assert!(!deadline.is_over(), "/readyz is not as awaited: {}", answer.body);
            sleep(Duration::from_millis(20));
        }
    }
}

/// The sum of a metric over all its labels.
pub fn sum(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    let is_of = |key: &str| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    metrics.iter().filter(|(key, _)| is_of(key)).map(|(_, value)| value).sum()
}
