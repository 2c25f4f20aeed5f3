//! Time limits, held against agents that do not hold them.
//!
//! An agent ends what exceeds its job's time limit, by its own clock: it knows best when a function was off the processor.
//! One that says `Started` and goes on saying that it is there would keep a task for ever. So each attempt has a clock here,
//! too:
//!
//! ```text
//! given --started--> runs <--paused, goes on--> rests        out of touch: stands still
//! ```
//! What runs longer than its limit and a margin is taken back and starts elsewhere, and that counts against the agent: with
//! [`MISDEEDS_MAX`] of them within [`MISDEEDS_SPAN`] it gets no work until an administrator trusts it.
//!
//! Honest agents have nothing to fear from it. The margin is for clocks that go slow, and for the way of words. A pause is
//! not counted, as the agent says, for up to [`REST_MAX`]; then the attempt is taken back, and nobody is blamed. Time
//! out of touch is none of this: what is unreachable has limits of its own. A coordinator that takes over begins to count
//! anew, and one that did not listen for a while listens first. Bringing a large output takes as long as the slowest line.
//! Attempts that may stand in one executor's pipe begin anew when one before them is done, as often as a pipe is deep.
//!
//! What was given to an agent that has room and does not begin is taken back after [`crate::limits::Limits::begin_max`]. That counts as much if the
//! agent runs nothing else; if it does it may lack memory that it has not told of.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, AttemptId},
    limits::UPLOAD_RATE_MIN,
    state::AttemptEnd,
    time::Timestamp,
};

use crate::{
    Scheduler,
    event::QuarantineKind,
    fleet::agents::{Agent, Lack, Link},
    placement::rank::micros,
    time::timers::Timer,
};

/// A clock that goes slow by more than this part, in percent, is a broken machine.
const MARGIN_PERCENT: u32 = 10;
/// A pause is given back long before, unless the policy keeps it in memory: an owner at work for a day, and a night.
const REST_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// An executor's pipe is no deeper: an attempt in it sees no more others end.
const AGAIN_MAX: u8 = u8::MAX;
/// One may be a machine that broke at this moment, two a coincidence.
const MISDEEDS_MAX: usize = 3;
/// For longer nobody is remembered for a single fault.
const MISDEEDS_SPAN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long an attempt has run, as far as is known here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    ran_us: u64,
    rested_us: u64,
    /// What bringing its output may take beside.
    bringing_us: u64,
    going: Going,
    /// How often it may begin anew.
    again: u8,
    /// How many attempts of its agent had ended when it began.
    behind: u64,
}

/// What an attempt does, since then.
#[derive(Debug, Clone, Copy, Default)]
enum Going {
    #[default]
    Still,
    Runs(Timestamp),
    Rests(Timestamp),
}

/// An attempt has had its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Ran,
    Rested,
}

impl Clock {
    fn settle(&mut self, now: Timestamp) {
        match self.going {
            Going::Still => {}
            Going::Runs(since) => self.ran_us = self.ran_us.saturating_add(micros(now.since(since))),
            Going::Rests(since) => self.rested_us = self.rested_us.saturating_add(micros(now.since(since))),
        }
        self.going = Going::Still;
    }

    /// It runs from now on; `behind`: it may stand behind others in a pipe, after so many have ended.
    fn run(&mut self, behind: Option<u64>, now: Timestamp) {
        if let (Going::Still, 0) = (self.going, self.ran_us) {
            (self.again, self.behind) = behind.map_or((0, 0), |ended| (AGAIN_MAX, ended));
        }
        self.settle(now);
        self.going = Going::Runs(now);
    }

    /// It is off the processor from now on.
    fn rest(&mut self, now: Timestamp) {
        self.settle(now);
        self.going = Going::Rests(now);
    }

    /// Others may have ended that stood before it, the last of them then.
    fn move_up(&mut self, ended: u64, last: Timestamp) {
        if let (Going::Runs(since), Some(left)) = (self.going, self.again.checked_sub(1))
            && self.behind < ended
        {
            (self.ran_us, self.going, self.again, self.behind) = (0, Going::Runs(since.max(last)), left, ended);
        }
    }

    /// Its output is on its way.
    fn bring(&mut self, size_bytes: u64) {
        self.bringing_us = self.bringing_us.max((size_bytes / UPLOAD_RATE_MIN).saturating_mul(1_000_000));
    }

    /// When it has had its time, if it goes on like this.
    fn due(&self, allowed: Duration) -> Option<(Timestamp, Over)> {
        let left = |allowed_us: u64, had_us: u64| Duration::from_micros(allowed_us.saturating_sub(had_us));
        match self.going {
            Going::Still => None,
            Going::Runs(since) => {
                let allowed_us = micros(allowed).saturating_add(self.bringing_us);
                Some((since + left(allowed_us, self.ran_us), Over::Ran))
            }
            Going::Rests(since) => Some((since + left(micros(REST_MAX), self.rested_us), Over::Rested)),
        }
    }
}

/// How an agent keeps to time limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Punctuality {
    /// When it was found to hold something beyond its limit.
    misdeeds: Vec<Timestamp>,
    /// Since when it could begin something and does not.
    idle_since: Option<Timestamp>,
    /// How many of its attempts have ended, and when the last of them did.
    ended: (u64, Timestamp),
}

impl Punctuality {
    /// How often it was found lately.
    pub(crate) fn misdeeds(&self) -> usize {
        self.misdeeds.len()
    }

    /// Nothing is held against it any more.
    pub(crate) fn forget(&mut self) {
        self.misdeeds.clear();
    }
}

impl Agent {
    /// Whether it has something to begin, and room for it.
    fn dawdles(&self) -> bool {
        let begun = self.begun as usize;
        let paused = self.capacity.as_ref().is_none_or(|capacity| capacity.paused.is_some());
        let there = matches!(self.link, Link::Open(_)) && self.sleeper.asleep.is_none();
        there && !paused && begun < self.held.len() && begun < usize::from(self.slots())
    }

    /// It is out of touch from now on: what it has may run, rest, or be gone. The time in which it was not yet known to be is
    /// counted: whoever speaks only now and then gains nothing by it.
    pub(crate) fn stop_clocks(&mut self, now: Timestamp) {
        self.held.values_mut().for_each(|held| held.clock.settle(now));
        self.punctuality.idle_since = None;
    }
}

impl Scheduler {
    /// An attempt runs, or goes on.
    pub(crate) fn time_attempt(&mut self, id: AgentId, attempt: AttemptId) {
        let now = self.now;
        let Some(limit) = self.time_limit(attempt) else { return };
        let agent = self.fleet.known(id);
        let behind = (agent.begun > u32::from(agent.slots())).then_some(agent.punctuality.ended.0);
        let Some(held) = agent.held.get_mut(&attempt) else { return };
        held.clock.run(behind, now);
        let due = held.clock.due(limit);
        agent.punctuality.idle_since = None;
        self.time_agent(id);
        self.look_at_time(id, due.map(|(at, _)| at));
    }

    /// An attempt is off the processor.
    pub(crate) fn rest_attempt(&mut self, id: AgentId, attempt: AttemptId) {
        let now = self.now;
        let Some(held) = self.fleet.known(id).held.get_mut(&attempt) else { return };
        held.clock.rest(now);
        let due = held.clock.due(Duration::ZERO);
        self.look_at_time(id, due.map(|(at, _)| at));
    }

    /// An attempt's output of this size is on its way here.
    pub(crate) fn brings(&mut self, id: AgentId, attempt: AttemptId, size_bytes: u64) {
        if let Some(held) = self.fleet.get_mut(id).and_then(|agent| agent.held.get_mut(&attempt)) {
            held.clock.bring(size_bytes);
        }
    }

    /// An agent is back: what had begun goes on, as far as it says nothing else.
    pub(crate) fn time_again(&mut self, id: AgentId) {
        let begun: Vec<_> = self.fleet.agent(id).held.iter().filter(|(_, held)| held.started).map(|(id, _)| *id).collect();
        for attempt in begun {
            let paused = self.jobs.get(&attempt.task.job).and_then(|job| job.tasks.live(attempt.task.index, attempt.number));
            if paused.is_some_and(|live| live.paused.is_some()) {
                self.rest_attempt(id, attempt);
            } else {
                self.time_attempt(id, attempt);
            }
        }
        self.time_agent(id);
    }

    /// Something changed with an agent: whether it begins what it could begin is looked at from now on, or not any more.
    pub(crate) fn time_agent(&mut self, id: AgentId) {
        let now = self.now;
        let agent = self.fleet.known(id);
        if !agent.dawdles() {
            agent.punctuality.idle_since = None;
            return;
        }
        let since = *agent.punctuality.idle_since.get_or_insert(now);
        self.look_at_time(id, Some(since + self.limits.begin_max));
    }

    /// An attempt ended: others may move up behind it.
    pub(crate) fn time_ended(&mut self, id: AgentId) {
        let now = self.now;
        let punctuality = &mut self.fleet.known(id).punctuality;
        (punctuality.ended, punctuality.idle_since) = ((punctuality.ended.0 + 1, now), None);
        self.time_agent(id);
    }

    fn look_at_time(&mut self, id: AgentId, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.timers.set_sooner(Timer::Overtime(id), at);
        }
    }

    /// How long an attempt may run, with all margins.
    fn time_limit(&self, attempt: AttemptId) -> Option<Duration> {
        let job = self.jobs.get(&attempt.task.job)?;
        let limit = Duration::from_millis(job.new.spec.limits.time_ms);
        Some(limit + limit / 100 * MARGIN_PERCENT + self.limits.overtime_margin)
    }

    /// Takes from an agent what it has had for too long. `due`: when this should have been looked at.
    pub(crate) fn check_time(&mut self, id: AgentId, due: Timestamp) {
        let now = self.now;
        if now.since(due) > self.limits.lease / 2 || now < self.excused_until {
            // It was us who slept: the end of what it had may be waiting to be read.
            return self.timers.set(Timer::Overtime(id), (now + self.limits.lease).max(self.excused_until));
        }
        let agent = self.fleet.known(id);
        let (ended, last) = agent.punctuality.ended;
        let timed = agent.held.iter_mut().map(|(attempt, held)| {
            held.clock.move_up(ended, last);
            (*attempt, held.clock)
        });
        let timed: Vec<_> = timed.collect();
        let due = timed.into_iter().filter_map(|(attempt, clock)| {
            let (at, over) = clock.due(self.time_limit(attempt)?)?;
            Some((at, attempt, over))
        });
        let (over, later): (Vec<_>, Vec<_>) = due.partition(|(at, ..)| *at <= now);
        for (_, attempt, over) in over {
            match over {
                Over::Ran => self.end_overtime(id, attempt, "its agent kept it beyond its time limit"),
                Over::Rested => self.retake(id, attempt, "it was paused for longer than a day"),
            }
        }
        self.look_at_time(id, later.into_iter().map(|(at, ..)| at).min());
        let agent = self.fleet.known(id);
        if agent.dawdles() && agent.punctuality.idle_since.is_some_and(|since| since + self.limits.begin_max <= now) {
            let (to_blame, reason) = (agent.begun == 0, "its agent did not begin it");
            let waiting = agent.held.iter().filter(|(_, held)| !held.started).map(|(attempt, _)| *attempt);
            let mut waiting: Vec<_> = waiting.collect();
            let blamed = waiting.pop_if(|_| to_blame);
            waiting.into_iter().for_each(|attempt| self.retake(id, attempt, reason));
            if let Some(attempt) = blamed {
                self.end_overtime(id, attempt, reason);
            }
        }
        self.time_agent(id);
    }

    fn retake(&mut self, id: AgentId, attempt: AttemptId, reason: &str) {
        // One that was quarantined meanwhile has nothing any more.
        if !self.fleet.agent(id).held.contains_key(&attempt) {
            return;
        }
        let stopping = self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopping.is_some());
        let end = if stopping { AttemptEnd::Cancelled } else { AttemptEnd::Recalled };
        self.note_refusal(id, attempt.task.job, reason.to_owned(), Lack::Other);
        self.withdraw(id, attempt, reason, end);
    }

    /// Takes an attempt back and holds it against the agent.
    fn end_overtime(&mut self, id: AgentId, attempt: AttemptId, reason: &str) {
        if !self.fleet.agent(id).held.contains_key(&attempt) {
            return;
        }
        let now = self.now;
        self.retake(id, attempt, reason);
        let misdeeds = &mut self.fleet.known(id).punctuality.misdeeds;
        misdeeds.retain(|at| now.since(*at) < MISDEEDS_SPAN);
        misdeeds.push(now);
        if misdeeds.len() >= MISDEEDS_MAX {
            let reason = format!("{MISDEEDS_MAX} times it held an attempt too long, {attempt} the last: {reason}");
            self.distrust(id, QuarantineKind::Overtime, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;
    const ALLOWED: Duration = Duration::from_secs(100);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * SECOND_US as i64)
    }

    /// A clock that runs since its zeroth second, with nothing before it.
    fn running() -> Clock {
        let mut clock = Clock::default();
        clock.run(None, at(0));
        clock
    }

    #[test]
    fn what_has_not_begun_is_never_due() {
        let mut clock = Clock::default();
        assert_eq!(clock.due(ALLOWED), None);
        clock.settle(at(500));
        assert_eq!((clock.due(ALLOWED), clock.ran_us, clock.rested_us), (None, 0, 0));
    }

    #[test]
    fn only_time_on_the_processor_is_counted_against_the_limit_and_rests_against_theirs() {
        let mut clock = running();
        assert_eq!(clock.due(ALLOWED), Some((at(100), Over::Ran)));
        clock.rest(at(30));
        assert_eq!(clock.due(ALLOWED), Some((at(30) + REST_MAX, Over::Rested)));
        clock.run(None, at(50));
        assert_eq!(clock.due(ALLOWED), Some((at(120), Over::Ran)), "it ran for thirty seconds");
        clock.run(None, at(60));
        assert_eq!(clock.due(ALLOWED), Some((at(120), Over::Ran)), "whoever says twice that it runs gains nothing");
        clock.rest(at(70));
        assert_eq!(clock.due(ALLOWED), Some((at(50) + REST_MAX, Over::Rested)), "twenty seconds of rest are spent");
        clock.settle(at(80));
        assert_eq!((clock.ran_us, clock.rested_us, clock.due(ALLOWED)), (50 * SECOND_US, 30 * SECOND_US, None));
        clock.settle(at(900));
        assert_eq!((clock.ran_us, clock.rested_us), (50 * SECOND_US, 30 * SECOND_US), "out of touch it stands still");
        let mut spent = running();
        spent.rest(at(1_000));
        spent.run(None, at(1_000));
        assert_eq!(spent.due(ALLOWED), Some((at(1_000), Over::Ran)), "it is due at once, and not before");
    }

    #[test]
    fn a_large_output_has_its_time_beside_and_the_largest_counts() {
        let mut clock = running();
        clock.bring(10 * UPLOAD_RATE_MIN);
        clock.bring(3 * UPLOAD_RATE_MIN);
        assert_eq!(clock.due(ALLOWED), Some((at(110), Over::Ran)));
        clock.rest(at(0));
        assert_eq!(clock.due(ALLOWED), Some((at(0) + REST_MAX, Over::Rested)), "a rest is no longer for it");
    }

    #[test]
    fn what_stands_in_a_pipe_begins_anew_once_for_each_that_ended_before_it_and_as_often_as_a_pipe_is_deep() {
        let mut behind = Clock::default();
        behind.run(Some(5), at(0));
        behind.move_up(5, at(10));
        assert_eq!(behind.due(ALLOWED), Some((at(100), Over::Ran)), "nobody has ended since");
        behind.move_up(6, at(10));
        assert_eq!(behind.due(ALLOWED), Some((at(110), Over::Ran)));
        behind.move_up(6, at(20));
        assert_eq!(behind.due(ALLOWED), Some((at(110), Over::Ran)), "the same end counts once");
        behind.move_up(7, at(5));
        assert_eq!(behind.due(ALLOWED), Some((at(110), Over::Ran)), "no end before it began again counts");
        for ended in 8..2_000 {
            behind.move_up(ended, at(ended as i64));
        }
        assert_eq!(behind.due(ALLOWED), Some((at(7 + i64::from(AGAIN_MAX) - 2 + 100), Over::Ran)));
        let mut alone = running();
        alone.move_up(9, at(50));
        assert_eq!(alone.due(ALLOWED), Some((at(100), Over::Ran)), "it stands behind nobody");
        let mut resting = Clock::default();
        resting.run(Some(0), at(0));
        resting.rest(at(10));
        resting.move_up(1, at(20));
        resting.run(Some(1), at(20));
        assert_eq!(resting.due(ALLOWED), Some((at(110), Over::Ran)), "whoever rests does not move up");
    }
}
