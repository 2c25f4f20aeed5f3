//! Who this machine is: its identity key, and the network it has joined.
//!
//! ```text
//! DATA/identity.key        the key pair, made at first start, for this user only
//! DATA/membership.json     network, authority, certificate, where coordinators are, the labels given at joining
//! ```

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use libp2p::identity::Keypair;
use lull_engine::{cache, files, folder};
use lull_shared::{
    codec,
    id::AgentId,
    identity::{Authority, Certificate, CertificateError, NetworkId, Signed},
    resources::Labels,
};
use serde::{Deserialize, Serialize};

use crate::{policy, tally};

/// A network that this machine belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub network: NetworkId,
    pub authority: Authority,
    pub agent: AgentId,
    pub name: String,
    pub certificate: Signed,
    /// Multiaddresses of coordinators, each ending in `/p2p/PEER`.
    pub coordinators: Vec<String>,
    /// Given at joining; those of the configuration come on top.
    pub labels: Labels,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    #[error(
        "this machine has not joined a network\nhint: `lull-agent join --token-file FILE` does, with a token that `lull token create` printed"
    )]
    NotJoined,
    #[error("{} cannot be read: {source}\nhint: run this as the user that the agent runs as", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written: {source}\nhint: make room there, or run this as the user that the agent runs as", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({reason})\nhint: `lull-agent leave` removes it; then join again with a new token")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} is missing: the key by which the network knows this machine\nhint: restore it from a backup, or `lull-agent leave` \
         and join again with a new token, as another machine"
    )]
    KeyLost { path: PathBuf },
    #[error(
        "{path}, the key by which the network knows this machine, is damaged ({reason})\nhint: restore it from a backup, or \
         `lull-agent leave` and join again with a new token, as another machine"
    )]
    DamagedKey { path: PathBuf, reason: String },
    #[error(
        "{path} is the key of another machine than the one that joined the network {network}\nhint: restore the folder's own from a \
         backup, or `lull-agent leave` and join again with a new token, as another machine"
    )]
    OtherKey { path: PathBuf, network: NetworkId },
    #[error(
        "{path} is the data folder of a coordinator ({mark} lies there), and an agent keeps one of its own\nhint: name another \
         folder with --data"
    )]
    Coordinators { path: PathBuf, mark: &'static str },
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    network: String,
    authority: String,
    agent: AgentId,
    name: String,
    certificate: String,
    coordinators: Vec<String>,
    labels: BTreeMap<String, String>,
}

const FORMAT: u32 = 1;

impl Membership {
    /// Reads it.
    pub fn load(data: &Path) -> Result<Self, MembershipError> {
        let path = path(data);
        let text = match files::read_there(&path) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(MembershipError::NotJoined),
            Err(source) => return Err(MembershipError::Read { path, source }),
        };
        Self::parse(&text).map_err(|reason| MembershipError::Damaged { path, reason })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if stored.format != FORMAT {
            return Err(format!("it has format {}, and this program reads {FORMAT}", stored.format));
        }
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).map_err(|error| error.to_string());
        let network = bytes(&stored.network)?.try_into().map_err(|_| "the network's id has another length")?;
        Ok(Self {
            network: NetworkId(network),
            authority: Authority::try_from(bytes(&stored.authority)?).map_err(|error| error.to_string())?,
            agent: stored.agent,
            name: stored.name,
            certificate: codec::decode(&bytes(&stored.certificate)?).map_err(|error| error.to_string())?,
            coordinators: stored.coordinators,
            labels: stored.labels,
        })
    }

    /// Writes it.
    pub fn save(&self, data: &Path) -> Result<(), MembershipError> {
        let stored = Stored {
            format: FORMAT,
            network: self.network.to_string(),
            authority: HEXLOWER.encode(&Vec::<u8>::from(self.authority.clone())),
            agent: self.agent,
            name: self.name.clone(),
            certificate: HEXLOWER.encode(&codec::encode(&self.certificate)),
            coordinators: self.coordinators.clone(),
            labels: self.labels.clone(),
        };
        let text = serde_json::to_vec_pretty(&stored).expect("text and numbers can be written as JSON");
        let path = path(data);
        files::replace_private(&path, &text).map_err(|source| MembershipError::Write { path, source })
    }
}

/// The machine's identity, made if there is none and the machine has joined nothing yet: to a member its key is who it is.
pub fn identity(data: &Path) -> Result<Keypair, MembershipError> {
    let path = data.join(IDENTITY);
    match files::read_secret(&path) {
        Ok(Some(bytes)) => Keypair::from_protobuf_encoding(&bytes)
            .map_err(|error| MembershipError::DamagedKey { path, reason: error.to_string() }),
        Ok(None) if self::path(data).symlink_metadata().is_ok() => Err(MembershipError::KeyLost { path }),
        Ok(None) => {
            let identity = Keypair::generate_ed25519();
            let bytes = identity.to_protobuf_encoding().expect("a new key can be written");
            let written = files::make_private_folder(data).and_then(|()| files::replace_private(&path, &bytes));
            written.map_err(|source| MembershipError::Write { path, source })?;
            Ok(identity)
        }
        Err(source) => Err(MembershipError::Read { path, source }),
    }
}

/// Whether a folder may be an agent's: a coordinator's key is not for it, nor its own for a coordinator.
pub fn check_folder(data: &Path) -> Result<(), MembershipError> {
    match folder::mark_of_coordinator(data) {
        Some(mark) => Err(MembershipError::Coordinators { path: data.to_owned(), mark }),
        None => Ok(()),
    }
}

/// Whether this key is the one that a membership was given to.
pub fn check_key(data: &Path, identity: &Keypair, membership: &Membership) -> Result<(), MembershipError> {
    let peer = identity.public().to_peer_id();
    match Certificate::verify_expired(&membership.certificate, &membership.authority, membership.network, &peer) {
        Err(CertificateError::Peer) => Err(MembershipError::OtherKey { path: data.join(IDENTITY), network: membership.network }),
        // What else is wrong with it is told where it is used.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Notes that the network threw this machine out, or let it in again: until then its identity is kept, whatever it leaves.
pub fn note_revoked(data: &Path, revoked: bool) -> io::Result<()> {
    let mark = data.join(REVOKED);
    match revoked {
        true => files::replace_private(&mark, b"an administrator lets this machine in again by `lull agent restore`\n"),
        false => files::remove_if_there(&mark),
    }
}

/// Whether the network threw this machine out.
pub fn is_revoked(data: &Path) -> bool {
    data.join(REVOKED).exists()
}

/// Removes identity and membership, and whatever was kept for the network: of what the agent has ever made in its folder
/// nothing is left. The identity stays when the network threw it out: a revocation holds until an administrator lifts it.
/// What its owner put there is his, like `agent.toml`. A cache that he keeps elsewhere may be in a folder with other things:
/// its blobs go, and nothing else.
///
/// `false`: there is no membership. Then the folder is not known to be an agent's, and nothing in it is touched.
pub fn forget(data: &Path, cache_elsewhere: Option<&Path>) -> io::Result<bool> {
    if !path(data).try_exists()? {
        return Ok(false);
    }
    for folder in ["outbox", "cache", "artifacts", "scratch", "snapshots"] {
        files::remove_tree(&data.join(folder))?;
    }
    if let Some(cache) = cache_elsewhere {
        cache::forget(cache)?;
    }
    files::remove_unfinished(data)?;
    // The membership last: whoever is interrupted can leave again.
    // Where a coordinator lives too, it is the coordinator's.
    let is_own = !is_revoked(data) && folder::mark_of_coordinator(data).is_none();
    let identity = is_own.then_some(IDENTITY);
    let others = [policy::SHEET, policy::OWNER, tally::FILE, "engine.json", "owner.json", "agent.sock", LOCK];
    for file in others.into_iter().chain(identity).chain([MEMBERSHIP]) {
        files::remove_if_there(&data.join(file))?;
    }
    Ok(true)
}

/// The file that keeps two agents from using one data folder.
pub(crate) const LOCK: &str = "agent.lock";
const IDENTITY: &str = "identity.key";
const MEMBERSHIP: &str = "membership.json";
/// There while the network does not want this machine.
const REVOKED: &str = "revoked";

fn path(data: &Path) -> PathBuf {
    data.join(MEMBERSHIP)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lull_shared::{
        identity::{Issuer, Role},
        time::Timestamp,
    };

    use super::*;

    fn membership(identity: &Keypair) -> Membership {
        let authority = Keypair::generate_ed25519();
        let issuer = Issuer { network: NetworkId([3; 16]), authority, life: std::time::Duration::from_secs(60) };
        let peer = identity.public().to_peer_id();
        Membership {
            network: issuer.network,
            authority: Authority::of(&issuer.authority),
            agent: AgentId(7),
            name: "desk-7".into(),
            certificate: issuer.issue(&peer, Role::Agent, Some(AgentId(7)), "desk-7", Timestamp::default()),
            coordinators: vec!["/ip4/127.0.0.1/tcp/7070".into()],
            labels: [("site".to_owned(), "berlin".to_owned())].into(),
        }
    }

    #[test]
    fn whoever_was_thrown_out_keeps_its_identity_until_it_is_let_in_again() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path();
        let key = identity(data).expect("an identity");
        let before = key.public();
        membership(&key).save(data).expect("saved");
        note_revoked(data, true).expect("it can be noted");
        forget(data, None).expect("it can leave");
        assert_eq!(identity(data).expect("an identity").public(), before);
        membership(&key).save(data).expect("saved");
        note_revoked(data, false).expect("it can be noted");
        forget(data, None).expect("it can leave");
        assert_ne!(identity(data).expect("an identity").public(), before);
    }

    #[test]
    fn identity_and_membership_survive_and_can_be_forgotten() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path().join("made/at/first/start");
        let key = identity(&data).expect("a new identity");
        assert_eq!(identity(&data).expect("the same").public(), key.public());
        assert!(matches!(Membership::load(&data), Err(MembershipError::NotJoined)));
        let membership = membership(&key);
        membership.save(&data).expect("saved");
        assert_eq!(Membership::load(&data).expect("loaded"), membership);
        forget(&data, None).expect("forgotten");
        assert!(matches!(Membership::load(&data), Err(MembershipError::NotJoined)));
        assert_ne!(identity(&data).expect("a new one").public(), key.public());
    }

    #[test]
    fn a_members_key_is_not_replaced() {
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path().join("data");
        let key = identity(&data).expect("a new identity");
        let member = membership(&key);
        member.save(&data).expect("saved");
        check_key(&data, &key, &member).expect("it is its own");
        let path = data.join(IDENTITY);
        let kept = fs::read(&path).expect("there");
        fs::remove_file(&path).expect("there");
        let lost = identity(&data).expect_err("it is lost").to_string();
        assert!(lost.contains("identity.key is missing") && lost.contains("\nhint: restore it"), "{lost}");
        assert!(!path.exists(), "nothing took its place");
        fs::write(&path, b"").expect("written");
        assert!(matches!(identity(&data), Err(MembershipError::DamagedKey { .. })));
        fs::write(&path, Keypair::generate_ed25519().to_protobuf_encoding().expect("a key")).expect("written");
        let other = identity(&data).expect("a key");
        let words = check_key(&data, &other, &member).expect_err("another machine's").to_string();
        assert!(words.contains("another machine") && words.contains(&member.network.to_string()), "{words}");
        fs::write(&path, kept).expect("written");
        assert_eq!(identity(&data).expect("restored").public(), key.public());
        forget(&data, None).expect("forgotten");
        identity(&data).expect("a machine that has left gets a new one");
    }

    #[test]
    fn what_an_agent_made_is_gone_after_it_left_and_what_its_owner_put_there_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, cache) = (folder.path().join("data"), folder.path().join("cache"));
        membership(&identity(&data).expect("a new identity")).save(&data).expect("saved");
        for file in ["policy.signed", "policy-owner.toml", "owner.json", "engine.json", "agent.lock", "agent.sock", ".lull-x1"] {
            fs::write(data.join(file), b"x").expect("a file");
        }
        for inner in ["outbox", "cache", "artifacts", "scratch/slot-0/d/d", "snapshots"] {
            fs::create_dir_all(data.join(inner)).expect("a folder");
            fs::write(data.join(inner).join("file"), b"x").expect("a file");
        }
        fs::create_dir(&cache).expect("a folder");
        let blob = "ab".repeat(32);
        for file in [&*blob, &format!("{blob}.part"), "photograph.jpg"] {
            fs::write(cache.join(file), b"x").expect("a file");
        }
        fs::write(data.join("agent.toml"), b"slots = 1").expect("a file");
        forget(&data, Some(&cache)).expect("forgotten");
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).expect("ours").map(|entry| entry.expect("an entry").file_name());
            entries.map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!((names(&data), names(&cache)), (vec!["agent.toml".to_owned()], vec!["photograph.jpg".to_owned()]));
        forget(&data, Some(&cache)).expect("there is nothing more to do");
    }

    #[test]
    fn a_folder_that_is_no_members_is_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        for inner in ["outbox", "cache", "artifacts", "scratch", "snapshots"] {
            fs::create_dir(data.join(inner)).expect("a folder");
            fs::write(data.join(inner).join("thesis.txt"), b"x").expect("a file");
        }
        // A coordinator's folder has one too.
        fs::write(data.join(IDENTITY), b"a key").expect("a file");
        assert!(!forget(data, None).expect("readable"), "nobody has joined here");
        assert!(data.join(IDENTITY).exists() && data.join("cache/thesis.txt").exists());
    }

    #[test]
    fn a_coordinators_folder_is_named_and_its_key_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        check_folder(data).expect("an empty one is anybody's");
        check_folder(&data.join("none")).expect("one that is not there too");
        membership(&identity(data).expect("a key")).save(data).expect("saved");
        check_folder(data).expect("an agent's own");
        for mark in ["authority.key", "network.id", "admin.token", "coordinator.lock", "lull.db"] {
            fs::write(data.join(mark), b"x").expect("a file");
            let words = check_folder(data).expect_err("a coordinator's").to_string();
            assert!(words.contains(mark) && words.contains("of a coordinator") && words.contains("\nhint: "), "{words}");
            forget(data, None).expect("it can leave");
            assert!(data.join(IDENTITY).exists(), "the coordinator's key");
            fs::remove_file(data.join(mark)).expect("ours");
            membership(&identity(data).expect("a key")).save(data).expect("saved");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_no_machine_that_has_not_joined() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let key = identity(data).expect("a key");
        std::os::unix::fs::symlink(data.join("away/membership.json"), data.join(MEMBERSHIP)).expect("a link");
        assert!(matches!(Membership::load(data), Err(MembershipError::Read { .. })));
        assert_eq!(identity(data).expect("the key").public(), key.public());
        fs::remove_file(data.join(IDENTITY)).expect("there");
        assert!(matches!(identity(data), Err(MembershipError::KeyLost { .. })));
        std::os::unix::fs::symlink(data.join("away/identity.key"), data.join(IDENTITY)).expect("a link");
        assert!(matches!(identity(data), Err(MembershipError::Read { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_identity() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().expect("a folder");
        let data = data.path().join("data");
        identity(&data).expect("a new identity");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&data.join("identity.key"))), (0o700, 0o600));
    }

    #[test]
    fn damage_is_told_with_the_way_out() {
        let data = tempfile::tempdir().expect("a folder");
        fs::write(data.path().join("membership.json"), b"{\"format\":1}").expect("damage");
        let error = Membership::load(data.path()).expect_err("damaged").to_string();
        assert!(error.contains("lull-agent leave"), "{error}");
    }
}
