//! What goes over the mesh: who may say what to whom, in which bytes, and how it is proved.

pub mod codec;
pub mod digest;
pub mod identity;
pub mod message;
pub mod pieces;
pub mod protocol;
pub mod release;
pub mod senders;
