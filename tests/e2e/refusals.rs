//! Bad input gets a clear error, its exit code, and loses nothing.

use lull_tests::cluster::{Cluster, functions, module, text};

use crate::PROGRAMS;

#[test]
fn exit_codes_and_words_are_as_the_readme_freezes_them() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 2, &[]);
    let folder = cluster.path("");

    let unknown = cluster.try_lull(&["job", "show", "j99"]);
    assert_eq!(unknown.code, 3, "{}", unknown.err);
    assert!(unknown.err.contains("j99"), "{}", unknown.err);

    let usage = cluster.try_lull(&["job", "show", "99,5"]);
    assert_eq!(usage.code, 2, "{}", usage.err);

    let denied = cluster.try_lull(&["--token", "lull_viewer_00", "job", "list"]);
    assert_eq!(denied.code, 4, "{}", denied.err);

    let away = cluster.try_lull(&["--server", "http://127.0.0.1:9", "--token", "x", "job", "list"]);
    assert_eq!(away.code, 5, "{}", away.err);

    for (fixture, failure) in [("trap", "trapped"), ("exit3", "code 3"), ("output-flood", "output"), ("memory-hog", "memory")] {
        let path = module(&folder, fixture, &fixture_text(fixture));
        cluster.lull(&["func", "publish", text(&path)]);
        let job = cluster
            .lull(&[
                "submit",
                fixture,
                "--array",
                "0-0",
                "--retries",
                "0",
                "--memory",
                "64MiB",
                "--output-limit",
                "1MiB",
                "-o",
                "id",
            ])
            .out;
        let waited = cluster.try_lull(&["wait", job.trim(), "--timeout", "90s"]);
        assert_eq!(waited.code, 1, "{fixture}: {}", waited.err);
        let task = cluster.lull(&["task", "show", &format!("{}.0", job.trim())]).out;
        assert!(task.contains(failure), "{fixture}: {task}");
    }

    let spin = module(&folder, "spin", &fixture_text("spin"));
    cluster.lull(&["func", "publish", text(&spin)]);
    let limited = cluster.lull(&["submit", "spin", "--array", "0-0", "--retries", "0", "--time-limit", "300ms", "-o", "id"]).out;
    assert_eq!(cluster.try_lull(&["wait", limited.trim(), "--timeout", "90s"]).code, 1);
    let endless = cluster.lull(&["submit", "spin", "--array", "0-0", "-o", "id"]).out;
    let impatient = cluster.try_lull(&["wait", endless.trim(), "--timeout", "200ms"]);
    assert_eq!(impatient.code, 6, "{}", impatient.err);
    cluster.lull(&["job", "cancel", endless.trim()]);
    assert_eq!(cluster.try_lull(&["wait", endless.trim(), "--timeout", "90s"]).code, 7);
}

#[test]
fn a_module_that_no_agent_could_run_is_refused_with_the_reason() {
    let cluster = Cluster::start(PROGRAMS);
    let folder = cluster.path("");
    for (fixture, reason) in [("bad-import", "env"), ("no-start", "_start")] {
        let path = module(&folder, fixture, &fixture_text(fixture));
        let refused = cluster.try_lull(&["func", "publish", text(&path)]);
        assert_ne!(refused.code, 0, "{fixture}");
        assert!(refused.err.contains(reason), "{fixture}: {}", refused.err);
    }
    let nonsense = folder.join("nonsense.wasm");
    std::fs::write(&nonsense, b"this is no module").expect("written");
    let refused = cluster.try_lull(&["func", "publish", text(&nonsense)]);
    assert_ne!(refused.code, 0);
    assert!(!refused.err.contains("panicked"), "{}", refused.err);
}

#[test]
fn a_token_lets_in_as_many_machines_as_it_says_and_a_revoked_machine_stays_out() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let again = cluster.join_token(1);
    let join = |name: &str| cluster.agent_says(name, &["join", &again, "--name", name]);
    join("first").ok();
    let second = join("second");
    assert_ne!(second.code, 0);
    assert!(second.err.contains("token"), "{}", second.err);

    cluster.lull(&["agent", "revoke", "desk"]);
    lull_tests::cluster::wait_until("the agent is cut off", || !cluster.agent_connected("desk"), String::new);
    cluster.kill_agent("desk");
}

fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(functions().join(format!("fixtures/{name}.wat"))).expect("a fixture")
}
