//! Blobs in pieces of [`PIECE_BYTES`], one a row, sixteen a round trip. A blob counts from the moment its row has a
//! digest.

use std::{collections::BTreeSet, mem, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use lull_shared::{
    codec,
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    time::Timestamp,
};
use serde_json::json;

use super::{
    super::{
        BlobWriter, Blobs, Lead, StoreResult,
        bounds::number,
        links::LinkReader,
        rows::{self, Damaged},
        sweep::{self, Swept},
    },
    SqlServer,
    error::{Fail, Purpose},
    jobs::{all, first},
    registry::settled,
    session::{Session, outcome},
    statements,
};
use crate::clock;

/// Pieces that go in one statement: 4 MiB.
const PIECES: usize = 16;
/// Digests that go in one statement.
const LINKS: usize = 10_000;

/// A blob on its way in.
pub(super) struct Incoming {
    session: Arc<Session>,
    blob_id: i64,
    size_bytes_max: u64,
    size_bytes: u64,
    pieces: u32,
    pending: Vec<u8>,
    outline: OutlineBuilder,
}

impl Incoming {
    /// Begins a row without a digest; whatever becomes of it, a sweep removes it one day.
    pub(super) async fn begin(session: Arc<Session>, size_bytes_max: u64) -> Result<Self, Fail> {
        let answer = session.write(statements::BLOB_BEGIN, &[clock::now().0.into()]).await?;
        let made = outcome(&answer)?.and_then(|(_, result)| result);
        let blob_id = made.ok_or_else(|| Damaged::new("result", "nothing, though a row was made"))?;
        let outline = OutlineBuilder::default();
        Ok(Self { session, blob_id, size_bytes_max, size_bytes: 0, pieces: 0, pending: Vec::new(), outline })
    }

    async fn flush(&mut self) -> Result<(), Fail> {
        let bytes = mem::take(&mut self.pending);
        // An empty blob has one, empty piece.
        let count = u32::try_from(bytes.len().div_ceil(PIECE_BYTES).max(1)).expect("a batch has few pieces");
        let values = [self.blob_id.into(), self.pieces.into(), count.into(), bytes.into(), (PIECE_BYTES as i64).into()];
        self.pieces += count;
        finished(&self.session, &self.session.write(statements::BLOB_PIECES, &values).await?)
    }
}

/// Refuses an answer without its end.
fn finished(session: &Session, answer: &super::connection::Answer) -> Result<(), Fail> {
    match outcome(answer)? {
        Some((0, _)) => Ok(()),
        Some(_) => Err(Damaged::new("blob_id", "nothing: the upload was swept").into()),
        None => Err(Fail::Connection {
            words: "an answer without its end".into(),
            server: session.server().to_owned(),
            purpose: Purpose::Write,
        }),
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
            let room = PIECES * PIECE_BYTES - self.pending.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == PIECES * PIECE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> StoreResult<BlobRef> {
        if !self.pending.is_empty() || self.pieces == 0 {
            self.flush().await?;
        }
        let (blob, outline) = mem::take(&mut self.outline).finish();
        let values = [
            self.blob_id.into(),
            blob.digest.as_bytes()[..].into(),
            number(blob.size_bytes).into(),
            codec::encode(&outline).into(),
            clock::now().0.into(),
        ];
        let named = match self.session.write(statements::BLOB_FINISH, &values).await {
            // Somebody gave the same bytes at the same moment: now they are found.
            Err(fail) if fail.is_duplicate() => self.session.write(statements::BLOB_FINISH, &values).await,
            named => named,
        };
        finished(&self.session, &named?)?;
        Ok(blob)
    }
}

/// A blob's size and outline.
pub(super) async fn outline(session: &Session, digest: &Digest) -> Result<Option<(BlobRef, Outline)>, Fail> {
    let answer = session.read(statements::BLOB_OUTLINE, &[digest.as_bytes()[..].into()]).await?;
    let found = first(&answer, 0, |row| {
        let outline = codec::decode(&rows::bytes(row, "outline")?).map_err(|e| Damaged::new("outline", e.to_string()))?;
        let blob = BlobRef { digest: *digest, size_bytes: rows::int(row, "size_bytes")? as u64 };
        Ok((blob, outline))
    });
    Ok(found?)
}

/// One piece.
pub(super) async fn piece(session: &Session, digest: &Digest, index: u32) -> Result<Option<Bytes>, Fail> {
    let answer = session.read(statements::BLOB_PIECE, &[digest.as_bytes()[..].into(), index.into()]).await?;
    Ok(first(&answer, 0, |row| rows::bytes(row, "bytes"))?.map(Bytes::from))
}

/// Removes what nothing refers to. How many.
pub(super) async fn sweep(session: &Session, lead: &Lead, before: Timestamp) -> Result<u64, Fail> {
    // Only the leader looks.
    settled(session, lead, statements::NOTHING, Vec::new()).await?;
    while let Some(pack) = first(&session.read(statements::UNREAD_PACK, &[]).await?, 0, sweep::unread)? {
        let links = if pack.links_read { BTreeSet::new() } else { read_links(session, pack.blob_id, pack.size_bytes).await? };
        write_links(session, lead, pack.blob_id, links).await?;
    }
    let (mut deleted, mut behind) = (0, 0);
    loop {
        let values = [behind.into(), before.0.into(), sweep::RANGE.into()];
        let range = all(&session.read(statements::SWEEP_RANGE, &values).await?, 0, sweep::swept)?;
        let Some(last) = range.last() else { return Ok(deleted) };
        behind = last.blob_id;
        deleted += delete(session, lead, before, &range).await?;
    }
}

async fn delete(session: &Session, lead: &Lead, before: Timestamp, range: &[Swept]) -> Result<u64, Fail> {
    let unused: Vec<Swept> = range.iter().filter(|blob| blob.unused).copied().collect();
    if unused.is_empty() {
        return Ok(0);
    }
    let items: Vec<_> = unused.iter().map(|blob| json!({ "b": blob.blob_id })).collect();
    settled(session, lead, statements::SWEEP_GIVE_UP, vec![json!(items).to_string().into(), before.0.into()]).await?;
    let mut deleted = 0;
    for batch in sweep::cut(&unused) {
        let parts: Vec<_> = batch.iter().map(|part| json!({ "b": part.blob_id, "f": part.from, "t": part.before })).collect();
        let values = vec![json!(parts).to_string().into(), sweep::LINKS.into()];
        deleted += settled(session, lead, statements::SWEEP_DELETE, values).await?.unwrap_or(0) as u64;
    }
    Ok(deleted)
}

async fn read_links(session: &Session, pack_id: i64, size: u64) -> Result<BTreeSet<Digest>, Fail> {
    let mut reader = LinkReader::new(size);
    for index in 0_u32.. {
        let answer = session.read(statements::PACK_PIECE, &[pack_id.into(), index.into()]).await?;
        let Some(piece) = first(&answer, 0, |row| rows::bytes(row, "bytes"))? else { break };
        if !reader.push(&piece) {
            break;
        }
    }
    Ok(reader.finish())
}

/// Links by transaction. A pack that names nothing has one too: it is written down there that it was read.
fn in_parts(items: &[serde_json::Value]) -> Vec<&[serde_json::Value]> {
    if items.is_empty() { vec![&[]] } else { items.chunks(LINKS).collect() }
}

async fn write_links(session: &Session, lead: &Lead, pack_id: i64, links: BTreeSet<Digest>) -> Result<(), Fail> {
    let items: Vec<_> = links.iter().map(|digest| json!({ "d": HEXLOWER.encode(digest.as_bytes()) })).collect();
    let parts = in_parts(&items);
    for (number, part) in parts.iter().enumerate() {
        let last = i64::from(number + 1 == parts.len());
        let values = vec![pack_id.into(), json!(part).to_string().into(), last.into()];
        settled(session, lead, statements::LINKS, values).await?;
    }
    Ok(())
}

#[async_trait]
impl Blobs for SqlServer {
    async fn blob_outline(&self, digest: &Digest) -> StoreResult<Option<(BlobRef, Outline)>> {
        Ok(outline(&self.session, digest).await?)
    }

    async fn blob_piece(&self, digest: &Digest, index: u32) -> StoreResult<Option<Bytes>> {
        Ok(piece(&self.session, digest, index).await?)
    }

    async fn touch_blob(&self, digest: &Digest, now: Timestamp) -> StoreResult<Option<BlobRef>> {
        let values = [digest.as_bytes()[..].into(), now.0.into(), sweep::fresh_since(now).0.into()];
        let answer = self.session.write(statements::BLOB_TOUCH, &values).await?;
        let size = outcome(&answer)?.and_then(|(_, size)| size);
        Ok(size.map(|size| BlobRef { digest: *digest, size_bytes: size as u64 }))
    }

    async fn begin_blob(&self, size_bytes_max: u64) -> StoreResult<Box<dyn BlobWriter>> {
        Ok(Box::new(Incoming::begin(self.session.clone(), size_bytes_max).await?))
    }

    async fn sweep_blobs(&self, lead: &Lead, before: Timestamp) -> StoreResult<u64> {
        Ok(sweep(&self.session, lead, before).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_cut_and_a_pack_that_names_nothing_is_written_down_as_read() {
        let lengths = |count: usize| in_parts(&vec![json!(1); count]).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!((lengths(0), lengths(LINKS), lengths(LINKS + 1)), (vec![0], vec![LINKS], vec![LINKS, 1]));
    }
}
