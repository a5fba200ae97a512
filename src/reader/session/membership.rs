//! What the group has assigned to this reader.

use super::SessionError;
use super::holding::Holding;
use crate::reader::budget::Reading;
use crate::reader::store::Ownership;

/// See the module.
pub(super) enum Membership {
    /// The group has not assigned anything yet, or has taken everything back.
    Joining,
    /// The group has assigned topics whose partitions do not fit together. Nothing is read.
    Misfit,
    /// What the group has assigned is held; that may be no partition at all.
    Holding(Box<Holding>),
}

impl Membership {
    /// Whether a partition is held.
    pub(super) fn holds_some(&self) -> bool {
        matches!(self, Membership::Holding(holding) if !holding.is_empty())
    }

    /// What may be read now.
    pub(super) fn reading(&mut self) -> Reading {
        match self {
            Membership::Joining | Membership::Misfit => Reading::All,
            Membership::Holding(holding) => holding.reading(),
        }
    }

    /// How the next commit of a partition must find it, if it is held.
    pub(super) fn ownership(&self, partition: i32) -> Option<Ownership> {
        match self {
            Membership::Joining | Membership::Misfit => None,
            Membership::Holding(holding) => holding.ownership(partition),
        }
    }

    /// See [`Holding::scored`].
    pub(super) async fn scored(&mut self) -> Option<Result<(), SessionError>> {
        match self {
            Membership::Joining | Membership::Misfit => None,
            Membership::Holding(holding) => holding.scored().await,
        }
    }
}
