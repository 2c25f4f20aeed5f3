//! Running functions that go on on another machine.

use std::time::Duration;

use lull_tests::{
    cluster::{Cluster, functions, text, wait_until},
    processes,
};
use serde_json::Value;

use crate::PROGRAMS;

const MOVES: usize = 10;

fn attempts(cluster: &Cluster, job: &str) -> Vec<Value> {
    let shown = cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json();
    shown["history"].as_array().expect("attempts").clone()
}

/// The one agent whose executor has had that much processor time.
fn where_it_works(cluster: &Cluster) -> Option<&'static str> {
    ["left", "right"].into_iter().find(|agent| {
        let executors = processes::children(cluster.agent_pid(agent));
        executors.into_iter().any(|pid| processes::cpu_of_tree(pid) > Duration::from_millis(60))
    })
}

/// Two agents with a slot each, and a function that can be moved between them.
fn two_desks() -> Cluster {
    two_desks_set("")
}

/// The same with these settings in their `agent.toml`.
fn two_desks_set(settings: &str) -> Cluster {
    let mut cluster = Cluster::start(PROGRAMS);
    for agent in ["left", "right"] {
        cluster.enrol_agent(agent, 1, &[]);
        std::fs::write(cluster.path(agent).join("agent.toml"), settings).expect("written");
        cluster.start_agent(agent);
    }
    let published =
        cluster.lull(&["func", "publish", text(&functions().join("modules/monte-carlo.wasm")), "--migratable", "always"]);
    assert!(published.err.contains("can be moved while they run"), "{}", published.err);
    cluster
}

fn submit(cluster: &Cluster, moving: &str) -> String {
    let job = ["submit", "monte-carlo", "--array", "7-7", "--move", moving, "-o", "id", "--", "--paths", "1500000"];
    cluster.lull(&job).out.trim().to_owned()
}

fn result(cluster: &Cluster, job: &str) -> Value {
    cluster.lull(&["job", "results", job, "-o", "json"]).json()["results"][0]["output"].clone()
}

#[test]
fn publishing_with_a_sample_measures_what_moving_costs() {
    let cluster = Cluster::start(PROGRAMS);
    let folder = tempfile::tempdir().expect("a folder");
    let (sample, module) = (folder.path().join("seven"), functions().join("modules/monte-carlo.wasm"));
    std::fs::write(&sample, "7").expect("a file");
    let publish = |paths: &str| {
        let command = ["func", "publish", text(&module), "--sample", text(&sample), "-o", "json", "--", "--paths", paths];
        cluster.try_lull(&command)
    };
    let refused = publish("many");
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("the function failed on the sample"), "{}", refused.err);
    assert_eq!(cluster.lull(&["func", "list", "-o", "json"]).json()["functions"], Value::Array(Vec::new()));
    let published = publish("20000");
    assert!(published.err.contains("of processor time the plain build needed"), "{}", published.err);
    let build = &published.json()["migratable"];
    assert_eq!(build["measured"], true, "{build}");
    assert!(build["cost_percent"].as_u64().is_some_and(|percent| percent >= 50), "{build}");
}

#[test]
fn a_drained_agent_hands_over_what_it_runs() {
    hands_over(&two_desks());
}

#[test]
fn agents_that_listen_nowhere_hand_over_by_way_of_the_coordinator() {
    let cluster = two_desks_set("listen = []\n");
    hands_over(&cluster);
    let traffic = cluster.lull(&["net", "agents", "-o", "json"]).json();
    let agents = traffic["agents"].as_array().unwrap_or_else(|| panic!("{traffic}"));
    assert!(agents.iter().all(|agent| agent["from_agents_bytes"] == 0), "neither can be dialled: {traffic}");
}

fn hands_over(cluster: &Cluster) {
    let job = submit(cluster, "always");
    let explain = || cluster.lull(&["task", "show", &format!("{job}.0")]).out;
    wait_until("it works somewhere", || where_it_works(cluster).is_some(), explain);
    let here = where_it_works(cluster).expect("it works");
    let explained = cluster.lull(&["explain", &format!("{job}.0")]).out;
    assert!(explained.contains("migratable: the job was submitted so"), "{explained}");
    let drained = cluster.lull(&["agent", "drain", here]);
    assert!(drained.err.contains("1 attempt asked back"), "{}", drained.err);
    cluster.wait_for_job(&job, "it ends elsewhere", |job| job["counts"]["succeeded"] == 1);
    let history = attempts(cluster, &job);
    assert_eq!(history.len(), 2, "{history:#?}");
    assert_eq!((&history[0]["end"], &history[0]["agent_name"]), (&Value::from("recalled"), &Value::from(here)));
    assert_eq!(history[0]["reason"], "it was taken back because its agent drains");
    assert!(history[1]["resumed"]["spent_ms"].as_u64().is_some_and(|spent| spent > 0), "{history:#?}");
    let shown = cluster.lull(&["job", "show", &job]).out;
    let listed = shown.lines().find(|line| line.ends_with("its agent drains")).unwrap_or_else(|| panic!("no move: {shown}"));
    assert!(listed.contains(here), "{shown}");
    let used = &history[0]["usage"];
    assert!(used["wall_us"].as_u64().is_some_and(|time| time > 0), "what was taken back is listed with what it used: {used}");
}

#[test]
fn a_running_function_that_moves_ten_times_gives_the_result_of_an_undisturbed_run() {
    let cluster = two_desks();
    let plain = submit(&cluster, "never");
    cluster.wait_for_job(&plain, "it ends undisturbed", |job| job["counts"]["succeeded"] == 1);

    let job = submit(&cluster, "always");
    let explain = || cluster.lull(&["task", "show", &format!("{job}.0")]).out;
    let mut moves = 0;
    while moves < MOVES {
        let ended = || cluster.job(&job)["counts"]["succeeded"] == 1;
        wait_until("it works somewhere", || where_it_works(&cluster).is_some() || ended(), explain);
        let Some(here) = where_it_works(&cluster) else { break };
        let before = attempts(&cluster, &job).len();
        cluster.owner(here, r#"{"announce": "sleep"}"#);
        wait_until("it has left", || attempts(&cluster, &job).len() > before || ended(), explain);
        // One that is about to end would be taken for one that works.
        wait_until("nothing is left", || processes::children(cluster.agent_pid(here)).is_empty(), explain);
        cluster.owner(here, r#"{"announce": "awake"}"#);
        moves += 1;
    }
    cluster.wait_for_job(&job, "it ends", |job| job["counts"]["succeeded"] == 1);
    let moved = result(&cluster, &job);
    assert_eq!(moved, result(&cluster, &plain));
    assert!(moved.to_string().contains("portfolio"), "{moved}");

    let history = attempts(&cluster, &job);
    assert!(history.len() > MOVES / 2, "it ended before it was moved often: {history:#?}");
    let (last, earlier) = history.split_last().expect("attempts");
    assert!(earlier.iter().all(|attempt| attempt["end"] == "evicted" && attempt["build"] == "migratable"), "{earlier:#?}");
    assert_eq!(last["end"], "succeeded");
    // One that was taken away before it had begun leaves nothing to go on from.
    let spent: Vec<u64> = history.iter().filter_map(|attempt| attempt["resumed"]["spent_ms"].as_u64()).collect();
    assert!(spent.len() + 2 >= history.len(), "it began anew: {history:#?}");
    assert!(spent.is_sorted() && spent.last() > spent.first(), "something was done twice: {spent:?}");
    assert_eq!(cluster.lull(&["task", "list", &job, "-o", "json"]).json()["tasks"][0]["failures"], 0);
}
