//! The messages of the protocols beside the work stream.

use lull_shared::protocol::{
    Admission, BlobReply, BlobRequest, DeliveryReply, DeliveryRequest, EnrolmentReply, EnrolmentRequest, Introduction,
};

use super::{choice, laws};

/// One message; the first byte says of which type, in the order in which [`lull_shared::protocol`] declares them.
pub fn protocol(bytes: &[u8]) {
    let (which, body) = choice(bytes);
    // What is not understood is refused: an error is as good as a value.
    match which % 8 {
        0 => drop(laws::decode::<Introduction>(body)),
        1 => drop(laws::decode::<Admission>(body)),
        2 => drop(laws::decode::<EnrolmentRequest>(body)),
        3 => drop(laws::decode::<EnrolmentReply>(body)),
        4 => drop(laws::decode::<BlobRequest>(body)),
        5 => drop(laws::decode::<BlobReply>(body)),
        6 => drop(laws::decode::<DeliveryRequest>(body)),
        _ => drop(laws::decode::<DeliveryReply>(body)),
    }
}
