//! Signed documents: certificates, manifests, revocations.

use std::{fmt::Debug, time::Duration};

use libp2p::{PeerId, identity::Keypair};
use lull_shared::{
    codec,
    identity::{Authority, Certificate, Claim, ClaimError, NetworkId, Revocations, Signed, sign, verify},
    message::ModuleManifest,
    time::Timestamp,
};

use super::{choice, laws};

/// A document. The first byte says which kind is expected (0: certificate, 1: manifest, 2: revocations), and with 128
/// added that the rest is not a signed document but the body of one that the authority signs.
///
/// Only what the authority signed as this kind is believed, and a certificate admits only its own peer, to its own
/// network, during its life.
pub fn identity(bytes: &[u8]) {
    let (how, rest) = choice(bytes);
    let signed_here = how & 128 != 0;
    match how % 128 % 3 {
        0 => {
            if let Some(signed) = claim::<Certificate>(rest, signed_here) {
                certificate(&signed);
            }
        }
        1 => drop(claim::<ModuleManifest>(rest, signed_here)),
        _ => drop(claim::<Revocations>(rest, signed_here)),
    }
}

/// The authority of the golden files, so that their documents can be seeds.
pub(super) fn authority() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).expect("thirty-two bytes are a key")
}

/// A document that is believed, if this is one.
fn claim<C: Claim + PartialEq + Debug>(bytes: &[u8], signed_here: bool) -> Option<Signed> {
    let trusted = Authority::of(&authority());
    let signed = if signed_here {
        let message = [C::KIND.as_bytes(), &[0], bytes].concat();
        Signed { body: bytes.to_vec(), signature: authority().sign(&message).expect("a key signs anything") }
    } else {
        laws::decode::<Signed>(bytes).ok()?
    };
    let believed = match verify::<C>(&trusted, &signed) {
        Ok(claim) => claim,
        Err(ClaimError::Signature) => {
            assert!(!signed_here, "the authority's own signature is right");
            return None;
        }
        Err(ClaimError::Body(_)) => {
            assert!(laws::decode::<C>(&signed.body).is_err());
            return None;
        }
    };
    assert_eq!(verify::<C>(&trusted, &sign(&authority(), &believed)).as_ref(), Ok(&believed), "it can be passed on");
    let stranger = Authority::of(&Keypair::ed25519_from_bytes([9; 32]).expect("thirty-two bytes are a key"));
    assert_eq!(verify::<C>(&stranger, &signed), Err(ClaimError::Signature), "another authority's word is none");
    let mut forged = signed.clone();
    if let Some(byte) = forged.body.last_mut() {
        *byte ^= 1;
        assert_eq!(verify::<C>(&trusted, &forged), Err(ClaimError::Signature), "one bit makes it another document");
    }
    let verdicts = [
        verify::<Certificate>(&trusted, &signed).err(),
        verify::<ModuleManifest>(&trusted, &signed).err(),
        verify::<Revocations>(&trusted, &signed).err(),
    ];
    let kinds = verdicts.iter().filter(|verdict| **verdict != Some(ClaimError::Signature)).count();
    assert_eq!(kinds, 1, "a signature is for one kind");
    Some(signed)
}

fn certificate(signed: &Signed) {
    let trusted = Authority::of(&authority());
    let own: Certificate = codec::decode(&signed.body).expect("it was believed");
    let other = PeerId::from(Keypair::ed25519_from_bytes([10; 32]).expect("thirty-two bytes are a key").public());
    let admits = |network, peer: &PeerId, now| Certificate::verify(signed, &trusted, network, peer, now).is_ok();
    if other.to_bytes() != own.peer {
        assert!(!admits(own.network, &other, own.issued), "it is another's");
    }
    let Ok(peer) = PeerId::from_bytes(&own.peer) else { return };
    assert!(!admits(own.network, &peer, own.expires), "it has expired");
    let before = Timestamp(own.expires.0.saturating_sub(1));
    assert_eq!(admits(own.network, &peer, before), before < own.expires, "it is valid until then");
    let elsewhere = NetworkId(own.network.0.map(|byte| !byte));
    assert!(!admits(elsewhere, &peer, before), "it is for one network");
    // No life is too odd to be asked about.
    let _ = own.wants_renewal(own.issued + Duration::from_secs(1));
}
