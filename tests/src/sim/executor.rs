//! Simulated executors: they take time, freeze, thaw and die, and never run while they should not.

use std::{collections::VecDeque, time::Duration};

use lull_agent::session::{Code, Done, Event, Plan, StartError};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    message::{Build, Outcome, Payload},
    state::{Failure, Usage},
    time::Timestamp,
};

use super::{
    events::{MachineEvent, MachineId, News},
    machine::Power,
    options::{Kind, Mutation},
    plan::{self, Fate},
    promise::{Checked, Promise, Violation, hold},
    store,
    world::World,
};

/// A slot's process.
#[derive(Debug, Default)]
pub struct Executor {
    /// Counts what makes scheduled news untrue.
    tick: u64,
    frozen: bool,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Starting {
        code: Digest,
        each: Duration,
    },
    Alive {
        /// What it has loaded.
        code: Digest,
        /// The mean time of a task of its job.
        each: Duration,
        queue: VecDeque<Run>,
        /// What the front has still to do, as of `since`.
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
    /// What is left of it, from where it begins.
    length: Duration,
    /// What was done of it before it came here.
    done: Duration,
}

impl Executor {
    /// The process is gone with the agent's.
    pub fn vanish(&mut self) {
        *self = Self { tick: self.tick + 1, ..Self::default() };
    }

    /// It leaves the processor.
    pub fn suspend(&mut self, now: Timestamp) {
        self.tick += u64::from(matches!(self.state, State::Alive { .. }));
        if let State::Alive { left, since, .. } = &mut self.state
            && let Some(began) = since.take()
        {
            *left = left.saturating_sub(now.since(began));
        }
    }

    /// What is on the processor.
    pub fn running(&self) -> Option<AttemptId> {
        match &self.state {
            State::Alive { queue, since: Some(_), .. } => queue.front().map(|run| run.attempt),
            State::Alive { .. } | State::None | State::Starting { .. } | State::Dying => None,
        }
    }

    /// What is done of the front, if it is this attempt.
    pub fn progress(&self, attempt: AttemptId, now: Timestamp) -> Option<Duration> {
        let State::Alive { queue, left, since, .. } = &self.state else { return None };
        let front = queue.front().filter(|front| front.attempt == attempt)?;
        let left = left.saturating_sub(since.map_or(Duration::ZERO, |since| now.since(since)));
        Some(front.done + front.length.saturating_sub(left))
    }

    /// What is or was on the processor last, and what is done of it.
    pub fn front(&self, now: Timestamp) -> Option<(AttemptId, Duration)> {
        let State::Alive { queue, .. } = &self.state else { return None };
        let attempt = queue.front()?.attempt;
        Some((attempt, self.progress(attempt, now)?))
    }

    /// The mark that news of now must carry.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    pub fn is_none(&self) -> bool {
        matches!(self.state, State::None)
    }
}

/// The number in an input.
pub fn input_of(input: &Payload) -> Option<u64> {
    match input {
        Payload::Inline(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Payload::Blob(_) => None,
    }
}

/// The mean time of a task, as its function reads it.
fn mean_time(plan: &Plan) -> Duration {
    Duration::from_micros(plan.terms.args.first().and_then(|each| each.parse().ok()).unwrap_or(1))
}

impl World {
    /// A warm executor turns to another job of the same code.
    pub fn turn_executor(&mut self, id: MachineId, slot: u16, plan: &Plan) -> Checked {
        let agent = self.machines[id].agent;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let fits = match &mut executor.state {
            State::Alive { code, each, queue, .. } => {
                *each = mean_time(plan);
                let codes = [Build::Plain, Build::Migratable].into_iter().filter_map(|build| plan.code(build));
                queue.is_empty() && codes.into_iter().any(|other| other.blob().digest == *code)
            }
            // It has died: the news is on its way.
            State::Dying => true,
            State::None | State::Starting { .. } => false,
        };
        let what = || format!("{agent} turns the executor in slot {slot} to {}, which it does not fit", plan.terms.job);
        hold(Promise::Bounded, fits, what, &[agent.into(), plan.terms.job.into()])
    }

    pub fn start_executor(&mut self, id: MachineId, slot: u16, plan: &Plan, build: Build) -> Checked {
        let machine = &self.machines[id];
        let (agent, job) = (machine.agent, plan.terms.job);
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
        let each = mean_time(plan);
        let fails = self.strikes(Kind::Executor, 0.001);
        let time = if compiles { self.dice.machines.seconds(0.1, 0.6) } else { self.dice.machines.seconds(0.003, 0.05) };
        let kind = self.dice.machines.number(0, 8) as u8;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        *executor = Executor { tick: executor.tick + 1, frozen: false, state: State::Starting { code, each } };
        let tick = executor.tick;
        let news = if fails { News::NotStarted(kind) } else { News::Started };
        self.push_machine(id, self.now + time, MachineEvent::Executor { slot, tick, news });
        Ok(())
    }

    pub fn run_attempt(
        &mut self,
        id: MachineId,
        slot: u16,
        attempt: AttemptId,
        input: &Payload,
        resume: Option<BlobRef>,
    ) -> Checked {
        let input = super::machine_effects::number_of(attempt, input);
        let agent = self.machines[id].agent;
        let held = self.machines[id].slots.iter().any(|executor| match &executor.state {
            State::Alive { queue, .. } => queue.iter().any(|run| run.attempt == attempt),
            State::None | State::Starting { .. } | State::Dying => false,
        });
        hold(Promise::Bounded, !held, || format!("{agent} runs {attempt} twice at once"), &[attempt.into(), agent.into()])?;
        let done = self.done_before(id, attempt, resume)?;
        self.check_outage(attempt, done)?;
        let options = self.options.clone();
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        match &mut executor.state {
            State::Alive { each, queue, left, .. } => {
                let (fate, whole) = plan::fate(&options, attempt, *each);
                let length = whole.saturating_sub(done);
                if queue.is_empty() {
                    *left = length;
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
    pub fn run_front(&mut self, id: MachineId, slot: u16) -> Checked {
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

    pub fn freeze_executor(&mut self, id: MachineId, slot: u16) {
        if self.options.mutation == Some(Mutation::IgnoreFreeze) {
            return;
        }
        let now = self.now;
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        executor.frozen = true;
        executor.suspend(now);
    }

    pub fn thaw_executor(&mut self, id: MachineId, slot: u16) -> Checked {
        self.machines[id].slots[usize::from(slot)].frozen = false;
        self.run_front(id, slot)
    }

    pub fn kill_executor(&mut self, id: MachineId, slot: u16) {
        let time = self.dice.machines.seconds(0.001, 0.01);
        let machine = &mut self.machines[id];
        let executor = &mut machine.slots[usize::from(slot)];
        match executor.state {
            State::None | State::Starting { .. } => {
                executor.vanish();
                machine.own.push_back(Event::Gone { slot, failed: None });
            }
            State::Alive { .. } | State::Dying => {
                executor.tick += 1;
                executor.state = State::Dying;
                let tick = executor.tick;
                self.push_machine(id, self.now + time, MachineEvent::Executor { slot, tick, news: News::Gone { failed: None } });
            }
        }
    }

    pub fn executor_news(&mut self, id: MachineId, slot: u16, tick: u64, news: News) -> Checked {
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        if executor.tick != tick {
            return Ok(());
        }
        match news {
            News::Started => {
                let State::Starting { code, each } = executor.state else { return Ok(()) };
                executor.state = State::Alive { code, each, queue: VecDeque::new(), left: Duration::ZERO, since: None };
                self.tell(id, Event::Ready { slot })
            }
            News::NotStarted(kind) => {
                executor.vanish();
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
                executor.vanish();
                self.tell(id, Event::Gone { slot, failed })
            }
        }
    }

    fn front_ends(&mut self, id: MachineId, slot: u16) -> Checked {
        let (agent, options) = (self.machines[id].agent, self.options.clone());
        let executor = &mut self.machines[id].slots[usize::from(slot)];
        let State::Alive { queue, left, since, .. } = &mut executor.state else { return Ok(()) };
        let Some(run) = queue.pop_front() else { return Ok(()) };
        *since = None;
        *left = queue.front().map_or(Duration::ZERO, |next| next.length);
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
                executor.vanish();
                let failed = Some((run.attempt, Failure::ExecutorDied { how: "signal 11".into() }));
                return self.tell(id, Event::Gone { slot, failed });
            }
        };
        let usage = Usage { wall_us: (run.done + run.length).as_micros() as u64, ..Usage::default() };
        let done = Done { attempt: run.attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage };
        self.summary.runs += 1;
        self.run_front(id, slot)?;
        self.tell(id, Event::Done { slot, done: Box::new(done) })
    }
}
