//! The `lull-agent` program under a name of its own; see `lull-e2e`. It says that it is whichever version it is told to be.

use std::process::ExitCode;

/// The version that this program shall pretend to be.
const VERSION: &str = "LULL_TEST_AGENT_VERSION";

fn main() -> ExitCode {
    if let Ok(version) = std::env::var(VERSION) {
        lull_agent::upgrade::pretend(version);
    }
    lull_agent::cli::main()
}
