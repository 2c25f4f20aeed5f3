//! The `lull-agent` program under a name of its own; see `lull-e2e`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lull_agent::cli::main()
}
