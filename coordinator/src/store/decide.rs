//! What is decided about the registry once it has been read: the same for every backend.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{codec, digest::Digest, id::TokenId, message::ModuleManifest, state::Intake, time::Timestamp};

use super::{
    bounds,
    record::{AgentRecord, Bound, Enrolment, EnrolmentOutcome, NewVersion, TokenRecord, TokenRole},
};

/// What becomes of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolling {
    /// Nothing is written.
    Answer(EnrolmentOutcome),
    /// A use of the token is spent and an agent made with this name, in this group.
    Make { name: String, group: Option<String> },
}

/// Decides about an enrolment. `token` is the one that the enrolment names and its fingerprint, `known` the agent
/// that has the peer already, `names` all names that are taken, each with how its agent stands.
///
/// Whoever was thrown out stays so whatever it brings: its key is refused, and so is its name under another key, unless an
/// administrator has made a token for just that name.
pub fn enrolment(
    enrolment: &Enrolment,
    token: Option<&(TokenRecord, [u8; 32])>,
    known: Option<AgentRecord>,
    names: &BTreeMap<String, Intake>,
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
    let wanted = bounds::name(&enrolment.name);
    if !token.bound.admits(&wanted) {
        return Enrolling::Answer(EnrolmentOutcome::NotBound);
    }
    if names.get(&wanted) == Some(&Intake::Revoked) && !token.bound.names(&wanted) {
        return Enrolling::Answer(EnrolmentOutcome::NameRevoked);
    }
    let name = free_name(&wanted, names);
    let replaces = names.get(&wanted) == Some(&Intake::Revoked);
    if !token.bound.admits(&name) && !replaces {
        return Enrolling::Answer(EnrolmentOutcome::NameTaken);
    }
    Enrolling::Make { name, group: token.bound.group.clone() }
}

/// What the audit says of a token.
pub fn token_words(role: TokenRole, name: &str, bound: &Bound) -> String {
    let names = if bound.names.is_empty() { String::new() } else { format!(", for machines called {}", bound.names.join(", ")) };
    let group = bound.group.as_ref().map(|group| format!(", of the group {group}")).unwrap_or_default();
    format!("{} for {name}{names}{group}", role.as_str())
}

/// Whether a token's time is over.
pub fn expired(token: &TokenRecord, now: Timestamp) -> bool {
    token.expires.is_some_and(|expires| expires <= now)
}

/// The name, or the first of `name-2`, `name-3`, ... that is free.
fn free_name(name: &str, taken: &BTreeMap<String, Intake>) -> String {
    if !taken.contains_key(name) {
        return name.to_owned();
    }
    let numbered = (2_u64..).map(|number| {
        let behind = format!("-{number}");
        format!("{}{behind}", bounds::text(name, bounds::NAME_UNITS_MAX - behind.len()))
    });
    numbered.into_iter().find(|name| !taken.contains_key(name)).expect("numbers do not run out")
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

/// The digest that stands for an owner's idempotency key.
pub fn key_digest(owner: TokenId, idempotency_key: &str) -> [u8; 32] {
    let text = format!("{owner}:{idempotency_key}");
    *Digest::of(text.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_first_free_number() {
        let taken = ["desk", "desk-2", "desk-4"].map(|name| (name.to_owned(), Intake::Open)).into();
        assert_eq!(free_name("desk", &taken), "desk-3");
        assert_eq!(free_name("lab", &taken), "lab");
        let long = "x".repeat(256);
        assert_eq!(free_name(&long, &BTreeMap::from([(long.clone(), Intake::Open)])), format!("{}-2", "x".repeat(254)));
    }

    #[test]
    fn keys_of_different_people_differ() {
        assert_ne!(key_digest(TokenId(1), "2:c"), key_digest(TokenId(12), "c"));
    }
}
