//! Who is connected to the interface, and who has to go when there are more than may be.
//!
//! A connection is idle, sends the head of a request or what a stranger may send besides, or is served. Being served needs a
//! token, and each token has its share of places; the others may be done by anybody, so they have little time, and they
//! give their places to those that come: first those of the address that has the most connections. Whoever fills all places from one address finds
//! them taken by others.
//!
//! Where one address has more than half of all places, others take those too that are being served: many tokens are not a
//! reason to keep everybody else out.
//!
//! Core: decides on the times that it is given.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lull_mesh::source_of;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Connections at the same time. Each may hold some 100 kB.
const GUESTS_MAX: usize = 1_024;
/// When so many were here and three of four have gone, their memory is given back to the system.
const CROWD_MIN: usize = GUESTS_MAX / 4;
/// The time for a request's head: some hundred bytes.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request: longer than somebody needs to type the next command.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// A connection younger than this gives its place to none that is no better: a request follows its connection at once.
const IDLE_MIN: Duration = Duration::from_millis(100);

/// What happens on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing: no request has begun.
    Idle,
    /// Some of a request's head has come, or of what a stranger shows to be let in.
    Head,
    /// A request is being answered.
    Served,
}

struct Entry {
    source: IpAddr,
    /// Requests that are being answered.
    served: u32,
    /// Requests of strangers who have not yet shown everything.
    asking: u32,
    phase: Phase,
    since: Instant,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    all: BTreeMap<u64, Entry>,
    next: u64,
    /// The most that were here at once since memory was given back.
    peak: usize,
}

impl Table {
    fn enter(&mut self, from: IpAddr, now: Instant) -> Option<(u64, Arc<Notify>)> {
        let source = source_of(from);
        if self.all.len() >= GUESTS_MAX {
            let worst = self.worst(source, now)?;
            self.remove(worst);
        }
        let (id, changed) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.all.insert(id, Entry { source, served: 0, asking: 0, phase: Phase::Idle, since: now, changed: changed.clone() });
        self.peak = self.peak.max(self.all.len());
        Some((id, changed))
    }

    /// Who goes for one more from this source.
    fn worst(&self, newcomer: IpAddr, now: Instant) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::from([(newcomer, 1)]);
        for entry in self.all.values() {
            *counts.entry(entry.source).or_default() += 1;
        }
        let own = counts[&newcomer];
        let unserved = || self.all.iter().filter(|(_, entry)| entry.phase != Phase::Served);
        let (most, most_from) = counts.iter().map(|(source, count)| (*count, *source)).max()?;
        if most > GUESTS_MAX / 2 && most_from != newcomer {
            let theirs = self.all.iter().filter(|(_, entry)| entry.source == most_from);
            return theirs.min_by_key(|(_, entry)| (entry.phase, entry.since)).map(|(id, _)| *id);
        }
        let heaviest = unserved().map(|(_, entry)| counts[&entry.source]).max()?;
        let suits = |entry: &Entry| match heaviest > own {
            true => counts[&entry.source] == heaviest,
            false => counts[&entry.source] == own && now.saturating_duration_since(entry.since) >= IDLE_MIN,
        };
        unserved().filter(|(_, entry)| suits(entry)).min_by_key(|(_, entry)| entry.since).map(|(id, _)| *id)
    }

    fn remove(&mut self, id: u64) {
        if let Some(entry) = self.all.remove(&id) {
            entry.changed.notify_one();
        }
    }

    fn turn(&mut self, id: u64, phase: Phase, now: Instant) {
        if let Some(entry) = self.all.get_mut(&id).filter(|entry| entry.phase != phase) {
            (entry.phase, entry.since) = (phase, now);
            entry.changed.notify_one();
        }
    }

    /// Counts its requests anew, and says what happens on it by them.
    fn count(&mut self, id: u64, recount: impl FnOnce(&mut Entry), now: Instant) {
        let Some(entry) = self.all.get_mut(&id) else { return };
        recount(entry);
        let phase = match (entry.served, entry.asking) {
            (0, 0) => Phase::Idle,
            (0, _) => Phase::Head,
            _ => Phase::Served,
        };
        self.turn(id, phase, now);
    }

    /// Whether a crowd has gone since this was last asked.
    fn has_calmed(&mut self) -> bool {
        let calmed = self.peak >= CROWD_MIN && self.all.len() <= self.peak / 4;
        if calmed {
            self.peak = self.all.len();
        }
        calmed
    }

    /// When a connection has to go unless something happens.
    fn stay(&self, id: u64) -> Stay {
        match self.all.get(&id) {
            None => Stay::Over,
            Some(Entry { phase: Phase::Served, .. }) => Stay::Long,
            Some(Entry { phase: Phase::Head, since, .. }) => Stay::Until(*since + HEAD_TIME_MAX),
            Some(Entry { phase: Phase::Idle, since, .. }) => Stay::Until(*since + IDLE_TIME_MAX),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stay {
    Over,
    Until(Instant),
    Long,
}

/// All connections of the interface; its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Guests(Arc<Mutex<Table>>);

impl Guests {
    /// A place for a connection from this address, unless there is none and nobody is worse.
    pub(crate) fn enter(&self, from: IpAddr) -> Option<Guest> {
        let (id, changed) = self.lock().enter(from, Instant::now())?;
        Some(Guest { guests: self.clone(), id, changed })
    }

    /// Whether a crowd has gone since this was last asked.
    pub(crate) fn has_calmed(&self) -> bool {
        self.lock().has_calmed()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place, given back when it is dropped.
pub(crate) struct Guest {
    guests: Guests,
    id: u64,
    changed: Arc<Notify>,
}

impl Guest {
    fn count(&self, recount: impl FnOnce(&mut Entry)) {
        self.guests.lock().count(self.id, recount, Instant::now());
    }

    /// Bytes came in: if none were expected, a request begins.
    pub(crate) fn heard(&self) {
        let mut table = self.guests.lock();
        if table.all.get(&self.id).is_some_and(|entry| entry.phase == Phase::Idle) {
            table.turn(self.id, Phase::Head, Instant::now());
        }
    }

    /// What came in was no request: nothing happens on it, unless some are answered.
    pub(crate) fn rest(&self) {
        self.count(|_| {});
    }

    /// What happens on it, while it has a place.
    #[cfg(test)]
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.guests.lock().all.get(&self.id).map(|entry| entry.phase)
    }

    /// Returns when it has to go.
    pub(crate) async fn overdue(&self) {
        loop {
            let stay = self.guests.lock().stay(self.id);
            match stay {
                Stay::Over => return,
                Stay::Until(deadline) if deadline <= Instant::now() => return,
                Stay::Until(deadline) => tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.changed.notified() => {}
                },
                Stay::Long => self.changed.notified().await,
            }
        }
    }
}

/// A request that is being answered, until this is dropped.
pub(crate) struct Serving(Arc<Guest>);

impl Serving {
    /// One more on this connection.
    pub(crate) fn begin(guest: Arc<Guest>) -> Self {
        guest.count(|entry| entry.served += 1);
        Self(guest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.count(|entry| entry.served = entry.served.saturating_sub(1));
    }
}

/// A request whose sender is not known yet, and sends what makes him known, until this is dropped.
pub(crate) struct Asking(Arc<Guest>);

impl Asking {
    /// One of those that are being answered on this connection.
    pub(crate) fn begin(guest: Arc<Guest>) -> Self {
        guest.count(|entry| (entry.served, entry.asking) = (entry.served.saturating_sub(1), entry.asking + 1));
        Self(guest)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.count(|entry| (entry.served, entry.asking) = (entry.served + 1, entry.asking.saturating_sub(1)));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().all.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn crowded(from: &str, now: Instant) -> Table {
        let mut table = Table::default();
        for _ in 0..GUESTS_MAX {
            table.enter(ip(from), now).expect("there is room");
        }
        table
    }

    #[test]
    fn an_address_that_took_all_places_gives_them_to_any_other() {
        let now = Instant::now();
        let mut table = crowded("10.0.0.9", now);
        for id in 1..GUESTS_MAX as u64 {
            table.turn(id, Phase::Served, now);
        }
        assert_eq!(table.worst(ip("10.0.0.1"), now), Some(0), "who is served goes last");
        let (id, _) = table.enter(ip("10.0.0.1"), now).expect("a place");
        assert!(table.all.contains_key(&id) && table.all.len() == GUESTS_MAX);
        assert_eq!(table.worst(ip("10.0.0.2"), now), Some(1), "a crowd that is served gives way to others, too");
        assert_eq!(table.worst(ip("10.0.0.9"), now), None, "and not to more of its own");
    }

    #[test]
    fn those_that_are_served_stay_where_no_address_has_most_places() {
        let (mut table, now) = (Table::default(), Instant::now());
        for number in 0..GUESTS_MAX {
            let (id, _) = table.enter(ip(&format!("10.0.0.{}", number % 4)), now).expect("room");
            table.turn(id, Phase::Served, now);
        }
        assert!(table.enter(ip("10.0.1.1"), now + IDLE_TIME_MAX).is_none());
    }

    #[test]
    fn when_a_crowd_has_gone_it_is_said_once() {
        let now = Instant::now();
        let mut table = crowded("10.0.0.9", now);
        assert!(!table.has_calmed());
        for id in 0..GUESTS_MAX as u64 {
            table.all.remove(&id);
        }
        assert!(table.has_calmed() && !table.has_calmed());
        for (crowd, calms) in [(CROWD_MIN - 1, false), (CROWD_MIN, true)] {
            let mut table = Table { peak: crowd, ..Table::default() };
            assert_eq!(table.has_calmed(), calms, "{crowd}");
        }
    }

    #[test]
    fn one_more_of_the_largest_crowd_takes_a_place_of_its_own_and_not_of_who_came_before_it() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.enter(ip("10.0.0.1"), now).expect("room");
        let later = now + Duration::from_secs(1);
        for _ in 1..GUESTS_MAX {
            table.enter(ip("10.0.0.9"), later).expect("room");
        }
        assert_eq!(table.worst(ip("10.0.0.9"), later + IDLE_MIN), Some(1));
    }

    #[test]
    fn the_oldest_that_asks_nothing_makes_room_behind_one_address() {
        let now = Instant::now();
        let mut table = crowded("127.0.0.1", now);
        assert_eq!(table.worst(ip("127.0.0.1"), now), None, "all have only just come");
        table.turn(0, Phase::Served, now);
        assert_eq!(table.worst(ip("127.0.0.1"), now + IDLE_MIN), Some(1));
    }

    #[test]
    fn a_head_has_seconds_an_idle_connection_longer_and_an_answer_all_it_needs() {
        let (mut table, now) = (Table::default(), Instant::now());
        let (id, _) = table.enter(ip("10.0.0.1"), now).expect("room");
        assert_eq!(table.stay(id), Stay::Until(now + IDLE_TIME_MAX));
        table.turn(id, Phase::Head, now);
        table.turn(id, Phase::Head, now + HEAD_TIME_MAX / 2);
        assert_eq!(table.stay(id), Stay::Until(now + HEAD_TIME_MAX), "more of it gives no more time");
        table.turn(id, Phase::Served, now);
        assert_eq!(table.stay(id), Stay::Long);
        table.remove(id);
        assert_eq!(table.stay(id), Stay::Over);
    }

    #[test]
    fn a_connection_is_served_while_any_of_its_requests_is_and_one_that_only_asks_is_not() {
        let guests = Guests::default();
        let guest = Arc::new(guests.enter(ip("10.0.0.1")).expect("room"));
        let phase = || guest.phase();
        let (first, second) = (Serving::begin(guest.clone()), Serving::begin(guest.clone()));
        drop(first);
        assert_eq!(phase(), Some(Phase::Served));
        let asking = Asking::begin(guest.clone());
        assert_eq!(phase(), Some(Phase::Head));
        let third = Serving::begin(guest.clone());
        assert_eq!(phase(), Some(Phase::Served), "another is");
        drop(third);
        drop(asking);
        assert_eq!(phase(), Some(Phase::Served), "he is known now");
        drop(second);
        assert_eq!(phase(), Some(Phase::Idle));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        assert_eq!(source_of(ip("2001:db8::1")), source_of(ip("2001:db8::2")));
        assert_ne!(source_of(ip("2001:db8::1")), source_of(ip("2001:db8:0:1::1")));
        assert_eq!(source_of(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }

    #[test]
    fn a_place_is_given_back_with_its_guest() {
        let guests = Guests::default();
        let guest = guests.enter(ip("10.0.0.1")).expect("room");
        assert_eq!(guests.lock().all.len(), 1);
        drop(guest);
        assert!(guests.lock().all.is_empty());
    }
}
