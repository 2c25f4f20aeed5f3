//! A model of the store: the fold over changes, strict about every one of them. What a real store would refuse, panics.

use std::collections::BTreeMap;

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId, TaskIndex},
    message::Build,
    state::{AttemptEnd, Intake, JobState, TaskCounts, TaskState},
    time::Timestamp,
};

use crate::{
    attempts::silence::LIVE_MAX,
    effect::{Change, EndedAttempt, NewJob, TaskAfter},
    event::{
        AgentSnapshot, Answer, EndedTask, JobSnapshot, OpenAttempt, OpenPlace, OpenTask, Quarantine, Retrying, Saved, Snapshot,
    },
    jobs::job::stopped_as,
    time::history::IdleHours,
};

/// Losses after which a task fails, as [`crate::Limits`] have it by default.
const LOST_MAX: u32 = 5;

/// Everything that was committed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    jobs: BTreeMap<JobId, Entry>,
    agents: BTreeMap<AgentId, AgentSnapshot>,
    connected: BTreeMap<AgentId, bool>,
    pub hours: BTreeMap<AgentId, IdleHours>,
    pub results_refused: u64,
    pub attempts: u64,
    /// What all attempts had of slots.
    pub slot_us: u128,
    pub ends: BTreeMap<AttemptEnd, u64>,
}

#[derive(Debug, Clone)]
struct Entry {
    new: NewJob,
    state: JobState,
    stopping: Option<JobState>,
    retrying: Option<Retrying>,
    /// Rows exist for tasks that were started at least once.
    rows: BTreeMap<TaskIndex, Row>,
}

#[derive(Debug, Clone)]
struct Row {
    attempts: u32,
    failures: u32,
    lost: u32,
    stand: Stand,
    saved: Option<Saved>,
    answers: Vec<Answer>,
    /// Where its last attempt failed, if it did.
    failed_at: Option<AgentId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    At(Vec<OpenAttempt>),
    Waiting { not_before: Timestamp },
    Ended(TaskState),
}

impl Ledger {
    /// A machine was enrolled: the registry knows it before the scheduler does.
    pub(crate) fn enrol(&mut self, agent: AgentSnapshot) {
        self.agents.insert(agent.agent, agent);
    }

    /// Commits one change.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::JobSubmitted(new) => {
                assert!(self.jobs.keys().next_back().is_none_or(|last| *last < new.job), "jobs are numbered in order");
                let entry = Entry { new: *new, state: JobState::Active, stopping: None, retrying: None, rows: BTreeMap::new() };
                self.jobs.insert(entry.new.job, entry);
            }
            Change::JobStopped { job, state, .. } => {
                let entry = self.active(job);
                assert_eq!(entry.stopping, None, "{job} is stopped once");
                (entry.stopping, entry.retrying) = (Some(state), None);
            }
            Change::JobEnded { job, state, .. } => self.end_job(job, state),
            Change::JobRetried { job, finish_by, retrying, .. } => self.retry(job, finish_by, retrying),
            Change::TasksRetried { job, tasks, retrying, at } => self.retry_tasks(job, &tasks, retrying, at),
            Change::AttemptStarted { attempt, agent, at, resume, build, beside, cause } => {
                assert!(!beside || cause.is_some(), "{attempt} starts beside another for a reason");
                let resumed_us = resume.as_deref().map(|snapshot| snapshot.spent_us);
                let begun = OpenAttempt { number: attempt.number, agent, since: at, resumed_us, build, cause };
                self.start(attempt, beside, begun);
                let known = self.row(attempt.task).saved.map(|saved| saved.snapshot);
                // What only a machine has that is out of touch cannot be had.
                let anew = beside && resume.is_none();
                assert!(anew || resume.as_deref().copied() == known, "{attempt} goes on from the newest snapshot");
                assert!(resume.is_none() || build == Build::Migratable, "{attempt} goes on with the build that can");
            }
            Change::SnapshotSaved { attempt, agent, snapshot, .. } => {
                assert_eq!(self.live_at(attempt), Some(agent), "{attempt} is saved and not live");
                self.row(attempt.task).saved = Some(Saved { snapshot, agent });
            }
            Change::SnapshotChosen { task, agent, snapshot, .. } => {
                let before = self.row(task).saved.replace(Saved { snapshot, agent });
                assert!(before.is_some(), "{task} had a newer snapshot");
            }
            Change::SnapshotDropped { task } => {
                let row = self.jobs.get_mut(&task.job).and_then(|entry| entry.rows.get_mut(&task.index));
                let dropped = row.and_then(|row| row.saved.take());
                assert!(dropped.is_some(), "{task} has a snapshot to drop");
            }
            Change::AttemptPaused { attempt, task_paused, reason, .. } => {
                assert!(self.live_at(attempt).is_some(), "{attempt} is paused and not live");
                assert!(!task_paused || reason.is_some(), "a task of which {attempt} runs is not paused");
            }
            Change::AttemptEnded(ended) => self.end_attempt(&ended),
            Change::AnswersDropped { task } => {
                let row = self.row(task);
                assert!(!row.answers.is_empty(), "{task} has something to compare");
                row.answers.clear();
            }
            Change::TaskEnded { task, state, .. } => {
                let row = self.row(task);
                assert!(matches!(row.stand, Stand::Waiting { .. }), "{task} ends while {:?}", row.stand);
                row.stand = Stand::Ended(state);
            }
            Change::ResultRefused { attempt, agent, .. } => {
                assert_ne!(self.live_at(attempt), Some(agent), "the result of the live attempt {attempt} is refused");
                self.results_refused += 1;
            }
            Change::AgentConnected { agent, .. } => {
                self.connected.insert(agent, true);
            }
            Change::AgentDisconnected { agent, .. } => {
                assert_eq!(self.connected.insert(agent, false), Some(true), "{agent} leaves and was not there");
            }
            Change::AgentQuarantined { agent, kind, reason, at } => {
                let agent = self.agents.get_mut(&agent).expect("an enrolled agent");
                assert_eq!(agent.quarantine, None, "{agent:?} is quarantined once");
                agent.quarantine = Some(Quarantine { kind, since: at, reason });
            }
            Change::AgentTrusted { agent, .. } => {
                let agent = self.agents.get_mut(&agent).expect("an enrolled agent");
                assert!(agent.quarantine.take().is_some(), "{agent:?} was quarantined");
            }
            Change::AgentBreached { agent, attempts, .. } => {
                assert!(attempts > 0 && self.agents.contains_key(&agent), "{agent} lost nothing by its breach");
            }
            Change::AgentHours { agent, hours, .. } => {
                self.hours.insert(agent, *hours);
            }
            Change::AgentIntake { agent, intake, .. } => self.agents.get_mut(&agent).expect("an enrolled agent").intake = intake,
        }
    }

    /// What a scheduler is restored from.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            last_job: self.jobs.keys().next_back().map_or(0, |job| job.0),
            jobs: self.jobs.values().filter(|entry| !entry.state.is_ended()).map(job_snapshot).collect(),
            agents: self.agents.values().cloned().collect(),
            hours: self.hours.clone().into_iter().collect(),
            usage: Vec::new(),
        }
    }

    /// What a retry needs to know.
    pub(crate) fn load_for_retry(&self, job: JobId) -> JobSnapshot {
        JobSnapshot { open: Vec::new(), ..job_snapshot(&self.jobs[&job]) }
    }

    /// Tasks of a job that ended badly, from this one on, and whether there may be more.
    pub(crate) fn ended_badly(&self, job: JobId, from: TaskIndex, limit: u32) -> (Vec<EndedTask>, Option<TaskIndex>) {
        let bad = self.jobs[&job].rows.range(from..).filter_map(|(index, row)| match row.stand {
            Stand::Ended(TaskState::Succeeded) | Stand::At(_) | Stand::Waiting { .. } => None,
            Stand::Ended(state) => {
                let failed_at = row.failed_at.filter(|_| state == TaskState::Failed);
                Some(EndedTask { index: *index, attempts: row.attempts, state, failed_at })
            }
        });
        let bad: Vec<_> = bad.take(limit as usize).collect();
        let next = bad.last().filter(|_| bad.len() == limit as usize).map(|last| last.index + 1);
        (bad, next)
    }

    /// How far a retry of the job has come.
    pub(crate) fn retrying(&self, job: JobId) -> Option<Retrying> {
        self.jobs[&job].retrying
    }

    /// How a job stands.
    pub(crate) fn state(&self, job: JobId) -> JobState {
        self.jobs[&job].state
    }

    /// All jobs ever.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.keys().copied()
    }

    /// How many tasks stand how; what waits and what is queued are not told apart.
    pub(crate) fn counts(&self, job: JobId) -> TaskCounts {
        let entry = &self.jobs[&job];
        let mut counts = TaskCounts::default();
        for row in entry.rows.values() {
            if !row.answers.is_empty() && !matches!(row.stand, Stand::Ended(_)) {
                counts.verifying += 1;
                continue;
            }
            *counts.get_mut(match row.stand {
                Stand::At(_) => TaskState::Running,
                Stand::Waiting { .. } => TaskState::Queued,
                Stand::Ended(state) => state,
            }) += 1;
        }
        let fresh = entry.new.spec.inputs.count() - entry.rows.len() as u32;
        *counts.get_mut(entry.stopping.map_or(TaskState::Queued, stopped_as)) += fresh;
        counts
    }

    /// With which agent the attempt is, if it is live.
    pub(crate) fn live_at(&self, attempt: AttemptId) -> Option<AgentId> {
        let row = self.jobs.get(&attempt.task.job)?.rows.get(&attempt.task.index)?;
        match &row.stand {
            Stand::At(live) => live.iter().find(|live| live.number == attempt.number).map(|live| live.agent),
            Stand::Waiting { .. } | Stand::Ended(_) => None,
        }
    }

    fn active(&mut self, job: JobId) -> &mut Entry {
        let entry = self.jobs.get_mut(&job).expect("a known job");
        assert_eq!(entry.state, JobState::Active, "{job} changes after its end");
        entry
    }

    fn row(&mut self, task: TaskId) -> &mut Row {
        self.active(task.job).rows.get_mut(&task.index).expect("a started task")
    }

    fn start(&mut self, attempt: AttemptId, beside: bool, begun: OpenAttempt) {
        let (agent, at) = (begun.agent, begun.since);
        assert_eq!(self.agents[&agent].intake, Intake::Open, "{attempt} goes to {agent}");
        assert_eq!(self.agents[&agent].quarantine, None, "{attempt} goes to {agent}");
        assert!(self.connected[&agent], "{attempt} goes to {agent}, which is not connected");
        self.attempts += 1;
        let task = attempt.task;
        let entry = self.active(task.job);
        assert_eq!(entry.stopping, None, "{attempt} of a stopped job starts");
        let next = entry.rows.len() as u32;
        assert!(task.index < entry.new.spec.inputs.count(), "{task} does not exist");
        if task.index == next {
            entry.rows.insert(
                next,
                Row {
                    attempts: 0,
                    failures: 0,
                    lost: 0,
                    stand: Stand::Waiting { not_before: at },
                    saved: None,
                    answers: Vec::new(),
                    failed_at: None,
                },
            );
        }
        let row = self.row(task);
        assert_eq!(attempt.number, row.attempts + 1, "attempts are numbered in order");
        row.attempts = attempt.number;
        match &mut row.stand {
            Stand::Waiting { not_before } if *not_before <= at && !beside => row.stand = Stand::At(vec![begun]),
            Stand::At(live) if beside && live.iter().all(|live| live.agent != agent) && live.len() < LIVE_MAX => live.push(begun),
            stand => panic!("{attempt} starts while {stand:?}"),
        }
    }

    fn end_attempt(&mut self, ended: &EndedAttempt) {
        let attempt = ended.attempt;
        assert_eq!(self.live_at(attempt), Some(ended.agent), "{attempt} ends");
        assert_eq!(ended.end == AttemptEnd::Succeeded, ended.output.is_some() || ended.answer.is_some());
        assert_eq!(ended.output.is_some(), ended.after == TaskAfter::Succeeded);
        let spent = u32::from(ended.end == AttemptEnd::Failed);
        *self.ends.entry(ended.end).or_default() += 1;
        let stopping = self.active(attempt.task.job).stopping;
        self.slot_us += u128::from(ended.slot_us);
        let row = self.row(attempt.task);
        row.lost += u32::from(ended.end == AttemptEnd::Lost);
        if ended.end == AttemptEnd::Lost && ended.after == TaskAfter::Failed {
            assert!(row.lost >= LOST_MAX, "{attempt} fails its task after {} losses", row.lost);
            row.lost = 0;
        }
        row.failed_at = (ended.end == AttemptEnd::Failed).then_some(ended.agent);
        if let Some(digest) = ended.answer {
            let (number, agent) = (attempt.number, ended.agent);
            assert!(row.answers.iter().all(|answer| answer.agent != agent), "{agent} answers once");
            row.answers.push(Answer { number, agent, digest });
        }
        let Stand::At(live) = &mut row.stand else { panic!("{attempt} ends while {:?}", row.stand) };
        live.retain(|live| live.number != attempt.number);
        let others = live.clone();
        row.stand = match ended.after {
            TaskAfter::Again { not_before, failures } => {
                assert_eq!(stopping, None, "{attempt} of a stopped job would run again");
                assert_eq!(failures, row.failures + spent, "only a failure counts as one");
                row.failures = failures;
                Stand::Waiting { not_before }
            }
            TaskAfter::Continues { agent, failures, .. } => {
                assert!(others.iter().any(|live| live.agent == agent), "{attempt} leaves its task to {agent}");
                assert_eq!(failures, row.failures + spent, "only a failure counts as one");
                row.failures = failures;
                return row.stand = Stand::At(others);
            }
            TaskAfter::Succeeded => Stand::Ended(TaskState::Succeeded),
            TaskAfter::Failed => Stand::Ended(TaskState::Failed),
            TaskAfter::Cancelled => Stand::Ended(TaskState::Cancelled),
            TaskAfter::Expired => Stand::Ended(TaskState::Expired),
        };
        assert!(others.is_empty(), "{attempt} ends its task while {others:?} are live");
    }

    fn end_job(&mut self, job: JobId, state: JobState) {
        let counts = self.counts(job);
        let entry = self.active(job);
        assert_eq!(counts.ended(), u64::from(entry.new.spec.inputs.count()), "{job} ends with {counts:?}");
        assert_eq!(state == JobState::Succeeded, counts.ended() == u64::from(counts.succeeded));
        assert!(state.is_ended());
        assert_eq!(entry.retrying, None, "{job} ends while it is retried");
        entry.state = state;
    }

    fn retry(&mut self, job: JobId, finish_by: Option<Timestamp>, retrying: Option<Retrying>) {
        let entry = self.jobs.get_mut(&job).expect("a known job");
        let ended = |state| entry.rows.values().filter(|row| row.stand == Stand::Ended(state)).count() as u32;
        let failed = ended(TaskState::Failed);
        let some = failed + ended(TaskState::Cancelled) + ended(TaskState::Expired) > 0;
        assert_eq!(retrying, some.then_some(Retrying { from: 0, forgiven: failed }), "{job} is retried from its first task on");
        entry.new.spec.finish_by = finish_by.or(entry.new.spec.finish_by);
        (entry.state, entry.stopping, entry.retrying) = (JobState::Active, None, retrying);
    }

    fn retry_tasks(&mut self, job: JobId, tasks: &[EndedTask], retrying: Option<Retrying>, at: Timestamp) {
        let entry = self.active(job);
        assert_eq!(entry.stopping, None, "a stopped {job} is retried");
        let before = std::mem::replace(&mut entry.retrying, retrying).expect("a retry is under way");
        let next = retrying.map_or(TaskIndex::MAX, |retrying| retrying.from);
        for EndedTask { index, attempts, state, .. } in tasks {
            let row = entry.rows.get_mut(index).expect("a started task");
            assert!((before.from..next).contains(index), "task {index} of {job} is retried in its turn");
            assert_eq!((&row.stand, row.attempts), (&Stand::Ended(*state), *attempts), "task {index} of {job} is retried");
            assert_ne!(*state, TaskState::Succeeded);
            (row.failures, row.stand) = (0, Stand::Waiting { not_before: at });
        }
    }
}

fn job_snapshot(entry: &Entry) -> JobSnapshot {
    let ended = |state| entry.rows.values().filter(|row| row.stand == Stand::Ended(state)).count() as u32;
    let open = entry.rows.iter().filter_map(|(index, row)| {
        let place = match &row.stand {
            Stand::At(live) => OpenPlace::At(live.clone()),
            Stand::Waiting { not_before } => OpenPlace::Waiting { not_before: *not_before },
            Stand::Ended(_) => return None,
        };
        Some(OpenTask {
            index: *index,
            attempts: row.attempts,
            failures: row.failures,
            lost: row.lost,
            place,
            saved: row.saved,
            answers: row.answers.clone(),
        })
    });
    JobSnapshot {
        job: entry.new.job,
        owner: entry.new.owner,
        submitter: entry.new.submitter.clone(),
        spec: entry.new.spec.clone(),
        version_name: entry.new.version_name.clone(),
        seed: entry.new.seed,
        submitted: entry.new.at,
        movable: entry.new.movable,
        state: entry.state,
        stopping: entry.stopping,
        retrying: entry.retrying,
        expanded: entry.rows.len() as u32,
        succeeded: ended(TaskState::Succeeded),
        failed: ended(TaskState::Failed),
        cancelled: ended(TaskState::Cancelled),
        expired: ended(TaskState::Expired),
        open: open.collect(),
    }
}
