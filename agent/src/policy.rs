//! The policy on this machine's disk: what the administrator allows, as it came signed, and what the owner narrows.
//!
//! Both hold after a restart, also when no coordinator can be reached.

use std::{fs, io, path::Path};

use lull_engine::files;
use lull_session::Standing;
use lull_shared::{
    codec,
    id::AgentId,
    identity::{Authority, Signed, verify},
    policy::{Changes, Sheet},
};

/// The sheet as the coordinator signed it.
pub(crate) const SHEET: &str = "policy.signed";
/// What the owner narrows, for people to read.
pub(crate) const OWNER: &str = "policy-owner.toml";

/// Writes what the administrator allows into the data folder.
pub fn keep(data: &Path, signed: &Signed) -> io::Result<()> {
    files::replace_private(&data.join(SHEET), &codec::encode(signed))
}

/// Writes what the owner narrows into the data folder.
pub fn remember(data: &Path, owner: &Changes) -> io::Result<()> {
    if owner.is_empty() {
        return files::remove_if_there(&data.join(OWNER));
    }
    files::replace_private(&data.join(OWNER), owner.to_toml().as_bytes())
}

/// What held last. What cannot be read or believed counts for nothing, except that an owner's word that cannot be read stops
/// all work: the owner comes first.
pub fn recall(data: &Path, authority: &Authority, agent: Option<AgentId>) -> Standing {
    let mut standing = Standing { owner: owner(data), ..Standing::default() };
    match fs::read(data.join(SHEET)) {
        Ok(bytes) => match codec::decode::<Signed>(&bytes).map(|signed| verify::<Sheet>(authority, &signed)) {
            Ok(Ok(sheet)) if agent.is_none_or(|agent| agent == sheet.agent) => {
                (standing.version, standing.admin) = (sheet.version, sheet.policy);
            }
            _ => tracing::warn!("the policy in the data folder is damaged; the coordinator sends it again"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "the policy in the data folder cannot be read; the coordinator sends it again"),
    }
    standing
}

fn owner(data: &Path) -> Changes {
    let path = data.join(OWNER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Changes::default(),
        Err(error) => error.to_string(),
    };
    Changes::from_toml(&text).unwrap_or_else(|error| {
        let path = path.display();
        tracing::warn!(%path, %error, "what the owner narrows cannot be read; nothing runs until `lull-agent policy set`");
        Changes::no_work()
    })
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use lull_shared::{identity::sign, policy::Policy};

    use super::*;

    #[test]
    fn a_policy_survives_a_restart_and_is_believed_only_as_it_was_signed() {
        let data = tempfile::tempdir().expect("a folder");
        let (ours, theirs) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let policy = Policy { on_battery: true, ..Policy::default() };
        let signed = sign(&ours, &Sheet { agent: AgentId(3), version: 7, policy: policy.clone() });
        keep(data.path(), &signed).expect("written");
        let owner = Changes::from_pairs(&["idle=20m"]).expect("changes");
        remember(data.path(), &owner).expect("written");
        let recalled = recall(data.path(), &Authority::of(&ours), Some(AgentId(3)));
        assert_eq!(recalled, Standing { version: 7, admin: policy, owner, ..Standing::default() });
        assert_eq!(recall(data.path(), &Authority::of(&theirs), Some(AgentId(3))).version, 0);
        assert_eq!(recall(data.path(), &Authority::of(&ours), Some(AgentId(4))).version, 0, "another agent's");
    }

    #[test]
    fn an_owners_word_that_cannot_be_read_stops_all_work() {
        let data = tempfile::tempdir().expect("a folder");
        fs::write(data.path().join(OWNER), "idle = soon").expect("damage");
        let standing = recall(data.path(), &Authority::of(&Keypair::generate_ed25519()), None);
        assert_eq!(standing.owner, Changes::no_work());
        remember(data.path(), &Changes::default()).expect("removed");
        assert!(owner(data.path()).is_empty());
    }
}
