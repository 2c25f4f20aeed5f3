//! Input packs, as they were uploaded.

use lull_shared::{
    limits::{BLOB_BYTES_MAX, INLINE_BYTES_MAX},
    pack::{
        Content, ENTRY_BYTES, EntryContent, HEADER_BYTES, LABEL_BYTES_MAX, PackBuilder, entry_offset, read_entry, read_header,
    },
};

use super::memory::bounded;

/// A pack as a whole.
///
/// Every row that is accepted lies within the pack and within the limits; a pack built of what the rows say has the
/// same rows.
pub fn pack(bytes: &[u8]) {
    let rows = bounded(bytes.len(), || rows(bytes));
    let mut builder = PackBuilder::default();
    for (label, content) in &rows {
        builder.push(label, content.clone());
    }
    let again = builder.finish();
    assert_eq!(read_header(&again), Ok(rows.len() as u32));
    assert_eq!(self::rows(&again), rows, "it reads back");
}

/// The rows that can be read, with their labels as people see them.
fn rows(bytes: &[u8]) -> Vec<(String, Content<&[u8]>)> {
    let Ok(count) = read_header(bytes.get(..HEADER_BYTES).unwrap_or(bytes)) else { return Vec::new() };
    let size = bytes.len() as u64;
    let mut rows = Vec::new();
    for index in 0..count {
        // A count may promise more than there is.
        let start = entry_offset(index);
        let Some(row) = usize::try_from(start).ok().and_then(|start| bytes.get(start..start + ENTRY_BYTES)) else { break };
        let Ok(entry) = read_entry(row, size) else { continue };
        assert!(entry.label_len as usize <= LABEL_BYTES_MAX);
        let label = &bytes[entry.label_offset as usize..][..entry.label_len as usize];
        let mut label = String::from_utf8_lossy(label).into_owned();
        label.truncate(label.floor_char_boundary(LABEL_BYTES_MAX));
        let content = match entry.content {
            EntryContent::Inline { offset, len } => {
                assert!(len <= INLINE_BYTES_MAX as u64);
                Content::Inline(&bytes[offset as usize..][..len as usize])
            }
            EntryContent::Blob(blob) => {
                assert!(blob.size_bytes <= BLOB_BYTES_MAX);
                Content::Blob(blob)
            }
        };
        rows.push((label, content));
        // Rows may all point at the same bytes: what a reader makes of one pack is the reader's to bound.
        if rows.len() == 64 {
            break;
        }
    }
    rows
}
