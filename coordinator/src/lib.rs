//! The coordinator: takes in jobs, decides which agent runs which task when, and remembers everything in its store.

pub mod access;
pub mod agent_process;
pub mod api;
pub mod blobs;
pub mod claims;
pub mod cli;
pub mod client;
pub mod clock;
pub mod custody;
pub mod dispatch;
pub mod http;
pub mod inputs;
pub mod keys;
pub mod network;
pub mod policies;
pub mod scheduler;
pub mod server;
pub mod store;
pub mod submit;
pub mod tracker;

/// The program `lull`: an executor or an agent if it was started as one, the command line otherwise.
pub fn main() -> std::process::ExitCode {
    lull_agent::executor::entry().or_else(agent_process::entry).unwrap_or_else(|| cli::main(std::env::args_os()))
}
