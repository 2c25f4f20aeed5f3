//! Nodes on real sockets of this machine.

mod admission;
mod blobs;
mod enrolment;
mod garbage;
mod gossip;
mod support;
mod work;
