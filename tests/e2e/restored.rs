//! A backup of the store is put back: it knows less than the agents do.

use std::fs;

use lull_tests::cluster::{Cluster, FIRST, wait_until};
use serde_json::Value;

use crate::{PROGRAMS, busy::Busy};

const AGENTS: [&str; 2] = ["north", "south"];

#[test]
fn a_restored_backup_loses_no_task_counts_each_result_once_and_gives_no_number_twice() {
    let mut cluster = Cluster::start(PROGRAMS);
    for agent in AGENTS {
        cluster.add_agent(agent, 1, &[]);
    }
    let first = Busy::submit(&cluster, 120);
    first.wait_for(&cluster, 5);
    let backup = cluster.path("backup.db");
    let database = rusqlite::Connection::open(cluster.path(FIRST).join("lull.db")).expect("the store");
    database.execute("VACUUM INTO ?1", [backup.to_str().expect("a plain path")]).expect("a copy");
    drop(database);

    // What comes now the backup does not know: results, a job, and two terms, which the agents have seen.
    first.wait_for(&cluster, 15);
    let forgotten = Busy::submit(&cluster, 40);
    for _ in 0..2 {
        cluster.kill_server();
        cluster.start_server();
        wait_until("agents follow", || AGENTS.iter().all(|agent| cluster.agent_connected(agent)), String::new);
    }
    let seen = term(&cluster);
    first.wait_for(&cluster, first.done(&cluster) + 5);

    cluster.kill_server();
    for ending in ["lull.db", "lull.db-wal", "lull.db-shm"] {
        let _ = fs::remove_file(cluster.path(FIRST).join(ending));
    }
    fs::copy(&backup, cluster.path(FIRST).join("lull.db")).expect("put back");
    cluster.launch_server(FIRST);
    wait_until(
        "it leads above the term that the agents have seen, and has them",
        || term(&cluster) > seen && AGENTS.iter().all(|agent| cluster.agent_connected(agent)),
        || fs::read_to_string(cluster.log_of(FIRST)).unwrap_or_default(),
    );
    let audit = cluster.lull(&["audit", "-o", "json"]).json();
    let raised = |line: &Value| line["action"] == "term.raise" && line["detail"].to_string().contains("numbers go on above");
    assert!(audit["audit"].as_array().is_some_and(|lines| lines.iter().any(raised)), "{audit}");

    first.finish(&cluster);
    let next = Busy::submit(&cluster, 6);
    let number = |job: &str| job.trim_start_matches('j').parse::<u64>().expect("a job's number");
    assert!(number(&next.job) > number(&forgotten.job), "{} after {}", next.job, forgotten.job);
    next.finish(&cluster);
    let totals = cluster.lull(&["status", "-o", "json"]).json()["totals"].clone();
    assert_eq!(totals["tasks_succeeded"], 126, "{totals}");
}

fn term(cluster: &Cluster) -> Option<u64> {
    let said = cluster.try_lull(&["status", "-o", "json"]);
    (said.code == 0).then(|| said.json()["coordinator"]["term"].as_u64()).flatten()
}
