//! What people want of the world: who submits what, and when.

pub(in crate::sim) mod plan;
pub(in crate::sim) mod users;
