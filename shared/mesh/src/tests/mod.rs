//! Nodes on real sockets of this machine.

mod admission;
mod blobs;
mod enrolment;
mod garbage;
mod gossip;
mod senders;
mod siege;
mod support;
mod work;
