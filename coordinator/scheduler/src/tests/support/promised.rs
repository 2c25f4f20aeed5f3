//! What the promises allow, told from what a scheduler heard and what it did about it, and from nothing else: who may run
//! what, whose result counts, what must be answered. It has no part of the scheduler's state and none of its rules' code.
//!
//! ```text
//! hears (or nothing, and time passes) -> does: each record and order, in their order -> ends
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId},
    job::{DependencyCondition, JobSpec},
    message::{Outcome, RecallReason, ToCoordinator},
    state::{AttemptEnd, Failure, Intake, JobState, TaskState},
    time::Timestamp,
};

use crate::{
    attempts::verify::is_chosen,
    effect::{Change, EndedAttempt, NewJob, Order, TaskAfter},
    event::{Event, QuarantineKind, StreamId},
};

/// Live attempts of one task: two, and one more where both may be out of touch.
const COPIES_MAX: usize = 3;

/// All that was heard and done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promised {
    agents: BTreeMap<AgentId, Agent>,
    jobs: BTreeMap<JobId, Job>,
    turn: Turn,
}

#[derive(Debug, Clone, Default)]
struct Agent {
    intake: Intake,
    distrusted: bool,
    stream: Option<StreamId>,
    paused: bool,
    sequence: u64,
    last_heard: Timestamp,
    /// Attempts whose ends it told.
    told: BTreeSet<AttemptId>,
    /// What it was asked to give back on this stream, done or not.
    called_back: BTreeSet<AttemptId>,
    /// Jobs of which something came to nothing here: they may be kept from it for a while.
    shy_of: BTreeSet<JobId>,
}

#[derive(Debug, Clone)]
struct Job {
    new: NewJob,
    /// Jobs that must end first, and how.
    after: BTreeMap<JobId, DependencyCondition>,
    stopped: bool,
    /// Tasks that ended badly are still to be queued again.
    retried: bool,
    ended: Option<JobState>,
    tasks: Vec<Task>,
}

#[derive(Debug, Clone, Default)]
struct Task {
    attempts: u32,
    failures: u32,
    not_before: Timestamp,
    live: BTreeMap<u32, AgentId>,
    /// Outputs that do not count yet.
    answers: BTreeMap<AgentId, Digest>,
    ended: Option<TaskState>,
}

/// What the present turn is about.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// Who spoke on its newest stream, and of which attempts.
    speaker: Option<AgentId>,
    about: BTreeSet<AttemptId>,
    /// Results that were told, and which of them were live at whoever told them.
    results: BTreeMap<AttemptId, Outcome>,
    live: BTreeSet<AttemptId>,
    cancelled: Option<JobId>,
    stopped: BTreeSet<JobId>,
    intake: Option<(AgentId, Intake)>,
    acknowledged: BTreeSet<AttemptId>,
    /// Tasks of which a copy was taken back as no longer needed.
    second_copies: BTreeSet<TaskId>,
    /// Agents that two others contradict.
    liars: BTreeSet<AgentId>,
    only_time: bool,
}

impl Promised {
    /// The coordinator dies, and another goes on from what was recorded.
    pub(crate) fn crash(&mut self) {
        self.turn = Turn::default();
        self.agents.values_mut().for_each(|agent| (agent.stream, agent.sequence) = (None, 0));
    }

    /// Nothing is heard and time passes.
    pub(crate) fn time_passes(&mut self) {
        self.turn = Turn { only_time: true, ..Turn::default() };
    }

    /// A turn begins with this.
    pub(crate) fn hears(&mut self, event: &Event, now: Timestamp) {
        self.turn = Turn::default();
        match event {
            Event::Enrolled { agent } => {
                let (intake, distrusted) = (agent.intake, agent.quarantine.is_some());
                self.agents.entry(agent.agent).or_insert(Agent { intake, distrusted, ..Agent::default() });
            }
            Event::Connected { agent, stream, hello, .. } => {
                let Some(known) = self.agents.get_mut(agent) else { return };
                if known.intake == Intake::Revoked || known.stream.is_some_and(|newest| newest >= *stream) {
                    return;
                }
                (known.stream, known.last_heard) = (Some(*stream), now);
                known.called_back.clear();
                (known.paused, known.sequence) = (hello.capacity.paused.is_some(), hello.capacity.sequence);
                self.turn.speaker = Some(*agent);
            }
            Event::Disconnected { agent, stream } => {
                if let Some(known) = self.agents.get_mut(agent).filter(|known| known.stream == Some(*stream)) {
                    known.stream = None;
                }
            }
            Event::Message { agent, stream, message }
                if self.agents.get(agent).is_some_and(|known| known.stream == Some(*stream)) =>
            {
                self.hears_word(*agent, message, now);
            }
            Event::Capacity { capacity } => {
                let known = self.agents.get_mut(&capacity.agent).filter(|known| known.stream.is_some());
                if let Some(known) = known.filter(|known| capacity.sequence > known.sequence) {
                    (known.paused, known.sequence) = (capacity.paused.is_some(), capacity.sequence);
                }
            }
            Event::Cancel { job, .. } => {
                self.turn.cancelled = self.jobs.get(job).filter(|job| job.ended.is_none()).map(|_| *job);
            }
            Event::SetIntake { agent, intake, .. } => {
                let known = self.agents.get(agent).filter(|known| known.intake != Intake::Revoked);
                self.turn.intake = known.map(|_| (*agent, *intake));
            }
            _ => {}
        }
    }

    fn hears_word(&mut self, id: AgentId, word: &ToCoordinator, now: Timestamp) {
        self.turn.speaker = Some(id);
        let live_here = |attempt: &AttemptId| self.live_at(*attempt) == Some(id);
        match word {
            ToCoordinator::Finished(results) => {
                self.turn.live = results.iter().map(|one| one.attempt).filter(live_here).collect();
                self.turn.results = results.iter().map(|one| (one.attempt, one.outcome.clone())).collect();
                self.turn.about = self.turn.results.keys().copied().collect();
            }
            ToCoordinator::Released { attempts, .. } => self.turn.about = attempts.iter().copied().collect(),
            ToCoordinator::Refused { attempt, .. } => self.turn.about = [*attempt].into(),
            _ => {}
        }
        let known = self.agents.get_mut(&id).expect("who speaks is known");
        known.last_heard = now;
        known.told.extend(self.turn.results.keys());
        known.shy_of.extend(self.turn.about.iter().map(|attempt| attempt.task.job));
        match word {
            ToCoordinator::Capacity(capacity) => {
                (known.paused, known.sequence) = (capacity.paused.is_some(), capacity.sequence);
            }
            ToCoordinator::Farewell => {
                // Whatever it has goes elsewhere.
                let held: Vec<_> = self.held(id).collect();
                self.turn.about.extend(held);
            }
            _ => {}
        }
    }

    /// Something is recorded.
    pub(crate) fn records(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::JobSubmitted(new) => {
                let tasks = vec![Task::default(); new.spec.inputs.count() as usize];
                let job = Job {
                    new: (**new).clone(),
                    after: self.waits_for(&new.spec),
                    stopped: false,
                    retried: false,
                    ended: None,
                    tasks,
                };
                assert!(self.jobs.insert(new.job, job).is_none(), "{} is submitted twice", new.job);
            }
            Change::JobStopped { job, state, .. } => self.stops(*job, *state, now),
            Change::JobEnded { job, state, .. } => {
                let known = self.job(*job);
                assert!(known.tasks.iter().all(|task| task.ended.is_some()), "{job} ends with open tasks");
                assert!(!known.retried, "{job} ends while it is retried");
                let all = known.tasks.iter().all(|task| task.ended == Some(TaskState::Succeeded));
                assert_eq!(*state == JobState::Succeeded, all, "{job} ends as {state}");
                assert!(known.ended.replace(*state).is_none(), "{job} ends twice");
                let comes_true = |condition| condition == DependencyCondition::Any || *state == JobState::Succeeded;
                for other in self.jobs.values_mut() {
                    other.after.retain(|before, condition| before != job || !comes_true(*condition));
                }
            }
            Change::JobRetried { job, retrying, .. } => {
                let after = self.waits_for(&self.jobs[job].new.spec);
                let known = self.job(*job);
                (known.stopped, known.retried, known.ended) = (false, retrying.is_some(), None);
                known.after = after;
                known.tasks.iter_mut().filter(|task| task.attempts == 0).for_each(|task| task.ended = None);
                // Whoever waits for its end waits again.
                for other in self.jobs.values_mut().filter(|other| !other.stopped && other.ended.is_none()) {
                    let named = other.new.spec.after.iter().filter(|after| after.job == *job);
                    other.after.extend(named.map(|after| (after.job, after.condition)));
                }
            }
            Change::TasksRetried { job, tasks, retrying, .. } => {
                let known = self.job(*job);
                assert!(known.retried && !known.stopped, "tasks of {job} are queued again for no reason");
                known.retried = retrying.is_some();
                for ended in tasks {
                    let task = self.task(TaskId { job: *job, index: ended.index });
                    assert_eq!((task.ended, task.attempts), (Some(ended.state), ended.attempts), "a task of {job} is retried");
                    assert_ne!(ended.state, TaskState::Succeeded, "a task of {job} is retried");
                    (task.ended, task.failures, task.not_before) = (None, 0, now);
                }
            }
            Change::AttemptStarted { attempt, agent, beside, .. } => self.starts(*attempt, *agent, *beside, now),
            Change::AttemptEnded(ended) => self.ends_attempt(ended, now),
            Change::AnswersDropped { task } => self.task(*task).answers.clear(),
            Change::TaskEnded { task, state, .. } => {
                assert!(self.job(task.job).stopped, "{task} is given up and its job is not stopped");
                let known = self.task(*task);
                assert!(known.live.is_empty() && known.ended.is_none(), "{task} is given up while {known:?}");
                known.ended = Some(*state);
            }
            Change::ResultRefused { attempt, agent, .. } => {
                assert_ne!(self.live_at(*attempt), Some(*agent), "the result of the live {attempt} is refused");
                assert!(self.turn.results.contains_key(attempt), "{attempt} is refused and nobody told its end");
            }
            Change::AgentIntake { agent, intake, .. } => self.agent(*agent).intake = *intake,
            Change::AgentQuarantined { agent, kind, .. } => {
                let lied = self.turn.liars.contains(agent);
                assert!(*kind != QuarantineKind::Output || lied, "{agent} is quarantined and no two others contradict it");
                self.agent(*agent).distrusted = true;
            }
            Change::AgentTrusted { agent, .. } => self.agent(*agent).distrusted = false,
            Change::AgentDisconnected { agent, .. } => self.agent(*agent).stream = None,
            Change::AttemptPaused { attempt, .. } | Change::SnapshotSaved { attempt, .. } => {
                assert!(self.live_at(*attempt).is_some(), "{attempt} is not live");
            }
            Change::SnapshotChosen { .. }
            | Change::SnapshotDropped { .. }
            | Change::AgentConnected { .. }
            | Change::AgentBreached { .. }
            | Change::AgentHours { .. } => {}
        }
    }

    /// What a job that comes in, or back, waits for: of the jobs that it names, those that have not ended.
    fn waits_for(&self, spec: &JobSpec) -> BTreeMap<JobId, DependencyCondition> {
        let open = |job: &JobId| self.jobs.get(job).is_some_and(|job| job.ended.is_none());
        spec.after.iter().map(|after| (after.job, after.condition)).filter(|(job, _)| open(job)).collect()
    }

    /// Somebody or a rule must have wanted that.
    fn stops(&mut self, id: JobId, state: JobState, now: Timestamp) {
        let (wanted, known) = (self.turn.cancelled == Some(id), &self.jobs[&id]);
        let spec = &known.new.spec;
        let overdue = spec.finish_by.is_some_and(|at| at <= now);
        let failed = known.tasks.iter().filter(|task| task.ended == Some(TaskState::Failed)).count();
        let hopeless = spec.failures_max.is_some_and(|most| failed >= most as usize);
        let forsaken = spec
            .after
            .iter()
            .any(|after| after.condition == DependencyCondition::Ok && self.jobs.get(&after.job).is_some_and(Self::has_failed));
        assert!(wanted || overdue || hopeless || forsaken, "{id} is stopped for no reason");
        assert!(!known.stopped && known.ended.is_none(), "{id} is stopped twice");
        let left = if state == JobState::Expired { TaskState::Expired } else { TaskState::Cancelled };
        let known = self.job(id);
        (known.stopped, known.retried) = (true, false);
        let fresh = known.tasks.iter_mut().filter(|task| task.attempts == 0 && task.ended.is_none());
        fresh.for_each(|task| task.ended = Some(left));
        self.turn.stopped.insert(id);
    }

    /// Whether a job has ended badly, or will when its end is written down.
    fn has_failed(job: &Job) -> bool {
        let over = !job.retried && job.tasks.iter().all(|task| task.ended.is_some());
        let badly = job.tasks.iter().any(|task| task.ended != Some(TaskState::Succeeded));
        job.ended.map_or(over && badly, |end| end != JobState::Succeeded)
    }

    /// Who may run what.
    fn starts(&mut self, attempt: AttemptId, id: AgentId, beside: bool, now: Timestamp) {
        let (job, agent) = (&self.jobs[&attempt.task.job], &self.agents[&id]);
        let (spec, task) = (&job.new.spec, &job.tasks[attempt.task.index as usize]);
        let what = format!("{attempt} starts at {id}");
        assert!(agent.stream.is_some(), "{what}, which is not there");
        assert_eq!(agent.intake, Intake::Open, "{what}, which takes nothing new");
        assert!(!agent.distrusted, "{what}, of which nothing is believed");
        assert!(!agent.paused, "{what}, which is paused");
        assert!(!job.stopped && job.ended.is_none(), "{what} and its job is over");
        assert_eq!(task.ended, None, "{what} and its task is over");
        assert!(Self::is_open(job, now), "{what} before its time");
        assert!(task.failures <= spec.retry.retries, "{what} after {} failures", task.failures);
        assert!(task.not_before <= now, "{what} at {now}, and not before {}", task.not_before);
        assert_eq!(attempt.number, task.attempts + 1, "{what} out of its order");
        assert_eq!(beside, !task.live.is_empty(), "{what} beside {:?}", task.live);
        assert!(task.live.len() < COPIES_MAX && task.live.values().all(|other| *other != id), "{what} beside {:?}", task.live);
        assert!(!task.answers.contains_key(&id), "{what}, which has answered before");
        let at_once = job.tasks.iter().filter(|task| !task.live.is_empty()).count();
        assert!(beside || spec.at_once.is_none_or(|most| at_once < most as usize), "{what} as one too many at once");
        if !beside && let Some(urgent) = self.more_urgent(job, id, now) {
            panic!("{what} while {urgent} waits, which is more urgent");
        }
        let task = self.task(attempt.task);
        task.attempts = attempt.number;
        task.live.insert(attempt.number, id);
    }

    /// Whether something of the job may begin at all.
    fn is_open(job: &Job, now: Timestamp) -> bool {
        job.after.is_empty() && job.new.spec.window.as_ref().is_none_or(|window| window.is_open(now))
    }

    /// A job of the same submitter, submitted no later and of higher priority, that has a task nobody has begun, and no
    /// reason not to begin it there. Where all jobs ask for the same of machines.
    fn more_urgent(&self, than: &Job, at: AgentId, now: Timestamp) -> Option<JobId> {
        let more = |job: &&Job| {
            let (new, spec) = (&job.new, &job.new.spec);
            let with_agents = job.tasks.iter().filter(|task| !task.live.is_empty()).count();
            let same = new.owner == than.new.owner && spec.limits == than.new.spec.limits;
            same && spec.constraints == than.new.spec.constraints
                && spec.priority > than.new.spec.priority
                && new.job < than.new.job
                && !job.stopped
                && job.ended.is_none()
                && job.tasks.iter().any(|task| task.attempts == 0 && task.ended.is_none())
                && spec.at_once.is_none_or(|most| with_agents < most as usize)
                && Self::is_open(job, now)
                && !self.agents[&at].shy_of.contains(&new.job)
        };
        self.jobs.values().find(more).map(|job| job.new.job)
    }

    /// Whose result counts, and what becomes of the task.
    fn ends_attempt(&mut self, ended: &EndedAttempt, now: Timestamp) {
        let (attempt, id) = (ended.attempt, ended.agent);
        assert_eq!(self.live_at(attempt), Some(id), "{attempt} ends at {id}");
        let named = self.turn.speaker == Some(id) && self.turn.about.contains(&attempt);
        let job = &self.jobs[&attempt.task.job];
        let (spec, task) = (&job.new.spec, &job.tasks[attempt.task.index as usize]);
        let said = self.turn.results.get(&attempt).filter(|_| named);
        match ended.end {
            AttemptEnd::Succeeded => {
                let Some(Outcome::Succeeded { output }) = said else { panic!("{attempt} succeeds and {id} said {said:?}") };
                let digest = output.digest();
                let must_agree = is_chosen(spec.verify, job.new.seed, attempt.task.index);
                let agree = task.answers.iter().any(|(other, answer)| *other != id && *answer == digest);
                assert_eq!(ended.output.is_some(), !must_agree || agree, "{attempt} counts");
                assert!(ended.output.as_ref().is_none_or(|counted| counted == output), "{attempt} counts as it was said");
                assert!(ended.answer.is_none_or(|answer| answer == digest), "{attempt} is kept as it was said");
                if ended.output.is_some() {
                    self.turn.liars = task.answers.iter().filter(|(_, other)| **other != digest).map(|(id, _)| *id).collect();
                }
            }
            AttemptEnd::Failed | AttemptEnd::Evicted => {
                assert!(named, "{attempt} {} and {id} did not say so", ended.end.as_str())
            }
            AttemptEnd::Lost => {
                let silent = now.since(self.agents[&id].last_heard).as_millis() >= u128::from(spec.lost_after_ms);
                assert!(!self.turn.only_time || silent, "{attempt} is lost after {:?}", now.since(self.agents[&id].last_heard));
            }
            AttemptEnd::Cancelled => {
                if !job.stopped {
                    self.turn.second_copies.insert(attempt.task);
                }
            }
            AttemptEnd::Recalled => {}
        }
        let differ = matches!(ended.failure, Some(Failure::NotDeterministic { .. }));
        let failures = task.failures + u32::from(ended.end == AttemptEnd::Failed);
        let others = task.live.len() > 1;
        match ended.after {
            TaskAfter::Succeeded => assert!(ended.output.is_some(), "{attempt} ends its task without an output"),
            TaskAfter::Failed if ended.end == AttemptEnd::Failed && !differ => {
                assert!(failures > spec.retry.retries, "{attempt} fails its task after {failures} failures");
            }
            TaskAfter::Failed => {}
            TaskAfter::Again { failures: counted, .. } => {
                assert_eq!((counted, others, job.stopped), (failures, false, false), "{attempt} leaves its task waiting");
                assert!(counted <= spec.retry.retries, "{attempt} leaves its task waiting after {counted} failures");
            }
            TaskAfter::Continues { failures: counted, .. } => {
                assert_eq!((counted, others), (failures, true), "{attempt} leaves its task to another");
            }
            TaskAfter::Cancelled | TaskAfter::Expired => assert!(job.stopped, "{attempt} ends its task for no reason"),
        }
        let pause_ms =
            spec.retry.backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(spec.retry.backoff_max_ms);
        let waits = ended.end == AttemptEnd::Failed && matches!(ended.after, TaskAfter::Again { .. });
        let task = self.task(attempt.task);
        task.live.remove(&attempt.number);
        task.failures = failures;
        if waits {
            // Half of the pause is spread.
            task.not_before = now + std::time::Duration::from_millis(pause_ms / 2);
        }
        if let Some(answer) = ended.answer {
            task.answers.insert(id, answer);
        }
        task.ended = match ended.after {
            TaskAfter::Again { .. } | TaskAfter::Continues { .. } => None,
            TaskAfter::Succeeded => Some(TaskState::Succeeded),
            TaskAfter::Failed => Some(TaskState::Failed),
            TaskAfter::Cancelled => Some(TaskState::Cancelled),
            TaskAfter::Expired => Some(TaskState::Expired),
        };
        if ended.end != AttemptEnd::Succeeded {
            self.agent(id).shy_of.insert(attempt.task.job);
        }
    }

    /// Something is said to an agent.
    pub(crate) fn says(&mut self, id: AgentId, stream: StreamId, order: &Order) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if let Order::Goodbye { .. } = order {
            if agent.stream == Some(stream) {
                agent.stream = None;
            }
            return;
        }
        assert_eq!(agent.stream, Some(stream), "{id} is told {order:?}");
        match order {
            Order::Assign { attempts } => {
                for given in attempts {
                    assert_eq!(self.live_at(given.attempt), Some(id), "{id} is given {}", given.attempt);
                }
            }
            Order::Acknowledge { attempts } => {
                for attempt in attempts {
                    assert!(self.agents[&id].told.contains(attempt), "{attempt} is acknowledged and {id} never told its end");
                    assert_ne!(self.live_at(*attempt), Some(id), "{attempt} is acknowledged before it counts");
                }
                self.turn.acknowledged.extend(attempts);
            }
            Order::Recall { attempts, reason } => {
                for attempt in attempts {
                    let live = self.live_at(*attempt) == Some(id);
                    let stopped = self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopped);
                    match reason {
                        RecallReason::Cancelled => assert!(!live || stopped, "{attempt} is cancelled for no reason"),
                        RecallReason::Stale => assert!(!live, "the live {attempt} is called stale"),
                        _ => {}
                    }
                }
                if matches!(reason, RecallReason::Cancelled | RecallReason::Stale) {
                    self.agent(id).called_back.extend(attempts);
                }
            }
            _ => {}
        }
    }

    /// All that had to happen in this turn has happened.
    pub(crate) fn ends(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        if let Some(id) = turn.speaker {
            for attempt in &turn.live {
                assert_ne!(self.live_at(*attempt), Some(id), "{id} told how {attempt} ended, and it is still live");
            }
            let open = self.agents[&id].stream.is_some();
            let unanswered = turn.results.keys().find(|attempt| open && !turn.acknowledged.contains(attempt));
            assert_eq!(unanswered, None, "{id} would tell it for ever");
        }
        if let Some(id) = turn.cancelled {
            let job = &self.jobs[&id];
            assert!(job.stopped || job.ended.is_some(), "{id} was cancelled and goes on");
        }
        if let Some((agent, intake)) = turn.intake {
            assert_eq!(self.agents[&agent].intake, intake, "what the administrator wants of {agent}");
        }
        for task in &turn.second_copies {
            let over = self.jobs[&task.job].tasks[task.index as usize].ended.is_some();
            assert!(over, "a copy of {task} is cancelled and the task goes on");
        }
        for id in &turn.stopped {
            for (index, task) in (0..).zip(&self.jobs[id].tasks) {
                for (number, agent) in &task.live {
                    let attempt = AttemptId { task: TaskId { job: *id, index }, number: *number };
                    let known = &self.agents[agent];
                    let told = known.called_back.contains(&attempt) || known.stream.is_none();
                    assert!(told, "{agent} is not told that {attempt} was cancelled");
                }
            }
        }
        for (id, job) in &self.jobs {
            let over = !job.retried && job.tasks.iter().all(|task| task.ended.is_some());
            let needs = |other: &Job| !other.stopped && other.after.get(id) == Some(&DependencyCondition::Ok);
            let stops_others = over && Self::has_failed(job) && self.jobs.values().any(needs);
            assert_eq!(
                job.ended.is_some(),
                over && !stops_others,
                "{id} ends with its last task, or when what needs it is stopped"
            );
        }
    }

    /// With whom the attempt is, if it is live.
    fn live_at(&self, attempt: AttemptId) -> Option<AgentId> {
        let task = self.jobs.get(&attempt.task.job)?.tasks.get(attempt.task.index as usize)?;
        task.live.get(&attempt.number).copied()
    }

    fn held(&self, agent: AgentId) -> impl Iterator<Item = AttemptId> {
        self.jobs.iter().flat_map(move |(job, known)| {
            (0..).zip(&known.tasks).flat_map(move |(index, task)| {
                let here = task.live.iter().filter(move |(_, at)| **at == agent);
                here.map(move |(number, _)| AttemptId { task: TaskId { job: *job, index }, number: *number })
            })
        })
    }

    fn agent(&mut self, agent: AgentId) -> &mut Agent {
        self.agents.get_mut(&agent).expect("an enrolled agent")
    }

    fn job(&mut self, job: JobId) -> &mut Job {
        self.jobs.get_mut(&job).expect("a job that was submitted")
    }

    fn task(&mut self, task: TaskId) -> &mut Task {
        self.job(task.job).tasks.get_mut(task.index as usize).expect("a task of the job")
    }
}
