//! Which faults there are, and how often each is injected.

use crate::load::Report;
use crate::replicas::Pooling;
use crate::{
    brokers, cluster, failover, mute, orders, postgres, readers, resources, restore, second_chances, senders,
    sequence, soak, topics, windows,
};
use rand::rngs::StdRng;

/// A fault, how often it is injected, and how.
pub struct Fault {
    pub name: &'static str,
    /// How many times in a run of CI. (Faults that last are counted in seconds.)
    pub ci: u32,
    /// How many times in a whole long run.
    pub long: u32,
    /// Whether nothing else runs beside it, because it loads the machine or measures it.
    pub alone: bool,
    /// It runs after the faults that last long.
    pub begins_late: bool,
    pub inject: fn(u32, &mut StdRng) -> Report,
}

/// A fault that shares the machine with two others.
const fn fault(name: &'static str, ci: u32, long: u32, inject: fn(u32, &mut StdRng) -> Report) -> Fault {
    Fault { name, ci, long, alone: false, begins_late: true, inject }
}

/// A fault that takes minutes.
const fn lasting(name: &'static str, ci: u32, long: u32, inject: fn(u32, &mut StdRng) -> Report) -> Fault {
    Fault { name, ci, long, alone: false, begins_late: false, inject }
}

/// A fault that has the machine for itself.
const fn alone(name: &'static str, ci: u32, long: u32, inject: fn(u32, &mut StdRng) -> Report) -> Fault {
    Fault { name, ci, long, alone: true, begins_late: true, inject }
}

pub const FAULTS: [Fault; 69] = [
    fault("reader: kill -9", 50, 1_000, readers::kill),
    fault("reader: dies after poll", 5, 50, |n, r| readers::die_at("after_poll", n, r)),
    fault("reader: dies after pairing", 5, 50, |n, r| readers::die_at("after_pairing", n, r)),
    fault("reader: dies after scoring", 5, 50, |n, r| readers::die_at("after_scoring", n, r)),
    fault("reader: dies after BEGIN", 5, 50, |n, r| readers::die_at("after_begin", n, r)),
    fault("reader: dies in mid COPY", 5, 50, |n, r| readers::die_at("mid_copy", n, r)),
    fault("reader: dies after COPY", 5, 50, |n, r| readers::die_at("after_copy", n, r)),
    fault("reader: dies after progress", 5, 50, |n, r| readers::die_at("after_progress", n, r)),
    fault("reader: dies before COMMIT", 5, 50, |n, r| readers::die_at("before_commit", n, r)),
    fault("reader: dies after COMMIT", 5, 50, |n, r| readers::die_at("after_commit", n, r)),
    fault("reader: frozen past its session, then wakes", 10, 100, readers::freeze),
    fault("reader: frozen in a transaction, then wakes", 3, 30, readers::freeze_in_transaction),
    fault("rescore: dies at each step", 10, 100, second_chances::rescore),
    fault("retract: dies at each step", 8, 80, second_chances::retract),
    fault("skip-lost: dies at each step", 5, 50, second_chances::skip_lost),
    fault("readers: two and three, come, go, die, freeze", 10, 100, readers::churn),
    alone("reader: SIGTERM under full load", 50, 250, readers::terminate),
    fault("postgres: cut during COMMIT", 20, 200, postgres::cut_commit),
    fault("postgres: backend terminated", 5, 50, postgres::terminate_backend),
    fault("postgres: stopped or killed for 1 s", 5, 50, |n, r| postgres::away(n, 1, r)),
    lasting("postgres: stopped or killed for 30 s", 5, 50, |n, r| postgres::away(n, 30, r)),
    fault("postgres: 200 ms away", 5, 50, postgres::slow),
    fault("postgres: restored from a dump", 6, 60, restore::under_a_live_reader),
    fault("postgres: crash, synchronous_commit=off, PgBouncer", 5, 50, failover::crash),
    fault("failover: standby lags, URL of both hosts", 3, 30, failover::both_hosts),
    fault("failover: standby lags, HAProxy", 3, 30, failover::haproxy),
    fault("failover: standby lags, PgBouncer, session", 3, 30, |n, r| {
        failover::pooled(Pooling::Session, n, r)
    }),
    fault("failover: standby lags, PgBouncer, transaction", 3, 30, |n, r| {
        failover::pooled(Pooling::Transaction, n, r)
    }),
    fault("failover: synchronous standby", 3, 30, failover::synchronous),
    fault("failover: a reader frozen across it wakes", 3, 30, failover::frozen),
    fault("mute postgres: stopped", 3, 30, mute::stopped),
    fault("mute postgres: stopped, the standby promoted", 3, 30, mute::promoted),
    fault("mute postgres: a proxy swallows", 3, 30, mute::swallowed),
    fault("mute postgres: synchronous standby away", 3, 30, mute::standby_away),
    fault("mute postgres: a lock is held", 3, 30, mute::locked),
    lasting("postgres: away for 5 min under load", 1, 1, resources::postgres_away),
    fault("kafka: stopped and started", 3, 30, |n, _| brokers::restart("stop", n)),
    fault("kafka: killed and started", 3, 30, |n, _| brokers::restart("kill", n)),
    fault("kafka: frozen for 2 s", 3, 30, |n, _| brokers::frozen(n)),
    fault("kafka: slow", 3, 30, |n, _| brokers::slow(n)),
    fault("kafka: coordinator lost", 3, 30, |n, _| brokers::coordinator_lost(n)),
    alone("broker of three: killed", 2, 20, cluster::killed),
    alone("broker of three: hung", 2, 20, cluster::hung),
    alone("broker of three: restarted", 1, 10, cluster::restarted),
    fault("producer: kill -9", 10, 100, senders::kill),
    fault("producer: dies between the messages of a batch", 10, 100, |n, r| {
        senders::die_at("between_messages", n, r)
    }),
    fault("producer: dies before its commit", 10, 100, |n, r| {
        senders::die_at("before_producer_commit", n, r)
    }),
    fault("orders: producer killed in a range", 10, 50, orders::kill_in_a_range),
    fault("orders: their Postgres killed in the middle of a query", 3, 30, orders::kill_their_postgres),
    fault("orders: their file cut while it is read", 10, 100, orders::cut_their_file),
    fault("producer: dies with others behind it", 3, 30, senders::die_before_others),
    fault("senders: transaction aborted", 10, 100, senders::aborted),
    fault("senders: two, interleaved", 10, 100, senders::interleaved),
    fault("senders: a message lost", 3, 30, senders::lost),
    fault("senders: a message doubled", 3, 30, senders::doubled),
    fault("senders: one topic an hour behind", 3, 30, senders::behind),
    fault("senders: restarts between two orders", 3, 30, senders::two_orders),
    fault("topics: missing at the start", 2, 10, topics::missing),
    fault("topics: deleted and created again", 2, 10, topics::created_again),
    fault("topics: retention past the stored position", 2, 10, topics::retention),
    fault("topics: retention past trailing markers", 2, 10, topics::markers),
    fault("topics: partitions added", 2, 10, topics::partitions_added),
    fault("windows: a reader dies at each step", 7, 70, windows::die_at_each_step),
    fault("windows: a reader is frozen at a step, then wakes", 3, 30, windows::freeze_at_a_step),
    fault("windows: come and go under load, two readers", 5, 50, windows::come_and_go),
    lasting("random sequence (seconds)", 300, 7_200, sequence::run),
    alone("soak at half the maximum rate (seconds)", 60, 1_800, soak::soak),
    alone("soak with --retain (seconds)", 60, 1_800, soak::soak_retaining),
    fault("reader: started, with nothing wrong", 1, 1, readers::sound),
];
