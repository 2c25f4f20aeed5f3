//! Two coordinators that share a store: one leads, the other takes over when it is frozen or killed.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use lull_tests::{
    cluster::{Cluster, FIRST, wait_until},
    processes,
};

use crate::{PROGRAMS, busy::Busy};

const SECOND: &str = "second";
const AGENTS: [&str; 2] = ["north", "south"];

#[test]
fn a_coordinator_that_freezes_is_replaced_stands_by_when_it_wakes_and_takes_over_again() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_server(SECOND);
    assert_eq!(posts(&cluster), [(FIRST.into(), "leader".into(), Some(1)), (SECOND.into(), "standby".into(), None)]);
    cluster.ask(SECOND);
    let said = answer(&cluster, "/health");
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("\"standby\"") && said.contains("\"leader\":\"http"), "{said}");
    assert_eq!(term(&cluster), Some(1), "commands are sent on to the leader");
    cluster.ask(FIRST);
    for agent in AGENTS {
        cluster.add_agent(agent, 1, &[]);
    }
    for agent in AGENTS {
        let membership = || std::fs::read_to_string(cluster.path(agent).join("membership.json")).unwrap_or_default();
        let knows = |server: &str| membership().contains(&cluster.mesh_address(server));
        wait_until("agents keep the addresses of both", || knows(FIRST) && knows(SECOND), membership);
    }
    let busy = Busy::submit(&cluster, 150);
    busy.wait_for(&cluster, 10);

    freeze_between_commits(&cluster);
    let frozen = Instant::now();
    cluster.ask(SECOND);
    handed_over(&cluster, "frozen", frozen, 2);
    busy.wait_for(&cluster, busy.done(&cluster) + 5);
    println!("a frozen coordinator: results came in again after {:?}", frozen.elapsed());

    processes::thaw(cluster.server_pid(FIRST));
    let woken = Instant::now();
    cluster.ask(FIRST);
    wait_until("the woken one stands by", || answer(&cluster, "/health").contains("standby"), || answer(&cluster, "/health"));
    println!("a woken coordinator stood by after {:?}", woken.elapsed());
    assert_eq!(term(&cluster), Some(2), "it sends commands on");
    cluster.ask(SECOND);
    let two = [(FIRST.into(), "standby".into(), None), (SECOND.into(), "leader".into(), Some(2))];
    wait_until("each knows its place", || posts(&cluster) == two, || format!("{:?}", posts(&cluster)));

    cluster.kill_server_named(SECOND);
    let killed = Instant::now();
    cluster.ask(FIRST);
    handed_over(&cluster, "killed", killed, 3);
    busy.finish(&cluster);
}

/// A process that is frozen in the middle of a transaction keeps the lock on SQLite's file, and no other can write. A
/// database server ends such a transaction by itself, and it is that what this store stands for here.
fn freeze_between_commits(cluster: &Cluster) {
    let database = rusqlite::Connection::open(cluster.path(FIRST).join("lull.db")).expect("the store");
    database.busy_timeout(Duration::from_millis(500)).expect("a setting");
    let pid = cluster.server_pid(FIRST);
    let frozen = || {
        processes::freeze(pid);
        let free = database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
        if !free {
            processes::thaw(pid);
        }
        free
    };
    wait_until("it is frozen without a lock", frozen, String::new);
}

/// Waits until the one that is asked leads, and has the agents.
fn handed_over(cluster: &Cluster, how: &str, since: Instant, wanted: u64) {
    wait_until("the other one leads", || term(cluster) == Some(wanted), || format!("{:?}", term(cluster)));
    println!("a {how} coordinator was replaced after {:?}", since.elapsed());
    let followed = || AGENTS.iter().all(|agent| cluster.agent_connected(agent));
    wait_until("agents follow", followed, || cluster.try_lull(&["agent", "list"]).out);
    println!("a {how} coordinator: all agents were with the other after {:?}", since.elapsed());
}

fn term(cluster: &Cluster) -> Option<u64> {
    let said = cluster.try_lull(&["status", "-o", "json"]);
    (said.code == 0).then(|| said.json()["coordinator"]["term"].as_u64()).flatten()
}

/// Name, post and term of each coordinator.
fn posts(cluster: &Cluster) -> Vec<(String, String, Option<u64>)> {
    let said = cluster.lull(&["server", "status", "-o", "json"]).json();
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let list = said["coordinators"].as_array().expect("a list").iter();
    let mut posts: Vec<_> = list.map(|line| (text(line, "name"), text(line, "post"), line["term"].as_u64())).collect();
    posts.sort_by_key(|(name, ..)| name != FIRST);
    posts
}

/// What the interface says to a plain request.
fn answer(cluster: &Cluster, path: &str) -> String {
    let url = cluster.url();
    let host = url.strip_prefix("http://").expect("plain HTTP");
    let asked = TcpStream::connect(host).and_then(|mut stream| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    });
    asked.unwrap_or_default()
}
