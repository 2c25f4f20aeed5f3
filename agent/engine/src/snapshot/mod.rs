//! A running attempt written down, to go on from elsewhere: CORE, pure.
//!
//! ```text
//! file := output | body | seal
//! output  standard output that had left the executor before, as it is
//! body    lz4 frame of: what the host holds of the guest, its globals, its unwound stack, its memories (`body`)
//! seal    200 bytes: format, whose it is, length and digest of both parts, time used so far (`seal`)
//! ```
//! Everything is little-endian and says nothing about the operating system, the processor or the agent's version, so
//! any agent goes on from any other's. Standard input is not in it, only how much of it was read. The seal stands at the
//! end so that a snapshot can be written while it is made, in one pass, and stands for nothing until it is whole.
//!
//! Owns the format, and the reasons why a snapshot does not fit ([`Unfit`]). It does not own how an instance is taken
//! apart and put together: that is the executor's.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod body;
mod pages;
mod seal;
mod unfit;

pub use self::{
    seal::{FORMAT, SEAL_BYTES, Seal},
    unfit::{Part, Unfit},
};

#[cfg(test)]
mod tests;
