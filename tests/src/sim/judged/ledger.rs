//! What the store has been told, kept a second time and in another way: each committed change is held against the
//! rules of a task's life before it counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_scheduler::{
    effect::{Change, EndedAttempt, NewJob, TaskAfter},
    event::{EndedTask, Retrying},
    is_chosen,
};
use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId},
    message::Payload,
    share::Share,
    state::{AttemptEnd, Failure, Intake, JobState, TaskCounts, TaskState},
    time::Timestamp,
};

use crate::sim::{
    judged::promise::{Checked, Promise, Subject, Violation, hold},
    options::Options,
    people::plan,
};

/// Everything that was committed.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub jobs: BTreeMap<JobId, Job>,
    keys: BTreeSet<(String, String)>,
    pub intakes: BTreeMap<AgentId, Intake>,
    /// The newest snapshots of open tasks, and who keeps them.
    snapshots: BTreeMap<TaskId, (Digest, AgentId)>,
    /// The same by snapshot.
    kept: BTreeSet<(Digest, AgentId, TaskId)>,
    /// What the world is made of: it says who lies.
    options: Options,
    /// Outputs that counted and are wrong: nobody looked at them.
    pub lies: BTreeMap<TaskId, Digest>,
    quarantined: BTreeSet<AgentId>,
    /// When the live attempts went to their agents.
    began: BTreeMap<AttemptId, Timestamp>,
    pub tally: Tally,
}

/// What is counted for the report.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub attempts: u64,
    pub succeeded: u64,
    pub failed_attempts: u64,
    pub lost: u64,
    pub recalled: u64,
    pub evicted: u64,
    pub cancelled: u64,
    pub late_results: u64,
    /// Attempts of tasks that had been with another agent before.
    pub moves: u64,
    /// Attempts that began beside another of their task.
    pub second_copies: u64,
    /// Outputs that were kept to be compared.
    pub answers: u64,
    /// Wrong outputs that counted, of tasks that were not verified.
    pub lies: u64,
    pub quarantined: u64,
    /// Attempts that were taken from machines that broke the protocol.
    pub taken_from_breaching: u64,
    pub pauses: u64,
    /// What attempts were charged for slots, in microseconds, and for how long they were with agents.
    pub slot_us: u64,
    pub with_agents_us: u64,
}

/// A job as it was committed.
#[derive(Debug)]
pub(crate) struct Job {
    pub first: u64,
    verify: Share,
    seed: u64,
    retries: u32,
    /// The mean time of its tasks.
    pub each: Duration,
    pub memory_bytes: u64,
    pub tasks: Vec<Task>,
    /// By the place of the tasks: waiting, live, and the four ends.
    waiting: u32,
    live: u32,
    ended: TaskCounts,
    pub stop: Option<JobState>,
    /// Where a retry goes on.
    retrying: Option<Retrying>,
    pub state: JobState,
}

/// A task as it was committed.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub attempts: u32,
    failures: u32,
    lost: u32,
    /// Who has or had the newest attempt.
    agent: AgentId,
    /// The live attempts by number, and who has them.
    live: Vec<(u32, AgentId)>,
    /// Outputs that were brought and do not count yet.
    answers: Vec<(AgentId, Digest)>,
    pub place: Place,
}

/// Losses after which a task fails, as the scheduler has it by default.
const LOST_MAX: u32 = 5;
/// Live attempts of one task: two, and one more where both may be out of touch.
const COPIES_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Waiting,
    Live,
    Ended(TaskState),
}

fn once(attempt: AttemptId, what: String) -> Violation {
    Violation::new(Promise::CountedOnce, what, &[attempt.into()])
}

/// The digest of an output.
fn digest_of(output: String) -> Digest {
    Payload::inline(output).digest()
}

impl Ledger {
    /// Nothing was committed yet.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            jobs: BTreeMap::new(),
            keys: BTreeSet::new(),
            intakes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            kept: BTreeSet::new(),
            options,
            lies: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            began: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Takes in a change that was committed.
    pub(crate) fn apply(&mut self, change: &Change) -> Checked {
        match change {
            Change::JobSubmitted(new) => self.submitted(new),
            Change::JobStopped { job, state, .. } => self.job(*job)?.stopped(*state),
            Change::JobEnded { job, state, .. } => {
                let id = *job;
                self.job(id)?.finished(id, *state)
            }
            Change::JobRetried { job, retrying, .. } => self.job(*job)?.reopened(*retrying),
            Change::TasksRetried { job, tasks, retrying, .. } => {
                let id = *job;
                self.job(id)?.retried(id, tasks, *retrying)
            }
            Change::AttemptStarted { attempt, agent, beside, at, .. } => {
                self.tally.attempts += 1;
                self.began.insert(*attempt, *at);
                let free = !self.quarantined.contains(agent);
                let what = || format!("{attempt} goes to {agent}, which is quarantined");
                hold(Promise::CountedOnce, free, what, &[(*attempt).into(), (*agent).into()])?;
                let moved = self.job(attempt.task.job)?.started(*attempt, *agent, *beside)?;
                self.tally.second_copies += u64::from(*beside);
                self.tally.moves += u64::from(moved && !beside);
                Ok(())
            }
            Change::AttemptPaused { attempt, reason, .. } => {
                self.tally.pauses += u64::from(reason.is_some());
                let live = self.is_live(*attempt);
                hold(Promise::CountedOnce, live, || format!("{attempt} paused and is not live"), &[(*attempt).into()])
            }
            Change::SnapshotSaved { attempt, agent, snapshot, .. } => {
                self.forget_snapshot(attempt.task);
                self.note_snapshot(attempt.task, snapshot.blob.digest, *agent);
                let live = self.is_live(*attempt);
                hold(Promise::CountedOnce, live, || format!("{attempt} is saved and not live"), &[(*attempt).into()])
            }
            Change::SnapshotChosen { task, agent, snapshot, .. } => {
                self.forget_snapshot(*task);
                self.note_snapshot(*task, snapshot.blob.digest, *agent);
                Ok(())
            }
            Change::SnapshotDropped { task } => {
                self.forget_snapshot(*task);
                Ok(())
            }
            Change::AttemptEnded(ended) => {
                self.charged(ended);
                self.ended(ended)
            }
            Change::AnswersDropped { task } => {
                let id = *task;
                self.job(id.job)?.task(id)?.answers.clear();
                Ok(())
            }
            Change::AgentQuarantined { agent, .. } => self.quarantined(*agent),
            Change::AgentTrusted { agent, .. } => {
                self.quarantined.remove(agent);
                Ok(())
            }
            Change::TaskEnded { task, state, .. } => self.job(task.job)?.given_up(*task, *state),
            Change::ResultRefused { attempt, agent, .. } => {
                self.tally.late_results += 1;
                let live = self.live_at(*attempt) == Some(*agent);
                hold(
                    Promise::NothingLost,
                    !live,
                    || format!("the result of the live {attempt} was refused"),
                    &[(*attempt).into()],
                )
            }
            Change::AgentBreached { attempts, .. } => {
                self.tally.taken_from_breaching += u64::from(*attempts);
                Ok(())
            }
            Change::AgentConnected { .. } | Change::AgentDisconnected { .. } | Change::AgentHours { .. } => Ok(()),
            Change::AgentIntake { agent, intake, .. } => {
                self.intakes.insert(*agent, *intake);
                Ok(())
            }
        }
    }

    /// Counts what is charged, and what it could be if waiting were: by the wall clock, which some worlds set.
    fn charged(&mut self, ended: &EndedAttempt) {
        let began = self.began.remove(&ended.attempt).unwrap_or(ended.at);
        self.tally.slot_us += ended.slot_us;
        self.tally.with_agents_us += ended.at.since(began).as_micros() as u64;
    }

    /// Whether a task is to go on from this snapshot, which this agent keeps.
    pub(crate) fn needs(&self, digest: Digest, agent: AgentId) -> bool {
        let first = TaskId { job: JobId(0), index: 0 };
        self.kept.range((digest, agent, first)..).next().is_some_and(|(kept, keeper, _)| (*kept, *keeper) == (digest, agent))
    }

    /// Whether a task can go on from a snapshot.
    pub(crate) fn has_snapshot(&self, task: TaskId) -> bool {
        self.snapshots.contains_key(&task)
    }

    fn note_snapshot(&mut self, task: TaskId, digest: Digest, agent: AgentId) {
        self.snapshots.insert(task, (digest, agent));
        self.kept.insert((digest, agent, task));
    }

    /// The newest snapshots of open tasks.
    pub(crate) fn saved(&self) -> impl Iterator<Item = (TaskId, Digest)> {
        self.snapshots.iter().map(|(task, (digest, _))| (*task, *digest))
    }

    fn forget_snapshot(&mut self, task: TaskId) {
        if let Some((digest, agent)) = self.snapshots.remove(&task) {
            self.kept.remove(&(digest, agent, task));
        }
    }

    /// The agent that has this attempt, if it is live.
    pub(crate) fn live_at(&self, attempt: AttemptId) -> Option<AgentId> {
        let task = self.task(attempt.task)?;
        task.live.iter().find(|(number, _)| *number == attempt.number).map(|(_, agent)| *agent)
    }

    /// The live attempts of a task.
    pub(crate) fn live(&self, task: TaskId) -> Vec<AttemptId> {
        let live = self.task(task).map(|known| known.live.as_slice()).unwrap_or_default();
        live.iter().map(|(number, _)| AttemptId { task, number: *number }).collect()
    }

    /// Whether the task has not ended.
    pub(crate) fn is_open(&self, task: TaskId) -> bool {
        self.task(task).is_some_and(|known| !matches!(known.place, Place::Ended(_)))
    }

    /// Whether the agent may be given an attempt of the task.
    pub(crate) fn may_begin(&self, task: TaskId, agent: AgentId) -> bool {
        let welcome = self.intakes.get(&agent).copied().unwrap_or_default() == Intake::Open && !self.quarantined.contains(&agent);
        let new_to_it = |task: &Task| {
            task.live.iter().all(|(_, other)| *other != agent) && task.answers.iter().all(|(other, _)| *other != agent)
        };
        welcome && self.task(task).is_some_and(new_to_it)
    }

    pub(crate) fn is_live(&self, attempt: AttemptId) -> bool {
        self.live_at(attempt).is_some()
    }

    /// Whether the attempt was started at some time.
    pub(crate) fn knows(&self, attempt: AttemptId) -> bool {
        self.task(attempt.task).is_some_and(|task| attempt.number <= task.attempts)
    }

    pub(crate) fn task(&self, task: TaskId) -> Option<&Task> {
        self.jobs.get(&task.job)?.tasks.get(task.index as usize)
    }

    /// Whether every job has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.jobs.values().all(|job| job.state.is_ended())
    }

    fn job(&mut self, job: JobId) -> Result<&mut Job, Violation> {
        let unknown = || Violation::new(Promise::NothingLost, format!("{job} was never submitted"), &[job.into()]);
        self.jobs.get_mut(&job).ok_or_else(unknown)
    }

    fn submitted(&mut self, new: &NewJob) -> Checked {
        let (job, spec) = (new.job, &new.spec);
        if let Some(key) = &spec.idempotency_key {
            let fresh = self.keys.insert((new.submitter.clone(), key.clone()));
            hold(Promise::CountedOnce, fresh, || format!("{job} was submitted before as {key}"), &[job.into()])?;
        }
        let before = self.jobs.insert(job, Job::new(new));
        hold(Promise::CountedOnce, before.is_none(), || format!("two jobs are {job}"), &[job.into()])
    }

    fn ended(&mut self, ended: &EndedAttempt) -> Checked {
        let tally = &mut self.tally;
        *match ended.end {
            AttemptEnd::Succeeded => &mut tally.succeeded,
            AttemptEnd::Failed => &mut tally.failed_attempts,
            AttemptEnd::Evicted => &mut tally.evicted,
            AttemptEnd::Recalled => &mut tally.recalled,
            AttemptEnd::Lost => &mut tally.lost,
            AttemptEnd::Cancelled => &mut tally.cancelled,
        } += 1;
        self.tally.answers += u64::from(ended.answer.is_some());
        let attempt = ended.attempt;
        let input = self.job(attempt.task.job)?.first + u64::from(attempt.task.index);
        let lie = plan::lie(&self.options, ended.agent, attempt, input).map(digest_of);
        self.job(attempt.task.job)?.attempt_ended(ended, lie)?;
        if let Some(lie) = lie.filter(|lie| ended.output.as_ref().map(Payload::digest) == Some(*lie)) {
            self.lies.insert(attempt.task, lie);
            self.tally.lies += 1;
        }
        Ok(())
    }

    /// Whether that is the agent's intake; one that is quarantined may be told that it gets nothing new.
    pub(crate) fn may_be_told(&self, agent: AgentId, intake: Intake) -> bool {
        let own = self.intakes.get(&agent).copied().unwrap_or_default();
        own == intake || (intake == Intake::Cordoned && self.quarantined.contains(&agent))
    }

    fn quarantined(&mut self, agent: AgentId) -> Checked {
        self.tally.quarantined += 1;
        let lies = plan::is_liar(&self.options, agent) || plan::is_tardy(&self.options, agent);
        let lies = lies && self.quarantined.insert(agent);
        hold(Promise::CountedOnce, lies, || format!("{agent} is quarantined and is honest, or was before"), &[agent.into()])
    }
}

impl Job {
    fn new(new: &NewJob) -> Self {
        let size = new.spec.inputs.count();
        let task = Task {
            attempts: 0,
            failures: 0,
            lost: 0,
            agent: AgentId(0),
            live: Vec::new(),
            answers: Vec::new(),
            place: Place::Waiting,
        };
        Self {
            first: plan::first_input(&new.spec),
            verify: new.spec.verify,
            seed: new.seed,
            retries: new.spec.retry.retries,
            each: plan::mean_time(&new.spec.args),
            memory_bytes: new.spec.limits.memory_bytes,
            tasks: vec![task; size as usize],
            waiting: size,
            live: 0,
            ended: TaskCounts::default(),
            stop: None,
            retrying: None,
            state: JobState::Active,
        }
    }

    /// Whether a scheduler or a store counts the same.
    pub(crate) fn agrees(&self, counts: &TaskCounts) -> bool {
        let ended = TaskCounts { queued: 0, waiting: 0, running: 0, paused: 0, moving: 0, verifying: 0, ..*counts };
        counts.total() == self.tasks.len() as u64
            && counts.queued + counts.waiting + counts.moving <= self.waiting
            && counts.running + counts.paused <= self.live
            && ended == self.ended
    }

    /// How it stands, in words.
    pub(crate) fn words(&self) -> String {
        format!("{} waiting, {} live, ended {:?} of {}", self.waiting, self.live, self.ended, self.tasks.len())
    }

    /// Tasks that have not ended.
    pub(crate) fn open(&self) -> u32 {
        self.waiting + self.live
    }

    fn started(&mut self, attempt: AttemptId, agent: AgentId, beside: bool) -> Result<bool, Violation> {
        let stopped = self.stop.is_some();
        let task = self.task(attempt.task)?;
        let free = task.live.len() < COPIES_MAX && task.live.iter().all(|(_, other)| *other != agent);
        let right = if beside { task.place == Place::Live && free } else { task.place == Place::Waiting };
        if !right || task.attempts + 1 != attempt.number || stopped {
            return Err(once(attempt, format!("{attempt} started with {agent} while its task was {task:?}")));
        }
        let moved = task.attempts > 0 && task.agent != agent;
        (task.attempts, task.agent, task.place) = (attempt.number, agent, Place::Live);
        task.live.push((attempt.number, agent));
        if !beside {
            (self.waiting, self.live) = (self.waiting - 1, self.live + 1);
        }
        Ok(moved)
    }

    fn attempt_ended(&mut self, ended: &EndedAttempt, lie: Option<Digest>) -> Checked {
        let (attempt, stop, retries, first) = (ended.attempt, self.stop, self.retries, self.first);
        let verified = is_chosen(self.verify, self.seed, attempt.task.index);
        let task = self.task(attempt.task)?;
        let live = task.live.len();
        task.live.retain(|other| *other != (attempt.number, ended.agent));
        if task.place != Place::Live || task.live.len() + 1 != live {
            return Err(once(attempt, format!("{attempt} of {} ended and its task is {task:?}", ended.agent)));
        }
        let others = !task.live.is_empty();
        if others != matches!(ended.after, TaskAfter::Continues { .. }) {
            return Err(once(attempt, format!("{attempt} ended, then {:?}, and its task is {task:?}", ended.after)));
        }
        task.lost += u32::from(ended.end == AttemptEnd::Lost);
        let failed = task.failures + u32::from(ended.end == AttemptEnd::Failed);
        let right = match (ended.end, ended.after) {
            (AttemptEnd::Succeeded, TaskAfter::Succeeded) => ended.answer.is_none(),
            (AttemptEnd::Succeeded, _) if ended.answer.is_none() => false,
            (AttemptEnd::Failed, TaskAfter::Failed) if matches!(ended.failure, Some(Failure::NotDeterministic { .. })) => {
                task.answers.len() == 2 && task.answers[0].1 != task.answers[1].1
            }
            (_, TaskAfter::Succeeded) => false,
            (AttemptEnd::Failed, TaskAfter::Failed) => failed > retries,
            (AttemptEnd::Lost, TaskAfter::Failed) => {
                task.lost >= LOST_MAX && matches!(ended.failure, Some(Failure::MachinesLost { .. }))
            }
            (_, TaskAfter::Failed) => false,
            (_, TaskAfter::Continues { agent, failures, .. }) => {
                failures == failed && failed <= retries.max(task.failures) && task.live.iter().any(|(_, other)| *other == agent)
            }
            (_, TaskAfter::Again { failures, .. }) => failures == failed && failed <= retries && stop.is_none(),
            (_, TaskAfter::Cancelled) => stop == Some(JobState::Cancelled),
            (_, TaskAfter::Expired) => stop == Some(JobState::Expired),
        };
        if !right {
            return Err(once(attempt, format!("{attempt} {} after {} failures, and then {:?}", ended.end, failed, ended.after)));
        }
        if let TaskAfter::Succeeded = ended.after {
            let wanted = digest_of(plan::output(first + u64::from(attempt.task.index)));
            let found = ended.output.as_ref().map(Payload::digest);
            let confirmed = task.answers.iter().any(|(agent, digest)| *agent != ended.agent && Some(*digest) == found);
            let right = if verified { found == Some(wanted) && confirmed } else { found == Some(lie.unwrap_or(wanted)) };
            if !right {
                return Err(once(attempt, format!("{attempt} succeeded with a wrong output, or one that nobody confirmed")));
            }
        }
        if let Some(digest) = ended.answer {
            if !verified || task.answers.iter().any(|(agent, _)| *agent == ended.agent) {
                return Err(once(attempt, format!("the output of {attempt} is compared and need not be")));
            }
            task.answers.push((ended.agent, digest));
        }
        if (ended.end, ended.after) == (AttemptEnd::Lost, TaskAfter::Failed) {
            task.lost = 0;
        }
        task.failures = failed;
        let place = match ended.after {
            TaskAfter::Again { .. } => Place::Waiting,
            TaskAfter::Continues { .. } => return Ok(()),
            TaskAfter::Succeeded => Place::Ended(TaskState::Succeeded),
            TaskAfter::Failed => Place::Ended(TaskState::Failed),
            TaskAfter::Cancelled => Place::Ended(TaskState::Cancelled),
            TaskAfter::Expired => Place::Ended(TaskState::Expired),
        };
        task.place = place;
        self.live -= 1;
        self.count(place);
        Ok(())
    }

    fn given_up(&mut self, id: TaskId, state: TaskState) -> Checked {
        let stopped = self.stop.is_some();
        let task = self.task(id)?;
        if task.place != Place::Waiting || !stopped {
            let what = format!("{id} ended as {state} while it was {:?}", task.place);
            return Err(Violation::new(Promise::NothingLost, what, &[Subject::Task(id)]));
        }
        task.place = Place::Ended(state);
        self.waiting -= 1;
        self.count(Place::Ended(state));
        Ok(())
    }

    fn count(&mut self, place: Place) {
        match place {
            Place::Waiting => self.waiting += 1,
            Place::Live => self.live += 1,
            Place::Ended(state) => *self.ended.get_mut(state) += 1,
        }
    }

    /// Tasks that never started end at once.
    fn stopped(&mut self, state: JobState) -> Checked {
        (self.stop, self.retrying) = (Some(state), None);
        let end = if state == JobState::Expired { TaskState::Expired } else { TaskState::Cancelled };
        let mut ended = 0;
        for task in self.tasks.iter_mut().filter(|task| task.attempts == 0 && task.place == Place::Waiting) {
            task.place = Place::Ended(end);
            ended += 1;
        }
        self.waiting -= ended;
        *self.ended.get_mut(end) += ended;
        Ok(())
    }

    /// The stop is undone: what was never started waits again, and what was follows in parts.
    fn reopened(&mut self, retrying: Option<Retrying>) -> Checked {
        (self.stop, self.state, self.retrying) = (None, JobState::Active, retrying);
        for task in self.tasks.iter_mut().filter(|task| task.attempts == 0) {
            if let Place::Ended(state) = task.place {
                task.place = Place::Waiting;
                *self.ended.get_mut(state) -= 1;
                self.waiting += 1;
            }
        }
        Ok(())
    }

    fn retried(&mut self, id: JobId, tasks: &[EndedTask], retrying: Option<Retrying>) -> Checked {
        let what = || format!("tasks of {id} are queued again and it is not retried");
        hold(Promise::CountedOnce, self.retrying.is_some() && self.stop.is_none(), what, &[id.into()])?;
        self.retrying = retrying;
        for EndedTask { index, attempts, state, .. } in tasks {
            let task = self.tasks.get_mut(*index as usize);
            let right = task.filter(|task| {
                task.place == Place::Ended(*state) && task.attempts == *attempts && *state != TaskState::Succeeded
            });
            let Some(task) = right else {
                let what = format!("task {index} of {id} is queued again and did not end badly");
                return Err(Violation::new(Promise::CountedOnce, what, &[id.into()]));
            };
            (task.place, task.failures) = (Place::Waiting, 0);
            *self.ended.get_mut(*state) -= 1;
            self.waiting += 1;
        }
        Ok(())
    }

    fn finished(&mut self, id: JobId, state: JobState) -> Checked {
        let all_good = self.ended.succeeded as usize == self.tasks.len();
        let right = self.open() == 0 && self.retrying.is_none() && state.is_ended() && (state == JobState::Succeeded) == all_good;
        self.state = state;
        hold(Promise::NothingLost, right, || format!("{id} ended as {state:?} with {}", self.words()), &[id.into()])
    }

    fn task(&mut self, id: TaskId) -> Result<&mut Task, Violation> {
        let none = || Violation::new(Promise::NothingLost, format!("there is no {id}"), &[Subject::Task(id)]);
        self.tasks.get_mut(id.index as usize).ok_or_else(none)
    }
}
