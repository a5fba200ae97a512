//! What a daemon answers itself, beside health and metrics: the interface between it and the server.
//!
//! Knows nothing of hyper, so that a daemon need not.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// What a daemon answers itself: given what was asked, an answer that may come later; `None` if there is no
/// such path. **It is called on the server's thread and must not block.**
pub type Site = Arc<dyn Fn(&Asked) -> Option<BoxFuture<'static, Reply>> + Send + Sync>;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path, as it was sent.
    pub path: String,
    /// What follows the `?`, as it was sent.
    pub query: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The code of HTTP.
    pub status: u16,
    /// What the body is.
    pub media_type: &'static str,
    /// The body; many answers may share it.
    pub body: Arc<[u8]>,
    /// How old it is, if that is to be said: it was made for somebody else, and may not be true any more.
    pub age: Option<Duration>,
}

impl Asked {
    pub(super) fn of(path: &str, query: Option<&str>) -> Self {
        Self { path: path.to_owned(), query: query.unwrap_or_default().to_owned() }
    }
}
