//! A newcomer's walk: token, join, publish, submit, watch, explain, results.

use lull_tests::cluster::{Cluster, functions, text};

use crate::PROGRAMS;

#[test]
fn two_agents_share_a_job_and_every_result_is_there_once() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &["site=north"]);
    cluster.add_agent("south", 1, &["site=south"]);

    let module = functions().join("modules/text-stats.wasm");
    let published = cluster.lull(&["func", "publish", text(&module), "-o", "json"]).json();
    assert_eq!(published["function"], "text-stats");
    assert_eq!(published["number"], 1);
    let again = cluster.lull(&["func", "publish", text(&module), "-o", "json"]).json();
    assert_eq!(again["number"], 1, "the same module is the same version");

    let documents = functions().join("inputs/documents");
    let count = std::fs::read_dir(&documents).expect("sample documents").count();
    let job = cluster.lull(&["submit", "text-stats", text(&documents), "-o", "id"]).out.trim().to_owned();
    cluster.lull(&["wait", &job, "--timeout", "90s"]);
    let shown = cluster.job(&job);
    assert_eq!(shown["state"], "succeeded");
    assert_eq!(shown["counts"]["succeeded"], count);

    let out = cluster.path("out");
    cluster.lull(&["job", "results", &job, "--out", text(&out)]);
    assert_eq!(std::fs::read_dir(&out).expect("results").count(), count + 1, "the results and their manifest");
    let tasks = cluster.lull(&["task", "list", &job, "-o", "json"]).json();
    for task in tasks["tasks"].as_array().expect("tasks") {
        assert_eq!(task["state"], "succeeded");
        assert_eq!(task["failures"], 0);
    }
}

#[test]
fn explain_says_for_each_agent_why_a_task_is_not_there() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &["site=north"]);
    let echo = lull_tests::cluster::module(cluster.path("").as_path(), "echo", &fixture("echo"));
    cluster.lull(&["func", "publish", text(&echo)]);

    let job = submit(&cluster, &["echo", "--array", "0-4", "--require", "site=south"]);
    let explained = cluster.lull(&["explain", &format!("{job}.0")]).out;
    assert!(explained.contains("site=south") && explained.contains("north"), "{explained}");

    cluster.lull(&["agent", "cordon", "north"]);
    let job = submit(&cluster, &["echo", "--array", "0-4"]);
    let explained = cluster.lull(&["explain", &format!("{job}.0")]).out;
    assert!(explained.contains("cordoned"), "{explained}");

    let after = submit(&cluster, &["echo", "--array", "0-4", "--after", &format!("ok:{job}")]);
    let explained = cluster.lull(&["explain", &format!("{after}.0")]).out;
    assert!(explained.contains("waits for"), "{explained}");

    cluster.lull(&["agent", "uncordon", "north"]);
    cluster.lull(&["wait", &after, "--timeout", "90s"]);
}

#[test]
fn a_paused_agent_runs_nothing_and_goes_on_when_resumed() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let echo = lull_tests::cluster::module(cluster.path("").as_path(), "echo", &fixture("echo"));
    cluster.lull(&["func", "publish", text(&echo)]);
    cluster.agent_says("desk", &["pause"]).ok();
    let job = submit(&cluster, &["echo", "--array", "0-4"]);
    let explained = || cluster.lull(&["explain", &format!("{job}.0")]).out;
    lull_tests::cluster::wait_until("the pause is known", || explained().contains("paused"), explained);
    assert_eq!(cluster.job(&job)["counts"]["succeeded"], 0);
    let summed = || cluster.lull(&["explain", &job, "-o", "json"]).json();
    let paused = || summed()["summary"] == "desk is paused by its owner";
    lull_tests::cluster::wait_until("the job says so in one line", paused, || summed().to_string());
    let late = cluster.try_lull(&["wait", &job, "--timeout", "8s"]);
    assert_eq!(late.code, 6, "{}", late.err);
    assert!(late.err.contains(&format!("{job}: desk is paused by its owner")), "{}", late.err);
    cluster.agent_says("desk", &["resume"]).ok();
    cluster.lull(&["wait", &job, "--timeout", "90s"]);
}

fn submit(cluster: &Cluster, arguments: &[&str]) -> String {
    let arguments = [&["submit", "-o", "id"], arguments].concat();
    cluster.lull(&arguments).out.trim().to_owned()
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(functions().join(format!("fixtures/{name}.wat"))).expect("a fixture")
}
