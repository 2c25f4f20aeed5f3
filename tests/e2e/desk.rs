//! The sensor of a real Linux desk, as far as one can be made up here: a virtual display, and a mock of logind on a bus of
//! its own. What is not installed (`xvfb`, `xdotool`, `python3-dbusmock`) is not tried, and a line on standard error says so.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use lull_tests::{
    cluster::{Cluster, functions, module, text, wait_until},
    processes,
};

use crate::PROGRAMS;

/// A program in the background, ended with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that prints one line when it is ready; that line. None if it is not installed.
fn background(program: &str, arguments: &[&str]) -> Option<(Background, String)> {
    let spawned = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = spawned else {
        eprintln!("NOT RUN: {program} is not installed");
        return None;
    };
    let mut line = String::new();
    let out = child.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("it says that it is ready");
    Some((Background(child), line.trim().to_owned()))
}

/// A cluster whose agent looks at the machine that these variables describe, with work that takes a while.
fn working(variables: &[(&str, &str)], narrowed: &[&str]) -> (Cluster, String) {
    let mut cluster = Cluster::start(PROGRAMS);
    cluster.enrol_agent("desk", 1, &[]);
    cluster.launch_agent_on("desk", "machine", variables);
    wait_until("it answers", || cluster.agent_says("desk", &["status"]).code == 0, || log(&cluster));
    cluster.agent_says("desk", &[&["policy", "set"], narrowed].concat()).ok();
    let text_form = std::fs::read_to_string(functions().join("fixtures/busy.wat")).expect("a fixture");
    let busy = module(cluster.path("").as_path(), "busy", &text_form);
    cluster.lull(&["func", "publish", text(&busy)]);
    let lines = cluster.path("lines");
    std::fs::write(&lines, "1000000\n").expect("written");
    let job = cluster.lull(&["submit", "busy", "--each-line", text(&lines), "-o", "id"]).out.trim().to_owned();
    (cluster, job)
}

fn log(cluster: &Cluster) -> String {
    let status = cluster.agent_says("desk", &["status"]).out;
    format!("{status}\n{}", std::fs::read_to_string(cluster.path("desk.log")).unwrap_or_default())
}

fn wait_for_status(cluster: &Cluster, words: &str) {
    wait_until(words, || cluster.agent_says("desk", &["status"]).out.contains(words), || log(cluster));
}

fn runs(cluster: &Cluster) -> bool {
    let executors = processes::children(cluster.agent_pid("desk"));
    !executors.is_empty() && executors.into_iter().all(|pid| !processes::is_stopped(pid))
}

#[test]
fn under_x11_the_mouse_freezes_the_work_and_its_rest_lets_it_go_on() {
    // The display tells its number when it takes connections.
    let Some((_display, number)) = background("Xvfb", &["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"])
    else {
        return;
    };
    let display = format!(":{number}");
    let moves = |to: &str| {
        let moved = Command::new("xdotool").args(["mousemove", to, to]).env("DISPLAY", &display).status();
        moved.is_ok_and(|status| status.success())
    };
    if !moves("5") {
        return eprintln!("NOT RUN: xdotool is not installed");
    }
    let narrowed = ["idle=5s", "beside_owner=false", "unseen=false", "grace=1h"];
    let (cluster, job) = working(&[("DISPLAY", &display)], &narrowed);
    wait_for_status(&cluster, "keyboard, mouse and full screen of its display, by X11");
    wait_until("after five seconds of rest it works", || runs(&cluster), || log(&cluster));
    // A hand that goes on moving is no bump.
    let (to, there) = (std::cell::Cell::new(10), || cluster.agent_says("desk", &["status"]).out.contains("its owner uses it"));
    wait_until(
        "the owner is seen",
        || {
            to.set(if to.get() > 400 { 10 } else { to.get() + 7 });
            moves(&to.get().to_string()) && there()
        },
        || log(&cluster),
    );
    wait_until("nothing runs", || !runs(&cluster), || log(&cluster));
    wait_until("it works again", || runs(&cluster), || log(&cluster));
    assert_eq!(cluster.job(&job)["moved"], 0);
}

/// A bus, and on it a logind that does as it is told.
struct Logind {
    address: String,
    _bus: Background,
    _mock: Background,
}

/// Prints a line when the mock has its name on the bus, and ends with its standard input.
const MOCK: &str = "
import sys, dbus, dbusmock, subprocess
bus = dbus.bus.BusConnection(sys.argv[1])
mock = subprocess.Popen([sys.executable, '-m', 'dbusmock', '--session', '--template', 'logind'],
                        stdout=subprocess.DEVNULL)
try:
    import time
    while not bus.name_has_owner('org.freedesktop.login1'):
        time.sleep(0.05)
    print('ready', flush=True)
    sys.stdin.read()
finally:
    mock.kill()
";

impl Logind {
    fn start() -> Option<Self> {
        let has = Command::new("/usr/bin/python3").args(["-c", "import dbusmock"]).stderr(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            eprintln!("NOT RUN: python3-dbusmock is not installed");
            return None;
        }
        let (bus, address) = background("dbus-daemon", &["--session", "--nofork", "--print-address=1"])?;
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", MOCK, &address])
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut ready).expect("it says so");
        assert_eq!(ready, "ready\n");
        Some(Self { address, _bus: bus, _mock: Background(child) })
    }

    /// Lets python speak with the mock; what it prints.
    fn tell(&self, what: &str) -> String {
        let script = format!(
            "import sys, dbus\nbus = dbus.bus.BusConnection(sys.argv[1])\n\
             m = bus.get_object('org.freedesktop.login1', '/org/freedesktop/login1')\n{what}"
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &script, &self.address])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut said = String::new();
        child.stdout.take().expect("it is piped").read_to_string(&mut said).expect("text");
        assert!(child.wait().expect("it ends").success(), "{what}");
        said
    }

    fn inhibitors(&self) -> String {
        self.tell("print([str(i[1]) for i in m.ListInhibitors(dbus_interface='org.freedesktop.login1.Manager')])")
    }
}

#[test]
fn by_logind_a_machine_that_goes_to_sleep_waits_until_the_work_is_given_away() {
    let Some(logind) = Logind::start() else { return };
    let variables = [("DBUS_SYSTEM_BUS_ADDRESS", logind.address.as_str())];
    let (cluster, job) = working(&variables, &["grace=1h"]);
    wait_for_status(&cluster, "sessions, lid, sleep and shutdown, by logind");
    wait_until("it works", || runs(&cluster), || log(&cluster));
    assert!(logind.inhibitors().contains("Lull"), "it asks to be waited for");
    let signal = |start: &str| {
        format!(
            "m.EmitSignal('org.freedesktop.login1.Manager', 'PrepareForSleep', 'b', [{start}], dbus_interface='org.freedesktop.DBus.Mock')"
        )
    };
    logind.tell(&signal("True"));
    wait_until("the lock is let go", || !logind.inhibitors().contains("Lull"), || log(&cluster));
    assert!(processes::children(cluster.agent_pid("desk")).is_empty(), "and by then nothing is left: {}", log(&cluster));
    cluster.wait_for_job(&job, "it waits for another place", |job| job["counts"]["queued"] == 1);
    logind.tell(&signal("False"));
    wait_until("it works again", || runs(&cluster), || log(&cluster));
    wait_until("and asks to be waited for again", || logind.inhibitors().contains("Lull"), || log(&cluster));
}

#[test]
fn by_logind_a_machine_stays_awake_while_it_works_if_the_policy_says_so() {
    let Some(logind) = Logind::start() else { return };
    let variables = [("DBUS_SYSTEM_BUS_ADDRESS", logind.address.as_str())];
    let (cluster, _job) = working(&variables, &["grace=1h"]);
    wait_until("it works", || runs(&cluster), || log(&cluster));
    let held = || {
        logind.tell("print([(str(i[0]), str(i[3])) for i in m.ListInhibitors(dbus_interface='org.freedesktop.login1.Manager')])")
    };
    let awake = || held().contains("('idle:sleep', 'block')");
    wait_for_status(&cluster, "sessions, lid, sleep and shutdown, by logind");
    assert!(!awake(), "nobody asked for it: {}", held());
    cluster.lull(&["policy", "set", "keep_awake=true"]);
    wait_until("it is kept awake", awake, || format!("{}\n{}", held(), log(&cluster)));
    cluster.agent_says("desk", &["pause"]).ok();
    wait_until("nothing runs, and it may sleep", || !awake(), || format!("{}\n{}", held(), log(&cluster)));
    cluster.agent_says("desk", &["resume"]).ok();
    wait_until("it works again, awake", awake, || format!("{}\n{}", held(), log(&cluster)));
    cluster.lull(&["policy", "set", "keep_awake=false"]);
    wait_until("it may sleep", || !awake(), || format!("{}\n{}", held(), log(&cluster)));
    assert!(runs(&cluster), "and works on");
}

#[test]
fn by_logind_a_terminal_that_is_typed_in_keeps_the_machine() {
    let Some(logind) = Logind::start() else { return };
    logind.tell(
        "m.AddSession('c1', 'seat0', 1000, 'ann', True, dbus_interface='org.freedesktop.DBus.Mock')\n\
         s = bus.get_object('org.freedesktop.login1', '/org/freedesktop/login1/session/c1')\n\
         p = 'org.freedesktop.login1.Session'\n\
         [s.UpdateProperties(p, d, dbus_interface='org.freedesktop.DBus.Mock') for d in\n\
          [{'Type': 'tty', 'Class': 'user', 'IdleHint': False}]]",
    );
    let variables = [("DBUS_SYSTEM_BUS_ADDRESS", logind.address.as_str())];
    // Longer than the pause between two looks at sessions.
    let narrowed = ["idle=15s", "beside_owner=false", "unseen=false"];
    let (cluster, _job) = working(&variables, &narrowed);
    wait_for_status(&cluster, "paused: its owner uses it");
    wait_for_status(&cluster, "sessions, lid, sleep and shutdown, by logind");
    logind.tell(
        "s = bus.get_object('org.freedesktop.login1', '/org/freedesktop/login1/session/c1')\n\
         s.UpdateProperties('org.freedesktop.login1.Session', {'IdleHint': True, 'IdleSinceHint': dbus.UInt64(1)},\n\
          dbus_interface='org.freedesktop.DBus.Mock')",
    );
    wait_until("its last key was long ago", || runs(&cluster), || log(&cluster));
}
