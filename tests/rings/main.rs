//! The rings are crates, so that Cargo keeps them apart: what each of them does not stand on, however deep.

use std::{collections::BTreeSet, env, path::Path, process::Command};

/// What waits, logs, speaks, runs or stores is an edge's.
const EDGES: [&str; 5] = ["tokio", "tracing", "libp2p", "wasmtime", "rusqlite"];
/// What sees an owner is for programs that run beside one.
const DESKTOP: [&str; 4] = ["evdev", "x11rb", "wayland-client", "rustbus"];

#[test]
fn a_core_stands_on_words_and_data_structures_only() {
    for core in ["lull-scheduler", "lull-session"] {
        assert_without(core, &EDGES);
    }
}

/// The tray is in every session of every machine: what runs functions and what speaks to the mesh stays out of it.
#[test]
fn the_tray_stands_on_words_and_not_on_what_runs_functions() {
    assert_without("lull-tray", &["lull-engine", "lull-agent", "lull-mesh", "libp2p", "wasmtime", "clap"]);
}

#[test]
fn the_coordinator_links_no_desktop() {
    assert_without("lull-coordinator", &DESKTOP);
}

fn assert_without(package: &str, banned: &[&str]) {
    let below = below(package);
    assert!(below.contains("lull-shared"), "{package} stands on {below:?}");
    let found: Vec<&&str> = banned.iter().filter(|name| below.contains(**name)).collect();
    assert!(found.is_empty(), "{package} stands on {found:?}: `cargo tree -p {package} -e normal -i {}` says why", found[0]);
}

/// The names of all that a package is built from on this platform, by itself. A library of keys that says in a log what it
/// cannot read is one of words; what stands below it is its own affair.
fn below(package: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--offline", "--locked", "--package", package, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}", "--prune", "libp2p-identity"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names");
    text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

/// Calls of Windows that tell which key is pressed. What only counts input is not among them.
fn calls_of_keys() -> impl Iterator<Item = String> {
    // In halves, so that a program that looks for them has none of them itself.
    include_str!("../../agent/windows/src/keys.txt").lines().map(|halves| halves.replace(' ', ""))
}

/// The names of what a program takes from Windows stand in it as they are. Looks into what was built for Windows beside this,
/// if something was; its own tests look under Windows itself.
#[test]
fn no_program_that_was_built_for_windows_takes_a_call_that_tells_of_keys() {
    let target = env::current_exe().expect("a program").ancestors().nth(3).expect("the target folder").to_owned();
    let folders = ["debug", "release"].map(|profile| target.join("x86_64-pc-windows-gnu").join(profile));
    let built = folders.iter().flat_map(|folder| ["lull-tray.exe", "lull-agent.exe"].map(|program| folder.join(program)));
    let mut looked_at = 0;
    for path in built.filter(|path| path.exists()) {
        let program = std::fs::read(&path).expect("a program");
        let has = |name: &str| program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        assert!(has("GetLastInputInfo"), "{} asks whether there is input", path.display());
        calls_of_keys().for_each(|call| assert!(!has(&call), "{} takes {call}", path.display()));
        looked_at += 1;
    }
    if looked_at == 0 {
        eprintln!("NOT CHECKED: no program was built for Windows in {}", target.display());
    }
}

/// Whoever reads keys by mistake is found on every system, before there is a program to look into.
#[test]
fn no_source_of_the_agent_names_a_call_that_tells_of_keys() {
    let mut looked_at = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let named: Vec<String> = calls_of_keys().filter(|call| text.contains(call.as_str())).collect();
                assert!(named.is_empty(), "{} names {named:?}", path.display());
                looked_at += usize::from(text.contains("GetLastInputInfo"));
            }
        }
    }
    assert!(looked_at > 0, "the search comes by where Windows is asked for input");
}
