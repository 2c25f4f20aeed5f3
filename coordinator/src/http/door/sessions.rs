//! Who signed in: each session by the digest of its secret, referring to the token that it was begun with.
//!
//! A session ends with its token, after [`LIFE`], and when it was not used for [`UNUSED_MAX`]. They are in the leader's
//! memory: after a takeover people sign in again. Of one token's sessions, and of all, the one that was not used for longest
//! makes room for one more.
//!
//! Core: decides on the times that it is given.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use lull_shared::{id::TokenId, time::Timestamp};
use tokio::time::Instant;

use crate::api::SessionId;

/// A working day and its evening.
pub(crate) const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// A page that is open asks all the time; whoever closed it for a meeting need not sign in again.
pub(crate) const UNUSED_MAX: Duration = Duration::from_secs(60 * 60);
/// Browsers of one person, or of the few who share a token.
pub(crate) const EACH_MAX: usize = 32;
/// Of an organisation's people; each takes some 200 bytes.
const SESSIONS_MAX: usize = 4_096;
/// Addresses whose refused sign-ins are remembered, of those that come last.
const REFUSED_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("more than none");
/// The audit says once in this time that an address was refused, and how often.
const REFUSALS_EVERY: Duration = Duration::from_secs(60);
/// And so many lines of it in that time, from wherever.
const REFUSAL_LINES_MAX: u32 = 20;

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub id: SessionId,
    pub token: TokenId,
    /// By what its token is looked up.
    pub fingerprint: [u8; 32],
    pub name: String,
    pub from: Option<IpAddr>,
    pub since: Timestamp,
    pub used: Timestamp,
    begun: Instant,
    touched: Instant,
}

/// What a session is begun with.
pub(crate) struct Beginning {
    pub token: TokenId,
    pub fingerprint: [u8; 32],
    pub name: String,
    pub from: Option<IpAddr>,
}

impl Session {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) < LIFE && now.saturating_duration_since(self.touched) < UNUSED_MAX
    }
}

#[derive(Default)]
struct Table {
    all: BTreeMap<[u8; 32], Session>,
    refused: Option<Refusals>,
}

/// Sign-ins that were refused lately.
struct Refusals {
    by_source: LruCache<Option<IpAddr>, (Instant, u64)>,
    since: Instant,
    lines: u32,
}

/// All sessions of a term.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Table>);

impl Sessions {
    /// A session of whoever holds the secret with this digest; `at` and `now` are one moment by two clocks.
    pub(crate) fn begin(&self, secret: [u8; 32], with: Beginning, at: Timestamp, now: Instant) -> SessionId {
        let mut table = self.table();
        table.all.retain(|_, session| session.lives(now));
        let own = table.all.values().filter(|session| session.token == with.token).count();
        if own >= EACH_MAX {
            table.make_room(|session| session.token == with.token);
        } else if table.all.len() >= SESSIONS_MAX {
            table.make_room(|_| true);
        }
        let Beginning { token, fingerprint, name, from } = with;
        let id = SessionId(rand::random());
        table.all.insert(secret, Session { id, token, fingerprint, name, from, since: at, used: at, begun: now, touched: now });
        id
    }

    /// The session of whoever holds the secret with this digest, if it has not ended; it is used now.
    pub(crate) fn touch(&self, secret: &[u8; 32], at: Timestamp, now: Instant) -> Option<Session> {
        let mut table = self.table();
        let session = table.all.get_mut(secret)?;
        if !session.lives(now) {
            table.all.remove(secret);
            return None;
        }
        (session.touched, session.used) = (now, at);
        Some(session.clone())
    }

    /// Those that have not ended, the ones begun last first.
    pub(crate) fn list(&self, now: Instant) -> Vec<Session> {
        let table = self.table();
        let mut all: Vec<Session> = table.all.values().filter(|session| session.lives(now)).cloned().collect();
        all.sort_by_key(|session| (std::cmp::Reverse(session.begun), session.id));
        all
    }

    /// Ends one; which it was.
    pub(crate) fn end(&self, id: SessionId) -> Option<Session> {
        let mut table = self.table();
        let secret = table.all.iter().find(|(_, session)| session.id == id).map(|(secret, _)| *secret)?;
        table.all.remove(&secret)
    }

    /// Ends all that refer to a token which is not valid any more.
    pub(crate) fn end_those_of(&self, token: TokenId) {
        self.table().all.retain(|_, session| session.token != token);
    }

    /// Notes that somebody was refused. How often that was so from there since it was last told, if it is time to tell.
    pub(crate) fn refuse(&self, source: Option<IpAddr>, now: Instant) -> Option<u64> {
        let mut table = self.table();
        let fresh = || Refusals { by_source: LruCache::new(REFUSED_MAX), since: now, lines: 0 };
        table.refused.get_or_insert_with(fresh).tell(source, now)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn make_room(&mut self, among: impl Fn(&Session) -> bool) {
        let unused = self.all.iter().filter(|(_, session)| among(session)).min_by_key(|(_, session)| session.touched);
        if let Some(secret) = unused.map(|(secret, _)| *secret) {
            self.all.remove(&secret);
        }
    }
}

impl Refusals {
    fn tell(&mut self, source: Option<IpAddr>, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= REFUSALS_EVERY {
            (self.since, self.lines) = (now, 0);
        }
        let told = self.by_source.get(&source).copied();
        let unsaid = told.map_or(0, |(_, unsaid)| unsaid) + 1;
        let lately = told.is_some_and(|(at, _)| now.saturating_duration_since(at) < REFUSALS_EVERY);
        if lately || self.lines >= REFUSAL_LINES_MAX {
            let at = told.filter(|_| lately).map_or(now, |(at, _)| at);
            self.by_source.put(source, (at, unsaid));
            return None;
        }
        self.lines += 1;
        self.by_source.put(source, (now, 0));
        Some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: u64) -> Beginning {
        Beginning { token: TokenId(token), fingerprint: [token as u8; 32], name: "ann".into(), from: None }
    }

    fn secret(number: usize) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        secret
    }

    const AT: Timestamp = Timestamp(5);

    #[test]
    fn a_session_lives_while_it_is_used_and_never_longer_than_half_a_day() {
        let (sessions, begun) = (Sessions::default(), Instant::now());
        let id = sessions.begin(secret(1), with(1), AT, begun);
        let moment = Duration::from_millis(1);
        let mut now = begun;
        while now + UNUSED_MAX <= begun + LIFE {
            now += UNUSED_MAX - moment;
            assert_eq!(sessions.touch(&secret(1), AT, now).map(|session| session.id), Some(id));
        }
        assert!(sessions.touch(&secret(1), AT, begun + LIFE - moment).is_some());
        assert_eq!(sessions.touch(&secret(1), AT, begun + LIFE), None, "however often it is used");
        sessions.begin(secret(2), with(1), AT, begun);
        assert_eq!(sessions.list(begun + UNUSED_MAX - moment).len(), 1);
        assert!(sessions.list(begun + UNUSED_MAX).is_empty());
        assert_eq!(sessions.touch(&secret(2), AT, begun + UNUSED_MAX), None, "nobody used it");
        assert_eq!(sessions.touch(&secret(3), AT, begun), None, "nobody's");
    }

    #[test]
    fn a_token_has_so_many_sessions_and_the_one_unused_for_longest_makes_room() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        sessions.begin(secret(0), with(2), AT, now);
        for number in 1..=EACH_MAX {
            sessions.begin(secret(number), with(1), AT, now + Duration::from_secs(number as u64));
        }
        let later = now + Duration::from_secs(100);
        assert!(sessions.touch(&secret(1), AT, later).is_some());
        sessions.begin(secret(99), with(1), AT, later);
        let there = |number| sessions.touch(&secret(number), AT, later).is_some();
        assert!(there(1) && !there(2) && there(3) && there(99));
        assert!(there(0), "another's is not touched");
    }

    #[test]
    fn all_sessions_together_are_bounded() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        for number in 0..SESSIONS_MAX {
            sessions.begin(secret(number), with((number / EACH_MAX) as u64), AT, now + Duration::from_micros(number as u64));
        }
        let later = now + Duration::from_secs(1);
        sessions.begin(secret(SESSIONS_MAX), with(9_999), AT, later);
        assert_eq!(sessions.list(later).len(), SESSIONS_MAX);
        assert!(sessions.touch(&secret(0), AT, later).is_none() && sessions.touch(&secret(1), AT, later).is_some());
    }

    #[test]
    fn a_session_ends_by_its_name_and_with_its_token() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let ids = [1, 2, 3].map(|number| sessions.begin(secret(number), with(number as u64 / 2), AT, now));
        assert_eq!(sessions.end(ids[0]).map(|session| session.id), Some(ids[0]));
        assert_eq!(sessions.end(ids[0]), None);
        sessions.end_those_of(TokenId(1));
        assert!(sessions.list(now).is_empty());
    }

    #[test]
    fn refusals_are_told_once_a_minute_for_each_address_with_their_number_and_few_for_all() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let ip = |number: u8| Some(IpAddr::from([10, 0, 0, number]));
        assert_eq!(sessions.refuse(ip(1), now), Some(1));
        for _ in 0..5 {
            assert_eq!(sessions.refuse(ip(1), now), None);
        }
        let later = now + REFUSALS_EVERY;
        assert_eq!(sessions.refuse(ip(1), later), Some(6));
        let told = (2..200).filter(|number| sessions.refuse(ip(*number), later).is_some()).count();
        assert_eq!(told, REFUSAL_LINES_MAX as usize - 1);
        assert_eq!(sessions.refuse(ip(199), later + REFUSALS_EVERY), Some(2), "none is forgotten");
    }
}
