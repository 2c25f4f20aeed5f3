//! Snapshots outlive the machine that made them.

use std::{fs, time::Duration};

use lull_tests::{
    cluster::{Cluster, functions, text, wait_until},
    processes,
};
use serde_json::Value;

use crate::PROGRAMS;

/// A cluster with a function that can be moved, and what it gives when nothing disturbs it.
fn cluster(agents: &[&str], settings: &str) -> Cluster {
    let mut cluster = Cluster::start(PROGRAMS);
    for agent in agents {
        cluster.enrol_agent(agent, 1, &[]);
        fs::write(cluster.path(agent).join("agent.toml"), settings).expect("written");
        cluster.start_agent(agent);
    }
    let module = functions().join("modules/monte-carlo.wasm");
    cluster.lull(&["func", "publish", text(&module), "--migratable", "always"]);
    cluster
}

/// A task of some seconds; its job.
fn submit(cluster: &Cluster, moving: &str) -> String {
    let job = ["submit", "monte-carlo", "--array", "7-7", "--move", moving, "-o", "id", "--", "--paths", "4000000"];
    cluster.lull(&job).out.trim().to_owned()
}

fn result(cluster: &Cluster, job: &str) -> Value {
    cluster.wait_for_job(job, "it ends", |job| job["counts"]["succeeded"] == 1);
    cluster.lull(&["job", "results", job, "-o", "json"]).json()["results"][0]["output"].clone()
}

fn history(cluster: &Cluster, job: &str) -> Vec<Value> {
    let shown = cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json();
    shown["history"].as_array().expect("attempts").clone()
}

fn snapshots(cluster: &Cluster, agent: &str) -> u64 {
    cluster.lull(&["agent", "show", agent, "-o", "json"]).json()["snapshots"].as_u64().expect("a number")
}

fn works(cluster: &Cluster, agent: &str) -> bool {
    let executors = processes::children(cluster.agent_pid(agent));
    executors.into_iter().any(|pid| processes::cpu_of_tree(pid) > Duration::from_millis(60))
}

/// The second attempt went on from what the first had done.
fn check_moved(cluster: &Cluster, job: &str, end: &str) {
    let history = history(cluster, job);
    assert_eq!((history.len(), history[0]["end"].as_str()), (2, Some(end)), "{history:#?}");
    assert!(history[1]["resumed"]["spent_ms"].as_u64() > Some(0), "it began anew: {history:#?}");
}

#[test]
fn a_machine_that_is_lost_with_its_disk_costs_only_what_was_done_since_its_last_snapshot() {
    let mut cluster = cluster(&["one", "two"], "snapshot_every = \"300ms\"\n");
    let undisturbed = submit(&cluster, "never");
    let undisturbed = result(&cluster, &undisturbed);
    let job = submit(&cluster, "always");
    let explain = || format!("{:#?}", history(&cluster, &job));
    let kept = || ["one", "two"].map(|agent| snapshots(&cluster, agent));
    wait_until("both keep a snapshot", || kept().iter().all(|count| *count > 0), explain);
    let maker = if works(&cluster, "one") { "one" } else { "two" };
    assert!(works(&cluster, maker), "it ended too soon: {}", explain());
    cluster.kill_agent(maker);
    fs::remove_dir_all(cluster.path(maker)).expect("its disk is gone");
    assert_eq!(result(&cluster, &job), undisturbed);
    check_moved(&cluster, &job, "cancelled");
    let other = if maker == "one" { "two" } else { "one" };
    wait_until("nothing is kept of a task that has ended", || snapshots(&cluster, other) == 0, String::new);
}

#[test]
fn an_agent_that_stops_in_good_order_takes_nothing_with_it() {
    let mut cluster = cluster(&["leaver", "stays"], "");
    cluster.lull(&["agent", "cordon", "stays"]);
    let job = submit(&cluster, "always");
    wait_until("it works", || works(&cluster, "leaver"), || format!("{:#?}", history(&cluster, &job)));
    cluster.lull(&["agent", "uncordon", "stays"]);
    processes::terminate(cluster.agent_pid("leaver"));
    assert_eq!(cluster.agent_ends("leaver"), Some(0));
    fs::remove_dir_all(cluster.path("leaver")).expect("its disk is gone");
    result(&cluster, &job);
    check_moved(&cluster, &job, "evicted");
}

#[test]
fn the_coordinator_keeps_what_no_agent_can() {
    let mut cluster = cluster(&["alone"], "");
    let job = submit(&cluster, "always");
    wait_until("it works", || works(&cluster, "alone"), || format!("{:#?}", history(&cluster, &job)));
    processes::terminate(cluster.agent_pid("alone"));
    assert_eq!(cluster.agent_ends("alone"), Some(0));
    fs::remove_dir_all(cluster.path("alone")).expect("its disk is gone");
    // Its copy outlives the coordinator's process as well.
    cluster.kill_server();
    cluster.start_server();
    cluster.add_agent("other", 1, &[]);
    result(&cluster, &job);
    check_moved(&cluster, &job, "evicted");
    let folder = cluster.path("server/snapshots");
    let left = || fs::read_dir(&folder).expect("the folder").count();
    wait_until("nothing is kept of a task that has ended", || left() == 0, || left().to_string());
}
