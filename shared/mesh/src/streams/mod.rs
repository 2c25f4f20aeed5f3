//! Streams between peers: `opened` opens them, `serve` answers those that peers open, and `frames` is what goes through them.

pub(crate) mod frames;
pub(crate) mod opened;
pub(crate) mod serve;
