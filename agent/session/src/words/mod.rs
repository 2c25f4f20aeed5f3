//! What is said to the coordinator: the `link` to it, the `policy` that came by it, and the `results` that wait for it.

pub(crate) mod link;
pub(crate) mod policy;
pub(crate) mod results;
