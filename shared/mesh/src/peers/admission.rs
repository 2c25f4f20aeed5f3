//! Admission: what is said on the first stream of a connection.
//!
//! ```text
//! opener   -- Introduction ------------------> other      judges the certificate, begins to serve
//!          <-- Introduction, Admission -------
//! judges the certificate, begins to serve
//!          -- Admission --------------------->
//! ```
//! The conversation runs in a task of its own; the node is told what came of each step and answers with its verdict.

use futures::AsyncWriteExt as _;
use libp2p::{PeerId, Stream, swarm::ConnectionId};
use lull_shared::{
    identity::{Authority, Certificate, CertificateError, Edition, NetworkId},
    limits::{ADMISSION_TIME_MAX, INTRODUCTION_BYTES_MAX, REVOCATIONS_BYTES_MAX},
    protocol::{Admission, Introduction},
    time::Timestamp,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    error::MeshError,
    node::Note,
    streams::frames::{FrameError, read_frame, write_frame},
};

/// What is known about the peer on the other end before it says anything, and how the node is reached.
pub(crate) struct Conversation {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) network: NetworkId,
    pub(crate) authority: Authority,
    pub(crate) ours: Introduction,
    pub(crate) notes: mpsc::Sender<Note>,
}

/// What a peer showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) certificate: Result<Certificate, NotRecognised>,
    pub(crate) software: String,
    pub(crate) revocations: Edition,
    /// How far its clock is ahead of ours, in microseconds.
    pub(crate) clock_ahead_us: i64,
}

/// Why a peer's introduction does not make it a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotRecognised {
    /// It has no certificate: it may enrol.
    Stranger,
    /// It has one that expired at that time, by our clock: it may have it renewed.
    Expired(Timestamp),
    Refused(CertificateError),
}

impl Conversation {
    /// Carries out the conversation on a stream that we opened or they did, and tells the node how it ended.
    pub(crate) async fn run(self, stream: Stream, opener: bool) {
        let outcome = match timeout(ADMISSION_TIME_MAX, self.converse(stream, opener)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(MeshError::Silent { peer: self.peer }),
        };
        let note = match outcome {
            Ok(verdict) => Note::Answered { connection: self.connection, verdict },
            Err(error) => Note::NotAdmitted { connection: self.connection, error },
        };
        // A node that has stopped needs to know nothing.
        let _ = self.notes.send(note).await;
    }

    async fn converse(&self, mut stream: Stream, opener: bool) -> Result<Admission, MeshError> {
        let protocol = |error: FrameError| match error {
            FrameError::Broken(_) | FrameError::CutShort | FrameError::Closed => MeshError::Lost {
                peer: self.peer,
                reason: "it hung up during admission; it may have revoked this machine, or belong to another network".into(),
            },
            other => MeshError::Protocol { peer: self.peer, reason: other.to_string() },
        };
        if opener {
            write_frame(&mut stream, &self.ours).await.map_err(protocol)?;
        }
        let theirs: Introduction = read_frame(&mut stream, INTRODUCTION_BYTES_MAX).await.map_err(protocol)?;
        let verdict = self.judge(theirs).await?;
        if !opener {
            write_frame(&mut stream, &self.ours).await.map_err(protocol)?;
        }
        write_frame(&mut stream, &verdict).await.map_err(protocol)?;
        let about_us = read_frame(&mut stream, REVOCATIONS_BYTES_MAX + INTRODUCTION_BYTES_MAX).await.map_err(protocol);
        // All is said: how the stream ends changes nothing.
        let _ = stream.close().await;
        about_us
    }

    /// Checks what they showed and has the node decide.
    async fn judge(&self, theirs: Introduction) -> Result<Admission, MeshError> {
        let ours = now();
        let shown = Shown {
            clock_ahead_us: theirs.now.0.saturating_sub(ours.0),
            certificate: recognise(&theirs, &self.authority, self.network, &self.peer, ours),
            software: printable(&theirs.software),
            revocations: theirs.revocations,
        };
        let (reply, verdict) = oneshot::channel();
        let note = Note::Shown { connection: self.connection, shown, reply };
        self.notes.send(note).await.map_err(|_| MeshError::Stopped)?;
        verdict.await.map_err(|_| MeshError::Lost { peer: self.peer, reason: "it was closed during admission".into() })
    }
}

/// The time by this machine's clock, for certificates.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(jiff::Timestamp::now())
}

fn recognise(
    theirs: &Introduction,
    authority: &Authority,
    network: NetworkId,
    peer: &PeerId,
    now: Timestamp,
) -> Result<Certificate, NotRecognised> {
    let signed = theirs.certificate.as_ref().ok_or(NotRecognised::Stranger)?;
    Certificate::verify(signed, authority, network, peer, now).map_err(|error| match error {
        CertificateError::Expired(at) => NotRecognised::Expired(at),
        other => NotRecognised::Refused(other),
    })
}

/// A peer's words as they may be shown on a terminal.
pub(crate) fn printable(software: &str) -> String {
    software.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(lull_shared::limits::NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::identity::Keypair;
    use lull_shared::{
        identity::{Issuer, Role},
        limits::NAME_BYTES_MAX,
    };

    use super::*;

    #[test]
    fn an_introduction_is_that_of_a_stranger_of_one_whose_time_is_over_of_a_liar_or_of_a_member() {
        let authority = Keypair::generate_ed25519();
        let (peer, now) = (PeerId::random(), Timestamp(1_000_000));
        let issuer = Issuer { network: NetworkId([1; 16]), authority: authority.clone(), life: Duration::from_secs(1) };
        let recognised = |certificate, at| {
            let theirs = Introduction { certificate, software: String::new(), revocations: Edition::default(), now };
            recognise(&theirs, &Authority::of(&authority), NetworkId([1; 16]), &peer, at)
        };
        let signed = issuer.issue(&peer, Role::Agent, None, "desk", now);
        assert_eq!(recognised(None, now), Err(NotRecognised::Stranger));
        assert!(recognised(Some(signed.clone()), now).is_ok());
        let over = now + Duration::from_secs(1);
        assert_eq!(recognised(Some(signed), over), Err(NotRecognised::Expired(over)));
        let another = issuer.issue(&PeerId::random(), Role::Agent, None, "desk", now);
        assert_eq!(recognised(Some(another), now), Err(NotRecognised::Refused(CertificateError::Peer)));
    }

    #[test]
    fn a_peers_words_are_shown_without_what_a_terminal_would_obey_and_cut() {
        assert_eq!(printable("lull-agent 1.0"), "lull-agent 1.0");
        assert_eq!(printable("a\u{1b}[31m\n\tb\u{7f}ä"), "a[31mb");
        assert_eq!(printable(&"x".repeat(NAME_BYTES_MAX + 1)).len(), NAME_BYTES_MAX);
    }
}
