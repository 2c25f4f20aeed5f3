//! An agent's own troubles: they cost no function a retry, are said where people look, and pass.

use std::fs;

use lull_tests::{
    cluster::{Cluster, functions, module, text, wait_until},
    processes,
};
use serde_json::Value;

use crate::{PROGRAMS, busy::Busy};

fn task(cluster: &Cluster, task: &str) -> Value {
    cluster.lull(&["task", "show", task, "-o", "json"]).json()
}

/// One task that runs until it is stopped.
fn spinning(cluster: &Cluster) -> String {
    let wat = fs::read_to_string(functions().join("fixtures/spin.wat")).expect("a fixture");
    let spin = module(cluster.path("").as_path(), "spin", &wat);
    cluster.lull(&["func", "publish", text(&spin)]);
    cluster.lull(&["submit", "spin", "--array", "0", "-o", "id"]).out.trim().to_owned()
}

fn attempts(cluster: &Cluster, job: &str) -> Vec<Value> {
    task(cluster, &format!("{job}.0"))["history"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_executor_that_somebody_killed_costs_nothing_and_its_agent_says_why_it_rests() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let job = spinning(&cluster);
    let runs = |cluster: &Cluster| {
        processes::children(cluster.agent_pid("desk")).into_iter().find(|pid| processes::cpu_of(*pid).as_millis() > 50)
    };
    wait_until("it runs", || runs(&cluster).is_some(), || attempts(&cluster, &job).len().to_string());
    let executor = runs(&cluster).expect("it was just there");
    std::process::Command::new("kill").args(["-9", &executor.to_string()]).status().expect("kill runs");
    wait_until(
        "it is given back",
        || attempts(&cluster, &job).first().is_some_and(|one| one["end"] == "evicted"),
        || format!("{:?}", attempts(&cluster, &job)),
    );
    assert_eq!(task(&cluster, &format!("{job}.0"))["failures"], 0, "no retry was spent");
    let agent = || cluster.lull(&["agent", "show", "desk", "-o", "json"]).json();
    wait_until("it says why it takes nothing", || agent()["paused"]["kind"] == "killed_trouble", || agent().to_string());
    assert!(cluster.lull(&["agent", "list"]).out.contains("killed from outside"));
    let doctor = cluster.try_lull(&["net", "doctor"]);
    assert!(doctor.code == 1 && doctor.out.contains("killed from outside"), "{}", doctor.out);
    cluster.add_agent("other", 1, &[]);
    wait_until("it goes on elsewhere", || attempts(&cluster, &job).len() == 2, || format!("{:?}", attempts(&cluster, &job)));
    cluster.lull(&["job", "cancel", &job]);
}

#[test]
fn folders_that_are_removed_under_an_agent_are_made_again() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    Busy::submit(&cluster, 3).finish(&cluster);
    for folder in ["outbox", "cache", "scratch", "snapshots", "artifacts"] {
        // Those that were never needed are not there.
        let _ = fs::remove_dir_all(cluster.path("desk").join(folder));
    }
    Busy::submit(&cluster, 6).finish(&cluster);
    assert!(cluster.path("desk/outbox/outbox.log").exists(), "what is kept has its name again");
    // What an executor has loaded is not read again: only what is new goes through the cache.
    let wat = fs::read_to_string(functions().join("fixtures/noop.wat")).expect("a fixture");
    let noop = module(cluster.path("").as_path(), "noop", &wat);
    cluster.lull(&["func", "publish", text(&noop)]);
    cluster.lull(&["submit", "noop", "--array", "0", "--wait"]);
    let cached = fs::read_dir(cluster.path("desk/cache")).map_or(0, Iterator::count);
    assert!(cached > 0, "the new module is in the cache that was made for it");
}
