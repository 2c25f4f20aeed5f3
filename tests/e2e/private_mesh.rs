//! `lull run`: one command, a private mesh, a table of results.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use lull_tests::cluster::{functions, module, text, wait_until};
use serde_json::Value;

use crate::{
    PROGRAMS,
    disks::{SmallDisk, not_run},
};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let cache = tempfile::tempdir().expect("a folder");
    run_with_cache(cache.path(), arguments)
}

fn run_with_cache(cache: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(PROGRAMS.lull);
    let output = command.arg("run").args(arguments).env("NO_COLOR", "1").env("XDG_CACHE_HOME", cache).output().expect("it runs");
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), lossy(&output.stdout), lossy(&output.stderr))
}

#[test]
fn one_command_runs_a_function_over_a_folder() {
    let module = functions().join("modules/text-stats.wasm");
    let documents = functions().join("inputs/documents");
    let (code, out, err) = run(&[text(&module), text(&documents), "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let value: serde_json::Value = serde_json::from_str(&out).expect("one JSON value");
    let count = std::fs::read_dir(&documents).expect("documents").count();
    assert_eq!(value["results"].as_array().expect("results").len(), count, "{out}");
}

#[test]
fn results_go_to_files_named_after_their_inputs() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = functions().join("modules/thumbnail.wasm");
    let photos = functions().join("inputs/photos");
    let out = folder.path().join("thumbs");
    let (code, _, err) = run(&[text(&module), text(&photos), "--out", text(&out), "--retries", "0"]);
    assert!(code == 0 || code == 1, "a file that is no photo may fail, nothing else: {err}");
    assert!(std::fs::read_dir(&out).expect("results").count() >= 8, "{err}");
}

#[test]
fn a_failing_task_makes_exit_code_one_and_says_which() {
    let folder = tempfile::tempdir().expect("a folder");
    let text_form = std::fs::read_to_string(functions().join("fixtures/exit3.wat")).expect("a fixture");
    let module = lull_tests::cluster::module(folder.path(), "exit3", &text_form);
    let (code, out, err) = run(&[text(&module), "--array", "0-2", "--retries", "0"]);
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(out.contains("failed"), "{out}");
}

#[test]
fn large_inputs_and_outputs_arrive_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let text_form = std::fs::read_to_string(functions().join("fixtures/echo.wat")).expect("a fixture");
    let module = lull_tests::cluster::module(folder.path(), "echo", &text_form);
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let input = folder.path().join("large.bin");
    std::fs::write(&input, &large).expect("written");
    let out = folder.path().join("out");
    let (code, _, err) = run(&[text(&module), text(&input), "--out", text(&out)]);
    assert_eq!(code, 0, "{err}");
    assert!(std::fs::read(out.join("large.bin")).expect("its bytes") == large, "the bytes differ");
}

#[test]
fn three_inputs_whose_names_collide_give_three_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, out) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir_all(input.join("sub")).expect("folders");
    for (name, content) in [("2-a.txt", "one"), ("a.txt", "two"), ("sub/a.txt", "three")] {
        std::fs::write(input.join(name), content).expect("written");
    }
    let echo = fixture(folder.path(), "echo");
    let arguments = [text(&echo), text(&input), "--out", text(&out)];
    for _ in 0..2 {
        let (code, _, err) = run(&arguments);
        assert_eq!(code, 0, "{err}");
        let lines = manifest(&out);
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            let label = line["label"].as_str().expect("a label");
            let file = out.join(line["file"].as_str().expect("a file"));
            assert_eq!(std::fs::read(file).expect("its output"), std::fs::read(label).expect("its input"), "{line}");
        }
    }
    assert_eq!(std::fs::read_to_string(out.join("sub/a.txt")).expect("in its folder"), "three");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = fixture(folder.path(), "echo");
    std::fs::write(folder.path().join("file"), "").expect("written");
    let data = folder.path().join("mesh");
    let (code, _, err) =
        run(&[text(&echo), "--array", "0-2", "--data", text(&data), "--out", text(&folder.path().join("file/out"))]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("--out DIR") && !data.exists(), "{err}");
}

#[test]
fn the_output_of_a_single_task_is_printed_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = fixture(folder.path(), "echo");
    let long = "a line that is far longer than any cell of a table would be\n".repeat(50);
    let input = folder.path().join("long.txt");
    std::fs::write(&input, &long).expect("written");
    let (code, out, err) = run(&[text(&echo), text(&input)]);
    assert_eq!((code, out), (0, long), "{err}");
}

#[test]
fn a_data_folder_serves_again_and_its_results_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = fixture(folder.path(), "echo");
    let data = folder.path().join("mesh");
    for job in ["j1", "j2"] {
        let (code, _, err) = run(&[text(&echo), "--array", "5-6", "--data", text(&data)]);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains(&format!("lull job results {job} --data {}", text(&data))), "{err}");
    }
    let results = lull(&["job", "results", "j1", "--data", text(&data), "-o", "json"]);
    let value: Value = serde_json::from_str(&results.1).unwrap_or_else(|error| panic!("{error}: {}", results.2));
    assert_eq!(value["results"][1]["output"], "6", "{value}");
    assert!(!data.join("http.address").exists(), "nothing runs there any more");
}

#[test]
fn work_that_is_broken_off_is_kept_and_can_go_on_whoever_breaks_it_off() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        let folder = tempfile::tempdir().expect("a folder");
        let (busy, out) = (fixture(folder.path(), "busy"), folder.path().join("out"));
        let rounds = folder.path().join("rounds");
        std::fs::write(&rounds, "1\n3000\n").expect("written");
        let arguments = [text(&busy), "--each-line", text(&rounds), "--out", text(&out), "--agents", "1", "--slots", "2"];
        let mut child = start(folder.path(), &arguments);
        let log = || std::fs::read_to_string(folder.path().join("err")).unwrap_or_default();
        // The first is there while the second still runs.
        wait_until("the first output is there", || out.join("1").exists() && manifest(&out).len() == 1, log);
        assert!(child.try_wait().expect("our own child").is_none(), "{}", log());
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("it runs");
        assert_eq!(child.wait().expect("our own child").code(), Some(130), "{}", log());
        let kept = log();
        let data = kept.split("the work is kept in ").nth(1).and_then(|rest| rest.lines().next());
        let data = PathBuf::from(data.unwrap_or_else(|| panic!("nothing is kept: {kept}")));
        assert!(data.starts_with(folder.path()) && data.exists(), "{kept}");
        assert!(kept.contains(&format!("`lull wait j1 --data {}`", text(&data))), "{kept}");
        assert!(kept.contains(&format!("`lull job results j1 --data {} --out {}`", text(&data), text(&out))), "{kept}");
        let (code, _, err) = lull(&["job", "results", "j1", "--data", text(&data), "--out", text(&out)]);
        assert_eq!((code, manifest(&out).len()), (0, 1), "{err}");
        // What is kept is the same whoever breaks it off: once is enough to see that it goes on.
        if signal != rustix::process::Signal::INT {
            continue;
        }
        let (code, _, err) = lull(&["wait", "j1", "--data", text(&data)]);
        assert_eq!(code, 0, "{err}");
        let (code, _, err) = lull(&["job", "results", "j1", "--data", text(&data), "--out", text(&out)]);
        assert_eq!((code, manifest(&out).len()), (0, 2), "{err}");
    }
}

#[test]
fn nothing_is_left_of_work_that_was_broken_off_before_any_of_it_had_ended() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, times) in [(Signal::INT, 1), (Signal::TERM, 1), (Signal::HUP, 1), (Signal::INT, 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (busy, rounds) = (fixture(folder.path(), "busy"), folder.path().join("rounds"));
        std::fs::write(&rounds, "1000000\n").expect("written");
        let mut child = start(folder.path(), &[text(&busy), "--each-line", text(&rounds), "--agents", "1", "--slots", "1"]);
        let log = || std::fs::read_to_string(folder.path().join("err")).unwrap_or_default();
        let left = || -> Vec<String> {
            let names = std::fs::read_dir(folder.path()).expect("readable").map(|entry| entry.expect("readable").file_name());
            names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("lull-")).collect()
        };
        wait_until("it is submitted", || log().contains("0/1 done"), log);
        assert_eq!(left().len(), 1, "its folder is there while it runs");
        for _ in 0..times {
            kill_process(Pid::from_child(&child), signal).expect("it runs");
            std::thread::yield_now();
        }
        assert_eq!(child.wait().expect("our own child").code(), Some(130), "{}", log());
        // Agents end when the process that started them has, and one that was hurried waits for none of them.
        // Who asks twice may do so before it is known whether there is anything worth keeping: then it is kept, and said where.
        let said = || times == 2 && log().contains("the work is kept in");
        wait_until("nothing is left", || left().is_empty() || said(), log);
        if times == 1 {
            assert!(log().contains("nothing is kept"), "{}", log());
        }
    }
}

#[test]
fn an_input_that_is_not_there_is_told_before_anything_is_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let nonsense = folder.path().join("f.wasm");
    std::fs::write(&nonsense, "not even a module").expect("written");
    let (code, _, err) = run(&[text(&nonsense), "nosuch.txt"]);
    assert_eq!((code, err.lines().next()), (3, Some("error: cannot read nosuch.txt: no such file or directory")), "{err}");
    assert_eq!(err.lines().count(), 2, "{err}");
}

#[test]
fn a_full_disk_keeps_what_is_there_and_the_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path().join("out"), 1) else { return not_run("results on a full disk") };
    let (out, input) = (folder.path().join("out"), folder.path().join("in"));
    std::fs::create_dir_all(&input).expect("a folder");
    for (name, bytes) in [("a", 100_000), ("b", 3_000_000), ("c", 100_000)] {
        std::fs::write(input.join(name), vec![b'x'; bytes]).expect("written");
    }
    let echo = fixture(folder.path(), "echo");
    let mut child = start(folder.path(), &[text(&echo), text(&input), "--out", text(&out), "--agents", "1"]);
    assert_eq!(child.wait().expect("our own child").code(), Some(1));
    let said = std::fs::read_to_string(folder.path().join("err")).expect("its words");
    assert!(said.contains("cannot write") && said.contains("the work is kept in "), "{said}");
    let left: Vec<_> = std::fs::read_dir(&out).expect("readable").map(|entry| entry.expect("readable").file_name()).collect();
    assert!(left.iter().all(|name| ["a", "c", "manifest.jsonl"].contains(&name.to_str().expect("plain"))), "{left:?}");
    // There is room elsewhere, and what the hint says works.
    let data = said.split("the work is kept in ").nth(1).and_then(|rest| rest.lines().next()).expect("a folder");
    let (code, _, err) = lull(&["wait", "j1", "--data", data]);
    assert_eq!(code, 0, "{err}");
    let other = folder.path().join("other");
    let (code, _, err) = lull(&["job", "results", "j1", "--data", data, "--out", text(&other)]);
    assert_eq!((code, manifest(&other).len()), (0, 3), "{err}");
    drop(disk);
}

#[test]
fn a_coordinators_data_is_not_taken_for_a_private_meshs() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = fixture(folder.path(), "echo");
    let data = folder.path().join("coordinator");
    std::fs::create_dir_all(&data).expect("made");
    std::fs::write(data.join("network.id"), "00112233445566778899aabbccddeeff").expect("written");
    let (code, _, err) = run(&[text(&echo), "--array", "0", "--data", text(&data)]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("lull server run --data"), "{err}");
}

fn fixture(folder: &Path, name: &str) -> PathBuf {
    let form = std::fs::read_to_string(functions().join(format!("fixtures/{name}.wat"))).expect("a fixture");
    module(folder, name, &form)
}

fn manifest(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("manifest.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

fn lull(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAMS.lull).args(arguments).env("NO_COLOR", "1").output().expect("it runs");
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), lossy(&output.stdout), lossy(&output.stderr))
}

/// A run in the background whose temporary files and words are in `folder`.
fn start(folder: &Path, arguments: &[&str]) -> Child {
    let err = std::fs::File::create(folder.join("err")).expect("a file");
    let mut command = Command::new(PROGRAMS.lull);
    command.arg("run").args(arguments).env("NO_COLOR", "1").env("TMPDIR", folder).env("XDG_CACHE_HOME", folder.join("cache"));
    // Tests that outlive their terminal ignore its end, and so would what they start.
    // SAFETY: signal() is safe to call between fork and exec, and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err).spawn().expect("it starts")
}

#[test]
fn the_next_run_of_a_module_begins_with_what_the_first_one_compiled() {
    use std::os::unix::fs::MetadataExt as _;
    let cache = tempfile::tempdir().expect("a folder");
    let module = functions().join("modules/text-stats.wasm");
    let input = functions().join("inputs/documents");
    let records = || {
        let builds = cache.path().join("lull/builds");
        let entries = std::fs::read_dir(&builds).expect("a folder of builds").flatten().map(|entry| entry.path().join("record"));
        let records = entries.filter_map(|record| std::fs::metadata(record).ok());
        records.map(|record| (record.ino(), record.mode() & 0o777)).collect::<Vec<_>>()
    };
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let (code, out, err) = run_with_cache(cache.path(), &[text(&module), text(&input), "-o", "json"]);
        assert_eq!(code, 0, "{err}");
        let value: serde_json::Value = serde_json::from_str(&out).expect("one JSON value");
        outputs.push((value["results"].as_array().map(Vec::len), records()));
    }
    assert_eq!(outputs[0].1.len(), 1, "one build was kept");
    assert_eq!(outputs[0].1[0].1, 0o600, "for its owner alone");
    assert_eq!(outputs[0], outputs[1], "what is not found is written anew");
}
