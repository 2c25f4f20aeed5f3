//! The `lull-tray` program.
// A program with an icon opens no console window.
#![cfg_attr(windows, windows_subsystem = "windows")]

use std::process::ExitCode;

fn main() -> ExitCode {
    lull_tray::main()
}
