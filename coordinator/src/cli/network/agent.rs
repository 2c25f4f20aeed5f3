//! `lull agent`: list, show, cordon, uncordon, drain, trust, upgrade, revoke, restore, remove.

use clap::{Args, Subcommand};
use lull_scheduler::event::QuarantineKind;
use lull_shared::state::Intake;

use crate::{
    api::{AgentBody, AgentDeed, BehindBody, CLONED_HINT, Spread, standing},
    cli::{
        Context,
        exit::{Exit, Outcome},
        network::{heat, upgrade::Upgrade},
        shown::output::{Cell, Deed, Look, Row, Tone, counted, pairs},
        typed::amount,
    },
};

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// List all enrolled machines
    List(List),
    /// Show a machine, and the hours of the week at which it was there for work
    #[command(after_help = "EXAMPLES:\n  lull agent show desk-17\n  lull agent show a3 -o json")]
    Show(Called),
    /// Place no new work on a machine; what it has goes on
    #[command(after_help = "EXAMPLES:\n  lull agent cordon desk-17")]
    Cordon(Called),
    /// Place new work on a machine again, after cordon or drain
    #[command(after_help = "EXAMPLES:\n  lull agent uncordon desk-17")]
    Uncordon(Called),
    /// Place no new work on a machine, and take back what waits and what can be moved; the rest may finish
    #[command(after_help = "EXAMPLES:\n  lull agent drain desk-17")]
    Drain(Called),
    /// Trust a machine again that was quarantined, because its outputs differed or its identity was cloned
    #[command(after_help = "EXAMPLES:\n  lull agent trust desk-17")]
    Trust(Called),
    /// Remove a machine from the network until it is restored: its certificate, its key and its name are refused
    #[command(after_help = "EXAMPLES:\n  lull agent revoke desk-17")]
    Revoke(Called),
    /// Let a revoked machine in again
    #[command(after_help = "EXAMPLES:\n  lull agent restore desk-17")]
    Restore(Called),
    /// Bring the agents to another version over the mesh, in waves; without options show how far that is
    Upgrade(Upgrade),
    /// Take a machine that has left or was revoked off the list for good; what it ran keeps its name
    #[command(after_help = "EXAMPLES:\n  lull agent remove desk-17")]
    Remove(Called),
}

/// `lull agent list`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull agent list\n  lull agent list --watch\n  lull agent list -o json")]
pub(crate) struct List {
    /// Show the list again whenever it changes
    #[arg(long)]
    watch: bool,
}

/// An agent.
#[derive(Debug, Args)]
pub(crate) struct Called {
    /// The machine's name or its id, like desk-17 or a3
    #[arg(value_parser = amount::some)]
    agent: String,
}

impl Agent {
    /// Whether it changes nothing.
    pub(crate) fn only_shows(&self) -> bool {
        match self {
            Self::List(_) | Self::Show(_) => true,
            Self::Upgrade(upgrade) => upgrade.only_shows(),
            Self::Cordon(_)
            | Self::Uncordon(_)
            | Self::Drain(_)
            | Self::Trust(_)
            | Self::Revoke(_)
            | Self::Restore(_)
            | Self::Remove(_) => false,
        }
    }

    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if let Self::Upgrade(upgrade) = self {
            return upgrade.run(context).await;
        }
        let client = context.server.connect()?;
        let (called, what) = match self {
            Self::Upgrade(_) => return Ok(Exit::Succeeded),
            Self::List(list) => {
                if let Some(outage) = client.status().await?.outage {
                    context.out.note(outage.message);
                }
                return context.show(list.watch, async || Ok(context.out.listed(&client.agents().await?.items))).await;
            }
            Self::Show(called) => {
                let agent = client.agent(&called.agent).await?;
                context.out.one(&agent, &agent.agent.to_string(), |look| describe(&agent, look))?;
                return Ok(Exit::Succeeded);
            }
            Self::Trust(called) => (called, What::Trust),
            Self::Cordon(called) => (called, What::Intake(Intake::Cordoned)),
            Self::Uncordon(called) => (called, What::Intake(Intake::Open)),
            Self::Drain(called) => (called, What::Intake(Intake::Draining)),
            Self::Revoke(called) => (called, What::Intake(Intake::Revoked)),
            Self::Restore(called) => (called, What::Restore),
            Self::Remove(called) => (called, What::Remove),
        };
        // An id and a name may look alike: what is meant is said first, and done by its id.
        let meant = client.agent(&called.agent).await?;
        context.out.note(meant_words(&meant));
        let id = meant.agent.to_string();
        let deed = match what {
            What::Trust => client.trust(&id).await?,
            What::Intake(intake) => client.set_intake(&id, intake).await?,
            What::Restore => client.restore(&id).await?,
            What::Remove => client.remove_agent(&id).await?,
        };
        let (done, words) = in_words(what, &deed);
        let spread = deed.spread;
        let shown = Deed {
            name: Some(deed.name.clone()),
            heard: spread.map(|spread| spread.heard),
            unheard: spread.map(|spread| spread.unheard),
            ..Deed::new(done, &id).affecting(deed.affected)
        };
        context.out.done(&shown, words)?;
        if let (What::Intake(Intake::Revoked), Some(token)) = (what, &deed.token) {
            context.out.note(format!(
                "the token {token} that it joined with still admits machines under other names and keys\n\
                 hint: `lull token revoke {token}` ends that; `lull token create --for NAME` makes one for certain machines"
            ));
        }
        Ok(Exit::Succeeded)
    }
}

/// What is done to an agent.
#[derive(Debug, Clone, Copy)]
enum What {
    Trust,
    Intake(Intake),
    Restore,
    Remove,
}

/// Which agent is meant: its id, its name, its machine.
fn meant_words(agent: &AgentBody) -> String {
    let machine = agent.machine.as_ref().map(|machine| format!(", a {} {} machine", machine.os, machine.arch));
    format!("{} is {}{}, {}", agent.agent, agent.name, machine.unwrap_or_default(), agent.peer)
}

fn in_words(what: What, deed: &AgentDeed) -> (&'static str, String) {
    let name = format!("{} ({})", deed.name, deed.agent);
    let there = format!("this concerns {} there", counted(deed.affected, "attempt"));
    let heard = deed.spread.map_or_else(String::new, |Spread { heard, unheard }| {
        let rest = if unheard == 0 { String::new() } else { format!(", {unheard} will when they are connected") };
        format!("; {} heard of it{rest}", counted(heard, "other peer"))
    });
    match what {
        What::Intake(intake) if deed.unchanged => {
            let (done, already) = match intake {
                Intake::Open => ("uncordoned", "takes new work already"),
                Intake::Cordoned => ("cordoned", "was cordoned already"),
                Intake::Draining => ("draining", "was draining already"),
                Intake::Revoked => ("revoked", "was revoked already"),
            };
            (done, format!("{name} {already}{heard}"))
        }
        What::Trust if deed.affected == 0 => ("trusted", format!("{name} was not quarantined")),
        What::Trust => ("trusted", format!("{name} is trusted again")),
        What::Restore if deed.affected == 0 => ("restored", format!("{name} was not revoked")),
        What::Restore => ("restored", format!("{name} may come back, and connects again within a minute if it runs{heard}")),
        What::Remove if deed.affected == 0 => ("removed", format!("{name} was removed already")),
        What::Remove => ("removed", format!("{name} is off the list; what it ran keeps its name")),
        What::Intake(Intake::Open) => ("uncordoned", format!("{name} takes new work")),
        What::Intake(Intake::Cordoned) => ("cordoned", format!("{name} takes nothing new; what it has goes on there")),
        What::Intake(Intake::Draining) => {
            let (back, left) = (counted(deed.affected, "attempt"), format!("`lull agent show {}` says what is left", deed.name));
            let words = "asked back, and what cannot be moved finishes there";
            ("draining", format!("{name} takes nothing new; {back} {words}: {left}"))
        }
        What::Intake(Intake::Revoked) => ("revoked", format!("{name} is thrown out; {there}{heard}")),
    }
}

impl Row for AgentBody {
    const NAME: &'static str = "agents";
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "NAME", "STATE", "SLOTS", "CPU FREE", "MEMORY FREE", "OS", "VERSION", "LAST HEARD", "REASON"];

    fn id(&self) -> String {
        self.agent.to_string()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let capacity = self.capacity.as_ref();
        vec![
            self.agent.to_string().into(),
            self.name.as_str().into(),
            state(self),
            Cell::or_dash(capacity.map(|capacity| format!("{}/{}", capacity.slots_busy, capacity.slots))),
            Cell::or_dash(capacity.map(|capacity| format!("{} %", capacity.cpu_free_percent))),
            Cell::or_dash(capacity.map(|capacity| bytesize::ByteSize(capacity.memory_free_bytes))),
            Cell::or_dash(self.machine.as_ref().map(|machine| format!("{} {}", machine.os, machine.arch))),
            version(self),
            look.time_or_dash(self.last_heard),
            standing::why_of_agent(self).unwrap_or_default().into(),
        ]
    }
}

/// What it runs, and that it should be newer if a rollout says so.
fn version(agent: &AgentBody) -> Cell {
    match (&agent.version, &agent.behind) {
        (Some(version), Some(_)) => Cell::toned(format!("{version}, behind"), Tone::Odd),
        (version, _) => Cell::or_dash(version.as_deref()),
    }
}

/// In one word.
fn state(agent: &AgentBody) -> Cell {
    let (word, tone) = standing::of_agent(agent);
    Cell::toned(word, tone)
}

fn describe(agent: &AgentBody, look: &Look) -> String {
    let mut lines =
        vec![("agent", agent.agent.to_string().into()), ("name", agent.name.as_str().into()), ("state", state(agent))];
    let mut add = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            lines.push((name, value.into()));
        }
    };
    add("paused because", agent.paused.as_ref().map(|reason| reason.message.clone()));
    let look_at = match agent.quarantine.as_ref().map(|q| q.kind) {
        Some(QuarantineKind::Cloned) => CLONED_HINT,
        Some(QuarantineKind::Output | QuarantineKind::Overtime) | None => "`lull agent trust` lifts it",
    };
    add(
        "quarantined",
        agent.quarantine.as_ref().map(|q| format!("since {}: {}: {}; {look_at}", look.time(q.since), q.kind.words(), q.reason)),
    );
    add("open cage", agent.open_cage.clone());
    add("group", agent.group.clone());
    add("intake", Some(agent.intake.as_str().to_owned()));
    add("enrolled", Some(look.time(agent.enrolled)));
    add("connected", agent.connected.map(|at| look.time(at)));
    let silent = "its attempts are unreachable, and their results still count";
    add("silent", agent.silent_since.map(|at| format!("since {}: {silent}", look.time(at))));
    let hint = if agent.removed.is_none() { "; `lull agent remove` takes it off the list" } else { "" };
    add("left", agent.left.map(|at| format!("at {}{hint}", look.time(at))));
    add("removed", agent.removed.map(|at| format!("at {}", look.time(at))));
    add("asleep", agent.asleep.map(|at| format!("since {}", look.time(at))));
    add("last heard", agent.last_heard.map(|at| look.time(at)));
    add("version", agent.version.clone());
    let step = |behind: &BehindBody| behind.step.as_ref().map_or(String::new(), |step| format!(", {step}"));
    add("to become", agent.behind.as_ref().map(|behind| format!("{}{}", behind.version, step(behind))));
    add("not upgraded", standing::upgrade_trouble(agent));
    if let Some(machine) = &agent.machine {
        let memory = bytesize::ByteSize(machine.memory_bytes);
        add("machine", Some(format!("{} {}, {}, {memory}", machine.os, machine.arch, counted(machine.cores.into(), "core"))));
        add("engine", Some(machine.engine.clone()));
    }
    if let Some(capacity) = &agent.capacity {
        add(
            "slots",
            Some(format!(
                "{} of {} busy, {} waiting",
                capacity.slots_busy,
                capacity.slots,
                counted(capacity.waiting.into(), "attempt")
            )),
        );
        let memory = bytesize::ByteSize(capacity.memory_free_bytes);
        add("free", Some(format!("{} % of its processors, {memory}", capacity.cpu_free_percent)));
    }
    add("policy", agent.policy_version.map(|version| format!("version {version}")));
    let narrowed: Vec<String> = agent.narrowed.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("owner narrows", Some(narrowed.join(" ")).filter(|text| !text.is_empty()));
    let labels: Vec<String> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("labels", Some(labels.join(" ")));
    let attempts: Vec<String> = agent.attempts.iter().map(ToString::to_string).collect();
    add("attempts", Some(attempts.join(" ")).filter(|text| !text.is_empty()));
    add("keeps", Some(agent.snapshots).filter(|count| *count > 0).map(|count| counted(count, "snapshot") + " of tasks"));
    let refused =
        |count: u64, what: &str| (count > 0).then(|| format!("{count} times (since the coordinator took over): {what}"));
    add("not believed", refused(agent.claims_refused, "words about attempts that it did not hold"));
    add("kept too long", refused(agent.overtimes, "attempts beyond their time limits"));
    add("cut off", refused(agent.breaches, "breaches of the protocol"));
    add("peer", Some(agent.peer.clone()));
    let map = agent.idle_hours.as_deref().map(|hours| heat::map(hours, look.width.is_some()));
    pairs(lines, look) + map.as_deref().unwrap_or(heat::NOTHING_KNOWN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lull_shared::id::AgentId;

    use super::*;
    use crate::{
        api::{CapacityBody, MachineBody, QuarantineBody, Reason},
        cli::shown::output::{
            Format,
            tests::{check_fits, plain, worst_name, worst_reason},
        },
    };

    pub(super) fn agent(number: u64) -> AgentBody {
        let now = (plain(Format::Table).look.now)();
        AgentBody {
            agent: AgentId(number),
            name: worst_name(number),
            group: None,
            intake: Intake::Open,
            left: None,
            removed: None,
            quarantine: None,
            enrolled: now,
            connected: Some(now),
            last_heard: Some(now),
            silent_since: None,
            asleep: None,
            version: Some("0.1.0-rc.12".into()),
            behind: None,
            machine: Some(MachineBody {
                os: "windows".into(),
                arch: "aarch64".into(),
                cores: 128,
                memory_bytes: 1 << 40,
                engine: "x".into(),
            }),
            labels: BTreeMap::new(),
            capacity: Some(CapacityBody {
                slots: 128,
                slots_busy: 128,
                waiting: 0,
                cpu_free_percent: 100,
                memory_free_bytes: (1 << 40) - 1,
            }),
            paused: None,
            open_cage: None,
            policy_version: None,
            narrowed: BTreeMap::new(),
            idle_hours: None,
            attempts: Vec::new(),
            snapshots: 0,
            claims_refused: 0,
            breaches: 0,
            overtimes: 0,
            peer: "p".repeat(52),
        }
    }

    #[test]
    fn at_every_width_agents_are_told_apart_and_long_reasons_go_on_below_their_rows() {
        let now = (plain(Format::Table).look.now)();
        let quarantine = |kind| Some(QuarantineBody { kind, since: now, reason: worst_reason() });
        let paused = |kind: &str| Some(Reason::new(kind, worst_reason()));
        let agents = [
            AgentBody { paused: paused("outbox_trouble"), ..agent(101) },
            AgentBody { paused: paused("present"), ..agent(102) },
            AgentBody { quarantine: quarantine(QuarantineKind::Cloned), ..agent(103) },
            AgentBody { quarantine: quarantine(QuarantineKind::Overtime), ..agent(104) },
            AgentBody { connected: None, last_heard: Some(jiff::Timestamp::UNIX_EPOCH), ..agent(105) },
        ];
        check_fits(&agents, "STATE", &["trouble", "paused", "cloned", "quarantined", "away"]);
    }

    #[test]
    fn a_state_is_one_word_and_the_reason_says_the_rest() {
        let told = |agent: &AgentBody| (state(agent).text, standing::why_of_agent(agent).unwrap_or_default());
        let paused = |kind: &str| AgentBody { paused: Some(Reason::new(kind, "because")), ..agent(1) };
        assert_eq!(told(&paused("present")), ("paused".into(), "because".into()));
        assert_eq!(told(&paused("cage_trouble")), ("trouble".into(), "because".into()));
        assert_eq!(told(&AgentBody { intake: Intake::Revoked, ..paused("present") }), ("revoked".into(), "".into()));
        assert_eq!(told(&AgentBody { intake: Intake::Draining, ..paused("present") }), ("draining".into(), "".into()));
        assert_eq!(told(&AgentBody { connected: None, ..paused("present") }), ("away".into(), "".into()));
        assert_eq!(told(&agent(1)), ("ready".into(), "".into()));
        let now = Some(jiff::Timestamp::UNIX_EPOCH);
        let left = |number| AgentBody { left: now, connected: None, ..agent(number) };
        assert_eq!(told(&left(1)), ("left".into(), "".into()));
        assert_eq!(told(&AgentBody { intake: Intake::Revoked, ..left(1) }), ("left".into(), "".into()));
        assert_eq!(told(&AgentBody { removed: now, intake: Intake::Revoked, ..left(1) }), ("removed".into(), "".into()));
    }

    fn deed(unchanged: bool, spread: Option<Spread>) -> AgentDeed {
        AgentDeed { agent: AgentId(3), name: "desk-17".into(), affected: 0, unchanged, spread, token: None }
    }

    #[test]
    fn what_was_so_already_is_said_to_be() {
        let words = |intake, unchanged| in_words(What::Intake(intake), &deed(unchanged, None)).1;
        for intake in [Intake::Open, Intake::Cordoned, Intake::Draining, Intake::Revoked] {
            assert!(words(intake, true).contains("already"), "{intake:?}");
            assert!(!words(intake, false).contains("already"), "{intake:?}");
        }
        assert_eq!(words(Intake::Revoked, true), "desk-17 (a3) was revoked already");
    }

    #[test]
    fn who_has_heard_of_a_revocation_is_told_without_the_one_that_tells() {
        let words = |heard, unheard| {
            in_words(What::Restore, &AgentDeed { affected: 1, ..deed(false, Some(Spread { heard, unheard })) }).1
        };
        let begin = "desk-17 (a3) may come back, and connects again within a minute if it runs";
        assert_eq!(words(1, 0), format!("{begin}; 1 other peer heard of it"));
        assert_eq!(words(0, 2), format!("{begin}; 0 other peers heard of it, 2 will when they are connected"));
    }
}
