//! The program on an office machine: it offers what its owner leaves free and runs functions there.
//!
//! ```text
//! core    lull-session                 decides; no clock, no IO
//! shell   run_loop                     feeds the session and carries out its effects
//! edges   network, executor, outbox, cache, sensor, ipc, cli
//! ```

pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod executor;
pub mod files;
pub mod folder;
#[cfg(test)]
mod installed;
pub mod ipc;
mod machine;
pub mod member;
pub mod membership;
pub mod memory;
pub mod migratable;
pub mod network;
pub mod outbox;
pub mod owner;
pub mod policy;
pub mod route;
pub mod run_loop;
pub mod sensor;
pub mod snapshot;
pub mod status;
mod wake;
