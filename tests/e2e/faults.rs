//! Processes and cables that fail in mid-job: every result is there exactly once.

use std::time::{Duration, Instant};

use lull_tests::{
    cluster::{Cluster, FIRST, functions, module, text, wait_until},
    processes,
    proxy::{Cable, Proxy},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{PROGRAMS, busy::Busy};

#[test]
fn an_agent_killed_in_mid_job_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("victim", 1, &[]);
    cluster.add_agent("survivor", 1, &[]);
    let busy = Busy::submit(&cluster, 60);
    busy.wait_for(&cluster, 5);
    cluster.kill_agent("victim");
    let killed = Instant::now();
    wait_until("what it had is done elsewhere", || !has_attempts(&cluster, "victim"), || shown(&cluster, "victim"));
    println!("a killed agent was replaced after {:?}", killed.elapsed());
    busy.finish(&cluster);
    assert!(!cluster.agent_connected("victim"));
}

/// LULL_SEED repeats the instants of a run.
#[test]
fn a_coordinator_killed_at_any_instant_goes_on_where_it_was() {
    let seed = std::env::var("LULL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("LULL_SEED={seed}");
    let mut instants = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &[]);
    cluster.add_agent("south", 1, &[]);
    let busy = Busy::submit(&cluster, 60);
    for done in [1, 10, 25, 40] {
        busy.wait_for(&cluster, done);
        std::thread::sleep(Duration::from_millis(instants.random_range(0..150)));
        cluster.kill_server();
        std::thread::sleep(Duration::from_millis(instants.random_range(0..300)));
        cluster.start_server();
    }
    busy.finish(&cluster);
}

#[test]
fn both_killed_at_once_come_back_and_finish() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &[]);
    let busy = Busy::submit(&cluster, 40);
    busy.wait_for(&cluster, 5);
    cluster.kill_server();
    cluster.kill_agent("north");
    // The end of the outbox as a power cut leaves it: half a record.
    let outbox = cluster.path("north").join("outbox/outbox.log");
    let mut torn = std::fs::read(&outbox).expect("an outbox");
    torn.extend_from_slice(&[200, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&outbox, torn).expect("written");
    cluster.start_server();
    cluster.start_agent("north");
    busy.finish(&cluster);
}

#[test]
fn a_frozen_agent_is_replaced_within_seconds_and_does_no_harm_when_it_wakes() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("sleeper", 1, &[]);
    cluster.add_agent("waker", 1, &[]);
    let busy = Busy::submit(&cluster, 120);
    busy.wait_for(&cluster, 5);
    wait_until("it has something to do", || has_attempts(&cluster, "sleeper"), || shown(&cluster, "sleeper"));
    processes::freeze(cluster.agent_pid("sleeper"));
    let frozen = Instant::now();
    wait_until("what it had is done elsewhere", || !has_attempts(&cluster, "sleeper"), || shown(&cluster, "sleeper"));
    println!("a frozen agent was replaced after {:?}", frozen.elapsed());
    processes::thaw(cluster.agent_pid("sleeper"));
    wait_until("it works again", || has_attempts(&cluster, "sleeper"), || shown(&cluster, "sleeper"));
    busy.finish(&cluster);
    assert_eq!(totals(&cluster, "attempts_lost"), 0, "silence ends nothing");
    println!("{} late results were refused", totals(&cluster, "results_refused"));
}

#[test]
fn a_cable_that_breaks_or_stalls_costs_no_result_and_no_result_counts_twice() {
    let mut cluster = Cluster::prepared(PROGRAMS);
    let proxy = Proxy::to(cluster.mesh_port(FIRST));
    cluster.announce(FIRST, &proxy.multiaddr());
    cluster.start_server();
    cluster.add_agent("far", 1, &[]);
    cluster.enrol_agent("near", 1, &[]);
    let membership = cluster.path("near").join("membership.json");
    let direct = std::fs::read_to_string(&membership).expect("a membership");
    std::fs::write(&membership, direct.replace(&proxy.multiaddr(), &cluster.mesh_address(FIRST))).expect("written");
    cluster.start_agent("near");
    let busy = Busy::submit(&cluster, 200);
    busy.wait_for(&cluster, 5);

    wait_until("it has something to do", || has_attempts(&cluster, "far"), || shown(&cluster, "far"));
    proxy.set(Cable::Cut);
    let cut = Instant::now();
    wait_until("what it had is done elsewhere", || !has_attempts(&cluster, "far"), || shown(&cluster, "far"));
    println!("an agent behind a cut cable was replaced after {:?}", cut.elapsed());
    proxy.set(Cable::Whole);
    wait_until("it is back at work", || has_attempts(&cluster, "far"), || shown(&cluster, "far"));

    let refused = totals(&cluster, "results_refused");
    proxy.set(Cable::Stalled);
    let stalled = Instant::now();
    wait_until("what it had is done elsewhere", || !has_attempts(&cluster, "far"), || shown(&cluster, "far"));
    println!("an agent behind a stalled cable was replaced after {:?}", stalled.elapsed());
    proxy.set(Cable::Whole);
    let late = || totals(&cluster, "results_refused") > refused;
    wait_until("its late results are refused and counted", late, || shown(&cluster, "far"));
    busy.finish(&cluster);
}

#[test]
fn an_agent_that_is_told_to_stop_hands_its_task_over_before_it_ends() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("leaver", 1, &[]);
    let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let busy = module(cluster.path("").as_path(), "busy", &text_form);
    cluster.lull(&["func", "publish", text(&busy)]);
    let lines = cluster.path("lines");
    std::fs::write(&lines, "2000\n").expect("written");
    let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
    cluster.wait_for_job(&job, "it runs", |job| job["counts"]["running"] == 1);
    cluster.add_agent("stays", 1, &[]);
    let told = Instant::now();
    processes::terminate(cluster.agent_pid("leaver"));
    let history = || cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json()["history"].clone();
    let newest = |history: &serde_json::Value| history.as_array().and_then(|list| list.last().cloned()).unwrap_or_default();
    let handed_over = || newest(&history())["agent_name"] == "stays";
    wait_until("the other agent has it", handed_over, || history().to_string());
    println!("a stopping agent's task was with another after {:?}", told.elapsed());
    let first = history()[0].clone();
    assert_eq!((first["end"].as_str(), first["agent_name"].as_str()), (Some("evicted"), Some("leaver")), "{first}");
    assert_eq!(cluster.agent_ends("leaver"), Some(0));
    cluster.lull(&["wait", &job, "--timeout", "120s"]);
    let task = cluster.lull(&["task", "list", &job, "-o", "json"]).json()["tasks"][0].clone();
    assert_eq!((task["attempts"].as_u64(), task["failures"].as_u64()), (Some(2), Some(0)), "no retry was spent: {task}");
}

#[test]
fn a_store_that_refuses_for_a_while_costs_nothing_but_time() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let busy = Busy::submit(&cluster, 60);
    busy.wait_for(&cluster, 5);
    let mut database = rusqlite::Connection::open(cluster.path(FIRST).join("lull.db")).expect("the store");
    let held = database.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).expect("the lock");
    let log = || std::fs::read_to_string(cluster.path("server.log")).unwrap_or_default();
    wait_until("the store refuses a commit", || log().contains("the store refused a commit"), log);
    wait_until("people are told so", || cluster.try_lull(&["job", "list"]).code == 5, log);
    // Whoever begins to wait meanwhile goes on waiting.
    let waiting = cluster.command(PROGRAMS.lull, &["wait", &busy.job, "--timeout", "120s"]).spawn().expect("it starts");
    drop(held);
    let waited = waiting.wait_with_output().expect("it ends");
    assert!(waited.status.success(), "{waited:?}");
    busy.finish(&cluster);
}

fn shown(cluster: &Cluster, agent: &str) -> String {
    cluster.try_lull(&["agent", "show", agent, "-o", "json"]).out
}

/// Whether the coordinator counts on something that is with this agent.
fn has_attempts(cluster: &Cluster, agent: &str) -> bool {
    let shown = cluster.lull(&["agent", "show", agent, "-o", "json"]).json();
    shown["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty())
}

fn totals(cluster: &Cluster, what: &str) -> u64 {
    cluster.lull(&["status", "-o", "json"]).json()["totals"][what].as_u64().expect("a number")
}
