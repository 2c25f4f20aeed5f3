//! The end of each turn: what may start is started where it fits best.
//!
//! Placement goes both ways over ordered indexes, so that no turn looks at every agent for every task: an agent with
//! new room takes the best job for it; a job that has just become startable looks for the best agents with room.
//! Afterwards no startable task fits a free slot. Only then may attempts wait at agents (prefetch), and waiting ones
//! are taken back from where they wait the longest for slots that stay free.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    message::{Build, RecallReason},
};

use crate::{
    Scheduler,
    effect::{Change, Effect, Given},
    fleet::agents::{Agent, Held, UNSENT},
    jobs::{demand::DemandId, job::Job, tasks::Begun},
    placement::{
        build,
        feasible::is_feasible,
        rank::{Rank, micros},
        select::{Candidate, Load, Warmth, select},
    },
};

/// Agents that know a job already, or hold its code, and are looked at for one task: a few are enough to find one with
/// room.
const WARM_LOOKS: usize = 8;
/// Crowded agents that are looked through for attempts that an idle one could run: what waits is a tenth of a second
/// of work, not worth more.
const CROWDED_LOOKS: usize = 3;
/// Jobs that are compared for one free slot. Each costs a walk through the hours of a night.
const JOBS_LOOKED_AT: usize = 6;
/// What a later job must save, of the time that a task takes, to go before an earlier one.
const WORTH_PASSING: f64 = 0.02;
/// Free agents that are looked at for one that will be left alone for as long as a task takes.
const QUIET_LOOKS: usize = 8;
/// Shorter tasks are run again rather than thought about.
const LONG: Duration = Duration::from_secs(600);
/// A job that was passed over for so long, with nothing of it started meanwhile, gets the next slot that it may have.
const PASSED_OVER_MAX: Duration = Duration::from_secs(60 * 60);

impl Scheduler {
    /// The agent may have room that it had not before.
    pub(crate) fn wake_agent(&mut self, id: AgentId) {
        self.woken_agents.insert(id);
    }

    /// Puts jobs that changed before anything was placed where they belong. What waits in them now may fit agents that what
    /// waited before did not.
    fn relist_changed(&mut self) {
        for id in self.jobs.take_touched() {
            let Some(job) = self.jobs.get(&id) else { continue };
            if job.listed && job.is_startable() && (job.tasks.has_particular() || job.tasks.has_shunning()) {
                self.shares.wake(job.submitter, job.rank);
            }
            self.relist(id);
        }
    }

    /// Puts jobs that changed since where they belong.
    pub(crate) fn relist_placed(&mut self) {
        self.jobs.take_touched().into_iter().for_each(|id| self.relist(id));
    }

    /// Puts the job where it belongs: among the startable jobs, or not.
    fn relist(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_to_list(id) else { return };
        let startable = job.is_startable();
        if std::mem::replace(&mut job.listed, startable) != startable {
            match startable {
                true => self.shares.list(job.submitter, job.demand, job.rank),
                false => self.shares.unlist(job.submitter, job.demand, job.rank),
            }
        }
        if startable && job.tasks.has_shunning() {
            self.reluctant.insert(id);
        } else {
            self.reluctant.remove(&id);
        }
    }

    /// Starts whatever can be started.
    pub(crate) fn place(&mut self) {
        self.relist_changed();
        self.shares.settle(self.now);
        for id in std::mem::take(&mut self.awaiting) {
            self.fill(id);
            self.woken_agents.insert(id);
        }
        let visited = std::mem::take(&mut self.woken_agents);
        for id in &visited {
            self.fill(*id);
        }
        self.spread();
        for id in &visited {
            self.fill_with_failed(*id);
        }
        self.start_second_copies();
        for id in visited {
            self.prefetch(id);
            self.take_back(id);
        }
    }

    /// Gives the agent's free slots the best jobs for it.
    fn fill(&mut self, id: AgentId) {
        while self.fleet.get(id).is_some_and(|agent| agent.free_slots() > 0) {
            let Some(job) = self.suited_job(id) else { break };
            self.start(job, id, true);
        }
    }

    /// Gives the agent's free slots what has failed there before and nobody else could take.
    fn fill_with_failed(&mut self, id: AgentId) {
        while !self.reluctant.is_empty() && self.fleet.get(id).is_some_and(|agent| agent.free_slots() > 0) {
            let takes = |agent: &Agent, rank: Rank| {
                let job = self.jobs.get(&rank.job).filter(|job| job.has_shunned(id));
                job.is_some() && crate::placement::feasible::refused(agent, rank.job, self.now).is_none()
            };
            let Some(agent) = self.fleet.get(id) else { return };
            let free_bytes = agent.memory_free_bytes();
            let first = self.shares.first(|demand| self.has_room(agent, demand, free_bytes), |rank| takes(agent, rank));
            let Some(rank) = first else { break };
            self.start(rank.job, id, true);
        }
    }

    /// An agent with a free slot for what has failed there before, if the job has nothing else for any.
    fn failed_agent(&self, id: JobId) -> Option<AgentId> {
        let job = self.jobs.get(&id).filter(|job| job.tasks.has_shunning())?;
        let demand = self.demands.get(job.demand);
        let is_free = |agent: AgentId| self.fleet.get(agent).is_some_and(|agent| is_feasible(agent, demand, id, self.now));
        self.fleet.free().find(|agent| job.has_shunned(*agent) && is_free(*agent))
    }

    /// Finds agents with free slots for the jobs that have just become startable, best job first.
    fn spread(&mut self) {
        // Agents before a job's place in the index were found unfit for it in this turn.
        let mut places = BTreeMap::new();
        while let Some(rank) = self.shares.first_woken() {
            let from = places.entry(rank.job).or_insert((Load(0), AgentId(0)));
            self.fleet.settle();
            match self.best_agent(rank.job, from).or_else(|| self.failed_agent(rank.job)) {
                Some(agent) => self.start(rank.job, agent, true),
                None => {
                    let submitter = self.jobs.get(&rank.job).expect("a woken job is active").submitter;
                    self.shares.unwake(submitter, rank);
                }
            }
        }
    }

    /// Lets short tasks wait behind the agent's slots, once no free slot anywhere could take them.
    fn prefetch(&mut self, id: AgentId) {
        let Some(agent) = self.fleet.get(id) else { return };
        let (slots, held) = (agent.slots(), agent.held.len() as u32);
        if !agent.takes_work() || held < u32::from(slots) {
            return;
        }
        let waited = held - u32::from(slots);
        let mut waiting = waited;
        while u32::from(slots) + waiting < self.limits.attempts_per_agent_max {
            let Some(job) = self.best_job(id, |agent| agent.memory_budget_bytes) else { break };
            let target = self.prefetch_target(job, slots, waiting);
            // Topped up only when half of it is used up: one order then carries many attempts.
            if waiting >= target || waited.saturating_mul(2) > target {
                break;
            }
            self.start(job, id, false);
            waiting += 1;
        }
    }

    /// How many attempts may wait at an agent with so many slots: what covers a round trip, yet no more of what is left
    /// of the job, with what waits here already, than the agent's part of the fleet.
    fn prefetch_target(&self, id: JobId, slots: u16, waiting: u32) -> u32 {
        // What waits here would count among those at once, and others with a free slot could not have it.
        let Some(job) = self.jobs.get(&id).filter(|job| job.new.spec.at_once.is_none()) else { return 0 };
        let left = u64::from(job.tasks.startable()) + u64::from(waiting);
        let part = left.saturating_mul(u64::from(slots)).div_ceil(self.fleet.slots().max(1));
        job.pace.prefetch(slots, &self.limits).min(u32::try_from(part).unwrap_or(u32::MAX))
    }

    /// Takes attempts back for slots of this agent that stayed free: what waits at the most crowded agents, then what is
    /// paused or slow elsewhere and can be moved.
    fn take_back(&mut self, id: AgentId) {
        self.fleet.settle();
        let Some(agent) = self.fleet.get(id) else { return };
        let spare = self.fleet.free_slots().saturating_sub(self.fleet.rebalancing);
        let mut wanted = u64::from(agent.free_slots()).min(spare) as usize;
        if wanted == 0 {
            return;
        }
        let crowded: Vec<_> = self.fleet.crowded().take(CROWDED_LOOKS).collect();
        for from in crowded {
            if wanted == 0 {
                return;
            }
            for attempt in self.worth_moving(from, id, wanted) {
                wanted -= usize::from(self.fleet.recall(from, attempt, RecallReason::Rebalance, Some(id)));
            }
        }
        self.take_over(id, wanted);
    }

    /// Attempts that wait at one agent, would start sooner at another, and may.
    fn worth_moving(&self, from: AgentId, to: AgentId, wanted: usize) -> Vec<AttemptId> {
        let (Some(crowded), Some(idle)) = (self.fleet.get(from), self.fleet.get(to)) else { return Vec::new() };
        let rounds = u64::from(crowded.waiting().div_ceil(u32::from(crowded.slots()).max(1)));
        let gains = |job: JobId| {
            let Some(job) = self.jobs.get(&job).filter(|job| job.stopping.is_none()) else { return false };
            let wait_us = job.pace.mean_wall_us().map_or(u64::MAX, |mean| mean.saturating_mul(rounds));
            let demand = self.demands.get(job.demand);
            wait_us >= micros(self.limits.rebalance_gain_min) && is_feasible(idle, demand, job.rank.job, self.now)
        };
        let waits = |held: &Held| !held.started && held.occupies.is_none() && held.recall.is_none() && held.order != UNSENT;
        let waiting = crowded.held.iter().rev().filter(|(_, held)| waits(held)).map(|(attempt, _)| *attempt);
        waiting.filter(|attempt| gains(attempt.task.job)).take(wanted.min(crowded.waiting() as usize)).collect()
    }

    /// The first job in rank order that may go to the agent, its slots aside.
    fn best_job(&self, id: AgentId, memory_bytes: impl Fn(&Agent) -> u64) -> Option<JobId> {
        let agent = self.fleet.get(id)?;
        let free_bytes = memory_bytes(agent);
        let first = self.shares.first(|demand| self.has_room(agent, demand, free_bytes), |rank| self.takes(agent, id, rank));
        Some(first?.job)
    }

    /// Of the first jobs that may go to the agent's free slot the one for which it is better than others are, compared with
    /// what is usual for each: a long task goes where nobody will come for long, and a short one where somebody will.
    fn suited_job(&mut self, id: AgentId) -> Option<JobId> {
        let first = self.best_job(id, Agent::memory_free_bytes)?;
        let now = self.now;
        let (agent, job) = (self.fleet.get(id)?, self.jobs.get(&first)?);
        let priority = job.new.spec.priority;
        let may_wait = job.passed_over.is_none_or(|since| now.since(since) < PASSED_OVER_MAX);
        if !may_wait || self.long_time(job).is_none() || !self.knows_hours(id) {
            return Some(first);
        }
        let free_bytes = agent.memory_free_bytes();
        let fits = |demand| self.has_room(agent, demand, free_bytes);
        let few = self.shares.first_few(JOBS_LOOKED_AT, fits, |rank| self.takes(agent, id, rank));
        let jobs = few.iter().filter_map(|rank| self.jobs.get(&rank.job)).filter(|job| job.new.spec.priority == priority);
        let costs: Vec<_> = jobs.map(|job| (job.rank.job, self.interruptions_cost(job, id), job.pace.usual_cost())).collect();
        let better = |(job, cost, usual): &(JobId, f64, f64)| cost - usual + if *job == first { 0.0 } else { WORTH_PASSING };
        let best = costs.iter().min_by(|a, b| better(a).total_cmp(&better(b))).map_or(first, |(job, ..)| *job);
        for (job, cost, _) in costs {
            self.jobs.get_mut(&job).expect("it was looked at").pace.note_cost(cost);
        }
        if best != first {
            self.jobs.get_mut(&first).expect("it was looked at").passed_over.get_or_insert(now);
        }
        Some(best)
    }

    /// Whether the agent, with so much memory free, is one for such jobs.
    fn has_room(&self, agent: &Agent, demand: DemandId, free_bytes: u64) -> bool {
        crate::placement::feasible::unmet(agent, self.demands.get(demand), free_bytes).next().is_none()
    }

    /// Whether the agent takes a task of the job, and the job has one for it.
    fn takes(&self, agent: &Agent, id: AgentId, rank: Rank) -> bool {
        let has_some = || self.jobs.get(&rank.job).is_some_and(|job| job.has_for(id));
        crate::placement::feasible::refused(agent, rank.job, self.now).is_none() && has_some()
    }

    /// How long a task of the job is expected to take, if that is long enough to look for a quiet machine.
    fn long_time(&self, job: &Job) -> Option<Duration> {
        job.pace.expected(self.now).filter(|time| *time >= LONG)
    }

    /// What interruptions of a task of the job cost on this agent, over the time that it takes: nothing of short ones.
    fn interruptions_cost(&self, job: &Job, agent: AgentId) -> f64 {
        let Some(expected) = self.long_time(job) else { return 0.0 };
        let Some(risk) = self.known_risk(agent, expected) else { return job.pace.usual_cost() };
        build::cost(job.new.spec.moving, job.new.movable, expected, risk)
    }

    /// The best agent with a free slot for the job. `from` moves past agents that do not fit.
    fn best_agent(&self, id: JobId, from: &mut (Load, AgentId)) -> Option<AgentId> {
        let job = self.jobs.get(&id)?;
        let demand = self.demands.get(job.demand);
        let is_free = |agent: AgentId| self.fleet.get(agent).is_some_and(|agent| is_feasible(agent, demand, id, self.now));
        let fits = |agent: AgentId| job.has_for(agent) && is_free(agent);
        let (load, agent) = self.fleet.free_from(*from).find(|(_, agent)| fits(*agent))?;
        *from = (load, agent);
        let holders = self.holders.of(job.new.spec.version);
        let warmth = |agent: &AgentId| match agent {
            agent if job.known_by.contains(agent) => Warmth::Knows,
            agent if holders.is_some_and(|holders| holders.contains(agent)) => Warmth::Holds,
            _ => Warmth::Cold,
        };
        let long = self.long_time(job);
        let candidate = |agent: AgentId, load: Load| {
            let risk = long.map_or(0, |time| (self.risk(Some(agent), time).chance * 10.0) as u8);
            Candidate { agent, risk, load, warmth: warmth(&agent) }
        };
        let first = candidate(agent, load);
        if long.is_none() && first.warmth == Warmth::Knows {
            return Some(agent);
        }
        let near = |set: &'_ BTreeSet<AgentId>| -> Vec<AgentId> {
            set.range(agent..).chain(set.range(..agent)).take(WARM_LOOKS).copied().collect()
        };
        let warm = near(&job.known_by).into_iter().chain(holders.map(near).unwrap_or_default());
        let warm = warm.filter_map(|agent| {
            let known = self.fleet.get(agent).filter(|known| known.free_slots() > 0)?;
            fits(agent).then(|| candidate(agent, known.load()))
        });
        let looks = if long.is_some() { QUIET_LOOKS } else { 0 };
        let free = self.fleet.free_from(*from).skip(1).take(looks).filter(|(_, agent)| fits(*agent));
        let quiet = free.map(|(load, agent)| candidate(agent, load));
        select(warm.chain([first]).chain(quiet))
    }

    /// Gives the job's next task to the agent; `occupies`: there is a free slot for it.
    fn start(&mut self, id: JobId, agent_id: AgentId, occupies: bool) {
        // Where nobody else takes work, what failed there before has nowhere else to go.
        let alone = self.fleet.get(agent_id).is_some_and(|agent| self.fleet.slots() <= u64::from(agent.slots()));
        let job = self.jobs.get_mut(&id).expect("a listed job is active");
        let begun = job.tasks.start(agent_id, alone, self.now).expect("a listed job has a task to start");
        let Begun { index, number, beside } = begun;
        job.passed_over = None;
        job.pace.note_start(self.now);
        let (dry, full) = (!job.tasks.has_some(), job.is_full());
        let cause = job.tasks.live(index, number).and_then(|live| live.cause.clone());
        self.give(AttemptId { task: TaskId { job: id, index }, number }, agent_id, occupies, cause, beside);
        if dry || full {
            self.relist(id);
        }
        if dry {
            self.watch(id);
        }
    }

    /// Gives an attempt that begins now to its agent; `cause`: why, if nothing went wrong before; `beside`: another of its
    /// task goes on.
    pub(crate) fn give(&mut self, attempt: AttemptId, agent_id: AgentId, occupies: bool, cause: Option<Box<str>>, beside: bool) {
        let id = attempt.task.job;
        self.fall_back_if_away(attempt.task);
        // What only the machine has of which nothing is heard cannot be had.
        let resume = self.saved_snapshot(attempt.task).filter(|_| !beside || self.can_be_had(attempt.task)).map(Box::new);
        let job = self.jobs.get_mut(&id).expect("a job that has something to start is active");
        let (submitter, memory_bytes) = (job.submitter, job.new.spec.limits.memory_bytes);
        job.tasks.note_resumed(attempt.task.index, attempt.number, resume.as_ref().map(|snapshot| snapshot.spent_us));
        let build = self.build_for(attempt.task, Some(agent_id), resume.is_some()).build;
        let held = Held {
            order: UNSENT,
            started: false,
            occupies: occupies.then_some(self.now),
            waited: !occupies,
            recall: None,
            memory_bytes,
            movable: build == Build::Migratable,
            resumed: resume.is_some(),
            stalled: None,
            clock: Default::default(),
        };
        let now = self.now;
        let agent = self.fleet.known(agent_id);
        agent.give(attempt, held, now);
        agent.outgoing.assign.push(Given { attempt, build, resume: resume.clone() });
        self.shares.place(submitter, occupies, self.now);
        self.time_agent(agent_id);
        let (agent, at) = (agent_id, self.wall());
        let started = Change::AttemptStarted { attempt, agent, at, build, resume, beside, cause };
        self.effects.push_back(Effect::Record(started));
    }
}
