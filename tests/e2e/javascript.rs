//! A script is a function: published, run, moved and stopped like any other.

use std::{path::PathBuf, time::Duration};

use lull_tests::{
    cluster::{Cluster, text, wait_until},
    processes,
};
use serde_json::Value;

use crate::PROGRAMS;

/// A function that does what its input says.
const ACTS: &str = r#"// What a task does is its input.
export default async function (input, { args, taskIndex }) {
    const [act, amount] = input.split(" ");
    switch (act) {
        case "count": {
            let sum = 0;
            for (let i = 0; i < Number(amount); i++) sum = (sum * 31 + i) % 1000003;
            return { sum, taskIndex, args };
        }
        case "random":
            return [Math.random(), Date.now(), [...crypto.getRandomValues(new Uint8Array(4))]];
        case "length":
            return input.length;
        case "bytes":
            return new TextEncoder().encode("é");
        case "loop":
            for (;;) {}
        case "memory": {
            const kept = [];
            for (;;) kept.push(new Uint8Array(1 << 20).fill(7));
        }
        case "deep": {
            const deep = (n) => deep(n + 1) + 1;
            return deep(0);
        }
        default:
            console.log("what is", act);
            throw new RangeError(`no such act: ${act}`);
    }
}
"#;

fn script(cluster: &Cluster, name: &str, content: &str) -> PathBuf {
    let path = cluster.path(name);
    std::fs::write(&path, content).expect("written");
    path
}

/// Submits a task for each line, and waits until all have ended.
fn job(cluster: &Cluster, lines: &str, options: &[&str]) -> String {
    let inputs = script(cluster, "inputs.txt", lines);
    let mut arguments = vec!["submit", "acts", "--each-line", text(&inputs), "--retries", "0", "-o", "id"];
    arguments.extend(options);
    cluster.lull(&arguments).out.trim().to_owned()
}

fn outputs(cluster: &Cluster, job: &str) -> Vec<Value> {
    let results = cluster.lull(&["job", "results", job, "-o", "json"]).json();
    results["results"].as_array().expect("results").iter().map(|result| result["output"].clone()).collect()
}

#[test]
fn a_script_runs_as_a_function_and_fails_in_its_authors_words() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 1, &[]);
    let path = script(&cluster, "acts.js", ACTS);

    let broken = script(&cluster, "broken.js", "export default (input) => {\n  return sum(;\n};\n");
    let refused = cluster.try_lull(&["func", "publish", text(&broken)]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("broken.js:2:14: SyntaxError:") && refused.err.contains("return sum(;"), "{}", refused.err);
    let typed = script(&cluster, "typed.ts", "export default (input: string) => input;");
    assert!(cluster.try_lull(&["func", "publish", text(&typed)]).err.contains("npx esbuild typed.ts"));

    let published = cluster.lull(&["func", "publish", text(&path), "--migratable", "never", "-o", "json"]).json();
    assert_eq!((&published["function"], &published["kind"]), (&Value::from("acts"), &Value::from("preview1")));
    let shown = cluster.lull(&["func", "show", "acts"]).out;
    assert!(shown.contains("JavaScript, lull-javascript 1.0.0, QuickJS-ng"), "{shown}");
    let again = cluster.lull(&["func", "publish", text(&path), "--migratable", "never", "-o", "json"]).json();
    assert_eq!(
        (&again["number"], &again["existing"]),
        (&Value::from(1), &Value::from(true)),
        "the same script is the same module"
    );

    let twice = "random\nrandom\ncount 1000\nbytes\n";
    let first = job(&cluster, twice, &[]);
    cluster.lull(&["wait", &first, "--timeout", "90s"]);
    let out = outputs(&cluster, &first);
    assert_ne!(out[0], out[1], "each task has its own randomness");
    let told = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    assert!(told(&out[2]).contains("\"taskIndex\":2") || told(&out[2]).contains("\"taskIndex\": 2"), "{out:?}");
    assert_eq!(told(&out[3]), "é");

    let large = format!("length {}\n", "x".repeat(5_000_000));
    let failing = job(&cluster, &format!("{large}nonsense\nloop\nmemory\ndeep\n"), &["--time-limit", "3s", "--memory", "96MiB"]);
    assert_eq!(cluster.try_lull(&["wait", &failing, "--timeout", "120s"]).code, 1);
    let task = |index: usize| cluster.lull(&["task", "show", &format!("{failing}.{index}"), "-o", "json"]).json();
    assert_eq!(task(0)["state"], "succeeded", "{:#}", task(0));
    let reason = |index: usize| task(index).to_string();
    assert!(reason(1).contains("it exited with code 1"), "{}", reason(1));
    let log = cluster.lull(&["task", "logs", &format!("{failing}.1")]).out;
    assert!(log.contains("what is nonsense") && log.contains("acts.js:28:50: RangeError: no such act: nonsense"), "{log}");
    assert!(reason(2).contains("ran longer than its limit"), "{}", reason(2));
    assert!(reason(3).contains("more memory than its limit"), "{}", reason(3));
    assert!(reason(4).contains("it trapped"), "the stack has an end: {}", reason(4));
}

#[test]
fn a_script_goes_on_on_another_machine_with_the_same_bytes() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("left", 1, &[]);
    cluster.add_agent("right", 1, &[]);
    let path = script(&cluster, "acts.js", ACTS);
    cluster.lull(&["func", "publish", text(&path), "--migratable", "always"]);
    let job = job(&cluster, "count 3000000\n", &["--move", "always"]);
    let at_work = || {
        let used = |agent: &&str| {
            let executors = processes::children(cluster.agent_pid(agent));
            executors.into_iter().any(|pid| processes::cpu_of_tree(pid) > Duration::from_millis(200))
        };
        ["left", "right"].into_iter().find(used)
    };
    wait_until("it works somewhere", || at_work().is_some(), || cluster.lull(&["explain", &format!("{job}.0")]).out);
    let here = at_work().expect("it works");
    cluster.lull(&["agent", "drain", here]);
    cluster.wait_for_job(&job, "it ends elsewhere", |job| job["counts"]["succeeded"] == 1);
    let history = cluster.lull(&["task", "show", &format!("{job}.0"), "-o", "json"]).json()["history"].clone();
    assert!(history[1]["resumed"]["spent_ms"].as_u64().is_some_and(|spent| spent > 0), "{history:#}");
    let moved = outputs(&cluster, &job);
    cluster.lull(&["agent", "uncordon", here]);
    let job = self::job(&cluster, "count 3000000\n", &["--move", "never"]);
    cluster.lull(&["wait", &job, "--timeout", "120s"]);
    assert_eq!(moved, outputs(&cluster, &job));
}
