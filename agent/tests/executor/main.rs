//! Executors as real processes: what functions get, what stops them, and what holds them.
// Only the cores deny these; see `clippy.toml`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bench;
mod cage;
mod compile;
mod component;
mod functions;
mod guests;
mod limits;
mod movable;
mod moving;
mod naming;
mod own;
mod process;
mod proposals;
mod surface;
mod world;
