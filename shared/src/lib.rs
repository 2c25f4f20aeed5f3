//! The vocabulary and the wire of Lull: what an agent, a coordinator and a simulator agree on.
//!
//! This crate owns identifiers, time, jobs, states, messages, their encoding and their limits: words only. The libp2p node
//! that both sides run is `lull-mesh`.
#![forbid(unsafe_code)]

pub mod id;
pub mod limits;
mod text;
pub mod time;
mod wire;
mod work;

pub use self::text::{
    alike, amount, bound, codes, constraint, hint, hours, misread, name, numbers, portal, readable, share, shown, window, zone,
};
pub use self::wire::{codec, digest, identity, message, pieces, protocol, release, senders};
pub use self::work::{job, pack, policy, resources, state};
