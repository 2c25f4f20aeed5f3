//! Agents become another version, in waves: the network's word, the package over the mesh, and an installer that has the right to.
//! The part of systemd is played here: it sees what an agent has handed over, and starts what installs it.
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use lull_coordinator::packages::made_up;
use lull_tests::cluster::{Cluster, text, wait_until};
use serde_json::Value;

use crate::PROGRAMS;

const AGENTS: [&str; 3] = ["north", "south", "west"];
const VERSION: &str = "99.0.0";

fn home(cluster: &Cluster, agent: &str) -> PathBuf {
    cluster.path(&format!("{agent}.upgrade"))
}

/// Starts an agent that says it is of this version, if one is named.
fn launch(cluster: &mut Cluster, agent: &str, version: Option<&str>) {
    let (script, home) = (format!("script:{}", text(&cluster.path(agent).join("owner.sock"))), home(cluster, agent));
    let mut variables = vec![("LULL_UPGRADE_HOME", text(&home))];
    variables.extend(version.map(|version| ("LULL_TEST_AGENT_VERSION", version)));
    cluster.launch_agent_on(agent, &script, &variables);
    let shown = || cluster.try_lull(&["agent", "list"]).out;
    wait_until(&format!("{agent} is connected"), || cluster.agent_connected(agent), shown);
}

fn release(cluster: &Cluster, agent: &str) -> PathBuf {
    cluster.path(agent).join("upgrade").join("release")
}

/// The agent that has handed a package over and is none of these.
fn next_one(cluster: &Cluster, but: &[&str]) -> &'static str {
    let handed = || AGENTS.into_iter().find(|agent| !but.contains(agent) && release(cluster, agent).exists());
    wait_until("an agent hands the package over", || handed().is_some(), || rollout(cluster).to_string());
    handed().expect("it was there")
}

/// What systemd starts, with an installer that notes what it was given.
fn apply(cluster: &Cluster, agent: &str) -> PathBuf {
    let (installer, installed) = (cluster.path(&format!("{agent}.installer")), cluster.path(&format!("{agent}.installed")));
    fs::write(&installer, format!("#!/bin/sh\ncp \"$1\" {}\n", text(&installed))).expect("written");
    fs::set_permissions(&installer, fs::Permissions::from_mode(0o755)).expect("set");
    let (handed, home) = (cluster.path(agent).join("upgrade"), home(cluster, agent));
    let arguments = ["upgrade", "apply", "--handed", text(&handed), "--home", text(&home), "--installer", text(&installer)];
    cluster.agent_says(agent, &arguments).ok();
    installed
}

fn rollout(cluster: &Cluster) -> Value {
    cluster.lull(&["agent", "upgrade", "-o", "json"]).json()["upgrades"][0].clone()
}

fn wait_for(cluster: &Cluster, what: &str, condition: impl Fn(&Value) -> bool) {
    wait_until(
        what,
        || condition(&rollout(cluster)),
        || format!("{}\n{}", rollout(cluster), cluster.lull(&["agent", "list"]).out),
    );
}

fn package(folder: &Path) -> (PathBuf, Vec<u8>) {
    let (path, bytes) = (folder.join(format!("lull-agent_{VERSION}_amd64.deb")), made_up::agent(VERSION));
    fs::write(&path, &bytes).expect("written");
    (path, bytes)
}

#[test]
fn a_rollout_goes_in_waves_and_stops_by_itself_when_an_agent_does_not_come_back() {
    let mut cluster = Cluster::start(PROGRAMS);
    for agent in AGENTS {
        cluster.enrol_agent(agent, 1, &[]);
        let (token, home) = (cluster.join_token(1), home(&cluster, agent));
        cluster.agent_says(agent, &["upgrade", "trust", "--home", text(&home), &token]).ok();
        launch(&mut cluster, agent, None);
    }
    let (file, bytes) = package(&cluster.path(""));
    let wrong = cluster.try_lull(&["agent", "upgrade", "--to", "server/admin.token"]);
    assert!(wrong.code != 0 && wrong.err.contains("it is no package of an agent"), "{}", wrong.err);
    let times = ["--within", "30s", "--steady", "1s"];
    cluster.lull(&[&["agent", "upgrade", "--to", text(&file), "--wave", "1%,50%,100%"], times.as_slice()].concat());

    let first = next_one(&cluster, &[]);
    assert!(cluster.lull(&["agent", "list"]).out.contains("0.1.0, behind"), "who is behind is marked");
    let installed = apply(&cluster, first);
    assert_eq!(fs::read(installed).expect("it was given to the installer"), bytes);
    assert_eq!(AGENTS.iter().filter(|agent| release(&cluster, agent).exists()).count(), 1, "one wave at a time");
    cluster.kill_agent(first);
    launch(&mut cluster, first, Some(VERSION));
    wait_for(&cluster, "the first is healthy", |rollout| rollout["steps"]["healthy"] == 1);

    let second = next_one(&cluster, &[first]);
    apply(&cluster, second);
    wait_for(&cluster, "the second has given it to the installer", |rollout| rollout["steps"]["given"] == 1);
    cluster.kill_agent(second);
    wait_for(&cluster, "the rollout stops by itself", |rollout| rollout["state"] == "stopped");
    let why = "1 of the 2 machines that were told did not come back";
    assert!(rollout(&cluster)["stopped"].as_str().is_some_and(|words| words.contains(why)), "{}", rollout(&cluster));
    assert!(cluster.lull(&["status"]).out.contains(why), "{}", cluster.lull(&["status"]).out);
    assert!(cluster.lull(&["audit", "-o", "json"]).out.contains("rollout.halt"));
    let listed = cluster.lull(&["agent", "list"]).out;
    assert!(listed.contains("did not come back in time"), "{listed}");
    let third = AGENTS.into_iter().find(|agent| ![first, second].contains(agent)).expect("three");
    assert!(!release(&cluster, third).exists(), "nobody else was told");

    cluster.kill_server();
    cluster.start_server();
    assert_eq!(rollout(&cluster)["state"], "stopped", "the next leader knows");
    cluster.lull(&["agent", "upgrade", "--resume"]);
    assert_eq!(next_one(&cluster, &[first, second]), third, "the last wave begins when somebody says so");
}

#[test]
fn an_agent_whose_administrator_has_not_allowed_it_refuses_and_works_on() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.enrol_agent(AGENTS[0], 1, &[]);
    launch(&mut cluster, AGENTS[0], None);
    let (file, _) = package(&cluster.path(""));
    cluster.lull(&["agent", "upgrade", "--to", text(&file)]);
    wait_for(&cluster, "it refuses", |rollout| rollout["steps"]["refused"] == 1);
    let said = cluster.lull(&["agent", "upgrade"]).err;
    assert!(said.contains("its administrator has not allowed it"), "{said}");
    assert!(!release(&cluster, AGENTS[0]).exists());
    assert!(cluster.lull(&["agent", "show", AGENTS[0]]).out.contains("to become"));
}
