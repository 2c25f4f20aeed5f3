//! Content addresses: BLAKE3 digests, and outlines that let pieces from different peers be checked one by one.
//!
//! BLAKE3 is a hash tree. A blob is cut into pieces of [`PIECE_BYTES`]; an [`Outline`] holds the chaining value of
//! each piece, and merging them gives the blob's own digest. So whoever knows only the digest can check an outline
//! from a stranger, and with it every piece the moment it arrives.

use std::{fmt, str::FromStr};

use blake3::hazmat::{self, HasherExt as _};
use serde::{Deserialize, Serialize};

/// The size of a piece: a power of two times BLAKE3's chunk, small enough to be one frame, large enough that the
/// outline of the largest blob ([`crate::limits::BLOB_BYTES_MAX`]) stays far below one.
pub const PIECE_BYTES: usize = 256 * 1024;

/// The BLAKE3 digest of a blob. Its text is `b3:` and 64 hexadecimal digits, as `b3sum` prints them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

crate::readable!(Digest, [u8; 32], |digest| digest.0, Self);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A digest known from elsewhere, a database column for example.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the prefix: a name for a file.
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first twelve hexadecimal digits, for tables read by people.
    pub fn short(&self) -> String {
        self.to_hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a digest\nhint: write b3: and 64 hexadecimal digits, as an upload is answered with", crate::amount::quoted(.0))]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let hex = text.strip_prefix("b3:").unwrap_or(text);
        blake3::Hash::from_hex(hex).map(|hash| Self(*hash.as_bytes())).map_err(|_| ParseDigestError(text.to_owned()))
    }
}

/// Where a blob is and how long: all that is needed to fetch it from anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    pub digest: Digest,
    pub size_bytes: u64,
}

impl BlobRef {
    /// The reference of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 }
    }

    /// How many pieces the blob has; an empty blob has one, empty piece.
    pub fn pieces(&self) -> u32 {
        u32::try_from(self.size_bytes.div_ceil(PIECE_BYTES as u64).max(1)).unwrap_or(u32::MAX)
    }
}

/// Computes a blob's digest and outline while its bytes stream by. Each byte is hashed once.
#[derive(Default)]
pub struct OutlineBuilder {
    /// Of the pieces before the one that is being filled.
    pieces: Vec<[u8; 32]>,
    piece: blake3::Hasher,
}

impl OutlineBuilder {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // A full piece is closed only when more comes: a sole one is hashed as the whole blob.
            if self.filled() == PIECE_BYTES {
                self.close_piece();
            }
            let (now, later) = bytes.split_at((PIECE_BYTES - self.filled()).min(bytes.len()));
            self.piece.update(now);
            bytes = later;
        }
    }

    /// The reference and the outline of all the bytes taken.
    pub fn finish(mut self) -> (BlobRef, Outline) {
        let size_bytes = (self.pieces.len() * PIECE_BYTES + self.filled()) as u64;
        if self.pieces.is_empty() {
            let digest = Digest(*self.piece.finalize().as_bytes());
            return (BlobRef { digest, size_bytes }, Outline { pieces: Vec::new() });
        }
        self.close_piece();
        let digest = root(&self.pieces);
        (BlobRef { digest, size_bytes }, Outline { pieces: self.pieces })
    }

    /// Bytes of the piece that is being filled.
    fn filled(&self) -> usize {
        self.piece.count() as usize
    }

    fn close_piece(&mut self) {
        self.pieces.push(self.piece.finalize_non_root());
        // A fresh one: `reset` keeps the offset, and takes it off the count.
        self.piece = blake3::Hasher::new();
        self.piece.set_input_offset(self.pieces.len() as u64 * PIECE_BYTES as u64);
    }
}

/// The chaining values of a blob's pieces. Empty for a blob of a single piece, whose digest is its own check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    pieces: Vec<[u8; 32]>,
}

/// A peer's bytes do not belong to the blob they were offered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongBytes {
    #[error("the outline does not belong to {0}")]
    Outline(Digest),
    #[error("piece {1} does not belong to {0}")]
    Piece(Digest, u32),
}

impl Outline {
    /// Checks that this outline belongs to `blob`.
    pub fn verify(&self, blob: &BlobRef) -> Result<(), WrongBytes> {
        let wrong = Err(WrongBytes::Outline(blob.digest));
        if blob.pieces() == 1 {
            return if self.pieces.is_empty() { Ok(()) } else { wrong };
        }
        if self.pieces.len() as u64 != u64::from(blob.pieces()) {
            return wrong;
        }
        if root(&self.pieces) == blob.digest { Ok(()) } else { wrong }
    }

    /// Checks one piece of `blob`; the outline itself must have been verified.
    pub fn verify_piece(&self, blob: &BlobRef, index: u32, bytes: &[u8]) -> Result<(), WrongBytes> {
        let wrong = Err(WrongBytes::Piece(blob.digest, index));
        let start = u64::from(index) * PIECE_BYTES as u64;
        let expected = blob.size_bytes.saturating_sub(start).min(PIECE_BYTES as u64);
        if bytes.len() as u64 != expected || index >= blob.pieces() {
            return wrong;
        }
        let fits = match self.pieces.get(index as usize) {
            Some(value) => piece_value(u64::from(index), bytes) == *value,
            None => blob.pieces() == 1 && Digest::of(bytes) == blob.digest,
        };
        if fits { Ok(()) } else { wrong }
    }
}

fn piece_value(index: u64, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * PIECE_BYTES as u64);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The digest of a blob of these pieces, two at least.
fn root(pieces: &[[u8; 32]]) -> Digest {
    let (left, right) = split(pieces);
    Digest(*hazmat::merge_subtrees_root(&subtree(left), &subtree(right), hazmat::Mode::Hash).as_bytes())
}

/// BLAKE3's tree: the left half holds the largest power of two of pieces that leaves at least one on the right.
fn split(pieces: &[[u8; 32]]) -> (&[[u8; 32]], &[[u8; 32]]) {
    pieces.split_at(pieces.len().next_power_of_two() / 2)
}

fn subtree(pieces: &[[u8; 32]]) -> [u8; 32] {
    if let [one] = pieces {
        return *one;
    }
    let (left, right) = split(pieces);
    hazmat::merge_subtrees_non_root(&subtree(left), &subtree(right), hazmat::Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn outlined(bytes: &[u8]) -> (BlobRef, Outline) {
        let mut builder = OutlineBuilder::default();
        for part in bytes.chunks(100_003) {
            builder.update(part);
        }
        builder.finish()
    }

    #[test]
    fn every_piece_of_every_shape_verifies() {
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 5 * PIECE_BYTES + 77, 7 * PIECE_BYTES] {
            let bytes = blob(len);
            let (reference, outline) = outlined(&bytes);
            assert_eq!(reference, BlobRef::of(&bytes), "{len}");
            outline.verify(&reference).expect("the outline is the blob's own");
            for index in 0..reference.pieces() {
                let start = index as usize * PIECE_BYTES;
                let piece = &bytes[start..(start + PIECE_BYTES).min(len)];
                outline.verify_piece(&reference, index, piece).expect("the piece is the blob's own");
            }
        }
    }

    #[test]
    fn a_flipped_bit_a_swapped_piece_and_a_forged_outline_are_refused() {
        let bytes = blob(3 * PIECE_BYTES + 5);
        let (reference, outline) = outlined(&bytes);
        let mut piece = bytes[..PIECE_BYTES].to_vec();
        piece[17] ^= 1;
        assert!(outline.verify_piece(&reference, 0, &piece).is_err());
        assert!(outline.verify_piece(&reference, 1, &bytes[..PIECE_BYTES]).is_err());
        assert!(outline.verify_piece(&reference, 9, &[]).is_err());
        let (_, other) = outlined(&blob(3 * PIECE_BYTES + 6));
        assert!(other.verify(&reference).is_err());
        assert!(Outline { pieces: Vec::new() }.verify(&reference).is_err());
    }

    #[test]
    fn digests_read_back_what_they_print() {
        let digest = Digest::of(b"lull");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("b3:12".parse::<Digest>().is_err());
    }

    #[test]
    fn a_blob_has_one_piece_at_least_and_one_more_where_a_piece_is_full() {
        let piece = PIECE_BYTES as u64;
        let pieces = |size_bytes| BlobRef { digest: Digest::of(b""), size_bytes }.pieces();
        assert_eq!([0, 1, piece, piece + 1, 2 * piece, 2 * piece + 1].map(pieces), [1, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn a_piece_that_is_too_short_too_long_or_beyond_the_last_is_refused() {
        for len in [5, PIECE_BYTES, PIECE_BYTES + 5, 2 * PIECE_BYTES] {
            let bytes = blob(len);
            let (reference, outline) = outlined(&bytes);
            let last = reference.pieces() - 1;
            let piece = &bytes[last as usize * PIECE_BYTES..];
            outline.verify_piece(&reference, last, piece).expect("its own");
            let longer = [piece, &[0]].concat();
            for (index, wrong) in
                [(last, &piece[1..]), (last, &longer[..]), (last + 1, piece), (last + 1, &[][..]), (u32::MAX, &[][..])]
            {
                let error = WrongBytes::Piece(reference.digest, index);
                assert_eq!(outline.verify_piece(&reference, index, wrong), Err(error), "{index} of {len} bytes");
            }
        }
    }

    #[test]
    fn a_sole_piece_is_checked_by_the_digest_and_needs_no_outline() {
        let (reference, outline) = outlined(b"small");
        assert_eq!(outline.verify(&reference), Ok(()));
        outline.verify_piece(&reference, 0, b"small").expect("its own");
        outline.verify_piece(&reference, 0, b"smell").expect_err("another blob's");
        let padded = Outline { pieces: vec![[0; 32]] };
        padded.verify(&reference).expect_err("there is nothing to outline");
    }

    #[test]
    fn an_outline_of_another_blob_of_as_many_pieces_is_refused_and_so_is_one_that_lacks_a_piece() {
        let bytes = blob(2 * PIECE_BYTES + 1);
        let (reference, outline) = outlined(&bytes);
        let (_, other) = outlined(&blob(2 * PIECE_BYTES + 2));
        assert_eq!(other.pieces.len(), outline.pieces.len());
        for pieces in [other.pieces, outline.pieces[..2].to_vec(), [&outline.pieces[..], &[[0; 32]]].concat()] {
            assert_eq!(Outline { pieces }.verify(&reference), Err(WrongBytes::Outline(reference.digest)));
        }
    }
}
