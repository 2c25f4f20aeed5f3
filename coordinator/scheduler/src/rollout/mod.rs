//! How a version reaches the agents: in waves, each after the one before has shown that the version lives. CORE, pure.
//!
//! ```text
//! waiting --its wave begins, it is there--> told --the installer has it--> given --comes back as it--> back --stays--> healthy
//!    ^                                       |  \                            |                          |
//!    +--------- goes before it has it -------+   +--> refused (it says no)   +--> failed (its installer |  failed (gone again)
//!                                                                                 says no, or too long) |
//! ```
//! Machines stand in a line by their ids ([`place_in_line`]), and a wave reaches up to a share of it. One that is switched off is
//! nobody's fault: it is told when it comes. The next wave begins when nobody is on the way and somebody is healthy. When more
//! than a small share of those that were told has failed, the rollout stops by itself until somebody says otherwise.
//!
//! What this holds is durable before anybody is told: [`Rollout::unsaved`] says what has changed since [`Rollout::saved`].

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::AgentId,
    release::{UpgradeReport, UpgradeStep},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

pub use self::plan::{Plan, Waves, WrongWaves, place_in_line};

/// How far an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It was told, and went before its installer had the package.
    Waiting,
    Told,
    /// Its installer has it.
    Given,
    /// It came back as the new version.
    Back,
    Healthy,
    /// It does not want to, and why.
    Refused(String),
    Failed(String),
}

impl Step {
    /// The word used everywhere.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Told => "told",
            Self::Given => "given",
            Self::Back => "back",
            Self::Healthy => "healthy",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// The step with this word and these words about it.
    pub fn from_word(word: &str, reason: Option<String>) -> Option<Self> {
        let reason = reason.unwrap_or_default();
        Some(match word {
            "waiting" => Self::Waiting,
            "told" => Self::Told,
            "given" => Self::Given,
            "back" => Self::Back,
            "healthy" => Self::Healthy,
            "refused" => Self::Refused(reason),
            "failed" => Self::Failed(reason),
            _ => return None,
        })
    }

    /// Why it came to that, if that is to be said.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(reason) | Self::Failed(reason) => Some(reason),
            Self::Waiting | Self::Told | Self::Given | Self::Back | Self::Healthy => None,
        }
    }

    fn is_under_way(&self) -> bool {
        matches!(self, Self::Told | Self::Given | Self::Back)
    }

    fn has_ended(&self) -> bool {
        matches!(self, Self::Healthy | Self::Refused(_) | Self::Failed(_))
    }
}

/// What is known of a machine that a rollout concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    connected: bool,
    /// Whether it has an older version.
    behind: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    step: Step,
    /// Since when, as far as this coordinator knows.
    since: Timestamp,
}

/// What a store remembers of a rollout beside its plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// How many waves have begun.
    pub begun: u16,
    /// Failures that somebody has seen and gone on after.
    pub forgiven: u32,
    /// Why it stands still; none: it goes on.
    pub stopped: Option<String>,
    pub agents: BTreeMap<AgentId, Step>,
}

/// A rollout of one version to the machines of one platform.
#[derive(Debug, Clone)]
pub struct Rollout {
    count: u64,
    plan: Plan,
    begun: u16,
    forgiven: u32,
    stopped: Option<String>,
    agents: BTreeMap<AgentId, Progress>,
    machines: BTreeMap<AgentId, Machine>,
    unsaved: BTreeSet<AgentId>,
}

/// What has changed and must be durable before anybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unsaved {
    pub begun: u16,
    pub forgiven: u32,
    pub stopped: Option<String>,
    pub agents: BTreeMap<AgentId, Step>,
}

impl Rollout {
    /// A rollout as a store remembers it. Whatever has a time limit has all of it again: a coordinator that was away has
    /// noticed nothing.
    pub fn restore(count: u64, plan: Plan, standing: Standing, now: Timestamp) -> Self {
        let Standing { begun, forgiven, stopped, agents } = standing;
        let agents = agents.into_iter().map(|(agent, step)| (agent, Progress { step, since: now }));
        let (agents, machines, unsaved) = (agents.collect(), BTreeMap::new(), BTreeSet::new());
        Self { count, plan, begun, forgiven, stopped, agents, machines, unsaved }
    }

    /// What it is to do.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A machine that is meant is or was there, with an older version or not.
    pub fn seen(&mut self, agent: AgentId, connected: bool, behind: bool, now: Timestamp) {
        self.machines.insert(agent, Machine { connected, behind });
        match self.agents.get(&agent).map(|progress| &progress.step) {
            Some(Step::Told | Step::Given | Step::Waiting) if connected && !behind => self.set(agent, Step::Back, now),
            // What it was told before is told again.
            Some(Step::Told) if !connected => self.set(agent, Step::Waiting, now),
            Some(Step::Back | Step::Healthy) if connected && behind => {
                self.set(agent, Step::Failed("it came back as an older version".into()), now);
            }
            // Whoever came back and went must stay once more.
            Some(Step::Back) => self.set(agent, Step::Back, now),
            Some(Step::Told | Step::Given | Step::Waiting | Step::Healthy | Step::Refused(_) | Step::Failed(_)) | None => {}
        }
    }

    /// A machine's stream has ended.
    pub fn gone(&mut self, agent: AgentId, now: Timestamp) {
        if let Some(Machine { behind, connected: true }) = self.machines.get(&agent).copied() {
            self.seen(agent, false, behind, now);
        }
    }

    /// A machine is not to be counted any more: it was thrown out, or is not meant.
    pub fn forget(&mut self, agent: AgentId) {
        self.machines.remove(&agent);
    }

    /// An agent says how far it is.
    pub fn heard(&mut self, agent: AgentId, report: UpgradeReport, now: Timestamp) {
        let UpgradeReport { count, step } = report.bounded();
        let is_told = self.agents.get(&agent).is_some_and(|progress| matches!(progress.step, Step::Told | Step::Given));
        if count != self.count || !is_told {
            return;
        }
        match step {
            UpgradeStep::Fetching => {}
            UpgradeStep::Given => self.set(agent, Step::Given, now),
            UpgradeStep::Refused { reason } => self.set(agent, Step::Refused(reason), now),
            UpgradeStep::Failed { reason } => self.set(agent, Step::Failed(reason), now),
        }
    }

    /// Stops it by somebody's word; false if it stands still already.
    pub fn stop(&mut self, why: String) -> bool {
        let goes_on = self.stopped.is_none();
        if goes_on {
            self.stopped = Some(why);
        }
        goes_on
    }

    /// Goes on by somebody's word, who has seen what failed; false if it was not stopped.
    pub fn resume(&mut self, now: Timestamp) -> bool {
        let stopped = self.stopped.take().is_some();
        if stopped {
            self.forgiven = self.failures();
            // They have all their time again.
            self.agents.values_mut().filter(|progress| progress.step.is_under_way()).for_each(|progress| progress.since = now);
        }
        stopped
    }

    /// What is due at `now`: limits pass, waves begin, machines are to be told.
    pub fn advance(&mut self, now: Timestamp) {
        if self.stopped.is_some() {
            return;
        }
        self.limits(now);
        let (failed, told) = (self.failures().saturating_sub(self.forgiven), self.agents.len());
        if failed > 0 && u64::from(failed) * 100 > told as u64 * u64::from(self.plan.tolerate_percent) {
            let words = format!("{failed} of the {told} machines that were told did not come back as the new version");
            self.stopped = Some(words);
            return;
        }
        if self.may_go_on() {
            self.begun += 1;
        }
        for agent in self.reached() {
            let waits = self.agents.get(&agent).is_none_or(|progress| progress.step == Step::Waiting);
            let there = self.machines.get(&agent).is_some_and(|machine| machine.connected && machine.behind);
            if waits && there {
                self.set(agent, Step::Told, now);
            }
        }
    }

    /// Who is to be told of the release, as long as it is so. Nobody while it stands still, but who has given it to the installer
    /// goes on.
    pub fn told(&self) -> BTreeSet<AgentId> {
        let told = |progress: &Progress| matches!(progress.step, Step::Told | Step::Given) && self.stopped.is_none();
        self.agents.iter().filter(|(_, progress)| told(progress)).map(|(agent, _)| *agent).collect()
    }

    /// What must be durable before [`Self::told`] holds.
    pub fn unsaved(&self) -> Unsaved {
        let agents = self.unsaved.iter().filter_map(|agent| Some((*agent, self.agents.get(agent)?.step.clone())));
        Unsaved { begun: self.begun, forgiven: self.forgiven, stopped: self.stopped.clone(), agents: agents.collect() }
    }

    /// This is durable. What has changed since is still to be kept.
    pub fn saved(&mut self, kept: &Unsaved) {
        let agents = &self.agents;
        self.unsaved.retain(|agent| kept.agents.get(agent) != agents.get(agent).map(|progress| &progress.step));
    }

    /// How it stands, for people and for a store.
    pub fn standing(&self) -> Standing {
        Standing {
            begun: self.begun,
            forgiven: self.forgiven,
            stopped: self.stopped.clone(),
            agents: self.agents.iter().map(|(agent, progress)| (*agent, progress.step.clone())).collect(),
        }
    }

    /// Machines that are meant, and how many of them have an older version.
    pub fn machines(&self) -> (u64, u64) {
        let behind = self.machines.values().filter(|machine| machine.behind).count();
        (self.machines.len() as u64, behind as u64)
    }

    fn set(&mut self, agent: AgentId, step: Step, now: Timestamp) {
        self.agents.insert(agent, Progress { step, since: now });
        self.unsaved.insert(agent);
    }

    fn failures(&self) -> u32 {
        let failed = self.agents.values().filter(|progress| matches!(progress.step, Step::Failed(_))).count();
        u32::try_from(failed).unwrap_or(u32::MAX)
    }

    fn limits(&mut self, now: Timestamp) {
        let (within, steady) = (self.plan.within(), self.plan.steady());
        let mut changed = Vec::new();
        for (agent, Progress { step, since }) in &self.agents {
            let passed = now.since(*since);
            let connected = self.machines.get(agent).is_some_and(|machine| machine.connected);
            let next = match step {
                Step::Told if connected && passed >= within => Step::Failed("it did not install it in time".into()),
                Step::Given if passed >= within => Step::Failed("it did not come back in time".into()),
                Step::Back if connected && passed >= steady => Step::Healthy,
                Step::Back if !connected && passed >= within => Step::Failed("it came back and went again".into()),
                _ => continue,
            };
            changed.push((*agent, next));
        }
        changed.into_iter().for_each(|(agent, step)| self.set(agent, step, now));
    }

    /// Whether the next wave may begin.
    fn may_go_on(&self) -> bool {
        if usize::from(self.begun) >= self.plan.waves.len() || self.machines.values().all(|machine| !machine.behind) {
            return false;
        }
        if self.begun == 0 {
            return true;
        }
        let reached = self.reached();
        let waits = |agent: &AgentId| {
            let there = self.machines.get(agent).is_some_and(|machine| machine.connected && machine.behind);
            there && self.agents.get(agent).is_none_or(|progress| !progress.step.has_ended())
        };
        let under_way = self.agents.values().any(|progress| progress.step.is_under_way());
        let healthy = self.agents.values().any(|progress| progress.step == Step::Healthy);
        let all_ended = || reached.iter().all(|agent| self.agents.get(agent).is_some_and(|progress| progress.step.has_ended()));
        !under_way && !reached.iter().any(waits) && (healthy || all_ended())
    }

    /// The machines of the waves that have begun. Whoever was told stays in the line when it is not behind any more.
    fn reached(&self) -> Vec<AgentId> {
        let line = self.machines.iter().filter(|(agent, machine)| machine.behind || self.agents.contains_key(agent));
        let mut line: Vec<AgentId> = line.map(|(agent, _)| *agent).collect();
        line.sort_by_cached_key(|agent| place_in_line(*agent));
        line.truncate(self.plan.waves.reach(self.begun.into(), line.len()));
        line
    }
}
