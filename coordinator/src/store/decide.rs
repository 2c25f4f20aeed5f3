//! What is decided about the registry once it has been read: the same for every backend.

use std::collections::BTreeSet;

use lull_shared::{codec, digest::Digest, message::ModuleManifest, state::Intake, time::Timestamp};

use super::{
    bounds,
    record::{AgentRecord, Enrolment, EnrolmentOutcome, NewVersion, TokenRecord, TokenRole},
};

/// What becomes of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolling {
    /// Nothing is written.
    Answer(EnrolmentOutcome),
    /// A use of the token is spent and an agent made with this name.
    Make { name: String },
}

/// Decides about an enrolment. `token` is the one that the enrolment names and its fingerprint, `known` the agent
/// that has the peer already, `names` all names that are taken.
pub fn enrolment(
    enrolment: &Enrolment,
    token: Option<&(TokenRecord, [u8; 32])>,
    known: Option<AgentRecord>,
    names: &BTreeSet<String>,
) -> Enrolling {
    let Some((token, fingerprint)) = token else {
        return Enrolling::Answer(EnrolmentOutcome::UnknownToken);
    };
    if *fingerprint != enrolment.fingerprint || token.role != TokenRole::Agent || token.revoked.is_some() {
        return Enrolling::Answer(EnrolmentOutcome::UnknownToken);
    }
    // A machine whose answer got lost asks again, perhaps after the token's last use or hour.
    if let Some(agent) = known {
        return Enrolling::Answer(match agent.intake {
            Intake::Revoked => EnrolmentOutcome::Revoked,
            Intake::Open | Intake::Cordoned | Intake::Draining => {
                EnrolmentOutcome::Enrolled { agent: Box::new(agent), new: false }
            }
        });
    }
    if expired(token, enrolment.at) {
        return Enrolling::Answer(EnrolmentOutcome::Expired);
    }
    if token.uses_max.is_some_and(|uses_max| token.uses >= uses_max) {
        return Enrolling::Answer(EnrolmentOutcome::UsedUp);
    }
    Enrolling::Make { name: free_name(&bounds::name(&enrolment.name), names) }
}

/// Whether a token's time is over.
pub fn expired(token: &TokenRecord, now: Timestamp) -> bool {
    token.expires.is_some_and(|expires| expires <= now)
}

/// The name, or the first of `name-2`, `name-3`, ... that is free.
fn free_name(name: &str, taken: &BTreeSet<String>) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    let numbered = (2_u64..).map(|number| {
        let behind = format!("-{number}");
        format!("{}{behind}", bounds::text(name, bounds::NAME_UNITS_MAX - behind.len()))
    });
    numbered.into_iter().find(|name| !taken.contains(name)).expect("numbers do not run out")
}

/// The blobs that a version needs as long as it exists.
pub fn version_blobs(version: &NewVersion, manifest: &[u8]) -> BTreeSet<Digest> {
    let mut blobs = BTreeSet::from([version.module.digest]);
    let Ok(manifest) = codec::decode::<ModuleManifest>(manifest) else { return blobs };
    blobs.extend(manifest.artifacts.iter().map(|artifact| artifact.blob.digest));
    if let Some(build) = manifest.migratable {
        blobs.insert(build.module.digest);
        blobs.extend(build.artifacts.iter().map(|artifact| artifact.blob.digest));
    }
    blobs
}

/// The digest that stands for a submitter's idempotency key.
pub fn key_digest(submitter: &str, idempotency_key: &str) -> [u8; 32] {
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    let text = format!("{}:{submitter}{idempotency_key}", submitter.len());
    *Digest::of(text.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_first_free_number() {
        let taken = ["desk", "desk-2", "desk-4"].map(str::to_owned).into();
        assert_eq!(free_name("desk", &taken), "desk-3");
        assert_eq!(free_name("lab", &taken), "lab");
        let long = "x".repeat(256);
        assert_eq!(free_name(&long, &BTreeSet::from([long.clone()])), format!("{}-2", "x".repeat(254)));
    }

    #[test]
    fn keys_of_different_people_differ() {
        assert_ne!(key_digest("a", "bc"), key_digest("ab", "c"));
    }
}
