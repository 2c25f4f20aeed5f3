//! The program `lull`: an executor or an agent if it was started as one, the command line otherwise.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = lull_agent::executor::entry() {
        return code;
    }
    lull_coordinator::cli::main(std::env::args_os())
}
