//! A cut network throws nobody's work away.

use std::time::{Duration, Instant};

use lull_tests::{
    cluster::{Cluster, FIRST, functions, module, text, wait_until},
    proxy::{Cable, Proxy},
};
use serde_json::Value;

use crate::PROGRAMS;

const AGENTS: [&str; 4] = ["north", "east", "south", "west"];
/// Slots of each, with a task in each of them.
const SLOTS: u16 = 50;
const TASKS: usize = AGENTS.len() * SLOTS as usize;
/// As when a switch is restarted.
const CUT: Duration = Duration::from_secs(45);

#[test]
fn a_coordinator_cut_off_for_45_seconds_under_200_running_tasks_loses_no_attempt_and_counts_each_result_once() {
    let mut cluster = Cluster::prepared(PROGRAMS);
    let proxy = Proxy::to(cluster.mesh_port(FIRST));
    cluster.announce(FIRST, &proxy.multiaddr());
    cluster.start_server();
    for agent in AGENTS {
        cluster.add_agent(agent, SLOTS, &[]);
    }
    let job = submit(&cluster);
    cluster.wait_for_job(&job, "all of it runs", |job| job["counts"]["running"] == TASKS && all_started(&cluster));

    proxy.set(Cable::Cut);
    let cut = Instant::now();
    wait_until("it knows that it is cut off", || outage(&cluster)["kind"] == "cut_off", || outage(&cluster).to_string());
    println!("cut off was known after {:?}", cut.elapsed());
    let unreachable = |job: &Value| job["unreachable"] == TASKS && job["counts"]["running"] == TASKS;
    cluster.wait_for_job(&job, "its tasks are unreachable", unreachable);
    let explained = cluster.lull(&["explain", &format!("{job}.0"), "-o", "json"]).json();
    assert_eq!(explained["second_copy"]["kind"], "cut_off", "{explained}");
    wait_until("the switch is back", || cut.elapsed() >= CUT, String::new);
    proxy.set(Cable::Whole);

    wait_until("everybody is back", || outage(&cluster).is_null(), || outage(&cluster).to_string());
    println!("everybody was back {:?} after the cut", cut.elapsed() - CUT);
    cluster.lull(&["wait", &job, "--timeout", "120s"]);
    let shown = cluster.job(&job);
    assert_eq!((&shown["state"], &shown["counts"]["succeeded"]), (&"succeeded".into(), &TASKS.into()), "{shown}");
    let results = cluster.lull(&["job", "results", &job, "-o", "json"]).json();
    assert_eq!(results["results"].as_array().map(Vec::len), Some(TASKS), "each result once");
    let totals = cluster.lull(&["status", "-o", "json"]).json()["totals"].clone();
    assert_eq!((&totals["attempts_lost"], &totals["results_refused"]), (&0.into(), &0.into()), "{totals}");
    let tasks = cluster.lull(&["task", "list", &job, "--limit", "10000", "-o", "json"]).json();
    for task in tasks["tasks"].as_array().expect("tasks") {
        assert_eq!((&task["attempts"], &task["failures"]), (&1.into(), &0.into()), "none of it was done again: {task}");
    }
}

/// Half of the tasks end during the cut, and half of them after it.
fn submit(cluster: &Cluster) -> String {
    let text_form = std::fs::read_to_string(functions().join("fixtures/sleep.wat")).expect("a fixture");
    let sleep = module(cluster.path("").as_path(), "sleep", &text_form);
    cluster.lull(&["func", "publish", text(&sleep)]);
    let lines = cluster.path("lines");
    let seconds = |task: usize| if task.is_multiple_of(2) { 40 } else { 75 };
    std::fs::write(&lines, (0..TASKS).map(|task| format!("{}\n", seconds(task))).collect::<String>()).expect("written");
    let submit = ["submit", "sleep", "--each-line", text(&lines), "--grant", "clock", "--memory", "1MiB", "--retries", "0"];
    cluster.lull(&[submit.as_slice(), &["-o", "id"]].concat()).out.trim().to_owned()
}

fn outage(cluster: &Cluster) -> Value {
    cluster.lull(&["status", "-o", "json"]).json()["outage"].clone()
}

/// Whether every slot of every agent is busy.
fn all_started(cluster: &Cluster) -> bool {
    let agents = cluster.lull(&["agent", "list", "-o", "json"]).json();
    let agents = agents["agents"].as_array().expect("agents");
    agents.iter().all(|agent| agent["capacity"]["slots_busy"] == SLOTS)
}
