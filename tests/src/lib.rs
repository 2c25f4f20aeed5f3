//! What the end-to-end tests, the simulator and the benchmarks share.

pub mod cluster;
pub mod processes;
pub mod sockets;
