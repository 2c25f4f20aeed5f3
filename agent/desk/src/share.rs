//! What a machine did for others: counted by its own clock's nights and months.
//!
//! A night lasts from noon to noon and has the date of its evening.

use std::time::Duration;

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime},
};
use serde::{Deserialize, Serialize};

/// What ran in a night or a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The evening of the night, or the month's first day.
    pub from: Date,
    /// Tasks that came to their end here, well or not.
    pub tasks: u64,
    /// How long tasks ran, each for itself and without pauses.
    pub run_ms: u64,
    /// Processor time of the functions.
    pub cpu_ms: u64,
}

impl Count {
    fn none(from: Date) -> Self {
        Self { from, tasks: 0, run_ms: 0, cpu_ms: 0 }
    }

    /// Whether nothing ran.
    pub fn is_none(&self) -> bool {
        self.tasks == 0 && self.run_ms == 0 && self.cpu_ms == 0
    }

    /// An estimate of the electricity, in watt-hours: a processor at work takes so many watts more than one at rest.
    pub fn watt_hours(&self, watts_per_processor: u32) -> f64 {
        Duration::from_millis(self.cpu_ms).as_secs_f64() / 3600.0 * f64::from(watts_per_processor)
    }

    fn add(&mut self, gain: Gain) {
        self.tasks = self.tasks.saturating_add(gain.tasks);
        self.run_ms = self.run_ms.saturating_add(gain.run.as_millis().try_into().unwrap_or(u64::MAX));
        self.cpu_ms = self.cpu_ms.saturating_add(gain.cpu.as_millis().try_into().unwrap_or(u64::MAX));
    }
}

/// What has run since it was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gain {
    pub tasks: u64,
    pub run: Duration,
    pub cpu: Duration,
}

impl Gain {
    /// Whether nothing has run.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What is kept: two nights and a month, however long the machine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    pub tonight: Count,
    /// The night before, if the machine counted then.
    pub last_night: Option<Count>,
    pub month: Count,
}

impl Tally {
    /// Nothing has run yet.
    pub fn new(local: DateTime) -> Self {
        Self { tonight: Count::none(night(local)), last_night: None, month: Count::none(month(local)) }
    }

    /// What ran until now, by the machine's clock.
    pub fn add(&mut self, gain: Gain, local: DateTime) {
        self.turn(local);
        self.tonight.add(gain);
        self.month.add(gain);
    }

    /// A new night and a new month begin when it is time. A clock that is put back by less than a day begins none.
    pub fn turn(&mut self, local: DateTime) {
        let (tonight, before) = (night(local), self.tonight.from);
        if tonight > before || before.checked_sub(1.day()).is_ok_and(|date| tonight < date) {
            let follows = before.checked_add(1.day()).is_ok_and(|date| date == tonight);
            self.last_night = follows.then_some(self.tonight);
            self.tonight = Count::none(tonight);
        }
        let (this, before) = (month(local), self.month.from);
        if this > before || before.checked_sub(1.day()).is_ok_and(|date| month(local) < date.first_of_month()) {
            self.month = Count::none(this);
        }
    }
}

fn night(local: DateTime) -> Date {
    local.checked_sub(12.hours()).unwrap_or(local).date()
}

fn month(local: DateTime) -> Date {
    local.date().first_of_month()
}

/// What people are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    #[serde(flatten)]
    pub tally: Tally,
    /// What a processor takes when it works, in watts, as somebody stated it.
    pub watts_per_processor: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(text: &str) -> DateTime {
        text.parse().expect("a time")
    }

    fn gain(tasks: u64) -> Gain {
        Gain { tasks, run: Duration::from_secs(60), cpu: Duration::from_secs(30) }
    }

    #[test]
    fn a_night_lasts_from_noon_to_noon_and_a_month_to_its_end() {
        let mut tally = Tally::new(local("2026-11-30T22:00"));
        tally.add(gain(2), local("2026-11-30T23:00"));
        tally.add(gain(3), local("2026-12-01T05:00"));
        assert_eq!((tally.tonight.tasks, tally.tonight.run_ms, tally.tonight.cpu_ms), (5, 120_000, 60_000));
        assert_eq!((tally.month.from, tally.month.tasks), ("2026-12-01".parse().expect("a date"), 3), "a month has its own days");
        tally.turn(local("2026-12-01T12:00"));
        assert!(tally.tonight.is_none());
        assert_eq!(tally.last_night.map(|night| night.tasks), Some(5));
        tally.turn(local("2026-12-03T12:00"));
        assert_eq!(tally.last_night, None, "the night before counted nothing");
    }

    #[test]
    fn a_clock_that_is_put_right_loses_nothing_and_one_that_was_far_ahead_is_not_waited_for() {
        let mut tally = Tally::new(local("2026-12-01T12:10"));
        tally.add(gain(1), local("2026-12-01T11:50"));
        assert_eq!((tally.tonight.tasks, tally.month.tasks), (1, 1), "noon is not crossed backwards");
        tally.add(gain(1), local("2026-11-30T23:59"));
        assert_eq!((tally.tonight.tasks, tally.month.tasks), (2, 2));
        tally.add(gain(7), local("2031-05-01T01:00"));
        tally.add(gain(1), local("2026-12-01T13:00"));
        assert_eq!((tally.tonight.tasks, tally.month.tasks), (1, 1));
    }

    #[test]
    fn energy_is_processor_time_at_the_stated_watts() {
        let count = Count { cpu_ms: 2 * 3_600_000, ..Count::none(Date::constant(2026, 12, 1)) };
        assert!((count.watt_hours(8) - 16.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn no_clock_breaks_the_count(days in proptest::collection::vec(-4_000_i32..4_000, 1..20), hour in 0_i8..24) {
            let start = local("2026-12-01T00:00");
            let mut tally = Tally::new(start);
            for day in days {
                let at = start.checked_add(i64::from(day).days()).expect("a date").with().hour(hour).build().expect("a time");
                tally.add(Gain { tasks: u64::MAX / 2, run: Duration::MAX, cpu: Duration::MAX }, at);
            }
            prop_assert!(tally.month.from.day() == 1);
        }
    }
}
