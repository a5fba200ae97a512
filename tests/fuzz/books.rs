//! Books: what pairing may allocate beside the weight of the messages it holds.

use rfm_stream::message::Message;

/// What pairing may need beside the weight of the messages it holds: an offset for each that is handed over and not
/// settled (8 bytes in a node that may be half empty), a node of its map with room for eleven partitions of half a
/// KiB, and per partition the first room of five lists: keys, batches and dead letters, these twice.
pub const PER_UNSETTLED: usize = 32;
pub const EMPTY_BOOKS: usize = 6 * 1024;
pub const EMPTY_PARTITION: usize = 3 * 1024;

/// What the message itself has allocated.
pub fn bytes_of(message: &Message) -> isize {
    let capacity = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::capacity);
    (capacity(&message.key) + capacity(&message.value)) as isize
}
