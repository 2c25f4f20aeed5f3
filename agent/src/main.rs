//! placeholder
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = lull_agent::executor::entry() {
        return code;
    }
    ExitCode::SUCCESS
}
