//! EDGE: what agents say, hold and are told, between the mesh and the loop.

pub(crate) mod blobs;
pub mod claims;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod own_copies;
pub(crate) mod policies;
pub mod tracker;
pub mod upgrades;
