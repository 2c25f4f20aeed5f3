//! When each machine was there for work, by the hour of its own week, and what follows for the next hours: pure.
//!
//! ```text
//! edges (there for work, not any more) --> the present hour --whole hours--> shares, departures: 7 x 24, a byte each
//!                                                                               |
//!             what all machines do --> risk: is it taken away within this time, and how much is lost then
//! ```
//! A share is the part of an hour in which the machine was connected and offered room, averaged over weeks, newer ones
//! weighing more; departures are how often it was taken away, which a share does not tell: a minute of the owner's own work
//! ends a task as surely as a day of it. Hours that were not watched from end to end say nothing. Nothing happens here
//! between edges.

use std::time::Duration;

use lull_shared::{hours::WeekMinute, id::AgentId, time::Timestamp};

use crate::{
    Scheduler,
    effect::{Change, Effect},
    placement::feasible::is_there,
    time::timers::Timer,
};

/// Hours of a week.
pub const HOURS: usize = 7 * 24;
const HOUR_US: i64 = 3_600_000_000;
/// A share is kept in so many parts of one.
const WHOLE: u8 = 200;
/// How often a machine is taken away is kept in so many parts of one time.
const TIMES: u8 = 20;
/// An hour that was never watched.
const UNKNOWN: u8 = u8::MAX;
/// How much a new week counts: what people do in one week says less than what they do in three.
const NEW_WEEK: f64 = 1.0 / 3.0;
/// While nobody has counted departures: a machine that is away for a part of an hour is taken away in the course of it with
/// about half of that as its chance, if it is there at the beginning.
const FLICKER: f64 = 0.5;
/// The hour of the day before which hardly anybody is at work.
const NIGHT_ENDS: usize = 6;
/// What is believed of hours in which nobody in the fleet was watched yet: an office's, whose machines are mostly not there
/// for work in these hours of a working day...
const OFFICE_HOURS: std::ops::Range<usize> = 8..18;
/// ...but for so much of them...
const OFFICE_SHARE: f64 = 0.2;
/// ...and are taken away so often in each of the others.
const OFFICE_DEPARTURES: f64 = 0.03;
/// An hour of which nothing is known is like the last few of its day that were watched.
const HOURS_BEFORE: usize = 3;
/// Days of one machine that say as much of it as all others do.
const USUAL_DAYS: f64 = 3.0;
/// What is paused for less goes on.
const BUMP: Duration = Duration::from_secs(15);
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
    /// How often it was taken away in each.
    taken: [u8; HOURS],
    /// How far the machine's clock is ahead of UTC, in minutes.
    pub clock_ahead_min: i16,
}

impl Default for IdleHours {
    fn default() -> Self {
        Self { shares: [UNKNOWN; HOURS], taken: [UNKNOWN; HOURS], clock_ahead_min: 0 }
    }
}

impl IdleHours {
    /// As [`Self::shares`] and [`Self::taken`] gave them; none if these are no such bytes.
    pub fn from_bytes(shares: &[u8], taken: Option<&[u8]>, clock_ahead_min: i16) -> Option<Self> {
        let shares: [u8; HOURS] = shares.try_into().ok()?;
        let taken: [u8; HOURS] = taken.map_or(Ok([UNKNOWN; HOURS]), TryInto::try_into).ok()?;
        let mut both = shares.iter().chain(&taken);
        both.all(|part| *part <= WHOLE || *part == UNKNOWN).then_some(Self { shares, taken, clock_ahead_min })
    }

    /// A byte for each hour, Monday's first one first: half percents, 255 for what is not known.
    pub fn shares(&self) -> &[u8; HOURS] {
        &self.shares
    }

    /// A byte for each hour: twentieths of a time, 255 for an hour in which it was never watched while it was there.
    pub fn taken(&self) -> &[u8; HOURS] {
        &self.taken
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
        let (kind, hour) = Kind::of(hour);
        let alike = mean(kind.days().filter_map(|day| self.share(day * 24 + hour)));
        // Nobody comes on a day off, as nobody comes at night.
        let nights = || Kind::Work.days().flat_map(|day| (0..NIGHT_ENDS).filter_map(move |hour| self.share(day * 24 + hour)));
        alike.or_else(|| if kind == Kind::Off { mean(nights()) } else { None })
    }

    /// Whether any hour was watched.
    fn is_watched(&self) -> bool {
        self.shares.iter().any(|share| *share != UNKNOWN)
    }

    /// The hour's share, be it that of an office's machines.
    fn share_or_office(&self, hour: usize) -> f64 {
        self.guess(hour).unwrap_or_else(|| if is_office_hour(hour) { OFFICE_SHARE } else { 1.0 })
    }

    /// The part of the hour around a moment in which the machine is expected to be there for work, 0 to 1.
    pub(crate) fn expected(&self, at: Timestamp) -> f64 {
        self.share_or_office(self.hour_of(at).0)
    }

    /// How often the machine is taken away in an hour, be it as offices' machines are.
    fn departures_or_office(&self, hour: usize, usual: &Usual) -> f64 {
        let flicker = || FLICKER * (1.0 - self.share_or_office(hour));
        let office = || if is_office_hour(hour) { flicker() } else { OFFICE_DEPARTURES };
        self.departures(hour, usual).unwrap_or_else(|| if self.guess(hour).is_some() { flicker() } else { office() })
    }

    /// How often the machine is taken away in an hour in which it is there: on average of all days of the hour's kind, since
    /// a single one tells of a single day, and of what is usual for the fleet's machines then.
    fn departures(&self, hour: usize, usual: &Usual) -> Option<f64> {
        let (kind, hour) = Kind::of(hour);
        let known = kind.days().map(|day| self.taken[day * 24 + hour]).filter(|taken| *taken != UNKNOWN);
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), taken| (sum + times(taken), count + 1.0));
        match usual.departures(kind, hour) {
            Some(usual) => Some((sum + usual * USUAL_DAYS) / (count + USUAL_DAYS)),
            None => (count > 0.0).then(|| sum / count),
        }
    }

    /// An hour was watched from end to end.
    fn note(&mut self, hour: usize, share: f64, taken: u32) {
        let average = |old: u8, new: f64, scale: u8| {
            let scale = f64::from(scale);
            let new = if old == UNKNOWN { new * scale } else { f64::from(old) + (new * scale - f64::from(old)) * NEW_WEEK };
            new.clamp(0.0, f64::from(WHOLE)).round() as u8
        };
        self.shares[hour] = average(self.shares[hour], share, WHOLE);
        if share > 0.0 || taken > 0 {
            self.taken[hour] = average(self.taken[hour], f64::from(taken), TIMES);
        }
    }

    /// The hour of the machine's week, and how far it has got, in microseconds.
    fn hour_of(&self, at: Timestamp) -> (usize, i64) {
        let hour = WeekMinute::at(at, self.clock_ahead_min).get() / 60;
        let local_us = at.0 + i64::from(self.clock_ahead_min) * 60_000_000;
        (hour.into(), local_us.rem_euclid(HOUR_US))
    }
}

/// Days on which people do about the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Work,
    Off,
}

impl Kind {
    /// What kind of day an hour of the week belongs to, and which hour of it that is.
    fn of(hour: usize) -> (Self, usize) {
        (if hour < 5 * 24 { Self::Work } else { Self::Off }, hour % 24)
    }

    fn days(self) -> std::ops::Range<usize> {
        match self {
            Self::Work => 0..5,
            Self::Off => 5..7,
        }
    }
}

fn is_office_hour(hour: usize) -> bool {
    let (kind, hour) = Kind::of(hour);
    kind == Kind::Work && OFFICE_HOURS.contains(&hour)
}

/// How often the fleet's machines are taken away, by the hour of a day: what is believed of a machine until more is known
/// of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usual {
    /// By kind of day: the sum, and of how many hours.
    taken: [[(f64, u32); 24]; 2],
}

impl Usual {
    fn add(&mut self, hours: &IdleHours) {
        for (hour, taken) in hours.taken.iter().enumerate().filter(|(_, taken)| **taken != UNKNOWN) {
            let (kind, hour) = Kind::of(hour);
            let (sum, count) = &mut self.taken[kind as usize][hour];
            (*sum, *count) = (*sum + times(*taken), *count + 1);
        }
    }

    /// In that hour. In one of a day off that was not seen yet as in the hours before it, or at night if none was.
    fn departures(&self, kind: Kind, hour: usize) -> Option<f64> {
        let mean_of = |seen: &mut dyn Iterator<Item = &(f64, u32)>| {
            let (sum, count) = seen.fold((0.0, 0), |(sum, count), hour| (sum + hour.0, count + hour.1));
            (count > 0).then(|| sum / f64::from(count))
        };
        let day = &self.taken[kind as usize];
        let own = mean_of(&mut day[hour..=hour].iter());
        if own.is_some() || kind == Kind::Work {
            return own;
        }
        let mut before = day[..hour].iter().rev().filter(|(_, count)| *count > 0).take(HOURS_BEFORE);
        let night = || mean_of(&mut self.taken[Kind::Work as usize][..NIGHT_ENDS].iter());
        mean_of(&mut before).or_else(night)
    }
}

fn times(taken: u8) -> f64 {
    f64::from(taken) / f64::from(TIMES)
}

/// The mean of some shares; none of none.
fn mean(shares: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = shares.fold((0.0, 0), |(sum, count), share| (sum + share, count + 1));
    (count > 0).then(|| sum / f64::from(count))
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
pub(crate) struct History {
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
    /// How often it was taken away.
    taken: u32,
    /// Since when it is not there.
    gone: Option<Timestamp>,
    /// Whether the hour has been watched from its beginning.
    whole: bool,
}

impl Watch {
    fn turn(&mut self, is_there: bool, now: Timestamp) {
        if self.is_there && !is_there {
            self.gone = Some(now);
            self.taken += 1;
        } else if is_there && self.gone.take().is_some_and(|gone| now.since(gone) < BUMP) {
            self.taken = self.taken.saturating_sub(1);
        }
        self.is_there = is_there;
    }
}

impl History {
    /// As it was written down; it is watched from now on.
    pub(crate) fn restored(hours: IdleHours, now: Timestamp) -> Self {
        let watch = Watch { is_there: false, since: now, there_us: 0, taken: 0, gone: None, whole: false };
        Self { hours: Some(Box::new(hours)), watch: Some(watch) }
    }

    /// The machine is there for work from now on, or is not. Whether a share changed.
    pub(crate) fn turn(&mut self, is_there: bool, now: Timestamp) -> bool {
        if self.watch.is_none() && self.hours.is_none() && !is_there {
            return false;
        }
        let changed = self.fold(now);
        match &mut self.watch {
            Some(watch) => watch.turn(is_there, now),
            None => self.watch = Some(Watch { is_there, since: now, there_us: 0, taken: 0, gone: None, whole: false }),
        }
        changed
    }

    /// The machine says how far its clock is ahead. An hour in which that changes is not counted.
    pub(crate) fn set_clock(&mut self, ahead_min: i16, now: Timestamp) -> bool {
        let known = self.hours.as_ref().map_or(0, |hours| hours.clock_ahead_min);
        // No clock on Earth is further from UTC than fourteen hours.
        let ahead_min = ahead_min.clamp(-14 * 60, 14 * 60);
        if ahead_min == known {
            return false;
        }
        self.fold(now);
        self.hours.get_or_insert_default().clock_ahead_min = ahead_min;
        if let Some(watch) = &mut self.watch {
            *watch = Watch { since: now, there_us: 0, taken: 0, whole: false, ..*watch };
        }
        true
    }

    /// The clock by which hours are counted was set: the one that it stood in is not counted.
    pub(crate) fn begin_anew(&mut self, now: Timestamp) {
        if let Some(watch) = &mut self.watch {
            *watch = Watch { since: now, there_us: 0, taken: 0, gone: None, whole: false, ..*watch };
        }
    }

    /// Counts the hours that have passed. Whether a share changed.
    pub(crate) fn fold(&mut self, now: Timestamp) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        let hours = self.hours.get_or_insert_default();
        let mut changed = false;
        // Of more than a week the newest counts.
        let least = now.0 - HOURS as i64 * HOUR_US;
        if watch.since.0 < least {
            *watch = Watch { since: Timestamp(least), there_us: 0, taken: 0, whole: false, ..*watch };
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
                hours.note(hour, watch.there_us as f64 / HOUR_US as f64, watch.taken);
                changed = true;
            }
            (watch.there_us, watch.taken, watch.whole) = (0, 0, true);
        }
    }

    /// What is known, the present hour left out.
    pub(crate) fn hours(&self) -> Option<&IdleHours> {
        self.hours.as_deref()
    }

    /// Whether the machine, there at `now`, is taken away within a time; none before it was watched for any hour.
    pub(crate) fn risk(&self, now: Timestamp, time: Duration, usual: &Usual) -> Option<Risk> {
        let hours = self.hours.as_deref().filter(|hours| hours.is_watched())?;
        let (hour, into_us) = hours.hour_of(now);
        let mut share = hours.share_or_office(hour);
        let (mut stays, mut lost_s, mut at_s) = (1.0, 0.0, 0.0);
        let end_s = time.as_secs_f64().min(f64::from(AHEAD_HOURS) * 3_600.0);
        let mut left_s = (HOUR_US - into_us) as f64 / 1e6;
        for ahead in 0..=AHEAD_HOURS as usize {
            let part_s = left_s.min(end_s - at_s);
            // Within the hour, then from it to the next.
            let there = (hour + ahead) % HOURS;
            let departures = hours.departures_or_office(there, usual);
            let kept = stays * (-departures * part_s / 3_600.0).exp();
            lost_s += (stays - kept) * (at_s + part_s / 2.0);
            at_s += part_s;
            stays = kept;
            if at_s >= end_s {
                break;
            }
            let next = hours.share_or_office((hour + ahead + 1) % HOURS);
            // A part of an hour is told by departures; a machine that is away all of it was taken away before.
            let kept = if next < share * 0.5 { stays * next / share } else { stays };
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
    pub(crate) fn note_presence(&mut self, id: AgentId) {
        let wall = self.wall();
        let Some(agent) = self.fleet.get_mut(id) else { return };
        let is_there = is_there(agent);
        if agent.history.turn(is_there, wall) {
            self.unsaved_hours.insert(id);
        }
        self.timers.set_once(Timer::Hours, self.now + SAVE_EVERY);
    }

    /// The agent says how far its clock is ahead.
    pub(crate) fn note_clock(&mut self, id: AgentId, ahead_min: i16) {
        let wall = self.wall();
        if self.fleet.known(id).history.set_clock(ahead_min, wall) {
            self.unsaved_hours.insert(id);
        }
    }

    /// Once in an hour counts the one that has passed, and has what changed written down, some agents at a time.
    pub(crate) fn save_hours(&mut self) {
        let (now, wall) = (self.now, self.wall());
        if self.hours_due.is_none_or(|due| due <= now) {
            self.hours_due = Some(now + SAVE_EVERY);
            let ids: Vec<AgentId> = self.fleet.iter().map(|(id, _)| id).collect();
            for id in ids {
                if self.fleet.known(id).history.fold(wall) {
                    self.unsaved_hours.insert(id);
                }
            }
            self.note_usual();
        }
        for _ in 0..SAVED_AT_ONCE {
            let Some(id) = self.unsaved_hours.pop_first() else { break };
            if let Some(hours) = self.fleet.get(id).and_then(|agent| agent.history.hours()) {
                let hours = Box::new(hours.clone());
                self.effects.push_back(Effect::Record(Change::AgentHours { agent: id, hours, at: wall }));
            }
        }
        let soon = now + Duration::from_secs(1);
        let due = self.hours_due.unwrap_or(soon);
        self.timers.set(Timer::Hours, if self.unsaved_hours.is_empty() { due } else { due.min(soon) });
    }

    /// Takes in what is known of all machines.
    pub(crate) fn note_usual(&mut self) {
        self.usual = Usual::default();
        self.fleet.iter().filter_map(|(_, agent)| agent.history.hours()).for_each(|hours| self.usual.add(hours));
    }

    /// Whether a task that runs for so long is interrupted on this agent, or on any of which nothing is known.
    pub(crate) fn risk(&self, agent: Option<AgentId>, time: Duration) -> Risk {
        let known = agent.and_then(|id| self.known_risk(id, time));
        known.unwrap_or_else(|| Risk::constant(self.limits.undisturbed, time))
    }

    /// Whether anything is known of the agent's hours.
    pub(crate) fn knows_hours(&self, agent: AgentId) -> bool {
        self.known_risk(agent, Duration::ZERO).is_some()
    }

    /// The same where the agent's hours are known.
    pub(crate) fn known_risk(&self, agent: AgentId, time: Duration) -> Option<Risk> {
        self.fleet.get(agent).filter(|_| self.limits.believes_hours)?.history.risk(self.wall(), time, &self.usual)
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
        let short = history.risk(evening, hours(6), &Usual::default()).expect("a week is known");
        assert!(short.chance < 0.05, "{short:?}");
        let long = history.risk(evening, hours(14), &Usual::default()).expect("a week is known");
        assert!(long.chance > 0.95 && long.lost > hours(12) && long.lost <= hours(13), "{long:?}");
    }

    #[test]
    fn days_that_were_not_watched_are_guessed_from_others_of_their_kind() {
        let history = nights(2);
        assert!(history.risk(at(2, 19.0), Duration::from_secs(3_600), &Usual::default()).is_some());
    }

    /// A machine that is always there but for some minutes after two in the afternoon of each day, watched for a week.
    fn busy_at_two(away: Duration) -> History {
        let mut history = History::default();
        history.turn(true, at(0, 0.0));
        for day in 0..7 {
            history.turn(false, at(day, 14.25));
            history.turn(true, at(day, 14.25) + away);
        }
        history.fold(at(7, 0.0));
        history
    }

    #[test]
    fn who_is_away_for_minutes_each_day_ends_what_runs_then_as_surely_as_who_is_for_hours() {
        let risk = |away, from: f64| {
            let risk = busy_at_two(away).risk(at(8, from), Duration::from_secs(3 * 3_600), &Usual::default());
            risk.expect("a week is known").chance
        };
        let minutes = Duration::from_secs(180);
        assert!(risk(minutes, 13.0) > 0.6, "{}", risk(minutes, 13.0));
        assert!(risk(minutes, 17.0) < 0.01, "{}", risk(minutes, 17.0));
        assert!(risk(Duration::from_secs(2), 13.0) < 0.01, "a bumped desk ends nothing");
    }

    #[test]
    fn of_a_machine_of_which_little_is_known_is_believed_what_others_do() {
        let mut usual = Usual::default();
        (0..10).for_each(|_| usual.add(busy_at_two(Duration::from_secs(600)).hours().expect("hours")));
        let mut history = History::default();
        history.turn(true, at(0, 0.0));
        history.fold(at(1, 0.0));
        let chance = |usual: &Usual| history.risk(at(1, 13.0), Duration::from_secs(3 * 3_600), usual).expect("a day").chance;
        assert!(chance(&Usual::default()) < 0.01, "it was there all of the one day");
        assert!(chance(&usual) > 0.4, "{}", chance(&usual));
    }

    #[test]
    fn a_first_day_off_is_taken_for_a_long_night() {
        let history = nights(5);
        let saturday =
            history.risk(at(5, 10.0), Duration::from_secs(4 * 3_600), &Usual::default()).expect("five nights are known");
        assert!(saturday.chance < 0.01, "{saturday:?}");
        assert_eq!(nights(0).risk(at(5, 10.0), Duration::from_secs(3_600), &Usual::default()), None);
    }

    #[test]
    fn until_a_whole_day_was_watched_a_machine_is_taken_for_one_of_an_office() {
        let mut history = History::default();
        history.turn(true, at(0, 0.0));
        history.fold(at(0, 2.0));
        let chance = |from: f64, hours: u64| {
            let risk = history.risk(at(0, from), Duration::from_secs(hours * 3_600), &Usual::default());
            risk.expect("two hours are known").chance
        };
        assert!(chance(2.0, 4) < 0.15, "{}", chance(2.0, 4));
        assert!(chance(6.0, 4) > 0.75, "{}", chance(6.0, 4));
        assert!(chance(19.0, 4) < 0.15, "{}", chance(19.0, 4));
    }

    #[test]
    fn an_hour_of_a_day_off_that_nobody_has_seen_is_like_the_hours_before_it() {
        // Quiet until nine, then somebody comes for a minute in each hour.
        let mut history = History::default();
        history.turn(true, at(5, 0.0));
        for hour in 9..13 {
            history.turn(false, at(5, f64::from(hour) + 0.5));
            history.turn(true, at(5, f64::from(hour) + 0.5) + Duration::from_secs(60));
        }
        history.fold(at(5, 13.0));
        let mut usual = Usual::default();
        usual.add(history.hours().expect("hours"));
        assert_eq!(usual.departures(Kind::Off, 8), Some(0.0));
        assert_eq!(usual.departures(Kind::Off, 15), Some(1.0));
        assert_eq!(usual.departures(Kind::Work, 15), None);
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
        assert_eq!(IdleHours::from_bytes(hours.shares(), Some(hours.taken()), hours.clock_ahead_min), Some(hours));
        assert_eq!(IdleHours::from_bytes(&[0; 167], None, 0), None);
        assert_eq!(IdleHours::from_bytes(&[201; HOURS], None, 0), None);
    }

    fn hours_of(count: u64) -> Duration {
        Duration::from_secs(count * 3_600)
    }

    /// Hours of which each was watched, with this share and so many departures.
    fn steady(share: u8, taken: u8) -> IdleHours {
        IdleHours::from_bytes(&[share; HOURS], Some(&[taken; HOURS]), 0).expect("hours")
    }

    fn known(hours: IdleHours) -> History {
        History { hours: Some(Box::new(hours)), watch: None }
    }

    #[test]
    fn bytes_are_read_up_to_their_bounds_and_no_others() {
        let read = |share: u8, taken: u8| IdleHours::from_bytes(&[share; HOURS], Some(&[taken; HOURS]), 0).is_some();
        assert_eq!([0, WHOLE, WHOLE + 1, UNKNOWN - 1, UNKNOWN].map(|byte| read(byte, 0)), [true, true, false, false, true]);
        assert_eq!([0, WHOLE, WHOLE + 1, UNKNOWN - 1, UNKNOWN].map(|byte| read(0, byte)), [true, true, false, false, true]);
        assert_eq!(IdleHours::from_bytes(&[0; HOURS], Some(&[0; 3]), 0), None);
        assert_eq!(IdleHours::from_bytes(&[0; HOURS], None, 5).map(|hours| *hours.taken()), Some([UNKNOWN; HOURS]));
    }

    #[test]
    fn an_hour_in_which_a_machine_was_never_there_says_nothing_of_how_often_it_is_taken_away() {
        let mut hours = IdleHours::default();
        hours.note(0, 0.0, 0);
        hours.note(1, 0.0, 1);
        hours.note(2, 0.5, 0);
        assert_eq!(hours.taken[..3], [UNKNOWN, TIMES, 0]);
        assert_eq!(hours.shares[..3], [0, 0, WHOLE / 2]);
        hours.note(2, 1.0, 3);
        assert_eq!((hours.shares[2], hours.taken[2]), (133, 20), "a third of what is new");
        hours.note(3, 1.0, 1_000);
        assert_eq!(hours.taken[3], WHOLE, "no more than a byte says");
        assert!(!IdleHours::default().is_watched() && hours.is_watched());
    }

    #[test]
    fn what_is_gone_for_less_than_a_bump_was_not_taken_away() {
        let taken = |gone: Duration| {
            let mut history = History::default();
            history.turn(true, at(0, 8.0));
            history.turn(false, at(0, 9.5));
            history.turn(true, at(0, 9.5) + gone);
            history.fold(at(0, 10.0));
            history.hours().map(|hours| hours.taken()[9])
        };
        assert_eq!(taken(BUMP - Duration::from_micros(1)), Some(0));
        assert_eq!(taken(BUMP), Some(TIMES));
        let mut history = History::default();
        history.turn(true, at(0, 8.0));
        for minute in [10, 20, 30] {
            history.turn(false, at(0, 9.0 + f64::from(minute) / 60.0));
            history.turn(false, at(0, 9.0 + f64::from(minute + 1) / 60.0));
            history.turn(true, at(0, 9.0 + f64::from(minute + 5) / 60.0));
        }
        history.turn(true, at(0, 9.6));
        assert!(history.turn(false, at(0, 10.0)), "an hour was counted with it");
        assert_eq!(history.hours().map(|hours| (hours.taken()[9], hours.share(9))), Some((3 * TIMES, Some(0.75))));
        assert!(!history.turn(true, at(0, 10.5)), "no hour is over");
    }

    #[test]
    fn an_hour_in_which_a_clock_was_set_is_not_counted_and_the_next_one_is() {
        let watched = |set: &dyn Fn(&mut History)| {
            let mut history = History::default();
            history.turn(true, at(0, 7.5));
            history.fold(at(0, 9.5));
            set(&mut history);
            history.fold(at(0, 11.0));
            [8, 9, 10].map(|hour| share(&history, hour))
        };
        assert_eq!(watched(&|_| ()), [Some(1.0); 3]);
        assert_eq!(watched(&|history| history.begin_anew(at(0, 9.5))), [Some(1.0), None, Some(1.0)]);
        let unchanged = |history: &mut History| assert!(!history.set_clock(0, at(0, 9.5)), "it said so before");
        assert_eq!(watched(&unchanged), [Some(1.0); 3]);
        // There it is a quarter to nine again.
        let back = |history: &mut History| assert!(history.set_clock(-45, at(0, 9.5)));
        assert_eq!(watched(&back), [Some(1.0), Some(1.0), None], "from nine on that clock it was watched");
        let mut history = History::default();
        for (says, kept) in [(15 * 60, 14 * 60), (-15 * 60, -14 * 60), (60, 60)] {
            assert!(history.set_clock(says, at(0, 0.0)));
            assert_eq!(history.hours().map(|hours| hours.clock_ahead_min), Some(kept));
        }
        assert!(!history.set_clock(60, at(0, 0.0)));
    }

    #[test]
    fn of_what_was_written_down_the_hour_of_the_takeover_is_not_counted() {
        let mut history = History::restored(steady(UNKNOWN, UNKNOWN), at(0, 9.5));
        history.turn(true, at(0, 9.5));
        assert!(!history.fold(at(0, 10.0)) && history.fold(at(0, 11.0)));
        assert_eq!([9, 10].map(|hour| share(&history, hour)), [None, Some(1.0)]);
        let mut gone = History::restored(steady(UNKNOWN, UNKNOWN), at(0, 9.5));
        gone.fold(at(0, 11.0));
        assert_eq!(share(&gone, 10), Some(0.0), "it has not come to the one that took over");
    }

    #[test]
    fn of_more_than_a_week_without_a_look_the_newest_counts() {
        let mut history = History::default();
        history.turn(true, at(0, 0.5));
        assert!(history.fold(at(21, 0.5)));
        let hours = history.hours().expect("hours");
        assert_eq!(hours.shares().iter().filter(|share| **share == UNKNOWN).count(), 1, "but for the one it begins within");
        assert_eq!((hours.share(0), hours.share(1)), (None, Some(1.0)));
    }

    #[test]
    fn an_hour_that_was_not_watched_is_like_that_of_other_days_of_its_kind_and_a_day_off_like_nights() {
        let mut hours = IdleHours::default();
        assert_eq!((hours.guess(10), hours.share(HOURS)), (None, None));
        hours.note(24 + 10, 0.5, 0);
        hours.note(2 * 24 + 10, 1.0, 0);
        assert_eq!([10, 24 + 10, 3 * 24 + 10].map(|hour| hours.guess(hour)), [Some(0.75), Some(0.5), Some(0.75)]);
        assert_eq!([11, 5 * 24 + 10].map(|hour| hours.guess(hour)), [None, None], "other hours, and days off");
        hours.note(24 + NIGHT_ENDS - 1, 0.25, 0);
        hours.note(24 + NIGHT_ENDS, 1.0, 0);
        assert_eq!([5 * 24 + 10, 6 * 24 + 23].map(|hour| hours.guess(hour)), [Some(0.25), Some(0.25)], "as at night");
        hours.note(6 * 24 + 10, 1.0, 0);
        assert_eq!(hours.guess(5 * 24 + 10), Some(1.0), "the other day off says more");
        assert_eq!([7, 8, 17, 18, 5 * 24 + 12].map(is_office_hour), [false, true, true, false, false]);
        let unknown = IdleHours::default();
        assert_eq!([7, 8, 17, 18].map(|hour| unknown.share_or_office(hour)), [1.0, OFFICE_SHARE, OFFICE_SHARE, 1.0]);
        let departures = |hours: &IdleHours, hour| hours.departures_or_office(hour, &Usual::default());
        assert_eq!([7, 8].map(|hour| departures(&unknown, hour)), [OFFICE_DEPARTURES, FLICKER * (1.0 - OFFICE_SHARE)]);
        let shares_only = IdleHours::from_bytes(&[WHOLE / 2; HOURS], None, 0).expect("shares");
        assert_eq!([7, 8].map(|hour| departures(&shares_only, hour)), [FLICKER * 0.5; 2], "half of what it is away");
    }

    #[test]
    fn departures_are_those_of_its_own_days_and_of_the_fleet_as_much_as_three_days() {
        let mut hours = IdleHours::default();
        hours.note(10, 1.0, 1);
        hours.note(24 + 10, 1.0, 3);
        let mut usual = Usual::default();
        assert_eq!(hours.departures(10, &usual), Some(2.0));
        assert_eq!(hours.departures(11, &usual), None);
        usual.add(&steady(WHOLE, 0));
        assert_eq!(hours.departures(10, &usual), Some(4.0 / 5.0));
        assert_eq!(IdleHours::default().departures(10, &usual), Some(0.0));
        // Three hours before one of a day off that nobody has seen, and no more of them.
        let mut taken = [UNKNOWN; HOURS];
        for (hour, times) in [(4, 9), (5, 1), (6, 2), (8, 3)] {
            taken[5 * 24 + hour] = times * TIMES;
        }
        let mut seen = Usual::default();
        seen.add(&IdleHours { taken, ..IdleHours::default() });
        assert_eq!(seen.departures(Kind::Off, 8), Some(3.0));
        assert_eq!(seen.departures(Kind::Off, 9), Some(2.0), "one, two and three times");
        assert_eq!(seen.departures(Kind::Off, 7), Some(4.0));
        assert_eq!((seen.departures(Kind::Off, 3), seen.departures(Kind::Work, 8)), (None, None));
        let mut nights = Usual::default();
        let mut taken = [UNKNOWN; HOURS];
        (taken[NIGHT_ENDS - 1], taken[NIGHT_ENDS]) = (TIMES, 9 * TIMES);
        nights.add(&IdleHours { taken, ..IdleHours::default() });
        assert_eq!(nights.departures(Kind::Off, 12), Some(1.0), "as at night, where no hour before it was seen");
    }

    #[test]
    fn a_machine_that_is_taken_away_at_random_is_at_the_risk_of_that() {
        let history = known(steady(WHOLE, TIMES / 2));
        for (from, minutes) in [(9.0, 30), (9.25, 60), (9.75, 150), (23.5, 600)] {
            let time = Duration::from_secs(minutes * 60);
            let risk = history.risk(at(0, from), time, &Usual::default()).expect("it is known");
            let expected = Risk::constant(hours_of(2), time);
            assert!((risk.chance - expected.chance).abs() < 1e-9, "{risk:?}, and {expected:?} at random");
            let off = risk.lost.as_secs_f64() / expected.lost.as_secs_f64();
            assert!((0.95..1.05).contains(&off), "{risk:?}, and {expected:?} at random");
        }
        let never = known(steady(WHOLE, 0)).risk(at(0, 9.0), hours_of(10), &Usual::default());
        assert_eq!(never, Some(Risk { chance: 0.0, lost: Duration::ZERO }));
        let ahead = |hours| history.risk(at(0, 9.0), hours_of(hours), &Usual::default());
        assert_eq!(ahead(u64::from(AHEAD_HOURS)), ahead(10 * u64::from(AHEAD_HOURS)), "nobody looks further ahead");
        assert_eq!(history.risk(at(0, 9.0), Duration::ZERO, &Usual::default()).map(|risk| risk.chance), Some(0.0));
        assert_eq!(known(IdleHours::default()).risk(at(0, 9.0), hours_of(1), &Usual::default()), None, "no hour was watched");
    }

    #[test]
    fn a_machine_that_is_away_in_the_next_hour_is_taken_before_it_and_one_that_is_there_for_half_of_it_is_not() {
        let chance = |next: u8, minutes: u64| {
            let (mut shares, mut taken) = ([WHOLE; HOURS], [0; HOURS]);
            (shares[10], taken[10]) = (next, 0);
            let history = known(IdleHours::from_bytes(&shares, Some(&taken), 0).expect("hours"));
            history.risk(at(0, 9.5), Duration::from_secs(minutes * 60), &Usual::default()).expect("it is known")
        };
        assert_eq!(chance(0, 30).chance, 0.0, "it ends in time");
        let taken = chance(0, 31);
        assert_eq!((taken.chance, taken.lost), (1.0, Duration::from_secs(1_800)));
        assert_eq!(chance(WHOLE / 2, 31).chance, 0.0);
        let (quarter, expected) = (chance(WHOLE / 4, 31).chance, 0.75);
        assert!((quarter - expected).abs() < 1e-9, "{quarter}");
    }

    #[test]
    fn the_hours_of_many_machines_are_written_down_some_at_a_time() {
        use crate::{
            event::{AgentSnapshot, Event, Snapshot, StreamId},
            limits::Limits,
            tests::support::driver::{capacity, machine},
        };
        use lull_shared::{message::Hello, state::Intake};

        let count = SAVED_AT_ONCE as u64 + 1;
        let agent = |agent| AgentSnapshot {
            agent: AgentId(agent),
            name: format!("pc-{agent}"),
            group: None,
            intake: Intake::Open,
            quarantine: None,
        };
        let snapshot = Snapshot {
            agents: (1..=count).map(agent).collect(),
            hours: (1..=count).map(|agent| (AgentId(agent), IdleHours::default())).collect(),
            ..Snapshot::default()
        };
        let mut scheduler = Scheduler::restore(snapshot, Limits::default(), 7, at(0, 9.0));
        let hello = Hello {
            agent_version: "1".into(),
            machine: machine(),
            labels: Default::default(),
            capacity: capacity(1, 1),
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        };
        let connected = Event::Connected { agent: AgentId(1), stream: StreamId(1), hello: Box::new(hello), from: "desk".into() };
        scheduler.handle(connected, at(0, 9.0));
        let mut written = Vec::new();
        while let Some(due) = scheduler.poll_timeout().filter(|due| *due <= at(0, 12.5)) {
            scheduler.handle_timeout(due);
            let mut now = 0;
            while let Some(effect) = scheduler.poll_effect() {
                now += usize::from(matches!(effect, Effect::Record(Change::AgentHours { .. })));
            }
            if now > 0 {
                written.push((due, now));
            }
        }
        let late = |hour: f64| at(0, hour) + Duration::from_secs(1);
        let all = [(at(0, 11.0), SAVED_AT_ONCE), (late(11.0), 1), (at(0, 12.0), SAVED_AT_ONCE), (late(12.0), 1)];
        assert_eq!(written, all, "the hour of the takeover was not watched from its beginning");
    }
}
