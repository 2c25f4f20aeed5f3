//! When each machine was there for work, by the hour of its own week, and what follows for the next hours: pure.
//!
//! ```text
//! edges (there for work, not any more) --> the present hour --whole hours--> shares: 7 x 24, a byte each
//!                                                                               |
//!                                    risk: is it taken away within this time, and how much is lost then
//! ```
//! A share is the part of an hour in which the machine was connected and offered room, averaged over weeks, newer ones
//! weighing more. Hours that were not watched from end to end say nothing. Nothing happens here between edges.

use std::time::Duration;

use lull_shared::{hours::WeekMinute, id::AgentId, time::Timestamp};

use super::{
    Scheduler,
    effect::{Change, Effect},
    feasible::is_there,
    timers::Timer,
};

/// Hours of a week.
pub const HOURS: usize = 7 * 24;
const HOUR_US: i64 = 3_600_000_000;
/// A share is kept in so many parts of one.
const WHOLE: u8 = 200;
/// An hour that was never watched.
const UNKNOWN: u8 = u8::MAX;
/// How much a new week counts: what people do in one week says less than what they do in three.
const NEW_WEEK: f64 = 1.0 / 3.0;
/// A machine that is away for a part of an hour is taken away in the course of it with about half of that as its chance,
/// if it is there at the beginning: some hours are divided, others are there on some days.
const FLICKER: f64 = 0.5;
/// Nobody looks further ahead.
const AHEAD_HOURS: u32 = 72;
/// How often what changed is written down.
const SAVE_EVERY: Duration = Duration::from_secs(3_600);
/// Agents in one change of the store: a turn stays short.
const SAVED_AT_ONCE: usize = 1_000;

/// The part of each hour of a machine's week in which it was there for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleHours {
    shares: [u8; HOURS],
    /// How far the machine's clock is ahead of UTC, in minutes.
    pub clock_ahead_min: i16,
}

impl Default for IdleHours {
    fn default() -> Self {
        Self { shares: [UNKNOWN; HOURS], clock_ahead_min: 0 }
    }
}

impl IdleHours {
    /// As [`Self::bytes`] gave them; none if these are no such bytes.
    pub fn from_bytes(bytes: &[u8], clock_ahead_min: i16) -> Option<Self> {
        let shares: [u8; HOURS] = bytes.try_into().ok()?;
        shares.iter().all(|share| *share <= WHOLE || *share == UNKNOWN).then_some(Self { shares, clock_ahead_min })
    }

    /// A byte for each hour, Monday's first one first: half percents, 255 for what is not known.
    pub fn bytes(&self) -> &[u8; HOURS] {
        &self.shares
    }

    /// The share of an hour, 0 to 1; none if it was never watched.
    pub fn share(&self, hour: usize) -> Option<f64> {
        let share = *self.shares.get(hour)?;
        (share != UNKNOWN).then(|| f64::from(share) / f64::from(WHOLE))
    }

    /// The hour's share; of one that was never watched that of the same hour on other days of its kind.
    fn guess(&self, hour: usize) -> Option<f64> {
        if let Some(share) = self.share(hour) {
            return Some(share);
        }
        let days = if hour < 5 * 24 { 0..5 } else { 5..7 };
        let known = days.filter_map(|day| self.share(day * 24 + hour % 24));
        let (sum, count) = known.fold((0.0, 0), |(sum, count), share| (sum + share, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    fn note(&mut self, hour: usize, share: f64) {
        let new = match self.share(hour) {
            None => share,
            Some(old) => old + (share - old) * NEW_WEEK,
        };
        self.shares[hour] = (new.clamp(0.0, 1.0) * f64::from(WHOLE)).round() as u8;
    }

    /// The hour of the machine's week, and how far it has got, in microseconds.
    fn hour_of(&self, at: Timestamp) -> (usize, i64) {
        let hour = WeekMinute::at(at, self.clock_ahead_min).get() / 60;
        let local_us = at.0 + i64::from(self.clock_ahead_min) * 60_000_000;
        (hour.into(), local_us.rem_euclid(HOUR_US))
    }
}

/// What may happen to a task within a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Risk {
    /// That the machine is taken away before the time is over, 0 to 1.
    pub chance: f64,
    /// How much was done when it is, on average.
    pub lost: Duration,
}

impl Risk {
    /// Where interruptions come at random, on average once in `undisturbed`.
    pub fn constant(undisturbed: Duration, time: Duration) -> Self {
        let (mean, time) = (undisturbed.as_secs_f64().max(1.0), time.as_secs_f64());
        let stays = (-time / mean).exp();
        let chance = 1.0 - stays;
        let lost = if chance > 0.0 { mean - time * stays / chance } else { 0.0 };
        Self { chance, lost: Duration::try_from_secs_f64(lost.clamp(0.0, time)).unwrap_or_default() }
    }
}

/// One machine's past, and the hour that is being watched.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Boxed: most of an agent is looked at for every task, this is not.
    hours: Option<Box<IdleHours>>,
    watch: Option<Watch>,
}

/// The present hour.
#[derive(Debug, Clone, Copy)]
struct Watch {
    is_there: bool,
    /// Since when that is added to `there_us`.
    since: Timestamp,
    there_us: i64,
    /// Whether the hour has been watched from its beginning.
    whole: bool,
}

impl History {
    /// As it was written down; it is watched from now on.
    pub(super) fn restored(hours: IdleHours, now: Timestamp) -> Self {
        let watch = Watch { is_there: false, since: now, there_us: 0, whole: false };
        Self { hours: Some(Box::new(hours)), watch: Some(watch) }
    }

    /// The machine is there for work from now on, or is not. Whether a share changed.
    pub(super) fn turn(&mut self, is_there: bool, now: Timestamp) -> bool {
        if self.watch.is_none() && self.hours.is_none() && !is_there {
            return false;
        }
        let changed = self.fold(now);
        match &mut self.watch {
            Some(watch) => watch.is_there = is_there,
            None => self.watch = Some(Watch { is_there, since: now, there_us: 0, whole: false }),
        }
        changed
    }

    /// The machine says how far its clock is ahead. An hour in which that changes is not counted.
    pub(super) fn set_clock(&mut self, ahead_min: i16, now: Timestamp) -> bool {
        let known = self.hours.as_ref().map_or(0, |hours| hours.clock_ahead_min);
        // No clock on Earth is further from UTC than fourteen hours.
        let ahead_min = ahead_min.clamp(-14 * 60, 14 * 60);
        if ahead_min == known {
            return false;
        }
        self.fold(now);
        self.hours.get_or_insert_default().clock_ahead_min = ahead_min;
        if let Some(watch) = &mut self.watch {
            *watch = Watch { since: now, there_us: 0, whole: false, ..*watch };
        }
        true
    }

    /// Counts the hours that have passed. Whether a share changed.
    pub(super) fn fold(&mut self, now: Timestamp) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        let hours = self.hours.get_or_insert_default();
        let mut changed = false;
        // Of more than a week the newest counts.
        let least = now.0 - HOURS as i64 * HOUR_US;
        if watch.since.0 < least {
            *watch = Watch { since: Timestamp(least), there_us: 0, whole: false, ..*watch };
        }
        loop {
            let (hour, into_us) = hours.hour_of(watch.since);
            let end = watch.since.0 - into_us + HOUR_US;
            let until = end.min(now.0).max(watch.since.0);
            watch.there_us += if watch.is_there { until - watch.since.0 } else { 0 };
            watch.since = Timestamp(until);
            if until < end {
                return changed;
            }
            if watch.whole {
                hours.note(hour, watch.there_us as f64 / HOUR_US as f64);
                changed = true;
            }
            (watch.there_us, watch.whole) = (0, true);
        }
    }

    /// What is known, the present hour left out.
    pub(super) fn hours(&self) -> Option<&IdleHours> {
        self.hours.as_deref()
    }

    /// Whether the machine, there at `now`, is taken away within a time; none when its hours are not known.
    pub(super) fn risk(&self, now: Timestamp, time: Duration) -> Option<Risk> {
        let hours = self.hours.as_deref()?;
        let (hour, into_us) = hours.hour_of(now);
        let mut share = hours.guess(hour)?;
        let (mut stays, mut lost_s, mut at_s) = (1.0, 0.0, 0.0);
        let end_s = time.as_secs_f64().min(f64::from(AHEAD_HOURS) * 3_600.0);
        let mut left_s = (HOUR_US - into_us) as f64 / 1e6;
        for ahead in 0..=AHEAD_HOURS as usize {
            let part_s = left_s.min(end_s - at_s);
            // Within the hour, then from it to the next.
            let kept = stays * (1.0 - FLICKER * (1.0 - share)).powf(part_s / 3_600.0);
            lost_s += (stays - kept) * (at_s + part_s / 2.0);
            at_s += part_s;
            stays = kept;
            if at_s >= end_s {
                break;
            }
            let next = hours.guess((hour + ahead + 1) % HOURS)?;
            let kept = stays * (next / share.max(0.01)).min(1.0);
            lost_s += (stays - kept) * at_s;
            (stays, share, left_s) = (kept, next, 3_600.0);
        }
        let chance = (1.0 - stays).clamp(0.0, 1.0);
        let lost = if chance > 0.0 { lost_s / chance } else { 0.0 };
        Some(Risk { chance, lost: Duration::try_from_secs_f64(lost).unwrap_or_default() })
    }
}

impl Scheduler {
    /// Something changed that decides whether the agent is there for work.
    pub(super) fn note_presence(&mut self, id: AgentId) {
        let now = self.now;
        let Some(agent) = self.fleet.get_mut(id) else { return };
        let is_there = is_there(agent);
        if agent.history.turn(is_there, now) {
            self.unsaved_hours.insert(id);
        }
        self.timers.set_once(Timer::Hours, now + SAVE_EVERY);
    }

    /// The agent says how far its clock is ahead.
    pub(super) fn note_clock(&mut self, id: AgentId, ahead_min: i16) {
        let now = self.now;
        if self.fleet.known(id).history.set_clock(ahead_min, now) {
            self.unsaved_hours.insert(id);
        }
    }

    /// Has what changed in the last hour written down, some agents at a time.
    pub(super) fn save_hours(&mut self) {
        let now = self.now;
        if self.unsaved_hours.is_empty() {
            let ids: Vec<AgentId> = self.fleet.iter().map(|(id, _)| id).collect();
            for id in ids {
                if self.fleet.known(id).history.fold(now) {
                    self.unsaved_hours.insert(id);
                }
            }
        }
        for _ in 0..SAVED_AT_ONCE {
            let Some(id) = self.unsaved_hours.pop_first() else { break };
            if let Some(hours) = self.fleet.get(id).and_then(|agent| agent.history.hours()) {
                let hours = Box::new(hours.clone());
                self.effects.push_back(Effect::Record(Change::AgentHours { agent: id, hours, at: now }));
            }
        }
        let next = if self.unsaved_hours.is_empty() { SAVE_EVERY } else { Duration::from_secs(1) };
        self.timers.set(Timer::Hours, now + next);
    }

    /// Whether a task that runs for so long is interrupted on this agent, or on any of which nothing is known.
    pub(super) fn risk(&self, agent: Option<AgentId>, time: Duration) -> Risk {
        let known = agent.and_then(|id| self.known_risk(id, time));
        known.unwrap_or_else(|| Risk::constant(self.limits.undisturbed, time))
    }

    /// The same where the agent's hours are known.
    pub(super) fn known_risk(&self, agent: AgentId, time: Duration) -> Option<Risk> {
        self.fleet.get(agent).filter(|_| self.limits.believes_hours)?.history.risk(self.now, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2026-11-23, 00:00 UTC.
    const MONDAY: i64 = 1_795_392_000;

    fn at(day: i64, hour: f64) -> Timestamp {
        Timestamp::from_millis((MONDAY + day * 86_400) * 1_000 + (hour * 3_600_000.0) as i64)
    }

    /// A machine that is there from six in the evening until eight in the morning, watched for so many days.
    fn nights(days: i64) -> History {
        let mut history = History::default();
        history.turn(true, at(0, 0.0));
        for day in 0..days {
            history.turn(false, at(day, 8.0));
            history.turn(true, at(day, 18.0));
        }
        history.fold(at(days, 0.0));
        history
    }

    fn share(history: &History, hour: usize) -> Option<f64> {
        history.hours().and_then(|hours| hours.share(hour))
    }

    #[test]
    fn an_hour_counts_when_it_was_watched_from_end_to_end() {
        let mut history = History::default();
        history.turn(true, at(0, 9.5));
        history.turn(false, at(0, 10.25));
        history.fold(at(0, 11.5));
        assert_eq!([9, 10, 11].map(|hour| share(&history, hour)), [None, Some(0.25), None]);
    }

    #[test]
    fn newer_weeks_count_more_and_older_ones_still_do() {
        let mut history = History::default();
        history.turn(true, at(0, 0.0));
        history.turn(false, at(1, 0.0));
        history.fold(at(8, 0.0));
        let after_two = share(&history, 12).expect("it was watched");
        assert!((after_two - 2.0 / 3.0).abs() < 0.01, "{after_two}");
    }

    #[test]
    fn a_task_that_ends_before_the_owner_comes_is_hardly_at_risk_and_one_that_does_not_is() {
        let history = nights(7);
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let evening = at(8, 19.0);
        let short = history.risk(evening, hours(6)).expect("a week is known");
        assert!(short.chance < 0.05, "{short:?}");
        let long = history.risk(evening, hours(14)).expect("a week is known");
        assert!(long.chance > 0.95 && long.lost > hours(12) && long.lost <= hours(13), "{long:?}");
    }

    #[test]
    fn days_that_were_not_watched_are_guessed_from_others_of_their_kind() {
        let history = nights(2);
        assert!(history.risk(at(2, 19.0), Duration::from_secs(3_600)).is_some());
        assert_eq!(history.risk(at(5, 19.0), Duration::from_secs(3_600)), None, "no weekend was watched");
    }

    #[test]
    fn hours_are_those_of_the_machines_own_clock() {
        let mut history = History::default();
        history.turn(true, at(0, 0.0));
        assert!(history.set_clock(-300, at(0, 0.0)));
        history.fold(at(0, 2.0));
        // Seven in the evening on Sunday.
        assert_eq!(share(&history, 6 * 24 + 19), None, "its beginning was not watched");
        assert_eq!(share(&history, 6 * 24 + 20), Some(1.0));
    }

    #[test]
    fn a_machine_that_was_never_there_takes_no_memory() {
        let mut history = History::default();
        assert!(!history.turn(false, at(0, 0.0)));
        history.fold(at(9, 0.0));
        assert!(history.hours().is_none());
    }

    #[test]
    fn a_constant_risk_is_that_of_interruptions_at_random() {
        let hour = Duration::from_secs(3_600);
        let risk = Risk::constant(hour, hour);
        assert!((risk.chance - 0.632).abs() < 0.001 && (risk.lost.as_secs_f64() / 3_600.0 - 0.418).abs() < 0.001, "{risk:?}");
        assert_eq!(Risk::constant(Duration::ZERO, Duration::MAX).chance, 1.0);
    }

    #[test]
    fn only_what_was_written_is_read_again() {
        let hours = nights(3).hours().expect("hours").clone();
        assert_eq!(IdleHours::from_bytes(hours.bytes(), hours.clock_ahead_min), Some(hours));
        assert_eq!(IdleHours::from_bytes(&[0; 167], 0), None);
        assert_eq!(IdleHours::from_bytes(&[201; HOURS], 0), None);
    }
}
