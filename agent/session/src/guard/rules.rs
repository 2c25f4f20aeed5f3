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

#[cfg(test)]
mod tests {
    use lull_shared::policy::{Celsius, Percent};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn policy() -> Policy {
        let (temperature_max, battery_min) = (Celsius::try_from(80).expect("a temperature"), Percent::new(40));
        Policy { on_battery: true, battery_min, temperature_max, before_reboot: true, ..Policy::unrestricted() }
    }

    type Change = fn(&mut Sample);
    type Allow = fn(&mut Policy);

    fn sample(change: Change) -> Sample {
        let mut sample = Sample::QUIET;
        change(&mut sample);
        sample
    }

    /// What is objected to a measurement that has lasted for long.
    fn objection(sample: &Sample, policy: &Policy) -> Option<PauseReason> {
        let mut watches = Watches::new(Rules::default());
        (0..60).for_each(|second| watches.observe(sample, policy, at(second)));
        watches.objection()
    }

    #[test]
    fn each_threshold_is_the_last_value_that_is_allowed() {
        let cases: [(Change, Option<PauseReason>); 14] = [
            (|sample| sample.celsius = Some(80), None),
            (|sample| sample.celsius = Some(81), Some(PauseReason::Temperature { celsius: 81 })),
            (|sample| sample.celsius = None, None),
            (|sample| sample.memory_stalled_percent = 19, None),
            (|sample| sample.memory_stalled_percent = 20, Some(PauseReason::Stalled { percent: 20 })),
            (|sample| sample.cpu_others_percent = 50, None),
            (|sample| sample.cpu_others_percent = 51, Some(PauseReason::Busy { cpu_percent: 51 })),
            (|sample| sample.memory_available_bytes = 512 * MIB, None),
            (|sample| sample.memory_available_bytes = 512 * MIB - 1, Some(PauseReason::Memory { free_bytes: 512 * MIB - 1 })),
            (|sample| sample.power = Power::Battery { percent: Some(40) }, None),
            (|sample| sample.power = Power::Battery { percent: Some(39) }, Some(PauseReason::Battery { percent: Some(39) })),
            (|sample| sample.power = Power::Battery { percent: None }, Some(PauseReason::Battery { percent: None })),
            (|sample| sample.lid_closed = true, None),
            (|sample| (sample.lid_closed, sample.power) = (true, Power::Battery { percent: Some(90) }), Some(PauseReason::Lid)),
        ];
        for (change, reason) in cases {
            assert_eq!(objection(&sample(change), &policy()), reason, "{:?}", sample(change));
        }
    }

    #[test]
    fn what_the_policy_allows_is_no_objection_and_what_it_does_not_is_one() {
        let cases: [(Change, Allow, PauseReason); 4] = [
            (|sample| sample.full_screen = true, |policy| policy.on_full_screen = false, PauseReason::FullScreen),
            (|sample| sample.metered = true, |policy| policy.on_metered = false, PauseReason::Metered),
            (|sample| sample.reboot = true, |policy| policy.before_reboot = false, PauseReason::Reboot),
            (
                |sample| sample.power = Power::Battery { percent: Some(90) },
                |policy| policy.on_battery = false,
                PauseReason::Battery { percent: Some(90) },
            ),
        ];
        for (change, forbid, reason) in cases {
            let mut strict = policy();
            forbid(&mut strict);
            assert_eq!(objection(&sample(change), &policy()), None, "{reason:?} is allowed");
            assert_eq!(objection(&sample(change), &strict), Some(reason.clone()), "{reason:?} is not allowed");
            assert_eq!(objection(&Sample::QUIET, &strict), None, "{reason:?} is not the case");
        }
    }

    #[test]
    fn a_charge_that_may_be_anything_is_asked_of_nobody() {
        let any = Policy { battery_min: Percent::new(0), ..policy() };
        for percent in [None, Some(0), Some(100)] {
            let battery = Sample { power: Power::Battery { percent }, ..Sample::QUIET };
            assert_eq!(objection(&battery, &any), None, "{percent:?}");
        }
    }

    /// What trips a rule, what lets go of it, what is just not enough for that, and how long that must last.
    type Ease = (Change, Change, Change, i64);

    #[test]
    fn each_rule_lets_go_at_its_own_distance_and_after_its_own_time() {
        let cases: [Ease; 10] = [
            (|sample| sample.celsius = Some(90), |sample| sample.celsius = Some(70), |sample| sample.celsius = Some(71), 30),
            (
                |sample| sample.memory_stalled_percent = 30,
                |sample| sample.memory_stalled_percent = 4,
                |sample| sample.memory_stalled_percent = 5,
                10,
            ),
            (
                |sample| sample.cpu_others_percent = 90,
                |sample| sample.cpu_others_percent = 24,
                |sample| sample.cpu_others_percent = 25,
                5,
            ),
            (
                |sample| sample.memory_available_bytes = 0,
                |sample| sample.memory_available_bytes = 576 * MIB,
                |sample| sample.memory_available_bytes = 576 * MIB - 1,
                5,
            ),
            (
                |sample| sample.power = Power::Battery { percent: Some(9) },
                |sample| sample.power = Power::Battery { percent: Some(45) },
                |sample| sample.power = Power::Battery { percent: Some(44) },
                30,
            ),
            (
                |sample| sample.power = Power::Battery { percent: Some(9) },
                |_| (),
                |sample| sample.power = Power::Battery { percent: None },
                30,
            ),
            (
                |sample| (sample.lid_closed, sample.power) = (true, Power::Battery { percent: Some(90) }),
                |sample| sample.lid_closed = true,
                |sample| (sample.lid_closed, sample.power) = (true, Power::Battery { percent: Some(99) }),
                10,
            ),
            (|sample| sample.full_screen = true, |_| (), |sample| sample.full_screen = true, 10),
            (|sample| sample.metered = true, |_| (), |sample| sample.metered = true, 30),
            (|sample| sample.reboot = true, |_| (), |sample| sample.reboot = true, 0),
        ];
        let strict = Policy { on_full_screen: false, on_metered: false, before_reboot: false, ..policy() };
        for (trip, enough, short, time) in cases {
            let tripped = || {
                let mut watches = Watches::new(Rules::default());
                (0..=2).for_each(|second| watches.observe(&sample(trip), &strict, at(second)));
                assert!(watches.objection().is_some(), "{:?}", sample(trip));
                watches
            };
            let mut watches = tripped();
            (10..100).for_each(|second| watches.observe(&sample(short), &strict, at(second)));
            assert!(watches.objection().is_some(), "{:?} is not enough", sample(short));
            let mut watches = tripped();
            (10..10 + time).for_each(|second| watches.observe(&sample(enough), &strict, at(second)));
            assert!(watches.objection().is_some(), "{:?} for {time} s is not long enough", sample(enough));
            watches.observe(&sample(enough), &strict, at(10 + time));
            assert_eq!(watches.objection(), None, "{:?} for {time} s", sample(enough));
        }
    }

    #[test]
    fn a_minimum_that_is_nearly_full_lets_go_at_a_full_battery() {
        let nearly = Policy { battery_min: Percent::new(98), ..policy() };
        let battery = |percent| Sample { power: Power::Battery { percent: Some(percent) }, ..Sample::QUIET };
        let mut watches = Watches::new(Rules::default());
        watches.observe(&battery(97), &nearly, at(0));
        (1..100).for_each(|second| watches.observe(&battery(99), &nearly, at(second)));
        assert!(watches.objection().is_some());
        (100..131).for_each(|second| watches.observe(&battery(100), &nearly, at(second)));
        assert_eq!(watches.objection(), None);
    }
}
