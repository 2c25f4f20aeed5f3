//! A job's inputs in one blob: small ones inside, large ones by reference, each with the label people know it by.
//!
//! ```text
//! magic "LULLPACK" | version u32 | count u32 | index: count x (label_len u32, kind u8, a u64, b u64|digest) | labels | data
//! ```
//! Integers are little-endian. The index has a fixed width of [`ENTRY_BYTES`], so entry `i` is found without
//! reading the others: a coordinator reads an index row, a label and the bytes, whatever the size of the job.

use crate::digest::{BlobRef, Digest};
use crate::limits;

const MAGIC: &[u8; 8] = b"LULLPACK";
const VERSION: u32 = 1;
/// The fixed part before the index.
pub const HEADER_BYTES: usize = 16;
/// One row of the index: label offset u64, label length u32, kind u32, size u64, then the data's offset or a digest.
pub const ENTRY_BYTES: usize = 8 + 4 + 4 + 8 + 32;
/// A label longer than this is cut: it is for people.
pub const LABEL_BYTES_MAX: usize = 512;

/// The bytes of one task's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<B> {
    Inline(B),
    Blob(BlobRef),
}

/// One row of a pack's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub label_offset: u64,
    pub label_len: u32,
    pub content: EntryContent,
}

/// Where an entry's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryContent {
    /// In the pack, at this offset from its beginning.
    Inline {
        offset: u64,
        len: u64,
    },
    Blob(BlobRef),
}

/// The bytes are not a pack, or not one of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    #[error("not an input pack")]
    Magic,
    #[error("an input pack of version {0}, which this program does not read")]
    Version(u32),
    #[error("an input pack that is damaged or cut short")]
    Damaged,
}

/// Builds a pack in memory.
#[derive(Default)]
pub struct PackBuilder {
    rows: Vec<(u32, Content<u64>)>,
    labels: Vec<u8>,
    data: Vec<u8>,
}

impl PackBuilder {
    /// Adds the next task's input. Inline content must be at most [`limits::INLINE_BYTES_MAX`] bytes.
    pub fn push(&mut self, label: &str, content: Content<&[u8]>) {
        let label = cut(label);
        self.labels.extend_from_slice(label.as_bytes());
        let content = match content {
            Content::Inline(bytes) => {
                assert!(bytes.len() <= limits::INLINE_BYTES_MAX, "an inline input of {} bytes", bytes.len());
                self.data.extend_from_slice(bytes);
                Content::Inline(bytes.len() as u64)
            }
            Content::Blob(blob) => Content::Blob(blob),
        };
        self.rows.push((label.len() as u32, content));
    }

    /// How many inputs were added.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The pack's bytes.
    pub fn finish(self) -> Vec<u8> {
        let labels_start = HEADER_BYTES + self.rows.len() * ENTRY_BYTES;
        let mut label_offset = labels_start as u64;
        let mut data_offset = (labels_start + self.labels.len()) as u64;
        let mut out = Vec::with_capacity(labels_start + self.labels.len() + self.data.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        for (label_len, content) in &self.rows {
            out.extend_from_slice(&label_offset.to_le_bytes());
            out.extend_from_slice(&label_len.to_le_bytes());
            let (kind, size, rest) = match content {
                Content::Inline(len) => {
                    let mut rest = [0; 32];
                    rest[..8].copy_from_slice(&data_offset.to_le_bytes());
                    data_offset += len;
                    (0_u32, *len, rest)
                }
                Content::Blob(blob) => (1, blob.size_bytes, *blob.digest.as_bytes()),
            };
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(&rest);
            label_offset += u64::from(*label_len);
        }
        out.extend_from_slice(&self.labels);
        out.extend_from_slice(&self.data);
        out
    }
}

/// How many entries a pack has, from its first [`HEADER_BYTES`] bytes.
pub fn read_header(bytes: &[u8]) -> Result<u32, PackError> {
    let number = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if bytes.get(..8) != Some(MAGIC) {
        return Err(PackError::Magic);
    }
    match number(8).ok_or(PackError::Damaged)? {
        VERSION => number(12).ok_or(PackError::Damaged),
        other => Err(PackError::Version(other)),
    }
}

/// Where row `index` of the index begins.
pub fn entry_offset(index: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(index) * ENTRY_BYTES as u64
}

/// One row of the index, checked against the pack's size.
pub fn read_entry(row: &[u8], pack_bytes: u64) -> Result<Entry, PackError> {
    let row: &[u8; ENTRY_BYTES] = row.try_into().map_err(|_| PackError::Damaged)?;
    let long = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes"));
    let short = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("four bytes"));
    let inside = |offset: u64, len: u64| offset.checked_add(len).is_some_and(|end| end <= pack_bytes);
    let (label_offset, label_len, size) = (long(0), short(8), long(16));
    let content = match short(12) {
        0 if inside(long(24), size) && size <= limits::INLINE_BYTES_MAX as u64 => {
            EntryContent::Inline { offset: long(24), len: size }
        }
        1 if size <= limits::BLOB_BYTES_MAX => {
            let digest = Digest::from_bytes(row[24..56].try_into().expect("thirty-two bytes"));
            EntryContent::Blob(BlobRef { digest, size_bytes: size })
        }
        _ => return Err(PackError::Damaged),
    };
    if label_len as usize > LABEL_BYTES_MAX || !inside(label_offset, u64::from(label_len)) {
        return Err(PackError::Damaged);
    }
    Ok(Entry { label_offset, label_len, content })
}

fn cut(label: &str) -> &str {
    let mut end = label.len().min(LABEL_BYTES_MAX);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    &label[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pack: &[u8], index: u32) -> Result<Entry, PackError> {
        let start = entry_offset(index) as usize;
        read_entry(pack.get(start..start + ENTRY_BYTES).unwrap_or(&[]), pack.len() as u64)
    }

    #[test]
    fn entries_are_found_one_by_one() {
        let blob = BlobRef::of(b"elsewhere");
        let mut builder = PackBuilder::default();
        builder.push("first.txt", Content::Inline(b"one"));
        builder.push("big.jpg", Content::Blob(blob));
        builder.push("", Content::Inline(b""));
        let pack = builder.finish();
        assert_eq!(read_header(&pack), Ok(3));
        let first = entry(&pack, 0).expect("the first entry");
        let EntryContent::Inline { offset, len } = first.content else { panic!("the first is inline") };
        assert_eq!(&pack[offset as usize..(offset + len) as usize], b"one");
        let label = first.label_offset as usize;
        assert_eq!(&pack[label..label + first.label_len as usize], b"first.txt");
        assert_eq!(entry(&pack, 1).expect("the second entry").content, EntryContent::Blob(blob));
        assert_eq!(entry(&pack, 2).expect("the third entry").label_len, 0);
    }

    #[test]
    fn damaged_packs_are_refused() {
        let mut builder = PackBuilder::default();
        builder.push("x", Content::Inline(b"payload"));
        let pack = builder.finish();
        assert_eq!(read_header(b"PK"), Err(PackError::Magic));
        let row = &pack[HEADER_BYTES..HEADER_BYTES + ENTRY_BYTES];
        assert_eq!(read_entry(row, 20), Err(PackError::Damaged), "the data lies beyond the end");
        assert_eq!(read_entry(&row[1..], pack.len() as u64), Err(PackError::Damaged));
    }

    /// A row of an index with these numbers in it.
    fn row(label_offset: u64, label_len: u32, kind: u32, size: u64, data_offset: u64) -> Vec<u8> {
        let rest = [&data_offset.to_le_bytes()[..], &[7; 24]].concat();
        [&label_offset.to_le_bytes()[..], &label_len.to_le_bytes(), &kind.to_le_bytes(), &size.to_le_bytes(), &rest].concat()
    }

    #[test]
    fn each_entry_lies_inside_the_pack_and_is_no_larger_than_it_may_be() {
        let inline = limits::INLINE_BYTES_MAX as u64;
        let pack_bytes = 10 * inline;
        let cases = [
            ("the data ends with the pack", row(0, 0, 0, 10, pack_bytes - 10), true),
            ("the data ends behind it", row(0, 0, 0, 10, pack_bytes - 9), false),
            ("the data's end is beyond all numbers", row(0, 0, 0, 10, u64::MAX), false),
            ("the largest inline input", row(0, 0, 0, inline, 0), true),
            ("a larger one", row(0, 0, 0, inline + 1, 0), false),
            ("the largest blob", row(0, 0, 1, limits::BLOB_BYTES_MAX, 0), true),
            ("a larger one", row(0, 0, 1, limits::BLOB_BYTES_MAX + 1, 0), false),
            ("neither inline nor a blob", row(0, 0, 2, 1, 0), false),
            ("the longest label", row(0, LABEL_BYTES_MAX as u32, 1, 1, 0), true),
            ("a longer one", row(0, LABEL_BYTES_MAX as u32 + 1, 1, 1, 0), false),
            ("the label ends with the pack", row(pack_bytes - 5, 5, 1, 1, 0), true),
            ("the label ends behind it", row(pack_bytes - 4, 5, 1, 1, 0), false),
        ];
        for (what, row, taken) in cases {
            assert_eq!(read_entry(&row, pack_bytes).is_ok(), taken, "{what}");
        }
    }

    #[test]
    fn every_label_and_every_input_is_where_its_entry_says() {
        let inputs: Vec<(String, Vec<u8>)> = (0..20).map(|i| (format!("label {i}"), vec![i as u8; i])).collect();
        let mut builder = PackBuilder::default();
        inputs.iter().for_each(|(label, bytes)| builder.push(label, Content::Inline(bytes)));
        assert_eq!(builder.count(), 20);
        let pack = builder.finish();
        for (index, (label, bytes)) in (0..).zip(&inputs) {
            let entry = entry(&pack, index).expect("an entry");
            let EntryContent::Inline { offset, len } = entry.content else { panic!("inline") };
            assert_eq!(&pack[offset as usize..(offset + len) as usize], bytes);
            assert_eq!(&pack[entry.label_offset as usize..][..entry.label_len as usize], label.as_bytes());
        }
        assert_eq!(
            pack.len(),
            HEADER_BYTES + 20 * ENTRY_BYTES + inputs.iter().map(|(label, bytes)| label.len() + bytes.len()).sum::<usize>()
        );
    }

    #[test]
    fn a_label_is_cut_between_letters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"x".repeat(LABEL_BYTES_MAX)).len(), LABEL_BYTES_MAX);
        assert_eq!(cut(&"x".repeat(LABEL_BYTES_MAX + 1)).len(), LABEL_BYTES_MAX);
        assert_eq!(cut(&format!("x{}", "ä".repeat(LABEL_BYTES_MAX))).len(), LABEL_BYTES_MAX - 1);
    }

    #[test]
    fn a_header_of_another_version_or_cut_short_is_told_from_one_that_is_no_packs() {
        let pack = PackBuilder::default().finish();
        assert_eq!((pack.len(), read_header(&pack)), (HEADER_BYTES, Ok(0)));
        let mut newer = pack.clone();
        newer[8] = 2;
        assert_eq!(read_header(&newer), Err(PackError::Version(2)));
        assert_eq!([8, 11, 12, 15].map(|cut| read_header(&pack[..cut])), [Err(PackError::Damaged); 4]);
        assert_eq!([0, 7].map(|cut| read_header(&pack[..cut])), [Err(PackError::Magic); 2]);
    }
}
