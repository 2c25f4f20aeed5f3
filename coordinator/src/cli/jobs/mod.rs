//! Jobs and their tasks: how they are submitted, what became of them, and where their outputs go.

pub(in crate::cli) mod explain;
pub(in crate::cli) mod files;
pub(in crate::cli) mod job;
pub(in crate::cli) mod logs;
pub(crate) mod names;
pub(in crate::cli) mod results;
pub(in crate::cli) mod run;
pub(in crate::cli) mod submit;
pub(in crate::cli) mod task;
pub(in crate::cli) mod upload;
