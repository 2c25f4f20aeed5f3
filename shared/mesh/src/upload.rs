//! Sending pieces to whoever asks: of blobs that are here, and of those that are still being fetched.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::{PeerId, Stream};
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    limits::{INTRODUCTION_BYTES_MAX, SOURCES_MAX},
    protocol::{BlobAnswer, BlobAsk, BlobReply, BlobRequest, BlobSource},
};
use tokio::time::Instant;

use super::{
    BlobStore, Holders,
    connection::Traffic,
    exchange::{Counters, Exchange, Partial, lock},
    frames::{FrameError, in_time, read_frame, write_frame},
    handle::NodeHandle,
    relay::{Relay, Relayed},
    seeding::Others,
};

/// What is written between two looks at the pace.
const CHUNK_BYTES: usize = 16 * 1024;

/// What there is of a blob.
enum Supply {
    Whole,
    Partial(Arc<Partial>),
    /// Nothing, but it is known who has it.
    Elsewhere,
}

/// Serves one stream that a member opened, until it closes it.
pub(super) async fn serve(
    peer: PeerId,
    mut stream: Stream,
    blobs: &dyn BlobStore,
    handle: &NodeHandle,
    traffic: &Traffic,
) -> Result<(), FrameError> {
    let exchange = &handle.exchange;
    let request: BlobRequest = in_time(read_frame(&mut stream, INTRODUCTION_BYTES_MAX)).await?;
    let digest = request.digest;
    let Some((supply, blob, outline)) = supply(&digest, blobs, exchange).await else {
        return in_time(write_frame(&mut stream, &BlobReply::Missing)).await;
    };
    let holders = blobs.holders(peer, &blob).await;
    let mut relay = Relay::new(handle, blob, holders.whole.clone());
    let (others, sources) = (others(&holders), named(holders, exchange));
    let outline = match (outline, &supply) {
        _ if !request.outline => None,
        (None, Supply::Elsewhere) => relay.outline().await,
        (outline, _) => outline,
    };
    // Whoever cannot be named anybody has nobody else to ask.
    let relays = sources.is_empty();
    in_time(write_frame(&mut stream, &BlobReply::Found { blob, outline, sources })).await?;
    let mut upload = Upload { peer, blob, supply, others, blobs, exchange, traffic, relay, relays };
    loop {
        let ask: BlobAsk = match in_time(read_frame(&mut stream, INTRODUCTION_BYTES_MAX)).await {
            // The peer has all that it wanted.
            Err(FrameError::CutShort) => return Ok(()),
            other => other?,
        };
        if !ask.lacking.fits(blob.pieces()) {
            return Err(FrameError::Wrong("an ask for pieces that there are not"));
        }
        upload.answer(&mut stream, &ask).await?;
    }
}

async fn supply(digest: &Digest, blobs: &dyn BlobStore, exchange: &Exchange) -> Option<(Supply, BlobRef, Option<Outline>)> {
    if let Some((blob, outline)) = blobs.outline(digest).await {
        return Some((Supply::Whole, blob, Some(outline)));
    }
    let Some(partial) = exchange.fetching(digest) else {
        return blobs.elsewhere(digest).map(|blob| (Supply::Elsewhere, blob, None));
    };
    let (blob, outline) = (partial.blob, partial.outline().cloned());
    Some((Supply::Partial(partial), blob, outline))
}

fn others(holders: &Holders) -> Others {
    match holders {
        Holders { whole, .. } if !whole.is_empty() => Others::Hold,
        Holders { fetching, .. } if !fetching.is_empty() => Others::Fetch,
        Holders { .. } => Others::None,
    }
}

/// Those of them whose addresses are known.
fn named(holders: Holders, exchange: &Exchange) -> Vec<BlobSource> {
    let peers = holders.whole.into_iter().chain(holders.fetching);
    let source = |peer: PeerId| BlobSource {
        peer: peer.to_bytes(),
        addresses: exchange.addresses(&peer).iter().map(ToString::to_string).collect(),
    };
    peers.map(source).filter(|source| !source.addresses.is_empty()).take(SOURCES_MAX).collect()
}

/// One stream about one blob.
struct Upload<'a> {
    peer: PeerId,
    blob: BlobRef,
    supply: Supply,
    others: Others,
    blobs: &'a dyn BlobStore,
    exchange: &'a Arc<Exchange>,
    traffic: &'a Traffic,
    relay: Relay<'a>,
    /// Whether pieces that are not here are passed on from those who have them. Once begun, that goes on: a piece that came
    /// gives the asker hope, and says nothing about where the next is to come from.
    relays: bool,
}

impl<'a> Upload<'a> {
    async fn answer(&mut self, stream: &mut Stream, ask: &BlobAsk) -> Result<(), FrameError> {
        let Some(_place) = self.exchange.place(self.peer) else {
            return in_time(write_frame(stream, &BlobAnswer::Busy)).await;
        };
        self.relays |= ask.alone;
        if self.relays && !matches!(self.supply, Supply::Whole) && !self.has_some(ask) {
            return match self.relay.piece(&ask.lacking).await {
                Relayed::Piece(index, piece) => self.send(stream, index, &piece).await,
                Relayed::Nothing => in_time(write_frame(stream, &BlobAnswer::Nothing)).await,
                Relayed::Busy => in_time(write_frame(stream, &BlobAnswer::Busy)).await,
            };
        }
        let Some(chosen) = self.choose(ask) else {
            return in_time(write_frame(stream, &BlobAnswer::Nothing)).await;
        };
        // A blob that was deleted meanwhile ends the stream: the peer goes on with another source.
        let piece = self.read(chosen.piece).await.ok_or(FrameError::Closed)?;
        self.send(stream, chosen.piece, &piece).await?;
        chosen.arrived();
        Ok(())
    }

    async fn send(&mut self, stream: &mut Stream, index: u32, piece: &Bytes) -> Result<(), FrameError> {
        in_time(write_frame(stream, &BlobAnswer::Piece { index })).await?;
        for chunk in piece.chunks(CHUNK_BYTES) {
            if let Some(pace) = &self.exchange.pace {
                pace.take(chunk.len()).await;
            }
            in_time(async { stream.write_all(chunk).await.map_err(FrameError::Broken) }).await?;
            self.traffic.blob_bytes_sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Counters::add(&self.exchange.counters.served, chunk.len());
            self.blobs.sent(self.peer, &self.blob, chunk.len() as u64);
        }
        in_time(async { stream.flush().await.map_err(FrameError::Broken) }).await
    }

    /// Whether any of what is asked for is here, of a blob that is not here as a whole.
    fn has_some(&self, ask: &BlobAsk) -> bool {
        match &self.supply {
            Supply::Whole => true,
            Supply::Partial(partial) => !ask.lacking.and(&partial.here()).is_empty(),
            Supply::Elsewhere => false,
        }
    }

    fn choose(&self, ask: &BlobAsk) -> Option<Chosen<'a>> {
        let random = rand::random();
        let piece = match (&self.supply, &self.exchange.seeding) {
            (Supply::Whole, Some(seeding)) => {
                lock(seeding).choose(&self.blob, &ask.lacking, self.others, ask.alone, random, Instant::now())
            }
            (Supply::Whole, None) => ask.lacking.choose(random),
            (Supply::Partial(partial), _) => ask.lacking.and(&partial.here()).choose(random),
            (Supply::Elsewhere, _) => None,
        };
        let seeded = matches!(self.supply, Supply::Whole);
        piece.map(|piece| Chosen { exchange: self.exchange, digest: self.blob.digest, piece, seeded, arrived: false })
    }

    async fn read(&mut self, piece: u32) -> Option<Bytes> {
        match &self.supply {
            Supply::Whole => self.blobs.read_piece(&self.blob.digest, piece).await,
            Supply::Partial(partial) => partial.read(piece).await,
            Supply::Elsewhere => None,
        }
    }
}

/// A piece that was chosen, until it has left or failed to.
struct Chosen<'a> {
    exchange: &'a Exchange,
    digest: Digest,
    piece: u32,
    seeded: bool,
    arrived: bool,
}

impl Chosen<'_> {
    fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        if let Some(seeding) = self.exchange.seeding.as_ref().filter(|_| self.seeded) {
            lock(seeding).ended(&self.digest, self.piece, self.arrived, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::UploadRules;

    #[test]
    fn what_others_have_is_said_by_the_best_of_them() {
        let peer = PeerId::random;
        let cases = [
            (vec![], vec![], Others::None),
            (vec![], vec![peer()], Others::Fetch),
            (vec![peer()], vec![], Others::Hold),
            (vec![peer()], vec![peer()], Others::Hold),
        ];
        for (whole, fetching, right) in cases {
            assert_eq!(others(&Holders { whole, fetching }), right);
        }
    }

    #[test]
    fn only_those_are_named_whose_addresses_are_known_and_not_too_many() {
        let exchange = Exchange::new(UploadRules::default());
        let peers: Vec<PeerId> = (0..SOURCES_MAX + 5).map(|_| PeerId::random()).collect();
        let silent = PeerId::random();
        for peer in &peers {
            exchange.note_addresses(*peer, vec!["/ip4/10.0.0.5/tcp/7".parse().expect("an address")]);
        }
        let holders = Holders { whole: vec![silent, peers[1]], fetching: vec![peers[0]] };
        let found: Vec<_> = named(holders, &exchange).into_iter().map(|source| (source.peer, source.addresses.len())).collect();
        assert_eq!(found, [(peers[1].to_bytes(), 1), (peers[0].to_bytes(), 1)]);
        assert_eq!(named(Holders { whole: peers, fetching: Vec::new() }, &exchange).len(), SOURCES_MAX);
    }
}
