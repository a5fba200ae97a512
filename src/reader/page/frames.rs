//! Whole pages that were sent a moment ago. What the reader does is in them, so they are soon too old.
//!
//! However many browsers load the page, it is put together some times a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a page is sent again.
const YOUNG: Duration = Duration::from_millis(250);
/// How many are kept.
const MOST: usize = 16;

/// What a page depends on, beside what the reader does: the tag of its figures, whether the browser has them, and
/// whether there is trouble or they are old.
type Key<'a> = (&'a str, bool, bool);

/// See the module.
#[derive(Default)]
pub struct Frames(Mutex<Vec<Frame>>);

/// A page.
struct Frame {
    /// The tag of its figures.
    tag: String,
    /// Whether it is without them, and whether it tells of trouble or of age.
    kind: (bool, bool),
    /// When it was made.
    made: Instant,
    /// The page.
    body: Arc<[u8]>,
}

impl Frames {
    /// The page, made again if it is too old.
    pub fn get(&self, (tag, is_short, has_trouble): Key<'_>, make: impl FnOnce() -> String) -> Arc<[u8]> {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.retain(|frame| frame.made.elapsed() < YOUNG);
        let kind = (is_short, has_trouble);
        if let Some(frame) = frames.iter().find(|frame| frame.kind == kind && frame.tag == tag) {
            return Arc::clone(&frame.body);
        }
        let body: Arc<[u8]> = make().into_bytes().into();
        if frames.len() < MOST {
            frames.push(Frame { tag: tag.to_owned(), kind, made: Instant::now(), body: Arc::clone(&body) });
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_once_for_all_who_load_it_in_a_moment() {
        let frames = Frames::default();
        let page = |tag, is_short, text: &str| frames.get((tag, is_short, false), || text.to_owned());
        assert_eq!(*page("a", false, "first"), *b"first");
        assert_eq!(*page("a", false, "second"), *b"first");
        assert_eq!(*page("a", true, "short"), *b"short");
        assert_eq!(*page("b", false, "other"), *b"other");
    }
}
