//! The membership as the running agent holds it: read by the network, renewed by the coordinator, kept on disk.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_shared::{
    identity::{Certificate, Signed},
    limits::COORDINATOR_ADDRESSES_MAX,
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
}

impl Member {
    /// The membership that was loaded from a data folder.
    pub fn new(data: PathBuf, identity: Keypair, membership: Membership) -> Self {
        Self { data, identity, membership: Mutex::new(membership) }
    }

    /// The network threw this machine out, or has it again.
    pub fn note_revoked(&self, revoked: bool) {
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

    /// Takes a fresh certificate, if it is one. Returns whether it is.
    pub fn take_certificate(&self, fresh: Signed) -> bool {
        let mut membership = self.lock();
        let peer = self.identity.public().to_peer_id();
        let valid = Certificate::verify(&fresh, &membership.authority, membership.network, &peer, clock::wall());
        let own = match valid {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(%error, "the coordinator sent a certificate that is not valid; the old one is kept");
                return false;
            }
        };
        if membership.certificate != fresh {
            (membership.certificate, membership.name) = (fresh, own.name);
            self.save(&membership);
        }
        true
    }

    /// Takes the coordinators' own list of addresses. The one that works now stays: the list may name addresses that
    /// only others can reach.
    pub fn take_coordinators(&self, announced: Vec<String>, working: Option<&Multiaddr>) {
        let usable = |address: &String| address.parse::<Multiaddr>().is_ok_and(|address| peer_of(&address).is_some());
        let mut list: Vec<String> = working.map(ToString::to_string).into_iter().collect();
        for address in announced.into_iter().filter(usable) {
            if !list.contains(&address) {
                list.push(address);
            }
        }
        list.truncate(COORDINATOR_ADDRESSES_MAX);
        let mut membership = self.lock();
        if !list.is_empty() && membership.coordinators != list {
            membership.coordinators = list;
            self.save(&membership);
        }
    }

    fn save(&self, membership: &Membership) {
        if let Err(error) = membership.save(&self.data) {
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
