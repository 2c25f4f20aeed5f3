//! What the other tests drive a scheduler with, and hold it against.

pub(crate) mod agent;
pub(crate) mod driver;
pub(crate) mod ledger;
pub(crate) mod promised;
