//! What people do with their machines in a week: office hours, meetings, days at home, and what they leave running.

use std::time::Duration;

use lull_shared::{
    hours::WeekMinute,
    policy::{Changes, Policy},
    time::Timestamp,
};

use super::super::dice::Dice;

const MINUTE: i64 = 60 * 1_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// A machine that goes to sleep by itself does so after half an hour without input, whatever runs on it.
const AUTO_SLEEP: i64 = 30 * MINUTE;
/// Nobody sits down for less.
const SITS_MIN: i64 = 5 * 1_000_000;
/// Nobody switches a machine off for less.
const OFF_MIN: i64 = 3 * HOUR;

/// Something that happens at a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The owner works with it until then.
    Sit { until: Timestamp },
    /// The desk is bumped.
    Bump,
    /// The owner's own programs, a backup or a virus scan need the processors, or need them no more.
    Load(bool),
    /// It runs on battery, or no more.
    Battery(bool),
    /// The policy's hours begin or end.
    Hours { open: bool },
    /// It says that it goes to sleep, and does.
    Sleep { until: Timestamp },
    /// It says that it is switched off, and is.
    Off { until: Timestamp },
    /// The power fails.
    Dark { until: Timestamp },
}

/// What an owner leaves behind when they are away for hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    On,
    Asleep,
    Off,
}

/// A machine's owner and place.
#[derive(Debug, Clone)]
pub struct Habits {
    pub policy: Policy,
    pub owner: Changes,
    /// How far its clock is ahead of UTC, in minutes.
    pub clock_ahead_min: i16,
    laptop: bool,
    leaves: Leaves,
    /// When they come and how long they stay, in microseconds.
    comes: i64,
    stays: i64,
    night_owl: bool,
    weekends: bool,
    scans: bool,
}

/// Times at the desk, from and to.
type Stretches = Vec<(i64, i64, Place)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Desk,
    Meeting,
    Home { battery: bool },
}

impl Habits {
    pub fn new(laptop: bool, dice: &mut Dice) -> Self {
        let pairs: (&[&str], &[&str]) = match dice.number(0, 100) {
            // Rooms and sites where the administrator lets work run whenever nobody is there...
            0..15 => (&["hours=always"], &[]),
            // ...and where light work goes on beside the owner.
            15..23 => (&["beside_owner=true", "beside_cores=25", "beside_memory=25"], &[]),
            23..29 => (&[], &["idle=30m"]),
            29..34 => (&[], &["hours=20:00-06:00; 00:00-24:00 sat,sun"]),
            34..38 => (&[], &["cores=50", "grace=15s"]),
            _ => (&[], &[]),
        };
        let changes = |pairs: &[&str]| Changes::from_pairs(pairs).expect("these are settings");
        let hours = |from: f64, to: f64, dice: &mut Dice| (dice.seconds(from * 3600.0, to * 3600.0).as_micros()) as i64;
        Self {
            policy: Policy::default().with(&changes(pairs.0)),
            owner: changes(pairs.1),
            clock_ahead_min: if dice.chance(0.25) { -300 } else { 60 },
            laptop,
            leaves: match dice.number(0, 100) {
                0..55 => Leaves::On,
                55..80 => Leaves::Asleep,
                _ => Leaves::Off,
            },
            comes: hours(7.2, 9.8, dice),
            stays: hours(7.0, 9.5, dice),
            night_owl: dice.chance(0.06),
            weekends: dice.chance(0.08),
            scans: dice.chance(0.3),
        }
    }

    /// What holds on the machine.
    pub fn effective(&self) -> Policy {
        self.policy.narrowed_by(&self.owner)
    }

    /// The minute of the week that its clock shows.
    pub fn local(&self, at: Timestamp) -> WeekMinute {
        WeekMinute::at(at, self.clock_ahead_min)
    }

    /// Everything that happens at the machine from a Monday's midnight (UTC) on, in order.
    pub fn timeline(&self, monday: Timestamp, days: i64, dice: &mut Dice) -> Vec<(Timestamp, Act)> {
        let zero = monday.0 - i64::from(self.clock_ahead_min) * MINUTE;
        let mut stretches = Stretches::new();
        for day in 0..=days {
            self.day(day, zero + day * DAY, dice, &mut stretches);
        }
        // Who touches the desk for less has bumped it.
        stretches.retain(|(from, to, _)| to - from >= SITS_MIN);
        stretches.sort_by_key(|(from, ..)| *from);
        stretches.dedup_by(|later, earlier| later.0 < earlier.1);
        let mut acts = Vec::new();
        for (from, to, place) in &stretches {
            acts.push((*from, Act::Sit { until: Timestamp(*to) }));
            let battery = matches!(place, Place::Home { battery: true }) || (*place == Place::Meeting && self.laptop);
            if battery {
                acts.push((*from, Act::Battery(true)));
                acts.push((*to, Act::Battery(false)));
            }
        }
        self.gaps(zero, &stretches, dice, &mut acts);
        for day in 0..=days {
            self.accidents(day, zero + day * DAY, dice, &mut acts);
        }
        self.hours(monday, days, &mut acts);
        // A week begins with machines that were left asleep or off.
        let began = monday.0 + 90_000_000;
        for (at, act) in &mut acts {
            match act {
                Act::Sleep { until } | Act::Off { until } if *at < began && until.0 > began + MINUTE => *at = began,
                _ => {}
            }
        }
        acts.retain(|(at, _)| *at >= monday.0);
        acts.sort_by_key(|(at, _)| *at);
        acts.into_iter().map(|(at, act)| (Timestamp(at), act)).collect()
    }

    fn day(&self, day: i64, midnight: i64, dice: &mut Dice, stretches: &mut Stretches) {
        let span = |from_min: f64, to_min: f64, dice: &mut Dice| dice.seconds(from_min * 60.0, to_min * 60.0).as_micros() as i64;
        if day % 7 >= 5 {
            if self.weekends && dice.chance(0.6) {
                let from = midnight + span(540.0, 1_080.0, dice);
                stretches.push((from, from + span(60.0, 240.0, dice), Place::Desk));
            }
            return;
        }
        // Holidays, illness, and days at home without this machine.
        if dice.chance(0.14) {
            return;
        }
        let comes = midnight + self.comes + span(0.0, 30.0, dice);
        let late = if dice.chance(0.1) { span(60.0, 180.0, dice) } else { 0 };
        let goes = comes + self.stays + span(0.0, 40.0, dice) + late;
        let lunch = comes + span(190.0, 260.0, dice);
        let mut at = comes;
        let mut eaten = false;
        while at < goes {
            let meets = dice.chance(0.2);
            let works = if meets { span(30.0, 70.0, dice) } else { span(10.0, 90.0, dice) };
            let to = (at + works).min(goes);
            // Who has a laptop takes it to the meeting; another's machine idles meanwhile.
            if !meets || self.laptop {
                stretches.push((at, to, if meets { Place::Meeting } else { Place::Desk }));
            }
            at = to + span(2.0, 25.0, dice);
            if !eaten && at >= lunch {
                (at, eaten) = (at + span(25.0, 60.0, dice), true);
            }
        }
        if self.night_owl && dice.chance(0.4) {
            let from = midnight + span(1_260.0, 1_350.0, dice);
            stretches.push((from.max(goes + HOUR), from.max(goes + HOUR) + span(40.0, 180.0, dice), Place::Desk));
        } else if self.laptop && dice.chance(0.25) {
            let from = goes + span(60.0, 180.0, dice);
            let battery = dice.chance(0.35);
            stretches.push((from, from + span(20.0, 120.0, dice), Place::Home { battery }));
        }
    }

    /// What the machine does while nobody is there.
    fn gaps(&self, zero: i64, stretches: &Stretches, dice: &mut Dice, acts: &mut Vec<(i64, Act)>) {
        let end = zero + 30 * DAY;
        let before = (zero - DAY / 2, zero - DAY / 2, Place::Desk);
        let starts = std::iter::once(&before).chain(stretches);
        let ends = stretches.iter().map(|(from, ..)| *from).chain([end]);
        for ((_, from, place), to) in starts.zip(ends) {
            let length = to - from;
            let away = self.laptop && length > HOUR && (*place != Place::Desk || dice.chance(0.6));
            if away {
                acts.push((from + MINUTE, Act::Sleep { until: Timestamp(to - 2_000_000) }));
                continue;
            }
            match self.leaves {
                Leaves::Asleep if length > AUTO_SLEEP + MINUTE => {
                    acts.push((from + AUTO_SLEEP, Act::Sleep { until: Timestamp(to - 2_000_000) }));
                }
                Leaves::Off if length > OFF_MIN => {
                    let until = Timestamp(to - MINUTE);
                    // Some switch the power strip off.
                    let act = if dice.chance(0.04) { Act::Dark { until } } else { Act::Off { until } };
                    acts.push((from + MINUTE, act));
                }
                Leaves::On | Leaves::Asleep | Leaves::Off => {}
            }
        }
    }

    /// What nobody plans, and what the administrator does.
    fn accidents(&self, day: i64, midnight: i64, dice: &mut Dice, acts: &mut Vec<(i64, Act)>) {
        let at =
            |from_h: f64, to_h: f64, dice: &mut Dice| midnight + dice.seconds(from_h * 3600.0, to_h * 3600.0).as_micros() as i64;
        for _ in 0..dice.number(0, 4) {
            let from = at(8.0, 18.0, dice);
            acts.push((from, Act::Load(true)));
            acts.push((from + dice.seconds(5.0, 900.0).as_micros() as i64, Act::Load(false)));
        }
        if self.scans && dice.chance(0.7) {
            let from = at(18.5, 23.5, dice);
            acts.push((from, Act::Load(true)));
            acts.push((from + dice.seconds(300.0, 2_400.0).as_micros() as i64, Act::Load(false)));
        }
        // The cleaners, a truck, a cat.
        if dice.chance(0.4) {
            acts.push((at(17.5, 22.0, dice), Act::Bump));
        }
        if dice.chance(0.05) {
            acts.push((at(0.0, 24.0, dice), Act::Bump));
        }
        if dice.chance(0.002) {
            let from = at(0.0, 24.0, dice);
            acts.push((from, Act::Dark { until: Timestamp(from) + dice.seconds(30.0, 7_200.0) }));
        }
        if day % 7 == 2 && dice.chance(0.9) {
            let from = at(2.0, 5.0, dice);
            acts.push((from, Act::Off { until: Timestamp(from) + dice.seconds(120.0, 600.0) }));
        }
    }

    fn hours(&self, monday: Timestamp, days: i64, acts: &mut Vec<(i64, Act)>) {
        let policy = self.effective();
        let open = |minute: i64| policy.hours.contains(self.local(Timestamp(monday.0 + minute * MINUTE)));
        let mut was = None;
        for minute in 0..=days * 24 * 60 {
            let now = open(minute);
            if was.replace(now) != Some(now) {
                acts.push((monday.0 + minute * MINUTE, Act::Hours { open: now }));
            }
        }
    }
}

/// How long the owner pauses between two inputs that matter: the first two tell them from a bumped desk within
/// [`super::desk::TOLD`], the others keep the guard from believing that they left.
pub(super) fn next_input(first: bool, idle: Duration, dice: &mut Dice) -> Duration {
    if first { dice.seconds(0.6, 1.3) } else { idle.mul_f64(dice.seconds(0.5, 0.9).as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_has_people_who_come_and_go_and_machines_that_sleep() {
        let monday = Timestamp::from_millis(1_795_392_000_000);
        let mut dice = Dice::new(1, 1);
        let (mut sits, mut sleeps, mut offs) = (0, 0, 0);
        for number in 0..50 {
            let habits = Habits::new(number % 2 == 0, &mut dice);
            let acts = habits.timeline(monday, 7, &mut dice);
            assert!(acts.is_sorted_by_key(|(at, _)| *at));
            for (at, act) in acts {
                match act {
                    Act::Sit { until } => {
                        assert!(until > at);
                        sits += 1;
                    }
                    Act::Sleep { until } => {
                        assert!(until > at, "{act:?} at {at}");
                        sleeps += 1;
                    }
                    Act::Off { until } | Act::Dark { until } => {
                        assert!(until > at, "{act:?} at {at}");
                        offs += 1;
                    }
                    Act::Bump | Act::Load(_) | Act::Battery(_) | Act::Hours { .. } => {}
                }
            }
        }
        assert!(sits > 1_500 && sleeps > 100 && offs > 50, "{sits} {sleeps} {offs}");
    }
}
