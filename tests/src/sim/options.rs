//! What a world is made of, and what goes wrong in it.

use std::{collections::BTreeSet, fmt, time::Duration};

use clap::ValueEnum;
use lull_shared::amount::exact;

use super::week::Week;

/// A run. Equal options give equal runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub agents: u32,
    pub tasks: u32,
    /// Virtual hours before everything heals.
    pub hours: u32,
    pub seed: u64,
    pub faults: Level,
    /// Kinds of faults that do not happen.
    pub no: BTreeSet<Kind>,
    /// Events between two complete audits; the promises are checked at every event.
    pub audit_every: u64,
    /// A shell that is broken on purpose.
    pub mutation: Option<Mutation>,
    /// Whether to remember what happened, in words.
    pub trace: bool,
    /// One thing that goes wrong halfway, whatever else does; agents then give signs of life as they do in an office.
    pub misfortune: Option<Misfortune>,
    /// Some machines lie about time: they say that attempts run, and never that one has ended.
    pub tardy: bool,
    /// Owners leave their machines alone, and all jobs are there from the start: for figures.
    pub steady: bool,
    /// From Monday's midnight on, with owners who have habits and policies that look at them.
    pub week: Option<Week>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            agents: 20,
            tasks: 400,
            hours: 3,
            seed: 1,
            faults: Level::Harsh,
            no: BTreeSet::new(),
            audit_every: 1,
            mutation: None,
            trace: false,
            misfortune: None,
            tardy: false,
            steady: false,
            week: None,
        }
    }
}

/// One thing that goes wrong halfway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfortune {
    /// The coordinators' network is cut for so long.
    Cut(Duration),
    /// The machine that runs the most dies for good.
    Death,
    /// Commits take seconds for so long.
    SlowStore(Duration),
}

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    None,
    Default,
    Harsh,
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Streams break with what is on its way; frames come late.
    Link,
    /// Streams die without a word to either end.
    Silent,
    /// A group of agents cannot reach the coordinators for a while.
    Partition,
    /// Agents are killed and started again, with their outbox.
    Kill,
    /// Machines lose power for a while or for good.
    Power,
    /// Laptops sleep.
    Sleep,
    /// Coordinators crash at any point of a turn.
    Crash,
    /// Coordinators stop for a while, and go on believing that they lead.
    Freeze,
    /// The store refuses, leaves in doubt, or takes seconds.
    Store,
    /// Agents' disks are full.
    Disk,
    /// Blobs cannot be fetched, executors do not start or die.
    Executor,
    /// Gossip is lost, late or doubled.
    Gossip,
    /// Functions fail, trap or hang.
    Guest,
    /// People cancel, retry, drain and revoke.
    People,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no variant is skipped").get_name())
    }
}

/// A shell that breaks a promise, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Orders leave before the turn is committed.
    SendBeforeCommit,
    /// Results are acknowledged when they come in.
    AcknowledgeOnArrival,
    /// A commit in doubt counts as done.
    TrustDoubt,
    /// A restarted agent does not read its outbox.
    ForgetOutbox,
    /// Executors are not frozen.
    IgnoreFreeze,
    /// Nobody keeps copies of others' snapshots.
    KeepNothing,
    /// A coordinator that was deposed goes on as if it had committed.
    IgnoreFence,
}

impl Options {
    /// How often this kind happens, compared with an ordinary office.
    pub fn rate(&self, kind: Kind) -> f64 {
        match self.faults {
            _ if self.no.contains(&kind) => 0.0,
            Level::None => 0.0,
            Level::Default => 1.0,
            Level::Harsh => 8.0,
        }
    }

    /// The agents' heartbeat: a large fleet gives rarer signs of life, so that a night takes minutes. Fleets that are
    /// compared give equally many.
    pub fn heartbeat(&self) -> Duration {
        if self.misfortune.is_some() {
            return lull_shared::limits::HEARTBEAT;
        }
        Duration::from_secs(match self.agents {
            _ if self.steady || self.week.is_some() => 60,
            0..=200 => 15,
            201..=2_000 => 30,
            _ => 60,
        })
    }
}

/// As on the command line.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agents, tasks, hours, seed, .. } = self;
        let faults = self.faults.to_possible_value().expect("no variant is skipped");
        write!(f, "--agents {agents} --tasks {tasks} --hours {hours} --seed {seed} --faults {}", faults.get_name())?;
        if !self.no.is_empty() {
            let kinds: Vec<String> = self.no.iter().map(Kind::to_string).collect();
            write!(f, " --no {}", kinds.join(","))?;
        }
        if let Some(Week { leaving, demand, believes_hours }) = self.week {
            let leaving = leaving.to_possible_value().expect("no variant is skipped");
            write!(f, " --week --leaving {} --demand {demand}", leaving.get_name())?;
            f.write_str(if believes_hours { "" } else { " --disbelieve" })?;
        }
        match self.misfortune {
            Some(Misfortune::Cut(time)) => write!(f, " --cut {}", exact(time).replace(' ', ""))?,
            Some(Misfortune::Death) => f.write_str(" --death")?,
            Some(Misfortune::SlowStore(time)) => write!(f, " --slow-store {}", exact(time).replace(' ', ""))?,
            None => {}
        }
        if self.tardy {
            f.write_str(" --tardy")?;
        }
        if self.steady { f.write_str(" --steady") } else { Ok(()) }
    }
}
