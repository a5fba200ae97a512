//! Books: what pairing may allocate besides the messages that it holds.

use rfm_stream::message::Message;

/// What pairing may need besides the messages that it holds. For each message handed over and not settled, an
/// offset (8 bytes in a node that may be half empty). A node of its map, with room for eleven partitions of
/// half a KiB. Per partition, the first allocation of its lists; batches and dead letters have one list each.
pub const PER_UNSETTLED: usize = 32;
pub const EMPTY_BOOKS: usize = 6 * 1024;
pub const EMPTY_PARTITION: usize = 3 * 1024;

/// What the message itself has allocated.
pub fn bytes_of(message: &Message) -> isize {
    let capacity = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::capacity);
    (capacity(&message.key) + capacity(&message.value)) as isize
}
