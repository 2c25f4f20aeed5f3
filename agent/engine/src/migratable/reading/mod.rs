//! What the pass learns of a module before it writes anything.

pub(in crate::migratable) mod callgraph;
pub(in crate::migratable) mod counted;
pub(in crate::migratable) mod live;
pub(in crate::migratable) mod reason;
pub(in crate::migratable) mod source;
pub(in crate::migratable) mod survey;
pub(in crate::migratable) mod tape;
pub(in crate::migratable) mod value;
