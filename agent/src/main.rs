//! The `lull-agent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    lull_agent::cli::main()
}
