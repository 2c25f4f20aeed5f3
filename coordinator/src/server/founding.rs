//! Which network a coordinator is of: read from its data folder and its store, which must agree.
//!
//! A network begins once, in an empty data folder with a store that is nobody's. From then on whatever is missing is a
//! loss that its administrator has to know of: a new key in the place of the old one would lock every machine out.
//! `--init` is how he says that a new one is meant.

use std::path::Path;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use libp2p::identity::Keypair;
use lull_engine::folder;
use lull_shared::identity::{Authority, NetworkId};

use crate::{
    keys::{self, ADMIN_TOKEN_FILE, AUTHORITY_FILE, IDENTITY_FILE, KeyError, NETWORK_FILE},
    store::{Store, record::NetworkRecord},
};

/// A coordinator's keys, and its network.
pub(super) struct Keys {
    /// Its own.
    pub identity: Keypair,
    /// The network's.
    pub authority: Keypair,
    pub network: NetworkId,
}

/// What a data folder holds.
struct Folder {
    identity: Option<Keypair>,
    authority: Option<Keypair>,
    network: Option<NetworkId>,
    /// A coordinator has led from here.
    has_led: bool,
}

impl Folder {
    fn read(data: &Path) -> Result<Self, keys::KeyError> {
        Ok(Self {
            identity: keys::read_key_pair(&data.join(IDENTITY_FILE))?,
            authority: keys::read_key_pair(&data.join(AUTHORITY_FILE))?,
            network: keys::network_id(&data.join(NETWORK_FILE))?,
            has_led: data.join(ADMIN_TOKEN_FILE).exists(),
        })
    }

    fn is_whole(&self) -> bool {
        self.identity.is_some() && self.authority.is_some() && self.network.is_some()
    }
}

/// The keys of a data folder, once they and the store are of one network. `init`: what is missing is to be made anew.
pub(super) async fn keys(data: &Path, store: &dyn Store, init: bool) -> anyhow::Result<Keys> {
    let folder = Folder::read(data)?;
    let known = store.network().await.context("cannot read whose store this is")?;
    if init {
        return begin_anew(data, store, folder, known).await;
    }
    let (shown, place) = (data.display(), store.describe());
    let own = folder.authority.as_ref().map(public_half);
    let settled = match (own, folder.network, known) {
        (Some(own), Some(network), Some(known)) if known.network != network.to_string() => bail!(
            "this store belongs to the network {}, and the data folder {shown} to {network}\nhint: name the folder and the store \
             of one network with --data and --store; to add a coordinator to the store's network, `lull server export` on one of \
             its coordinators and `lull server import` into an empty folder here; its key has the public half {}, and this \
             folder's {own}",
            known.network,
            known.authority
        ),
        (Some(own), _, Some(known)) if known.authority != own => bail!(
            "{} is not the key of the network {}, whose store this is\nhint: restore the one that belongs to it from a backup, or \
             `lull server export` on another of its coordinators and `lull server import` here",
            data.join(AUTHORITY_FILE).display(),
            known.network
        ),
        (Some(_), Some(network), Some(_)) => network,
        (Some(own), Some(network), None) => {
            let in_use = !store.agents().await.context("cannot read the agents")?.is_empty();
            if !in_use {
                bail!(
                    "the data folder {shown} belongs to the network {network}, and the store ({place}) is empty: it was lost, or it \
                     is another one\nhint: restore the database from a backup, or name the right one with --store; if this network \
                     is meant to begin again without its machines, jobs and functions, start once with --init"
                );
            }
            // A store from before stores knew their network.
            name(store, network, own, false).await?;
            network
        }
        // A first start that was interrupted, or a file that the store makes good.
        (Some(_), None, Some(known)) => parsed(&known)?,
        (Some(own), None, None) if !folder.has_led => name(store, drawn(), own, false).await?,
        (None, network, known) if network.is_some() || known.is_some() || folder.has_led => {
            let of = known.map(|known| known.network).or_else(|| network.map(|network| network.to_string()));
            bail!(
                "{} is missing: the key of the network{}, without which no machine believes this coordinator\nhint: restore it from \
                 a backup, or `lull server export` on another coordinator of the network and `lull server import` here; if the \
                 network is meant to be given up, start once with --init, and every machine has to join again",
                data.join(AUTHORITY_FILE).display(),
                of.map(|of| format!(" {of}")).unwrap_or_default()
            )
        }
        (Some(_), None, None) => bail!(
            "{} and the store ({place}) are lost, and with them the network that {shown} belonged to\nhint: restore them from a \
             backup; if a new network is meant, start once with --init, and every machine has to join again",
            data.join(NETWORK_FILE).display()
        ),
        (None, _, _) if folder.identity.is_some() => bail!(
            "{} lies in a folder from which no network was ever led: it is the key of another program, or what is left of a network \
             that is lost\nhint: name an empty folder with --data; or restore the rest of this one from a backup",
            data.join(IDENTITY_FILE).display()
        ),
        (None, _, _) => {
            // Nothing here yet. The network's key comes first: whatever a first start leaves behind is a coordinator's.
            let authority = keys::make_key_pair(&data.join(AUTHORITY_FILE))?;
            let network = name(store, drawn(), public_half(&authority), false).await?;
            tracing::info!(%network, "a new network begins");
            network
        }
    };
    if folder.network.is_some() && folder.identity.is_none() {
        bail!(
            "{} is missing: the key by which machines know this coordinator\nhint: restore it from a backup; or start once with \
             --init to make a new one, after which machines that know no other coordinator have to join again",
            data.join(IDENTITY_FILE).display()
        );
    }
    if folder.network.is_none() {
        // The name comes last: a folder with a name has all the rest.
        keys::key_pair(&data.join(IDENTITY_FILE))?;
        keys::write_private(&data.join(NETWORK_FILE), settled.to_string().as_bytes())?;
    }
    collect(data, settled)
}

/// Makes what is missing, and the store this network's whatever it was before.
async fn begin_anew(data: &Path, store: &dyn Store, folder: Folder, known: Option<NetworkRecord>) -> anyhow::Result<Keys> {
    let own = folder.authority.as_ref().map(public_half);
    let agree = known.as_ref().is_some_and(|known| {
        own.as_ref() == Some(&known.authority) && folder.network.is_some_and(|network| network.to_string() == known.network)
    });
    if agree && folder.is_whole() {
        bail!(
            "{} and its store are of one network already: there is nothing to begin\nhint: leave --init out; it is for one start, \
             and with it a loss would not be noticed",
            data.display()
        );
    }
    if folder.authority.is_none()
        && let Some(mark) = folder::mark_of_agent(data)
    {
        return Err(KeyError::Agents { path: data.to_owned(), mark }.into());
    }
    // A network is its key: without the old one it is another.
    let network = folder.network.filter(|_| folder.authority.is_some()).unwrap_or_else(drawn);
    let authority = keys::key_pair(&data.join(AUTHORITY_FILE))?;
    keys::key_pair(&data.join(IDENTITY_FILE))?;
    let network = name(store, network, public_half(&authority), true).await?;
    keys::write_private(&data.join(NETWORK_FILE), network.to_string().as_bytes())?;
    tracing::warn!(%network, before = known.map(|known| known.network), "as asked for, what was missing of the network is made anew");
    collect(data, network)
}

fn collect(data: &Path, network: NetworkId) -> anyhow::Result<Keys> {
    let there = |file: &str| {
        let path = data.join(file);
        keys::read_key_pair(&path)?.with_context(|| format!("{} has just been removed", path.display()))
    };
    Ok(Keys { identity: there(IDENTITY_FILE)?, authority: there(AUTHORITY_FILE)?, network })
}

/// Makes the store a network's; the network whose it is now.
async fn name(store: &dyn Store, network: NetworkId, authority: String, anew: bool) -> anyhow::Result<NetworkId> {
    let record = NetworkRecord { network: network.to_string(), authority };
    let named = store.name_network(&record, anew).await.context("cannot write into the store whose it is")?;
    if named.authority != record.authority {
        bail!("another coordinator has begun the network {} in this store at the same moment\nhint: start again", named.network);
    }
    parsed(&named)
}

fn parsed(record: &NetworkRecord) -> anyhow::Result<NetworkId> {
    let id = HEXLOWER.decode(record.network.as_bytes()).ok().and_then(|id| id.try_into().ok());
    id.map(NetworkId).with_context(|| format!("the store calls its network `{}`, which is not the name of one", record.network))
}

fn public_half(authority: &Keypair) -> String {
    HEXLOWER.encode(&Vec::<u8>::from(Authority::of(authority)))
}

fn drawn() -> NetworkId {
    NetworkId(rand::random())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::store::{Leadership as _, memory::Memory};

    /// A data folder from which a coordinator has led, and its store.
    async fn settled() -> (TempDir, Memory, NetworkId) {
        let (folder, store) = (tempfile::tempdir().expect("a folder"), Memory::default());
        let network = keys(folder.path(), &store, false).await.expect("a new network").network;
        fs::write(folder.path().join(ADMIN_TOKEN_FILE), b"token").expect("written");
        (folder, store, network)
    }

    async fn refusal(data: &Path, store: &Memory) -> String {
        let before = listed(data);
        let words = keys(data, store, false).await.err().expect("it is refused").to_string();
        assert_eq!(listed(data), before, "nothing is made in its place");
        assert!(words.contains("\nhint: "), "{words}");
        words
    }

    fn listed(data: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let entries = fs::read_dir(data).expect("ours").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("ours"))).collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn a_network_begins_in_an_empty_folder_and_is_the_same_at_every_start() {
        let (folder, store, network) = settled().await;
        let again = keys(folder.path(), &store, false).await.expect("the same");
        assert_eq!(again.network, network);
        let known = store.network().await.expect("an answer").expect("named");
        assert_eq!((known.network, known.authority), (network.to_string(), public_half(&again.authority)));
    }

    #[tokio::test]
    async fn a_first_start_that_was_interrupted_goes_on() {
        let (folder, store, network) = settled().await;
        fs::remove_file(folder.path().join(ADMIN_TOKEN_FILE)).expect("there");
        fs::remove_file(folder.path().join(NETWORK_FILE)).expect("there");
        assert_eq!(keys(folder.path(), &store, false).await.expect("the store knows it").network, network);
        for missing in [&[NETWORK_FILE][..], &[NETWORK_FILE, AUTHORITY_FILE]] {
            missing.iter().for_each(|file| fs::remove_file(folder.path().join(file)).expect("there"));
            if missing.contains(&AUTHORITY_FILE) {
                let words = refusal(folder.path(), &Memory::default()).await;
                assert!(words.contains("the key of another program"), "{words}");
                fs::remove_file(folder.path().join(IDENTITY_FILE)).expect("there");
            }
            keys(folder.path(), &Memory::default(), false).await.expect("nothing was named yet");
        }
        fs::remove_file(folder.path().join(NETWORK_FILE)).expect("there");
        fs::remove_file(folder.path().join(IDENTITY_FILE)).expect("there");
        keys(folder.path(), &Memory::default(), false).await.expect("the network's key was made first");
    }

    #[tokio::test]
    async fn a_key_that_lies_there_is_not_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        keys::make_key_pair(&folder.path().join(IDENTITY_FILE)).expect("made");
        refusal(folder.path(), &Memory::default()).await;
    }

    #[tokio::test]
    async fn a_lost_key_is_told_and_not_replaced() {
        for (file, empty_store) in [(AUTHORITY_FILE, false), (AUTHORITY_FILE, true), (IDENTITY_FILE, false)] {
            let (folder, store, network) = settled().await;
            fs::remove_file(folder.path().join(file)).expect("there");
            let store = if empty_store { Memory::default() } else { store };
            let words = refusal(folder.path(), &store).await;
            assert!(words.contains(file) && words.contains("--init"), "{words}");
            assert!(file == IDENTITY_FILE || words.contains(&network.to_string()), "{words}");
            keys(folder.path(), &store, true).await.expect("made anew when that is meant");
            keys(folder.path(), &store, false).await.expect("and it is whole again");
        }
    }

    #[tokio::test]
    async fn an_emptied_key_is_damage() {
        let (folder, store, _) = settled().await;
        fs::write(folder.path().join(AUTHORITY_FILE), b"").expect("written");
        assert!(refusal(folder.path(), &store).await.contains("damaged"));
    }

    #[tokio::test]
    async fn a_lost_database_is_told_and_not_replaced() {
        let (folder, _, network) = settled().await;
        let fresh = Memory::default();
        let words = refusal(folder.path(), &fresh).await;
        assert!(words.contains("empty") && words.contains(&network.to_string()), "{words}");
        assert_eq!(fresh.network().await.expect("an answer"), None);
        let kept = keys(folder.path(), &fresh, true).await.expect("begun again when that is meant");
        assert_eq!(kept.network, network, "its key is there, so it is the same network");
        fs::remove_file(folder.path().join(NETWORK_FILE)).expect("there");
        let words = refusal(folder.path(), &Memory::default()).await;
        assert!(words.contains(NETWORK_FILE), "{words}");
    }

    #[tokio::test]
    async fn a_folder_and_a_store_of_two_networks_are_both_named() {
        let (first, second) = (settled().await, settled().await);
        let words = refusal(first.0.path(), &second.1).await;
        assert!(words.contains(&first.2.to_string()) && words.contains(&second.2.to_string()), "{words}");
        fs::copy(second.0.path().join(AUTHORITY_FILE), first.0.path().join(AUTHORITY_FILE)).expect("a wrong restore");
        let words = refusal(first.0.path(), &first.1).await;
        assert!(words.contains("is not the key of the network"), "{words}");
    }

    #[tokio::test]
    async fn no_network_begins_anew_in_an_agents_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        keys::make_key_pair(&folder.path().join(IDENTITY_FILE)).expect("made");
        // Such as an earlier program's start would have left beside it.
        for file in ["membership.json", "coordinator.lock"] {
            fs::write(folder.path().join(file), b"x").expect("written");
        }
        for init in [false, true] {
            let words = keys(folder.path(), &Memory::default(), init).await.err().expect("it is an agent's").to_string();
            assert!(words.contains("\nhint: "), "{words}");
        }
        assert!(!folder.path().join(AUTHORITY_FILE).exists());
    }

    #[tokio::test]
    async fn beginning_anew_is_for_one_start() {
        let (folder, store, _) = settled().await;
        let words = keys(folder.path(), &store, true).await.err().expect("nothing is missing").to_string();
        assert!(words.contains("leave --init out"), "{words}");
        let fresh = tempfile::tempdir().expect("a folder");
        keys(fresh.path(), &Memory::default(), true).await.expect("an empty one may also be begun so");
    }
}
