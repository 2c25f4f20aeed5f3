//! Blobs from peers: outlines and pieces.

use lull_shared::{
    digest::{BlobRef, Outline, OutlineBuilder, PIECE_BYTES},
    protocol::BlobReply,
};

use super::{choice, laws, memory::bounded};

/// The first byte says what the rest is: 0 a peer's answer, 1 a blob, 2 the tile of which a blob of several pieces is
/// made. A blob that is made here is offered whole and damaged.
///
/// What a peer sends is accepted if it is the blob's and not otherwise.
pub fn pieces(bytes: &[u8]) {
    let (what, rest) = choice(bytes);
    match what % 3 {
        0 => answer(rest),
        1 => offered(rest, usize::from(what) + 1),
        _ if rest.is_empty() => {}
        // Hashing this much takes a while: the sizes are those about which something is odd.
        _ => {
            let odd = [0, 1, PIECE_BYTES - 1][usize::from(what / 3) % 3];
            let size = (1 + usize::from(what / 9) % 4) * PIECE_BYTES + odd;
            offered(&rest.iter().copied().cycle().take(size).collect::<Vec<u8>>(), PIECE_BYTES / 3);
        }
    }
}

/// Somebody's answer: with the right digest of other bytes, or with a wrong one.
fn answer(bytes: &[u8]) {
    let Ok(BlobReply::Found { blob, outline: Some(outline), .. }) = laws::decode::<BlobReply>(bytes) else { return };
    bounded(bytes.len(), || {
        let verified = outline.verify(&blob).is_ok();
        let last = blob.pieces() - 1;
        for index in [0, 1, last, last.saturating_add(1), u32::MAX] {
            let accepted = outline.verify_piece(&blob, index, bytes).is_ok();
            assert!(!(accepted && verified && blob.pieces() == 1) || BlobRef::of(bytes) == blob, "a piece of another blob");
            assert!(!accepted || index <= last, "a piece behind the end");
        }
        // Bytes of one piece have no outline but the empty one.
        let own = BlobRef::of(bytes);
        let none = OutlineBuilder::default().finish().1;
        assert!(own.pieces() > 1 || outline.verify(&own).is_ok() == (outline == none));
    });
}

fn offered(bytes: &[u8], part: usize) {
    let mut builder = OutlineBuilder::default();
    bytes.chunks(part).for_each(|part| builder.update(part));
    let (blob, outline) = builder.finish();
    assert_eq!(blob, BlobRef::of(bytes), "however it streams by");
    assert_eq!(outline.verify(&blob), Ok(()));
    let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(PIECE_BYTES).collect() };
    assert_eq!(pieces.len(), blob.pieces() as usize);
    for (index, piece) in (0..).zip(&pieces) {
        assert_eq!(outline.verify_piece(&blob, index, piece), Ok(()));
        refuses_damage(&outline, &blob, index, piece);
        let next = pieces.get(index as usize + 1);
        let in_the_next_place = outline.verify_piece(&blob, index + 1, piece);
        assert!(in_the_next_place.is_err() || next == Some(piece), "in another's place");
    }
    assert!(outline.verify_piece(&blob, blob.pieces(), &[]).is_err(), "there are no more");
    let longer = BlobRef { size_bytes: blob.size_bytes + PIECE_BYTES as u64 + 1, ..blob };
    assert!(outline.verify(&longer).is_err(), "it is as long as it is");
}

fn refuses_damage(outline: &Outline, blob: &BlobRef, index: u32, piece: &[u8]) {
    let Some(last) = piece.len().checked_sub(1) else { return };
    assert!(outline.verify_piece(blob, index, &piece[..last]).is_err(), "cut short");
    let mut damaged = piece.to_vec();
    damaged[last / 2] ^= 1;
    assert!(outline.verify_piece(blob, index, &damaged).is_err(), "one bit is another");
}
