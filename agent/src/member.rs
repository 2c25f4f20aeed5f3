//! The membership as the running agent holds it: read by the network, renewed by the coordinator, kept on disk.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_shared::{
    identity::{Certificate, Signed},
    limits::COORDINATOR_ADDRESSES_MAX,
    protocol::EnrolmentRefusal,
};

use crate::{
    clock,
    membership::{self, Membership},
};

/// The membership of this process.
pub struct Member {
    data: PathBuf,
    pub identity: Keypair,
    membership: Mutex<Membership>,
    /// Held while the membership is changed and written; whoever only asks does not wait for the disk. Taken first.
    saving: Mutex<()>,
    /// Why the network does not want this machine, as it said last.
    unwanted: Mutex<Option<String>>,
}

impl Member {
    /// The membership that was loaded from a data folder.
    pub fn new(data: PathBuf, identity: Keypair, membership: Membership) -> Self {
        // What an earlier life was told holds until the network says something else.
        let unwanted = membership::is_revoked(&data).then(|| EnrolmentRefusal::Revoked.to_string());
        Self { data, identity, membership: Mutex::new(membership), saving: Mutex::default(), unwanted: Mutex::new(unwanted) }
    }

    /// The network threw this machine out.
    pub fn is_thrown_out(&self) {
        self.note_revoked(true);
        self.is_unwanted(EnrolmentRefusal::Revoked.to_string());
    }

    /// The network has no use for this machine, for this reason.
    pub fn is_unwanted(&self, why: String) {
        *self.unwanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// The network welcomed this machine: whatever it said before does not hold any more.
    pub fn is_welcome(&self) {
        self.note_revoked(false);
        *self.unwanted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the network does not want this machine, if that is what it said last.
    pub fn unwanted(&self) -> Option<String> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_revoked(&self, revoked: bool) {
        if let Err(error) = membership::note_revoked(&self.data, revoked) {
            tracing::warn!(%error, "cannot keep in mind whether this machine was revoked");
        }
    }

    /// Everything, as it is now.
    pub fn get(&self) -> Membership {
        self.lock().clone()
    }

    /// The certificate's contents; it may have expired.
    pub fn certificate(&self) -> Option<Certificate> {
        let membership = self.lock();
        let peer = self.identity.public().to_peer_id();
        Certificate::verify_expired(&membership.certificate, &membership.authority, membership.network, &peer).ok()
    }

    /// Where coordinators may be, the most promising first.
    pub fn coordinators(&self) -> Vec<Multiaddr> {
        self.lock().coordinators.iter().filter_map(|address| address.parse().ok()).collect()
    }

    /// Takes a fresh certificate, if it is one, and writes it down. Returns whether it is.
    pub fn take_certificate(&self, fresh: Signed) -> bool {
        let known = self.get();
        let peer = self.identity.public().to_peer_id();
        let valid = Certificate::verify(&fresh, &known.authority, known.network, &peer, clock::wall());
        let own = match valid {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(%error, "the coordinator sent a certificate that is not valid; the old one is kept");
                return false;
            }
        };
        self.change(|membership| {
            let news = membership.certificate != fresh;
            (membership.certificate, membership.name) = (fresh, own.name);
            news
        });
        true
    }

    /// Takes the coordinators' own list of addresses, and writes it down. The one that works now stays: the list may name
    /// addresses that only others can reach.
    pub fn take_coordinators(&self, announced: Vec<String>, working: Option<&Multiaddr>) {
        let usable = |address: &String| address.parse::<Multiaddr>().is_ok_and(|address| peer_of(&address).is_some());
        let mut list: Vec<String> = working.map(ToString::to_string).into_iter().collect();
        for address in announced.into_iter().filter(usable) {
            if !list.contains(&address) {
                list.push(address);
            }
        }
        list.truncate(COORDINATOR_ADDRESSES_MAX);
        self.change(|membership| {
            let news = !list.is_empty() && membership.coordinators != list;
            if news {
                membership.coordinators = list;
            }
            news
        });
    }

    /// Changes the membership, and writes it down if that says that something is new.
    fn change(&self, change: impl FnOnce(&mut Membership) -> bool) {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = {
            let mut membership = self.lock();
            change(&mut membership).then(|| membership.clone())
        };
        if let Some(error) = changed.and_then(|membership| membership.save(&self.data).err()) {
            tracing::warn!(%error, "the membership is only known to this process; it is asked for again after a restart");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The peer that an address ends with.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(libp2p::multiaddr::Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::AgentId,
        identity::{Authority, Issuer, NetworkId, Role},
        resources::Labels,
    };

    use super::*;

    fn member(data: &std::path::Path) -> Member {
        let identity = Keypair::generate_ed25519();
        let life = std::time::Duration::from_secs(3_600);
        let issuer = Issuer { network: NetworkId([3; 16]), authority: Keypair::generate_ed25519(), life };
        let certificate =
            |name: &str| issuer.issue(&identity.public().to_peer_id(), Role::Agent, Some(AgentId(7)), name, clock::wall());
        let membership = Membership {
            network: issuer.network,
            authority: Authority::of(&issuer.authority),
            agent: AgentId(7),
            name: "desk".into(),
            certificate: certificate("desk"),
            coordinators: Vec::new(),
            labels: Labels::new(),
        };
        let renamed = certificate("desk-replaced");
        let member = Member::new(data.to_owned(), identity, membership);
        assert!(member.take_certificate(renamed));
        member
    }

    #[test]
    fn a_machine_that_was_thrown_out_knows_it_until_it_is_welcome_again() {
        let data = tempfile::tempdir().expect("a folder");
        let member = member(data.path());
        assert_eq!((member.unwanted(), membership::is_revoked(data.path())), (None, false));
        member.is_thrown_out();
        let words = member.unwanted().expect("it is known");
        assert!(words.contains("was revoked") && words.contains("lull agent restore"), "{words}");
        assert!(membership::is_revoked(data.path()));
        let next_life = Member::new(data.path().to_owned(), member.identity.clone(), member.get());
        assert_eq!(next_life.unwanted(), Some(words), "also after a restart");
        next_life.is_welcome();
        assert_eq!((next_life.unwanted(), membership::is_revoked(data.path())), (None, false));
    }

    #[test]
    fn a_machine_is_called_as_its_newest_certificate_says() {
        let data = tempfile::tempdir().expect("a folder");
        let member = member(data.path());
        assert_eq!(member.get().name, "desk-replaced");
        assert_eq!(Membership::load(data.path()).expect("saved").name, "desk-replaced");
    }
}
