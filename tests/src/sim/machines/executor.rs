//! Simulated executors: they take time, freeze, thaw and die, and never run while they should not.

use std::{collections::VecDeque, time::Duration};

use lull_session::{Code, Done, Event, Plan, StartError};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    message::{Build, Outcome, Payload},
    state::{Failure, Usage},
    time::Timestamp,
};

use crate::sim::{
    events::{MachineEvent, MachineId, News},
    judged::promise::{Checked, Promise, Violation, hold},
    machines::machine::Power,
    options::{Kind, Mutation},
    people::plan::{self, Fate},
    store,
    world::World,
};

/// A slot's process.
#[derive(Debug, Default)]
pub(crate) struct Executor {
    /// Counts what makes scheduled news untrue.
    tick: u64,
    frozen: bool,
    state: State,
    pub spent: Spent,
}

/// What becomes of what was done of a task when its executor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    /// Lost: the version cannot be moved.
    Fixed,
    /// Lost: it could have been moved, and runs in a plain build.
    Plain,
    /// It is in a snapshot, for whoever can have that.
    Movable,
}

/// What a slot did with its time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// On the processor.
    pub ran: Duration,
    /// What that came to in a plain build.
    pub progress: Duration,
    pub starting: Duration,
    /// Snapshots of what goes on.
    pub writing: Duration,
}

impl Spent {
    fn run(&mut self, time: Duration, cost_percent: u32) {
        self.ran += time;
        self.progress += time * 100 / cost_percent;
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Starting {
        code: Digest,
        each: Duration,
        cost_percent: u32,
        nature: Nature,
        since: Timestamp,
    },
    Alive {
        /// What it has loaded.
        code: Digest,
        /// The mean time of a task of its job.
        each: Duration,
        /// What it takes of the plain build's time, in percent.
        cost_percent: u32,
        nature: Nature,
        queue: VecDeque<Run>,
        /// How long the front has still to run, as of `since`.
        left: Duration,
        /// Since when it is on the processor.
        since: Option<Timestamp>,
    },
    Dying,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    attempt: AttemptId,
    input: u64,
    fate: Fate,
    /// What is left of it from where it begins, in a plain build.
    length: Duration,
    /// What was done of it before it came here.
    done: Duration,
}

impl Executor {
    /// The process is gone with the agent's.
    pub(crate) fn vanish(&mut self, now: Timestamp) {
        if let State::Starting { since, .. } = self.state {
            self.spent.starting += now.since(since);
        }
        *self = Self { tick: self.tick + 1, spent: self.spent, ..Self::default() };
    }

    /// It leaves the processor.
    pub(crate) fn suspend(&mut self, now: Timestamp) {
        self.tick += u64::from(matches!(self.state, State::Alive { .. }));
        if let State::Alive { cost_percent, left, since, .. } = &mut self.state
            && let Some(began) = since.take()
        {
            let ran = now.since(began);
            *left = left.saturating_sub(ran);
            self.spent.run(ran, *cost_percent);
        }
    }

    /// What is on the processor.
    pub(crate) fn running(&self) -> Option<AttemptId> {
        match &self.state {
            State::Alive { queue, since: Some(_), .. } => queue.front().map(|run| run.attempt),
            State::Alive { .. } | State::None | State::Starting { .. } | State::Dying => None,
        }
    }

    /// What is done of the front, if it is this attempt.
    pub(crate) fn progress(&self, attempt: AttemptId, now: Timestamp) -> Option<Duration> {
        let State::Alive { queue, cost_percent, left, since, .. } = &self.state else { return None };
        let front = queue.front().filter(|front| front.attempt == attempt)?;
        let left = left.saturating_sub(since.map_or(Duration::ZERO, |since| now.since(since)));
        Some(front.done + front.length.saturating_sub(left * 100 / *cost_percent))
    }

    /// What it executes, and what is done of that.
    pub(crate) fn under_way(&self, now: Timestamp) -> Option<(AttemptId, Duration, Nature)> {
        let State::Alive { queue, nature, .. } = &self.state else { return None };
        let attempt = queue.front()?.attempt;
        Some((attempt, self.progress(attempt, now)?, *nature))
    }

    /// Whether the attempt is with it.
    pub(crate) fn has(&self, attempt: AttemptId) -> bool {
        let State::Alive { queue, .. } = &self.state else { return false };
        queue.iter().any(|run| run.attempt == attempt)
    }

    /// What it executes, and what was done of that here.
    pub(crate) fn done_here(&self, now: Timestamp) -> Option<(AttemptId, Duration)> {
        let State::Alive { queue, .. } = &self.state else { return None };
        let front = queue.front()?;
        Some((front.attempt, self.progress(front.attempt, now)?.saturating_sub(front.done)))
    }

    /// What it did with its time until now.
    pub(crate) fn spent_by(&self, now: Timestamp) -> Spent {
        let mut spent = self.spent;
        match &self.state {
            State::Alive { since: Some(since), cost_percent, .. } => spent.run(now.since(*since), *cost_percent),
            State::Starting { since, .. } => spent.starting += now.since(*since),
            State::None | State::Alive { since: None, .. } | State::Dying => {}
        }
        spent
    }

    /// What is or was on the processor last, and what is done of it.
    pub(crate) fn front(&self, now: Timestamp) -> Option<(AttemptId, Duration)> {
        let State::Alive { queue, .. } = &self.state else { return None };
        let attempt = queue.front()?.attempt;
        Some((attempt, self.progress(attempt, now)?))
    }

    /// The mark that news of now must carry.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self.state, State::None)
    }
}

/// The number in an input.
pub(crate) fn input_of(input: &Payload) -> Option<u64> {
    match input {
        Payload::Inline(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Payload::Blob(_) => None,
    }
}

impl World {
    /// A warm executor turns to another job of the same code.
    pub(crate) fn turn_executor(&mut self, id: MachineId, slot: u16, plan: &Plan) -> Checked {
        let agent = self.machines[id].agent;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let fits = match &mut executor.state {
            State::Alive { code, each, queue, .. } => {
                *each = plan::mean_time(&plan.brief.args);
                let codes = [Build::Plain, Build::Migratable].into_iter().filter_map(|build| plan.code(build));
                queue.is_empty() && codes.into_iter().any(|other| other.blob().digest == *code)
            }
            // It has died: the news is on its way.
            State::Dying => true,
            State::None | State::Starting { .. } => false,
        };
        let what = || format!("{agent} turns the executor in slot {slot} to {}, which it does not fit", plan.brief.job);
        hold(Promise::Bounded, fits, what, &[agent.into(), plan.brief.job.into()])
    }

    pub(crate) fn start_executor(&mut self, id: MachineId, slot: u16, plan: &Plan, build: Build) -> Checked {
        let machine = &self.machines[id];
        let (agent, job) = (machine.agent, plan.brief.job);
        let executor = &machine.slots[usize::from(slot)];
        let what = || format!("{agent} starts an executor in slot {slot}, which has one");
        hold(Promise::Bounded, executor.is_none(), what, &[agent.into(), job.into()])?;
        let version = plan.manifest.function.trim_start_matches("function-").parse().unwrap_or(0);
        let engine = &machine.config.machine.engine;
        let (right, compiles) = match (build, plan.code(build)) {
            (Build::Plain, Some(Code::Artifact(blob))) => (blob == store::artifact(version, engine), false),
            (Build::Plain, Some(Code::Module(blob))) => (blob == store::module(version), true),
            (Build::Migratable, Some(Code::Artifact(blob))) => (blob == store::movable_artifact(version, engine), false),
            (Build::Migratable, Some(Code::Module(blob))) => (blob == store::movable_module(version), true),
            (_, None) => (false, false),
        };
        hold(Promise::Sound, right, || format!("{agent} loads another engine's artifact"), &[agent.into(), job.into()])?;
        let code = plan.code(build).map_or(Digest::of(&[]), |code| code.blob().digest);
        let each = plan::mean_time(&plan.brief.args);
        let cost_percent = if build == Build::Migratable { store::cost_percent(version.into()) } else { 100 };
        let nature = match build {
            Build::Migratable => Nature::Movable,
            Build::Plain if plan.code(Build::Migratable).is_some() => Nature::Plain,
            Build::Plain => Nature::Fixed,
        };
        let since = self.now;
        let fails = self.strikes(Kind::Executor, 0.001);
        let time = if compiles { self.dice.machines.seconds(0.1, 0.6) } else { self.dice.machines.seconds(0.003, 0.05) };
        let kind = self.dice.machines.number(0, 8) as u8;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let state = State::Starting { code, each, cost_percent, nature, since };
        *executor = Executor { tick: executor.tick + 1, frozen: false, state, spent: executor.spent };
        let tick = executor.tick;
        let news = if fails { News::NotStarted(kind) } else { News::Started };
        self.push_machine(id, self.now + time, MachineEvent::Executor { slot, tick, news });
        Ok(())
    }

    pub(crate) fn run_attempt(
        &mut self,
        id: MachineId,
        slot: u16,
        attempt: AttemptId,
        input: &Payload,
        resume: Option<BlobRef>,
    ) -> Checked {
        let input = crate::sim::machines::machine_effects::number_of(attempt, input);
        let agent = self.machines[id].agent;
        let held = self.machines[id].slots.iter().any(|executor| match &executor.state {
            State::Alive { queue, .. } => queue.iter().any(|run| run.attempt == attempt),
            State::None | State::Starting { .. } | State::Dying => false,
        });
        hold(Promise::Bounded, !held, || format!("{agent} runs {attempt} twice at once"), &[attempt.into(), agent.into()])?;
        let done = self.done_before(id, attempt, resume)?;
        self.check_outage(attempt, done)?;
        self.note_repeated(attempt.task, done);
        let options = self.options.clone();
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        match &mut executor.state {
            State::Alive { each, cost_percent, queue, left, .. } => {
                let (fate, whole) = plan::fate(&options, attempt, *each);
                let length = whole.saturating_sub(done);
                if queue.is_empty() {
                    *left = length * *cost_percent / 100;
                }
                queue.push_back(Run { attempt, input, fate, length, done });
                self.run_front(id, slot)
            }
            // It has died: the news is on its way.
            State::Dying => Ok(()),
            State::None | State::Starting { .. } => {
                let what = format!("{agent} runs {attempt} in slot {slot}, which has no executor");
                Err(Violation::new(Promise::Bounded, what, &[attempt.into(), agent.into()]))
            }
        }
    }

    /// Puts the front on the processor, if it may run.
    pub(crate) fn run_front(&mut self, id: MachineId, slot: u16) -> Checked {
        let now = self.now;
        let awake = self.machines[id].power == Power::On;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let State::Alive { queue, left, since, .. } = &mut executor.state else { return Ok(()) };
        let (Some(front), None, false, true) = (queue.front(), *since, executor.frozen, awake) else { return Ok(()) };
        *since = Some(now);
        executor.tick += 1;
        let (tick, ends) = (executor.tick, now + *left);
        if front.fate != Fate::Hangs {
            self.push_machine(id, ends, MachineEvent::Executor { slot, tick, news: News::FrontEnds });
        }
        self.check_owner(id)
    }

    /// The front stands still for so long.
    pub(crate) fn hold_up(&mut self, id: MachineId, slot: u16, time: Duration) -> Checked {
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let State::Alive { since: Some(_), .. } = &executor.state else { return Ok(()) };
        executor.suspend(now);
        executor.spent.writing += time;
        let State::Alive { queue, left, since, .. } = &mut executor.state else { return Ok(()) };
        *since = Some(now + time);
        let (tick, ends) = (executor.tick, now + time + *left);
        if queue.front().is_some_and(|front| front.fate != Fate::Hangs) {
            self.push_machine(id, ends, MachineEvent::Executor { slot, tick, news: News::FrontEnds });
        }
        Ok(())
    }

    pub(crate) fn freeze_executor(&mut self, id: MachineId, slot: u16) {
        if self.options.mutation == Some(Mutation::IgnoreFreeze) {
            return;
        }
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        executor.frozen = true;
        executor.suspend(now);
    }

    pub(crate) fn thaw_executor(&mut self, id: MachineId, slot: u16) -> Checked {
        self.machines[id].slots[usize::from(slot)].frozen = false;
        self.run_front(id, slot)
    }

    pub(crate) fn kill_executor(&mut self, id: MachineId, slot: u16) {
        let time = self.dice.machines.seconds(0.001, 0.01);
        let now = self.now;
        self.note_left(id, slot);
        let machine = &mut self.machines[id];
        let executor = &mut machine.slots[usize::from(slot)];
        match executor.state {
            State::None | State::Starting { .. } => {
                executor.vanish(now);
                machine.own.push_back(Event::Gone { slot, failed: None });
            }
            State::Alive { .. } | State::Dying => {
                executor.suspend(now);
                executor.tick += 1;
                executor.state = State::Dying;
                let tick = executor.tick;
                self.push_machine(id, self.now + time, MachineEvent::Executor { slot, tick, news: News::Gone { failed: None } });
            }
        }
    }

    pub(crate) fn executor_news(&mut self, id: MachineId, slot: u16, tick: u64, news: News) -> Checked {
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        if executor.tick != tick {
            return Ok(());
        }
        match news {
            News::Started => {
                let State::Starting { code, each, cost_percent, nature, since } = executor.state else { return Ok(()) };
                executor.spent.starting += now.since(since);
                executor.state =
                    State::Alive { code, each, cost_percent, nature, queue: VecDeque::new(), left: Duration::ZERO, since: None };
                self.tell(id, Event::Ready { slot })
            }
            News::NotStarted(kind) => {
                executor.vanish(now);
                let error = match kind {
                    0 => StartError::Module("it does not load".into()),
                    1..4 => StartError::Artifact("it was made for another version".into()),
                    _ => StartError::Executor("no memory".into()),
                };
                self.tell(id, Event::StartFailed { slot, error })
            }
            News::FrontEnds => self.front_ends(id, slot),
            News::Suspended { attempt } => self.suspended(id, slot, attempt),
            News::Gone { failed } => {
                executor.vanish(now);
                self.tell(id, Event::Gone { slot, failed })
            }
        }
    }

    fn front_ends(&mut self, id: MachineId, slot: u16) -> Checked {
        let (agent, options) = (self.machines[id].agent, self.options.clone());
        self.note_work(id, slot);
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let State::Alive { cost_percent, queue, left, since, .. } = &mut executor.state else { return Ok(()) };
        let Some(run) = queue.pop_front() else { return Ok(()) };
        let cost_percent = *cost_percent;
        if let Some(since) = since.take() {
            executor.spent.run(now.since(since), cost_percent);
        }
        *left = queue.front().map_or(Duration::ZERO, |next| next.length * cost_percent / 100);
        let outcome = match run.fate {
            Fate::Succeeds { large } => {
                let lie = plan::lie(&options, agent, run.attempt, run.input);
                let output = lie.unwrap_or_else(|| plan::output(run.input));
                let output = if large { Payload::Blob(BlobRef::of(output.as_bytes())) } else { Payload::inline(output) };
                Outcome::Succeeded { output }
            }
            Fate::Exits => Outcome::Failed(Failure::Exit { code: 1 }),
            Fate::Traps => Outcome::Failed(Failure::Trap { message: "unreachable".into(), backtrace: Vec::new() }),
            Fate::Hangs => unreachable!("what hangs does not end"),
            Fate::KillsItsExecutor => {
                executor.vanish(now);
                let failed = Some((run.attempt, Failure::ExecutorDied { how: "signal 11".into() }));
                return self.tell(id, Event::Gone { slot, failed });
            }
        };
        let usage = Usage { wall_us: ((run.done + run.length) * cost_percent / 100).as_micros() as u64, ..Usage::default() };
        let done = Done { attempt: run.attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage };
        self.summary.runs += 1;
        self.run_front(id, slot)?;
        self.tell(id, Event::Done { slot, done: Box::new(done) })
    }
}
