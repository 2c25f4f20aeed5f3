//! Bad input gets a clear error, its exit code, and loses nothing.

use lull_tests::cluster::{Cluster, FIRST, functions, module, text, wait_until};

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
    wait_until("the agent is cut off", || !cluster.agent_connected("desk"), String::new);
    cluster.kill_agent("desk");
}

#[test]
fn a_machine_that_was_thrown_out_says_so_in_words_until_it_is_let_in_again() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let token = cluster.join_token(10);
    let status = |cluster: &Cluster| cluster.agent_says("desk", &["status"]);
    let marked = |cluster: &Cluster| cluster.path("desk").join("revoked").exists();

    cluster.lull(&["agent", "revoke", "desk"]);
    let told = |cluster: &Cluster| status(cluster).out.contains("not connected: this machine was revoked");
    wait_until("its status says so", || told(&cluster), || status(&cluster).out);
    assert!(marked(&cluster));
    let log = std::fs::read_to_string(cluster.log_of("desk")).expect("a log");
    assert!(log.contains("this machine was revoked"), "{log}");
    let again = cluster.agent_says("desk", &["join", &token, "--name", "desk"]);
    assert_eq!(again.code, 4, "where it still stands as a member: {}{}", again.out, again.err);
    assert!(again.err.contains("this machine was revoked"), "{}", again.err);
    let twice = cluster.lull(&["agent", "revoke", "desk"]);
    assert!(format!("{}{}", twice.out, twice.err).contains("was revoked already"), "{}{}", twice.out, twice.err);

    // The same for one that was switched off, and for one that left.
    cluster.kill_agent("desk");
    cluster.launch_agent("desk");
    wait_until("its status says so again", || told(&cluster), || status(&cluster).out);
    cluster.agent_says("desk", &["leave"]).ok();
    cluster.agent_ends("desk");
    let back = cluster.agent_says("desk", &["join", &token, "--name", "desk"]);
    assert_eq!(back.code, 4, "{}{}", back.out, back.err);
    assert!(back.err.contains("this machine was revoked"), "{}", back.err);

    cluster.lull(&["agent", "restore", "desk"]);
    cluster.agent_says("desk", &["join", &token, "--name", "desk"]).ok();
    cluster.start_agent("desk");
    wait_until("its mark is gone once it is welcome", || !marked(&cluster), String::new);
    assert!(!status(&cluster).out.contains("revoked"), "{}", status(&cluster).out);
}

#[test]
fn a_machine_that_is_let_in_again_soon_is_back_within_some_seconds() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    cluster.lull(&["agent", "revoke", "desk"]);
    let status = |cluster: &Cluster| cluster.agent_says("desk", &["status"]).out;
    wait_until("its status says so", || status(&cluster).contains("this machine was revoked"), || status(&cluster));
    assert!(!status(&cluster).contains("ready"), "{}", status(&cluster));
    cluster.lull(&["agent", "restore", "desk"]);
    let began = std::time::Instant::now();
    wait_until("it is back", || cluster.agent_connected("desk"), || status(&cluster));
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "it took {:?}", began.elapsed());
}

#[test]
fn what_is_shown_again_and_again_ends_when_nobody_reads_it() {
    use std::io::{BufRead as _, BufReader};
    let cluster = Cluster::start(PROGRAMS);
    for line in [&["status", "--watch"][..], &["agent", "list", "--watch", "-o", "jsonl"], &["job", "list", "--watch"]] {
        let mut command = cluster.command(PROGRAMS.lull, line);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        if line[0] == "status" {
            let mut first = String::new();
            out.read_line(&mut first).expect("a line");
            assert!(first.starts_with("network"), "{first}");
        }
        drop(out);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let ended = loop {
            match child.try_wait().expect("it can be waited for") {
                Some(ended) => break ended,
                None if std::time::Instant::now() > until => {
                    let _ = child.kill();
                    panic!("{line:?} goes on although nobody reads it");
                }
                None => std::thread::sleep(std::time::Duration::from_millis(50)),
            }
        };
        assert_eq!(ended.code(), Some(0), "{line:?}");
    }
}

#[test]
fn commands_in_hints_work_as_they_are_printed() {
    let cluster = Cluster::start(PROGRAMS);
    let data = cluster.path("elsewhere");
    let refused = cluster.try_lull(&["--data", text(&data), "job", "list"]);
    let command = format!("`lull --data {} server run", data.display());
    assert!(
        refused.code == 5 && (refused.err.contains(&command) || refused.err.contains("server run --data")),
        "{}",
        refused.err
    );
    let unknown = cluster.try_lull(&["job", "show", "j99"]);
    assert!(unknown.err.contains("job list`"), "{}", unknown.err);
    let both = cluster.try_lull(&["--token", "x", "job", "list", "--token-file", "y"]);
    assert!(both.code == 2 && both.err.contains("`--token` cannot stand beside `--token-file`"), "{}", both.err);
}

/// What makes a program's clock show something else.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_revocation_holds_at_once_however_the_coordinators_clock_is_set() {
    let library = std::env::var("FAKETIME_LIB").unwrap_or_else(|_| FAKETIME.to_owned());
    if !std::path::Path::new(&library).exists() {
        println!("NOT RUN: libfaketime is not installed; FAKETIME_LIB names it");
        return;
    }
    let mut cluster = Cluster::prepared(PROGRAMS);
    let clock = cluster.path("clock");
    let set = |text: &str| std::fs::write(&clock, text).expect("written");
    set("+1h\n");
    let faked = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_TIMESTAMP_FILE", text(&clock)),
    ];
    cluster.launch_server_with(FIRST, &faked);
    wait_until("the coordinator leads", || cluster.try_lull(&["status"]).code == 0, String::new);
    let desks = ["early", "back", "later"];
    for desk in desks {
        cluster.add_agent(desk, 1, &[]);
    }
    for (desk, shows) in desks.iter().zip(["+1h\n", "+0\n", "+1h\n"]) {
        set(shows);
        let said = cluster.lull(&["agent", "revoke", desk, "-o", "json"]).json();
        assert_eq!(said["unheard"], 0, "{said}");
        let told = || cluster.agent_says(desk, &["status"]).out.contains("not connected: this machine was revoked");
        wait_until(&format!("{desk} is out"), told, || cluster.agent_says(desk, &["status"]).out);
        assert!(!cluster.agent_connected(desk));
    }
    // And a life of the coordinator whose clock is an hour behind that of the last.
    cluster.lull(&["agent", "restore", "back"]);
    cluster.kill_agent("back");
    cluster.start_agent("back");
    cluster.kill_server_named(FIRST);
    cluster.launch_server(FIRST);
    wait_until("back is connected", || cluster.agent_connected("back"), String::new);
    cluster.lull(&["agent", "revoke", "back"]);
    let told = || cluster.agent_says("back", &["status"]).out.contains("not connected: this machine was revoked");
    wait_until("back is out", told, || cluster.agent_says("back", &["status"]).out);
}

fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(functions().join(format!("fixtures/{name}.wat"))).expect("a fixture")
}
