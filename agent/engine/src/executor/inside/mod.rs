//! Inside an executor: `worker` takes what comes through the `pipe`, `program` is the loaded module, and `guest` one run of
//! it.
//!
//! ```text
//! stream, random, time, poll, surface, scratch    what the guest sees of the world
//! moving                                          a run taken down, and gone on from
//! failure                                         how it ended, in words for its author
//! ```

pub(in crate::executor) mod failure;
pub(in crate::executor) mod guest;
pub mod moving;
pub mod pipe;
pub(in crate::executor) mod poll;
pub(in crate::executor) mod program;
pub(in crate::executor) mod random;
pub(in crate::executor) mod scratch;
pub(in crate::executor) mod stream;
pub(in crate::executor) mod surface;
pub(in crate::executor) mod time;
pub(in crate::executor) mod worker;
