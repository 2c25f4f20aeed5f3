//! Who belongs to a network and how that is proved.
//!
//! A network has one **authority** key. It signs membership certificates, module manifests and revocations; its
//! public half is what members trust. Every process has an **identity** key of its own, made at its first start,
//! whose public half is its `PeerId`; the mesh proves possession of it on every connection.
//!
//! ```text
//! token: network id, authority, coordinators' addresses, one-time secret --> machine --> enrolment:
//!   (proved PeerId, secret) --> certificate: network, PeerId, role, agent number, name, life; signed by the authority
//! ```

use std::{fmt, str::FromStr, time::Duration};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use libp2p_identity::{Keypair, PeerId, PublicKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codec,
    id::{AgentId, Term},
    time::Timestamp,
};

/// A network's random name. It goes into every handshake, so members of different networks cannot even connect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub [u8; 16]);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A claim together with the authority's signature over its encoded bytes and its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    pub body: Vec<u8>,
    pub signature: Vec<u8>,
}

/// A claim that the authority can sign; the kind keeps a signature over one from being used for another.
pub trait Claim: Serialize + DeserializeOwned {
    const KIND: &'static str;
}

impl Claim for Certificate {
    const KIND: &'static str = "lull certificate 1";
}

impl Claim for crate::message::ModuleManifest {
    const KIND: &'static str = "lull manifest 1";
}

impl Claim for TermProof {
    const KIND: &'static str = "lull term 1";
}

impl Claim for Revocations {
    const KIND: &'static str = "lull revocations 1";
}

/// A signed claim that is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("the signature is not the network authority's")]
    Signature,
    #[error("the signed bytes are not what they should be")]
    Body(#[source] codec::DecodeError),
}

/// Signs a claim with the authority's key.
pub fn sign<C: Claim>(authority: &Keypair, claim: &C) -> Signed {
    let body = codec::encode(claim);
    let signature = authority.sign(&signed_bytes::<C>(&body)).expect("an ed25519 key signs anything");
    Signed { body, signature }
}

/// Checks a claim's signature, then decodes it.
pub fn verify<C: Claim>(authority: &Authority, signed: &Signed) -> Result<C, ClaimError> {
    if !authority.key().verify(&signed_bytes::<C>(&signed.body), &signed.signature) {
        return Err(ClaimError::Signature);
    }
    codec::decode(&signed.body).map_err(ClaimError::Body)
}

fn signed_bytes<C: Claim>(body: &[u8]) -> Vec<u8> {
    [C::KIND.as_bytes(), &[0], body].concat()
}

/// The public key that a network's members trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Authority(PublicKey);

impl Authority {
    /// The public half of an authority's key pair.
    pub fn of(authority: &Keypair) -> Self {
        Self(authority.public())
    }

    /// The key itself.
    pub fn key(&self) -> &PublicKey {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Authority {
    type Error = libp2p_identity::DecodingError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        PublicKey::try_decode_protobuf(&bytes).map(Self)
    }
}

impl From<Authority> for Vec<u8> {
    fn from(authority: Authority) -> Self {
        authority.0.encode_protobuf()
    }
}

/// What a member may do on the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Agent,
    Coordinator,
}

/// The authority's word that a peer belongs to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub network: NetworkId,
    /// The member's `PeerId`, as bytes.
    pub peer: Vec<u8>,
    pub role: Role,
    /// The agent's number; a coordinator has none.
    pub agent: Option<AgentId>,
    /// What people call the machine.
    pub name: String,
    /// The group that it was put into when it joined.
    pub group: Option<String>,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

/// A certificate that does not admit its bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("{0}")]
    Claim(#[from] ClaimError),
    #[error("it is for another network")]
    Network,
    #[error("it belongs to another peer")]
    Peer,
    #[error("it expired at {0}")]
    Expired(Timestamp),
}

impl Certificate {
    /// Checks that `signed` admits `peer` to `network` at `now`.
    pub fn verify(
        signed: &Signed,
        authority: &Authority,
        network: NetworkId,
        peer: &PeerId,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let certificate = Self::verify_expired(signed, authority, network, peer)?;
        if certificate.expires <= now { Err(CertificateError::Expired(certificate.expires)) } else { Ok(certificate) }
    }

    /// The same without looking at its life: enough to be renewed, not to be admitted.
    pub fn verify_expired(
        signed: &Signed,
        authority: &Authority,
        network: NetworkId,
        peer: &PeerId,
    ) -> Result<Self, CertificateError> {
        let certificate: Self = verify(authority, signed)?;
        if certificate.network != network {
            return Err(CertificateError::Network);
        }
        if certificate.peer != peer.to_bytes() {
            return Err(CertificateError::Peer);
        }
        Ok(certificate)
    }

    /// Whether it is past half of its life and should be renewed.
    pub fn wants_renewal(&self, now: Timestamp) -> bool {
        now.since(self.issued) > self.expires.since(self.issued) / 2
    }
}

/// Which of two lists of revocations is the newer: the later edition holds, and no clock has a say in it.
///
/// A coordinator that leads in a later term knows all that those before it did, so the term comes first; within a term
/// the store counts. A database that was restored from a backup can come to the same term and count a second time: what
/// was drawn keeps the two apart, so that everybody prefers the same one, and the leader notices and goes on above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Edition {
    /// The term of the coordinator that signed it; 0: no list at all.
    pub term: Term,
    /// How often somebody was thrown out or let in again, as the store counts it.
    pub counter: u64,
    /// What this coordinator drew for its term.
    pub draw: u64,
}

/// Everybody who was thrown out, signed as a whole; a later edition replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    pub edition: Edition,
    /// `PeerId`s as bytes.
    pub peers: Vec<Vec<u8>>,
}

/// A term of a coordinator, by the authority's word: whoever was shown it can prove that it was. A coordinator whose store
/// was restored from a backup begins above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermProof {
    pub network: NetworkId,
    pub term: Term,
}

/// What a machine needs to join: one line of text, printed by `lull token create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    pub network: NetworkId,
    pub authority: Authority,
    /// Multiaddresses of coordinators, each ending in `/p2p/PEER`.
    pub coordinators: Vec<String>,
    /// The token's number in the coordinator's list.
    pub token: u64,
    pub secret: Secret,
}

/// Sixteen random bytes that prove that somebody was given a token. Printed only on purpose.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// What a store keeps of it: its digest. The secret itself has 128 bits and needs no slow hash.
    pub fn fingerprint(&self) -> [u8; 32] {
        *crate::digest::Digest::of(&self.0).as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

const TOKEN_PREFIX: &str = "lull1-";
const CHECK_BYTES: usize = 4;

/// The text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    #[error("this is not a join token: it must begin with {TOKEN_PREFIX}\nhint: ask for one made by `lull token create`")]
    Prefix,
    #[error("this join token is damaged or cut short\nhint: copy the whole line again, as `lull token create` printed it")]
    Damaged,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = codec::encode(self);
        let digest = crate::digest::Digest::of(&body);
        write!(f, "{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&[&digest.as_bytes()[..CHECK_BYTES], body.as_slice()].concat()))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim().strip_prefix(TOKEN_PREFIX).ok_or(ParseTokenError::Prefix)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| ParseTokenError::Damaged)?;
        let (check, body) = bytes.split_at_checked(CHECK_BYTES).ok_or(ParseTokenError::Damaged)?;
        if crate::digest::Digest::of(body).as_bytes()[..CHECK_BYTES] != *check {
            return Err(ParseTokenError::Damaged);
        }
        codec::decode(body).map_err(|_| ParseTokenError::Damaged)
    }
}

/// Issues certificates for a network.
pub struct Issuer {
    pub network: NetworkId,
    pub authority: Keypair,
    pub life: Duration,
}

impl Issuer {
    /// A signed certificate for a peer, valid from `now`.
    pub fn issue(&self, peer: &PeerId, role: Role, agent: Option<AgentId>, name: &str, now: Timestamp) -> Signed {
        self.issue_in(None, peer, role, agent, name, now)
    }

    /// The same for a machine that was put into a group when it joined.
    pub fn issue_in(
        &self,
        group: Option<&str>,
        peer: &PeerId,
        role: Role,
        agent: Option<AgentId>,
        name: &str,
        now: Timestamp,
    ) -> Signed {
        let certificate = Certificate {
            network: self.network,
            peer: peer.to_bytes(),
            role,
            agent,
            name: name.to_owned(),
            group: group.map(str::to_owned),
            issued: now,
            expires: now + self.life,
        };
        sign(&self.authority, &certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer() -> Issuer {
        Issuer { network: NetworkId([7; 16]), authority: Keypair::generate_ed25519(), life: Duration::from_secs(60) }
    }

    #[test]
    fn a_certificate_admits_its_bearer_until_it_expires() {
        let (issuer, peer, now) = (issuer(), PeerId::random(), Timestamp::from_millis(1_000));
        let signed = issuer.issue(&peer, Role::Agent, Some(AgentId(3)), "desk-17", now);
        let authority = Authority::of(&issuer.authority);
        let check = |peer: &PeerId, at| Certificate::verify(&signed, &authority, issuer.network, peer, at);
        assert_eq!(check(&peer, now).expect("valid").agent, Some(AgentId(3)));
        assert_eq!(check(&PeerId::random(), now), Err(CertificateError::Peer));
        assert!(matches!(check(&peer, now + Duration::from_secs(61)), Err(CertificateError::Expired(_))));
        assert!(check(&peer, now).expect("valid").wants_renewal(now + Duration::from_secs(31)));
    }

    #[test]
    fn a_signature_of_another_authority_or_over_another_kind_is_refused() {
        let (issuer, peer, now) = (issuer(), PeerId::random(), Timestamp::from_millis(0));
        let signed = issuer.issue(&peer, Role::Agent, None, "x", now);
        let stranger = Authority::of(&Keypair::generate_ed25519());
        assert_eq!(verify::<Certificate>(&stranger, &signed), Err(ClaimError::Signature));
        assert_eq!(verify::<Revocations>(&Authority::of(&issuer.authority), &signed), Err(ClaimError::Signature));
    }

    #[test]
    fn a_token_survives_copy_and_paste_and_notices_damage() {
        let token = JoinToken {
            network: NetworkId([1; 16]),
            authority: Authority::of(&Keypair::generate_ed25519()),
            coordinators: vec!["/ip4/127.0.0.1/tcp/7070/p2p/x".into()],
            token: 9,
            secret: Secret::random(),
        };
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token));
        assert_eq!(text[..text.len() - 3].parse::<JoinToken>(), Err(ParseTokenError::Damaged));
        assert_eq!("hello".parse::<JoinToken>(), Err(ParseTokenError::Prefix));
    }

    #[test]
    fn a_certificate_is_void_from_the_instant_at_which_it_expires_and_elsewhere() {
        let (issuer, peer, issued) = (issuer(), PeerId::random(), Timestamp::from_millis(1_000));
        let signed = issuer.issue_in(Some("lab"), &peer, Role::Coordinator, None, "desk", issued);
        let authority = Authority::of(&issuer.authority);
        let expires = issued + issuer.life;
        let check = |network, at| Certificate::verify(&signed, &authority, network, &peer, at);
        let last = expires - Duration::from_micros(1);
        assert_eq!(check(issuer.network, last).expect("its last instant").group.as_deref(), Some("lab"));
        assert_eq!(check(issuer.network, expires), Err(CertificateError::Expired(expires)));
        assert_eq!(check(NetworkId([8; 16]), issued), Err(CertificateError::Network));
        let known = Certificate::verify_expired(&signed, &authority, issuer.network, &peer).expect("it can be renewed");
        assert_eq!([29, 30, 31].map(|seconds| known.wants_renewal(issued + Duration::from_secs(seconds))), [false, false, true]);
    }

    #[test]
    fn what_was_changed_after_it_was_signed_is_not_believed() {
        let issuer = issuer();
        let mut signed = issuer.issue(&PeerId::random(), Role::Agent, None, "x", Timestamp::default());
        let authority = Authority::of(&issuer.authority);
        verify::<Certificate>(&authority, &signed).expect("as it was signed");
        let last = signed.body.len() - 1;
        signed.body[last] ^= 1;
        assert_eq!(verify::<Certificate>(&authority, &signed), Err(ClaimError::Signature));
    }

    #[test]
    fn a_token_with_one_wrong_letter_is_noticed() {
        let token = JoinToken {
            network: NetworkId([1; 16]),
            authority: Authority::of(&Keypair::generate_ed25519()),
            coordinators: Vec::new(),
            token: 9,
            secret: Secret([7; 16]),
        };
        let text = token.to_string();
        for place in [TOKEN_PREFIX.len(), text.len() / 2] {
            let mut letters: Vec<char> = text.chars().collect();
            letters[place] = if letters[place] == 'A' { 'B' } else { 'A' };
            let wrong: String = letters.into_iter().collect();
            assert_eq!(wrong.parse::<JoinToken>(), Err(ParseTokenError::Damaged), "{wrong}");
        }
        assert_eq!(text.parse(), Ok(token));
    }
}
