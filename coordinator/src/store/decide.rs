//! What is decided about the registry once it has been read: the same for every backend.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    codec,
    digest::Digest,
    id::{AgentId, TokenId},
    message::ModuleManifest,
    state::Intake,
    time::Timestamp,
};

use super::{
    bounds,
    record::{AgentRecord, Bound, Enrolment, EnrolmentOutcome, NewVersion, RolloutRecord, Standing, TokenRecord, TokenRole},
};
use crate::version::{STABLE, Which};

/// What a version has to have: its number, its label; and the label of the one that comes before all others.
pub(super) fn which(which: &Which) -> (Option<u32>, Option<&str>, Option<&'static str>) {
    match which {
        Which::Usual => (None, None, Some(STABLE)),
        Which::Newest => (None, None, None),
        Which::Number(number) => (Some(*number), None, None),
        Which::Label(label) => (None, Some(label), None),
    }
}

/// What becomes of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enrolling {
    /// Nothing is written.
    Answer(EnrolmentOutcome),
    /// A use of the token is spent and an agent made with this name, in this group.
    Make { name: String, group: Option<String>, replaced: Option<Replaced> },
}

/// A machine that was thrown out, whose place another one takes, and with it its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaced {
    pub agent: AgentId,
    /// What it is called from then on.
    pub name: String,
}

impl Replaced {
    /// What the audit says of it.
    pub(super) fn words(&self, taken: &str) -> String {
        format!("another machine is called {taken} in its place, and it {}", self.name)
    }
}

/// Names that are taken, in small letters, by whom, and how he stands.
pub(super) type Names = BTreeMap<String, (AgentId, Standing)>;

/// Numbers that are tried behind a name; then digits of the machine's key, so that the thousandth machine of one name costs no
/// more than the second.
const NUMBERS: std::ops::RangeInclusive<u8> = 2..=9;
const KEY_DIGITS: [usize; 3] = [6, 12, 24];

/// The names that an enrolment may come to, the best first. `word`: what is behind each.
fn names(enrolment: &Enrolment, word: &str) -> impl Iterator<Item = String> {
    let key = Digest::of(&enrolment.peer).to_hex();
    let keys = KEY_DIGITS.map(|digits| format!("-{}", &key[..digits]));
    let behind = [String::new()].into_iter().chain(NUMBERS.map(|number| format!("-{number}"))).chain(keys);
    let with = |behind: String| {
        let behind = format!("{word}{behind}");
        format!("{}{behind}", bounds::text(&enrolment.name, bounds::NAME_UNITS_MAX - behind.len()))
    };
    behind.map(with).collect::<Vec<_>>().into_iter()
}

/// What is behind the name of a machine whose place another one took.
const REPLACED: &str = "-replaced";

/// All names that have to be looked up for an enrolment, in small letters.
pub(super) fn names_to_look_up(enrolment: &Enrolment) -> Vec<String> {
    names(enrolment, "").chain(names(enrolment, REPLACED)).map(|name| name.to_ascii_lowercase()).collect()
}

/// Decides about an enrolment. `token` is the one that the enrolment names and its fingerprint, `known` the agent
/// that has the peer already, `taken` those of [`names_to_look_up`] that are.
///
/// Whoever was thrown out stays so whatever it brings: its key is refused, and so is its name under another key, unless an
/// administrator has made a token for just that name. Names are the same whatever the case of their letters.
pub(super) fn enrolment(
    enrolment: &Enrolment,
    token: Option<&(TokenRecord, [u8; 32])>,
    known: Option<AgentRecord>,
    taken: &Names,
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
                EnrolmentOutcome::Enrolled { agent: Box::new(agent), new: false, replaced: None }
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
    let is_free = |name: &String| !taken.contains_key(&name.to_ascii_lowercase());
    let group = token.bound.group.clone();
    if let Some((agent, standing @ (Standing::Revoked | Standing::Gone))) = taken.get(&wanted.to_ascii_lowercase()) {
        if *standing == Standing::Revoked && !token.bound.names(&wanted) {
            return Enrolling::Answer(EnrolmentOutcome::NameRevoked);
        }
        let replaced = names(enrolment, REPLACED).find(is_free).map(|name| Replaced { agent: *agent, name });
        return match replaced {
            Some(_) => Enrolling::Make { name: wanted, group, replaced },
            None => Enrolling::Answer(EnrolmentOutcome::NameTaken),
        };
    }
    match names(enrolment, "").find(is_free) {
        Some(name) if token.bound.admits(&name) => Enrolling::Make { name, group, replaced: None },
        Some(_) | None => Enrolling::Answer(EnrolmentOutcome::NameTaken),
    }
}

/// What the audit says of a token.
pub(super) fn token_words(role: TokenRole, name: &str, bound: &Bound) -> String {
    let names = if bound.names.is_empty() { String::new() } else { format!(", for machines called {}", bound.names.join(", ")) };
    let group = bound.group.as_ref().map(|group| format!(", of the group {group}")).unwrap_or_default();
    format!("{} for {name}{names}{group}", role.as_str())
}

/// Whether a token's time is over.
pub(super) fn expired(token: &TokenRecord, now: Timestamp) -> bool {
    token.expires.is_some_and(|expires| expires <= now)
}

/// The blobs that a version needs as long as it exists.
pub(super) fn version_blobs(version: &NewVersion, manifest: &[u8]) -> BTreeSet<Digest> {
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
pub(super) fn key_digest(owner: TokenId, idempotency_key: &str) -> [u8; 32] {
    let text = format!("{owner}:{idempotency_key}");
    *Digest::of(text.as_bytes()).as_bytes()
}

/// What the audit calls a rollout.
pub(super) fn rollout_subject(number: u64) -> String {
    format!("release {number}")
}

/// What the audit says of one that begins: what was done, to what, and how.
pub(super) fn rollout_begins(new: &RolloutRecord) -> (&'static str, String, String) {
    let conditions: Vec<String> = new.plan.conditions.iter().map(ToString::to_string).collect();
    let whom = if conditions.is_empty() { String::new() } else { format!(", for {}", conditions.join(" and ")) };
    let detail = format!("{} {} in waves of {}{whom}", new.platform.as_str(), new.version, new.plan.waves);
    ("rollout.begin", rollout_subject(new.number), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number_or_digits_of_its_key_whatever_the_case() {
        let asks = |name: &str| Enrolment {
            token: 1,
            fingerprint: [1; 32],
            peer: b"peer".to_vec(),
            name: name.into(),
            at: Timestamp::default(),
        };
        let token = TokenRecord {
            token: 1,
            role: TokenRole::Agent,
            name: "t1".into(),
            bound: Bound::default(),
            uses: 0,
            uses_max: None,
            created: Timestamp::default(),
            created_by: "root".into(),
            expires: None,
            revoked: None,
        };
        let given = |name: &str, taken: &[String]| {
            let enrolled = asks(name);
            let looked_up = names_to_look_up(&enrolled);
            let taken: Names = taken.iter().map(|name| (name.to_ascii_lowercase(), (AgentId(9), Standing::Member))).collect();
            let found = taken.into_iter().filter(|(name, _)| looked_up.contains(name)).collect();
            match enrolment(&enrolled, Some(&(token.clone(), [1; 32])), None, &found) {
                Enrolling::Make { name, .. } => name,
                Enrolling::Answer(answer) => panic!("{answer:?}"),
            }
        };
        let taken = ["desk", "desk-2", "desk-4"].map(str::to_owned);
        assert_eq!(given("desk", &taken), "desk-3");
        assert_eq!(given("DESK", &taken), "DESK-3", "machines are told apart whatever the case");
        assert_eq!(given("lab", &taken), "lab");
        let long = "x".repeat(bounds::NAME_UNITS_MAX);
        assert_eq!(given(&long, std::slice::from_ref(&long)), format!("{}-2", "x".repeat(254)));
        let mut many: Vec<String> = (2..5_000).map(|number| format!("desk-{number}")).chain(["desk".to_owned()]).collect();
        let first = given("desk", &many);
        assert_eq!(first.len(), "desk-".len() + KEY_DIGITS[0], "{first}");
        many.push(first.clone());
        assert!(given("desk", &many).starts_with(&first));
        assert!(names_to_look_up(&asks("desk")).len() < 32, "however many there are");
    }

    #[test]
    fn keys_of_different_people_differ() {
        assert_ne!(key_digest(TokenId(1), "2:c"), key_digest(TokenId(12), "c"));
    }
}
