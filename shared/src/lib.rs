//! The vocabulary and the wire of Lull: what an agent, a coordinator and a simulator agree on.
//!
//! This crate owns identifiers, time, jobs, states, messages, their encoding and their limits: words only. The libp2p node
//! that both sides run is `lull-mesh`.
#![forbid(unsafe_code)]

pub mod amount;
pub mod bound;
pub mod codec;
pub mod codes;
pub mod constraint;
pub mod digest;
pub mod hours;
pub mod id;
pub mod identity;
pub mod job;
pub mod limits;
pub mod message;
pub mod misread;
pub mod name;
pub mod numbers;
pub mod pack;
pub mod pieces;
pub mod policy;
pub mod protocol;
pub mod resources;
pub mod senders;
pub mod share;
pub mod state;
pub mod time;
pub mod window;
pub mod zone;
