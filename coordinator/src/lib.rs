//! The coordinator: takes in jobs, decides which agent runs which task when, and remembers everything in its store.

pub mod access;
pub mod agent_process;
pub mod api;
pub mod bounds;
pub mod certificate;
pub mod cli;
pub mod client;
pub mod clock;
pub mod dispatch;
pub mod fleet;
pub mod http;
pub mod inputs;
pub mod json;
pub mod keys;
pub mod loss;
pub mod packages;
mod pauses;
pub mod pin;
pub mod portal;
pub mod presence;
pub mod publishing;
pub mod server;
pub mod service;
pub mod store;
pub mod submit;
pub mod term;
mod trust;
pub mod version;

/// The program `lull`: an executor or an agent if it was started as one, the command line otherwise.
pub fn main() -> std::process::ExitCode {
    lull_engine::executor::entry().or_else(agent_process::entry).unwrap_or_else(|| cli::main(std::env::args_os()))
}

/// The tests' own program is an executor too, as every program of ours: it starts itself to work on modules.
#[cfg(all(test, target_os = "linux"))]
#[used]
// SAFETY: the linker calls what is in this section before `main`, after the system's library is ready.
#[unsafe(link_section = ".init_array")]
static EXECUTOR_ENTRY: extern "C" fn() = {
    extern "C" fn entry() {
        if let Some(code) = lull_engine::executor::entry() {
            std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
        }
    }
    entry
};
