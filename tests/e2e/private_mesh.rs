//! `lull run`: one command, a private mesh, a table of results.

use std::process::Command;

use lull_tests::cluster::{functions, text};

use crate::PROGRAMS;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAMS.lull).arg("run").args(arguments).env("NO_COLOR", "1").output().expect("it runs");
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
    let written = std::fs::read_dir(&out).expect("results").next().expect("one result").expect("readable").path();
    assert!(std::fs::read(written).expect("its bytes") == large, "the bytes differ");
}
