//! What can go wrong on the mesh, in words for people.

use libp2p::{Multiaddr, PeerId};
use lull_shared::{amount::sizes, digest::BlobRef, identity::CertificateError, time::Timestamp};

/// A node that could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot listen on {address}: {reason}\nhint: choose another address or port with --listen; port 0 is any free one")]
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
    #[error("`{address}` is not the address of a peer: {reason}\nhint: write it like /dns4/HOST/tcp/7410/p2p/PEER")]
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
    #[error("the certificate of {peer} expired at {at}, and its clock says so too: it must be restarted")]
    Expired { peer: PeerId, at: Timestamp },
    #[error(
        "this machine's clock is {} that of {peer}, whose certificate looks expired here; this one shows {now}",
        apart(*ahead_us)
    )]
    ClocksDiffer { peer: PeerId, ahead_us: i64, now: Timestamp },
    #[error("{peer} refused this machine: {reason}")]
    Refused { peer: PeerId, reason: String },
    #[error("{peer} does not know this machine, or its certificate has expired: it must enrol")]
    Stranger { peer: PeerId },
    #[error("{peer} was revoked")]
    Revoked { peer: PeerId },
    #[error(
        "the network has revoked this machine, says {peer}\nhint: only an administrator lets it in again, by `lull agent restore`"
    )]
    ThrownOut { peer: PeerId },
    #[error("{peer} is not a coordinator")]
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
    #[error("a blob of {}; at most {} are taken", sizes(*size_bytes, *max_bytes).0, sizes(*size_bytes, *max_bytes).1)]
    TooLarge { size_bytes: u64, max_bytes: u64 },
    #[error("nobody could provide {}: {}", blob.digest, tried_in_words(tried))]
    Unavailable { blob: BlobRef, tried: Vec<(PeerId, String)> },
    #[error("{path}: {reason}")]
    File { path: std::path::PathBuf, reason: String },
}

impl MeshError {
    /// What is wrong with a peer whose certificate has expired by our clock, while its own is so far ahead of ours.
    pub(super) fn expired(peer: PeerId, at: Timestamp, now: Timestamp, clock_ahead_us: i64) -> Self {
        let theirs = Timestamp(now.0.saturating_add(clock_ahead_us));
        match theirs < at {
            true => Self::ClocksDiffer { peer, ahead_us: clock_ahead_us.saturating_neg(), now },
            false => Self::Expired { peer, at },
        }
    }
}

/// How far a clock is from another: `31 days ahead of`.
pub fn apart(ahead_us: i64) -> String {
    let seconds = ahead_us.unsigned_abs() / 1_000_000;
    let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute"), (1, "second")];
    // Two of a unit and more are told in it, rounded.
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "second"));
    let count = (seconds + unit / 2) / unit;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural} {}", if ahead_us < 0 { "behind" } else { "ahead of" })
}

fn tried_in_words(tried: &[(PeerId, String)]) -> String {
    if tried.is_empty() {
        return "no peer is known to have it".to_owned();
    }
    tried.iter().map(|(peer, reason)| format!("{peer}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// An error with its causes, in one line.
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some have no words of their own, or only those that lead to their cause's.
        let text = text.trim_matches(|c: char| c == ':' || c.is_whitespace());
        if !words.contains(text) {
            words = if words.is_empty() { text.to_owned() } else { format!("{words}: {text}") };
        }
        next = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_told_from_a_certificate_that_is() {
        let (peer, day_us) = (PeerId::random(), 24 * 60 * 60 * 1_000_000_i64);
        let day = |days: i64| Timestamp(days * day_us);
        let ours_is_ahead = MeshError::expired(peer, day(130), day(131), -31 * day_us);
        assert_eq!(ours_is_ahead, MeshError::ClocksDiffer { peer, ahead_us: 31 * day_us, now: day(131) });
        let words = ours_is_ahead.to_string();
        assert!(words.contains("this machine's clock is 31 days ahead of that of"), "{words}");
        assert_eq!(MeshError::expired(peer, day(130), day(131), 5), MeshError::Expired { peer, at: day(130) });
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_without_what_says_nothing() {
        #[derive(Debug, thiserror::Error)]
        #[error("{words}")]
        struct Layer {
            words: &'static str,
            source: Option<Box<Layer>>,
        }
        let told = |all: &[&'static str]| {
            let layered = all.iter().rev().fold(None, |source, words| Some(Box::new(Layer { words, source })));
            in_words(&*layered.expect("one at least"))
        };
        assert_eq!(told(&["cannot dial", "refused"]), "cannot dial: refused");
        assert_eq!(told(&["", ": ", "refused (os error 111)"]), "refused (os error 111)");
        assert_eq!(told(&["cannot dial:", "", "refused"]), "cannot dial: refused");
        assert_eq!(told(&["cannot dial: refused", "refused"]), "cannot dial: refused");
    }

    #[test]
    fn clocks_are_compared_in_words_of_people() {
        let second = 1_000_000;
        assert_eq!(apart(-90 * second), "90 seconds behind");
        assert_eq!(apart(second), "1 second ahead of");
        assert_eq!(apart(5 * 3_600 * second), "5 hours ahead of");
        assert_eq!(apart(30 * 86_400 * second + 86_000 * second), "31 days ahead of");
    }

    #[test]
    fn two_of_a_unit_are_told_in_it_and_less_in_the_smaller_one() {
        let told = |seconds: i64| apart(seconds * 1_000_000);
        assert_eq!(told(119), "119 seconds ahead of");
        assert_eq!(told(120), "2 minutes ahead of");
        assert_eq!(told(-7_199), "120 minutes behind");
        assert_eq!(told(-7_200), "2 hours behind");
        assert_eq!(told(2 * 86_400 - 1), "48 hours ahead of");
        assert_eq!(told(2 * 86_400), "2 days ahead of");
        assert_eq!((told(0), told(-1)), ("0 seconds ahead of".into(), "1 second behind".into()));
    }

    #[test]
    fn a_certificate_that_its_own_clock_calls_expired_is_expired() {
        let (peer, at) = (PeerId::random(), Timestamp(1_000));
        let told = |clock_ahead_us| MeshError::expired(peer, at, Timestamp(2_000), clock_ahead_us);
        assert_eq!(told(-1_000), MeshError::Expired { peer, at }, "it shows just that time");
        assert!(matches!(told(-1_001), MeshError::ClocksDiffer { ahead_us: 1_001, .. }));
    }

    #[test]
    fn an_error_is_told_with_each_of_its_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Cause(&'static str, #[source] Option<Box<Cause>>);
        let cause = |words, source: Option<Cause>| Cause(words, source.map(Box::new));
        assert_eq!(in_words(&cause("it broke", None)), "it broke");
        let deep = cause("it broke", Some(cause("the line", Some(cause("a digger", None)))));
        assert_eq!(in_words(&deep), "it broke: the line: a digger");
        assert_eq!(in_words(&cause("it broke: the line", Some(cause("the line", None)))), "it broke: the line");
        assert_eq!(tried_in_words(&[]), "no peer is known to have it");
        let peer = PeerId::random();
        assert_eq!(tried_in_words(&[(peer, "busy".into()), (peer, "lost".into())]), format!("{peer}: busy; {peer}: lost"));
    }
}
