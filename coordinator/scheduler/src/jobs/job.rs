//! One job that has not ended: what was submitted, how its tasks stand, and what holds it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_shared::{
    id::{AgentId, JobId},
    job::DependencyCondition,
    state::{JobState, TaskState, WaitReason},
    time::Timestamp,
};

use crate::{
    effect::NewJob,
    event::Retrying,
    jobs::{demand::DemandId, holding::Holding, share::SubmitterId, tasks::Tasks},
    limits::Limits,
    placement::{
        build::Length,
        rank::{Rank, micros},
    },
};

/// Attempts without a result say nothing before they have run for this long.
const NOTICED: Duration = Duration::from_secs(60);

/// A job that has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// As it was submitted, but for what only agents need: arguments and environment are left out.
    pub new: Box<NewJob>,
    pub submitter: SubmitterId,
    /// What it takes of its submitter's share.
    pub holding: Holding,
    pub demand: DemandId,
    pub rank: Rank,
    pub tasks: Tasks,
    pub gate: Gate,
    /// What it ends as once nothing of it runs, if somebody or a rule stopped it.
    pub stopping: Option<JobState>,
    /// Somebody has let it run again, as far as this coordinator knows.
    pub retried: bool,
    /// A retry that is under way, and the look at the store that it waits for.
    pub retrying: Option<(Retrying, u64)>,
    /// It stands among its submitter's jobs with something to start.
    pub listed: bool,
    /// Agents that have its brief.
    pub known_by: BTreeSet<AgentId>,
    pub pace: Pace,
    /// Since when agents that could have taken something of it were given something that suits them better.
    pub passed_over: Option<Timestamp>,
    /// Its timer for stragglers is set.
    pub watched: bool,
    /// Attempts that were evicted, or recalled after their start.
    pub moved: u64,
    /// Attempts that were lost.
    pub lost: u64,
}

/// What must come true before anything of the job starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    /// Jobs that have not ended yet, each with how it must end.
    pub after: BTreeMap<JobId, DependencyCondition>,
    /// When the closed window opens, if it ever does. `None`: there is no window, or it is open.
    pub closed_until: Option<Option<Timestamp>>,
}

/// How long the job's tasks take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    results: u32,
    mean_wall_us: u64,
    /// The longest that an attempt ran which did not come to its end.
    at_least_us: u64,
    /// When the first of those attempts started that run now, as far as it is known.
    began: Option<Timestamp>,
    /// What interruptions cost on the agents that were looked at for it, over the time that a task takes, on average.
    usual_cost: f32,
}

impl Job {
    /// Why nothing of it may start, whatever the agents do.
    pub(crate) fn held_back(&self) -> Option<WaitReason> {
        if !self.gate.after.is_empty() {
            return Some(WaitReason::Dependency { jobs: self.gate.after.keys().copied().collect() });
        }
        self.gate.closed_until.map(|opens| WaitReason::Window { opens })
    }

    /// Whether it should stand among the jobs with something to start.
    pub(crate) fn is_startable(&self) -> bool {
        let some = if self.is_full() { self.tasks.has_wanted() } else { self.tasks.has_some() };
        self.stopping.is_none() && self.held_back().is_none() && some
    }

    /// Whether no task of it is open or to be queued again.
    pub(crate) fn is_over(&self) -> bool {
        self.tasks.open() == 0 && self.retrying.is_none()
    }

    /// Its failed tasks, without those that a retry has yet to come to.
    pub(crate) fn failures(&self) -> u32 {
        self.tasks.failed().saturating_sub(self.retrying.map_or(0, |(retrying, _)| retrying.forgiven))
    }

    /// Whether as many of its tasks are with agents as may be at once. A second copy of one of them is no further task.
    pub(crate) fn is_full(&self) -> bool {
        let with_agents = self.tasks.with_agents().len() as u64;
        self.new.spec.at_once.is_some_and(|at_once| with_agents >= u64::from(at_once))
    }

    /// Whether there is something of it to start with this agent that did not fail there.
    pub(crate) fn has_for(&self, agent: AgentId) -> bool {
        if self.is_full() { self.tasks.is_wanted_of(agent) } else { self.tasks.has_for(agent) }
    }

    /// Whether there is something of it to start that failed with this agent and should rather go elsewhere.
    pub(crate) fn has_shunned(&self, agent: AgentId) -> bool {
        !self.is_full() && self.tasks.has_shunned(agent)
    }

    /// What the job has ended as, once no task of it is open.
    pub(crate) fn end_state(&self) -> JobState {
        let counts = self.tasks.counts(false);
        match self.stopping {
            Some(state) if counts.cancelled + counts.expired > 0 => state,
            Some(_) | None if counts.failed > 0 => JobState::Failed,
            Some(_) | None => JobState::Succeeded,
        }
    }
}

/// What tasks end as that a stop catches.
pub(crate) fn stopped_as(state: JobState) -> TaskState {
    match state {
        JobState::Expired => TaskState::Expired,
        JobState::Cancelled | JobState::Active | JobState::Succeeded | JobState::Failed => TaskState::Cancelled,
    }
}

impl Pace {
    /// Takes one more successful attempt into account: the last eight or so weigh most.
    pub(crate) fn note(&mut self, wall_us: u64) {
        self.results = self.results.saturating_add(1);
        self.mean_wall_us = match self.results {
            1 => wall_us,
            _ => self.mean_wall_us - self.mean_wall_us / 8 + wall_us / 8,
        };
    }

    /// An attempt ran for so long and was taken from its machine: its task takes longer than that.
    pub(crate) fn note_unfinished(&mut self, ran_us: u64) {
        self.at_least_us = self.at_least_us.max(ran_us);
        self.began = None;
    }

    /// An attempt starts.
    pub(crate) fn note_start(&mut self, now: Timestamp) {
        self.began.get_or_insert(now);
    }

    /// How long a task takes, once anything is known of it: as long as others did, or longer than what has run for a while
    /// without any result.
    pub(crate) fn length(&self, now: Timestamp) -> Option<Length> {
        if let Some(mean_us) = self.mean_wall_us() {
            return Some(Length::Usual(Duration::from_micros(mean_us.max(self.at_least_us))));
        }
        let runs_us = self.began.map_or(0, |began| micros(now.since(began)));
        let over = Duration::from_micros(self.at_least_us.max(runs_us));
        (over >= NOTICED).then_some(Length::Over(over))
    }

    /// The same as one time.
    pub(crate) fn expected(&self, now: Timestamp) -> Option<Duration> {
        self.length(now).map(Length::mean).filter(|time| !time.is_zero())
    }

    /// What interruptions would cost on an agent that was looked at. The last sixteen or so weigh most.
    pub(crate) fn note_cost(&mut self, cost: f64) {
        self.usual_cost += (cost as f32 - self.usual_cost) / 16.0;
    }

    /// What they cost on average: what is less than that suits the job.
    pub(crate) fn usual_cost(&self) -> f64 {
        self.usual_cost.into()
    }

    /// The mean, once there was a result.
    pub(crate) fn mean_wall_us(&self) -> Option<u64> {
        (self.results > 0).then_some(self.mean_wall_us)
    }

    /// How long an attempt may run before it is a straggler, in microseconds, once enough results say what is long.
    pub(crate) fn straggles_after_us(&self, limits: &Limits) -> Option<u64> {
        let known = self.results >= limits.straggler_after_results.max(1);
        let long_us = self.mean_wall_us.saturating_mul(u64::from(limits.straggler_factor));
        known.then_some(long_us.max(micros(limits.straggler_time_min)))
    }

    /// How many attempts should wait at an agent behind this many slots, so that none runs dry during a round trip and
    /// little is lost if its owner comes back: [`Limits::prefetch_work`] for each slot, nothing of tasks that take longer
    /// or are not known yet.
    pub(crate) fn prefetch(&self, slots: u16, limits: &Limits) -> u32 {
        let work_us = micros(limits.prefetch_work);
        if self.results < limits.prefetch_after_results || self.mean_wall_us > work_us {
            return 0;
        }
        let per_slot = work_us.checked_div(self.mean_wall_us).unwrap_or(u64::MAX);
        let all = per_slot.saturating_mul(u64::from(slots));
        u32::try_from(all).unwrap_or(u32::MAX).min(limits.prefetch_attempts_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(results: u32, mean_wall_us: u64) -> Pace {
        Pace { results, mean_wall_us, ..Pace::default() }
    }

    #[test]
    fn prefetch_covers_a_tenth_of_a_second_of_work_per_slot() {
        let limits = Limits::default();
        assert_eq!(pace(10, 10_000).prefetch(2, &limits), 20);
        assert_eq!(pace(10, 60_000).prefetch(2, &limits), 2);
        assert_eq!(pace(10, 100_001).prefetch(2, &limits), 0, "long tasks are bound late");
        assert_eq!(pace(3, 1_000).prefetch(2, &limits), 0, "nothing is known yet");
        assert_eq!(pace(10, 0).prefetch(2, &limits), limits.prefetch_attempts_max);
    }

    #[test]
    fn what_has_run_for_a_while_without_a_result_is_expected_to_take_longer() {
        let at = |minutes: i64| Timestamp(minutes * 60_000_000);
        let minutes = |count: u64| Some(Duration::from_secs(count * 60));
        let mut pace = Pace::default();
        pace.note_start(at(0));
        assert_eq!(pace.expected(at(0)), None);
        pace.note_start(at(5));
        assert_eq!(pace.expected(at(30)), minutes(150), "an hour or four");
        assert_eq!(pace.expected(at(300)), minutes(600));
        pace.note_unfinished(30 * 60_000_000);
        assert_eq!(pace.length(at(300)), Some(Length::Over(Duration::from_secs(30 * 60))), "what waits does not run");
        pace.note(45 * 60_000_000);
        assert_eq!(pace.expected(at(500)), minutes(45), "a result says more");
    }

    #[test]
    fn the_mean_follows_the_last_results() {
        let mut pace = Pace::default();
        assert_eq!(pace.mean_wall_us(), None);
        pace.note(8_000);
        assert_eq!(pace.mean_wall_us(), Some(8_000));
        (0..100).for_each(|_| pace.note(80_000));
        assert!(pace.mean_wall_us().is_some_and(|mean| mean > 79_000 && mean <= 80_000));
    }
}
