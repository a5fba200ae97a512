//! What the topics have already: of each wanted key, the newest message of each topic.

use crate::message::EncodedSnapshot;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Newest {}

impl Newest {
    /// Whether the newest messages of the snapshot's key are those of the snapshot.
    pub fn has(&self, _snapshot: &EncodedSnapshot) -> bool {
        false
    }
}
