//! Sets of a blob's pieces, as peers tell each other what they lack.

use serde::{Deserialize, Serialize};

/// Some pieces of a blob: one bit each, the lowest of the first byte for piece 0. From a peer it may have any length:
/// see [`PieceSet::fits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceSet(Vec<u8>);

impl PieceSet {
    /// None of a blob with so many pieces.
    pub fn none(pieces: u32) -> Self {
        Self(vec![0; pieces.div_ceil(8) as usize])
    }

    /// All of them.
    pub fn all(pieces: u32) -> Self {
        let mut all = Self::none(pieces);
        (0..pieces).for_each(|piece| {
            all.insert(piece);
        });
        all
    }

    /// Whether this can be a set of pieces of a blob with so many.
    pub fn fits(&self, pieces: u32) -> bool {
        self.0.len() == pieces.div_ceil(8) as usize && self.iter().last().is_none_or(|last| last < pieces)
    }

    /// Adds a piece; whether it was not there. One that is out of range is left out.
    pub fn insert(&mut self, piece: u32) -> bool {
        let Some(byte) = self.0.get_mut(piece as usize / 8) else { return false };
        let bit = 1 << (piece % 8);
        let new = *byte & bit == 0;
        *byte |= bit;
        new
    }

    /// Takes a piece out.
    pub fn remove(&mut self, piece: u32) {
        if let Some(byte) = self.0.get_mut(piece as usize / 8) {
            *byte &= !(1 << (piece % 8));
        }
    }

    /// Whether a piece is in it.
    pub fn contains(&self, piece: u32) -> bool {
        self.0.get(piece as usize / 8).is_some_and(|byte| byte & (1 << (piece % 8)) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..)
            .zip(&self.0)
            .flat_map(|(at, byte)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit))
    }

    /// Those that are in both.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, two)| one & two).collect())
    }

    /// One of them, by a random number.
    pub fn choose(&self, random: u32) -> Option<u32> {
        let count = self.len();
        if count == 0 { None } else { self.iter().nth((random % count) as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let mut set = PieceSet::none(20);
        for piece in [0, 7, 8, 19] {
            assert!(set.insert(piece) && !set.insert(piece));
        }
        assert!(!set.insert(24), "out of range");
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7, 8, 19]);
        set.remove(7);
        assert_eq!((set.len(), set.contains(7), set.contains(8), set.contains(999)), (3, false, true, false));
        assert_eq!(set.and(&PieceSet::all(20)), set);
        assert_eq!((set.choose(4), PieceSet::none(20).choose(4)), (Some(8), None));
    }

    #[test]
    fn a_set_of_another_blob_does_not_fit() {
        assert!(PieceSet::all(20).fits(20) && PieceSet::none(1).fits(1));
        assert!(!PieceSet::all(20).fits(19), "piece 19 is none of 19");
        assert!(!PieceSet::all(20).fits(40) && !PieceSet(Vec::new()).fits(1) && !PieceSet(vec![0; 1 << 20]).fits(20));
    }

    #[test]
    fn a_set_says_of_itself_what_its_pieces_say() {
        for pieces in [1, 7, 8, 9, 16, 17] {
            for chosen in [vec![], vec![0], vec![pieces - 1], (0..pieces).collect(), (0..pieces).step_by(2).collect()] {
                let mut set = PieceSet::none(pieces);
                chosen.iter().for_each(|piece| assert!(set.insert(*piece)));
                assert_eq!(set.iter().collect::<Vec<_>>(), chosen);
                assert_eq!((set.len() as usize, set.is_empty()), (chosen.len(), chosen.is_empty()));
                assert!((0..pieces).all(|piece| set.contains(piece) == chosen.contains(&piece)));
                assert!(set.fits(pieces) && set == set.and(&PieceSet::all(pieces)));
                assert_eq!(set.choose(chosen.len() as u32), chosen.first().copied(), "round and round");
                let mut others = PieceSet::all(pieces);
                chosen.iter().for_each(|piece| others.remove(*piece));
                assert!((0..pieces).all(|piece| others.contains(piece) != chosen.contains(&piece)), "only those were taken out");
            }
        }
    }

    #[test]
    fn a_set_with_a_piece_beyond_the_last_fits_only_where_that_is_one() {
        let last = |piece: u32| {
            let mut set = PieceSet::none(24);
            set.insert(0);
            set.insert(piece);
            set
        };
        assert!(last(16).fits(17) && !last(17).fits(17) && last(17).fits(18), "each has three bytes");
        assert!(!last(16).fits(16) && !last(16).fits(25), "nor is it one of another length");
    }
}
