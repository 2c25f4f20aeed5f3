//! What an agent does for its owner, as far as it can be seen from outside.

use std::time::Duration;

use lull_tests::{
    cluster::{Cluster, functions, module, text, wait_until},
    processes,
};

use crate::PROGRAMS;

#[test]
fn pausing_takes_a_running_function_off_the_processor_and_resuming_loses_nothing() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let busy = module(cluster.path("").as_path(), "busy", &text_form);
    cluster.lull(&["func", "publish", text(&busy)]);
    let lines = cluster.path("lines");
    std::fs::write(&lines, "3000\n").expect("written");
    let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
    let executors = || processes::children(cluster.agent_pid("desk"));
    let works = |pid: &u32| processes::cpu_of_tree(*pid) > Duration::from_millis(100);
    wait_until("it runs", || executors().iter().any(works), || cluster.job(&job).to_string());
    cluster.agent_says("desk", &["pause", "1h"]).ok();
    cluster.wait_for_job(&job, "it is paused", |job| job["counts"]["paused"] == 1);
    assert!(executors().into_iter().all(processes::is_stopped), "the operating system has frozen it");
    cluster.agent_says("desk", &["resume"]).ok();
    wait_until("it ends", || cluster.job(&job)["counts"]["succeeded"] == 1, || cluster.job(&job).to_string());
    assert_eq!(cluster.lull(&["task", "list", &job, "-o", "json"]).json()["tasks"][0]["attempts"], 1);
}
