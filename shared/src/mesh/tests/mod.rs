//! Nodes on real sockets of this machine.

mod admission;
mod support;
