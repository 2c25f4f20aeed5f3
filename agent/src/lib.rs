//! The program on an office machine: it offers what its owner leaves free and runs functions there.
// Only the cores deny these; see `clippy.toml`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod cache;
pub mod clock;
pub mod executor;
pub mod files;
pub mod guard;
pub mod membership;
pub mod outbox;
pub mod sensor;
pub mod session;
pub mod slot;
