//! The wire: which protocols a member of the mesh speaks, in which order, in which bytes.
//!
//! # Connection
//! TCP or QUIC; Noise XX with the prologue `lull 1 ` and the network id in lower-case hexadecimal (on QUIC, whose
//! handshake has no prologue, the admission below does this work); Yamux. Protocols are negotiated with
//! multistream-select. Every protocol id ends in its version; a coordinator speaks the last two versions of each.
//!
//! # Bytes
//! A **frame** is a length (u32, little-endian, at most [`crate::limits::FRAME_BYTES_MAX`]) and that many bytes: one
//! byte of format (1) and a value encoded by bincode 2 with little-endian variable-length integers, fields in the
//! order of the Rust types named here. Lengths and the numbers of enum variants are such integers too. A **piece** is
//! raw bytes whose length both sides know. The files in `tests/golden` fix the bytes of every message. A stream that
//! carries anything else is reset, and nothing else happens.
//!
//! A [`Signed`] claim's signature is the authority's (ed25519), over the claim's kind
//! ([`crate::identity::Claim::KIND`]), a zero byte and the body.
//!
//! # Order
//! | protocol | opened by | then |
//! |---|---|---|
//! | [`ADMISSION`] | the dialler, first on every connection; later either side that has a new certificate or newer revocations | [`Introduction`] both ways, the opener's first; [`Admission`] both ways; closed |
//! | [`ENROLMENT`] | a machine without a valid certificate | [`EnrolmentRequest`], [`EnrolmentReply`], closed |
//! | [`WORK`] | an agent, once per coordinator | [`crate::message::ToCoordinatorFrame`]s and [`crate::message::ToAgentFrame`]s until closed |
//! | [`BLOB`] | anyone admitted | [`BlobRequest`], [`BlobReply`]; then any number of [`BlobAsk`], each answered by [`BlobAnswer`] and the piece that it names |
//! | [`DELIVERY`] | an agent | [`DeliveryRequest`], [`DeliveryReply`]; the blob's pieces; [`DeliveryReply`] |
//!
//! Each side judges the other's certificate and begins to serve it before it sends its own [`Admission`]; so whoever
//! has read `Admitted` may open the other protocols at once. Whoever is not admitted within
//! [`crate::limits::ADMISSION_TIME_MAX`] and does not enrol is disconnected; until then all protocols but the first two
//! are refused by resetting their streams. Agents close a connection of a peer that was revoked before anything is said on it;
//! coordinators answer it as a stranger, in a stranger's place and time, with [`Admission::Revoked`] or
//! [`EnrolmentRefusal::Revoked`], and nothing else, so that its owner learns of it. A certificate that expires while connected ends the connection
//! unless a newer one was shown.
//!
//! Each introduction says which edition of the revocations its sender knows; the answer brings a newer one along. Whoever
//! takes one over introduces itself anew on all its connections: that tells everybody who has not got it, and whoever
//! issued it how many have. Editions are ordered as [`crate::identity::Edition`] says, and an older one never replaces a
//! newer. A coordinator that is brought an edition that it did not issue and that is not of a term before its own learns
//! that its store was restored from a backup: it takes over who was thrown out, and goes on above that term.
//!
//! On a work stream the coordinator's first message is `Welcome` or `Goodbye`. Of several coordinators with one store
//! one leads; another answers with [`crate::message::GoodbyeReason::Standby`], at once or when it has waited for at
//! most [`crate::limits::STANDBY_WAIT_MAX`] to lead itself. A coordinator that has nothing to say sends a frame without
//! messages every [`crate::limits::KEEP_ALIVE`]; an agent that read nothing for [`crate::limits::SILENCE_MAX`] looks for
//! another coordinator, and so it does with one whose term is older than one that it knows of.
//!
//! A database that was restored from a backup may begin with terms that agents have left behind. So `Welcome` carries the
//! term as a [`crate::identity::TermProof`], signed by the network's authority, and each `Hello` the newest one that the agent was
//! shown. A coordinator of the same authority that is shown a higher term than its own, and that still has the lease in its
//! store, gives the lease up, raises the term there to that term, and takes the next one above it before it welcomes anybody.
//!
//! # Cloned identities
//! Each start of an agent draws a number, which `Hello` carries. Two numbers of one agent that each come back after the
//! other are two programs with one identity: the coordinator gives no work to either and answers their greetings with
//! [`crate::message::GoodbyeReason::Cloned`], until a machine that was one of them has enrolled anew, or an administrator
//! trusts the agent. One that is told `Superseded` on the stream that it uses draws a second number, once: the memory of a
//! machine can be copied, too.
//!
//! # Snapshots
//! An agent that says `Saved` has the snapshot and serves it to whoever asks. The coordinator has another agent `Keep` a copy,
//! which that one fetches by digest like any blob; it says `Keeps` when it has it, or `Unkept` if not, and later when it has it
//! no more. Each `Hello` lists all that are kept, and what nobody needs is answered by `Discard`. An agent that is about to
//! stop, or whose machine is about to sleep, says `Unkept` with the reason `Leaving` of all that it keeps, and goes when each
//! is answered by `Safe` or `Discard`, or when it must.
//!
//! # Policy
//! What is allowed on a machine is a [`Signed`] [`crate::policy::Sheet`]: in `Welcome`, and again whenever it changes. An agent
//! keeps the newest one on disk and refuses one of a lower version, or of another agent. It answers with the version that
//! holds and with what its owner narrows, which nobody can widen.
//!
//! # Upgrades
//! An agent that is to become another version is told the [`Signed`] [`crate::release::Release`], on each stream again until it
//! has. It answers with how far it is, and checks signature, network, platform, version, count and expiry before it fetches the
//! package; what it gives to an installer is checked there once more.
//!
//! # Blobs
//! Whoever needs a blob asks its coordinator for the outline and for sources, and then all sources, the coordinator
//! among them, for pieces that it lacks. Whoever is asked chooses the piece: at random among those that it has, so that
//! two that fetch the same blob soon have different ones to give each other. A coordinator gives away each piece a few
//! times only and answers `Nothing` otherwise, unless the asker is `alone`. Of a blob that it has not got and that agents
//! say they hold, as of snapshots, it gives the outline and sources; and it relays pieces from a holder that is connected to it
//! to an asker that is `alone`, or that can be named nobody: not everybody can be dialled. Agents serve what they hold and, from the
//! first verified piece on, what they are still fetching. A piece that does not verify ends the exchange with that peer.
//!
//! # Limits
//! A frame of the work stream has at most [`crate::limits::MESSAGES_PER_FRAME_MAX`] messages; whoever sends more, or
//! lists longer than [`crate::limits::ATTEMPTS_PER_AGENT_MAX`], has broken the protocol and loses the stream.
//! A connection takes [`crate::limits::STREAMS_PER_CONNECTION_MAX`] streams from its peer at once and resets further
//! ones. Each step of a transfer has [`crate::limits::TRANSFER_TIME_MAX`]. When too many connect at once, those are cut first
//! that say nothing, of the address that has the most; addresses from which members came have places of their own, and a peer
//! that was a member takes no stranger's place. Whoever is cut dials again after a growing, random pause.
//!
//! # Gossip
//! Gossipsub 1.1, signed, strict; a message's id is its publisher's peer id and its sequence number, eight bytes,
//! big-endian. It runs once a connection is admitted; until then its protocols are refused. Agents publish to
//! [`capacity_topic`] without subscribing; coordinators and relays subscribe. A message is an encoded
//! [`crate::resources::Capacity`] whose `agent` the publisher's certificate names; readers report and forward only
//! messages of publishers whose certificate they have seen on a connection of their own, and ignore others. Everybody
//! subscribes to [`REVOCATION_TOPIC`]: an encoded [`Signed`] [`crate::identity::Revocations`].
//!
//! # Beside them
//! Identify and ping, as libp2p describes them; whoever does not answer pings is disconnected.

use serde::{Deserialize, Serialize};

use crate::{
    digest::{BlobRef, Digest, Outline},
    id::{AgentId, AttemptId},
    identity::{Edition, NetworkId, Secret, Signed},
    pieces::PieceSet,
    time::Timestamp,
};

/// Certificates are shown and checked.
pub const ADMISSION: &str = "/lull/admission/1";
/// A certificate is issued.
pub const ENROLMENT: &str = "/lull/enrolment/1";
/// Offers, results, heartbeats.
pub const WORK: &str = "/lull/work/1";
/// Bytes by digest, from whoever has them.
pub const BLOB: &str = "/lull/blob/1";
/// A large result on its way to the coordinator.
pub const DELIVERY: &str = "/lull/delivery/1";
/// Who was thrown out.
pub const REVOCATION_TOPIC: &str = "lull/revocation/1";
/// Capacity is spread over this many topics, so that relays can share them.
pub const CAPACITY_TOPICS: u64 = 8;

/// The topic on which an agent publishes its capacity.
pub fn capacity_topic(agent: AgentId) -> String {
    format!("lull/capacity/1/{}", agent.0 % CAPACITY_TOPICS)
}

/// The Noise prologue of a network.
pub fn noise_prologue(network: NetworkId) -> Vec<u8> {
    format!("lull 1 {network}").into_bytes()
}

/// The first thing each side of a connection says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// A signed [`crate::identity::Certificate`]; none before enrolment.
    pub certificate: Option<Signed>,
    /// The program and its version, for people.
    pub software: String,
    /// The edition of the [`crate::identity::Revocations`] it knows; that of term 0 for none.
    pub revocations: Edition,
    /// What its clock shows: nothing is decided by it, but people are told when clocks differ.
    pub now: Timestamp,
}

/// The answer to an introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    Admitted {
        /// Signed [`crate::identity::Revocations`], when the other side knows older ones or none.
        revocations: Option<Signed>,
    },
    /// Only enrolment is possible on this connection.
    Stranger,
    Refused {
        reason: String,
    },
    /// The network has thrown the machine out. Only a coordinator's word about that counts.
    Revoked,
}

/// A machine asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolmentRequest {
    /// It was given a token.
    Join { token: u64, secret: Secret, name: String },
    /// It has a certificate that expired while it was switched off.
    Renew { certificate: Signed },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolmentReply {
    Enrolled { agent: AgentId, name: String, certificate: Signed, coordinators: Vec<String> },
    Refused(EnrolmentRefusal),
}

/// Why a machine gets no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EnrolmentRefusal {
    #[error("the token is unknown or was revoked\nhint: ask for a new one made by `lull token create`")]
    UnknownToken,
    #[error("the token has expired\nhint: ask for a new one made by `lull token create`")]
    Expired,
    #[error("the token was used as often as it may be\nhint: ask for a new one made by `lull token create`")]
    UsedUp,
    #[error("this machine was revoked\nhint: only an administrator lets it in again, by `lull agent restore`")]
    Revoked,
    #[error("`{name}` cannot be an agent's name\nhint: {why}")]
    Name { name: String, why: String },
    #[error("the token is not for a machine called `{0}`\nhint: ask for one made by `lull token create --for {0}`")]
    NotBound(String),
    #[error(
        "a machine called `{0}` was revoked\nhint: an administrator lets it in again by `lull agent restore {0}`, or another machine \
         in its place by `lull token create --for {0}`"
    )]
    NameRevoked(String),
    #[error("the token is for one machine called `{0}`, which has joined\nhint: `lull-agent join --name` gives another name")]
    NameTaken(String),
    #[error("too many enrolments from this address at the moment\nhint: try again in a minute")]
    TooMany,
    #[error("the coordinator cannot enrol anybody at the moment\nhint: try again")]
    Unavailable,
}

/// Says which blob a stream is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRequest {
    pub digest: Digest,
    /// Whether the outline is wanted; whoever has verified one needs no other.
    pub outline: bool,
}

/// The answer; after `Found` the opener asks for pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobReply {
    Found {
        blob: BlobRef,
        /// If it was wanted and is known: a peer that only begins to fetch the blob has none yet.
        outline: Option<Outline>,
        /// Others that have pieces of it, as far as a coordinator knows; agents name none.
        sources: Vec<BlobSource>,
    },
    Missing,
}

/// Somebody who holds a blob or fetches it at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobSource {
    pub peer: Vec<u8>,
    /// Where it listens, without its peer id.
    pub addresses: Vec<String>,
}

/// Asks for one piece, whichever of these the other side likes to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobAsk {
    /// What the asker lacks and nobody is sending it.
    pub lacking: PieceSet,
    /// Nobody else that it can reach has any of them: a coordinator gives what it would leave to others.
    pub alone: bool,
}

/// The answer to each ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobAnswer {
    /// The bytes of this piece follow.
    Piece { index: u32 },
    /// None of them is here to be given at the moment; later may be different.
    Nothing,
    /// Too many transfers at the moment: ask another peer, or later.
    Busy,
}

/// An agent offers the large output of an attempt it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRequest {
    pub attempt: AttemptId,
    pub blob: BlobRef,
}

/// The answer to the request, and again after the last piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryReply {
    /// Send the pieces.
    Send,
    /// The blob is durable (or was before).
    Stored,
    /// It is not wanted; the agent need not try again.
    Refused { reason: String },
    /// Too many deliveries at the moment: try again later.
    Busy,
}
