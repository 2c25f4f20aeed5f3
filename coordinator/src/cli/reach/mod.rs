//! Which coordinator a command talks to: one of the network, or one of a private mesh on this machine.

pub(in crate::cli) mod awake;
pub(in crate::cli) mod connect;
pub(in crate::cli) mod login;
pub(in crate::cli) mod private;
pub(super) mod profile;
pub(super) mod profiles;
