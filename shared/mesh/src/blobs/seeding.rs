//! Which pieces a coordinator gives away itself, so that a fleet that wants one blob at once is sent each piece a few
//! times and not once for every machine.
//!
//! ```text
//! others:   nobody else fetches or holds it   any piece
//!           some fetch it, none holds it all  a piece that was given fewer than COPIES times, the least given first
//!           some hold it all                  none: they have it
//! alone:    a piece that is on its way to nobody and has been with somebody for GRACE without reaching the asker
//! ```
//! So different pieces go to the first who ask, and from them to everybody. A machine that can reach no other gets all
//! the same, a moment later. Pure: the time and the random numbers come from outside.

use std::{collections::BTreeMap, time::Duration};

use lull_shared::{
    digest::{BlobRef, Digest},
    pieces::PieceSet,
};
use tokio::time::Instant;

/// How often a piece is given before it is left to those who have it. Two, so that one machine that is switched off
/// takes nothing with it, and so that two machines that start together need not wait for each other.
const COPIES: u16 = 2;
/// How long a piece is left to those who were given it, before somebody who cannot get it there has it from us.
const GRACE: Duration = Duration::from_secs(1);
/// What was not asked for in this time is forgotten: whoever comes then finds holders, or begins anew.
const FORGET: Duration = Duration::from_secs(600);
/// Blobs whose pieces are counted, each with up to 4096 of them. Beyond it the longest unused is forgotten.
const BLOBS_MAX: usize = 256;

/// What peers besides the asker have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    None,
    /// Some are fetching it at this moment.
    Fetch,
    /// Some hold all of it.
    Hold,
}

/// What was given of which blobs.
#[derive(Debug, Default)]
pub(crate) struct Seeding(BTreeMap<Digest, Seeds>);

#[derive(Debug)]
struct Seeds {
    pieces: Vec<Given>,
    touched: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Given {
    times: u16,
    on_its_way: u16,
    arrived: Option<Instant>,
}

impl Given {
    fn suits(&self, others: Others, alone: bool, now: Instant) -> bool {
        match others {
            Others::None => true,
            Others::Fetch if !alone => self.times < COPIES,
            Others::Hold if !alone => false,
            Others::Fetch | Others::Hold => {
                self.on_its_way == 0 && self.arrived.is_none_or(|arrived| now.duration_since(arrived) >= GRACE)
            }
        }
    }
}

impl Seeding {
    /// A piece to give, if one should be given; it counts as on its way until [`Self::ended`].
    pub(crate) fn choose(
        &mut self,
        blob: &BlobRef,
        lacking: &PieceSet,
        others: Others,
        alone: bool,
        random: u32,
        now: Instant,
    ) -> Option<u32> {
        let seeds = self.seeds(blob, now);
        let count = lacking.len();
        let from = random.checked_rem(count)? as usize;
        let around = lacking.iter().skip(from).chain(lacking.iter().take(from));
        let given = |piece: &u32| seeds.pieces.get(*piece as usize).copied().unwrap_or_default();
        let piece = around.filter(|piece| given(piece).suits(others, alone, now)).min_by_key(|piece| given(piece).times)?;
        let chosen = seeds.pieces.get_mut(piece as usize)?;
        chosen.times = chosen.times.saturating_add(1);
        chosen.on_its_way = chosen.on_its_way.saturating_add(1);
        Some(piece)
    }

    /// A piece that was chosen has left, or has not.
    pub(crate) fn ended(&mut self, digest: &Digest, piece: u32, arrived: bool, now: Instant) {
        let Some(given) = self.0.get_mut(digest).and_then(|seeds| seeds.pieces.get_mut(piece as usize)) else { return };
        given.on_its_way = given.on_its_way.saturating_sub(1);
        if arrived {
            given.arrived = Some(now);
        } else {
            given.times = given.times.saturating_sub(1);
        }
    }

    fn seeds(&mut self, blob: &BlobRef, now: Instant) -> &mut Seeds {
        if !self.0.contains_key(&blob.digest) {
            self.0.retain(|_, seeds| now.duration_since(seeds.touched) < FORGET);
            if self.0.len() >= BLOBS_MAX
                && let Some(oldest) = self.0.iter().min_by_key(|(_, seeds)| seeds.touched).map(|(digest, _)| *digest)
            {
                self.0.remove(&oldest);
            }
        }
        let fresh = || Seeds { pieces: vec![Given::default(); blob.pieces() as usize], touched: now };
        let seeds = self.0.entry(blob.digest).or_insert_with(fresh);
        seeds.touched = now;
        seeds
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::digest::PIECE_BYTES;

    use super::*;

    const PIECES: u32 = 10;

    fn blob(name: &[u8]) -> BlobRef {
        BlobRef { digest: Digest::of(name), size_bytes: u64::from(PIECES) * PIECE_BYTES as u64 }
    }

    /// Gives as many pieces as it likes to an asker that lacks all.
    fn given(seeding: &mut Seeding, others: Others, alone: bool, now: Instant) -> Vec<u32> {
        let (blob, mut lacking, mut given) = (blob(b"one"), PieceSet::all(PIECES), Vec::new());
        while let Some(piece) = seeding.choose(&blob, &lacking, others, alone, 7 + given.len() as u32, now) {
            seeding.ended(&blob.digest, piece, true, now);
            lacking.remove(piece);
            given.push(piece);
        }
        given
    }

    #[test]
    fn each_piece_is_given_to_a_few_and_different_ones_first() {
        let (mut seeding, now) = (Seeding::default(), Instant::now());
        let lacking = PieceSet::all(PIECES);
        let mut first: Vec<u32> =
            (0..PIECES).filter_map(|r| seeding.choose(&blob(b"one"), &lacking, Others::Fetch, false, r * 3, now)).collect();
        first.sort_unstable();
        assert_eq!(first, (0..PIECES).collect::<Vec<_>>(), "each once before any twice");
        assert_eq!(given(&mut seeding, Others::Fetch, false, now).len(), PIECES as usize);
        assert_eq!(given(&mut seeding, Others::Fetch, false, now), []);
    }

    #[test]
    fn whoever_is_the_only_one_gets_everything_however_often() {
        let (mut seeding, now) = (Seeding::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(given(&mut seeding, Others::None, false, now).len(), PIECES as usize);
        }
    }

    #[test]
    fn what_others_hold_is_left_to_them_unless_the_asker_cannot_reach_them() {
        let (mut seeding, now) = (Seeding::default(), Instant::now());
        assert_eq!(given(&mut seeding, Others::Hold, false, now), []);
        assert_eq!(given(&mut seeding, Others::Hold, true, now).len(), PIECES as usize);
        assert_eq!(given(&mut seeding, Others::Hold, true, now), [], "they have only just left");
        assert_eq!(given(&mut seeding, Others::Hold, true, now + GRACE).len(), PIECES as usize);
    }

    #[test]
    fn a_piece_on_its_way_is_waited_for_and_one_that_did_not_arrive_is_given_again() {
        let (mut seeding, now) = (Seeding::default(), Instant::now());
        let (blob, mut lacking) = (blob(b"one"), PieceSet::none(PIECES));
        lacking.insert(3);
        for _ in 0..COPIES {
            assert_eq!(seeding.choose(&blob, &lacking, Others::Fetch, false, 0, now), Some(3));
        }
        let later = now + 10 * GRACE;
        assert_eq!(seeding.choose(&blob, &lacking, Others::Fetch, true, 0, later), None, "it is on its way");
        seeding.ended(&blob.digest, 3, false, later);
        assert_eq!(seeding.choose(&blob, &lacking, Others::Fetch, false, 0, later), Some(3));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_set_of_another_size_harms_nothing() {
        let (mut seeding, now) = (Seeding::default(), Instant::now());
        for number in 0..2 * BLOBS_MAX as u32 {
            let blob = blob(&number.to_le_bytes());
            seeding.choose(&blob, &PieceSet::all(PIECES), Others::Fetch, false, 0, now + Duration::from_millis(number.into()));
        }
        assert_eq!(seeding.0.len(), BLOBS_MAX);
        let mut beyond = PieceSet::none(4000);
        beyond.insert(3999);
        assert_eq!(seeding.choose(&blob(b"one"), &beyond, Others::None, false, 0, now), None);
        seeding.choose(&blob(b"two"), &PieceSet::all(PIECES), Others::None, false, 0, now + 2 * FORGET);
        assert_eq!(seeding.0.len(), 1);
    }

    #[test]
    fn each_piece_suits_or_not_by_what_others_have_and_how_long_ago_it_was_given() {
        let now = Instant::now();
        let given = |times, on_its_way, ago: Option<Duration>| Given { times, on_its_way, arrived: ago.map(|ago| now - ago) };
        let suits = |given: Given, others| [false, true].map(|alone| given.suits(others, alone, now));
        let never = given(0, 0, None);
        assert_eq!(
            [Others::None, Others::Fetch, Others::Hold].map(|others| suits(never, others)),
            [[true; 2], [true; 2], [false, true]]
        );
        let just = given(COPIES, 0, Some(GRACE - Duration::from_micros(1)));
        assert_eq!(
            [Others::None, Others::Fetch, Others::Hold].map(|others| suits(just, others)),
            [[true; 2], [false; 2], [false; 2]]
        );
        let long = given(COPIES, 0, Some(GRACE));
        assert_eq!([Others::Fetch, Others::Hold].map(|others| suits(long, others)), [[false, true]; 2]);
        assert_eq!(suits(given(COPIES - 1, 1, None), Others::Fetch), [true, false], "it is on its way");
    }

    #[test]
    fn a_piece_on_its_way_counts_until_it_has_left_or_failed() {
        let (mut seeding, now, blob) = (Seeding::default(), Instant::now(), blob(b"one"));
        let mut lacking = PieceSet::none(PIECES);
        lacking.insert(3);
        let state = |seeding: &Seeding| seeding.0[&blob.digest].pieces[3];
        let times = |seeding: &Seeding| (state(seeding).times, state(seeding).on_its_way, state(seeding).arrived);
        seeding.choose(&blob, &lacking, Others::Fetch, false, 0, now);
        seeding.choose(&blob, &lacking, Others::Fetch, false, 0, now);
        assert_eq!(times(&seeding), (2, 2, None));
        seeding.ended(&blob.digest, 3, true, now);
        assert_eq!(times(&seeding), (2, 1, Some(now)));
        seeding.ended(&blob.digest, 3, false, now);
        assert_eq!(times(&seeding), (1, 0, Some(now)));
        seeding.ended(&Digest::of(b"another"), 3, true, now);
        seeding.ended(&blob.digest, PIECES, true, now);
        assert_eq!(times(&seeding), (1, 0, Some(now)));
    }

    #[test]
    fn the_blob_that_was_not_asked_for_longest_is_forgotten_first_and_all_in_time() {
        let (mut seeding, start) = (Seeding::default(), Instant::now());
        let asks = |seeding: &mut Seeding, number: u32, now| {
            seeding.choose(&blob(&number.to_le_bytes()), &PieceSet::all(PIECES), Others::None, false, 0, now)
        };
        let known = |seeding: &Seeding, number: u32| seeding.0.contains_key(&blob(&number.to_le_bytes()).digest);
        for number in 0..BLOBS_MAX as u32 {
            asks(&mut seeding, number, start + Duration::from_millis(number.into()));
        }
        assert_eq!(seeding.0.len(), BLOBS_MAX);
        let later = start + Duration::from_secs(1);
        asks(&mut seeding, 0, later);
        asks(&mut seeding, 9_999, later);
        assert_eq!((seeding.0.len(), known(&seeding, 0), known(&seeding, 1)), (BLOBS_MAX, true, false));
        asks(&mut seeding, 8_888, later + FORGET - Duration::from_micros(1));
        assert!(known(&seeding, 9_999));
        asks(&mut seeding, 7_777, later + FORGET);
        assert!(!known(&seeding, 9_999) && known(&seeding, 8_888));
    }
}
