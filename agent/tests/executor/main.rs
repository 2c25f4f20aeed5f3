//! Executors as real processes: what functions get, what stops them, and what holds them.

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
