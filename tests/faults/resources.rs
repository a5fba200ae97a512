//! What the reader uses while Postgres is away: memory and processor time.

use crate::load::{Load, RECOVERY, Report};
use crate::process::{Sample, mebibytes, range};
use crate::world::{Server, World};
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::Duration;

/// How long Postgres is away.
const AWAY: Duration = Duration::from_secs(300);

/// Postgres is away for 5 minutes while batches keep coming.
pub fn postgres_away(times: u32, _: &mut StdRng) -> Report {
    let postgres = Server::postgres();
    let mut world = World::new("away", 2);
    world.database_url = postgres.address.clone();
    let mut load = Load::start_with(world, &["--interval", "50ms"]);
    let mut reader = load.world.reader(&[]);
    load.runs();
    let mut notes = Vec::new();
    for _ in 0..times {
        let (_, before) = range(Sample::every_second(&reader, 10).iter().map(|sample| sample.rss));
        postgres.run("stop");
        sleep(Duration::from_secs(1));
        let begun = Sample::of(reader.pid());
        let during = Sample::every_second(&reader, AWAY.as_secs());
        let busy = (during[during.len() - 1].cpu - begun.cpu).as_secs_f64() / AWAY.as_secs_f64();
        let (_, most) = range(during.iter().map(|sample| sample.rss));
        postgres.run("start");
        load.recovers_within(RECOVERY);
        let (before, most, busy) = (mebibytes(before), mebibytes(most), 100.0 * busy);
        notes.push(format!(
            "memory {before:.1} MiB before, at most {most:.1} MiB during it; {busy:.1} % of a core"
        ));
        assert!(most <= 1.1 * before && busy < 5.0, "{notes:?}");
    }
    reader.stop();
    Report { note: Some(notes.join("; ")), ..load.finish(times) }
}
