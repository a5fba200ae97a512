//! Times of orders, as text.

use chrono::{DateTime, Utc};

/// Reads RFC 3339, `YYYY-MM-DD[ T]HH:MM[:SS[.f]]`, `YYYY-MM-DD` and `YYYYMMDD`; without a zone, UTC.
pub fn parse(_text: &[u8]) -> Option<DateTime<Utc>> {
    todo!()
}
