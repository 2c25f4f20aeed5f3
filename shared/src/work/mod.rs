//! Jobs, the machines that they run on, the rules for both, and how everything stands.

pub mod job;
pub mod pack;
pub mod policy;
pub mod resources;
pub mod state;
