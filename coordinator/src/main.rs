//! The program `lull`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lull_coordinator::main()
}
