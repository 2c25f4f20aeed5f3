//! What an agent does for its owner, as far as it can be seen from outside.

use std::time::Duration;

use lull_tests::{
    cluster::{Cluster, functions, module, text, wait_until},
    processes,
};

use crate::PROGRAMS;

/// One agent that is there for the owner's sake, and a job that takes a while.
fn working(cluster: &mut Cluster, tasks: usize, rounds: u64) -> String {
    cluster.add_agent("desk", 2, &[]);
    let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let busy = module(cluster.path("").as_path(), "busy", &text_form);
    cluster.lull(&["func", "publish", text(&busy)]);
    let lines = cluster.path("lines");
    std::fs::write(&lines, format!("{rounds}\n").repeat(tasks)).expect("written");
    let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
    // An agent that has just come offers what the default policy allows at this hour, until it has read that all is.
    cluster.wait_for_job(&job, "all run", |job| job["counts"]["running"] == tasks);
    wait_for_executors(cluster, "they run", |pid| processes::cpu_of_tree(pid) > Duration::from_millis(100));
    job
}

/// Waits until there are executors and all are so.
fn wait_for_executors(cluster: &Cluster, what: &str, are: impl Fn(u32) -> bool) {
    let executors = || processes::children(cluster.agent_pid("desk"));
    let all = || !executors().is_empty() && executors().into_iter().all(&are);
    wait_until(what, all, || cluster.agent_says("desk", &["status"]).out);
}

#[test]
fn a_bumped_desk_pauses_and_goes_on_and_an_owner_who_is_back_gets_the_memory_too() {
    let mut cluster = Cluster::start(PROGRAMS);
    let job = working(&mut cluster, 2, 100_000);
    cluster.agent_says("desk", &["policy", "set", "idle=10m", "grace=3s", "beside_owner=false"]).ok();
    wait_for_executors(&cluster, "they go on, as nobody was there for a day", |pid| !processes::is_stopped(pid));
    cluster.owner("desk", r#"{"input": true}"#);
    // What froze is thawed again by itself: the moment between may be missed here, the log has it.
    let log = || std::fs::read_to_string(cluster.path("desk.log")).expect("a log");
    wait_until("it says that it is touched", || log().contains("its keyboard or mouse moved"), log);
    let after = |words: &str| log().split_once(words).is_some_and(|(_, rest)| rest.contains("resumed"));
    wait_until("it goes on", || after("its keyboard or mouse moved"), log);
    wait_for_executors(&cluster, "they run again", |pid| !processes::is_stopped(pid));
    let shown = cluster.job(&job);
    assert_eq!(shown["moved"], 0, "a bump evicts nothing: {shown}");

    cluster.owner("desk", r#"{"input": true}"#);
    let because = |words: &str| cluster.lull(&["agent", "show", "desk"]).out.contains(words);
    wait_until("the second touch is the owner's", || because("its owner uses it"), log);
    let executors = || processes::children(cluster.agent_pid("desk"));
    wait_until("after the grace period the memory is given back", || executors().is_empty(), log);
    cluster.wait_for_job(&job, "it waits for another place", |job| job["counts"]["queued"] == 2);
    let explained = cluster.lull(&["explain", &format!("{job}.0")]).out;
    assert!(explained.contains("its owner uses it; it works after 10m without input"), "{explained}");

    cluster.agent_says("desk", &["policy", "reset"]).ok();
    wait_for_executors(&cluster, "they work again", |pid| processes::cpu_of_tree(pid) > Duration::from_millis(100));
    cluster.wait_for_job(&job, "all run again", |job| job["counts"]["running"] == 2);
    assert_eq!(cluster.lull(&["task", "list", &job, "-o", "json"]).json()["tasks"][0]["failures"], 0);
}

#[test]
fn a_machine_that_goes_to_sleep_gives_its_work_away_first() {
    let mut cluster = Cluster::start(PROGRAMS);
    let job = working(&mut cluster, 2, 100_000);
    cluster.owner("desk", r#"{"announce": "sleep"}"#);
    let executors = || processes::children(cluster.agent_pid("desk"));
    wait_until("nothing is left", || executors().is_empty(), || cluster.agent_says("desk", &["status"]).out);
    cluster.wait_for_job(&job, "it waits for another place", |job| job["counts"]["queued"] == 2);
    assert!(cluster.agent_says("desk", &["status"]).out.contains("paused: it goes to sleep"));
    cluster.owner("desk", r#"{"announce": "awake"}"#);
    wait_for_executors(&cluster, "it works again", |pid| processes::cpu_of_tree(pid) > Duration::from_millis(100));
}

#[test]
fn beside_its_owner_a_machine_works_in_as_many_slots_as_there_is_room_for() {
    let mut cluster = Cluster::start(PROGRAMS);
    let job = working(&mut cluster, 2, 100_000);
    let frozen = || {
        let pids = processes::children(cluster.agent_pid("desk"));
        pids.len() == 2 && pids.into_iter().filter(|pid| processes::is_stopped(*pid)).count() == 1
    };
    let status = || cluster.agent_says("desk", &["status"]).out;
    cluster.agent_says("desk", &["policy", "set", "hours=never", "beside_cores=10"]).ok();
    wait_until("one of two goes on", frozen, status);
    assert!(status().contains("beside its owner"), "{}", status());
    cluster.wait_for_job(&job, "one is paused", |job| job["counts"]["paused"] == 1 && job["counts"]["running"] == 1);
    cluster.agent_says("desk", &["policy", "reset"]).ok();
    cluster.wait_for_job(&job, "both run", |job| job["counts"]["running"] == 2);
}

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
