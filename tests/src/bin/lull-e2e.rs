//! The `lull` program under a name of its own, so that the tests of this crate can start exactly what they were
//! built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    lull_coordinator::main()
}
