//! Second copies of running tasks.

use std::time::Duration;

use lull_tests::{
    cluster::{Cluster, functions, module, text, wait_until},
    processes,
};

use crate::PROGRAMS;

#[test]
fn a_task_that_hangs_on_one_machine_is_finished_by_a_second_copy_on_another() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("stuck", 1, &[]);
    let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let busy = module(cluster.path("").as_path(), "busy", &text_form);
    cluster.lull(&["func", "publish", text(&busy)]);
    let lines = cluster.path("lines");
    std::fs::write(&lines, "1\n1\n1\n1\n3000\n").expect("written");
    let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
    cluster.wait_for_job(&job, "the short ones are done", |job| job["counts"]["succeeded"] == 4);

    let pid = cluster.agent_pid("stuck");
    let works = || processes::children(pid).into_iter().find(|pid| processes::cpu_of(*pid) > Duration::from_millis(300));
    wait_until("the last one works", || works().is_some(), || cluster.job(&job).to_string());
    processes::freeze(works().expect("it works"));
    cluster.add_agent("fresh", 1, &[]);

    let explain = || cluster.lull(&["explain", &format!("{job}.4")]).out;
    wait_until("a second copy runs", || explain().contains("a second copy"), explain);
    let explained = explain();
    assert!(explained.contains("fresh since") && explained.contains("the first runs for"), "{explained}");
    assert_eq!(cluster.job(&job)["counts"]["running"], 1, "it counts once");

    cluster.wait_for_job(&job, "it ends", |job| job["state"] == "succeeded");
    let shown = cluster.lull(&["task", "show", &format!("{job}.4"), "-o", "json"]).json();
    let history = shown["history"].as_array().expect("attempts");
    let ends: Vec<_> = history.iter().map(|attempt| (&attempt["agent_name"], &attempt["end"])).collect();
    assert_eq!(ends, [(&"stuck".into(), &"cancelled".into()), (&"fresh".into(), &"succeeded".into())], "{shown}");
    assert_eq!(history[0]["reason"], "another copy finished first");
    assert_eq!((&shown["failures"], &shown["agent_name"]), (&0.into(), &"fresh".into()));
    let free = || cluster.lull(&["agent", "show", "stuck", "-o", "json"]).json();
    wait_until("the stuck one has given it up", || free()["capacity"]["slots_busy"] == 0, || free().to_string());
    assert_eq!(free()["claims_refused"], 0);
}
