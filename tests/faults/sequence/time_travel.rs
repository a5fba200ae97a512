//! Acts after which Postgres has lost what it had confirmed.

use super::Episode;
use crate::postgres::{address, through};
use crate::replicas::{port, standby_of, stop_receiver};
use crate::restore;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::Duration;

impl Episode<'_> {
    /// A dump is made; after some work, it is restored.
    pub fn restore(&self, random: &mut StdRng) {
        let directory = tempfile::tempdir().unwrap();
        let (url, dump) = (&self.load.world.database_url, directory.path().join("dump"));
        restore::dump(url, &dump);
        sleep(Duration::from_millis(random.random_range(0..1_500)));
        restore::restore(url, &dump);
    }

    /// A standby lags, the primary dies, and the standby takes its place behind the proxy.
    pub fn fail_over(&mut self, random: &mut StdRng) {
        let standby = standby_of(&self.servers.postgres, &[]);
        stop_receiver(&standby);
        sleep(Duration::from_millis(random.random_range(0..1_500)));
        self.servers.postgres.run("kill");
        standby.run("promote");
        self.servers.proxy.switch(address(&standby.address));
        let world = &mut self.load.world;
        world.database_url = through(&world.database_url, port(&standby.address));
        // The old server is deleted.
        self.servers.postgres = standby;
    }
}
