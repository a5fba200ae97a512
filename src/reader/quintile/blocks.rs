//! A column in blocks that fit into the nearest cache, and the next one on its way from memory before it is its turn.
//!
//! Owns how a column is walked through, not what is done with it. Pure.
//!
//! The one idea: whoever works on a block for a while reads no memory meanwhile, and then waits for the next one.
//! Asked for in advance, it comes while there is other work to do.

/// Values of a block: 4 KiB, so that it, the next one and what is noted of it lie in the nearest cache. **A multiple of
/// 64**, as `division` looks at so many at a time.
pub(super) const BLOCK: usize = 512;
const _: () = assert!(BLOCK.is_multiple_of(64));

/// The blocks of a column in order, each with the one after it (empty after the last). The last may be shorter.
pub(super) fn blocks(column: &[f64]) -> impl Iterator<Item = (&[f64], &[f64])> {
    let next = column.chunks(BLOCK).skip(1).chain([Default::default()]);
    column.chunks(BLOCK).zip(next)
}

/// Has the processor fetch values from memory. On one that cannot be told, nothing is lost but time.
pub(super) fn prefetch(values: &[f64]) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "there is no safe call")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // Eight values are a line of the cache.
        for line in values.chunks(8) {
            // SAFETY: every x86_64 has the instruction (SSE). It is a hint: it faults at no address, and has no effect
            // that a program could see.
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
