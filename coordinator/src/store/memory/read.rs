//! Reading what memory holds: everything is counted again each time, nothing is kept twice.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lull_scheduler::event::{AgentSnapshot, EndedTask, JobSnapshot, OpenAttempt, OpenPlace, OpenTask, Snapshot};
use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId, TaskIndex, TokenId},
    state::{AttemptEnd, JobState, TaskCounts, TaskState},
};

use super::{
    super::{
        Reading, StoreResult,
        record::*,
        rows::{Extent, state_of_never_started},
        usage,
    },
    Memory,
    state::{Attempt, Job, Place, State, Task},
};

impl State {
    pub(super) fn snapshot(&self) -> Snapshot {
        let newest = self.usage.keys().map(|(_, hour)| *hour).max().unwrap_or(0);
        let recent = self.usage.iter().filter(|((_, hour), _)| *hour > newest - usage::HOURS_MAX);
        let mut hours: Vec<(Option<TokenId>, i64, i64)> =
            recent.filter_map(|((job, hour), us)| Some((self.jobs.get(job)?.new.owner, *hour, *us))).collect();
        hours.sort();
        let agents = self.agents.values().map(|agent| &agent.record);
        let snapshot = |agent: &AgentRecord| AgentSnapshot {
            agent: agent.agent,
            name: agent.name.clone(),
            group: agent.group.clone(),
            intake: agent.intake,
            quarantine: agent.quarantine.clone(),
        };
        Snapshot {
            last_job: self.jobs.keys().next_back().map_or(0, |job| job.0).max(self.last_job),
            jobs: self.jobs.values().filter(|job| !job.state.is_ended()).map(|job| job.snapshot()).collect(),
            agents: agents.map(snapshot).collect(),
            hours: self.agents.iter().filter_map(|(id, agent)| Some((*id, agent.hours.as_deref()?.clone()))).collect(),
            usage: usage::faded(&hours),
        }
    }

    fn agent_name(&self, agent: AgentId) -> String {
        self.agents.get(&agent).map_or_else(|| agent.to_string(), |agent| agent.record.name.clone())
    }

    pub(super) fn jobs(&self, filter: &JobFilter) -> Vec<JobRecord> {
        let wanted = |job: &&std::sync::Arc<Job>| {
            filter.state.is_none_or(|state| state == job.state)
                && filter.owner.is_none_or(|owner| job.new.owner == Some(owner))
                && filter.submitter.as_ref().is_none_or(|submitter| *submitter == job.new.submitter)
                && filter.name.as_ref().is_none_or(|name| *name == job.new.spec.name)
                && filter.before.is_none_or(|before| job.new.job < before)
        };
        let newest_first = self.jobs.values().rev().filter(wanted);
        newest_first.take(filter.limit_or_default() as usize).map(|job| job.record()).collect()
    }

    pub(super) fn tasks(&self, job: JobId, filter: &TaskFilter) -> Vec<TaskRecord> {
        let Some(found) = self.jobs.get(&job) else { return Vec::new() };
        let started = found.tasks.range(filter.from..).filter(|(_, task)| filter.state.is_none_or(|s| s == task.state()));
        let limit = filter.limit_or_default() as usize;
        let mut tasks: Vec<TaskRecord> =
            started.take(limit).map(|(index, task)| self.task_record(TaskId { job, index: *index }, task)).collect();
        found.extent().append_never_started(job, filter, &mut tasks);
        tasks
    }

    pub(super) fn task_of(&self, task: TaskId) -> Option<TaskRecord> {
        let job = self.jobs.get(&task.job).filter(|job| task.index < job.new.spec.inputs.count())?;
        let found = job.tasks.get(&task.index).map(|found| self.task_record(task, found));
        Some(found.unwrap_or_else(|| job.extent().never_started(task)))
    }

    fn task_record(&self, id: TaskId, task: &Task) -> TaskRecord {
        let number = task.telling();
        let telling = task.attempt(number).expect("a started task has an attempt");
        let earlier = || task.attempt(number - 1).and_then(|attempt| attempt.over.as_ref());
        let over = telling.over.as_ref().or_else(earlier);
        TaskRecord {
            task: id,
            state: task.state(),
            attempts: task.attempts.len() as u32,
            failures: task.failures,
            agent: Some(telling.agent),
            agent_name: Some(self.agent_name(telling.agent)),
            started: Some(telling.started),
            ended: match task.place {
                Place::Ended { at, .. } => Some(at),
                Place::At | Place::Waiting { .. } => None,
            },
            reason: over.and_then(|over| over.reason.clone()),
            not_before: match task.place {
                Place::Waiting { not_before, .. } => Some(not_before),
                Place::At | Place::Ended { .. } => None,
            },
            output_bytes: over.and_then(|over| over.output.as_ref()).map(|output| output.size_bytes()),
        }
    }

    pub(super) fn attempts(&self, task: TaskId) -> Vec<AttemptRecord> {
        let record = |(number, attempt): (u32, &Attempt)| AttemptRecord {
            attempt: AttemptId { task, number },
            agent: attempt.agent,
            agent_name: self.agent_name(attempt.agent),
            started: attempt.started,
            build: attempt.build,
            resumed: attempt.resumed,
            cause: attempt.cause.clone(),
            ended: attempt.over.as_ref().map(|over| over.at),
            end: attempt.over.as_ref().map(|over| over.end),
            reason: attempt.over.as_ref().and_then(|over| over.reason.clone()),
            failure: attempt.over.as_ref().and_then(|over| over.failure.clone()),
            paused: attempt.pause.clone(),
            usage: attempt.over.as_ref().map(|over| over.usage),
        };
        self.find(task).map(|found| (1..).zip(&found.attempts).map(record).collect()).unwrap_or_default()
    }

    pub(super) fn newest_attempts(&self, job: JobId, before: Option<TaskIndex>, limit: u32) -> Vec<AttemptRecord> {
        let Some(found) = self.jobs.get(&job) else { return Vec::new() };
        let tasks = found.tasks.range(..before.unwrap_or(TaskIndex::MAX)).rev();
        let attempts = tasks.flat_map(|(index, _)| self.attempts(TaskId { job, index: *index }).into_iter().rev());
        attempts.take(limit as usize).collect()
    }

    pub(super) fn job_counts(&self, most: u32) -> BTreeMap<JobState, u64> {
        let states = [JobState::Active, JobState::Succeeded, JobState::Failed, JobState::Cancelled, JobState::Expired];
        let count = |state| self.jobs.values().filter(|job| job.state == state).take(most as usize).count() as u64;
        states.into_iter().map(|state| (state, count(state))).collect()
    }

    pub(super) fn moves(&self, job: JobId, limit: u32) -> Vec<MoveRecord> {
        let tasks = self.jobs.get(&job).into_iter().flat_map(|job| &job.tasks);
        let moves = tasks.flat_map(|(index, task)| {
            let pairs = (2..).zip(task.attempts.windows(2));
            pairs.filter_map(|(number, pair)| self.one_move(AttemptId { task: TaskId { job, index: *index }, number }, pair))
        });
        let mut moves: Vec<_> = moves.collect();
        moves.sort_by_key(|record| std::cmp::Reverse((record.arrived, record.attempt)));
        moves.truncate(limit as usize);
        moves
    }

    fn one_move(&self, attempt: AttemptId, pair: &[Attempt]) -> Option<MoveRecord> {
        let [before, after] = pair else { return None };
        let over = before.over.as_ref().filter(|over| over.at <= after.started)?;
        let left_unfinished = matches!(over.end, AttemptEnd::Evicted | AttemptEnd::Lost);
        (after.resumed.is_some() || left_unfinished).then(|| MoveRecord {
            attempt,
            from: before.agent,
            from_name: self.agent_name(before.agent),
            to: after.agent,
            to_name: self.agent_name(after.agent),
            end: over.end,
            cause: over.reason.clone(),
            resumed: after.resumed,
            left: over.at,
            arrived: after.started,
        })
    }

    fn find(&self, task: TaskId) -> Option<&Task> {
        self.jobs.get(&task.job)?.tasks.get(&task.index).map(|task| &**task)
    }

    pub(super) fn log(&self, task: TaskId, attempt: Option<u32>) -> Option<LogRecord> {
        let over = (1..).zip(&self.find(task)?.attempts).filter_map(|(number, found)| Some((number, found.over.as_ref()?)));
        let wanted = over.filter(|(number, _)| attempt.is_none_or(|attempt| attempt == *number));
        let (number, over) = wanted.max_by_key(|(number, over)| (over.output.is_some(), *number))?;
        let attempt = AttemptId { task, number };
        Some(LogRecord { attempt, log: over.log.clone(), dropped_bytes: over.log_dropped_bytes })
    }

    pub(super) fn results(&self, job: JobId, from: u32, limit: u32) -> Vec<ResultRecord> {
        let Some(found) = self.jobs.get(&job) else { return Vec::new() };
        let results = found.tasks.range(from..).filter_map(|(index, _)| self.result(TaskId { job, index: *index }));
        results.take(limit as usize).collect()
    }

    pub(super) fn result(&self, task: TaskId) -> Option<ResultRecord> {
        let output = |(attempt, found): (u32, &Attempt)| {
            let output = found.over.as_ref()?.output.clone()?;
            Some(ResultRecord { task, attempt, output })
        };
        (1..).zip(&self.find(task)?.attempts).find_map(output)
    }

    pub(super) fn totals(&self) -> Totals {
        use lull_shared::state::AttemptEnd::Lost;
        let tasks = || self.jobs.values().flat_map(|job| job.tasks.values());
        let attempts = || tasks().flat_map(|task| &task.attempts);
        let lost = |attempt: &&Attempt| attempt.over.as_ref().is_some_and(|over| over.end == Lost);
        Totals {
            jobs: self.jobs.len() as u64,
            tasks_succeeded: tasks().filter(|task| task.state() == TaskState::Succeeded).count() as u64,
            attempts: attempts().count() as u64,
            attempts_lost: attempts().filter(lost).count() as u64,
            results_refused: self.agents.values().map(|agent| agent.results_refused).sum(),
        }
    }
}

impl Job {
    fn extent(&self) -> Extent {
        Extent {
            count: self.new.spec.inputs.count(),
            expanded: self.expanded(),
            rest: state_of_never_started(self.stop.as_ref().map(|stop| stop.0)),
            ended: self.stop.as_ref().map(|stop| stop.2),
        }
    }

    pub(super) fn record(&self) -> JobRecord {
        let mut counts = TaskCounts::default();
        for task in self.tasks.values() {
            *counts.get_mut(task.state()) += 1;
        }
        let extent = self.extent();
        *counts.get_mut(extent.rest) += extent.count - extent.expanded;
        JobRecord {
            job: self.new.job,
            owner: self.new.owner,
            submitter: self.new.submitter.clone(),
            spec: self.new.spec.clone(),
            version_name: self.new.version_name.clone(),
            submitted: self.new.at,
            ended: self.ended,
            state: self.state,
            stopping: self.stop.as_ref().map(|stop| stop.0),
            stopped_by: self.stop.as_ref().map(|stop| stop.1.clone()),
            counts,
        }
    }

    pub(super) fn snapshot(&self) -> JobSnapshot {
        let open = self.tasks.iter().filter_map(|(index, task)| {
            let place = match task.place {
                Place::At => OpenPlace::At(task.live().map(open_attempt).collect()),
                Place::Waiting { not_before, .. } => OpenPlace::Waiting { not_before },
                Place::Ended { .. } => return None,
            };
            let attempts = task.attempts.len() as u32;
            Some(OpenTask {
                index: *index,
                attempts,
                failures: task.failures,
                lost: task.lost(),
                place,
                saved: task.saved,
                answers: task.answers.clone(),
            })
        });
        JobSnapshot {
            job: self.new.job,
            owner: self.new.owner,
            submitter: self.new.submitter.clone(),
            spec: self.new.spec.clone(),
            version_name: self.new.version_name.clone(),
            seed: self.new.seed,
            submitted: self.new.at,
            movable: None,
            state: self.state,
            stopping: self.stop.as_ref().map(|stop| stop.0),
            retrying: self.retrying,
            expanded: self.expanded(),
            succeeded: self.count(TaskState::Succeeded),
            failed: self.count(TaskState::Failed),
            cancelled: self.count(TaskState::Cancelled),
            expired: self.count(TaskState::Expired),
            open: open.collect(),
        }
    }

    pub(super) fn ended_badly(&self, from: TaskIndex, limit: u32) -> Vec<EndedTask> {
        let ended = self.tasks.range(from..).filter_map(|(index, task)| match task.place {
            Place::Ended { state, .. } if state != TaskState::Succeeded => {
                let last = task.attempts.last().filter(|last| {
                    let failed = last.over.as_ref().is_some_and(|over| over.end == AttemptEnd::Failed);
                    failed && state == TaskState::Failed
                });
                let attempts = task.attempts.len() as u32;
                Some(EndedTask { index: *index, attempts, state, failed_at: last.map(|last| last.agent) })
            }
            Place::Ended { .. } | Place::At | Place::Waiting { .. } => None,
        });
        ended.take(limit as usize).collect()
    }

    pub(super) fn has_key(&self, owner: Option<TokenId>, key: &str) -> bool {
        owner.is_some() && self.new.owner == owner && self.new.spec.idempotency_key.as_deref() == Some(key)
    }
}

fn open_attempt((number, attempt): (u32, &Attempt)) -> OpenAttempt {
    OpenAttempt {
        number,
        agent: attempt.agent,
        since: attempt.started,
        resumed_us: attempt.resumed.map(|resumed| resumed.spent_us),
        build: attempt.build,
        cause: attempt.cause.clone().map(String::into_boxed_str),
    }
}

#[async_trait]
impl Reading for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>> {
        self.read(|state| state.jobs(filter))
    }

    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>> {
        self.read(|state| state.jobs.get(&job).map(|job| job.record()))
    }

    async fn job_counts(&self, most: u32) -> StoreResult<BTreeMap<JobState, u64>> {
        self.read(|state| state.job_counts(most))
    }

    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>> {
        self.read(|state| state.jobs.values().find(|job| job.has_key(Some(owner), idempotency_key)).map(|job| job.new.job))
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>> {
        self.read(|state| state.tasks(job, filter))
    }

    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>> {
        self.read(|state| state.task_of(task))
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        self.read(|state| state.attempts(task))
    }

    async fn newest_attempts(&self, job: JobId, before: Option<TaskIndex>, limit: u32) -> StoreResult<Vec<AttemptRecord>> {
        self.read(|state| state.newest_attempts(job, before, limit))
    }

    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>> {
        self.read(|state| state.moves(job, limit))
    }

    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>> {
        self.read(|state| state.log(task, attempt))
    }

    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>> {
        self.read(|state| state.results(job, from, limit))
    }

    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>> {
        self.read(|state| state.result(task))
    }

    async fn totals(&self) -> StoreResult<Totals> {
        self.read(State::totals)
    }
}
