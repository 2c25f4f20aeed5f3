//! Decides whether anything may run on the owner's machine, and how much: CORE, pure.
//!
//! Owns the rules, the policy that holds, the owner's word, whether the owner is there, and the hysteresis of each.
//! Does not measure (see `sensor`) and does not freeze (see `session`).
//!
//! ```text
//! sample, input, announcement, word --> rules, in the order of their rank; the first that objects names the reason
//!                                          | none objects            | one does
//!                                          v                         v
//!                                   run in so much room     pause --grace over, or it will last--> evict
//! ```
//! A narrower policy never lets more run: each rule's threshold, each time and each share has one direction.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod elastic;
mod presence;
#[cfg(test)]
mod properties;
mod rules;
mod sample;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use lull_shared::{
    hours::{Hours, WeekMinute},
    policy::{Leave, Policy, slots_of},
    state::PauseReason,
    time::Timestamp,
};

use self::{
    elastic::Elastic,
    presence::{Owner, Presence},
    rules::Watches,
};
pub use self::{
    rules::{CpuRule, MemoryRule, Rules},
    sample::{Announcement, Power, Sample},
};

/// What the owner said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerWord {
    /// Run when the rules allow it.
    #[default]
    Run,
    /// Pause until then, or until the owner says otherwise.
    Pause { until: Option<Timestamp> },
}

/// What the agent may take at most, whatever the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    pub cores: u16,
    pub slots: u16,
    /// Of the whole machine, in bytes.
    pub memory_bytes: u64,
    /// What executors may take of it, in bytes.
    pub memory_bytes_max: u64,
}

/// What work may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Attempts that may run at once; one at least.
    pub slots: u16,
    /// What their executors may take together, in bytes.
    pub memory_bytes: u64,
    /// Whether it is light work beside the owner.
    pub beside: bool,
}

/// Whether anything may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Run(Room),
    /// Off the processors, kept in memory.
    Pause(PauseReason),
    /// Out of the memory too.
    Evict(PauseReason),
}

impl Verdict {
    /// Why nothing may run, when nothing may.
    pub fn reason(&self) -> Option<&PauseReason> {
        match self {
            Self::Run(_) => None,
            Self::Pause(reason) | Self::Evict(reason) => Some(reason),
        }
    }
}

/// The policy with its memory of what was seen.
#[derive(Debug, Clone)]
pub struct Guard {
    policy: Policy,
    means: Means,
    word: OwnerWord,
    presence: Presence,
    watches: Watches,
    elastic: Elastic,
    sample: Option<Sample>,
    announced: Option<Announcement>,
    /// Whether the agent is about to become another version.
    upgrading: bool,
    /// Since when nothing has been allowed to run.
    paused_since: Option<Timestamp>,
}

impl Guard {
    /// A guard that has seen nothing yet; the owner counts as there.
    pub fn new(rules: Rules, policy: Policy, means: Means, now: Timestamp) -> Self {
        Self {
            policy,
            means,
            word: OwnerWord::Run,
            presence: Presence::new(now),
            watches: Watches::new(rules),
            elastic: Elastic::new(means.cores),
            sample: None,
            announced: None,
            upgrading: false,
            paused_since: None,
        }
    }

    /// Another policy holds from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The policy that holds.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes a measurement.
    pub fn observe(&mut self, sample: Sample, now: Timestamp) {
        if let Some(ago) = sample.idle {
            self.presence.rested(ago, self.idle(), now);
        }
        self.watches.observe(&sample, &self.policy, now);
        self.elastic.observe(sample.cpu_others_percent, now);
        self.sample = Some(sample);
    }

    /// Keyboard or mouse moved at that moment.
    pub fn input(&mut self, at: Timestamp) {
        self.presence.input(at, self.idle());
    }

    /// Takes the operating system's announcement.
    pub fn announce(&mut self, announcement: Announcement) {
        self.announced = match announcement {
            Announcement::Awake => None,
            Announcement::Sleep | Announcement::Shutdown => Some(announcement),
        };
    }

    /// The agent is about to become another version, or is not after all.
    pub fn upgrade(&mut self, upgrading: bool) {
        self.upgrading = upgrading;
    }

    /// Takes the owner's word.
    pub fn obey(&mut self, word: OwnerWord) {
        self.word = word;
    }

    /// What holds at `now`.
    pub fn verdict(&mut self, now: Timestamp) -> Verdict {
        let (leave, reason) = self.judge(now);
        let Some(reason) = reason else {
            self.paused_since = None;
            return Verdict::Run(self.room(leave));
        };
        let since = *self.paused_since.get_or_insert(now);
        if lasts(&reason) || (reason != PauseReason::Touched && now.since(since) >= self.policy.grace.duration()) {
            Verdict::Evict(reason)
        } else {
            Verdict::Pause(reason)
        }
    }

    /// When the verdict may change without another event.
    pub fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let word = match self.word {
            OwnerWord::Pause { until } => until,
            OwnerWord::Run => None,
        };
        let owner = match self.owner(now) {
            Owner::Away => None,
            Owner::Touched { until } | Owner::Present { until } => Some(until),
        };
        let grace = self.paused_since.map(|since| since + self.policy.grace.duration());
        [word, owner, grace].into_iter().flatten().filter(|due| *due > now).min()
    }

    fn idle(&self) -> Duration {
        self.policy.idle.duration()
    }

    fn owner(&self, now: Timestamp) -> Owner {
        // Where nothing sees input and that is allowed, nobody is waited for.
        let blind = self.presence.is_assumed() && self.policy.unseen;
        if blind { Owner::Away } else { self.presence.owner(self.idle(), now) }
    }

    /// What the hours and the owner leave, and the first objection in the order of rank.
    fn judge(&self, now: Timestamp) -> (Leave, Option<PauseReason>) {
        let owner = self.owner(now);
        let leave = self.leave(owner);
        let reason = self.ordered(now).or_else(|| self.objection(leave, owner)).or_else(|| self.measured(leave));
        (leave, reason)
    }

    fn leave(&self, owner: Owner) -> Leave {
        let there = owner != Owner::Away;
        match &self.sample {
            Some(sample) => self.policy.leave(sample.local, there),
            // Before the first measurement the time of the week is not known.
            None if self.policy.hours == Hours::always() => self.policy.leave(WeekMinute::new(0), there),
            None if self.policy.beside_owner => Leave::Beside,
            None => Leave::Owner,
        }
    }

    /// What somebody said: the operating system first, then the installer, then the owner.
    fn ordered(&self, now: Timestamp) -> Option<PauseReason> {
        match (self.announced, self.word) {
            (Some(Announcement::Shutdown), _) => Some(PauseReason::Shutdown),
            (Some(Announcement::Sleep), _) => Some(PauseReason::Sleep),
            _ if self.upgrading => Some(PauseReason::Upgrade),
            (_, OwnerWord::Pause { until }) if until.is_none_or(|until| now < until) => Some(PauseReason::Owner { until }),
            (Some(Announcement::Awake) | None, OwnerWord::Pause { .. } | OwnerWord::Run) => None,
        }
    }

    /// What hours and owner object.
    fn objection(&self, leave: Leave, owner: Owner) -> Option<PauseReason> {
        let blind = self.sample.is_none_or(|sample| sample.idle.is_none());
        // Nobody was seen: that the owner is there is only assumed.
        let unknown = if self.sample.is_none() { PauseReason::Starting } else { PauseReason::Unseen };
        match (leave, owner) {
            (Leave::Owner, Owner::Touched { .. }) => Some(PauseReason::Touched),
            (Leave::Owner, _) if blind && self.presence.is_assumed() => Some(unknown),
            (Leave::Closed { .. } | Leave::Owner, _) => self.policy.objection(leave),
            (Leave::Away | Leave::Beside, _) => (blind && !self.policy.unseen && !self.idle().is_zero()).then_some(unknown),
        }
    }

    /// What the measurements object.
    fn measured(&self, leave: Leave) -> Option<PauseReason> {
        let full = leave == Leave::Beside && self.elastic.room() == 0;
        let busy = || full.then(|| PauseReason::Busy { cpu_percent: self.elastic.cpu_percent() });
        self.watches.objection().or_else(busy)
    }

    fn room(&self, leave: Leave) -> Room {
        let (cores, memory) = self.policy.share(leave);
        let Means { cores: all, slots, memory_bytes, memory_bytes_max } = self.means;
        let slots = slots_of(cores, all, slots).max(1);
        let beside = leave == Leave::Beside;
        let part = u64::try_from(u128::from(memory_bytes) * u128::from(memory) / 100).unwrap_or(u64::MAX);
        Room {
            slots: if beside { slots.min(self.elastic.room().max(1)) } else { slots },
            memory_bytes: part.min(memory_bytes_max),
            beside,
        }
    }
}

/// Whether a pause for this reason is known to outlast any grace.
fn lasts(reason: &PauseReason) -> bool {
    matches!(reason, PauseReason::Hours { .. } | PauseReason::Sleep | PauseReason::Shutdown | PauseReason::Upgrade)
}
