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
fn what_has_ended_says_how_and_why() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let folder = cluster.path("");
    for name in ["echo", "exit3"] {
        let module = lull_tests::cluster::module(folder.as_path(), name, &fixture(name));
        cluster.lull(&["func", "publish", text(&module)]);
    }
    cluster.lull(&["agent", "cordon", "desk"]);
    let failed = submit(&cluster, &["exit3", "--array", "0-1", "--retries", "0"]);
    let needy = submit(&cluster, &["echo", "--array", "0-1", "--after", &format!("ok:{failed}")]);
    let cancelled = submit(&cluster, &["echo", "--array", "0-1"]);
    let expired = submit(&cluster, &["echo", "--array", "0-1", "--finish-by", "in 1s"]);
    let queued = cluster.try_lull(&["job", "results", &cancelled, "--task", "0"]);
    assert!(queued.code == 3 && queued.err.contains("has no output: it is queued"), "{}", queued.err);
    cluster.lull(&["job", "cancel", &cancelled]);
    assert_eq!(cluster.try_lull(&["wait", &expired, "--timeout", "90s"]).code, 1);
    cluster.lull(&["agent", "uncordon", "desk"]);
    assert_eq!(cluster.try_lull(&["wait", &needy, "--timeout", "90s"]).code, 7);
    let well = submit(&cluster, &["echo", "--array", "0-1"]);
    cluster.lull(&["wait", &well, "--timeout", "90s"]);

    let list = cluster.lull(&["job", "list"]).out;
    let because = format!("the job was stopped because {failed}, which it needs to succeed, failed");
    for (job, whole, of_task) in [
        (&failed, "all its 2 tasks failed", "it failed: "),
        (&needy, because.as_str(), because.as_str()),
        (&cancelled, "the job was cancelled by admin", "the job was cancelled by admin"),
        (&expired, "the job was to finish by ", "the job was to finish by "),
    ] {
        let shown = cluster.lull(&["job", "show", job]).out;
        let explained = cluster.lull(&["explain", job]).out;
        let task = cluster.lull(&["explain", &format!("{job}.0")]).out;
        assert!(shown.contains(whole) && explained.contains(whole), "{shown}{explained}");
        assert!(task.contains(of_task), "{task}");
        let line = list.lines().find(|line| line.starts_with(&format!("{job} "))).unwrap_or_else(|| panic!("{list}"));
        assert!(line.contains(whole), "{line}");
        assert!(!shown.contains("finish_by") && !explained.contains("finish_by"), "{shown}{explained}");
    }
    let tasks = cluster.lull(&["task", "list", &cancelled]).out;
    assert!(tasks.contains("the job was cancelled by admin"), "{tasks}");
    let well = cluster.lull(&["explain", &well]).out + &cluster.lull(&["explain", &format!("{well}.0")]).out;
    assert!(well.contains("all its 2 tasks succeeded") && well.contains("it succeeded on desk"), "{well}");
    let gone = cluster.try_lull(&["job", "results", &cancelled, "--task", "0"]);
    assert!(gone.err.contains("has no output: it was cancelled"), "{}", gone.err);
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
