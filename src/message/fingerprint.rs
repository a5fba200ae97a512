//! A number that stands for a customer id: equal for equal ids, and nearly always another one for another id. Pure.
//!
//! **Fast, since it is computed for every id that is stored, and the same everywhere.** It does not withstand ids that
//! are chosen to collide, so its users must get by with collisions.

/// Odd, with its bits spread evenly: that of the golden section.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// The fingerprint of an id.
pub(super) fn fingerprint(id: &str) -> u64 {
    let id = id.as_bytes();
    let add = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(FACTOR);
    let begin = (id.len() as u64).wrapping_mul(FACTOR);
    // The last bytes overlap with those before them: a copy of as many as are left would cost ten times as much.
    let hash = if let Some(last) = id.last_chunk::<8>() {
        let eights = id.as_chunks::<8>().0.iter().chain([last]);
        eights.fold(begin, |hash, eight| add(hash, u64::from_le_bytes(*eight)))
    } else if let (Some(first), Some(last)) = (id.first_chunk::<4>(), id.last_chunk::<4>()) {
        add(begin, (u64::from(u32::from_le_bytes(*first)) << 32) | u64::from(u32::from_le_bytes(*last)))
    } else {
        add(begin, id.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)))
    };
    // So that all bits depend on all. The last steps of MurmurHash3.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_of_any_length_have_different_fingerprints() {
        let ids: BTreeSet<String> =
            (0..30)
                .flat_map(|length| (0..10).map(move |n| format!("{n}{}", "0".repeat(length))))
                .chain((0..20_000).flat_map(|n| {
                    [format!("{n}"), format!("C{n:06}"), format!("customer-{n}"), format!("{n}x")]
                }))
                .chain(["", "a", "b", "ab", "ba", "é"].map(str::to_owned))
                .collect();
        let different: BTreeSet<u64> = ids.iter().map(|id| fingerprint(id)).collect();
        assert_eq!(different.len(), ids.len());
    }
}
