//! What is installed beside the program must fit the systems that it is installed on.

use std::{collections::BTreeSet, path::Path, process::Command};

/// The groups of system calls that systemd 247 has, the oldest one that is supported, and that none since has dropped.
const GROUPS: [&str; 26] = [
    "@default",
    "@aio",
    "@basic-io",
    "@chown",
    "@clock",
    "@cpu-emulation",
    "@debug",
    "@file-system",
    "@io-event",
    "@ipc",
    "@keyring",
    "@memlock",
    "@module",
    "@mount",
    "@network-io",
    "@obsolete",
    "@privileged",
    "@process",
    "@raw-io",
    "@reboot",
    "@resources",
    "@setuid",
    "@signal",
    "@swap",
    "@sync",
    "@system-service",
];
/// What closes a cage, which no group of systemd's before 254 has.
const CAGE: [&str; 4] = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"];

fn units() -> impl Iterator<Item = (String, String)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../installer"));
    let entries = std::fs::read_dir(folder).expect("the folder of the installer").map(|entry| entry.expect("an entry").path());
    let units = entries.filter(|path| path.extension().is_some_and(|extension| extension == "service"));
    units.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a unit")))
}

fn calls(unit: &str) -> impl Iterator<Item = &str> {
    let filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    filters.flat_map(|filter| filter.trim_start_matches('~').split_whitespace())
}

#[test]
fn units_name_no_call_that_an_older_systemd_leaves_out() {
    let known: BTreeSet<&str> = GROUPS.into_iter().chain(CAGE).collect();
    for (path, unit) in units() {
        assert!(calls(&unit).count() > 0, "{path} has a filter");
        calls(&unit).for_each(|name| assert!(known.contains(name), "{path}: `{name}` is not known everywhere"));
    }
}

#[test]
fn the_agents_unit_lets_cages_be_closed() {
    let (path, unit) = units().find(|(path, _)| path.ends_with("lull-agent.service")).expect("the agent's unit");
    let named: BTreeSet<&str> = calls(&unit).collect();
    CAGE.iter().for_each(|call| assert!(named.contains(call), "{path} must let {call} through"));
}

/// Asks the systemd that is here, if one is.
#[test]
fn systemd_understands_every_unit() {
    for (path, unit) in units() {
        // The programs are not installed where tests run.
        let stand_in =
            |line: &str| if line.starts_with("ExecStart=") { "ExecStart=/bin/true".to_owned() } else { line.to_owned() };
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join(Path::new(&path).file_name().expect("a name"));
        std::fs::write(&copy, unit.lines().map(stand_in).collect::<Vec<_>>().join("\n")).expect("a copy");
        match Command::new("systemd-analyze").arg("verify").arg(&copy).output() {
            Ok(said) => {
                let said = String::from_utf8_lossy(&said.stderr).into_owned();
                assert!(!said.contains("nknown") && !said.contains("ignoring"), "{path}: {said}");
            }
            Err(error) => eprintln!("NOT CHECKED: {path}: systemd-analyze: {error}"),
        }
    }
}

/// A bound that the security page names is one that the code has.
#[test]
fn every_bound_of_the_security_page_is_in_the_code_where_it_says() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = std::fs::read_to_string(root.join("installer/SECURITY.md")).expect("the page");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, name, file, _] = cells[..] else { return None };
        Some((name.strip_prefix('`')?.strip_suffix('`')?, file.strip_prefix('`')?.strip_suffix('`')?))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 20, "{rows:?}");
    for (name, file) in rows {
        let code = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(code.contains(&format!("const {name}:")), "`{name}` is not in {file}");
    }
}

/// What the page for those who have to agree says is what the code does.
#[test]
fn the_page_about_a_machine_says_what_the_code_does() {
    let page = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../installer/MACHINE.md"));
    let page = std::fs::read_to_string(page).expect("the page");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(what, _)| *what != "what")
        .collect();
    let says = |what: &str, text: &str| {
        let text = format!("`{text}`");
        assert!(rows.iter().any(|(row, words)| *row == what && words.contains(&text)), "{what} {text} is not in {rows:?}");
    };
    let agent = &crate::service::AGENT;
    says("service", agent.name);
    says("service", agent.shown);
    says("account", &format!(r"NT SERVICE\{}", agent.name));
    let privileges: Vec<&str> =
        rows.iter().filter(|(what, _)| *what == "privilege").map(|(_, words)| words.trim_matches('`')).collect();
    assert_eq!(privileges, agent.privileges, "all of them and no other");
    says("listens", &crate::service::PORT.to_string());
    says("event log", agent.source);
    says("pipe", &format!(r"\\.\pipe\{}", agent.name));
    for key in [crate::machine_policy::KEY, crate::machine_policy::RECOMMENDED_KEY] {
        says("key", &format!(r"HKLM\{key}"));
    }
    says("file", crate::machine_policy::FILE);
    let installer = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../installer/windows/lull-agent.wxs"));
    let installer = std::fs::read_to_string(installer).expect("the installer's source");
    let key = r"Software\Lull\Agent";
    assert!(installer.contains(&format!("Key=\"{key}\"")), "{key}");
    says("key", &format!(r"HKLM\{key}"));
    let (_, unit) = units().find(|(path, _)| path.ends_with("lull-agent.service")).expect("the agent's unit");
    for setting in
        ["DynamicUser=yes", "LULL_AGENT_DATA=/var/lib/lull-agent", "RuntimeDirectory=lull-agent", "DeviceAllow=char-input r"]
    {
        assert!(unit.contains(setting), "{setting}");
    }
    says("devices", "char-input");
    // What installs an upgrade.
    for unit in ["lull-agent-upgrade.path", "lull-agent-upgrade.service"] {
        assert!(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../installer")).join(unit).is_file(), "{unit}");
        says("upgrade", unit);
    }
    #[cfg(unix)]
    {
        use crate::upgrade::{HANDED, RELEASE, sys};
        says("folder", sys::HOME);
        let installer = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../installer"));
        let read = |unit: &str| std::fs::read_to_string(installer.join(unit)).expect("a unit");
        let watched = format!("PathChanged={}/{HANDED}/{RELEASE}\n", sys::DATA);
        assert!(read("lull-agent-upgrade.path").contains(&watched), "{watched}");
        let service = read("lull-agent-upgrade.service");
        assert!(service.contains(&format!("ConditionPathExists={}/trust\n", sys::HOME)), "{service}");
        assert!(service.contains("ExecStart=/usr/bin/lull-agent upgrade apply\n"), "{service}");
    }
}
