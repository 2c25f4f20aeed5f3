//! Blobs in pieces of [`PIECE_BYTES`], one a row. A blob counts from the moment its row has a digest.

use std::{collections::BTreeSet, mem, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use lull_shared::{
    codec,
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    time::Timestamp,
};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    super::{
        BlobWriter, Blobs, Lead, StoreResult,
        bounds::number,
        lead::Kind,
        links::LinkReader,
        rows::{self, Damaged},
        sweep::{self, Part, Swept, Unread},
    },
    Embedded,
    error::Fail,
    reader::{Readers, all, first},
    writer::Writer,
};
use crate::clock;

/// Bytes that are written in one transaction: enough that the disk's confirmation is a small part of it.
const BATCH_BYTES: usize = 4 * PIECE_BYTES;

fn now() -> i64 {
    clock::now().0
}

/// A blob on its way in.
pub(super) struct Incoming {
    writer: Arc<Writer>,
    blob_id: i64,
    size_bytes_max: u64,
    size_bytes: u64,
    pieces: u32,
    pending: Vec<u8>,
    outline: OutlineBuilder,
}

impl Incoming {
    /// Begins a row without a digest; whatever becomes of it, a sweep removes it one day.
    pub(super) async fn begin(writer: Arc<Writer>, size_bytes_max: u64) -> Result<Self, Fail> {
        let insert = "INSERT INTO blobs (touched_us, links_read) VALUES (?1, 0)";
        let blob_id = writer
            .write(move |tx| {
                tx.execute(insert, [now()])?;
                Ok(tx.last_insert_rowid())
            })
            .await?;
        let outline = OutlineBuilder::default();
        Ok(Self { writer, blob_id, size_bytes_max, size_bytes: 0, pieces: 0, pending: Vec::new(), outline })
    }

    async fn flush(&mut self) -> Result<(), Fail> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (blob_id, first, bytes) = (self.blob_id, self.pieces, mem::take(&mut self.pending));
        self.pieces += u32::try_from(bytes.len().div_ceil(PIECE_BYTES)).expect("a batch has few pieces");
        self.writer.write(move |tx| insert_pieces(tx, blob_id, first, &bytes)).await
    }
}

#[async_trait]
impl BlobWriter for Incoming {
    async fn write(&mut self, bytes: &[u8]) -> StoreResult<()> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > self.size_bytes_max {
            return Err(Fail::TooLarge(self.size_bytes_max).into());
        }
        self.outline.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = BATCH_BYTES - self.pending.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == BATCH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> StoreResult<BlobRef> {
        if self.pending.is_empty() && self.pieces == 0 {
            // An empty blob has one, empty piece.
            let blob_id = self.blob_id;
            self.writer.write(move |tx| insert_piece(tx, blob_id, 0, &[])).await?;
        }
        self.flush().await?;
        let (blob, outline) = mem::take(&mut self.outline).finish();
        let blob_id = self.blob_id;
        self.writer.write(move |tx| name(tx, blob_id, blob, &outline)).await?;
        Ok(blob)
    }
}

fn insert_pieces(tx: &Transaction<'_>, blob_id: i64, first: u32, bytes: &[u8]) -> Result<(), Fail> {
    for (index, piece) in (first..).zip(bytes.chunks(PIECE_BYTES)) {
        insert_piece(tx, blob_id, index, piece)?;
    }
    Ok(())
}

fn insert_piece(tx: &Transaction<'_>, blob_id: i64, index: u32, piece: &[u8]) -> Result<(), Fail> {
    tx.prepare_cached("INSERT INTO blob_pieces (blob_id, piece_index, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![blob_id, index, piece])?;
    Ok(())
}

/// Gives the row its digest, unless a blob with that digest is there: then that one counts and is fresh again.
fn name(tx: &Transaction<'_>, blob_id: i64, blob: BlobRef, outline: &Outline) -> Result<(), Fail> {
    let digest = *blob.digest.as_bytes();
    if tx.execute("UPDATE blobs SET touched_us = ?2 WHERE digest = ?1", params![digest, now()])? == 1 {
        tx.execute("DELETE FROM blob_pieces WHERE blob_id = ?1", [blob_id])?;
        tx.execute("DELETE FROM blobs WHERE blob_id = ?1", [blob_id])?;
        return Ok(());
    }
    let changed = tx.execute(
        "UPDATE blobs SET digest = ?2, size_bytes = ?3, outline = ?4, touched_us = ?5 WHERE blob_id = ?1 AND digest IS NULL AND touched_us > 0",
        params![blob_id, digest, number(blob.size_bytes), codec::encode(outline), now()],
    )?;
    if changed == 1 { Ok(()) } else { Err(Damaged::new("blob_id", "nothing: the upload was swept").into()) }
}

/// A blob's size and outline.
pub(super) fn outline(tx: &Transaction<'_>, digest: &Digest) -> Result<Option<(BlobRef, Outline)>, Fail> {
    first(tx, "SELECT size_bytes, outline FROM blobs WHERE digest = ?1", [*digest.as_bytes()], |row| {
        let outline = codec::decode(&rows::bytes(row, "outline")?).map_err(|e| Damaged::new("outline", e.to_string()))?;
        let blob = BlobRef { digest: *digest, size_bytes: rows::int(row, "size_bytes")? as u64 };
        Ok((blob, outline))
    })
}

const TOUCHED: &str = "SELECT size_bytes, touched_us FROM blobs WHERE digest = ?1";
const TOUCH: &str = "UPDATE blobs SET touched_us = ?2 WHERE digest = ?1 AND touched_us < ?2";

/// A blob's size, and when it was touched last.
fn touched(tx: &Transaction<'_>, digest: &Digest) -> Result<Option<(BlobRef, i64)>, Fail> {
    first(tx, TOUCHED, [*digest.as_bytes()], |row| {
        let blob = BlobRef { digest: *digest, size_bytes: rows::int(row, "size_bytes")? as u64 };
        Ok((blob, rows::int(row, "touched_us")?))
    })
}

/// One piece.
pub(super) fn piece(tx: &Transaction<'_>, digest: &Digest, index: u32) -> Result<Option<Bytes>, Fail> {
    let sql = "SELECT blob_pieces.bytes FROM blobs JOIN blob_pieces ON blob_pieces.blob_id = blobs.blob_id
         WHERE blobs.digest = ?1 AND blob_pieces.piece_index = ?2";
    let found = first(tx, sql, params![*digest.as_bytes(), index], |row| rows::bytes(row, "bytes"))?;
    Ok(found.map(Bytes::from))
}

const UNREAD_PACK: &str = "SELECT blobs.blob_id, blobs.size_bytes, blobs.links_read
    FROM jobs INDEXED BY jobs_pack_unread JOIN blobs ON blobs.digest = jobs.pack_digest
    WHERE jobs.pack_digest IS NOT NULL AND jobs.pack_read = 0 ORDER BY jobs.job_id LIMIT 1";

const RANGE: &str = "SELECT blobs.blob_id,
    (SELECT coalesce(max(piece_index), -1) + 1 FROM blob_pieces WHERE blob_pieces.blob_id = blobs.blob_id) AS pieces,
    blobs.touched_us < ?2 AND (blobs.digest IS NULL OR NOT (
        EXISTS (SELECT 1 FROM jobs WHERE jobs.pack_digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM results WHERE results.blob_digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM version_blobs WHERE version_blobs.digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM rollouts WHERE rollouts.package_digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM blob_links WHERE blob_links.digest = blobs.digest))) AS unused
    FROM blobs WHERE blobs.blob_id > ?1 ORDER BY blobs.blob_id LIMIT ?3";

// All is asked again: one that an upload found in the meantime is fresh, and a job that came in since may name some.
const GIVE_UP: &str = "UPDATE blobs SET digest = NULL, size_bytes = NULL, outline = NULL, touched_us = 0
    WHERE blobs.blob_id = ?1 AND blobs.touched_us < ?2 AND (blobs.digest IS NULL OR NOT (
        EXISTS (SELECT 1 FROM jobs WHERE jobs.pack_digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM results WHERE results.blob_digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM version_blobs WHERE version_blobs.digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM rollouts WHERE rollouts.package_digest = blobs.digest)
        OR EXISTS (SELECT 1 FROM blob_links WHERE blob_links.digest = blobs.digest)))";

/// What a sweep asks, for a look at its plans.
#[cfg(test)]
pub(super) const SWEEP: [&str; 3] = [UNREAD_PACK, RANGE, GIVE_UP];

/// Removes what nothing refers to. How many.
pub(super) async fn sweep(writer: &Writer, readers: &Readers, lead: &Lead, before: Timestamp) -> Result<u64, Fail> {
    // Only the leader looks.
    writer.fenced(lead, Kind::Other, |_| Ok(())).await?;
    while let Some(pack) = readers.read(move |tx| first(tx, UNREAD_PACK, [], sweep::unread)).await? {
        let Unread { blob_id, size_bytes, links_read } = pack;
        let links =
            if links_read { BTreeSet::new() } else { readers.read(move |tx| read_links(tx, blob_id, size_bytes)).await? };
        writer.fenced(lead, Kind::Other, move |tx| write_links(tx, blob_id, &links)).await?;
    }
    let (mut deleted, mut behind) = (0, 0);
    loop {
        let range = readers.read(move |tx| all(tx, RANGE, params![behind, before.0, sweep::RANGE], sweep::swept)).await?;
        let Some(last) = range.last() else { return Ok(deleted) };
        behind = last.blob_id;
        let unused: Vec<Swept> = range.into_iter().filter(|blob| blob.unused).collect();
        let batches = sweep::cut(&unused);
        if !unused.is_empty() {
            writer.fenced(lead, Kind::Other, move |tx| give_up(tx, before, &unused)).await?;
        }
        for batch in batches {
            deleted += writer.fenced(lead, Kind::Other, move |tx| delete(tx, &batch)).await?;
        }
    }
}

fn read_links(tx: &Transaction<'_>, pack_id: i64, size: u64) -> Result<BTreeSet<Digest>, Fail> {
    let mut reader = LinkReader::new(size);
    let mut statement = tx.prepare_cached("SELECT bytes FROM blob_pieces WHERE blob_id = ?1 ORDER BY piece_index")?;
    let mut pieces = statement.query([pack_id])?;
    while let Some(row) = pieces.next()? {
        if !reader.push(&row.get::<_, Vec<u8>>(0)?) {
            break;
        }
    }
    Ok(reader.finish())
}

fn write_links(tx: &Transaction<'_>, pack_id: i64, links: &BTreeSet<Digest>) -> Result<(), Fail> {
    for digest in links {
        tx.prepare_cached("INSERT INTO blob_links (pack_id, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![pack_id, *digest.as_bytes()])?;
    }
    tx.execute("UPDATE blobs SET links_read = 1 WHERE blob_id = ?1", [pack_id])?;
    let read =
        "UPDATE jobs SET pack_read = 1 WHERE pack_digest = (SELECT digest FROM blobs WHERE blob_id = ?1) AND pack_read = 0";
    tx.execute(read, [pack_id])?;
    Ok(())
}

/// Gives up blobs that nothing refers to: they count no longer, and no upload can give them a name.
fn give_up(tx: &Transaction<'_>, before: Timestamp, blobs: &[Swept]) -> Result<(), Fail> {
    // A job came in since the packs were read: what its pack names is not known yet. The next sweep is soon enough.
    if tx.query_row(UNREAD_PACK, [], |_| Ok(())).optional()?.is_some() {
        return Ok(());
    }
    for blob in blobs {
        tx.prepare_cached(GIVE_UP)?.execute(params![blob.blob_id, before.0])?;
    }
    Ok(())
}

/// Deletes pieces of blobs that were given up, and those of them that have no piece left. How many.
fn delete(tx: &Transaction<'_>, batch: &[Part]) -> Result<u64, Fail> {
    let mut given_up = tx.prepare_cached("SELECT 1 FROM blobs WHERE blob_id = ?1 AND digest IS NULL AND touched_us = 0")?;
    let mut pieces =
        tx.prepare_cached("DELETE FROM blob_pieces WHERE blob_id = ?1 AND piece_index >= ?2 AND piece_index < ?3")?;
    let mut links = tx.prepare_cached(
        "DELETE FROM blob_links WHERE pack_id = ?1 AND digest IN (
             SELECT named.digest FROM blob_links AS named WHERE named.pack_id = ?1 ORDER BY named.digest LIMIT ?2)",
    )?;
    let mut blob = tx.prepare_cached(
        "DELETE FROM blobs WHERE blob_id = ?1
             AND NOT EXISTS (SELECT 1 FROM blob_pieces WHERE blob_pieces.blob_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM blob_links WHERE blob_links.pack_id = ?1)",
    )?;
    let (mut deleted, mut room) = (0, i64::from(sweep::LINKS));
    for Part { blob_id, from, before } in batch {
        if given_up.exists([blob_id])? {
            pieces.execute(params![blob_id, from, before])?;
            room -= links.execute(params![blob_id, room])? as i64;
            deleted += blob.execute([blob_id])? as u64;
        }
    }
    Ok(deleted)
}

#[async_trait]
impl Blobs for Embedded {
    async fn blob_outline(&self, digest: &Digest) -> StoreResult<Option<(BlobRef, Outline)>> {
        let digest = *digest;
        self.read(move |tx| outline(tx, &digest)).await
    }

    async fn blob_piece(&self, digest: &Digest, index: u32) -> StoreResult<Option<Bytes>> {
        let digest = *digest;
        self.read(move |tx| piece(tx, &digest, index)).await
    }

    async fn touch_blob(&self, digest: &Digest, now: Timestamp) -> StoreResult<Option<BlobRef>> {
        let digest = *digest;
        // Most are fresh, and reading takes no lock.
        match self.read(move |tx| touched(tx, &digest)).await? {
            None => Ok(None),
            Some((blob, at)) if at >= sweep::fresh_since(now).0 => Ok(Some(blob)),
            Some(_) => {
                let touch = move |tx: &Transaction<'_>| {
                    tx.execute(TOUCH, params![*digest.as_bytes(), now.0])?;
                    Ok(touched(tx, &digest)?.map(|(blob, _)| blob))
                };
                self.write(touch).await
            }
        }
    }

    async fn begin_blob(&self, size_bytes_max: u64) -> StoreResult<Box<dyn BlobWriter>> {
        Ok(Box::new(Incoming::begin(self.writer.clone(), size_bytes_max).await?))
    }

    async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> StoreResult<u64> {
        Ok(sweep(&self.writer, &self.readers, lead, before).await?)
    }
}
