//! The policy's way: from an administrator's word to what machines do, and what their owners make of it.

use lull_tests::cluster::{Cluster, wait_until};

use crate::PROGRAMS;

#[test]
fn a_policy_reaches_machines_stays_with_them_and_is_narrowed_by_their_owners() {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.add_agent("desk", 4, &["site=berlin"]);
    cluster.add_agent("lab", 1, &["site=lab"]);
    let set = ["policy", "set", "--for", "site=berlin", "hours=18:00-08:00", "idle=5m", "cores=50", "beside_owner=false"];
    let version = cluster.lull(&[set.as_slice(), &["-o", "json"]].concat()).json()["version"].as_u64().expect("a version");
    let of = |agent: &str| cluster.agent_says(agent, &["policy", "-o", "json"]).ok().json();
    let log = || of("desk").to_string();
    wait_until("the new version holds", || of("desk")["version"] == version, log);
    assert_eq!(of("desk")["effective"]["idle"], "5m");
    assert_eq!(of("lab")["effective"]["hours"], "always", "it is not in Berlin");

    // By the machine's own clock it is the middle of the day, and its owner is away.
    cluster.owner("desk", r#"{"local": "mon 14:00"}"#);
    let show = || cluster.lull(&["agent", "show", "desk"]).out;
    wait_until("it says why it does not work", || show().contains("its policy lets it work from mon 18:00 on"), show);
    assert!(cluster.agent_says("desk", &["status"]).out.contains("paused: its policy lets it work from mon 18:00 on"));
    cluster.owner("desk", r#"{"local": "mon 18:00"}"#);
    wait_until("it works", || !show().contains("paused because"), show);

    let test = |more: &[&str]| cluster.lull(&[["policy", "test", "desk"].as_slice(), more].concat()).out;
    let evening = test(&["--at", "tue 20:00"]);
    assert!(evening.contains("owner there") && evening.contains("it works after 5m without input"), "{evening}");
    assert!(test(&["--at", "tue 12:00"]).contains("nothing runs: its policy lets it work from tue 18:00 on"));
    assert!(test(&["--week"]).contains("mon  # # # # # # # # . . . . . . . . . . # # # # # #"), "{}", test(&["--week"]));

    cluster.agent_says("desk", &["policy", "set", "idle=20m", "cores=95"]).ok();
    let effective = of("desk")["effective"].clone();
    assert_eq!((&effective["idle"], &effective["cores"]), (&"20m".into(), &"50".into()), "narrower, never wider");
    wait_until("the coordinator knows", || show().contains("idle=20m"), show);
    assert!(test(&[]).contains("its owner says"), "{}", test(&[]));

    cluster.kill_server();
    cluster.kill_agent("desk");
    cluster.launch_agent("desk");
    let answers = || cluster.agent_says("desk", &["policy", "-o", "json"]);
    wait_until("it runs without a coordinator", || answers().code == 0, || answers().err);
    let kept = answers().json();
    assert_eq!((&kept["version"], &kept["effective"]["idle"]), (&version.into(), &"20m".into()));
}

#[test]
fn nonsense_is_refused_in_words_and_changes_are_in_the_audit() {
    let cluster = Cluster::start(PROGRAMS);
    let refused = |arguments: &[&str]| {
        let said = cluster.try_lull(&[["policy", "set"].as_slice(), arguments].concat());
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.err);
        said.err
    };
    assert!(refused(&["idel=5m"]).contains("there is no setting `idel`"));
    assert!(refused(&["cores=0"]).contains("nothing would ever run"));
    assert!(refused(&["--for", "berlin", "cores=10"]).contains("is not a constraint"));
    assert!(refused(&["hours=8-18"]).contains("HH:MM-HH:MM"));
    assert!(refused(&["--reset", "coers"]).contains("there is no setting `coers`"));
    cluster.lull(&["policy", "set", "grace=30s"]);
    let again = cluster.lull(&["policy", "set", "grace=30s"]);
    assert!(again.err.contains("it was like that already"), "{}", again.err);
    let audit = cluster.lull(&["audit", "-o", "json"]).json();
    assert_eq!((&audit["audit"][0]["action"], &audit["audit"][0]["detail"]), (&"policy.set".into(), &"grace=30s".into()));
    let shown = cluster.lull(&["policy", "show"]).out;
    assert!(shown.contains("* grace            30s"), "{shown}");
}
