//! A column in blocks that fit into the L1 cache, with a prefetch of the next block.
//!
//! Owns the walk through a column, not the work on it. Pure.
//!
//! Work on a block takes a while, and reads nothing from memory. Without a prefetch, it would then wait for
//! the next block. With one, the next block arrives during the work.

/// Values per block: 4 KiB, so that a block, the next one and their marks fit into the L1 cache. **A multiple
/// of 64**, because `division` takes 64 marks at a time.
pub(super) const BLOCK: usize = 512;
const _: () = assert!(BLOCK.is_multiple_of(64));

/// The blocks of a column in order, each with the block after it (empty after the last). The last block may
/// be shorter.
pub(super) fn blocks(column: &[f64]) -> impl Iterator<Item = (&[f64], &[f64])> {
    let next = column.chunks(BLOCK).skip(1).chain([Default::default()]);
    column.chunks(BLOCK).zip(next)
}

/// Tells the processor to load values into the cache. Does nothing on processors other than x86_64.
pub(super) fn prefetch(values: &[f64]) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "there is no safe call")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // A cache line holds eight values.
        for line in values.chunks(8) {
            // SAFETY: every x86_64 has the instruction (SSE). It is a hint: it faults at no address and has
            // no effect that a program can see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_column() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7] {
            let column: Vec<f64> = (0..length).map(|i| i as f64).collect();
            let again: Vec<f64> = blocks(&column).flat_map(|(block, _)| block).copied().collect();
            assert_eq!(again, column);
            for (i, (_, next)) in (1..).zip(blocks(&column)) {
                assert_eq!(next, column.chunks(BLOCK).nth(i).unwrap_or_default());
            }
        }
    }
}
