//! What must hold of every decoder of foreign bytes: one function for each, called with whatever bytes there are.
//!
//! Returning is passing. The fuzz targets under `tests/fuzz` call these functions with what libFuzzer thinks of, and
//! the test `corpora` with what was kept of that, on every run. Each says in its doc how it reads its bytes, so that a
//! seed can be written by hand. What is promised beside not panicking: what was understood reads back as it was
//! written, memory stays within a bound that is proportional to what came, and nobody else's attempt is touched.

mod artifact;
mod config;
mod executor;
mod frames;
mod gossip;
mod http;
mod identity;
mod ipc;
mod laws;
pub mod memory;
mod modules;
mod outbox;
mod pack;
mod pieces;
mod protocol;
mod scheduler;
pub mod seeds;
mod session;
mod snapshot;
mod token;
mod words;

pub use self::{
    artifact::artifact, config::config, executor::executor, frames::frames, gossip::gossip, http::http, identity::identity,
    ipc::ipc, modules::modules, outbox::outbox, pack::pack, pieces::pieces, protocol::protocol, scheduler::scheduler,
    session::session, snapshot::snapshot, token::token, words::words,
};

/// Splits off the byte that says how the others are meant; 0 when there is none.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, &[]), |(first, rest)| (*first, rest))
}
