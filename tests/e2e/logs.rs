//! Logs of what runs, and of what was killed.

use lull_tests::cluster::{Cluster, module, text, wait_until};
use serde_json::Value;

use crate::PROGRAMS;

/// Says two lines and runs until it is stopped.
const TALKS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "first line\nsecond \c3\a4\n")
  (data (i32.const 0) "\10\00\00\00\15\00\00\00")
  (func (export "_start")
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $l (br $l))))"#;
const SAID: &str = "first line\nsecond ä\n";

fn submitted(cluster: &Cluster, more: &[&str]) -> String {
    let talks = module(cluster.path("").as_path(), "talks", TALKS);
    cluster.lull(&["func", "publish", text(&talks)]);
    let submit = ["submit", "talks", "--array", "0", "-o", "id"];
    cluster.lull(&[&submit, more].concat()).out.trim().to_owned()
}

fn log(cluster: &Cluster, job: &str) -> Value {
    let said = cluster.try_lull(&["task", "logs", &format!("{job}.0"), "-o", "json"]);
    if said.code == 0 { said.json() } else { Value::Null }
}

fn attempt(cluster: &Cluster, job: &str) -> Value {
    cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json()["history"][0].clone()
}

#[test]
fn the_log_of_a_running_task_is_read_and_that_of_a_cancelled_one_is_kept_with_its_usage() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let job = submitted(&cluster, &[]);
    wait_until("what it said is read while it runs", || log(&cluster, &job)["text"] == SAID, || log(&cluster, &job).to_string());
    assert_eq!(log(&cluster, &job)["live"], true);
    assert_eq!(cluster.lull(&["job", "logs", &job]).out, format!("{job}.0 first line\n{job}.0 second ä\n"));

    let follower = cluster.command(PROGRAMS.lull, &["task", "logs", "-f", &format!("{job}.0")]);
    let follower = { follower }.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    cluster.lull(&["job", "cancel", &job]);
    wait_until("it is stopped", || attempt(&cluster, &job)["end"] == "cancelled", || attempt(&cluster, &job).to_string());
    let kept = log(&cluster, &job);
    assert_eq!((&kept["text"], &kept["live"]), (&SAID.into(), &false.into()), "{kept}");
    let usage = attempt(&cluster, &job)["usage"].clone();
    assert!(usage["cpu_us"].as_u64() > Some(0) && usage["memory_peak_bytes"].as_u64() >= Some(65_536), "{usage}");
    let followed = follower.wait_with_output().expect("it ends with the task");
    assert_eq!(String::from_utf8_lossy(&followed.stdout), SAID, "each byte once");
}

#[test]
fn logs_are_read_and_followed_through_a_coordinator_that_stands_by() {
    const SECOND: &str = "second";
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_server(SECOND);
    cluster.add_agent("desk", 1, &[]);
    let job = submitted(&cluster, &[]);
    cluster.ask(SECOND);
    wait_until("what it said is read while it runs", || log(&cluster, &job)["text"] == SAID, || log(&cluster, &job).to_string());
    assert_eq!(log(&cluster, &job)["live"], true);
    assert_eq!(cluster.lull(&["job", "logs", &job]).out, format!("{job}.0 first line\n{job}.0 second ä\n"));
    let followers = [vec!["task", "logs", "-f"], vec!["job", "logs", "-f"]].map(|command| {
        let which = if command[0] == "task" { format!("{job}.0") } else { job.clone() };
        let follower = cluster.command(PROGRAMS.lull, &[command.as_slice(), &[&which]].concat());
        { follower }.stdout(std::process::Stdio::piped()).spawn().expect("it starts")
    });
    cluster.lull(&["job", "cancel", &job]);
    let followed = followers.map(|follower| {
        let said = follower.wait_with_output().expect("it ends with the task");
        String::from_utf8_lossy(&said.stdout).into_owned()
    });
    assert_eq!(followed, [SAID.to_owned(), format!("{job}.0 first line\n{job}.0 second ä\n")], "each byte once");
    wait_until("its log is kept", || log(&cluster, &job)["live"] == false, || log(&cluster, &job).to_string());
    assert_eq!(log(&cluster, &job)["text"], SAID);
}

#[test]
fn what_ran_into_its_time_limit_leaves_its_log() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let job = submitted(&cluster, &["--time-limit", "700ms", "--retries", "0"]);
    wait_until("it fails", || attempt(&cluster, &job)["failure"]["kind"] == "time_limit", || attempt(&cluster, &job).to_string());
    assert_eq!(log(&cluster, &job)["text"], SAID);
    assert!(attempt(&cluster, &job)["usage"]["cpu_us"].as_u64() > Some(0));
}
