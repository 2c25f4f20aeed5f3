//! Who does it, and under which rules: agents, coordinators, the mesh, the policy, tokens and the audit.

pub(crate) mod agents;
pub(crate) mod coordinators;
pub(crate) mod network;
pub(crate) mod policy;
pub(crate) mod profiles;
pub(crate) mod registry;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod upgrades;
