//! The door of the mesh: who may agree on keys with this node at the moment, before anybody says who they are.
//!
//! Places are counted per source, which is an address of IPv4 or a network (/64) of IPv6. While there are places
//! everybody gets one: an office whose machines share one address may take all of them. When there are none, whoever comes
//! takes the place of the connection that has said nothing for longest among those of the source that has the most; so a
//! source can fill only what others leave. Sources from which members came have places of their own, and those of the
//! others besides.
//!
//! Core: decides on the times that it is given. The transport around it lets in, listens for signs of life and cuts.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, FutureExt as _, TryFutureExt as _, future::BoxFuture, task::AtomicWaker};
use libp2p::{
    Multiaddr, Transport,
    core::{
        ConnectedPoint,
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
    multiaddr::Protocol as Part,
};
use lull_shared::limits::{CONNECTIONS_INCOMING_MAX, HANDSHAKES_KNOWN_MAX, HANDSHAKES_MAX};
use tokio::time::Instant;

/// How long a connection may say nothing while places are short: three round trips over a slow line.
const QUIET_MAX: Duration = Duration::from_secs(1);
/// One that has been quiet for less than this keeps its place even if those that come are no worse: a machine of the same
/// subnet answers within a few milliseconds, and one that is farther away comes again.
const QUIET_MIN: Duration = Duration::from_millis(100);

/// The source that limits count an address by: a machine has a whole /64 of IPv6.
pub fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// The source that a connection comes from.
pub(crate) fn source(address: &Multiaddr) -> IpAddr {
    let ip = address.iter().find_map(|part| match part {
        Part::Ip4(ip) => Some(IpAddr::V4(ip)),
        Part::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    });
    ip.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), source_of)
}

/// Which places a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Those of sources from which members came.
    Known,
    Anybody,
}

impl Room {
    fn places(self) -> usize {
        match self {
            Self::Known => HANDSHAKES_KNOWN_MAX,
            Self::Anybody => HANDSHAKES_MAX,
        }
    }
}

/// One that agrees on keys.
struct Pending {
    source: IpAddr,
    room: Room,
    /// Since when it owes us something, if it does.
    quiet_since: Option<Instant>,
    cut: Arc<Cut>,
    local: Multiaddr,
    remote: Multiaddr,
}

/// All that agree on keys at the moment.
#[derive(Default)]
struct Places {
    pending: BTreeMap<u64, Pending>,
    next: u64,
    known: Option<lru::LruCache<IpAddr, ()>>,
}

impl Places {
    /// A place for one more, if need be of another that is cut; none when nobody is worse off than who comes.
    fn enter(&mut self, local: &Multiaddr, remote: &Multiaddr, now: Instant) -> Option<(u64, Arc<Cut>)> {
        let source = source(remote);
        let known = self.known.as_mut().is_some_and(|known| known.get(&source).is_some());
        let rooms: &[Room] = if known { &[Room::Known, Room::Anybody] } else { &[Room::Anybody] };
        for room in rooms {
            self.cut_quiet(*room, now);
        }
        let free = rooms.iter().copied().find(|room| self.taken(*room) < room.places());
        let room = match free {
            Some(room) => room,
            None => {
                let (room, worst) = rooms.iter().find_map(|room| Some((*room, self.worst(*room, source, now)?)))?;
                self.cut(worst);
                room
            }
        };
        let (id, cut) = (self.next, Arc::<Cut>::default());
        self.next += 1;
        let pending =
            Pending { source, room, quiet_since: Some(now), cut: cut.clone(), local: local.clone(), remote: remote.clone() };
        self.pending.insert(id, pending);
        Some((id, cut))
    }

    fn taken(&self, room: Room) -> usize {
        self.pending.values().filter(|pending| pending.room == room).count()
    }

    /// When places are short, those that have been quiet for long lose theirs.
    fn cut_quiet(&mut self, room: Room, now: Instant) {
        if self.taken(room) < room.places() / 2 {
            return;
        }
        let quiet = |pending: &Pending| pending.room == room && pending.quiet_for(now) >= Some(QUIET_MAX);
        let quiet: Vec<u64> = self.pending.iter().filter(|(_, pending)| quiet(pending)).map(|(id, _)| *id).collect();
        for id in quiet {
            self.cut(id);
        }
    }

    /// Who gives its place to one from this source.
    fn worst(&self, room: Room, source: IpAddr, now: Instant) -> Option<u64> {
        let here = || self.pending.iter().filter(|(_, pending)| pending.room == room);
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, pending) in here() {
            *counts.entry(pending.source).or_default() += 1;
        }
        let with_it = counts.get(&source).copied().unwrap_or(0) + 1;
        let most = counts.values().copied().max()?;
        if most > with_it {
            let (heaviest, _) = counts.iter().find(|(_, count)| **count == most)?;
            // The oldest of them, if none of them owes us anything.
            let quiet = |pending: &Pending| (pending.quiet_for(now).is_none(), pending.quiet_since);
            return here().filter(|(_, pending)| pending.source == *heaviest).min_by_key(|(_, p)| quiet(p)).map(|(id, _)| *id);
        }
        let equal = |pending: &Pending| pending.source == source || counts.get(&pending.source) >= Some(&with_it);
        here()
            .filter(|(_, pending)| equal(pending) && pending.quiet_for(now) >= Some(QUIET_MIN))
            .min_by_key(|(_, pending)| pending.quiet_since)
            .map(|(id, _)| *id)
    }

    fn cut(&mut self, id: u64) {
        if let Some(pending) = self.pending.remove(&id) {
            pending.cut.turn(CUT);
        }
    }

    /// Something was heard of a connection, or is waited for.
    fn heard(&mut self, id: u64, waits: bool, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.quiet_since = waits.then(|| pending.quiet_since.unwrap_or(now));
        }
    }

    fn saw_member(&mut self, source: IpAddr) {
        // Not bounded by the cache itself, which would reserve its whole size at once.
        let known = self.known.get_or_insert_with(lru::LruCache::unbounded);
        known.put(source, ());
        if known.len() > CONNECTIONS_INCOMING_MAX as usize {
            known.pop_lru();
        }
    }

    fn through(&mut self, local: &Multiaddr, remote: &Multiaddr) {
        let id = self.pending.iter().find(|(_, pending)| pending.remote == *remote && pending.local == *local).map(|(id, _)| *id);
        if let Some(pending) = id.and_then(|id| self.pending.remove(&id)) {
            pending.cut.turn(THROUGH);
        }
    }
}

impl Pending {
    fn quiet_for(&self, now: Instant) -> Option<Duration> {
        self.quiet_since.map(|since| now.saturating_duration_since(since))
    }
}

/// The state that a connection shares with its place.
#[derive(Default)]
struct Cut {
    /// One of those below, or 0 while it agrees on keys.
    state: AtomicU8,
    waker: AtomicWaker,
}

const CUT: u8 = 1;
const THROUGH: u8 = 2;

impl Cut {
    fn turn(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.waker.wake();
    }
}

/// The door itself; its clones are the same door.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Mutex<Places>>);

impl Door {
    /// The transport whose incoming connections come through this door.
    pub(crate) fn guard<T>(&self, transport: T) -> Guarded<T> {
        Guarded { inner: transport, door: self.clone() }
    }

    /// A member came from there.
    pub(crate) fn saw_member(&self, address: &Multiaddr) {
        self.lock().saw_member(source(address));
    }

    /// A connection has its keys, and needs its place no more.
    pub(crate) fn through(&self, point: &ConnectedPoint) {
        if let ConnectedPoint::Listener { local_addr, send_back_addr } = point {
            self.lock().through(local_addr, send_back_addr);
        }
    }

    fn enter(&self, local: &Multiaddr, remote: &Multiaddr) -> Option<Place> {
        let (id, cut) = self.lock().enter(local, remote, Instant::now())?;
        Some(Place { door: self.clone(), id, cut })
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back when it is dropped.
struct Place {
    door: Door,
    id: u64,
    cut: Arc<Cut>,
}

impl Place {
    /// Its state; whoever asks is woken when that changes.
    fn state(&self, cx: &Context<'_>) -> u8 {
        self.cut.waker.register(cx.waker());
        self.cut.state.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.lock().pending.remove(&self.id);
    }
}

/// A transport behind a door.
pub(crate) struct Guarded<T> {
    inner: T,
    door: Door,
}

/// Why a connection did not come through a guarded transport.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardedError<E> {
    #[error("its place was needed for another connection")]
    Cut,
    #[error(transparent)]
    Inner(E),
}

impl<T> Transport for Guarded<T>
where
    T: Transport + Unpin,
    T::Output: Send + 'static,
    T::Error: 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Unpin,
{
    type Output = Entered<T::Output>;
    type Error = GuardedError<T::Error>;
    type ListenerUpgrade = Entering<T::ListenerUpgrade>;
    type Dial = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address).map_err(|error| error.map(GuardedError::Inner))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.inner.dial(address, options).map_err(|error| error.map(GuardedError::Inner))?;
        Ok(dial.map_ok(|io| Entered { io, place: None }).map_err(GuardedError::Inner).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        loop {
            let event = ready!(Pin::new(&mut self.inner).poll(cx));
            let mut place = None;
            if let TransportEvent::Incoming { local_addr, send_back_addr, .. } = &event {
                place = self.door.enter(local_addr, send_back_addr);
                if place.is_none() {
                    tracing::debug!(from = %send_back_addr, "a connection was not taken: too many agree on keys");
                    continue;
                }
            }
            return Poll::Ready(event.map_upgrade(|upgrade| Entering { upgrade, place }).map_err(GuardedError::Inner));
        }
    }
}

/// An incoming connection on its way through the door.
pub(crate) struct Entering<U> {
    upgrade: U,
    place: Option<Place>,
}

impl<U: Future<Output = Result<O, E>> + Unpin, O, E> Future for Entering<U> {
    type Output = Result<Entered<O>, GuardedError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.place.as_ref().is_some_and(|place| place.state(cx) == CUT) {
            return Poll::Ready(Err(GuardedError::Cut));
        }
        let io = ready!(Pin::new(&mut self.upgrade).poll(cx)).map_err(GuardedError::Inner)?;
        Poll::Ready(Ok(Entered { io, place: self.place.take() }))
    }
}

/// What came through a guarded transport, and its place until it has its keys.
pub(crate) struct Entered<S> {
    io: S,
    place: Option<Place>,
}

impl<S> Entered<S> {
    /// What it is, without the place.
    pub(crate) fn into_inner(self) -> S {
        self.io
    }

    fn check(&mut self, cx: &Context<'_>) -> io::Result<()> {
        match self.place.as_ref().map(|place| place.state(cx)) {
            Some(CUT) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its place was needed for another connection")),
            Some(THROUGH) => {
                self.place = None;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Entered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some(place) = &self.place {
            place.door.lock().heard(place.id, read.is_pending(), Instant::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Entered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_millis(1);

    fn here() -> Multiaddr {
        "/ip4/10.0.0.1/tcp/7070".parse().expect("an address")
    }

    struct Siege {
        places: Places,
        now: Instant,
        port: u16,
    }

    impl Siege {
        fn new() -> Self {
            Self { places: Places::default(), now: Instant::now(), port: 1 }
        }

        fn comes(&mut self, ip: &str) -> Option<u64> {
            self.port += 1;
            let kind = if ip.contains(':') { "ip6" } else { "ip4" };
            let remote = format!("/{kind}/{ip}/tcp/{}", self.port).parse().expect("an address");
            self.places.enter(&here(), &remote, self.now).map(|(id, _)| id)
        }

        fn after(&mut self, time: Duration) {
            self.now += time;
        }

        fn of(&self, ip: &str) -> usize {
            let ip: IpAddr = ip.parse().expect("an address");
            self.places.pending.values().filter(|pending| pending.source == ip).count()
        }

        fn is_here(&self, id: u64) -> bool {
            self.places.pending.contains_key(&id)
        }
    }

    #[test]
    fn one_address_may_take_all_places_and_gives_them_to_others_at_once() {
        let mut siege = Siege::new();
        for _ in 0..HANDSHAKES_MAX {
            siege.comes("10.0.0.9").expect("there is room");
        }
        assert_eq!(siege.comes("10.0.0.9"), None, "its own have only just come");
        let others: Vec<u64> = (1..=100).map(|n| siege.comes(&format!("10.0.1.{n}")).expect("a place")).collect();
        assert!(others.iter().all(|id| siege.is_here(*id)));
        assert_eq!(siege.of("10.0.0.9"), HANDSHAKES_MAX - 100);
    }

    #[test]
    fn behind_one_address_those_that_say_nothing_give_their_places_to_those_that_come() {
        let mut siege = Siege::new();
        let silent: Vec<u64> = (0..HANDSHAKES_MAX).filter_map(|_| siege.comes("10.0.0.9")).collect();
        siege.after(QUIET_MIN);
        let neighbour = siege.comes("10.0.0.9").expect("a place");
        assert!(!siege.is_here(silent[0]) && siege.is_here(neighbour));
    }

    #[test]
    fn a_site_that_comes_back_at_once_is_served_in_its_order() {
        let mut siege = Siege::new();
        let first: Vec<u64> = (0..HANDSHAKES_MAX).filter_map(|_| siege.comes("10.0.0.9")).collect();
        for id in &first {
            siege.places.heard(*id, false, siege.now);
        }
        siege.after(QUIET_MAX * 5);
        assert_eq!(siege.comes("10.0.0.9"), None, "we owe each of them something, and nobody gains if one of them begins anew");
        siege.places.pending.remove(&first[0]);
        assert!(siege.comes("10.0.0.9").is_some());
    }

    #[test]
    fn when_places_are_short_whoever_is_quiet_for_a_second_is_cut_and_else_nobody_is() {
        let mut siege = Siege::new();
        let early = siege.comes("10.0.0.9").expect("room");
        siege.after(QUIET_MAX * 2);
        siege.comes("10.0.0.8").expect("room");
        assert!(siege.is_here(early), "there is room for all");
        for n in 0..HANDSHAKES_MAX / 2 {
            siege.comes(&format!("10.0.2.{n}")).expect("room");
        }
        assert!(!siege.is_here(early));
    }

    #[test]
    fn addresses_of_members_have_places_that_no_number_of_strangers_takes() {
        let mut siege = Siege::new();
        siege.places.saw_member("10.0.0.5".parse().expect("an address"));
        for n in 0..4 * HANDSHAKES_MAX {
            siege.comes(&format!("10.9.{}.{}", n / 250, n % 250));
        }
        let members: Vec<u64> = (0..HANDSHAKES_KNOWN_MAX).map(|_| siege.comes("10.0.0.5").expect("a place")).collect();
        siege.after(FRESH);
        siege.comes("10.9.9.9");
        assert!(members.iter().all(|id| siege.is_here(*id)));
    }

    #[test]
    fn addresses_of_members_leave_places_for_machines_that_are_new() {
        let mut siege = Siege::new();
        siege.places.saw_member("10.0.0.5".parse().expect("an address"));
        let came = (0..2 * (HANDSHAKES_KNOWN_MAX + HANDSHAKES_MAX)).filter_map(|_| siege.comes("10.0.0.5")).count();
        assert_eq!(came, HANDSHAKES_KNOWN_MAX + HANDSHAKES_MAX);
        assert!(siege.comes("10.7.7.7").is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_however_many_addresses_it_uses() {
        let mut siege = Siege::new();
        for n in 0..HANDSHAKES_MAX {
            siege.comes(&format!("2001:db8::{n:x}"));
        }
        assert_eq!(siege.of("2001:db8::"), HANDSHAKES_MAX);
        let other = siege.comes("2001:db8:0:1::1").expect("a place");
        assert!(siege.is_here(other) && siege.of("2001:db8::") == HANDSHAKES_MAX - 1);
        assert_eq!(source(&"/ip6/::ffff:10.0.0.9/tcp/1".parse().expect("an address")), IpAddr::from([10, 0, 0, 9]));
    }

    #[test]
    fn a_place_is_given_back_by_who_is_through_cut_or_gone() {
        let (door, remote) = (Door::default(), "/ip4/10.0.0.9/tcp/1".parse::<Multiaddr>().expect("an address"));
        let taken = || door.lock().pending.len();
        let place = door.enter(&here(), &remote).expect("a place");
        drop(place);
        assert_eq!(taken(), 0);
        let place = door.enter(&here(), &remote).expect("a place");
        door.through(&ConnectedPoint::Listener { local_addr: here(), send_back_addr: remote.clone() });
        assert_eq!((taken(), place.cut.state.load(Ordering::Acquire)), (0, THROUGH));
    }

    #[test]
    fn addresses_of_members_are_bounded() {
        let mut places = Places::default();
        for number in 0..CONNECTIONS_INCOMING_MAX + 10 {
            places.saw_member(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(places.known.map(|known| known.len()), Some(CONNECTIONS_INCOMING_MAX as usize));
    }

    /// Everybody who comes from these addresses, in this order.
    fn crowd(siege: &mut Siege, from: &[(&str, usize)]) -> Vec<u64> {
        let all = from.iter().flat_map(|(ip, count)| std::iter::repeat_n(*ip, *count));
        all.map(|ip| siege.comes(ip).expect("there is room")).collect()
    }

    /// Who loses a place to one from this address: its number in the order of coming, none when the newcomer is refused.
    fn loses(from: &[(&str, usize)], later: Duration, owed: &[usize], newcomer: &str) -> Option<usize> {
        let mut siege = Siege::new();
        let ids = crowd(&mut siege, from);
        for place in owed {
            siege.places.heard(ids[*place], false, siege.now);
        }
        siege.after(later);
        siege.comes(newcomer)?;
        assert_eq!(siege.places.pending.len(), HANDSHAKES_MAX, "one goes for one that comes");
        ids.iter().position(|id| !siege.is_here(*id))
    }

    #[test]
    fn the_source_with_the_most_loses_a_place_and_among_equals_only_one_that_has_been_quiet() {
        let (all, half) = (HANDSHAKES_MAX, HANDSHAKES_MAX / 2);
        let (a, b, c) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
        let now = Duration::ZERO;
        assert_eq!(loses(&[(a, all)], now, &[], b), Some(0), "the crowd is the larger");
        assert_eq!(loses(&[(a, all)], now, &[0, 1], b), Some(2), "the first who owes us something");
        assert_eq!(loses(&[(a, all)], now, &(0..all).collect::<Vec<_>>(), b), Some(0), "or the first of all");
        assert_eq!(loses(&[(b, half - 1), (a, half + 1)], now, &[], c), Some(half - 1), "the oldest are another's");
        assert_eq!(loses(&[(a, half), (b, half)], now, &[], b), None, "its own are the most and have just come");
        assert_eq!(loses(&[(a, half), (b, half)], QUIET_MIN - FRESH, &[], b), None);
        assert_eq!(loses(&[(a, half), (b, half)], QUIET_MIN, &[], b), Some(half), "one of its own");
        assert_eq!(loses(&[(a, half + 1), (b, half - 1)], QUIET_MIN, &[], b), Some(0), "one of as many as its own would be");
        assert_eq!(loses(&[(a, half), (b, half)], QUIET_MIN, &(half..all).collect::<Vec<_>>(), b), None, "we owe them an answer");
        let each: Vec<String> = (0..all).map(|number| format!("10.1.{}.{}", number / 200, number % 200)).collect();
        let each: Vec<(&str, usize)> = each.iter().map(|ip| (ip.as_str(), 1)).collect();
        assert_eq!(loses(&each, now, &[], a), None, "all are alike and have just come");
        assert_eq!(loses(&each, QUIET_MIN, &[0], a), Some(1), "the quietest that owes us something");
    }

    #[test]
    fn from_half_of_the_places_on_whoever_was_quiet_for_a_second_goes() {
        for (others, quiet, goes) in [
            (HANDSHAKES_MAX / 2 - 1, QUIET_MAX, true),
            (HANDSHAKES_MAX / 2 - 2, QUIET_MAX, false),
            (HANDSHAKES_MAX / 2 - 1, QUIET_MAX - FRESH, false),
        ] {
            let mut siege = Siege::new();
            let early = siege.comes("10.0.0.1").expect("there is room");
            let spoke = siege.comes("10.0.0.2").expect("there is room");
            siege.places.heard(spoke, false, siege.now);
            siege.after(quiet);
            crowd(&mut siege, &[("10.0.0.3", others - 1)]);
            let newcomer = siege.comes("10.0.0.4").expect("there is room");
            assert_eq!(
                (siege.is_here(early), siege.is_here(spoke), siege.is_here(newcomer)),
                (!goes, true, true),
                "{others}, {quiet:?}"
            );
        }
    }

    #[test]
    fn whoever_speaks_is_quiet_from_the_moment_that_it_owes_us_something_again() {
        let mut siege = Siege::new();
        let id = siege.comes("10.0.0.1").expect("there is room");
        let quiet = |siege: &Siege| siege.places.pending[&id].quiet_for(siege.now);
        siege.after(FRESH);
        siege.places.heard(id, true, siege.now);
        assert_eq!(quiet(&siege), Some(FRESH), "it has said nothing yet");
        siege.places.heard(id, false, siege.now);
        assert_eq!(quiet(&siege), None);
        siege.places.heard(id, true, siege.now);
        siege.after(QUIET_MIN);
        assert_eq!(quiet(&siege), Some(QUIET_MIN));
    }

    #[test]
    fn the_address_that_a_member_came_from_last_is_the_last_to_be_forgotten() {
        let mut places = Places::default();
        let ip = |number: u32| IpAddr::from(number.to_be_bytes());
        (0..CONNECTIONS_INCOMING_MAX).for_each(|number| places.saw_member(ip(number)));
        assert_eq!(places.known.as_ref().map(|known| known.len()), Some(CONNECTIONS_INCOMING_MAX as usize));
        places.saw_member(ip(0));
        places.saw_member(ip(CONNECTIONS_INCOMING_MAX));
        let known = places.known.expect("there are some");
        assert!(known.contains(&ip(0)) && !known.contains(&ip(1)) && known.contains(&ip(CONNECTIONS_INCOMING_MAX)));
    }

    #[test]
    fn a_place_is_found_by_both_of_its_addresses() {
        let door = Door::default();
        let [one, two]: [Multiaddr; 2] =
            ["/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.9/tcp/2"].map(|text| text.parse().expect("an address"));
        let other: Multiaddr = "/ip4/10.0.0.7/tcp/7070".parse().expect("an address");
        let points = [(here(), one.clone()), (here(), two.clone()), (other.clone(), one.clone())];
        let places: Vec<Place> = points.iter().map(|(local, remote)| door.enter(local, remote).expect("a place")).collect();
        for (number, (local_addr, send_back_addr)) in points.into_iter().enumerate().rev() {
            door.through(&ConnectedPoint::Listener { local_addr, send_back_addr });
            let through: Vec<bool> = places.iter().map(|place| place.cut.state.load(Ordering::Acquire) == THROUGH).collect();
            assert_eq!(through, [number == 0, number <= 1, true], "only that one more");
        }
        door.saw_member(&one);
        assert_eq!(door.lock().known.as_ref().map(|known| known.len()), Some(1));
    }

    #[tokio::test]
    async fn a_connection_whose_place_was_taken_breaks_and_one_that_is_through_needs_none() {
        use futures::{AsyncReadExt as _, AsyncWriteExt as _, io::Cursor};
        let door = Door::default();
        let enter = || {
            let place = door.enter(&here(), &"/ip4/10.0.0.9/tcp/1".parse().expect("an address"));
            Entering { upgrade: std::future::ready(Ok::<_, io::Error>(Cursor::new(vec![7; 4]))), place }
        };
        let cut = enter();
        door.lock().cut(0);
        assert!(matches!(cut.await, Err(GuardedError::Cut)), "before it was there");
        let mut entered = enter().await.expect("it is there");
        let mut byte = [0];
        assert_eq!(entered.read(&mut byte).await.expect("it may read"), 1);
        door.lock().cut(1);
        let aborted =
            |result: io::Result<usize>| matches!(result, Err(error) if error.kind() == io::ErrorKind::ConnectionAborted);
        assert!(aborted(entered.read(&mut byte).await) && aborted(entered.write(&[1]).await));
        assert!(aborted(entered.write_vectored(&[io::IoSlice::new(&[1])]).await));
        let mut entered = enter().await.expect("it is there");
        let (local_addr, send_back_addr) = (here(), "/ip4/10.0.0.9/tcp/1".parse().expect("an address"));
        door.through(&ConnectedPoint::Listener { local_addr, send_back_addr });
        assert_eq!(entered.read(&mut byte).await.expect("it may read"), 1);
        assert!(entered.place.is_none() && door.lock().pending.is_empty());
    }
}
