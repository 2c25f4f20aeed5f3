//! A function's project: made from a template, built, run as an agent would run it, published and compared.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use lull_tests::{
    cluster::{Cluster, Said, text, wait_until},
    toolchains,
};

use crate::PROGRAMS;

/// What each template makes of the input that comes with it.
const WORDS: &str = "{\"words\":9}\n";

/// A command in a project's folder, with the user's own toolchains.
fn command(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = cluster.command(PROGRAMS.lull, arguments);
    command.current_dir(folder);
    let home = env::var_os("HOME").unwrap_or_default();
    for (variable, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        command.env(variable, env::var_os(variable).unwrap_or_else(|| Path::new(&home).join(usual).into()));
    }
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    command
}

fn lull(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> Said {
    let output = command(cluster, folder, arguments).stdin(Stdio::null()).output().expect("it starts");
    let told = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { code: output.status.code().unwrap_or(-1), out: told(output.stdout), err: told(output.stderr) }
}

/// Makes a project and runs it, unless its toolchain is missing: `untried` says so aloud.
fn template(language: &str, lacks: Option<String>) {
    if let Some(lacks) = lacks {
        eprintln!("NOT RUN: a project in {language}: {lacks}");
        return;
    }
    let cluster = Cluster::prepared(PROGRAMS);
    cluster.lull(&["func", "new", "tally", "--lang", language]);
    let folder = cluster.path("tally");
    let ran = lull(&cluster, &folder, &["func", "run"]).ok();
    assert_eq!(ran.out, WORDS, "{}", ran.err);
    assert!(ran.err.contains("the task would succeed"), "{}", ran.err);
    fs::write(folder.join("other.txt"), "one two").expect("written");
    assert_eq!(lull(&cluster, &folder, &["func", "run", "other.txt"]).ok().out, "{\"words\":2}\n");
}

#[test]
fn a_project_in_rust_runs_as_it_was_made() {
    template("rust", toolchains::without_rust());
}

#[test]
fn a_project_in_c_runs_as_it_was_made() {
    template("c", toolchains::without_c());
}

/// A child that is killed when it is dropped.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_project_in_javascript_is_run_watched_published_and_compared() {
    let cluster = Cluster::start(PROGRAMS);
    let refused = cluster.try_lull(&["func", "new", "tally", "--lang", "python"]);
    assert!(refused.code == 2 && refused.err.contains("lull.toml"), "{}", refused.err);
    cluster.lull(&["func", "new", "tally", "--lang", "js"]);
    let folder = cluster.path("tally");
    assert_eq!(cluster.try_lull(&["func", "new", "tally", "--lang", "c"]).code, 2, "what is there is kept");
    assert_eq!(lull(&cluster, &folder, &["func", "run"]).ok().out, WORDS);

    let (script, seen) = (folder.join("tally.js"), cluster.path("seen"));
    let out = File::create(&seen).expect("a file");
    let mut watch = command(&cluster, &folder, &["func", "watch"]);
    let _watch = Watch(watch.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().expect("it starts"));
    let saw = |words: &str| fs::read_to_string(&seen).is_ok_and(|seen| seen.contains(words));
    let told = || fs::read_to_string(&seen).unwrap_or_default();
    wait_until("it runs at once", || saw(WORDS), told);
    let changed = fs::read_to_string(&script).expect("a script").replace("words:", "terms:");
    fs::write(&script, &changed).expect("written");
    wait_until("it runs again", || saw("{\"terms\":9}"), told);

    let manifest = folder.join("lull.toml");
    let asks = fs::read_to_string(&manifest).expect("a manifest") + "memory = \"64MiB\"\ngrants = [\"clock\"]\n";
    fs::write(&manifest, &asks).expect("written");
    let first = lull(&cluster, &folder, &["func", "publish", "--migratable", "never"]).ok();
    assert_eq!(first.out, "tally@1\n");
    assert!(first.err.contains("lull submit tally@1 --memory 64MiB --grant clock INPUT..."), "{}", first.err);
    fs::write(&script, changed.replace("terms:", "words:")).expect("written");
    let second = cluster.lull(&["func", "publish", "--project", text(&folder), "--migratable", "never"]);
    assert_eq!(second.out, "tally@2\n");

    let diff = cluster.lull(&["func", "diff", "tally@1", "tally@2"]).out;
    assert!(diff.contains("digest"), "{diff}");
    let lines: Vec<&str> = diff.lines().filter(|line| line.contains("split(")).map(str::trim_end).collect();
    assert!(matches!(lines[..], [old, new] if old.starts_with('-') && old.contains("terms:") && new.starts_with('+')), "{diff}");
    assert!(cluster.lull(&["func", "diff", "tally@2", "tally@latest"]).out.contains("differ in nothing"));

    fs::write(&manifest, asks.replace("module =", "modul =")).expect("written");
    let wrong = lull(&cluster, &folder, &["func", "run"]);
    assert!(wrong.code == 2 && wrong.err.contains("lull.toml: line 2:"), "{}", wrong.err);
}
