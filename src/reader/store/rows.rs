//! The rows of `segments` in the format of Postgres's binary COPY.
//!
//! Owns the bytes; source: PostgreSQL documentation, `COPY`, "Binary Format". All integers are big-endian.
//!
//! **A row has a head, a tail and the customer id.** The head is the same for all rows of a batch but for
//! three values and the row number. The tail (three scores, RF score, segment) is one of 125, which are
//! encoded once per commit.

use crate::failpoint;
use crate::metric::PerMetric;
use crate::reader::score::{Scored, scores};
use crate::reader::segment::SegmentMap;
use std::io::{self, Write};

/// Signature, flags, no header extension.
const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a field count: the end.
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// In place of a field's length: null.
const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// The columns of `segments`.
const FIELDS: [u8; 2] = 11i16.to_be_bytes();
const LENGTH_8: [u8; 4] = 8i32.to_be_bytes();
const LENGTH_4: [u8; 4] = 4i32.to_be_bytes();
const LENGTH_2: [u8; 4] = 2i32.to_be_bytes();

/// Bytes given to the connection at once: large enough that the calls cost nothing, small enough that
/// Postgres works on one chunk while the next is encoded.
const CHUNK: usize = 64 * 1024;

/// Writes the rows of `batches`, each with its id, as one COPY stream.
///
/// # Errors
/// Those of `out`.
pub fn write<'a>(
    out: &mut (impl Write + ?Sized),
    segments: &SegmentMap,
    batches: impl Iterator<Item = (i64, &'a Scored)>,
) -> io::Result<()> {
    let tails = tails(segments);
    let mut chunk = Vec::with_capacity(CHUNK + 1024);
    chunk.extend_from_slice(&HEADER);
    for (id, batch) in batches {
        let head = head(id);
        let mut ids = batch.customer_ids.as_ref().map(|ids| ids.iter());
        for row in 0..batch.customers() {
            encode_row(&mut chunk, head, row, batch, &tails);
            match ids.as_mut().and_then(Iterator::next) {
                Some(customer_id) => encode_text(&mut chunk, customer_id),
                None => chunk.extend_from_slice(&NULL),
            }
            if chunk.len() >= CHUNK {
                out.write_all(&chunk)?;
                chunk.clear();
            }
        }
        failpoint::reach("mid_copy");
    }
    chunk.extend_from_slice(&TRAILER);
    out.write_all(&chunk)
}

/// Length of the head: the number of fields, then the batch id, three values and the row number, each after
/// its length.
const HEAD: usize = 2 + (4 + 8) + 3 * (4 + 8) + (4 + 4);
/// Where the three values and the row number stand in the head.
const VALUES: [usize; 3] = [18, 30, 42];
const ROW_NO: usize = 54;

/// A head with everything that the rows of a batch have in common.
fn head(id: i64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &FIELDS);
    put(2, &LENGTH_8);
    put(6, &id.to_be_bytes());
    VALUES.iter().for_each(|at| put(at - 4, &LENGTH_8));
    put(ROW_NO - 4, &LENGTH_4);
    head
}

/// Encodes a row up to the customer id.
fn encode_row(chunk: &mut Vec<u8>, mut head: [u8; HEAD], row: usize, batch: &Scored, tails: &[Vec<u8>]) {
    for (at, values) in VALUES.into_iter().zip(batch.values.as_ref().into_array()) {
        head[at..at + 8].copy_from_slice(&values[row].to_be_bytes());
    }
    // `--max-customers` is an i32, so every row number is one too.
    head[ROW_NO..].copy_from_slice(&(row as i32).to_be_bytes());
    chunk.extend_from_slice(&head);
    let PerMetric { recency, frequency, monetary } = &batch.cuts;
    chunk.extend_from_slice(&tails[place([recency.codes[row], frequency.codes[row], monetary.codes[row]])]);
}

/// Where the tail of three codes stands in [`tails`].
fn place([recency, frequency, monetary]: [u8; 3]) -> usize {
    usize::from(recency) * 25 + usize::from(frequency) * 5 + usize::from(monetary)
}

/// Per combination of codes, the fields from `recency_score` to `segment`.
fn tails(segments: &SegmentMap) -> Vec<Vec<u8>> {
    let codes = (0..5).flat_map(|r| (0..5).flat_map(move |f| (0..5).map(move |m| [r, f, m])));
    codes.map(|codes| tail(scores(codes), segments)).collect()
}

fn tail(scores: [u8; 3], segments: &SegmentMap) -> Vec<u8> {
    let mut tail = Vec::new();
    for score in scores {
        tail.extend_from_slice(&LENGTH_2);
        tail.extend_from_slice(&i16::from(score).to_be_bytes());
    }
    let [recency, frequency, _] = scores;
    encode_text(&mut tail, &format!("{recency}{frequency}"));
    encode_text(&mut tail, segments.segment(recency, frequency));
    tail
}

fn encode_text(chunk: &mut Vec<u8>, text: &str) {
    // The text comes from a Kafka message, whose length is an i32.
    chunk.extend_from_slice(&(text.len() as i32).to_be_bytes());
    chunk.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CustomerIds;
    use crate::reader::grid::{CELLS, Grid};
    use crate::reader::quintile::Cut;

    /// A row field by field, as in the documentation of COPY.
    fn by_fields(id: i64, row: usize, batch: &Scored, tails: &[Vec<u8>]) -> Vec<u8> {
        let codes = batch.cuts.as_ref().map(|cut| cut.codes[row]).into_array();
        let mut bytes = 11i16.to_be_bytes().to_vec();
        let mut field = |content: &[u8]| {
            bytes.extend_from_slice(&(content.len() as i32).to_be_bytes());
            bytes.extend_from_slice(content);
        };
        field(&id.to_be_bytes());
        batch.values.values().for_each(|values| field(&values[row].to_be_bytes()));
        field(&(row as i32).to_be_bytes());
        bytes.extend_from_slice(&tails[place(codes)]);
        bytes
    }

    #[test]
    fn a_row_has_its_fields_each_behind_its_length() {
        let cut = |codes: [u8; 2]| Cut { codes: codes.to_vec(), edges: [0.0; 6] };
        let batch = Scored {
            partition: 0,
            offsets: PerMetric::default(),
            key: None,
            population: None,
            as_of: chrono::DateTime::UNIX_EPOCH,
            produced_at: None,
            values: [vec![1.5, -2.0], vec![3.0, 4.0], vec![5.0, 6e9]].into(),
            cuts: [cut([0, 4]), cut([1, 3]), cut([2, 0])].into(),
            customer_ids: None::<CustomerIds>,
            grid: Grid { customers: [0; CELLS], sums: PerMetric::default() },
        };
        let tails = tails(&SegmentMap::built_in().unwrap());
        let id = 0x0102_0304_0506_0708;
        for row in 0..2 {
            let mut encoded = Vec::new();
            encode_row(&mut encoded, head(id), row, &batch, &tails);
            assert_eq!(encoded, by_fields(id, row, &batch, &tails));
        }
    }

    #[test]
    fn every_combination_of_codes_has_its_own_place() {
        let tails = tails(&SegmentMap::built_in().unwrap());
        assert_eq!(tails.len(), 125);
        for r in 0..5 {
            for f in 0..5 {
                for m in 0..5 {
                    let expected = tail(scores([r, f, m]), &SegmentMap::built_in().unwrap());
                    assert_eq!(tails[place([r, f, m])], expected);
                }
            }
        }
    }
}
