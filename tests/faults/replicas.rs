//! Two Postgres servers, one of which follows the other, and the way in which a reader reaches them.
//!
//! A failover kills the primary and promotes the standby; `follow` makes a new standby at the address of the
//! dead server, so that the reader's URL stays right.

use crate::kafka::create_topics;
use crate::postgres::{address, through};
use crate::world::{Server, World, connect, shared_kafka, wait_for};
use diesel::connection::SimpleConnection;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// How a reader reaches the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// A URL of both servers. libpq takes the one that accepts writes or (`false`) any that answers.
    BothHosts(bool),
    /// `HAProxy` asks the servers which of them is the primary.
    HaProxy,
    PgBouncer(Pooling, Behind),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pooling {
    Session,
    Transaction,
}

/// The version of `PgBouncer`, and how it reaches the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behind {
    /// 1.24 or newer. After a failover its target is changed.
    NewReloaded,
    /// The one installed here (Debian 12: 1.18), with `HAProxy` behind it: its target stays the same.
    InstalledBeforeHaProxy,
    /// The same two, the other way round.
    InstalledReloaded,
    NewBeforeHaProxy,
}

impl Behind {
    pub const ALL: [Self; 4] =
        [Self::NewReloaded, Self::InstalledBeforeHaProxy, Self::NewBeforeHaProxy, Self::InstalledReloaded];

    fn is_new(self) -> bool {
        matches!(self, Self::NewReloaded | Self::NewBeforeHaProxy)
    }

    fn is_reloaded(self) -> bool {
        matches!(self, Self::NewReloaded | Self::InstalledReloaded)
    }
}

/// How a standby lags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lag {
    /// It receives nothing any more, so what is committed from here on is lost when it is promoted.
    Receiver,
    /// It receives but does not replay. Its promotion replays what it has received.
    Replay,
}

impl Lag {
    pub fn drawn(random: &mut StdRng) -> Self {
        if random.random_bool(0.7) { Self::Receiver } else { Self::Replay }
    }
}

pub struct Cluster {
    pub primary: Server,
    pub standby: Server,
    pooler: Option<Server>,
    haproxy: Option<Server>,
    way: Way,
}

impl Cluster {
    pub fn start(way: Way) -> Self {
        let primary = Server::postgres();
        let standby = standby_of(&primary, &[]);
        let mut cluster = Self { primary, standby, pooler: None, haproxy: None, way };
        let needs_haproxy = match way {
            Way::HaProxy => true,
            Way::PgBouncer(_, behind) => !behind.is_reloaded(),
            Way::BothHosts(_) => false,
        };
        if needs_haproxy {
            let servers = [cluster.primary.address.as_str(), cluster.standby.address.as_str()];
            cluster.haproxy = Some(Server::start_with("scripts/haproxy", &[], &servers));
        }
        if let Way::PgBouncer(pooling, behind) = way {
            let target = cluster.haproxy.as_ref().unwrap_or(&cluster.primary).address.clone();
            cluster.pooler = Some(pooler(pooling, behind, &target));
        }
        cluster
    }

    /// A world with topics on the shared Kafka and a database on the primary.
    pub fn world(&self, name: &str, partitions: i32) -> World {
        let world = World::on(name, &shared_kafka(), &self.primary.address, partitions);
        create_topics(&world.kafka, &world.topics, partitions);
        world
    }

    /// The reader's URL for a database whose own URL points at the primary.
    pub fn url_for_readers(&self, database_url: &str) -> String {
        if let Way::BothHosts(for_writing) = self.way {
            let both = format!("{},{}", address(&self.primary.address), address(&self.standby.address));
            let url = database_url.replace(address(database_url), &both);
            return if for_writing { url + "?target_session_attrs=read-write" } else { url };
        }
        let before = self.pooler.as_ref().or(self.haproxy.as_ref()).unwrap();
        through(database_url, port(&before.address))
    }

    /// Waits until the standby has everything that is committed. From here on it lags.
    pub fn lag(&self, lag: Lag) {
        let written = number(&self.primary.address, "SELECT pg_current_wal_lsn() - '0/0'");
        wait_for("the standby to have everything", || {
            let replayed = number(&self.standby.address, "SELECT pg_last_wal_replay_lsn() - '0/0'");
            (replayed >= written).then_some(())
        });
        match lag {
            Lag::Replay => execute(&self.standby, "SELECT pg_wal_replay_pause()"),
            Lag::Receiver => stop_receiver(&self.standby),
        }
    }

    /// Commits wait for the standby from here on.
    pub fn commit_synchronously(&self) {
        set(&self.primary, "synchronous_standby_names = '*'");
        wait_for("the standby to be synchronous", || {
            let are = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            (number(&self.primary.address, are) == 1).then_some(())
        });
    }

    /// Promotes the standby; the old primary is dead already, or mute. From here on the world's database is
    /// on the new primary.
    pub fn promote(&mut self, world: &mut World) {
        self.standby.run("promote");
        std::mem::swap(&mut self.primary, &mut self.standby);
        world.database_url = through(&world.database_url, port(&self.primary.address));
        if let (Way::PgBouncer(_, behind), Some(pooler)) = (self.way, &self.pooler)
            && behind.is_reloaded()
        {
            pooler.run_with("target", &[&self.primary.address]);
        }
    }

    /// Replaces the server that died in the last round by a new one, which follows the primary.
    pub fn follow_in(&mut self, round: u32) {
        if round == 0 {
            return;
        }
        let at = port(&self.standby.address).to_string();
        self.standby.run("destroy");
        self.standby = standby_of(&self.primary, &[&at]);
    }
}

/// Makes the standby receive nothing any more.
pub fn stop_receiver(standby: &Server) {
    set(standby, "primary_conninfo = ''");
    wait_for("the receiver to end", || {
        (number(&standby.address, "SELECT count(*) FROM pg_stat_wal_receiver") == 0).then_some(())
    });
}

/// A server that follows another one, at `port` or at a free one.
pub fn standby_of(primary: &Server, port: &[&str]) -> Server {
    Server::start_with("scripts/postgres", &[("POSTGRES_STANDBY_OF", primary.directory())], port)
}

/// A `PgBouncer` in front of a server.
pub fn pooler(pooling: Pooling, behind: Behind, target: &str) -> Server {
    let mode = if pooling == Pooling::Session { "session" } else { "transaction" };
    let version = if behind.is_new() { "1.24" } else { "" };
    let environment = [("PGBOUNCER_MODE", mode), ("PGBOUNCER_VERSION", version)];
    Server::start_with("scripts/pgbouncer", &environment, &[target])
}

pub fn port(url: &str) -> u16 {
    address(url).rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Changes a setting of a server permanently.
pub fn set(server: &Server, setting: &str) {
    execute(server, &format!("ALTER SYSTEM SET {setting}"));
    execute(server, "SELECT pg_reload_conf()");
}

pub fn execute(server: &Server, statement: &str) {
    connect(&server.address).batch_execute(statement).unwrap();
}

fn number(url: &str, query: &str) -> i64 {
    use diesel::prelude::*;
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let query = diesel::sql_query(format!("SELECT ({query})::bigint AS n"));
    query.get_result::<Row>(&mut connect(url)).unwrap().n
}
