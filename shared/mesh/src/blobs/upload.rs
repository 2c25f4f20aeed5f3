//! Sending pieces to whoever asks: of blobs that are here, and of those that are still being fetched.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    limits::{INTRODUCTION_BYTES_MAX, SOURCES_MAX},
    protocol::{BlobAnswer, BlobAsk, BlobReply, BlobRequest, BlobSource},
};
use tokio::time::Instant;

use crate::{
    BlobStore, Holders,
    blobs::{
        exchange::{Counters, Exchange, Partial, lock},
        relay::{Relay, Relayed},
        seeding::Others,
    },
    handle::NodeHandle,
    peers::connection::Traffic,
    streams::frames::{FrameError, in_time, read_frame, write_frame},
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
pub(crate) async fn serve(
    peer: PeerId,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
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
    async fn answer(&mut self, stream: &mut (impl AsyncWrite + Unpin), ask: &BlobAsk) -> Result<(), FrameError> {
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

    async fn send(&mut self, stream: &mut (impl AsyncWrite + Unpin), index: u32, piece: &Bytes) -> Result<(), FrameError> {
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

    use crate::UploadRules;

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

    use std::sync::{Mutex, atomic::AtomicU64};

    use async_trait::async_trait;
    use futures::AsyncReadExt as _;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    use crate::Receiving;
    use lull_shared::{digest::PIECE_BYTES, id::AttemptId, pieces::PieceSet};

    /// One blob of three pieces, and who else has it.
    struct Shelf {
        bytes: Vec<u8>,
        blob: BlobRef,
        outline: Outline,
        others: Mutex<Holders>,
        sent: AtomicU64,
    }

    impl Shelf {
        fn new() -> Self {
            let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 7).map(|i| (i % 251) as u8).collect();
            let mut builder = lull_shared::digest::OutlineBuilder::default();
            builder.update(&bytes);
            let (blob, outline) = builder.finish();
            Self { bytes, blob, outline, others: Mutex::default(), sent: AtomicU64::new(0) }
        }

        fn piece(&self, index: u32) -> &[u8] {
            let start = index as usize * PIECE_BYTES;
            &self.bytes[start..self.bytes.len().min(start + PIECE_BYTES)]
        }
    }

    #[async_trait]
    impl BlobStore for Shelf {
        async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
            (*digest == self.blob.digest).then(|| (self.blob, self.outline.clone()))
        }

        async fn read_piece(&self, _: &Digest, index: u32) -> Option<Bytes> {
            Some(Bytes::copy_from_slice(self.piece(index)))
        }

        async fn holders(&self, _: PeerId, _: &BlobRef) -> Holders {
            lock(&self.others).clone()
        }

        fn sent(&self, _: PeerId, _: &BlobRef, bytes: u64) {
            self.sent.fetch_add(bytes, Ordering::Relaxed);
        }

        async fn receive(&self, _: PeerId, _: AttemptId, _: BlobRef) -> Result<Receiving, String> {
            Err("it takes nothing".into())
        }
    }

    fn node(seeds: bool) -> NodeHandle {
        let (commands, _) = tokio::sync::mpsc::channel(8);
        let exchange = Arc::new(Exchange::new(UploadRules { seeds, ..UploadRules::default() }));
        NodeHandle::new(PeerId::random(), commands, exchange)
    }

    /// What somebody is told who asks for a blob and then for pieces of these sets; each piece is checked.
    async fn asks(
        shelf: &Shelf,
        node: &NodeHandle,
        peer: PeerId,
        request: BlobRequest,
        asks: &[(PieceSet, bool)],
    ) -> (BlobReply, Vec<BlobAnswer>, Result<(), FrameError>, u64) {
        let (theirs, ours) = tokio::io::duplex(1 << 20);
        let traffic = Traffic::default();
        let served = serve(peer, ours.compat(), shelf, node, &traffic);
        let asked = async {
            let mut theirs: Compat<_> = theirs.compat();
            write_frame(&mut theirs, &request).await.expect("there is room");
            let reply = read_frame(&mut theirs, 1 << 20).await.expect("an answer");
            let mut answers = Vec::new();
            for (lacking, alone) in asks {
                let ask = BlobAsk { lacking: lacking.clone(), alone: *alone };
                if write_frame(&mut theirs, &ask).await.is_err() {
                    break;
                }
                let Ok(answer) = read_frame(&mut theirs, 1_000).await else { break };
                if let BlobAnswer::Piece { index } = answer {
                    let mut bytes = vec![0; shelf.piece(index).len()];
                    theirs.read_exact(&mut bytes).await.expect("its bytes follow");
                    assert!(bytes == shelf.piece(index) && lacking.contains(index));
                }
                answers.push(answer);
            }
            (reply, answers)
        };
        let (served, (reply, answers)) = tokio::join!(served, asked);
        (reply, answers, served, traffic.blob_bytes_sent.load(Ordering::Relaxed))
    }

    fn only(piece: u32) -> PieceSet {
        let mut set = PieceSet::none(3);
        set.insert(piece);
        set
    }

    #[tokio::test]
    async fn a_blob_is_given_piece_by_piece_with_its_outline_where_that_is_wanted() {
        let (shelf, node) = (Shelf::new(), node(false));
        let request = |outline| BlobRequest { digest: shelf.blob.digest, outline };
        let all = [0, 2, 1].map(|piece| (only(piece), false));
        let (reply, answers, served, moved) = asks(&shelf, &node, PeerId::random(), request(true), &all).await;
        assert_eq!(reply, BlobReply::Found { blob: shelf.blob, outline: Some(shelf.outline.clone()), sources: vec![] });
        assert_eq!(answers, [0, 2, 1].map(|index| BlobAnswer::Piece { index }));
        let size = shelf.blob.size_bytes;
        assert_eq!((served.is_ok(), moved, node.transferred().served_bytes), (true, size, size));
        assert_eq!(shelf.sent.load(Ordering::Relaxed), size);
        let (reply, ..) = asks(&shelf, &node, PeerId::random(), request(false), &[]).await;
        assert!(matches!(reply, BlobReply::Found { outline: None, .. }));
        let nobodys = BlobRequest { digest: Digest::of(b"another"), outline: true };
        assert_eq!(asks(&shelf, &node, PeerId::random(), nobodys, &[]).await.0, BlobReply::Missing);
    }

    #[tokio::test]
    async fn an_ask_for_what_there_is_not_ends_the_stream() {
        let (shelf, node) = (Shelf::new(), node(false));
        let request = BlobRequest { digest: shelf.blob.digest, outline: false };
        let wrong = [(only(0), false), (PieceSet::all(9), false), (only(1), false)];
        let (_, answers, served, _) = asks(&shelf, &node, PeerId::random(), request, &wrong).await;
        assert!(matches!(served, Err(FrameError::Wrong(_))));
        assert_eq!(answers, [BlobAnswer::Piece { index: 0 }]);
    }

    #[tokio::test]
    async fn a_coordinator_gives_each_piece_to_a_few_of_those_who_fetch_it_together_and_a_peer_its_share() {
        let (shelf, node) = (Shelf::new(), node(true));
        let peer = PeerId::random();
        node.exchange.note_addresses(peer, vec!["/ip4/10.0.0.5/tcp/7".parse().expect("an address")]);
        *lock(&shelf.others) = Holders { whole: Vec::new(), fetching: vec![peer] };
        let request = BlobRequest { digest: shelf.blob.digest, outline: false };
        let again = [(only(1), false), (only(1), false), (only(1), false), (only(1), true)];
        let (reply, answers, ..) = asks(&shelf, &node, PeerId::random(), request.clone(), &again).await;
        let BlobReply::Found { sources, .. } = reply else { panic!("it is here") };
        assert_eq!(sources.iter().map(|source| source.peer.clone()).collect::<Vec<_>>(), [peer.to_bytes()]);
        let piece = BlobAnswer::Piece { index: 1 };
        assert_eq!(answers, [piece, piece, BlobAnswer::Nothing, BlobAnswer::Nothing], "two have only just got it");
        *lock(&shelf.others) = Holders { whole: vec![peer], fetching: Vec::new() };
        let (_, answers, ..) = asks(&shelf, &node, PeerId::random(), request.clone(), &[(only(0), false), (only(0), true)]).await;
        assert_eq!(
            answers,
            [BlobAnswer::Nothing, BlobAnswer::Piece { index: 0 }],
            "who holds it gives it, unless nobody reaches it"
        );
        let greedy = PeerId::random();
        let _places: Vec<_> = std::iter::from_fn(|| node.exchange.place(greedy)).collect();
        let (_, answers, ..) = asks(&shelf, &node, greedy, request, &[(only(2), true)]).await;
        assert_eq!(answers, [BlobAnswer::Busy]);
    }
}
