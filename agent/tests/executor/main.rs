//! Executors as real processes: what functions get, what stops them, and what holds them.

mod bench;
mod cage;
mod component;
mod guests;
mod limits;
mod own;
mod process;
mod world;
