//! The options of the producer, and what follows from where its snapshots come from.

use super::packer::Bounds;
use super::source::Random;
use super::source::orders::Orders;
use crate::http::ListenAddress;
use crate::kafka::Connection;
use std::path::PathBuf;
use std::time::Duration;

/// The options of the producer, from its flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers and topics.
    pub kafka: Connection,
    /// What is sent.
    pub origin: Origin,
    /// `--interval`
    pub interval: Duration,
    /// `--batches`; `None` for all that there are.
    pub batches: Option<u64>,
    /// `--partitions`
    pub partitions: usize,
    /// `--transactional-id`
    pub transactional_id: String,
    /// `--http`
    pub http: Option<ListenAddress>,
    /// The `.env` that was read, if there is one.
    pub env_file: Option<PathBuf>,
}

/// Where the snapshots come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Values made at random.
    Random(Random),
    /// Orders that are added up.
    Orders(Box<Orders>),
}

impl Options {
    /// How many batches there are at most; `None`: no end.
    pub(super) fn most(&self) -> Option<u64> {
        match &self.origin {
            Origin::Random(_) => self.batches,
            Origin::Orders(orders) => self.batches.into_iter().chain(orders.most()).min(),
        }
    }

    /// From one transaction to the next.
    pub(super) fn pause(&self) -> Duration {
        match &self.origin {
            Origin::Orders(orders) if orders.is_finite() => Duration::ZERO,
            _ => self.interval,
        }
    }

    /// How to send fewer customers at once.
    pub(super) fn fewer(&self) -> &'static str {
        match &self.origin {
            Origin::Random(_) => "send fewer --customers",
            Origin::Orders(_) => "make snapshots of a part of the customers, each with a --population",
        }
    }

    /// The size of a transaction.
    pub(super) fn bounds(&self) -> Bounds {
        match &self.origin {
            Origin::Random(_) => Bounds::of(self.interval),
            // Reading the orders takes longer than a transaction.
            Origin::Orders(_) => Bounds::ONE,
        }
    }
}
