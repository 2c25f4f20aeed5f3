//! Blobs between agents: what one has fetched the others get from it, and a cache that went bad is noticed.

use std::fs;

use lull_tests::cluster::{Cluster, functions, module, text, wait_until};
use serde_json::Value;

use crate::PROGRAMS;

/// What is added to the module, so that its artifact has a dozen pieces.
const PADDING_BYTES: usize = 3 * 1024 * 1024;

#[test]
fn three_agents_that_start_together_fetch_from_each_other() {
    let mut cluster = Cluster::start(PROGRAMS);
    for name in ["north", "south", "west"] {
        cluster.add_agent(name, 1, &[]);
    }
    publish_large(&cluster);
    submit_and_wait(&cluster);
    let net = || cluster.lull(&["net", "-o", "json"]).json();
    let blobs = || cluster.lull(&["net", "blobs", "-o", "json"]).json();
    let held_by_all = || rows(&blobs(), "blobs").into_iter().find(|blob| blob["holders"] == 3 && large(blob));
    wait_until("all say that they hold the code", || held_by_all().is_some(), || blobs().to_string());
    wait_until("bytes came from agents", || sum(&net(), "from_agents_bytes") > 0, || net().to_string());
    let uploads = held_by_all().expect("it was there")["uploads"].as_f64().expect("a number");
    assert!(uploads < 3.0, "each piece was uploaded for each agent: {}", blobs());
    let agents = net();
    assert!(sum(&agents, "served_bytes") >= sum(&agents, "from_agents_bytes"), "{agents}");
    for agent in rows(&agents, "agents") {
        assert!(agent["listens"].as_array().is_some_and(|listens| !listens.is_empty()), "{agent}");
    }
    let table = cluster.lull(&["net"]).out;
    assert!(table.contains("FROM AGENTS") && table.contains("north"), "{table}");
}

#[test]
fn a_cache_that_went_bad_while_the_agent_was_down_is_fetched_anew() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("north", 1, &[]);
    publish_large(&cluster);
    submit_and_wait(&cluster);
    cluster.kill_agent("north");
    let cache = cluster.path("north").join("cache");
    let mut damaged = 0;
    for entry in fs::read_dir(&cache).expect("the cache") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("damage");
        damaged += 1;
    }
    assert!(damaged > 0, "it had fetched something");
    cluster.start_agent("north");
    submit_and_wait(&cluster);
    let net = || cluster.lull(&["net", "-o", "json"]).json();
    let again = || sum(&net(), "from_coordinators_bytes") >= PADDING_BYTES as u64;
    wait_until("it was fetched again", again, || net().to_string());
}

fn publish_large(cluster: &Cluster) {
    let busy = fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let end = busy.trim_end().strip_suffix(')').expect("a module ends");
    let padded = format!("{end}\n(data \"{}\"))", "lull".repeat(PADDING_BYTES / 4));
    let path = module(cluster.path("").as_path(), "busy", &padded);
    cluster.lull(&["func", "publish", text(&path)]);
}

/// One short task for each of a dozen lines: enough for every agent to take part.
fn submit_and_wait(cluster: &Cluster) {
    let lines = cluster.path("lines");
    fs::write(&lines, "60\n".repeat(12)).expect("written");
    let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
    cluster.lull(&["wait", &job, "--timeout", "120s"]);
    assert_eq!(cluster.job(&job)["state"], "succeeded");
}

fn rows(value: &Value, name: &str) -> Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("no {name} in {value}")).clone()
}

fn large(blob: &Value) -> bool {
    blob["size_bytes"].as_u64() >= Some(PADDING_BYTES as u64)
}

fn sum(net: &Value, field: &str) -> u64 {
    rows(net, "agents").iter().filter_map(|agent| agent[field].as_u64()).sum()
}
