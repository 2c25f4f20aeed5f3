//! What the agent holds: `offers` are taken or refused, `plan` is what a job needs, `blobs` are on their way, `slot` is one place
//! to run in, `work` what is done there, and `yielding` how it is given up.

pub(crate) mod blobs;
pub(crate) mod offers;
pub(crate) mod plan;
pub mod slot;
pub(crate) mod work;
pub(crate) mod yielding;
