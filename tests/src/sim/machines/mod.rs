//! Simulated machines: their agents' sessions are real, what runs on them and who sits at them is not.

pub(in crate::sim) mod executor;
pub(in crate::sim) mod link;
pub(in crate::sim) mod machine;
pub(in crate::sim) mod machine_effects;
pub(in crate::sim) mod owner;
pub(in crate::sim) mod processor;
pub(in crate::sim) mod snapshots;
