//! The `lull-tray` program.

fn main() {}
