//! Blobs on their way: `fetch` takes pieces from several peers, `upload` gives them, `relay` passes them on, `seeding` says which
//! a coordinator gives away itself, and `delivery` brings large outputs to it. `exchange` is what all of them share.

pub(crate) mod delivery;
pub(crate) mod exchange;
pub(crate) mod fetch;
pub(crate) mod file;
pub(crate) mod relay;
pub(crate) mod seeding;
pub(crate) mod upload;
