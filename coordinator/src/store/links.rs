//! Which blobs an input pack names, read from its pieces as they come, so that sweeping keeps them.

use std::collections::BTreeSet;

use lull_shared::{
    digest::Digest,
    pack::{self, EntryContent},
};

/// Reads a pack's index.
pub(super) struct LinkReader {
    pack_bytes: u64,
    /// Bytes of the index that were not read yet.
    pending: Vec<u8>,
    entries_left: Option<u32>,
    links: BTreeSet<Digest>,
}

impl LinkReader {
    /// For a pack of this size.
    pub(super) fn new(pack_bytes: u64) -> Self {
        Self { pack_bytes, pending: Vec::new(), entries_left: None, links: BTreeSet::new() }
    }

    /// Takes the next piece; whether more of the index follows. What is no pack, or a damaged one, has nothing more.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        self.pending.extend_from_slice(piece);
        let mut at = 0;
        if self.entries_left.is_none() {
            if self.pending.len() < pack::HEADER_BYTES {
                return !piece.is_empty();
            }
            self.entries_left = Some(pack::read_header(&self.pending).unwrap_or(0));
            at = pack::HEADER_BYTES;
        }
        let mut left = self.entries_left.unwrap_or(0);
        while left > 0
            && let Some(row) = self.pending.get(at..at + pack::ENTRY_BYTES)
        {
            let Ok(entry) = pack::read_entry(row, self.pack_bytes) else {
                left = 0;
                break;
            };
            if let EntryContent::Blob(blob) = entry.content {
                self.links.insert(blob.digest);
            }
            at += pack::ENTRY_BYTES;
            left -= 1;
        }
        self.pending.drain(..at);
        self.entries_left = Some(left);
        left > 0 && !piece.is_empty()
    }

    /// The blobs that were named.
    pub(super) fn finish(self) -> BTreeSet<Digest> {
        self.links
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        digest::BlobRef,
        pack::{Content, PackBuilder},
    };

    use super::*;

    #[test]
    fn links_are_found_however_the_pack_is_cut() {
        let blobs: Vec<BlobRef> = (0..50_u8).map(|i| BlobRef::of(&[i])).collect();
        let mut builder = PackBuilder::default();
        for blob in &blobs {
            builder.push("inline", Content::Inline(b"x"));
            builder.push("large", Content::Blob(*blob));
        }
        let pack = builder.finish();
        for size in [1, 7, 100, 1 << 20] {
            let mut reader = LinkReader::new(pack.len() as u64);
            let more = pack.chunks(size).take_while(|piece| reader.push(piece)).count();
            assert!(more < pack.len().div_ceil(size), "it stops at the end of the index");
            assert_eq!(reader.finish(), blobs.iter().map(|blob| blob.digest).collect());
        }
    }

    #[test]
    fn what_is_no_pack_names_nothing() {
        let mut reader = LinkReader::new(1_000);
        assert!(!reader.push(&[7; 1_000]));
        assert!(reader.finish().is_empty());
    }
}
