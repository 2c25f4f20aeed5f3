//! Toolchains for functions that a machine may lack.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

/// Which of these programs are not installed; none if all are.
pub fn missing(programs: &[&str]) -> Option<String> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| env::split_paths(&paths).any(|folder| Path::new(&folder).join(program).is_file());
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !is_there(program)).collect();
    (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(", ")))
}

/// What it lacks to build a function in Rust.
pub fn without_rust() -> Option<String> {
    missing(&["cargo", "rustc"]).or_else(|| {
        let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip1"]).output();
        let folder = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned()).unwrap_or_default();
        let is_there = !folder.is_empty() && Path::new(&folder).is_dir();
        (!is_there).then(|| "the target wasm32-wasip1 is not installed".to_owned())
    })
}

/// What it lacks to build a function in C.
pub fn without_c() -> Option<String> {
    missing(&["clang"]).or_else(|| {
        let mut clang = Command::new("clang");
        clang.args(["--target=wasm32-wasi", "-x", "c", "-", "-o", "/dev/null"]);
        (!links(clang)).then(|| "clang lacks lld, wasi-libc or libclang-rt-dev-wasm32".to_owned())
    })
}

/// Whether a compiler makes a program of its standard input.
fn links(mut compiler: Command) -> bool {
    compiler.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = compiler.spawn() else { return false };
    if let Some(mut input) = child.stdin.take() {
        // One that ended before it read says so by its exit code.
        let _ = std::io::Write::write_all(&mut input, b"#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n");
    }
    child.wait().is_ok_and(|status| status.success())
}
