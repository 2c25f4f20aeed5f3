//! Decides whether anything may run on the owner's machine: CORE, pure.
//!
//! Owns the policy, the owner's word and the hysteresis of each rule. Does not measure (see `sensor`) and does not
//! freeze (see `session`).
//!
//! ```text
//! each rule:   calm --over--> alarmed --over for pause_after--> tripped
//!                ^               |                               |   ^
//!                +----- not over +         under for resume_after|   | not under
//!                +--------------------------- easing <-----------+---+
//! verdict:     the owner's word, else memory, else processors: the first that objects names the reason
//! ```
//! The owner's input is a further rule with a rank between the owner's word and memory; it brings its own field
//! in [`Sample`] and [`Policy`].
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::{state::PauseReason, time::Timestamp};

/// What was measured at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The share of all processors that programs other than this agent use, 0 to 100.
    pub cpu_others_percent: u8,
    /// Memory that programs could still get without swapping, in bytes.
    pub memory_available_bytes: u64,
}

/// When to leave the machine to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// None when other programs' load does not matter.
    pub cpu: Option<CpuRule>,
    pub memory: MemoryRule,
}

/// Pauses while other programs need the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuRule {
    /// Above this share, in percent, for `pause_after`: pause.
    pub pause_percent: u8,
    pub pause_after: Duration,
    /// Below this share, in percent, for `resume_after`: go on.
    pub resume_percent: u8,
    pub resume_after: Duration,
}

/// Pauses while memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRule {
    /// Below this many bytes available for `pause_after`: pause. 0 switches the rule off.
    pub free_min_bytes: u64,
    pub pause_after: Duration,
    /// An eighth above the minimum for this long: go on.
    pub resume_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let (pause_after, resume_after) = (Duration::from_secs(2), Duration::from_secs(5));
        Self {
            cpu: Some(CpuRule { pause_percent: 50, pause_after, resume_percent: 25, resume_after }),
            memory: MemoryRule { free_min_bytes: 512 * 1024 * 1024, pause_after, resume_after },
        }
    }
}

/// What the owner said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerWord {
    /// Run when the rules allow it.
    #[default]
    Run,
    /// Pause until then, or until the owner says otherwise.
    Pause { until: Option<Timestamp> },
}

/// Whether anything may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Run,
    Pause(PauseReason),
}

/// The policy with its memory of the last seconds.
#[derive(Debug, Clone)]
pub struct Guard {
    policy: Policy,
    owner: OwnerWord,
    cpu: Watch,
    memory: Watch,
}

impl Guard {
    /// A guard that lets everything run until it has seen otherwise.
    pub fn new(policy: Policy) -> Self {
        Self { policy, owner: OwnerWord::Run, cpu: Watch::Calm, memory: Watch::Calm }
    }

    /// Takes a measurement.
    pub fn observe(&mut self, sample: Sample, now: Timestamp) {
        if let Some(rule) = self.policy.cpu {
            let percent = sample.cpu_others_percent;
            let reading = Reading::of(percent > rule.pause_percent, percent < rule.resume_percent);
            self.cpu.observe(reading, u64::from(percent), (rule.pause_after, rule.resume_after), now);
        }
        let rule = self.policy.memory;
        let available = sample.memory_available_bytes;
        let plenty = rule.free_min_bytes.saturating_add(rule.free_min_bytes / 8);
        let reading = Reading::of(available < rule.free_min_bytes, available >= plenty);
        self.memory.observe(reading, available, (rule.pause_after, rule.resume_after), now);
    }

    /// Takes the owner's word.
    pub fn obey(&mut self, word: OwnerWord) {
        self.owner = word;
    }

    /// What holds at `now`.
    pub fn verdict(&self, now: Timestamp) -> Verdict {
        if let OwnerWord::Pause { until } = self.owner
            && until.is_none_or(|until| now < until)
        {
            return Verdict::Pause(PauseReason::Owner { until });
        }
        if let Some(free_bytes) = self.memory.tripped_at() {
            return Verdict::Pause(PauseReason::Memory { free_bytes });
        }
        match self.cpu.tripped_at() {
            Some(percent) => Verdict::Pause(PauseReason::Busy { cpu_percent: u8::try_from(percent).unwrap_or(100) }),
            None => Verdict::Run,
        }
    }

    /// When the verdict may change without another measurement.
    pub fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        match self.owner {
            OwnerWord::Pause { until: Some(until) } if now < until => Some(until),
            OwnerWord::Pause { .. } | OwnerWord::Run => None,
        }
    }
}

/// A measurement against a rule's two thresholds.
#[derive(Clone, Copy)]
enum Reading {
    Over,
    Between,
    Under,
}

impl Reading {
    fn of(over: bool, under: bool) -> Self {
        if over {
            Self::Over
        } else if under {
            Self::Under
        } else {
            Self::Between
        }
    }
}

/// One rule's state; `value` is what was measured when it tripped, so that the reason stays the same while it holds.
#[derive(Debug, Clone, Copy)]
enum Watch {
    Calm,
    Alarmed { since: Timestamp },
    Tripped { value: u64 },
    Easing { value: u64, since: Timestamp },
}

impl Watch {
    fn observe(&mut self, reading: Reading, value: u64, (pause_after, resume_after): (Duration, Duration), now: Timestamp) {
        *self = match (*self, reading) {
            (Self::Calm, Reading::Over) if pause_after.is_zero() => Self::Tripped { value },
            (Self::Calm, Reading::Over) => Self::Alarmed { since: now },
            (Self::Calm | Self::Alarmed { .. }, Reading::Between | Reading::Under) => Self::Calm,
            (Self::Alarmed { since }, Reading::Over) if now.since(since) >= pause_after => Self::Tripped { value },
            (alarmed @ Self::Alarmed { .. }, Reading::Over) => alarmed,
            (Self::Tripped { .. }, Reading::Under) if resume_after.is_zero() => Self::Calm,
            (Self::Tripped { value }, Reading::Under) => Self::Easing { value, since: now },
            (Self::Tripped { value } | Self::Easing { value, .. }, Reading::Over | Reading::Between) => Self::Tripped { value },
            (Self::Easing { since, .. }, Reading::Under) if now.since(since) >= resume_after => Self::Calm,
            (easing @ Self::Easing { .. }, Reading::Under) => easing,
        };
    }

    fn tripped_at(self) -> Option<u64> {
        match self {
            Self::Calm | Self::Alarmed { .. } => None,
            Self::Tripped { value } | Self::Easing { value, .. } => Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn feed(guard: &mut Guard, seconds: std::ops::Range<i64>, cpu: u8, memory: u64) {
        for second in seconds {
            guard.observe(Sample { cpu_others_percent: cpu, memory_available_bytes: memory }, at(second));
        }
    }

    #[test]
    fn a_short_burst_of_load_changes_nothing() {
        let mut guard = Guard::new(Policy::default());
        feed(&mut guard, 0..2, 90, GIB);
        feed(&mut guard, 2..3, 10, GIB);
        feed(&mut guard, 3..5, 90, GIB);
        assert_eq!(guard.verdict(at(5)), Verdict::Run);
    }

    #[test]
    fn lasting_load_pauses_and_only_lasting_quiet_resumes() {
        let mut guard = Guard::new(Policy::default());
        feed(&mut guard, 0..3, 80, GIB);
        let busy = Verdict::Pause(PauseReason::Busy { cpu_percent: 80 });
        assert_eq!(guard.verdict(at(2)), busy);
        feed(&mut guard, 3..10, 40, GIB);
        assert_eq!(guard.verdict(at(10)), busy, "between the thresholds nothing changes");
        feed(&mut guard, 10..14, 5, GIB);
        feed(&mut guard, 14..15, 40, GIB);
        feed(&mut guard, 15..20, 5, GIB);
        assert_eq!(guard.verdict(at(20)), busy, "the quiet was interrupted");
        feed(&mut guard, 20..21, 5, GIB);
        assert_eq!(guard.verdict(at(21)), Verdict::Run);
    }

    #[test]
    fn a_rule_that_is_off_never_pauses() {
        let mut policy = Policy { cpu: None, ..Policy::default() };
        policy.memory.free_min_bytes = 0;
        let mut guard = Guard::new(policy);
        feed(&mut guard, 0..100, 100, 0);
        assert_eq!(guard.verdict(at(100)), Verdict::Run);
    }

    #[test]
    fn short_memory_pauses_until_there_is_an_eighth_more_than_the_minimum() {
        let mut guard = Guard::new(Policy::default());
        feed(&mut guard, 0..3, 0, GIB / 4);
        assert_eq!(guard.verdict(at(3)), Verdict::Pause(PauseReason::Memory { free_bytes: GIB / 4 }));
        feed(&mut guard, 3..20, 0, GIB / 2);
        assert_ne!(guard.verdict(at(20)), Verdict::Run);
        feed(&mut guard, 20..26, 0, GIB);
        assert_eq!(guard.verdict(at(26)), Verdict::Run);
    }

    #[test]
    fn the_owners_word_outranks_the_rules_and_ends_by_itself() {
        let mut guard = Guard::new(Policy::default());
        feed(&mut guard, 0..3, 80, GIB);
        guard.obey(OwnerWord::Pause { until: Some(at(60)) });
        assert_eq!(guard.verdict(at(3)), Verdict::Pause(PauseReason::Owner { until: Some(at(60)) }));
        assert_eq!(guard.poll_timeout(at(3)), Some(at(60)));
        assert_eq!(guard.verdict(at(60)), Verdict::Pause(PauseReason::Busy { cpu_percent: 80 }));
        assert_eq!(guard.poll_timeout(at(60)), None);
        guard.obey(OwnerWord::Run);
        feed(&mut guard, 61..67, 0, GIB);
        assert_eq!(guard.verdict(at(67)), Verdict::Run);
    }
}
