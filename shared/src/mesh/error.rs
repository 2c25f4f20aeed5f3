//! What can go wrong on the mesh, in words for people.

use libp2p::{Multiaddr, PeerId};

use crate::{digest::BlobRef, identity::CertificateError};

/// A node that could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot listen on {address}: {reason}; choose another address or port")]
    Listen { address: Multiaddr, reason: String },
    #[error("the identity cannot secure connections")]
    Identity(#[source] libp2p::noise::Error),
    #[error("cannot look for members on this subnet")]
    Discovery(#[source] std::io::Error),
    #[error("the gossip configuration is wrong: {0}")]
    Gossip(String),
}

/// A call to a node that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshError {
    #[error("the node has stopped")]
    Stopped,
    #[error("`{address}` is no address of a peer: {reason}; write it like /dns4/HOST/tcp/7070/p2p/PEER")]
    Address { address: Multiaddr, reason: String },
    #[error("cannot reach {peer}: {reason}")]
    Unreachable { peer: PeerId, reason: String },
    #[error("{peer} does not answer from this network: {source}")]
    Untrusted {
        peer: PeerId,
        #[source]
        source: CertificateError,
    },
    #[error("{peer} showed no certificate")]
    NoCertificate { peer: PeerId },
    #[error("{peer} refused this machine: {reason}")]
    Refused { peer: PeerId, reason: String },
    #[error("{peer} does not know this machine, or its certificate has expired: it must enrol")]
    Stranger { peer: PeerId },
    #[error("{peer} was revoked")]
    Revoked { peer: PeerId },
    #[error("{peer} is no coordinator")]
    NoCoordinator { peer: PeerId },
    #[error("there is no admitted connection to {peer}")]
    NotConnected { peer: PeerId },
    #[error("the connection to {peer} was lost: {reason}")]
    Lost { peer: PeerId, reason: String },
    #[error("{peer} did not answer in time")]
    Silent { peer: PeerId },
    #[error("{peer} broke the protocol: {reason}")]
    Protocol { peer: PeerId, reason: String },
    #[error("{peer} takes no more transfers at the moment; try again later")]
    Busy { peer: PeerId },
    #[error("a blob of {size_bytes} bytes; at most {max_bytes} are taken")]
    TooLarge { size_bytes: u64, max_bytes: u64 },
    #[error("nobody could provide {}: {}", blob.digest, tried_in_words(tried))]
    Unavailable { blob: BlobRef, tried: Vec<(PeerId, String)> },
    #[error("{path}: {reason}")]
    File { path: std::path::PathBuf, reason: String },
}

fn tried_in_words(tried: &[(PeerId, String)]) -> String {
    if tried.is_empty() {
        return "no peer is known to have it".to_owned();
    }
    tried.iter().map(|(peer, reason)| format!("{peer}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// An error with its causes, in one line.
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = next.source();
    }
    words
}
