//! The program on an office machine: it offers what its owner leaves free and runs functions there.
//!
//! ```text
//! core    lull-session                 decides; no clock, no IO
//! shell   run_loop                     feeds the session and carries out its effects
//! edges   lull-engine: executor, cache
//!         network, outbox, sensor, ipc, cli
//! ```

pub mod cli;
pub mod clock;
pub mod config;
#[cfg(test)]
mod installed;
pub mod ipc;
mod machine;
pub mod machine_policy;
pub mod member;
pub mod membership;
pub mod network;
pub mod outbox;
pub mod owner;
pub mod pending;
pub mod policy;
pub mod route;
pub mod run_loop;
pub mod sensor;
pub mod service;
mod tally;
pub mod upgrade;
mod wake;

pub use lull_desk::status;
