//! Runs functions on a machine: what an agent needs, and a coordinator that compiles modules and tries them.
//!
//! ```text
//! executor     a caged process for each slot, and for each module that is compiled
//! migratable   the build of a module that can be suspended: pure
//! snapshot     a running attempt, written down: pure
//! cache        modules, artifacts, inputs and snapshots, by digest
//! files, folder, memory      what both keep on disk, and give back
//! ```
//! It decides nothing: what runs where and when is the session's and the scheduler's.

pub mod cache;
pub mod executor;
pub mod files;
pub mod folder;
pub mod memory;
pub mod migratable;
pub mod snapshot;
#[cfg(windows)]
pub use lull_windows as windows;
