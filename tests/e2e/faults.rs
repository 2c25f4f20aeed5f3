//! `kill -9` of an agent and of the coordinator in mid-job: every result is there exactly once.

use std::collections::BTreeSet;

use lull_tests::cluster::{Cluster, functions, module, text};

use crate::PROGRAMS;

const TASKS: usize = 60;

#[test]
fn an_agent_killed_in_mid_job_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("victim", 1, &[]);
    cluster.add_agent("survivor", 1, &[]);
    let job = submit_busy(&cluster);
    cluster.wait_for_job(&job, "some tasks are done", |job| job["counts"]["succeeded"].as_u64() >= Some(5));
    cluster.kill_agent("victim");
    finish_and_check(&cluster, &job);
    let shown = cluster.lull(&["agent", "show", "victim", "-o", "json"]).json();
    assert!(shown["connected"].is_null());
}

#[test]
fn a_coordinator_killed_in_mid_job_goes_on_where_it_was() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &[]);
    cluster.add_agent("south", 1, &[]);
    let job = submit_busy(&cluster);
    for done in [5, 20, 35] {
        cluster.wait_for_job(&job, "some tasks are done", |job| job["counts"]["succeeded"].as_u64() >= Some(done));
        cluster.kill_server();
        cluster.start_server();
    }
    finish_and_check(&cluster, &job);
}

#[test]
fn both_killed_at_once_come_back_and_finish() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &[]);
    let job = submit_busy(&cluster);
    cluster.wait_for_job(&job, "some tasks are done", |job| job["counts"]["succeeded"].as_u64() >= Some(5));
    cluster.kill_server();
    cluster.kill_agent("north");
    cluster.start_server();
    cluster.start_agent("north");
    finish_and_check(&cluster, &job);
}

/// A job whose tasks take some milliseconds each.
fn submit_busy(cluster: &Cluster) -> String {
    let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let busy = module(cluster.path("").as_path(), "busy", &text_form);
    cluster.lull(&["func", "publish", text(&busy)]);
    let lines = cluster.path("lines");
    std::fs::write(&lines, (0..TASKS).map(|_| "60\n").collect::<String>()).expect("written");
    cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned()
}

fn finish_and_check(cluster: &Cluster, job: &str) {
    cluster.lull(&["wait", job, "--timeout", "120s"]);
    let shown = cluster.job(job);
    assert_eq!(shown["state"], "succeeded", "{shown}");
    assert_eq!(shown["counts"]["succeeded"], TASKS);
    let results = cluster.lull(&["job", "results", job, "-o", "json"]).json();
    let results = results["results"].as_array().expect("results");
    let tasks: BTreeSet<String> = results.iter().map(|result| result["task"].to_string()).collect();
    let outputs: BTreeSet<String> = results.iter().map(|result| result["output"].to_string()).collect();
    assert_eq!((results.len(), tasks.len()), (TASKS, TASKS), "each result once");
    assert_eq!(outputs.len(), 1, "equal inputs, equal outputs");
    let tasks = cluster.lull(&["task", "list", job, "-o", "json"]).json();
    for task in tasks["tasks"].as_array().expect("tasks") {
        assert_eq!(task["failures"], 0, "no retry was spent: {task}");
    }
}
