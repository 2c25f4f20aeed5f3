//! What can be read off: jobs, agents, and for any task why it is where it is.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId, TaskIndex},
    message::Build,
    state::{Intake, JobState, TaskState, WaitReason},
    time::Timestamp,
};

use crate::{
    Scheduler,
    attempts::copies::Live,
    effect::NewJob,
    fleet::agents::{Agent, Link},
    jobs::{job::Job, tasks::Place},
    placement::{
        build::{Choice, Reason},
        feasible::obstacles,
    },
    time::history::IdleHours,
    views::view::{AgentVerdict, AgentView, Explanation, JobView, Obstacle, Placement, Unreachable},
};

impl Scheduler {
    /// An active job's progress; `None`: it has ended, or there is none.
    pub fn job(&self, job: JobId, _now: Timestamp) -> Option<JobView> {
        self.jobs.get(&job).map(|active| self.view(job, active, self.unreachable(job).tasks.len()))
    }

    /// All active jobs, in the order of their submission.
    pub fn jobs(&self, _now: Timestamp) -> Vec<JobView> {
        let unreachable = self.all_unreachable();
        let count = |id: &JobId| unreachable.get(id).map_or(0, BTreeSet::len);
        self.jobs.iter().map(|(id, job)| self.view(*id, job, count(id))).collect()
    }

    /// The newest active jobs, as they were submitted but for their arguments and variables.
    pub fn newest(&self, most: usize) -> impl Iterator<Item = &NewJob> {
        self.jobs.values().rev().take(most).map(|job| &*job.new)
    }

    /// All agents, revoked ones too.
    pub fn agents(&self) -> Vec<AgentView> {
        self.fleet.iter().map(|(id, agent)| self.agent_view(id, agent)).collect()
    }

    /// One agent.
    pub fn agent(&self, agent: AgentId) -> Option<AgentView> {
        self.fleet.get(agent).map(|known| self.agent_view(agent, known))
    }

    /// What an agent is called.
    pub fn name_of(&self, agent: AgentId) -> Option<String> {
        self.fleet.get(agent).map(|known| known.name.clone())
    }

    /// Of these names those that no agent has.
    pub fn unknown_names(&self, mut names: Vec<String>) -> Vec<String> {
        names.retain(|name| self.fleet.iter().all(|(_, agent)| agent.intake == Intake::Revoked || agent.name != *name));
        names
    }

    /// How many attempts wait at an agent behind those that it runs.
    pub fn waiting_at(&self, agent: AgentId) -> usize {
        self.fleet.get(agent).map_or(0, |agent| agent.waiting() as usize)
    }

    /// The attempts of a task that are with agents, the oldest first.
    pub fn live(&self, task: TaskId) -> Vec<(AttemptId, AgentId)> {
        let copies = self.jobs.get(&task.job).and_then(|job| job.tasks.copies(task.index));
        let mut live: Vec<_> = copies
            .into_iter()
            .flat_map(|copies| copies.iter())
            .map(|live| (AttemptId { task, number: live.number }, live.agent))
            .collect();
        live.sort_unstable();
        live
    }

    /// When an agent's machine was there for work; none if nothing is known.
    pub fn idle_hours(&self, agent: AgentId) -> Option<IdleHours> {
        self.fleet.get(agent)?.history.hours().cloned()
    }

    /// How large an output an agent may bring for an attempt; `None`: the attempt is not with it.
    pub fn output_bytes_max(&self, agent: AgentId, attempt: AttemptId) -> Option<u64> {
        self.fleet.get(agent)?.held.get(&attempt)?;
        Some(self.jobs.get(&attempt.task.job)?.new.spec.limits.output_bytes)
    }

    /// Why a task is where it is; `None`: it has ended, or there is none.
    pub fn explain(&self, task: TaskId, now: Timestamp) -> Option<Explanation> {
        let job = self.jobs.get(&task.job)?;
        let held_back = job.held_back();
        let state = state_of(job, held_back.is_some(), task.index)?;
        let full = job.new.spec.at_once.filter(|_| job.is_full()).map(|tasks| WaitReason::AtOnce { tasks });
        let (mut beside, mut second_copy) = (Vec::new(), None);
        let (waiting, at) = match job.tasks.place(task.index)? {
            Place::Ended => return None,
            Place::Live(copies) => {
                second_copy = self.second_copy(job, copies, task.index, now);
                let mut places = copies.iter().map(|live| self.placement(task, live));
                let at = places.next();
                beside = places.collect();
                (None, at)
            }
            Place::Resting { until } => (held_back.or(Some(WaitReason::Backoff { until: self.on_wall(until) })), None),
            Place::Fresh | Place::Ready => (held_back.or(full), None),
        };
        let answers = job.tasks.answers(task.index);
        let outputs = answers.len() as u32;
        let needs_another = (outputs > 0 && at.is_none()).then_some(WaitReason::Verification { outputs });
        let waiting = waiting.or(needs_another);
        let answered = |agent| answers.iter().any(|answer| answer.agent == agent).then_some(Obstacle::Answered);
        let ahead = at.is_none().then(|| self.ahead_of(job, task));
        let demand = self.demands.get(job.demand);
        let agents = self.fleet.iter().map(|(id, agent)| AgentVerdict {
            agent: id,
            name: agent.name.clone(),
            obstacles: answered(id)
                .into_iter()
                .chain(obstacles(agent, demand, task.job, now))
                .map(|one| self.obstacle_on_wall(one))
                .collect(),
        });
        let build = self.choice(task, at.as_ref());
        let (mut agents, outage) = (agents.collect::<Vec<_>>(), self.outage(now));
        // Those that are there first: what they lack can be given to them.
        agents.sort_by_key(|verdict| verdict.obstacles.iter().any(Obstacle::is_absence));
        let finish_by = job.new.spec.finish_by;
        Some(Explanation { task, state, waiting, finish_by, at, beside, second_copy, ahead, build, agents, outage })
    }

    /// How these tasks of an active job stand, as [`Self::explain`] says it. A store does not tell what waits from what is queued.
    pub fn states(&self, id: JobId, tasks: impl IntoIterator<Item = TaskIndex>) -> BTreeMap<TaskIndex, TaskState> {
        let Some(job) = self.jobs.get(&id) else { return BTreeMap::new() };
        let held_back = job.held_back().is_some();
        tasks.into_iter().filter_map(|index| Some((index, state_of(job, held_back, index)?))).collect()
    }

    /// Which build the task's attempt executes, and why; the one that would start next if it is with no agent.
    fn choice(&self, task: TaskId, at: Option<&Placement>) -> Choice {
        let resumes = self.jobs.get(&task.job).is_some_and(|job| job.tasks.saved(task.index).is_some());
        let choice = self.build_for(task, at.map(|at| at.agent), resumes);
        let held = at.and_then(|at| self.fleet.get(at.agent)?.held.get(&at.attempt));
        match held {
            Some(held) if held.movable != (choice.build == Build::Migratable) => {
                Choice { reason: Reason::Earlier, ..choice.other() }
            }
            Some(_) | None => choice,
        }
    }

    fn placement(&self, task: TaskId, live: &Live) -> Placement {
        let agent_name = self.fleet.get(live.agent).map(|agent| agent.name.clone()).unwrap_or_default();
        let (agent, since, paused) = (live.agent, live.since, live.paused.clone());
        let cause = live.cause.as_deref().map(str::to_owned);
        let unreachable = self.fleet.get(live.agent).and_then(|agent| agent.touch.lost_since());
        Placement {
            attempt: AttemptId { task, number: live.number },
            agent,
            agent_name,
            since: self.on_wall(since),
            paused,
            unreachable: unreachable.map(|at| self.on_wall(at)),
            cause,
        }
    }

    pub(crate) fn agent_view(&self, id: AgentId, agent: &Agent) -> AgentView {
        let connected = match &agent.link {
            Link::Open(stream) => Some(self.on_wall(stream.since)),
            Link::Away | Link::Silent(_) => None,
        };
        AgentView {
            agent: id,
            name: agent.name.clone(),
            intake: agent.intake,
            quarantine: agent.quarantine.as_deref().cloned(),
            connected,
            last_heard: agent.last_heard.map(|at| self.on_wall(at)),
            silent_since: agent.touch.lost_since().map(|at| self.on_wall(at)),
            asleep: agent.sleeper.asleep.map(|at| self.on_wall(at)),
            version: agent.facts.as_ref().map(|facts| facts.version.clone()),
            machine: agent.facts.as_ref().map(|facts| facts.machine.clone()),
            labels: agent.facts.as_ref().map(|facts| facts.labels.clone()).unwrap_or_default(),
            capacity: agent.capacity.clone(),
            open_cage: agent.facts.as_ref().and_then(|facts| facts.open_cage.clone()),
            attempts: agent.held.keys().copied().collect(),
            snapshots: self.kept_snapshots.kept_by(id),
            claims_refused: agent.misdeeds.claims,
            breaches: agent.misdeeds.breaches,
            overtimes: agent.punctuality.misdeeds() as u64,
        }
    }

    fn ahead_of(&self, job: &Job, task: TaskId) -> u64 {
        let before = self.shares.before(job.submitter, job.rank).filter(|rank| rank.job != task.job);
        let theirs: u64 = before.filter_map(|rank| self.jobs.get(&rank.job)).map(|job| u64::from(job.tasks.startable())).sum();
        theirs + job.tasks.ahead_of(task.index)
    }

    fn view(&self, id: JobId, job: &Job, unreachable: usize) -> JobView {
        let held_back = job.held_back().filter(|_| job.stopping.is_none());
        let counts = job.tasks.counts(held_back.is_some());
        let only_rests = counts.queued == 0 && counts.running == 0 && counts.paused == 0;
        let backoff =
            job.tasks.next_wake().filter(|_| only_rests).map(|until| WaitReason::Backoff { until: self.on_wall(until) });
        JobView {
            job: id,
            state: JobState::Active,
            stopping: job.stopping,
            counts,
            unreachable: unreachable as u32,
            waiting: held_back.or(backoff),
            moved: job.moved,
            lost: job.lost,
            mean_wall_us: job.pace.mean_wall_us(),
        }
    }

    /// What of the job is with agents out of touch.
    pub fn unreachable(&self, id: JobId) -> Unreachable {
        let Some(job) = self.jobs.get(&id) else { return Unreachable::default() };
        let attempts = self.unreachable_attempts(id);
        let alone = |index: u32| job.tasks.copies(index).is_some_and(|copies| !self.is_with_somebody(copies));
        let tasks = attempts.iter().map(|(attempt, since)| (attempt.task.index, *since));
        Unreachable { tasks: tasks.filter(|(index, _)| alone(*index)).collect(), attempts }
    }

    /// The tasks of each job that are with agents out of touch only, in one walk: when all agents are, jobs are many too.
    fn all_unreachable(&self) -> BTreeMap<JobId, BTreeSet<TaskIndex>> {
        let mut tasks: BTreeMap<JobId, BTreeSet<TaskIndex>> = BTreeMap::new();
        let agents = self.fleet.doubtful().filter_map(|(_, agent)| self.fleet.get(agent));
        for AttemptId { task, .. } in agents.flat_map(|agent| agent.held.keys()) {
            let copies = self.jobs.get(&task.job).and_then(|job| job.tasks.copies(task.index));
            if copies.is_some_and(|copies| !self.is_with_somebody(copies)) {
                tasks.entry(task.job).or_default().insert(task.index);
            }
        }
        tasks
    }

    fn unreachable_attempts(&self, job: JobId) -> BTreeMap<AttemptId, Timestamp> {
        let first = AttemptId { task: TaskId { job, index: 0 }, number: 0 };
        let agents = self.fleet.doubtful().filter_map(|(since, agent)| Some((self.on_wall(since), self.fleet.get(agent)?)));
        let attempts = agents.flat_map(|(since, agent)| {
            let theirs = agent.held.range(first..).take_while(move |(attempt, _)| attempt.task.job == job);
            theirs.map(move |(attempt, _)| (*attempt, since))
        });
        attempts.collect()
    }
}

/// How an open task stands; `None`: it has ended, or there is none.
fn state_of(job: &Job, held_back: bool, index: TaskIndex) -> Option<TaskState> {
    let state = match job.tasks.place(index)? {
        Place::Ended => return None,
        Place::Live(copies) if copies.are_paused() => TaskState::Paused,
        Place::Live(_) => TaskState::Running,
        Place::Resting { .. } => TaskState::Waiting,
        Place::Fresh | Place::Ready if held_back => TaskState::Waiting,
        Place::Ready if job.tasks.saved(index).is_some() => TaskState::Moving,
        Place::Fresh | Place::Ready => TaskState::Queued,
    };
    Some(if job.tasks.answers(index).is_empty() { state } else { TaskState::Verifying })
}
