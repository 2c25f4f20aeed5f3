//! What each token may have under way at once, so that nobody takes from others what is everybody's.
//!
//! | share | of one token | together |
//! |---|---|---|
//! | requests that are being answered, waiting ones included | [`REQUESTS_MAX`] | the connections |
//! | uploads | [`UPLOADS_MAX`] | [`UPLOADS_ALL_MAX`] |
//! | bytes of unfinished uploads, on disk | [`SPOOLED_BYTES_MAX`] | the disk |
//! | bytes of bodies that are read into memory | [`HELD_BYTES_MAX`] | [`HELD_BYTES_ALL_MAX`] |
//!
//! A token that has nothing under way gets a little even when all together have what they may. Nothing is kept of it
//! afterwards.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::http::door::error::Refused;

/// A portal that is open on many screens and a script that waits for fifty jobs, twice.
pub(crate) const REQUESTS_MAX: usize = 128;
/// The command line sends one at a time; a script may send several.
pub(crate) const UPLOADS_MAX: usize = 16;
/// Each has buffers of some 60 kB and a file; other requests have the rest of the connections.
pub(crate) const UPLOADS_ALL_MAX: usize = 768;
/// A few of the largest blobs at once.
pub(crate) const SPOOLED_BYTES_MAX: u64 = 4 * lull_shared::limits::BLOB_BYTES_MAX;
/// Several of the largest requests at once.
pub(crate) const HELD_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What all bodies together may take of the coordinator's memory.
pub(crate) const HELD_BYTES_ALL_MAX: u64 = 64 * 1024 * 1024;

/// What there is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Requests,
    Uploads,
    SpooledBytes,
    HeldBytes,
}

impl Kind {
    fn max(self) -> u64 {
        match self {
            Self::Requests => REQUESTS_MAX as u64,
            Self::Uploads => UPLOADS_MAX as u64,
            Self::SpooledBytes => SPOOLED_BYTES_MAX,
            Self::HeldBytes => HELD_BYTES_MAX,
        }
    }

    fn all_max(self) -> u64 {
        match self {
            Self::Requests | Self::SpooledBytes => u64::MAX,
            Self::Uploads => UPLOADS_ALL_MAX as u64,
            Self::HeldBytes => HELD_BYTES_ALL_MAX,
        }
    }

    /// What a token may have even when all together have what they may: however many tokens take all of their shares,
    /// one more can do something. Bounded by the connections.
    fn certain(self) -> u64 {
        match self {
            Self::Requests | Self::SpooledBytes => 0,
            Self::Uploads => 1,
            Self::HeldBytes => 64 * 1024,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Requests => "requests under way",
            Self::Uploads => "uploads under way",
            Self::SpooledBytes => "bytes of unfinished uploads",
            Self::HeldBytes => "bytes of unfinished requests",
        }
    }
}

/// A share that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    #[error("this token has {max} {} already, and may not have more", .kind.words())]
    Own { kind: Kind, max: u64 },
    #[error("all tokens together have {max} {} already", .kind.words())]
    All { kind: Kind, max: u64 },
}

impl From<Spent> for Refused {
    fn from(spent: Spent) -> Self {
        Self::busy(spent.to_string())
    }
}

#[derive(Default)]
struct Table {
    own: BTreeMap<(u64, Kind), u64>,
    all: BTreeMap<Kind, u64>,
}

/// What all tokens have under way.
#[derive(Clone, Default)]
pub(crate) struct Shares(Arc<Mutex<Table>>);

impl Shares {
    /// Takes so much of a token's share, until the answer is dropped.
    pub(crate) fn take(&self, token: u64, kind: Kind, amount: u64) -> Result<Taken, Spent> {
        let mut taken = Taken { shares: self.clone(), token, kind, amount: 0 };
        taken.more(amount)?;
        Ok(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken of a share, given back when it is dropped.
pub(crate) struct Taken {
    shares: Shares,
    token: u64,
    kind: Kind,
    amount: u64,
}

impl Taken {
    /// Takes more of the same.
    pub(crate) fn more(&mut self, amount: u64) -> Result<(), Spent> {
        let mut table = self.shares.lock();
        let own = table.own.get(&(self.token, self.kind)).copied().unwrap_or(0).saturating_add(amount);
        if own > self.kind.max() {
            return Err(Spent::Own { kind: self.kind, max: self.kind.max() });
        }
        let all = table.all.get(&self.kind).copied().unwrap_or(0).saturating_add(amount);
        if all > self.kind.all_max() && own > self.kind.certain() {
            return Err(Spent::All { kind: self.kind, max: self.kind.all_max() });
        }
        table.own.insert((self.token, self.kind), own);
        table.all.insert(self.kind, all);
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut table = self.shares.lock();
        let own = table.own.get(&(self.token, self.kind)).copied().unwrap_or(0) - self.amount;
        match own {
            0 => drop(table.own.remove(&(self.token, self.kind))),
            own => drop(table.own.insert((self.token, self.kind), own)),
        }
        let all = table.all.get(&self.kind).copied().unwrap_or(0) - self.amount;
        table.all.insert(self.kind, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fills_its_own_share_and_not_anothers() {
        let shares = Shares::default();
        let mut held: Vec<Taken> = (0..UPLOADS_MAX).map(|_| shares.take(1, Kind::Uploads, 1).expect("its own share")).collect();
        let spent = shares.take(1, Kind::Uploads, 1).err().expect("no more");
        assert!(spent.to_string().contains("this token has 16 uploads"), "{spent}");
        shares.take(2, Kind::Uploads, 1).expect("another's");
        held.pop();
        shares.take(1, Kind::Uploads, 1).expect("one was given back");
    }

    #[test]
    fn all_together_stay_below_what_memory_allows() {
        let shares = Shares::default();
        let held: Vec<Taken> = (0..HELD_BYTES_ALL_MAX / HELD_BYTES_MAX)
            .map(|token| shares.take(token, Kind::HeldBytes, HELD_BYTES_MAX).expect("its own share"))
            .collect();
        let small = shares.take(1_000, Kind::HeldBytes, 1_000).expect("a small request of another one");
        assert!(matches!(shares.take(1_000, Kind::HeldBytes, HELD_BYTES_MAX - 1_000), Err(Spent::All { .. })));
        drop(small);
        drop(held);
        assert!(shares.lock().own.is_empty(), "nothing is kept of a token that has nothing under way");
        assert_eq!(shares.lock().all[&Kind::HeldBytes], 0);
    }

    #[test]
    fn what_grows_past_its_share_is_refused_and_keeps_what_it_had() {
        let shares = Shares::default();
        let mut taken = shares.take(1, Kind::HeldBytes, HELD_BYTES_MAX).expect("its share");
        assert!(taken.more(1).is_err());
        drop(taken);
        let mut taken = shares.take(1, Kind::HeldBytes, HELD_BYTES_MAX - 1).expect("all of it was given back");
        assert!(taken.more(1).is_ok() && taken.more(1).is_err(), "it grows to its share and no further");
    }

    #[test]
    fn a_share_is_full_to_its_last_and_together_to_theirs_but_for_the_little_that_is_certain() {
        for (kind, own_max, all_max, certain) in [
            (Kind::Uploads, UPLOADS_MAX as u64, UPLOADS_ALL_MAX as u64, 1),
            (Kind::HeldBytes, HELD_BYTES_MAX, HELD_BYTES_ALL_MAX, 64 * 1024),
            (Kind::Requests, REQUESTS_MAX as u64, u64::MAX, 0),
            (Kind::SpooledBytes, SPOOLED_BYTES_MAX, u64::MAX, 0),
        ] {
            let shares = Shares::default();
            drop(shares.take(1, kind, own_max).expect("its own share"));
            assert_eq!(shares.take(1, kind, own_max + 1).err(), Some(Spent::Own { kind, max: own_max }));
            if all_max == u64::MAX {
                continue;
            }
            let mut held: Vec<Taken> =
                (1..=all_max / own_max).map(|token| shares.take(token, kind, own_max).expect("a share")).collect();
            assert_eq!(shares.lock().all[&kind], all_max);
            let more = |amount| shares.take(999, kind, amount).err();
            assert_eq!((more(certain), more(certain + 1)), (None, Some(Spent::All { kind, max: all_max })));
            drop(held.pop());
            assert_eq!(more(own_max), None, "just as much as there is");
        }
    }
}
