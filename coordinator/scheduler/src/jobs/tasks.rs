//! The tasks of one job, without a word about each: a mark up to which they were started once, and sets of those that
//! came back. Ten million tasks cost nothing until they start; one that waits to be started again costs about 60 bytes.
//!
//! ```text
//! 0 ............ expanded ............ size
//!   with agents | returned (ready, resting) | fresh: never started
//!   ended
//! ```

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use lull_shared::{
    id::{AgentId, TaskIndex},
    state::{Failure, PauseReason, TaskCounts, TaskState},
    time::Timestamp,
};

use crate::{
    attempts::{
        copies::{Copies, Live},
        troubled::{Own, Troubled},
    },
    effect::TaskAfter,
    event::{Answer, EndedTask, OpenPlace, OpenTask, Retrying, Saved},
};

/// Why a task runs once more of which something was brought.
const COMPARED: &str = "its output is compared with that of another agent";

/// How every task of a job stands.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    size: u32,
    expanded: TaskIndex,
    /// What the fresh tasks ended as, when the job was stopped before they started.
    fresh_ended: Option<TaskState>,
    returned: BTreeMap<TaskIndex, Returned>,
    /// Returned tasks that may start.
    ready: BTreeSet<TaskIndex>,
    /// Returned tasks that may start with anybody but those who brought something for them already, by these.
    checks: BTreeMap<Vec<AgentId>, BTreeSet<TaskIndex>>,
    checks_count: u32,
    /// Returned tasks that may start, and should do so with anybody but the agent where they failed last, by this.
    shunning: BTreeMap<AgentId, BTreeSet<TaskIndex>>,
    shunning_count: u32,
    /// Returned tasks whose pause before a retry is not over.
    resting: BTreeSet<(Timestamp, TaskIndex)>,
    live: BTreeMap<TaskIndex, Copies>,
    /// Those with agents that are to begin once more beside what they have, and why.
    wanted: BTreeMap<TaskIndex, Box<str>>,
    /// How many attempts of open tasks were lost; of most none.
    lost: BTreeMap<TaskIndex, u32>,
    /// What was brought for open tasks, to be compared.
    answers: BTreeMap<TaskIndex, Vec<Answer>>,
    /// The newest snapshots of open tasks.
    saved: BTreeMap<TaskIndex, Saved>,
    /// Open tasks that agents had trouble with.
    troubled: BTreeMap<TaskIndex, Troubled>,
    /// How many of those with agents are off the processor.
    paused: u32,
    /// Started tasks that ended. Fresh ones that ended are not in here.
    succeeded: u32,
    failed: u32,
    cancelled: u32,
    expired: u32,
}

/// A started task that is not with an agent.
#[derive(Debug, Clone, Copy)]
struct Returned {
    attempts: u32,
    failures: u32,
    not_before: Timestamp,
    /// Where its last attempt failed, if it did and this is known: it should rather go elsewhere. Not remembered by stores.
    failed_at: Option<AgentId>,
}

/// A task that was handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub index: TaskIndex,
    pub number: u32,
    /// Another attempt of it is live.
    pub beside: bool,
}

/// Where one task is.
#[derive(Debug, Clone)]
pub(crate) enum Place<'a> {
    Fresh,
    Ready,
    Resting { until: Timestamp },
    Live(&'a Copies),
    Ended,
}

impl Tasks {
    /// Tasks of which none was started.
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            expanded: 0,
            fresh_ended: None,
            returned: BTreeMap::new(),
            ready: BTreeSet::new(),
            checks: BTreeMap::new(),
            checks_count: 0,
            shunning: BTreeMap::new(),
            shunning_count: 0,
            answers: BTreeMap::new(),
            resting: BTreeSet::new(),
            live: BTreeMap::new(),
            wanted: BTreeMap::new(),
            lost: BTreeMap::new(),
            saved: BTreeMap::new(),
            troubled: BTreeMap::new(),
            paused: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            expired: 0,
        }
    }

    /// Tasks as they were remembered. `ended` counts those that were started; the others ended as `stopped_as`, if at all.
    pub(crate) fn restore(
        size: u32,
        expanded: TaskIndex,
        ended: TaskCounts,
        open: &[OpenTask],
        stopped_as: Option<TaskState>,
        now: Timestamp,
    ) -> Self {
        let mut tasks = Self::new(size);
        tasks.expanded = expanded.min(size);
        tasks.succeeded = ended.succeeded;
        tasks.failed = ended.failed;
        tasks.cancelled = ended.cancelled;
        tasks.expired = ended.expired;
        tasks.fresh_ended = stopped_as;
        for task in open {
            task.saved.map(|saved| tasks.saved.insert(task.index, saved));
            if task.lost > 0 {
                tasks.lost.insert(task.index, task.lost);
            }
            if !task.answers.is_empty() {
                tasks.answers.insert(task.index, task.answers.clone());
            }
            match &task.place {
                OpenPlace::At(live) => {
                    tasks.live.insert(task.index, Copies::restore(task.attempts, task.failures, live));
                }
                OpenPlace::Waiting { not_before } => {
                    let OpenTask { attempts, failures, .. } = *task;
                    let returned = Returned { attempts, failures, not_before: *not_before, failed_at: None };
                    tasks.give_back(task.index, returned, now);
                }
            }
        }
        tasks
    }

    /// Tasks that could be started now if nothing holds the job back.
    pub(crate) fn startable(&self) -> u32 {
        self.ready.len() as u32
            + self.checks_count
            + self.shunning_count
            + if self.fresh_ended.is_none() { self.fresh_left() } else { 0 }
    }

    /// Tasks that have not ended.
    pub(crate) fn open(&self) -> u32 {
        self.startable() + self.resting.len() as u32 + self.live.len() as u32
    }

    /// The live attempt of this task with this number.
    pub(crate) fn live(&self, index: TaskIndex, number: u32) -> Option<&Live> {
        self.live.get(&index)?.get(number)
    }

    /// How many attempts an open task has had; `None`: it has ended, or there is none.
    pub(crate) fn attempts(&self, index: TaskIndex) -> Option<u32> {
        match self.place(index)? {
            Place::Ended => None,
            Place::Fresh => Some(0),
            Place::Live(copies) => Some(copies.attempts),
            Place::Ready | Place::Resting { .. } => self.returned.get(&index).map(|returned| returned.attempts),
        }
    }

    /// The live attempts of this task, if it is with agents.
    pub(crate) fn copies(&self, index: TaskIndex) -> Option<&Copies> {
        self.live.get(&index)
    }

    /// All tasks that are with agents.
    pub(crate) fn with_agents(&self) -> impl ExactSizeIterator<Item = (TaskIndex, &Copies)> {
        self.live.iter().map(|(index, copies)| (*index, copies))
    }

    /// All live attempts.
    pub(crate) fn all_live(&self) -> impl Iterator<Item = (TaskIndex, &Live)> {
        self.with_agents().flat_map(|(index, copies)| copies.iter().map(move |live| (index, live)))
    }

    /// How many failed, those never started included.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Whether there is anything to start, with whomever.
    pub(crate) fn has_some(&self) -> bool {
        self.startable() > 0 || self.has_wanted()
    }

    /// Whether a second copy is wanted of a task of which nothing is heard.
    pub(crate) fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether this agent could have such a copy.
    pub(crate) fn is_wanted_of(&self, agent: AgentId) -> bool {
        self.wanted_for(agent).is_some()
    }

    /// Whether there is a task to start with this agent that did not fail there.
    pub(crate) fn has_for(&self, agent: AgentId) -> bool {
        let shunning = self.shunning.get(&agent).map_or(0, BTreeSet::len) as u32;
        let some = self.startable() > self.checks_count + shunning;
        some || self.check_for(agent).is_some() || self.is_wanted_of(agent)
    }

    /// Whether there is a task to start that failed with this agent and should rather go elsewhere.
    pub(crate) fn has_shunned(&self, agent: AgentId) -> bool {
        self.shunning.contains_key(&agent)
    }

    /// Whether some tasks should rather not start with some agents.
    pub(crate) fn has_shunning(&self) -> bool {
        self.shunning_count > 0
    }

    /// Whether some tasks may start with some agents only.
    pub(crate) fn has_particular(&self) -> bool {
        self.checks_count > 0 || !self.wanted.is_empty()
    }

    /// Lets a task that is with agents begin once more, with one that has had nothing of it.
    pub(crate) fn want(&mut self, index: TaskIndex, cause: Box<str>) {
        if self.live.contains_key(&index) {
            self.wanted.insert(index, cause);
        }
    }

    /// The task need not begin once more.
    pub(crate) fn unwant(&mut self, index: TaskIndex) {
        self.wanted.remove(&index);
    }

    /// An attempt of the task was lost.
    pub(crate) fn note_lost(&mut self, index: TaskIndex) {
        *self.lost.entry(index).or_default() += 1;
    }

    /// How many attempts of the task were lost.
    pub(crate) fn lost(&self, index: TaskIndex) -> u32 {
        self.lost.get(&index).copied().unwrap_or(0)
    }

    /// Whether the task is to begin once more.
    pub(crate) fn is_wanted(&self, index: TaskIndex) -> bool {
        self.wanted.contains_key(&index)
    }

    /// The first task that is to begin once more and that this agent has had nothing of.
    fn wanted_for(&self, agent: AgentId) -> Option<TaskIndex> {
        let fits = |index: &&TaskIndex| {
            let has_it = self.live.get(index).is_some_and(|copies| copies.are_with(agent));
            !has_it && self.answers(**index).iter().all(|answer| answer.agent != agent)
        };
        self.wanted.keys().find(fits).copied()
    }

    /// The first task that waits to be run once more and of which this agent has brought nothing.
    fn check_for(&self, agent: AgentId) -> Option<TaskIndex> {
        let (_, tasks) = self.checks.iter().find(|(tried, _)| !tried.contains(&agent))?;
        tasks.first().copied()
    }

    /// Takes the first task that came back, of those that failed where `fits` allows, or nowhere.
    fn take_ready(&mut self, fits: impl Fn(AgentId) -> bool) -> Option<TaskIndex> {
        let shunning = self.shunning.iter().find(|(by, _)| fits(**by)).and_then(|(by, tasks)| Some((*by, *tasks.first()?)));
        let ready = self.ready.first().copied();
        if let Some((by, index)) = shunning.filter(|(_, index)| ready.is_none_or(|ready| *index < ready)) {
            self.take_shunning(by, index);
            return Some(index);
        }
        self.ready.pop_first()
    }

    /// Hands out the task to start next: those of which nothing is heard, those to be compared, those that came back, by
    /// index, then fresh ones, and last those that failed with this very agent, unless it is alone. `None`: no task is
    /// startable with this agent.
    pub(crate) fn start(&mut self, agent: AgentId, alone: bool, now: Timestamp) -> Option<Begun> {
        if let Some(index) = self.wanted_for(agent) {
            let cause = self.wanted.remove(&index)?;
            let number = self.start_beside(index, agent, cause, now)?;
            return Some(Begun { index, number, beside: true });
        }
        let (index, attempts, failures) = if let Some(index) = self.check_for(agent) {
            self.take_check(index);
            let returned = self.returned.remove(&index).expect("every check is a returned task");
            (index, returned.attempts, returned.failures)
        } else if let Some(index) = self.take_ready(|by| alone || by != agent) {
            let returned = self.returned.remove(&index).expect("every ready task is a returned one");
            (index, returned.attempts, returned.failures)
        } else if self.fresh_ended.is_none() && self.expanded < self.size {
            self.expanded += 1;
            (self.expanded - 1, 0, 0)
        } else {
            let index = self.take_ready(|by| by == agent)?;
            let returned = self.returned.remove(&index).expect("every ready task is a returned one");
            (index, returned.attempts, returned.failures)
        };
        let number = attempts.saturating_add(1);
        let mut live = Live::new(number, agent, now, self.resumes_us(index));
        live.cause = (!self.answers(index).is_empty()).then(|| COMPARED.into());
        self.live.insert(index, Copies::new(failures, live));
        Some(Begun { index, number, beside: false })
    }

    /// Hands a task that is with an agent out once more. The new attempt's number; `None`: it is with no agent.
    pub(crate) fn start_beside(&mut self, index: TaskIndex, agent: AgentId, cause: Box<str>, now: Timestamp) -> Option<u32> {
        let resumed_us = self.resumes_us(index);
        let copies = self.live.get_mut(&index)?;
        self.paused -= u32::from(copies.are_paused());
        Some(copies.add(agent, now, resumed_us, cause))
    }

    /// The running time of the snapshot that an attempt of the task goes on from, if there is one.
    fn resumes_us(&self, index: TaskIndex) -> Option<u64> {
        self.saved.get(&index).map(|saved| saved.snapshot.spent_us)
    }

    /// Where this attempt really goes on.
    pub(crate) fn note_resumed(&mut self, index: TaskIndex, number: u32, spent_us: Option<u64>) {
        if let Some(live) = self.live.get_mut(&index).and_then(|copies| copies.get_mut(number)) {
            live.resumed_us = spent_us;
        }
    }

    /// Where the task's next attempt goes on, if there is a snapshot of it.
    pub(crate) fn saved(&self, index: TaskIndex) -> Option<&Saved> {
        self.saved.get(&index)
    }

    /// Of how many tasks there is a snapshot.
    pub(crate) fn saved_count(&self) -> usize {
        self.saved.len()
    }

    /// Keeps in mind where an open task can go on.
    pub(crate) fn save(&mut self, index: TaskIndex, saved: Saved) {
        self.saved.insert(index, saved);
    }

    /// The task's snapshot is of no use any more.
    pub(crate) fn drop_saved(&mut self, index: TaskIndex) -> Option<Saved> {
        self.saved.remove(&index)
    }

    /// Takes a live attempt from its agent: its task has ended, waits to be started again, or goes on elsewhere.
    pub(crate) fn finish(&mut self, index: TaskIndex, number: u32, after: TaskAfter, now: Timestamp) {
        let Entry::Occupied(mut entry) = self.live.entry(index) else { unreachable!("only a live attempt is finished") };
        let copies = entry.get_mut();
        self.paused -= u32::from(copies.are_paused());
        let agent = copies.get(number).map(|live| live.agent);
        assert!(copies.remove(number), "only a live attempt is finished");
        self.wanted.remove(&index);
        if let TaskAfter::Continues { failures, .. } = after {
            copies.failures = failures;
            self.paused += u32::from(copies.are_paused());
            return;
        }
        let copies = entry.remove();
        if !matches!(after, TaskAfter::Again { .. }) {
            self.lost.remove(&index);
            self.troubled.remove(&index);
        }
        match after {
            TaskAfter::Again { not_before, failures } => {
                let failed_at = agent.filter(|_| failures > copies.failures);
                self.give_back(index, Returned { attempts: copies.attempts, failures, not_before, failed_at }, now);
            }
            TaskAfter::Continues { .. } => {}
            TaskAfter::Succeeded => self.succeeded += 1,
            TaskAfter::Failed => self.failed += 1,
            TaskAfter::Cancelled => self.cancelled += 1,
            TaskAfter::Expired => self.expired += 1,
        }
    }

    /// An agent had trouble of its own with an open task. The failure that it comes to, if it is one too many.
    pub(crate) fn note_trouble(&mut self, index: TaskIndex, agent: AgentId, own: Own<'_>, max: u32) -> Option<Failure> {
        self.troubled.entry(index).or_default().note(agent, own, max)
    }

    /// Notes that a live attempt left the processor or went on. If that is news: whether its task is off the processor now.
    pub(crate) fn pause(&mut self, index: TaskIndex, number: u32, reason: Option<PauseReason>) -> Option<bool> {
        let copies = self.live.get_mut(&index)?;
        let was_paused = copies.are_paused();
        let live = copies.get_mut(number)?;
        let news = live.paused.is_some() != reason.is_some();
        live.paused = reason;
        let is_paused = copies.are_paused();
        self.paused = self.paused - u32::from(was_paused) + u32::from(is_paused);
        news.then_some(is_paused)
    }

    /// Lets tasks start whose pause before a retry is over.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((until, index)) = self.resting.first().copied().filter(|(until, _)| *until <= now) {
            self.resting.remove(&(until, index));
            self.list(index);
        }
    }

    /// What was brought for this task, to be compared.
    pub(crate) fn answers(&self, index: TaskIndex) -> &[Answer] {
        self.answers.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Keeps what an agent brought. The task must be with an agent.
    pub(crate) fn add_answer(&mut self, index: TaskIndex, answer: Answer) {
        self.answers.entry(index).or_default().push(answer);
    }

    /// Nothing of this task needs to be compared any more: it is about to end. Whether there was something.
    pub(crate) fn drop_answers(&mut self, index: TaskIndex) -> bool {
        self.answers.remove(&index).is_some()
    }

    /// Agents that brought something for this task, in order.
    fn tried(&self, index: TaskIndex) -> Vec<AgentId> {
        let mut agents: Vec<_> = self.answers(index).iter().map(|answer| answer.agent).collect();
        agents.sort_unstable();
        agents
    }

    /// Lets a returned task start.
    fn list(&mut self, index: TaskIndex) {
        if !self.answers(index).is_empty() {
            self.checks.entry(self.tried(index)).or_default().insert(index);
            self.checks_count += 1;
        } else if let Some(agent) = self.returned.get(&index).and_then(|returned| returned.failed_at) {
            self.shunning.entry(agent).or_default().insert(index);
            self.shunning_count += 1;
        } else {
            self.ready.insert(index);
        }
    }

    fn take_check(&mut self, index: TaskIndex) {
        let tried = self.tried(index);
        if let Some(tasks) = self.checks.get_mut(&tried) {
            self.checks_count -= u32::from(tasks.remove(&index));
            if tasks.is_empty() {
                self.checks.remove(&tried);
            }
        }
    }

    fn take_shunning(&mut self, by: AgentId, index: TaskIndex) {
        if let Some(tasks) = self.shunning.get_mut(&by) {
            self.shunning_count -= u32::from(tasks.remove(&index));
            if tasks.is_empty() {
                self.shunning.remove(&by);
            }
        }
    }

    /// When the next pause before a retry is over.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Ends the tasks that were never started as `state`, and lets nothing begin once more.
    pub(crate) fn stop_fresh(&mut self, state: TaskState) {
        self.fresh_ended.get_or_insert(state);
        self.wanted.clear();
    }

    /// Ends the first task as `state` that was started and is not with an agent.
    pub(crate) fn stop_next(&mut self, state: TaskState) -> Option<TaskIndex> {
        let (index, returned) = self.returned.first_key_value().map(|(index, returned)| (*index, *returned))?;
        // Its answers say by whom it is listed, so they are dropped after this.
        if !self.resting.remove(&(returned.not_before, index)) && !self.ready.remove(&index) {
            match returned.failed_at.filter(|_| self.answers(index).is_empty()) {
                Some(agent) => self.take_shunning(agent, index),
                None => self.take_check(index),
            }
        }
        self.returned.remove(&index);
        self.lost.remove(&index);
        self.troubled.remove(&index);
        *self.ended_mut(state) += 1;
        Some(index)
    }

    /// Whether started tasks wait to be started again.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Tasks that ended other than well, those never started included.
    pub(crate) fn ended_badly(&self) -> u32 {
        let fresh = if self.fresh_ended.is_some() { self.fresh_left() } else { 0 };
        self.failed + self.cancelled + self.expired + fresh
    }

    /// Whether the task was started and has ended.
    pub(crate) fn has_ended(&self, index: TaskIndex) -> bool {
        index < self.expanded && !self.live.contains_key(&index) && !self.returned.contains_key(&index)
    }

    /// Lets every task start that ended before it was started. Where a retry of the others begins, if there are any.
    pub(crate) fn reopen_fresh(&mut self) -> Option<Retrying> {
        self.fresh_ended = None;
        let started = self.failed + self.cancelled + self.expired;
        (started > 0).then_some(Retrying { from: 0, forgiven: self.failed })
    }

    /// Lets these tasks start again, which ended other than well, with their failures forgiven.
    pub(crate) fn reopen(&mut self, ended: &[EndedTask], now: Timestamp) {
        for task in ended {
            let EndedTask { attempts, failed_at, state, .. } = *task;
            let count = self.ended_mut(state);
            *count = count.saturating_sub(1);
            self.give_back(task.index, Returned { attempts, failures: 0, not_before: now, failed_at }, now);
        }
    }

    /// How many tasks stand how; `held_back`: nothing of the job may start.
    pub(crate) fn counts(&self, held_back: bool) -> TaskCounts {
        let starts = |index: &TaskIndex| {
            let returned = self.returned.get(index).filter(|_| self.answers(*index).is_empty());
            returned.is_some_and(|task| !self.rests(*index, task))
        };
        let moving = self.saved.keys().filter(|index| starts(index)).count() as u32;
        let moving = if held_back { 0 } else { moving };
        let mut counts = TaskCounts {
            running: self.live.len() as u32 - self.paused,
            paused: self.paused,
            moving,
            waiting: self.resting.len() as u32,
            succeeded: self.succeeded,
            failed: self.failed,
            cancelled: self.cancelled,
            expired: self.expired,
            ..TaskCounts::default()
        };
        *counts.get_mut(if held_back { TaskState::Waiting } else { TaskState::Queued }) +=
            self.startable() - self.checks_count - moving;
        for index in self.answers.keys() {
            match self.live.get(index) {
                Some(copies) if copies.are_paused() => counts.paused -= 1,
                Some(_) => counts.running -= 1,
                None => counts.waiting -= u32::from(self.returned.get(index).is_some_and(|task| self.rests(*index, task))),
            }
            counts.verifying += 1;
        }
        if let Some(state) = self.fresh_ended {
            *counts.get_mut(state) += self.fresh_left();
        }
        counts
    }

    /// Where the task is; `None`: the job has no such task.
    pub(crate) fn place(&self, index: TaskIndex) -> Option<Place<'_>> {
        if index >= self.size {
            return None;
        }
        if let Some(copies) = self.live.get(&index) {
            return Some(Place::Live(copies));
        }
        Some(match self.returned.get(&index) {
            Some(returned) if self.rests(index, returned) => Place::Resting { until: returned.not_before },
            Some(_) => Place::Ready,
            None if index >= self.expanded && self.fresh_ended.is_none() => Place::Fresh,
            None => Place::Ended,
        })
    }

    /// How many tasks of the job start before this one.
    pub(crate) fn ahead_of(&self, index: TaskIndex) -> u64 {
        match self.place(index) {
            Some(Place::Ready) if !self.answers(index).is_empty() => 0,
            Some(Place::Ready) => {
                let shunning: usize = self.shunning.values().map(|tasks| tasks.range(..index).count()).sum();
                u64::from(self.checks_count) + (self.ready.range(..index).count() + shunning) as u64
            }
            Some(Place::Fresh) => u64::from(self.startable()) - u64::from(self.size - index),
            Some(Place::Resting { .. }) => u64::from(self.startable()),
            Some(Place::Live(_) | Place::Ended) | None => 0,
        }
    }

    /// What does not add up, if anything.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let total = self.counts(false).total();
        if total != u64::from(self.size) {
            return Err(format!("its counts add up to {total} and it has {} tasks", self.size));
        }
        let paused = self.live.values().filter(|copies| copies.are_paused()).count();
        if paused != self.paused as usize {
            return Err(format!("{paused} tasks are paused and {} are counted", self.paused));
        }
        if let Some(index) = self.wanted.keys().find(|index| !self.live.contains_key(index)) {
            return Err(format!("task {index} is to begin once more and is with no agent"));
        }
        if let Some((index, _)) = self.live.iter().find(|(_, copies)| !copies.add_up()) {
            return Err(format!("task {index} is with no agent, or with one twice, or has an attempt beyond its newest"));
        }
        let checks: usize = self.checks.values().map(BTreeSet::len).sum();
        let misplaced =
            |(tried, tasks): (&Vec<AgentId>, &BTreeSet<TaskIndex>)| tasks.iter().any(|index| self.tried(*index) != *tried);
        if checks != self.checks_count as usize || self.checks.iter().any(misplaced) {
            return Err(format!("{checks} checks wait and {} are counted, or they wait for the wrong agents", self.checks_count));
        }
        let shunning: usize = self.shunning.values().map(BTreeSet::len).sum();
        let strayed = |(agent, tasks): (&AgentId, &BTreeSet<TaskIndex>)| {
            tasks.is_empty() || tasks.iter().any(|index| self.returned.get(index).is_none_or(|r| r.failed_at != Some(*agent)))
        };
        if shunning != self.shunning_count as usize || self.shunning.iter().any(strayed) {
            let counted = self.shunning_count;
            return Err(format!("{shunning} tasks shun an agent and {counted} are counted, or they failed elsewhere"));
        }
        if self.returned.len() != self.ready.len() + self.resting.len() + checks + shunning {
            let (ready, resting) = (self.ready.len(), self.resting.len());
            return Err(format!("{} tasks came back, of which {ready} are ready and {resting} rest", self.returned.len()));
        }
        if let Some(index) = self.ready.iter().find(|index| !self.returned.contains_key(index)) {
            return Err(format!("task {index} is ready and did not come back"));
        }
        let resting = |(until, index): &&(Timestamp, u32)| self.returned.get(index).is_none_or(|r| r.not_before != *until);
        if let Some((until, index)) = self.resting.iter().find(resting) {
            return Err(format!("task {index} rests until {until} by one list only"));
        }
        if let Some(index) = self.live.keys().find(|index| self.returned.contains_key(index)) {
            return Err(format!("task {index} is with an agent and waits"));
        }
        let open = |index: &TaskIndex| self.live.contains_key(index) || self.returned.contains_key(index);
        if let Some(index) = self.saved.keys().find(|index| !open(index)) {
            return Err(format!("task {index} is not open and has a snapshot"));
        }
        if let Some(index) = self.lost.keys().find(|index| !open(index)) {
            return Err(format!("task {index} is not open and its losses are counted"));
        }
        if let Some(index) = self.answers.keys().find(|index| !open(index)) {
            return Err(format!("task {index} is not open and waits to be compared"));
        }
        match self.live.keys().chain(self.returned.keys()).find(|index| **index >= self.expanded) {
            Some(index) => Err(format!("task {index} was started beyond the mark {}", self.expanded)),
            None => Ok(()),
        }
    }

    fn rests(&self, index: TaskIndex, returned: &Returned) -> bool {
        self.resting.contains(&(returned.not_before, index))
    }

    fn fresh_left(&self) -> u32 {
        self.size - self.expanded
    }

    fn give_back(&mut self, index: TaskIndex, returned: Returned, now: Timestamp) {
        self.returned.insert(index, returned);
        if returned.not_before <= now {
            self.list(index);
        } else {
            self.resting.insert((returned.not_before, index));
        }
    }

    fn ended_mut(&mut self, state: TaskState) -> &mut u32 {
        match state {
            TaskState::Succeeded => &mut self.succeeded,
            TaskState::Failed => &mut self.failed,
            TaskState::Expired => &mut self.expired,
            TaskState::Cancelled
            | TaskState::Queued
            | TaskState::Waiting
            | TaskState::Running
            | TaskState::Paused
            | TaskState::Moving
            | TaskState::Verifying => &mut self.cancelled,
        }
    }
}
