//! Publishing outlives whoever asked for it, bounds what a module costs, and honours its options.

use std::{cell::Cell, path::PathBuf, process::Stdio, time::Duration};

use lull_tests::{
    cluster::{Cluster, FIRST, functions, module, text, wait_until},
    processes,
};
use serde_json::Value;

use crate::PROGRAMS;

/// What the coordinator's memory may grow by while something is published: it copies files.
const GROWTH_KB_MAX: u64 = 64 << 10;

/// A small module that takes long and much to compile: one function with so many calls.
fn costly(cluster: &Cluster, name: &str, calls: usize) -> PathBuf {
    let call = "(local.set 0 (i32.add (local.get 1) (call $f (local.get 0))))";
    let spin = "(loop $l (br_if $l (i32.eqz (local.get 0))))";
    let module_text = format!(
        "(module (memory (export \"memory\") 1) (func $f (param i32) (result i32) {spin} (local.get 0))
            (func (export \"_start\") (local i32 i32) {}))",
        call.repeat(calls)
    );
    module(&cluster.path(""), name, &module_text)
}

fn publications(cluster: &Cluster) -> Vec<Value> {
    cluster.lull(&["func", "publication", "-o", "json"]).json()["publications"].as_array().cloned().unwrap_or_default()
}

/// The most memory that the coordinator ever had, in kB.
fn peak_kb(cluster: &Cluster) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.server_pid(FIRST))).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_publication_outlives_the_command_that_began_it() {
    let cluster = Cluster::start(PROGRAMS);
    let path = costly(&cluster, "costly", 40_000);
    let before = peak_kb(&cluster);
    let publish = ["func", "publish", text(&path), "--migratable", "never"];
    let begin = || {
        let mut command = cluster.command(PROGRAMS.lull, &publish);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let mut first = begin();
    let explain = || format!("{:?}", publications(&cluster));
    // However fast this machine is, the compiler is stopped before it is done.
    let compilers = || processes::children(cluster.server_pid(FIRST));
    let working = || {
        compilers().into_iter().for_each(processes::freeze);
        publications(&cluster).iter().any(|one| one["state"] == "working") && !compilers().is_empty()
    };
    wait_until("it is worked on", working, explain);
    first.kill().expect("killed");
    first.wait().expect("gone");
    let begun = publications(&cluster);
    assert_eq!(begun.len(), 1, "{begun:?}");
    let id = begun[0]["publication"].as_str().expect("an id").to_owned();
    let second = begin();
    let used = Cell::new((Duration::ZERO, 0));
    let rests = || {
        let (before, looks) = used.get();
        let now = processes::cpu_of_tree(second.id());
        used.set((now, if now == before && !now.is_zero() { looks + 1 } else { 0 }));
        looks >= 20
    };
    wait_until("the second one waits for an answer", rests, explain);
    compilers().into_iter().for_each(processes::thaw);
    let joined = second.wait_with_output().expect("it ends");
    let joined = String::from_utf8_lossy(&joined.stdout).into_owned();
    assert!(joined.contains("costly@1"), "{joined}");
    assert_eq!(publications(&cluster).len(), 1, "the same bytes with the same options joined it");
    let waited = cluster.lull(&["func", "publication", &id, "--wait"]);
    assert!(waited.out.contains("costly@1"), "its result is there when one asks again: {}", waited.out);
    let grown = peak_kb(&cluster) - before;
    assert!(grown < GROWTH_KB_MAX, "the coordinator grew by {grown} kB");

    let unknown = cluster.try_lull(&["func", "publication", "p0000000000000001"]);
    assert_eq!(unknown.code, 3, "{}", unknown.err);
    assert!(unknown.err.contains("publish again"), "{}", unknown.err);
}

#[test]
fn a_compiler_that_is_killed_is_an_error_and_the_next_publication_works() {
    let cluster = Cluster::start(PROGRAMS);
    let path = costly(&cluster, "costly", 40_000);
    let mut publish = cluster.command(PROGRAMS.lull, &["func", "publish", text(&path)]);
    let mut publish = publish.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let compilers = || processes::children(cluster.server_pid(FIRST));
    let killed = || {
        for compiler in compilers() {
            if let Some(pid) = i32::try_from(compiler).ok().and_then(rustix::process::Pid::from_raw) {
                // It may have ended by itself, and the next one begun.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        publications(&cluster).iter().any(|one| one["state"] == "failed")
    };
    wait_until("it fails", killed, || format!("{:?}", publications(&cluster)));
    let said = publish.stderr.take().map(std::io::read_to_string).expect("words").expect("text");
    assert!(!publish.wait().expect("it ends").success(), "{said}");
    assert!(said.contains("the module could not be compiled") && said.contains("killed"), "{said}");
    let small = module(&cluster.path(""), "small", "(module (memory (export \"memory\") 1) (func (export \"_start\")))");
    assert!(cluster.lull(&["func", "publish", text(&small)]).out.contains("small@1"), "nothing is left of it");
}

#[test]
fn the_same_module_with_other_options_is_another_version_that_says_so() {
    let cluster = Cluster::start(PROGRAMS);
    let busy = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let path = module(&cluster.path(""), "busy", &busy);
    let sample = cluster.path("sample");
    std::fs::write(&sample, "3").expect("written");
    let publish = |options: &[&str]| {
        let said = cluster.lull(&[["func", "publish", text(&path), "-o", "json"].as_slice(), options].concat());
        let value = said.json();
        (value["number"].as_u64().expect("a number"), value["existing"] == true, said.err)
    };
    let number = |options: &[&str]| publish(options).0;
    assert_eq!(publish(&["--migratable", "never"]).0, 1);
    let (number_two, existing, words) = publish(&["--migratable", "always"]);
    assert!(number_two == 2 && !existing && words.contains("busy@1 is the same module with other options"), "{words}");
    assert!(words.contains("can be moved while they run"), "{words}");
    let (again, existing, words) = publish(&[]);
    assert!(again == 2 && existing && words.contains("was published before, with what these options ask for"), "{words}");
    assert_eq!((number(&["--migratable", "never"]), number(&["--canonical-nans"])), (1, 3));
    let (measured, _, words) = publish(&["--sample", text(&sample)]);
    if words.contains("of processor time the plain build needed") {
        assert_eq!(measured, 4, "a measure that was not there: {words}");
        assert_eq!(cluster.lull(&["func", "show", "busy@4", "-o", "json"]).json()["migratable"]["measured"], true);
    } else {
        assert_eq!(measured, 2, "nothing was measured: {words}");
    }
}

#[test]
fn what_no_agent_could_run_is_refused_when_it_is_published() {
    let cluster = Cluster::start(PROGRAMS);
    let command = "(memory (export \"memory\") 1) (func (export \"_start\"))";
    let import = |kind: &str| format!("(module (import \"wasi_snapshot_preview1\" \"fd_write\" {kind}) {command})");
    let cases = [
        ("memories", format!("(module {command} {})", "(memory 1)".repeat(4)), "5 memories"),
        ("table", format!("(module {command} (table 3000000 funcref))"), "3000000"),
        ("result", "(module (func (export \"_start\") (result i32) (i32.const 0)))".into(), "`_start`"),
        ("signature", import("(func (param i32) (result i32))"), "fd_write"),
        ("kind", import("(global i32)"), "fd_write"),
        ("data", format!("(module {command} (data (i32.const 65536) \"x\"))"), "out of bounds"),
    ];
    for (name, module_text, reason) in cases {
        let refused = cluster.try_lull(&["func", "publish", text(&module(&cluster.path(""), name, &module_text))]);
        assert_eq!(refused.code, 2, "{name}: {}", refused.err);
        assert!(
            refused.err.contains("no agent could run this module") && refused.err.contains(reason),
            "{name}: {}",
            refused.err
        );
    }
    assert_eq!(cluster.lull(&["func", "list", "-o", "json"]).json()["functions"], Value::Array(Vec::new()));
}
