//! The coordinator: takes in jobs, decides which agent runs which task when, and remembers everything in its store.

pub mod access;
pub mod api;
pub mod blobs;
pub mod cli;
pub mod client;
pub mod clock;
pub mod dispatch;
pub mod http;
pub mod inputs;
pub mod keys;
pub mod network;
pub mod scheduler;
pub mod server;
pub mod store;
pub mod submit;

/// The program `lull`: an executor or an agent if it was started as one, the command line otherwise.
pub fn main() -> std::process::ExitCode {
    if let Some(code) = lull_agent::executor::entry() {
        return code;
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == cli::AGENT_ENTRY) {
        return lull_agent::cli::main_with(std::env::args_os().skip(1));
    }
    cli::main(std::env::args_os())
}
