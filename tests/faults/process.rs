//! What a process uses, from /proc.

use crate::world::Daemon;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Memory, descriptors, threads and processor time of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Resident memory in bytes.
    pub rss: u64,
    pub descriptors: u64,
    pub threads: u64,
    /// User and system time since its start.
    pub cpu: Duration,
}

/// Clock ticks per second of /proc: 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

impl Sample {
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // Only what is behind the name, which may contain anything. State is field 3, utime 14, stime 15.
        let behind = stat.rsplit_once(')').unwrap().1;
        let ticks =
            behind.split_whitespace().skip(11).take(2).map(|n| n.parse::<u32>().unwrap()).sum::<u32>();
        Self {
            rss: number("VmRSS:") * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64,
            threads: number("Threads:"),
            cpu: TICK * ticks,
        }
    }

    /// A sample every second, for `seconds`.
    pub fn every_second(program: &Daemon, seconds: u64) -> Vec<Self> {
        (0..seconds)
            .map(|_| {
                sleep(Duration::from_secs(1));
                Self::of(program.pid())
            })
            .collect()
    }
}

/// The least and the greatest.
pub fn range(values: impl Iterator<Item = u64>) -> (u64, u64) {
    values.fold((u64::MAX, 0), |(least, greatest), value| (least.min(value), greatest.max(value)))
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
