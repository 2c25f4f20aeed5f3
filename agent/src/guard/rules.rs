//! The rules about what is measured: what each looks at, its thresholds, and in which order they object.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::{policy::Policy, state::PauseReason, time::Timestamp};

use super::{
    sample::{Power, Sample},
    watch::{Reading, Watch},
};

/// What the machine's own settings say about its processors and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
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

impl Default for Rules {
    fn default() -> Self {
        let (pause_after, resume_after) = (Duration::from_secs(2), Duration::from_secs(5));
        Self {
            cpu: Some(CpuRule { pause_percent: 50, pause_after, resume_percent: 25, resume_after }),
            memory: MemoryRule { free_min_bytes: 512 * 1024 * 1024, pause_after, resume_after },
        }
    }
}

const AT_ONCE: Duration = Duration::ZERO;
/// Heat and memory that runs short must last so long: one measurement may be an accident.
const LASTING: Duration = Duration::from_secs(2);
/// What is switched on and off by hand, or by a loose plug, is trusted after so long.
const SETTLED: Duration = Duration::from_secs(10);
/// What comes and goes slowly is trusted after so long.
const SLOW: Duration = Duration::from_secs(30);
/// So much cooler than the limit it must be to go on, in degrees.
const COOLER: u8 = 10;
/// So much more charged than the limit, in percent.
const MORE_CHARGED: u8 = 5;
/// Programs that wait so much of their time for memory are slowed down noticeably, in percent; and hardly below that.
const STALLED_PERCENT: u8 = 20;
const STALLED_CALM_PERCENT: u8 = 5;

/// All rules with their memory of the last seconds.
#[derive(Debug, Clone)]
pub(super) struct Watches {
    rules: Rules,
    full_screen: Watch,
    battery: Watch,
    lid: Watch,
    temperature: Watch,
    stalled: Watch,
    memory: Watch,
    cpu: Watch,
    metered: Watch,
    reboot: Watch,
}

/// Stands for a charge that is not known.
const UNKNOWN_CHARGE: u64 = u64::MAX;

impl Watches {
    pub(super) fn new(rules: Rules) -> Self {
        let [full_screen, battery, lid, temperature, stalled, memory, cpu, metered, reboot] = [Watch::default(); 9];
        Self { rules, full_screen, battery, lid, temperature, stalled, memory, cpu, metered, reboot }
    }

    /// Takes a measurement.
    pub(super) fn observe(&mut self, sample: &Sample, policy: &Policy, now: Timestamp) {
        let plain = |bad: bool| Reading::of(bad, !bad);
        self.full_screen.observe(plain(sample.full_screen && !policy.on_full_screen), 0, (AT_ONCE, SETTLED), now);
        self.metered.observe(plain(sample.metered && !policy.on_metered), 0, (AT_ONCE, SLOW), now);
        self.reboot.observe(plain(sample.reboot && !policy.before_reboot), 0, (AT_ONCE, AT_ONCE), now);
        self.lid.observe(plain(sample.lid_closed && sample.power != Power::Mains), 0, (AT_ONCE, SETTLED), now);
        let (reading, value) = charge(sample.power, policy);
        self.battery.observe(reading, value, (AT_ONCE, SLOW), now);
        let (celsius, limit) = (sample.celsius.unwrap_or(0), policy.temperature_max.get());
        let reading = Reading::of(celsius > limit, celsius <= limit.saturating_sub(COOLER));
        self.temperature.observe(reading, celsius.into(), (LASTING, SLOW), now);
        let stalled = sample.memory_stalled_percent;
        let reading = Reading::of(stalled >= STALLED_PERCENT, stalled < STALLED_CALM_PERCENT);
        self.stalled.observe(reading, stalled.into(), (LASTING, SETTLED), now);
        self.observe_load(sample, now);
    }

    fn observe_load(&mut self, sample: &Sample, now: Timestamp) {
        if let Some(rule) = self.rules.cpu {
            let percent = sample.cpu_others_percent;
            let reading = Reading::of(percent > rule.pause_percent, percent < rule.resume_percent);
            self.cpu.observe(reading, u64::from(percent), (rule.pause_after, rule.resume_after), now);
        }
        let rule = self.rules.memory;
        let available = sample.memory_available_bytes;
        let plenty = rule.free_min_bytes.saturating_add(rule.free_min_bytes / 8);
        let reading = Reading::of(available < rule.free_min_bytes, available >= plenty);
        self.memory.observe(reading, available, (rule.pause_after, rule.resume_after), now);
    }

    /// The first that objects, in the order of what the owner would notice first.
    pub(super) fn objection(&self) -> Option<PauseReason> {
        let percent = |value: u64| u8::try_from(value).unwrap_or(100);
        let plain = |watch: Watch, reason: PauseReason| watch.tripped_at().map(|_| reason);
        let battery = |charge| PauseReason::Battery { percent: (charge != UNKNOWN_CHARGE).then(|| percent(charge)) };
        plain(self.full_screen, PauseReason::FullScreen)
            .or_else(|| plain(self.lid, PauseReason::Lid))
            .or_else(|| self.battery.tripped_at().map(battery))
            .or_else(|| self.temperature.tripped_at().map(|value| PauseReason::Temperature { celsius: percent(value) }))
            .or_else(|| self.memory.tripped_at().map(|free_bytes| PauseReason::Memory { free_bytes }))
            .or_else(|| self.stalled.tripped_at().map(|value| PauseReason::Stalled { percent: percent(value) }))
            .or_else(|| self.cpu.tripped_at().map(|value| PauseReason::Busy { cpu_percent: percent(value) }))
            .or_else(|| plain(self.metered, PauseReason::Metered))
            .or_else(|| plain(self.reboot, PauseReason::Reboot))
    }
}

/// The power against what the policy says of batteries, and the charge.
fn charge(power: Power, policy: &Policy) -> (Reading, u64) {
    let Power::Battery { percent } = power else { return (Reading::Under, 0) };
    let value = percent.map_or(UNKNOWN_CHARGE, u64::from);
    if !policy.on_battery {
        return (Reading::Over, value);
    }
    // One that does not tell its charge may be empty.
    let (charge, min) = (percent.unwrap_or(0), policy.battery_min.get());
    (Reading::of(charge < min, min == 0 || charge >= min.saturating_add(MORE_CHARGED).min(100)), value)
}
