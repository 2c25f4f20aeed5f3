//! The messages of the protocols beside the work stream.

use lull_shared::protocol::{
    Admission, BlobAnswer, BlobAsk, BlobReply, BlobRequest, DeliveryReply, DeliveryRequest, EnrolmentReply, EnrolmentRequest,
    Introduction,
};

use super::{choice, laws};

/// One message; the first byte says of which type, in the order in which [`lull_shared::protocol`] declares them.
pub fn protocol(bytes: &[u8]) {
    let (which, body) = choice(bytes);
    // What is not understood is refused: an error is as good as a value.
    match which % 10 {
        0 => drop(laws::decode::<Introduction>(body)),
        1 => drop(laws::decode::<Admission>(body)),
        2 => drop(laws::decode::<EnrolmentRequest>(body)),
        3 => drop(laws::decode::<EnrolmentReply>(body)),
        4 => drop(laws::decode::<BlobRequest>(body)),
        5 => drop(laws::decode::<BlobReply>(body)),
        6 => ask(body),
        7 => {
            // The answer to an ask is as small as that.
            let _ = laws::decode::<BlobAnswer>(body);
        }
        8 => drop(laws::decode::<DeliveryRequest>(body)),
        _ => drop(laws::decode::<DeliveryReply>(body)),
    }
}

/// A set of pieces that fits a blob names none that the blob has not, whatever its bits.
fn ask(body: &[u8]) {
    let Ok(BlobAsk { lacking, .. }) = laws::decode::<BlobAsk>(body) else { return };
    for pieces in [0, 1, 7, 8, 9, 4096] {
        let inside = lacking.iter().all(|piece| piece < pieces);
        assert!(inside || !lacking.fits(pieces));
        assert!(lacking.choose(pieces).is_none_or(|piece| lacking.contains(piece)));
    }
}
