//! Who does it, and under which rules: agents, coordinators, the mesh, the policy, tokens and the audit.

pub(in crate::http) mod agents;
pub(in crate::http) mod coordinators;
pub(in crate::http) mod network;
pub(in crate::http) mod policy;
pub(in crate::http) mod registry;
pub(in crate::http) mod sessions;
pub(in crate::http) mod status;
