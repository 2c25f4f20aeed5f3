//! Second copies of tasks that hold their job up: the first result wins, and the others are taken back.
//!
//! ```text
//! nothing left to start --watch--> a look now and then --an attempt straggles, a slot is free--> a second beside it
//!                                                                                                     |
//!                     one succeeds, or fails for the last time --> the other ends as cancelled <------+
//! ```
//! An attempt straggles when it has run much longer than those before it, or as long while its agent has it off the
//! processor; one of whose agent nothing is heard is the concern of [`crate::attempts::silence`]. Functions touch nothing but their output, so that running one twice does no harm. Only slots
//! for which nobody has anything else are given to second copies, and a task has at most two.
//!
//! A copy that fails counts as a failure of its task; the other goes on as long as retries are left.

use std::time::Duration;

use lull_shared::{
    amount::spoken,
    id::{AgentId, AttemptId, JobId, TaskId, TaskIndex},
    state::AttemptEnd,
    time::Timestamp,
};

use crate::{
    Scheduler,
    attempts::{attempt::Ending, copies::Copies},
    effect::TaskAfter,
    jobs::job::Job,
    limits::Limits,
    placement::{feasible::is_feasible, rank::micros},
    time::timers::Timer,
};

/// Attempts of one task that are live at once for its speed's sake.
const COPIES_MAX: usize = 2;

/// An attempt that deserves a second one beside it.
struct Straggler {
    since: Timestamp,
    index: TaskIndex,
    cause: Box<str>,
}

impl Scheduler {
    /// Begins to look for stragglers of a job once it has nothing left to start and it is known what is long.
    pub(crate) fn watch(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.watched && may_lag(job, &self.limits)) else { return };
        job.watched = true;
        self.timers.set(Timer::Straggler(id), self.now + self.limits.straggler_look);
    }

    /// Starts second copies where slots stayed free for them.
    pub(crate) fn start_second_copies(&mut self) {
        while let Some(id) = self.lagging.pop_first() {
            self.fleet.settle();
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.watched = false;
            if may_lag(job, &self.limits) && job.held_back().is_none() && self.fleet.free_slots() > 0 {
                for straggler in self.stragglers(id) {
                    self.start_second_copy(id, straggler);
                }
            }
            self.watch(id);
        }
    }

    /// The job's stragglers that have no second copy yet, those that run the longest first.
    fn stragglers(&self, id: JobId) -> Vec<Straggler> {
        let Some(job) = self.jobs.get(&id) else { return Vec::new() };
        let Some(long_us) = job.pace.straggles_after_us(&self.limits) else { return Vec::new() };
        let usual_us = job.pace.mean_wall_us().unwrap_or(0);
        let soon_us = usual_us.max(micros(self.limits.straggler_time_min));
        let cause = |copies: &Copies| -> Option<(Timestamp, Box<str>)> {
            let live = copies.iter().next().filter(|_| copies.count() < COPIES_MAX)?;
            // What nobody hears of is looked after elsewhere.
            if self.is_unreachable(live.agent) {
                return None;
            }
            let ran_us = micros(self.now.since(live.since));
            let (ran, usual) = (spoken(Duration::from_micros(ran_us)), spoken(Duration::from_micros(usual_us)));
            if ran_us >= soon_us && live.paused.is_some() {
                return Some((live.since, format!("the first began {ran} ago and is paused").into()));
            }
            (ran_us >= long_us).then(|| (live.since, format!("the first runs for {ran} and others took {usual}").into()))
        };
        let with_cause = |(index, copies)| cause(copies).map(|(since, cause)| Straggler { since, index, cause });
        let mut found: Vec<_> = job.tasks.with_agents().filter_map(with_cause).collect();
        found.sort_unstable_by_key(|straggler| (straggler.since, straggler.index));
        found.truncate(self.limits.second_copies_per_look_max);
        found
    }

    fn start_second_copy(&mut self, id: JobId, straggler: Straggler) {
        let Straggler { index, cause, .. } = straggler;
        self.fleet.settle();
        let Some(agent) = self.second_agent(id, index) else { return };
        let job = self.jobs.get_mut(&id).expect("a job with stragglers is active");
        let Some(number) = job.tasks.start_beside(index, agent, cause.clone(), self.now) else { return };
        self.give(AttemptId { task: TaskId { job: id, index }, number }, agent, true, Some(cause), true);
    }

    /// The least loaded agent with a free slot for the job that does not have the task yet.
    fn second_agent(&self, id: JobId, index: TaskIndex) -> Option<AgentId> {
        let job = self.jobs.get(&id)?;
        let (demand, copies, answers) = (self.demands.get(job.demand), job.tasks.copies(index)?, job.tasks.answers(index));
        let fits = |id: &AgentId| {
            let agent = self.fleet.get(*id)?;
            let has_it = copies.are_with(*id) || answers.iter().any(|answer| answer.agent == *id);
            (!has_it && is_feasible(agent, demand, job.rank.job, self.now)).then_some(())
        };
        self.fleet.free().find(|agent| fits(agent).is_some())
    }

    /// The task ends with one attempt: the others are over.
    pub(crate) fn end_other_copies(&mut self, winner: AttemptId, after: TaskAfter) {
        let Some(copies) = self.jobs.get(&winner.task.job).and_then(|job| job.tasks.copies(winner.task.index)) else { return };
        let second_copies: Vec<_> = copies.beside(winner.number).map(|live| (live.agent, live.number)).collect();
        let reason = match after {
            TaskAfter::Succeeded => "another copy finished first",
            TaskAfter::Failed => "another copy failed for the last time",
            TaskAfter::Again { .. } | TaskAfter::Continues { .. } | TaskAfter::Cancelled | TaskAfter::Expired => {
                "its job was stopped"
            }
        };
        for (agent, number) in second_copies {
            let other = AttemptId { number, ..winner };
            self.withdraw(agent, other, reason, AttemptEnd::Cancelled);
        }
    }

    /// Takes a live attempt from its agent at once; what the agent says of it before it has read that is not held
    /// against it.
    pub(crate) fn withdraw(&mut self, id: AgentId, attempt: AttemptId, reason: &str, end: AttemptEnd) {
        self.fleet.known(id).note_withdrawn(attempt);
        self.end_attempt(id, attempt, Ending::without_result(end, reason));
    }
}

/// Whether tasks of the job may hold it up: all others are done or with agents.
fn may_lag(job: &Job, limits: &Limits) -> bool {
    let waits = job.tasks.has_some() || job.stopping.is_some();
    !waits && job.tasks.with_agents().len() > 0 && job.pace.straggles_after_us(limits).is_some()
}
