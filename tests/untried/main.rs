//! Says which checks this machine cannot make, in the output of `cargo test` itself: the test harness swallows what a test
//! says that passes, and a check that was skipped has passed for it.
//!
//! A program without a harness, so that its lines are seen. It never fails.

use std::{
    env,
    process::{Command, Stdio},
};

use lull_tests::toolchains::{missing, without_c, without_rust};

/// A check that needs more than Rust, and what it needs; none if that is there.
struct Optional {
    check: &'static str,
    lacks: Option<String>,
}

fn main() {
    // What nextest asks of each test program; this one shows nothing there that a harness would.
    if env::args().any(|argument| argument == "--list") {
        if !env::args().any(|argument| argument == "--ignored") {
            println!("untried: test");
        }
        return;
    }
    for Optional { check, lacks } in optional() {
        match lacks {
            Some(lacks) => println!("NOT RUN: {check}: {lacks}"),
            None => println!("run: {check}"),
        }
    }
}

fn optional() -> Vec<Optional> {
    vec![
        Optional { check: "the store's suite on SQL Server", lacks: unset("LULL_TEST_SQLSERVER") },
        Optional { check: "the agent's own tests for Windows", lacks: without_windows() },
        Optional { check: "the installers for Windows", lacks: missing(&["wixl"]) },
        Optional { check: "the sensor under X11", lacks: missing(&["Xvfb", "xdotool"]) },
        Optional { check: "sleep and inhibitors by D-Bus", lacks: missing(&["dbus-daemon"]).or_else(without_mock) },
        Optional { check: "a project in Rust", lacks: without_rust() },
        Optional { check: "a project in C", lacks: without_c() },
    ]
}

fn without_windows() -> Option<String> {
    (!cfg!(windows)).then(|| "this is not Windows, for which everything is only checked here".to_owned())
}

fn unset(variable: &str) -> Option<String> {
    env::var_os(variable).is_none().then(|| format!("{variable} is not set"))
}

/// The mock of logind is a module of Python.
fn without_mock() -> Option<String> {
    let asked =
        Command::new("/usr/bin/python3").args(["-c", "import dbusmock"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!asked.is_ok_and(|status| status.success())).then(|| "python3-dbusmock is not installed".to_owned())
}
