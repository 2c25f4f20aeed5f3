//! What people see: data, tables, progress and remarks.

pub(in crate::cli) mod columns;
pub(in crate::cli) mod follow;
pub(in crate::cli) mod output;
pub(in crate::cli) mod progress;
pub(in crate::cli) mod screen;
pub(in crate::cli) mod steps;
pub(in crate::cli) mod why;
