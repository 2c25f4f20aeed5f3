//! A running agent as `lull-agent status` and the tray show it.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use lull_session::{LinkStatus, SessionStatus, SlotStatus, TaskStatus};
use lull_shared::{
    amount::{counted, spoken},
    id::AgentId,
    state::Intake,
    time::Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::share::{Count, Share};

/// The version of this shape; fields may be added under the same one.
const SCHEMA_VERSION: u32 = 1;
const MINUTE_MS: u64 = 60_000;

/// Something that sees the owner or the machine, or would if it could.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `X11`, `logind`, ...
    pub name: String,
    /// What it is there to see, in words.
    pub about: String,
    /// Why it does not see, when it does not.
    pub missing: Option<String>,
}

/// Writes [`SCHEMA_VERSION`] and reads nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(SCHEMA_VERSION)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            SCHEMA_VERSION => Ok(Self),
            other => Err(de::Error::custom(format!("schema version {other}; this program reads {SCHEMA_VERSION}"))),
        }
    }
}

/// Everything about an agent at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema_version: Version,
    /// The program's version.
    pub version: String,
    pub agent: AgentId,
    pub name: String,
    pub network: String,
    pub peer: String,
    pub pid: u32,
    pub started: Timestamp,
    pub now: Timestamp,
    pub data: PathBuf,
    /// The address of the coordinator that is connected.
    pub coordinator: Option<String>,
    /// Why the network does not want this machine, if that is what it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwanted: Option<String>,
    /// Where people look at the network with a browser, if the coordinator has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<String>,
    /// What the administrator of this machine has set and its owner cannot change, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_policy: Option<String>,
    pub session: SessionStatus,
    /// What this machine did for others.
    pub share: Share,
    /// What sees the owner and the machine, and what does not.
    pub sources: Vec<Source>,
    /// What holds the executors, once one has started.
    pub cage: Option<String>,
    pub cache_bytes: u64,
    pub cache_bytes_max: u64,
}

impl Status {
    /// The status as a table for people.
    pub fn table(&self) -> String {
        let session = &self.session;
        let mut rows = vec![
            ("agent", format!("{} ({}), version {}", self.agent, self.name, self.version)),
            ("coordinator", self.connection()),
            ("portal", self.portal.clone().unwrap_or_else(|| "none that can be reached from here".into())),
            ("state", self.state()),
            ("slots", format!("{} of {} busy", session.capacity.slots_busy, session.slots.len())),
        ];
        rows.extend(session.slots.iter().enumerate().filter_map(|(number, slot)| Some(("", slot_line(number, slot)?))));
        let fetching =
            if session.fetching > 0 { format!(", {} of them for their files", session.fetching) } else { String::new() };
        rows.push(("waiting", format!("{}{fetching}", session.waiting)));
        let trouble =
            session.disk_trouble.as_ref().map(|reason| format!("; the disk refuses more: {reason}")).unwrap_or_default();
        rows.push(("outbox", format!("{} not acknowledged{trouble}", counted(session.outbox as u64, "result"))));
        let memory = session.memory_available_bytes.map_or_else(|| "not measured yet".into(), size);
        let others = session
            .cpu_others_percent
            .map_or_else(|| "not measured yet".into(), |percent| format!("{percent} % in use by others"));
        rows.push(("memory", format!("{memory} available, {} may be used", size(session.capacity.memory_free_bytes))));
        rows.push(("processors", others));
        rows.push(("tonight", self.count(&self.share.tally.tonight)));
        rows.push(("this month", self.count(&self.share.tally.month)));
        rows.extend(self.machine_policy.clone().map(|words| ("policy", format!("{words}; `lull-agent policy` shows all"))));
        rows.extend(self.sources.iter().map(|source| ("sees", source_line(source))));
        rows.push(("cage", self.cage.clone().unwrap_or_else(|| "not known: no executor could be started".into())));
        rows.push(("cache", format!("{} of {}", size(self.cache_bytes), size(self.cache_bytes_max))));
        rows.push(("running", format!("since {}, process {}", self.started, self.pid)));
        rows.push(("data", self.data.display().to_string()));
        let mut table = String::new();
        for (key, value) in rows {
            writeln!(table, "{key:<12} {value}").expect("a string takes everything");
        }
        table
    }

    fn count(&self, count: &Count) -> String {
        let (run, tasks) = (spoken(Duration::from_millis(count.run_ms)), counted(count.tasks, "task"));
        format!("{tasks}, {run} of work, {}", energy(count.watt_hours(self.share.watts_per_processor)))
    }

    /// The same, without what changes all the time and nobody need be told of: two that are alike look alike.
    pub fn settled(&self) -> Self {
        let mut settled = self.clone();
        settled.now = Timestamp::default();
        (settled.cache_bytes, settled.cache_bytes_max) = (0, 0);
        let tally = &mut settled.share.tally;
        for count in [Some(&mut tally.tonight), tally.last_night.as_mut(), Some(&mut tally.month)].into_iter().flatten() {
            (count.run_ms, count.cpu_ms) = (count.run_ms / MINUTE_MS, count.cpu_ms / MINUTE_MS);
        }
        let session = &mut settled.session;
        (session.cpu_others_percent, session.memory_available_bytes) = (None, None);
        let capacity = &mut session.capacity;
        (capacity.sequence, capacity.cpu_free_percent, capacity.memory_free_bytes) = (0, 0, 0);
        for slot in &mut session.slots {
            if let SlotStatus::Running { run_ms, .. } | SlotStatus::Paused { run_ms, .. } = slot {
                *run_ms = 0;
            }
        }
        settled
    }

    fn connection(&self) -> String {
        match (&self.session.link, &self.coordinator) {
            (LinkStatus::Up { since, .. }, Some(address)) => {
                format!("{address}, for {}", time(self.now.since(*since)))
            }
            (LinkStatus::Greeting, Some(address)) => format!("{address}, being greeted"),
            _ => match &self.unwanted {
                // What to do is said on the same line here.
                Some(why) => format!("not connected: {}; it asks again within a minute", lull_shared::hint::in_one_line(why)),
                None => "not connected; trying".into(),
            },
        }
    }

    fn state(&self) -> String {
        let paused = self.session.paused.as_ref().map(|reason| format!("paused: {reason}"));
        let intake = match self.session.intake {
            Intake::Open => None,
            Intake::Cordoned => Some("nothing new comes here, by the administrator's word".to_owned()),
            Intake::Draining => Some("finishing what runs, by the administrator's word".to_owned()),
            Intake::Revoked => Some("thrown out of the network".to_owned()),
        };
        let light = self.session.beside.then(|| match self.session.capacity.slots {
            1 => "light work beside its owner, 1 task at a time".to_owned(),
            slots => format!("light work beside its owner, {slots} tasks at a time"),
        });
        let is_up = matches!(self.session.link, LinkStatus::Up { .. });
        let unwanted = self.unwanted.as_ref().filter(|_| !is_up && self.session.intake != Intake::Revoked);
        let unwanted = unwanted.map(|_| "the network gives it nothing to do: see above".to_owned());
        let words: Vec<String> = [unwanted, paused, light, intake].into_iter().flatten().collect();
        if words.is_empty() { "ready".into() } else { words.join("; ") }
    }
}

fn source_line(Source { name, about, missing }: &Source) -> String {
    match missing {
        None => format!("{about}, by {name}"),
        Some(why) => format!("not by {name}: {why}"),
    }
}

fn slot_line(number: usize, slot: &SlotStatus) -> Option<String> {
    let words = |task: &TaskStatus| {
        let whose = if task.submitter.is_empty() { String::new() } else { format!(" for {}", task.submitter) };
        format!("{} of {} ({}){whose}", task.attempt.task, task.job_name, task.function)
    };
    let more = |piped: usize| if piped > 0 { format!(", {piped} more in its pipe") } else { String::new() };
    let line = match slot {
        SlotStatus::Idle => return None,
        SlotStatus::Starting { task: Some(task) } => format!("starting {}", words(task)),
        SlotStatus::Starting { task: None } => "starting".into(),
        SlotStatus::Warm { job, job_name } => format!("ready for more of {job} ({job_name})"),
        SlotStatus::Running { task, run_ms, piped, .. } => {
            format!("{} for {}{}", words(task), time(Duration::from_millis(*run_ms)), more(*piped))
        }
        SlotStatus::Paused { task, run_ms, piped, .. } => {
            format!("frozen: {} after {}{}", words(task), time(Duration::from_millis(*run_ms)), more(*piped))
        }
        SlotStatus::Suspending { task } => format!("being moved away: {}", words(task)),
        SlotStatus::Stopping => "stopping".into(),
    };
    Some(format!("{number}: {line}"))
}

/// An estimate of electricity for people.
pub fn energy(watt_hours: f64) -> String {
    match watt_hours {
        hours if hours < 1.0 => "estimated less than 1 Wh".into(),
        hours if hours < 1000.0 => format!("estimated {hours:.0} Wh"),
        hours => format!("estimated {:.1} kWh", hours / 1000.0),
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// A duration that a person can read: whole seconds once there are some.
fn time(duration: Duration) -> String {
    let rounded = if duration < Duration::from_secs(1) {
        Duration::from_millis(duration.subsec_millis().into())
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::{AttemptId, JobId, TaskId, Term},
        resources::Capacity,
        state::PauseReason,
    };

    use super::*;
    use crate::share::{Gain, Tally};

    fn status() -> Status {
        let task = TaskStatus {
            attempt: AttemptId { task: TaskId { job: JobId(42), index: 7 }, number: 1 },
            job_name: "thumbnails".into(),
            submitter: "ana".into(),
            function: "resize@3".into(),
        };
        Status {
            schema_version: Version,
            version: "0.1.0".into(),
            agent: AgentId(3),
            name: "desk-17".into(),
            network: "00".into(),
            peer: "12D3".into(),
            pid: 99,
            started: Timestamp::default(),
            now: Timestamp::from_millis(3_661_000),
            data: "/data".into(),
            coordinator: Some("/ip4/10.0.0.1/tcp/7070".into()),
            unwanted: None,
            session: SessionStatus {
                link: LinkStatus::Up { since: Timestamp::from_millis(1_000), term: Term(1) },
                intake: Intake::Open,
                paused: Some(PauseReason::Busy { cpu_percent: 80 }),
                beside: false,
                capacity: Capacity {
                    agent: AgentId(3),
                    run: 0,
                    sequence: 1,
                    slots: 2,
                    slots_busy: 1,
                    waiting: 4,
                    cpu_free_percent: 20,
                    memory_free_bytes: 1 << 30,
                    paused: None,
                },
                cpu_others_percent: Some(80),
                memory_available_bytes: Some(1 << 31),
                functions: Vec::new(),
                slots: vec![SlotStatus::Paused { task, begun: Timestamp::default(), run_ms: 2_500, piped: 0 }, SlotStatus::Idle],
                waiting: 4,
                fetching: 1,
                outbox: 2,
                disk_trouble: None,
            },
            portal: Some("https://lull.example".into()),
            machine_policy: None,
            share: Share {
                tally: Tally::new(jiff::civil::DateTime::constant(2026, 11, 30, 22, 0, 0, 0)),
                watts_per_processor: 8,
            },
            sources: vec![
                Source { name: "X11".into(), about: "keyboard and mouse".into(), missing: None },
                Source { name: "logind".into(), about: "sessions".into(), missing: Some("no system bus".into()) },
            ],
            cage: None,
            cache_bytes: 10,
            cache_bytes_max: 1 << 32,
        }
    }

    #[test]
    fn a_status_reads_back_from_its_json() {
        let text = serde_json::to_string(&status()).expect("JSON");
        assert_eq!(serde_json::from_str::<Status>(&text).expect("a status"), status());
        assert!(text.starts_with("{\"schema_version\":1,"));
    }

    #[test]
    fn what_the_machines_administrator_has_set_is_a_row_of_its_own() {
        let mut status = status();
        assert!(!status.table().contains("\npolicy "));
        status.machine_policy = Some("this machine's administrator has set idle=30m".into());
        let row = "\npolicy       this machine's administrator has set idle=30m; `lull-agent policy` shows all\n";
        assert!(status.table().contains(row), "{}", status.table());
    }

    #[test]
    fn a_machine_that_was_thrown_out_says_so() {
        let mut status = status();
        (status.coordinator, status.session.link) = (None, LinkStatus::Down);
        assert!(status.table().contains("not connected; trying"));
        status.unwanted = Some("this machine was revoked\nhint: ask".into());
        assert!(
            status.table().contains("not connected: this machine was revoked; ask; it asks again within a minute\n"),
            "{}",
            status.table()
        );
        status.session.paused = None;
        assert!(status.table().contains("state        the network gives it nothing to do: see above\n"), "{}", status.table());
        let json = serde_json::to_value(&status).expect("JSON");
        assert_eq!(json["unwanted"], "this machine was revoked\nhint: ask");
    }

    #[test]
    fn what_changes_all_the_time_is_no_news_and_what_people_see_is() {
        let before = status();
        let mut after = status();
        (after.now, after.cache_bytes) = (Timestamp(1), 99);
        (after.session.capacity.sequence, after.session.memory_available_bytes) = (9, None);
        assert_eq!(after.settled(), before.settled());
        let gain = Gain { tasks: 1, ..Gain::default() };
        after.share.tally.add(gain, jiff::civil::DateTime::constant(2026, 11, 30, 23, 0, 0, 0));
        assert_ne!(after.settled(), before.settled());
    }

    #[test]
    fn energy_is_told_as_an_estimate_in_a_size_that_people_read() {
        for (hours, words) in [(0.2, "estimated less than 1 Wh"), (41.6, "estimated 42 Wh"), (1234.0, "estimated 1.2 kWh")] {
            assert_eq!(energy(hours), words);
        }
    }

    #[test]
    fn the_table_says_who_what_and_why() {
        let table = status().table();
        for words in [
            "a3 (desk-17), version 0.1.0",
            "/ip4/10.0.0.1/tcp/7070, for 1h 1m",
            "portal       https://lull.example\n",
            "paused: other programs use 80 % of its processors",
            "0: frozen: j42.7 of thumbnails (resize@3) for ana after 2s",
            "4, 1 of them for their files",
            "keyboard and mouse, by X11",
            "this month   0 tasks, 0ms of work, estimated less than 1 Wh",
            "not by logind: no system bus",
        ] {
            assert!(table.contains(words), "`{words}` is not in\n{table}");
        }
    }
}
