//! The agent's side of an executor: `process` is the handle on one, `spawn` starts it, `reader` and `writer` have its pipes,
//! `runs` is what these know together, and `files` what is kept on disk of an attempt.

pub(in crate::executor) mod files;
pub mod process;
pub mod reader;
pub(in crate::executor) mod runs;
pub(in crate::executor) mod spawn;
pub(in crate::executor) mod writer;
