//! Requests with tokens that are not valid: whether a token is costs a look into the store, and whoever guesses pays for
//! no more than a few of them. Tokens that were valid lately are looked up from wherever they come: behind one address
//! there are others than the one who guesses.

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::time::Instant;

/// Requests of one address in [`SPAN`] whose tokens are not valid: a script with an old token that tries every second.
const FAILURES_MAX: u32 = 120;
const SPAN: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted, and valid tokens that are remembered: of those that come last.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than none");

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// An address of IPv4 or a network of IPv6.
    pub ip: IpAddr,
    /// Its connection is HTTPS.
    pub secure: bool,
}

struct Table {
    failures: LruCache<IpAddr, (Instant, u32)>,
    valid: LruCache<[u8; 32], ()>,
}

/// Who failed how often lately.
pub(crate) struct Failures(Mutex<Table>);

impl Default for Failures {
    fn default() -> Self {
        Self(Mutex::new(Table { failures: LruCache::new(REMEMBERED), valid: LruCache::new(REMEMBERED) }))
    }
}

impl Failures {
    /// Whether a token with this fingerprint is looked up.
    pub(crate) fn may_ask(&self, source: IpAddr, fingerprint: &[u8; 32], now: Instant) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = table
            .failures
            .get(&source)
            .is_some_and(|(since, times)| *times >= FAILURES_MAX && now.saturating_duration_since(*since) < SPAN);
        !failed || table.valid.get(fingerprint).is_some()
    }

    /// What came of it.
    pub(crate) fn note(&self, source: IpAddr, fingerprint: &[u8; 32], valid: bool, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if valid {
            table.valid.put(*fingerprint, ());
            return;
        }
        table.valid.pop(fingerprint);
        let (since, times) = table.failures.get_or_insert_mut(source, || (now, 0));
        if now.saturating_duration_since(*since) >= SPAN {
            (*since, *times) = (now, 0);
        }
        *times = times.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn whoever_guesses_is_not_asked_for_any_more_and_others_are() {
        let (failures, now) = (Failures::default(), Instant::now());
        failures.note(HERE, &[1; 32], true, now);
        for guess in 0..FAILURES_MAX {
            assert!(failures.may_ask(HERE, &[9; 32], now), "{guess}");
            failures.note(HERE, &[9; 32], false, now);
        }
        assert!(!failures.may_ask(HERE, &[8; 32], now));
        assert!(failures.may_ask(HERE, &[1; 32], now), "it was valid before, from the same address");
        assert!(failures.may_ask(THERE, &[8; 32], now));
        assert!(failures.may_ask(HERE, &[8; 32], now + SPAN));
    }

    #[test]
    fn a_token_that_is_not_valid_any_more_is_one_like_others() {
        let (failures, now) = (Failures::default(), Instant::now());
        failures.note(HERE, &[1; 32], true, now);
        for _ in 0..FAILURES_MAX {
            failures.note(HERE, &[1; 32], false, now);
        }
        assert!(!failures.may_ask(HERE, &[1; 32], now));
    }

    #[test]
    fn a_minute_of_failures_begins_with_the_first_and_ends_with_its_last_moment() {
        let (failures, now) = (Failures::default(), Instant::now());
        let moment = Duration::from_micros(1);
        for _ in 0..FAILURES_MAX {
            failures.note(HERE, &[9; 32], false, now);
        }
        assert!(!failures.may_ask(HERE, &[9; 32], now + SPAN - moment) && failures.may_ask(HERE, &[9; 32], now + SPAN));
        failures.note(HERE, &[9; 32], false, now + SPAN);
        for _ in 2..FAILURES_MAX {
            failures.note(HERE, &[9; 32], false, now + SPAN + moment);
        }
        assert!(failures.may_ask(HERE, &[9; 32], now + SPAN + moment), "one less than too many");
        failures.note(HERE, &[9; 32], false, now + SPAN + moment);
        assert!(!failures.may_ask(HERE, &[9; 32], now + 2 * SPAN - moment) && failures.may_ask(HERE, &[9; 32], now + 2 * SPAN));
    }
}
