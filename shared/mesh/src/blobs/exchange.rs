//! What all of a node's blob transfers share: places and pace of uploads, what is being fetched, who listens where.
//!
//! The node's task only writes to the address book; everything else is between the tasks that serve and fetch.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use lull_shared::{
    digest::{BlobRef, Digest, Outline, PIECE_BYTES},
    limits,
    pieces::PieceSet,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::{
    UploadRules,
    blobs::{file::read_piece, seeding::Seeding},
};

/// A peer that could not be dialled is not tried again for this long, since it may have been a moment's trouble; twice as
/// long with each time in a row...
const UNREACHABLE_TIME_MIN: Duration = Duration::from_secs(10);
/// ...up to this: it is behind a firewall or switched off.
const UNREACHABLE_TIME_MAX: Duration = Duration::from_secs(300);
/// Peers that are remembered as out of reach. Beyond it all are tried again.
const UNREACHABLE_MAX: usize = 1024;

/// Shared by the node, its handles and its serving tasks.
pub(crate) struct Exchange {
    slots: Arc<Semaphore>,
    shares: Mutex<BTreeMap<PeerId, usize>>,
    pub(crate) pace: Option<Pace>,
    /// None where everybody gets everything.
    pub(crate) seeding: Option<Mutex<Seeding>>,
    fetches: Mutex<BTreeMap<Digest, Arc<Partial>>>,
    fetch_ended: Notify,
    book: Mutex<BTreeMap<PeerId, Vec<Multiaddr>>>,
    unreachable: Mutex<BTreeMap<PeerId, Unreachable>>,
    pub(crate) counters: Counters,
}

/// A peer that could not be dialled.
struct Unreachable {
    since: Instant,
    times: u32,
}

impl Unreachable {
    fn is_left_alone(&self, now: Instant) -> bool {
        let pause = UNREACHABLE_TIME_MIN.saturating_mul(1 << (self.times - 1).min(16)).min(UNREACHABLE_TIME_MAX);
        now.duration_since(self.since) < pause
    }
}

/// Bytes of blobs since the node started.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) from_agents: AtomicU64,
    pub(crate) from_coordinators: AtomicU64,
    pub(crate) served: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Exchange {
    pub(crate) fn new(rules: UploadRules) -> Self {
        let slots = rules.bytes_per_second_max.map_or(limits::BLOB_TRANSFERS_MAX, slots_at);
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            shares: Mutex::default(),
            pace: rules.bytes_per_second_max.map(Pace::new),
            seeding: rules.seeds.then(Mutex::default),
            fetches: Mutex::default(),
            fetch_ended: Notify::new(),
            book: Mutex::default(),
            unreachable: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// A place to send one piece; none when all are taken, or the peer has its share.
    pub(crate) fn place(self: &Arc<Self>, peer: PeerId) -> Option<Place> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let mut shares = lock(&self.shares);
        let share = shares.entry(peer).or_insert(0);
        if *share >= limits::BLOB_TRANSFERS_PER_PEER_MAX {
            return None;
        }
        *share += 1;
        Some(Place { exchange: self.clone(), peer, _slot: slot })
    }

    /// Lists a fetch, so that what is there of it can be served. Waits for an earlier one of the same blob.
    pub(crate) async fn begin(self: &Arc<Self>, partial: Arc<Partial>) -> Listed {
        loop {
            let ended = self.fetch_ended.notified();
            {
                let mut fetches = lock(&self.fetches);
                let digest = partial.blob.digest;
                if let std::collections::btree_map::Entry::Vacant(vacant) = fetches.entry(digest) {
                    vacant.insert(partial);
                    return Listed { exchange: self.clone(), digest };
                }
            }
            ended.await;
        }
    }

    /// The fetch of a blob that is under way.
    pub(crate) fn fetching(&self, digest: &Digest) -> Option<Arc<Partial>> {
        lock(&self.fetches).get(digest).cloned()
    }

    /// Notes where a peer listens.
    pub(crate) fn note_addresses(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            lock(&self.book).remove(&peer);
        } else {
            lock(&self.book).insert(peer, addresses);
        }
    }

    /// Where a connected peer listens, as it says.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        lock(&self.book).get(peer).cloned().unwrap_or_default()
    }

    /// Everybody who listens, as they say.
    pub(crate) fn book(&self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        lock(&self.book).clone()
    }

    pub(crate) fn note_unreachable(&self, peer: PeerId, now: Instant) {
        let mut unreachable = lock(&self.unreachable);
        if unreachable.len() >= UNREACHABLE_MAX && !unreachable.contains_key(&peer) {
            unreachable.clear();
        }
        let known = unreachable.entry(peer).or_insert(Unreachable { since: now, times: 0 });
        *known = Unreachable { since: now, times: known.times.saturating_add(1) };
    }

    pub(crate) fn note_reached(&self, peer: &PeerId) {
        lock(&self.unreachable).remove(peer);
    }

    pub(crate) fn is_unreachable(&self, peer: &PeerId, now: Instant) -> bool {
        lock(&self.unreachable).get(peer).is_some_and(|unreachable| unreachable.is_left_alone(now))
    }
}

/// With a slow uplink few pieces are sent at once, so that each arrives soon enough to be passed on: those that leave
/// within a second, and two at least.
fn slots_at(rate: NonZeroU64) -> usize {
    usize::try_from(rate.get() / PIECE_BYTES as u64).unwrap_or(usize::MAX).clamp(2, limits::BLOB_TRANSFERS_MAX)
}

/// The right to send one piece.
pub(crate) struct Place {
    exchange: Arc<Exchange>,
    peer: PeerId,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shares = lock(&self.exchange.shares);
        if let Some(share) = shares.get_mut(&self.peer) {
            *share -= 1;
            if *share == 0 {
                shares.remove(&self.peer);
            }
        }
    }
}

/// Spaces out what is sent, over all peers together.
pub(crate) struct Pace {
    bytes_per_second: NonZeroU64,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, next: Mutex::new(Instant::now()) }
    }

    /// Returns when so many bytes may leave.
    pub(crate) async fn take(&self, bytes: usize) {
        let at = self.reserve(bytes, Instant::now());
        sleep_until(at).await;
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let mut next = lock(&self.next);
        let at = (*next).max(now);
        *next = at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        at
    }
}

/// What is there of a blob that is being fetched.
pub(crate) struct Partial {
    pub(crate) blob: BlobRef,
    /// None when it goes into memory: then it is not served.
    path: Option<PathBuf>,
    outline: OnceLock<Outline>,
    here: Mutex<PieceSet>,
}

impl Partial {
    pub(crate) fn new(blob: BlobRef, path: Option<PathBuf>) -> Self {
        Self { blob, path, outline: OnceLock::new(), here: Mutex::new(PieceSet::none(blob.pieces())) }
    }

    /// The outline, once one was verified.
    pub(crate) fn outline(&self) -> Option<&Outline> {
        self.outline.get()
    }

    pub(crate) fn set_outline(&self, outline: Outline) {
        // The first is as good as any: both were verified.
        let _ = self.outline.set(outline);
    }

    pub(crate) fn here(&self) -> PieceSet {
        lock(&self.here).clone()
    }

    /// A verified piece is in its place; whether it was not there before.
    pub(crate) fn arrived(&self, piece: u32) -> bool {
        lock(&self.here).insert(piece)
    }

    pub(crate) fn is_whole(&self) -> bool {
        lock(&self.here).len() == self.blob.pieces()
    }

    /// One piece that is here.
    pub(crate) async fn read(&self, piece: u32) -> Option<Bytes> {
        let (path, blob) = (self.path.clone()?, self.blob);
        tokio::task::spawn_blocking(move || read_piece(&path, &blob, piece)).await.ok()?.ok()
    }
}

/// A fetch that is listed until this is dropped.
pub(crate) struct Listed {
    exchange: Arc<Exchange>,
    digest: Digest,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.exchange.fetches).remove(&self.digest);
        self.exchange.fetch_ended.notify_waiters();
    }
}

/// What is behind these locks is whole between any two statements, so a panic elsewhere spoils nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(rate: Option<u64>) -> Arc<Exchange> {
        Arc::new(Exchange::new(UploadRules { bytes_per_second_max: rate.and_then(NonZeroU64::new), seeds: false }))
    }

    #[test]
    fn one_peer_has_its_share_of_the_places_and_others_theirs() {
        let (exchange, greedy) = (exchange(None), PeerId::random());
        let mut places: Vec<_> = (0..limits::BLOB_TRANSFERS_PER_PEER_MAX).map(|_| exchange.place(greedy)).collect();
        assert!(places.iter().all(Option::is_some) && exchange.place(greedy).is_none());
        let others = limits::BLOB_TRANSFERS_MAX - places.len();
        places.extend((0..others).map(|_| exchange.place(PeerId::random())));
        assert!(places.iter().all(Option::is_some) && exchange.place(PeerId::random()).is_none(), "all are taken");
        places.clear();
        assert!(exchange.place(greedy).is_some() && lock(&exchange.shares).is_empty());
    }

    #[test]
    fn what_is_sent_keeps_the_pace_and_what_was_not_sent_is_not_saved_up() {
        let exchange = exchange(Some(1_000_000));
        let (pace, start) = (exchange.pace.as_ref().expect("a pace"), Instant::now());
        let last = (0..40).map(|_| pace.reserve(50_000, start)).max().expect("there are some");
        assert_eq!(last.duration_since(start).as_millis(), 1_950, "two megabytes, the last part of which may leave at once");
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.reserve(50_000, later), later);
        assert_eq!(pace.reserve(50_000, later).duration_since(later).as_millis(), 50);
    }

    #[test]
    fn a_peer_out_of_reach_is_left_alone_for_a_moment_first_and_longer_each_time() {
        let (exchange, peer, start) = (exchange(None), PeerId::random(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        exchange.note_unreachable(peer, start);
        assert!(exchange.is_unreachable(&peer, after(9)) && !exchange.is_unreachable(&peer, after(10)));
        exchange.note_unreachable(peer, after(10));
        assert!(exchange.is_unreachable(&peer, after(29)) && !exchange.is_unreachable(&peer, after(30)));
        (0..100).for_each(|_| exchange.note_unreachable(peer, after(30)));
        assert!(exchange.is_unreachable(&peer, after(329)) && !exchange.is_unreachable(&peer, after(330)));
        exchange.note_reached(&peer);
        exchange.note_unreachable(peer, start);
        assert!(!exchange.is_unreachable(&peer, after(10)), "it was reached in between");
    }

    #[test]
    fn a_slow_uplink_sends_few_pieces_at_once() {
        let slots = |rate| slots_at(NonZeroU64::new(rate).expect("not zero"));
        assert_eq!((slots(limits::UPLOAD_RATE_MIN), slots(2_000_000), slots(u64::MAX)), (2, 7, limits::BLOB_TRANSFERS_MAX));
        let slowest = 2.0 * PIECE_BYTES as f64 / limits::UPLOAD_RATE_MIN as f64;
        assert!(slowest < limits::TRANSFER_TIME_MAX.as_secs_f64(), "a piece arrives before it counts as failed");
    }

    #[test]
    fn of_peers_out_of_reach_few_are_remembered_and_where_a_peer_listens_until_it_goes() {
        let (exchange, now) = (exchange(None), Instant::now());
        let first = PeerId::random();
        exchange.note_unreachable(first, now);
        for _ in 0..UNREACHABLE_MAX - 1 {
            exchange.note_unreachable(PeerId::random(), now);
        }
        assert!(exchange.is_unreachable(&first, now));
        exchange.note_unreachable(first, now);
        assert_eq!(lock(&exchange.unreachable).len(), UNREACHABLE_MAX, "one that is known takes no place");
        let last = PeerId::random();
        exchange.note_unreachable(last, now);
        assert_eq!(lock(&exchange.unreachable).len(), 1);
        assert!(exchange.is_unreachable(&last, now) && !exchange.is_unreachable(&first, now), "the others are tried again");
        exchange.note_addresses(first, vec!["/ip4/10.0.0.5/tcp/7".parse().expect("an address")]);
        assert_eq!(exchange.book().len(), 1);
        exchange.note_addresses(first, Vec::new());
        assert!(exchange.book().is_empty());
    }

    #[tokio::test]
    async fn a_second_fetch_of_a_blob_waits_for_the_first_and_others_do_not() {
        let exchange = exchange(None);
        let partial = |bytes: &[u8]| Arc::new(Partial::new(BlobRef::of(bytes), None));
        let first = exchange.begin(partial(b"one")).await;
        assert!(exchange.fetching(&Digest::of(b"one")).is_some() && exchange.fetching(&Digest::of(b"two")).is_none());
        let other = exchange.begin(partial(b"two")).await;
        let second = tokio::spawn({
            let (exchange, partial) = (exchange.clone(), partial(b"one"));
            async move { exchange.begin(partial).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.expect("it goes on");
        assert!(exchange.fetching(&Digest::of(b"one")).is_some());
        drop((second, other));
        assert!(lock(&exchange.fetches).is_empty());
    }

    #[tokio::test]
    async fn what_may_not_leave_yet_waits() {
        let exchange = exchange(Some(1_000_000));
        let (pace, start) = (exchange.pace.as_ref().expect("a pace"), Instant::now());
        pace.take(20_000).await;
        pace.take(1).await;
        assert!(start.elapsed() >= Duration::from_millis(20), "{:?}", start.elapsed());
    }

    #[test]
    fn a_fetch_knows_what_is_there_of_its_blob() {
        let partial = Partial::new(BlobRef { digest: Digest::of(b"x"), size_bytes: PIECE_BYTES as u64 + 1 }, None);
        assert_eq!((partial.is_whole(), partial.here().len()), (false, 0));
        assert!(partial.arrived(1) && !partial.arrived(1));
        assert!(!partial.is_whole() && partial.here().contains(1));
        assert!(partial.arrived(0) && partial.is_whole());
    }
}
