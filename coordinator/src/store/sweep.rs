//! Blobs that nothing refers to: found a range at a time, deleted a few pieces at a time.
//!
//! ```text
//! read what new packs name -> for each range: look -> give up what is not needed -> delete its pieces, links, row
//! ```
//! To look takes no lock. A blob is given up in one transaction in which all conditions are asked again: it has no name
//! then, was touched at 0, and never gets one any more. What is left of it is deleted in small transactions, so that no turn
//! of the scheduler waits for a large blob.

use std::time::Duration;

use lull_shared::time::Timestamp;

use super::rows::{self, Columns, Damaged};

/// Blobs that are looked at in one go: a few milliseconds.
pub(super) const RANGE: u32 = 1_000;
/// Pieces of 256 KiB that one transaction deletes: 16 MiB of log.
pub(super) const PIECES: u32 = 64;
/// Links of packs that one transaction deletes: each is a lock on two indexes, and from 5,000 locks of one statement on, SQL
/// Server locks the whole table instead.
/// <https://learn.microsoft.com/sql/relational-databases/sql-server-transaction-locking-and-row-versioning-guide>
pub(super) const LINKS: u32 = 2_000;

/// A blob that was touched more recently than this is fresh enough: one input may be asked for a million times in an hour, and
/// an hour is little of the day that a sweep leaves to what nothing refers to.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// What was touched since then need not be touched again.
pub(super) fn fresh_since(now: Timestamp) -> Timestamp {
    now - FRESH
}

/// A pack of which it is not known yet what it names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    pub blob_id: i64,
    pub size_bytes: u64,
    /// Another job had the same pack: its links are there.
    pub links_read: bool,
}

/// The columns of a pack that was not read.
pub(super) fn unread(row: &dyn Columns) -> Result<Unread, Damaged> {
    Ok(Unread {
        blob_id: rows::int(row, "blob_id")?,
        size_bytes: rows::int(row, "size_bytes")? as u64,
        links_read: rows::int(row, "links_read")? != 0,
    })
}

/// A blob that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swept {
    pub blob_id: i64,
    pub pieces: u32,
    pub unused: bool,
}

/// The columns of a blob that was looked at.
pub(super) fn swept(row: &dyn Columns) -> Result<Swept, Damaged> {
    Ok(Swept {
        blob_id: rows::int(row, "blob_id")?,
        pieces: rows::u32_of(row, "pieces")?,
        unused: rows::int(row, "unused")? != 0,
    })
}

/// Pieces of a blob that go in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub blob_id: i64,
    pub from: u32,
    pub before: u32,
}

/// Cuts what is to be deleted into transactions of at most [`PIECES`] pieces. A blob without pieces is a part too.
pub(super) fn cut(blobs: &[Swept]) -> Vec<Vec<Part>> {
    let (mut batches, mut batch, mut room) = (Vec::new(), Vec::new(), PIECES);
    for blob in blobs {
        let mut from = 0;
        loop {
            let before = blob.pieces.min(from + room);
            batch.push(Part { blob_id: blob.blob_id, from, before });
            // An empty part costs its row.
            room -= (before - from).max(1);
            if room == 0 {
                batches.push(std::mem::take(&mut batch));
                room = PIECES;
            }
            from = before;
            if from == blob.pieces {
                break;
            }
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(blob_id: i64, pieces: u32) -> Swept {
        Swept { blob_id, pieces, unused: true }
    }

    #[test]
    fn a_transaction_deletes_a_bounded_number_of_pieces() {
        let blobs = [blob(1, 0), blob(2, 3), blob(3, 2 * PIECES), blob(4, 1)];
        let batches = cut(&blobs);
        for batch in &batches {
            assert!(batch.iter().map(|part| (part.before - part.from).max(1)).sum::<u32>() <= PIECES, "{batch:?}");
        }
        for wanted in blobs {
            let parts: Vec<&Part> = batches.iter().flatten().filter(|part| part.blob_id == wanted.blob_id).collect();
            assert_eq!(parts.first().map(|part| part.from), Some(0));
            assert_eq!(parts.last().map(|part| part.before), Some(wanted.pieces));
            assert!(parts.windows(2).all(|pair| pair[0].before == pair[1].from), "without a gap");
        }
        assert_eq!(cut(&[]), Vec::<Vec<Part>>::new());
    }
}
