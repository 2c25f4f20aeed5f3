//! What the pass writes: both copies of each function, their frames, and what the build has of its own.

pub(in crate::migratable) mod code;
pub(in crate::migratable) mod copy;
pub(in crate::migratable) mod entry;
pub(in crate::migratable) mod fast;
pub(in crate::migratable) mod frame;
pub(in crate::migratable) mod output;
pub(in crate::migratable) mod resume;
pub(in crate::migratable) mod shared;
