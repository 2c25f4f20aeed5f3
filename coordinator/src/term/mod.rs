//! A term, as the HTTP interface and the mesh see it: all that is there while this coordinator leads.

pub mod phase;

use std::sync::Arc;

use lull_mesh::NodeHandle;
use lull_shared::{
    identity::{Issuer, NetworkId},
    time::Timestamp,
};

use crate::{
    access::Callers,
    dispatch::{Catalogue, DispatchHandle, Lease},
    fleet::{network::Network, policies::Policies, upgrades::Upgrades},
    loss::Loss,
    presence::Presence,
    publishing::Publications,
    store::{ForPeople, Lead},
};

/// A term: all that the HTTP interface works with.
pub struct Coordinator {
    pub store: Arc<dyn ForPeople>,
    pub dispatch: DispatchHandle,
    pub catalogue: Arc<Catalogue>,
    pub policies: Arc<Policies>,
    pub upgrades: Arc<Upgrades>,
    pub node: NodeHandle,
    pub network: NetworkId,
    pub issuer: Arc<Issuer>,
    pub lead: Lead,
    pub since: Timestamp,
    pub mesh: Network,
    pub presence: Arc<Presence>,
    pub publications: Arc<Publications>,
    pub lease: Lease,
    /// Those whom the store has confirmed lately.
    pub callers: Arc<Callers>,
    /// What the store forgot last, since this process began.
    pub loss: Option<Loss>,
    pub name: String,
}
