//! A job of many small tasks whose outputs are known: what tests of faults run, and how they count afterwards.

use std::collections::BTreeMap;

use lull_tests::cluster::{Cluster, FIRST, functions, module, text};

/// Rounds of each task in millions, in turns: different inputs, different outputs.
const ROUNDS: [u64; 3] = [40, 50, 60];

/// A job that was submitted.
pub(crate) struct Busy {
    pub job: String,
    tasks: usize,
}

impl Busy {
    /// Publishes the function and submits tasks that take some tens of milliseconds each.
    pub(crate) fn submit(cluster: &Cluster, tasks: usize) -> Self {
        let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
        let busy = module(cluster.path("").as_path(), "busy", &text_form);
        cluster.lull(&["func", "publish", text(&busy)]);
        let lines = cluster.path("lines");
        std::fs::write(&lines, (0..tasks).map(|task| format!("{}\n", rounds(task))).collect::<String>()).expect("written");
        let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
        Self { job, tasks }
    }

    /// How many tasks have succeeded.
    pub(crate) fn done(&self, cluster: &Cluster) -> u64 {
        cluster.job(&self.job)["counts"]["succeeded"].as_u64().unwrap_or(0)
    }

    /// Waits until so many have.
    pub(crate) fn wait_for(&self, cluster: &Cluster, tasks: u64) {
        let enough = |job: &serde_json::Value| job["counts"]["succeeded"].as_u64() >= Some(tasks);
        cluster.wait_for_job(&self.job, &format!("{tasks} tasks are done"), enough);
    }

    /// Lets it end, and checks that each result is there once, with the bytes of an undisturbed run, and that no retry
    /// was spent.
    pub(crate) fn finish(&self, cluster: &Cluster) {
        cluster.lull(&["wait", &self.job, "--timeout", "120s"]);
        let shown = cluster.job(&self.job);
        assert_eq!(shown["state"], "succeeded", "{shown}");
        assert_eq!(shown["counts"]["succeeded"], self.tasks);
        let expected: BTreeMap<u64, String> = ROUNDS.iter().map(|rounds| (*rounds, output(*rounds))).collect();
        let results = cluster.lull(&["job", "results", &self.job, "-o", "json"]).json();
        let results = results["results"].as_array().expect("results");
        assert_eq!(results.len(), self.tasks, "each result once");
        for (task, result) in results.iter().enumerate() {
            assert_eq!(result["task"], format!("{}.{task}", self.job), "in the order of their tasks");
            assert!(result.to_string().contains(&expected[&rounds(task)]), "another output than undisturbed: {result}");
        }
        let tasks = cluster.lull(&["task", "list", &self.job, "--limit", "10000", "-o", "json"]).json();
        for task in tasks["tasks"].as_array().expect("tasks") {
            assert_eq!(task["failures"], 0, "no retry was spent: {task}");
        }
        let database = rusqlite::Connection::open(cluster.path(FIRST).join("lull.db")).expect("the store");
        let number: i64 = self.job.trim_start_matches('j').parse().expect("a job's number");
        let count = |sql: &str| database.query_row(sql, [number], |row| row.get::<_, i64>(0)).expect("a count") as usize;
        assert_eq!(count("SELECT count(*) FROM results WHERE job_id = ?1"), self.tasks, "rows of results");
        let succeeded = "SELECT count(*) FROM attempts WHERE job_id = ?1 AND outcome = 'succeeded'";
        assert_eq!(count(succeeded), self.tasks, "attempts that completed their task");
        assert_eq!(count("SELECT count(*) FROM attempts WHERE job_id = ?1 AND outcome IS NULL"), 0, "attempts left open");
    }
}

fn rounds(task: usize) -> u64 {
    ROUNDS[task % ROUNDS.len()]
}

/// What `fixtures/busy.wat` writes.
fn output(rounds: u64) -> String {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..rounds * 1_000_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    format!("{x:016x}")
}
