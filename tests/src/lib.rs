//! What the end-to-end tests, the fuzz targets, the simulator and the benchmarks share.

pub mod cluster;
pub mod decoders;
pub mod moves;
pub mod processes;
pub mod proxy;
pub mod sim;
pub mod sockets;
pub mod toolchains;
