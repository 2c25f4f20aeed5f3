//! `-o json` gives one value with `schema_version` from every command of both programs, or says why not, and so it does
//! when the coordinator that is asked stands by. Which commands there are is read off their own command lines, so that a
//! new one is missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    process::Stdio,
};

use clap::CommandFactory as _;
use lull_tests::cluster::{Cluster, Said, functions, module, text};
use serde_json::Value;

use crate::PROGRAMS;

/// A command that ends with this code by what it found, and has a value all the same.
const ENDS_OTHERWISE: (&str, i32) = ("lull net doctor", 1);
/// Writes a line to its log and fails.
const TALKS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.const 3))))"#;

#[test]
fn every_command_of_both_programs_has_one_value() {
    walk(Cluster::start(PROGRAMS));
}

#[test]
fn every_command_works_through_a_standby() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_server("standby");
    cluster.ask("standby");
    walk(cluster);
}

fn walk(cluster: Cluster) {
    let mut walk = Walk { cluster, values: BTreeMap::new(), refused: BTreeMap::new() };
    walk.coordinator();
    walk.agent();
    let known: BTreeSet<String> = walk.values.keys().chain(walk.refused.keys()).cloned().collect();
    let mut all = BTreeSet::new();
    leaves(&lull_coordinator::cli::Cli::command(), "lull".into(), &mut all);
    leaves(&lull_agent::cli::command(), "lull-agent".into(), &mut all);
    let missing: Vec<&String> = all.difference(&known).collect();
    assert!(missing.is_empty(), "nobody looked at what these print with -o json: {missing:?}");
    let gone: Vec<&String> = known.difference(&all).collect();
    assert!(gone.is_empty(), "there are no such commands: {gone:?}");
    for (command, value) in &walk.values {
        assert_eq!(value["schema_version"], 1, "{command}: {value}");
        assert!(value.as_object().is_some_and(|fields| fields.len() > 1), "{command} says nothing: {value}");
    }
}

struct Walk {
    cluster: Cluster,
    values: BTreeMap<String, Value>,
    /// Those that say why they have none.
    refused: BTreeMap<String, String>,
}

impl Walk {
    /// Runs a command with `-o json`; `words` is what it is called, `rest` its arguments.
    fn lull(&mut self, words: &str, rest: &[&str]) -> Value {
        let arguments: Vec<&str> = words.split(' ').chain(rest.iter().copied()).chain(["-o", "json"]).collect();
        let said = self.cluster.try_lull(&arguments);
        self.note(&format!("lull {words}"), said)
    }

    fn agent_says(&mut self, words: &str, rest: &[&str]) -> Value {
        let arguments: Vec<&str> = words.split(' ').chain(rest.iter().copied()).chain(["-o", "json"]).collect();
        let said = self.cluster.agent_says("desk", &arguments);
        self.note(&format!("lull-agent {words}"), said)
    }

    fn note(&mut self, command: &str, said: Said) -> Value {
        let may = (command, said.code) == ENDS_OTHERWISE;
        assert!(said.code == 0 || may, "{command} ended with {}: {}\n{}", said.code, said.out, said.err);
        let mut values = serde_json::Deserializer::from_str(&said.out).into_iter::<Value>();
        let value = values.next().unwrap_or_else(|| panic!("{command} printed nothing: {}", said.err));
        let value = value.unwrap_or_else(|error| panic!("{command}: {error} in {}", said.out));
        assert!(values.next().is_none(), "{command} printed more than one value: {}", said.out);
        self.values.insert(command.to_owned(), value.clone());
        value
    }

    fn coordinator(&mut self) {
        self.cluster.add_agent("desk", 2, &[]);
        let folder = self.cluster.path("");
        let form = std::fs::read_to_string(functions().join("fixtures/echo.wat")).expect("a fixture");
        let echo = text(&module(&folder, "echo", &form)).to_owned();
        let talks = text(&module(&folder, "talks", TALKS)).to_owned();
        self.lull("status", &[]);
        self.lull("func publish", &[&echo]);
        self.lull("func list", &[]);
        self.lull("func publication", &[]);
        self.lull("func show", &["echo"]);
        self.cluster.lull(&["func", "publish", &talks]);

        let job = |value: Value| value["job"].as_str().expect("a job").to_owned();
        let first = job(self.lull("submit", &["echo", "--array", "0-1"]));
        self.lull("wait", &[&first]);
        // Inputs are asked for by `HEAD`, and large ones are sent as streams.
        let (small, large) = (folder.join("small.txt"), folder.join("large.bin"));
        std::fs::write(&small, "small").expect("written");
        std::fs::write(&large, vec![b'x'; 300_000]).expect("written");
        let with_inputs = job(self.lull("submit", &["echo", text(&small), text(&large)]));
        self.lull("wait", &[&with_inputs]);
        self.lull("job wait", &[&first]);
        self.lull("explain", &[&first]);
        self.lull("task explain", &[&format!("{first}.0")]);
        self.lull("job show", &[&first]);
        self.lull("job list", &[]);
        let results = self.lull("job results", &[&first]);
        assert_eq!(results["results"][1]["output"], "1", "{results}");
        let one = self.cluster.lull(&["job", "results", &first, "--task", "1", "-o", "json"]).json();
        assert_eq!((&one["output"], &one["schema_version"]), (&Value::from("1"), &Value::from(1)));
        self.lull("task list", &[&first]);
        self.lull("task show", &[&format!("{first}.0")]);
        self.lull("run", &[&echo, "--array", "0-1"]);

        let failed = job(self.lull("job submit", &["talks", "--array", "0-2", "--retries", "0"]));
        self.cluster.try_lull(&["wait", &failed]);
        self.lull("task logs", &[&format!("{failed}.0")]);
        self.lull("job logs", &[&failed]);
        let shown = self.cluster.job(&failed);
        let cause = &shown["failures"][0];
        assert_eq!((&cause["tasks"], &cause["log"]), (&Value::from(3), &Value::from("hello")), "{shown}");
        self.lull("job retry", &[&failed]);
        let held = job(self.cluster.lull(&["submit", "echo", "--array", "0", "--require", "site=moon", "-o", "json"]).json());
        self.lull("job cancel", &[&held]);

        self.lull("agent list", &[]);
        for what in ["show", "cordon", "drain", "uncordon", "trust"] {
            self.lull(&format!("agent {what}"), &["desk"]);
        }
        self.lull("policy show", &[]);
        self.lull("policy set", &["idle=5m"]);
        self.lull("policy test", &["desk"]);
        let token = self.lull("token create", &[]);
        self.lull("token list", &[]);
        let number = token["token"].as_str().unwrap_or_else(|| panic!("a token in {token}")).to_owned();
        self.lull("token revoke", &[&number]);
        for part in ["agents", "blobs", "peers", "doctor"] {
            self.lull(&format!("net {part}"), &[]);
        }
        self.lull("audit", &[]);
        self.cluster.lull(&["func", "publish", &echo, "--canonical-nans"]);
        self.cluster.lull(&["func", "promote", "echo@1"]);
        self.lull("func promote", &["echo@2"]);
        self.lull("func rollback", &["echo"]);
        self.lull("func diff", &["echo@1", "echo@2"]);
        self.projects();
        self.lull("func remove", &["talks"]);
        self.lull("agent upgrade", &[]);
        self.lull("portal", &["--print"]);
        let (url, admin) = (self.cluster.url(), self.cluster.admin_token());
        self.lull("login", &[&url, "--token", &admin]);
        self.lull("logout", &[]);
        let given = folder.join("ann.lullprofile");
        let create = ["profile", "create", "--role", "viewer", "--name", "ann", "--out", text(&given), "-o", "json"];
        let refused = self.cluster.try_lull(&create);
        self.elsewhere("lull profile create", refused, "--http 0.0.0.0:7411");
        let expires = "2099-01-01T00:00:00Z";
        let file = serde_json::json!({
            "lull_profile": 1, "name": "ann", "role": "admin", "servers": [{ "url": url }], "token": admin, "expires": expires,
        });
        std::fs::write(&given, file.to_string()).expect("written");
        self.lull("profile import", &[text(&given), "--name", "north"]);
        self.lull("profile list", &[]);
        for what in ["show", "use", "remove"] {
            self.lull(&format!("profile {what}"), &["north"]);
        }
        self.lull("server status", &[]);
        let (secret, second) = (folder.join("secret"), folder.join("second"));
        self.lull("server export", &[text(&secret)]);
        self.lull("server import", &[text(&secret), "--data", text(&second)]);
        let fresh = folder.join("fresh");
        for part in ["migrate", "check", "script"] {
            self.lull(&format!("db {part}"), &["--data", text(&fresh)]);
        }
        self.server_run();
        for action in ["install", "run", "status", "uninstall"] {
            let refused = self.cluster.try_lull(&["server", "service", action, "-o", "json"]);
            self.elsewhere(&format!("lull server service {action}"), refused, "systemctl");
        }
    }

    /// What a function prints is its own.
    fn projects(&mut self) {
        let folder = self.cluster.path("tally");
        self.lull("func new", &["tally", "--lang", "js"]);
        self.lull("func build", &["--project", text(&folder)]);
        for action in ["run", "watch"] {
            let refused = self.cluster.try_lull(&["func", action, "--project", text(&folder), "-o", "json"]);
            self.elsewhere(&format!("lull func {action}"), refused, "leave `--output` out");
        }
    }

    /// It has its value as soon as it answers, and goes on.
    fn server_run(&mut self) {
        let data = self.cluster.path("third");
        let listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];
        let arguments = [["server", "run", "--data", text(&data)].as_slice(), &listen, &["-o", "json"]].concat();
        let mut command = self.cluster.command(PROGRAMS.lull, &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut out = child.stdout.take().expect("piped");
        let mut said = Vec::new();
        let value = loop {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).expect("readable"), 1, "it ended: {}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
            if let Ok(value) = serde_json::from_slice::<Value>(&said) {
                break value;
            }
        };
        assert!(value["http"].as_str().is_some_and(|http| http.starts_with("http://127.0.0.1:")), "{value}");
        // A service manager's word is as good as Ctrl-C.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert_eq!(child.wait().expect("our own child").code(), Some(0));
        self.values.insert("lull server run".into(), value);
    }

    /// A command of another system: it says what does the same on this one.
    fn elsewhere(&mut self, command: &str, refused: Said, instead: &str) {
        assert!(refused.code != 0 && refused.out.is_empty(), "{command}: {} {}", refused.code, refused.out);
        let hint = refused.err.split_once("hint: ").map(|(_, hint)| hint);
        assert!(hint.is_some_and(|hint| hint.contains(instead)), "{command}: {}", refused.err);
        self.refused.insert(command.to_owned(), refused.err);
    }

    fn agent(&mut self) {
        self.agent_says("status", &[]);
        let status = &self.values["lull-agent status"];
        assert_eq!(status["name"], "desk");
        self.agent_says("pause", &["2h"]);
        self.agent_says("resume", &[]);
        self.agent_says("policy set", &["idle=30m"]);
        self.agent_says("policy reset", &["idle"]);
        let policy = self.cluster.agent_says("desk", &["policy", "-o", "json"]).json();
        assert_eq!(policy["schema_version"], 1);
        let token = self.cluster.join_token(1);
        self.agent_says("join", &[&token]);
        let refused = self.cluster.agent_says("desk", &["run", "-o", "json"]);
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{}", refused.err);
        let hint = format!("hint: `lull-agent --data {} status -o json`", self.cluster.path("desk").display());
        assert!(refused.err.contains(&hint), "{}", refused.err);
        self.refused.insert("lull-agent run".into(), refused.err);
        for (action, instead) in [
            ("install", "systemctl"),
            ("run", "systemctl"),
            ("status", "systemctl"),
            ("uninstall", "systemctl"),
            ("start-trays", "lull-tray"),
        ] {
            let refused = self.cluster.agent_says("desk", &["service", action, "-o", "json"]);
            self.elsewhere(&format!("lull-agent service {action}"), refused, instead);
        }
        let (home, handed) = (self.cluster.path("upgrades"), self.cluster.path("handed"));
        let at = ["--home", text(&home)];
        self.agent_says("upgrade status", &at);
        self.agent_says("upgrade trust", &[&[token.as_str()], at.as_slice()].concat());
        let nothing = [["upgrade", "apply", "--handed", text(&handed)].as_slice(), &at, &["-o", "json"]].concat();
        let refused = self.cluster.agent_says("desk", &nothing);
        assert!(refused.code != 0 && refused.out.is_empty() && !refused.err.is_empty(), "{}: {}", refused.code, refused.out);
        self.refused.insert("lull-agent upgrade apply".into(), refused.err);
        self.agent_says("upgrade distrust", &at);
        self.agent_says("tray end", &[]);
        self.agent_says("leave", &[]);
        self.lull("agent revoke", &["desk"]);
        self.lull("agent restore", &["desk"]);
        self.cluster.lull(&["agent", "revoke", "desk"]);
        self.lull("agent remove", &["desk"]);
    }
}

/// Every command that has none below it.
fn leaves(command: &clap::Command, path: String, into: &mut BTreeSet<String>) {
    let subs: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()).collect();
    if subs.is_empty() {
        into.insert(path);
        return;
    }
    for sub in subs {
        leaves(sub, format!("{path} {}", sub.get_name()), into);
    }
}
