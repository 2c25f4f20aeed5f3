//! The world: its parts, its queue, and the loop that lets things happen.

use std::{collections::BTreeMap, time::Duration};

use lull_scheduler::effect::Change;
use lull_shared::{
    id::{AgentId, JobId, TaskId, Term},
    identity::Authority,
    message::{ToAgent, ToCoordinator},
    state::Intake,
    time::Timestamp,
};

use super::{
    coordinator::Coordinator,
    dice::{Dice, mixed},
    events::{Queue, What},
    judged::{
        ledger::Ledger,
        promise::{Checked, Promise, Violation, hold},
        report::Summary,
        trace::Trace,
        waste::Waste,
    },
    machines::{
        executor::Nature,
        link::Stream,
        machine::{Machine, Power},
        snapshots::Snapshots,
    },
    misfortune::{faults::Fault, outages::Outages},
    options::Options,
    people::{
        plan::{self, Planned},
        users::Wish,
    },
    store::Database,
    week::Figures,
};

/// Monday, 2026-11-23, 00:00 UTC.
const MONDAY: Timestamp = Timestamp::from_millis(1_795_392_000_000);
/// How long agents may take to settle when the last job has ended.
const SETTLING: Duration = Duration::from_secs(600);

/// Chance, by concern.
pub(super) struct AllDice {
    pub links: Dice,
    pub machines: Dice,
    pub coordinators: Dice,
    pub people: Dice,
    pub faults: Dice,
}

/// Everything.
pub(super) struct World {
    pub options: Options,
    pub now: Timestamp,
    pub queue: Queue,
    pub dice: AllDice,
    pub database: Database,
    pub ledger: Ledger,
    pub machines: Vec<Machine>,
    pub coordinators: Vec<Coordinator>,
    pub links: Vec<Stream>,
    pub streams: u64,
    /// The newest that a coordinator was given.
    pub term: Term,
    pub fetches: u64,
    pub snapshots: Snapshots,
    pub outages: Outages,
    pub planned: Vec<Planned>,
    /// What became of the planned jobs: submitted, or refused for good.
    pub planned_jobs: BTreeMap<usize, Option<JobId>>,
    pub asks: u64,
    pub open_asks: BTreeMap<u64, Wish>,
    pub healed: bool,
    /// When all jobs must have ended.
    pub deadline: Option<Timestamp>,
    /// When the last job ended.
    settled_at: Option<Timestamp>,
    pub summary: Summary,
    /// Of the week so far, and when it is over.
    pub figures: Figures,
    pub week: Option<Figures>,
    /// What was done of tasks whose executors ended.
    pub left: BTreeMap<TaskId, (Duration, Nature)>,
    pub waste: Waste,
    pub trace: Trace,
    digest: u64,
    events: u64,
    start: Timestamp,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let dice = |concern| Dice::new(options.seed, concern);
        // Some hour of the week, so that each seed sees other people at work.
        let hour = match options.week {
            Some(_) => 0,
            None if options.steady => 22,
            None => dice(1).number(0, 168),
        };
        let start = MONDAY + Duration::from_secs(hour * 3600);
        let database = Database::new(options.seed, options.agents, start);
        let authority = Authority::of(&database.authority);
        let coordinators = ["one", "two"].map(|name| Coordinator::new(name, &database)).into();
        Self {
            now: start,
            queue: Queue::default(),
            dice: AllDice { links: dice(4), machines: dice(5), coordinators: dice(6), people: dice(7), faults: dice(8) },
            ledger: Ledger::new(options.clone()),
            machines: Machine::fleet(&options, &authority, start),
            coordinators,
            database,
            links: Vec::new(),
            streams: 0,
            term: Term::default(),
            fetches: 0,
            snapshots: Snapshots::default(),
            outages: Outages::default(),
            planned: plan::jobs(&options, start),
            planned_jobs: BTreeMap::new(),
            asks: 0,
            open_asks: BTreeMap::new(),
            healed: false,
            deadline: None,
            settled_at: None,
            summary: Summary::default(),
            figures: Figures::default(),
            week: None,
            left: BTreeMap::new(),
            waste: Waste::default(),
            trace: Trace::new(options.trace),
            digest: options.seed,
            events: 0,
            start,
            options,
        }
    }

    /// Lets everything happen, until all is done or a promise is broken.
    pub(super) fn run(&mut self) -> Checked {
        self.begin();
        while let Some((at, what)) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            self.happens(what)?;
            self.check_left_behind()?;
            if self.events.is_multiple_of(self.options.audit_every) {
                self.audit()?;
            }
            if self.healed && self.is_over()? {
                break;
            }
        }
        self.audit()?;
        self.check_end()
    }

    fn begin(&mut self) {
        let second = Duration::from_secs(1);
        self.queue.push(self.start, What::StartCoordinator { coordinator: 0 });
        self.queue.push(self.start + second, What::StartCoordinator { coordinator: 1 });
        let spread = Duration::from_secs(60);
        for machine in 0..self.machines.len() {
            let at = self.start + self.dice.machines.between(Duration::ZERO, spread);
            self.queue.push(at, What::Boot { machine });
            if !self.options.steady && self.options.week.is_none() {
                let at = self.start + self.dice.machines.between(Duration::ZERO, spread * 5);
                self.queue.push(at, What::OwnerTurns { machine });
            }
        }
        for (number, planned) in self.planned.iter().enumerate() {
            self.queue.push(planned.at, What::Ask { wish: Wish::Submit(number) });
        }
        if (!self.options.steady && self.options.week.is_none()) || self.options.faults != super::Level::None {
            self.schedule_faults();
        }
        let night = Duration::from_secs(u64::from(self.options.hours) * 3600);
        if let Some(misfortune) = self.options.misfortune {
            self.queue.push(self.start + night / 2, What::Fault(Fault::Misfortune(misfortune)));
        }
        if self.options.week.is_some() {
            self.begin_week();
            return self.queue.push(self.start + night, What::WeekEnds);
        }
        self.queue.push(self.start + night, What::Heal);
    }

    fn happens(&mut self, what: What) -> Checked {
        self.digest_event(&what);
        match what {
            What::Machine { machine, life, what } => self.machine_event(machine, life, what)?,
            What::Boot { machine } => self.boot(machine)?,
            What::WakeUp { machine } => self.wake_up(machine)?,
            What::OwnerTurns { machine } => self.owner_turns(machine)?,
            What::Desk { machine } => self.desk_acts(machine)?,
            What::ToAgent { link, frame } => self.agent_hears(link, frame)?,
            What::ToCoordinator { link, messages } => self.coordinator_hears(link, messages)?,
            What::AgentSeesEnd { link } => self.agent_sees_end(link)?,
            What::CoordinatorSeesEnd { link } => self.coordinator_sees_end(link),
            What::Gossip { capacity } => self.gossip_arrives(*capacity),
            What::Coordinator { coordinator, life, what } => self.coordinator_event(coordinator, life, what)?,
            What::StartCoordinator { coordinator } => self.start_coordinator(coordinator),
            What::Ask { wish } => self.ask(wish),
            What::Arrives { coordinator, life, input } => self.request_arrives(coordinator, life, *input),
            What::Answered { number, reply } => self.answered(number, reply)?,
            What::GivesUp { number } => self.gives_up(number),
            What::Fault(fault) => self.fault(fault)?,
            What::Heal => self.heal()?,
            What::WeekEnds => self.week_ends()?,
        }
        Ok(())
    }

    /// Whether all jobs have ended and the agents had time to settle.
    fn is_over(&mut self) -> Result<bool, Violation> {
        if let Some(settled_at) = self.settled_at {
            if !self.events.is_multiple_of(64) {
                return Ok(false);
            }
            if !self.ledger.all_ended() {
                self.settled_at = None;
            }
            // A laptop that has just woken up has its words to say; one that never does is found.
            let patience = if self.all_is_said() { SETTLING } else { SETTLING * 10 };
            return Ok(self.now > settled_at + patience);
        }
        if self.events.is_multiple_of(256) && self.planned_jobs.len() == self.planned.len() && self.ledger.all_ended() {
            self.settled_at = Some(self.now);
        }
        if self.deadline.is_some_and(|deadline| self.now > deadline) {
            return Err(self.why_it_does_not_end());
        }
        Ok(false)
    }

    /// Whether no machine that is on and belongs here has results or attempts.
    fn all_is_said(&self) -> bool {
        self.machines.iter().filter(|machine| machine.power == Power::On && !machine.is_old()).all(|machine| {
            let revoked = self.ledger.intakes.get(&machine.agent) == Some(&Intake::Revoked);
            let status = machine.session.as_ref().filter(|_| !revoked).map(|session| session.status(self.now));
            status.is_none_or(|status| status.outbox == 0 && status.waiting == 0)
        })
    }

    /// Every core agrees with itself, and the leader with what was committed.
    fn audit(&mut self) -> Checked {
        self.summary.audits += 1;
        for coordinator in &self.coordinators {
            let Some(leader) = coordinator.leader() else { continue };
            if leader.is_settled() {
                leader.scheduler.audit().map_err(|what| Violation::new(Promise::Sound, what, &[]))?;
            }
        }
        if let Some(leader) = self.leader().filter(|leader| leader.is_settled()) {
            for job in self.ledger.jobs.keys() {
                self.check_job(leader, *job)?;
            }
        }
        if self.options.audit_every > 1 {
            self.machines.iter().filter_map(|machine| machine.session.as_ref()).for_each(|session| session.audit());
        }
        let waiting = self.open_asks.len();
        hold(Promise::Bounded, waiting <= 10_000, || format!("{waiting} people wait"), &[])
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, self.events, line);
    }

    pub(super) fn trace_to_agent(&mut self, agent: AgentId, message: &ToAgent) {
        if self.options.trace {
            let words = match message {
                ToAgent::Brief(brief) => format!("Brief({})", brief.job),
                ToAgent::Assign(list) => format!("Assign({})", list_of(list.iter().map(|one| one.attempt))),
                ToAgent::Recall { attempts, reason } => format!("Recall({}: {reason:?})", list_of(attempts)),
                ToAgent::Acknowledge { attempts } => format!("Acknowledge({})", list_of(attempts)),
                other => format!("{other:?}"),
            };
            self.note(|| format!("{agent} hears {words}"));
        }
    }

    pub(super) fn trace_to_coordinator(&mut self, agent: AgentId, message: &ToCoordinator) {
        if self.options.trace {
            let words = match message {
                ToCoordinator::Hello(hello) => format!("Hello(holding {})", list_of(&hello.holding)),
                ToCoordinator::Started { attempts } => format!("Started({})", list_of(attempts)),
                ToCoordinator::Finished(list) => format!("Finished({})", list_of(list.iter().map(|one| one.attempt))),
                ToCoordinator::Released { attempts, reason } => format!("Released({}: {reason:?})", list_of(attempts)),
                ToCoordinator::Paused { attempt, reason } => format!("Paused({attempt}: {reason:?})"),
                ToCoordinator::Saved { attempt, snapshot } => format!("Saved({attempt}: {})", snapshot.blob.digest),
                ToCoordinator::Refused { attempt, reason } => format!("Refused({attempt}: {reason})"),
                ToCoordinator::Heartbeat { frame_read, holding } => format!("Heartbeat({frame_read}, {})", list_of(holding)),
                ToCoordinator::Remains(remains) => format!("Remains({})", remains.attempt),
                other @ (ToCoordinator::Capacity(_)
                | ToCoordinator::Log(_)
                | ToCoordinator::Blobs(_)
                | ToCoordinator::Cards(_)
                | ToCoordinator::Sleeps
                | ToCoordinator::Keeps(_)
                | ToCoordinator::Unkept { .. }
                | ToCoordinator::Policy(_)
                | ToCoordinator::Leaves
                | ToCoordinator::Upgrade(_)
                | ToCoordinator::Farewell) => format!("{other:?}"),
            };
            self.note(|| format!("{agent} says {words}"));
        }
    }

    pub(super) fn note_change(&mut self, change: &Change) {
        if self.options.trace {
            let words = match change {
                Change::AttemptStarted { attempt, agent, .. } => format!("{attempt} started at {agent}"),
                Change::SnapshotSaved { attempt, agent, snapshot, .. } => {
                    format!("{agent} keeps {} of {attempt}", snapshot.blob.digest)
                }
                Change::SnapshotChosen { task, snapshot, .. } => format!("{task} goes on from {} at best", snapshot.blob.digest),
                Change::AnswersDropped { task } => format!("what was brought for {task} is dropped"),
                Change::AgentQuarantined { agent, reason, .. } => format!("{agent} is quarantined: {reason}"),
                Change::AgentTrusted { agent, .. } => format!("{agent} is trusted"),
                Change::AgentBreached { agent, what, attempts, .. } => {
                    format!("{agent} broke the protocol and lost {attempts}: {what}")
                }
                Change::SnapshotDropped { task } => format!("the snapshot of {task} is dropped"),
                Change::AttemptEnded(ended) => {
                    format!("{} at {} {}, then {:?} ({:?})", ended.attempt, ended.agent, ended.end, ended.after, ended.reason)
                }
                Change::AttemptPaused { attempt, reason, .. } => format!("{attempt} paused: {reason:?}"),
                Change::ResultRefused { attempt, agent, .. } => format!("the result of {attempt} by {agent} is refused"),
                Change::TaskEnded { task, state, .. } => format!("{task} {state}"),
                Change::JobSubmitted(new) => format!("{} submitted with {} tasks", new.job, new.spec.inputs.count()),
                Change::JobStopped { job, state, by, .. } => format!("{job} stopped: {state:?} by {by}"),
                Change::JobEnded { job, state, .. } => format!("{job} ended: {state:?}"),
                Change::JobRetried { job, .. } => format!("{job} retried"),
                Change::TasksRetried { job, tasks, .. } => format!("{} tasks of {job} queued again", tasks.len()),
                Change::AgentConnected { agent, .. } => format!("{agent} connected"),
                Change::AgentDisconnected { agent, .. } => format!("{agent} disconnected"),
                Change::AgentHours { agent, .. } => format!("the hours of {agent} are kept"),
                Change::AgentIntake { agent, intake, .. } => format!("{agent} {}", intake.as_str()),
            };
            self.note(|| format!("recorded: {words}"));
        }
    }

    fn digest_event(&mut self, what: &What) {
        let subject = match what {
            What::Machine { machine, .. } | What::Boot { machine } | What::WakeUp { machine } | What::OwnerTurns { machine } => {
                *machine as u64
            }
            What::Desk { machine } => 12 << 48 | *machine as u64,
            What::ToAgent { link, .. } | What::AgentSeesEnd { link } => 1 << 32 | *link as u64,
            What::ToCoordinator { link, messages } => (2 + messages.len() as u64) << 32 | *link as u64,
            What::CoordinatorSeesEnd { link } => 3 << 48 | *link as u64,
            What::Gossip { capacity } => 4 << 48 | capacity.agent.0,
            What::Coordinator { coordinator, .. } | What::StartCoordinator { coordinator } => 5 << 48 | *coordinator as u64,
            What::Arrives { coordinator, .. } => 6 << 48 | *coordinator as u64,
            What::Ask { .. } => 7 << 48,
            What::Answered { number, .. } | What::GivesUp { number } => 8 << 48 | number,
            What::Fault(fault) => 9 << 48 | fault.number(),
            What::Heal => 10 << 48,
            What::WeekEnds => 11 << 48,
        };
        self.digest = mixed(&[self.digest, self.now.0 as u64, subject]);
    }

    pub(super) fn digest_change(&mut self, change: &Change) {
        let parts = match change {
            Change::AttemptStarted { attempt, agent, .. } => [1, attempt.task.job.0, attempt.task.index.into(), agent.0],
            Change::AttemptEnded(ended) => {
                [2 + ended.end as u64, ended.attempt.task.job.0, ended.attempt.task.index.into(), ended.agent.0]
            }
            other => [20, other.job().map_or(0, |job| job.0), 0, 0],
        };
        self.digest = mixed(&[self.digest, mixed(&parts)]);
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        summary.tally = self.ledger.tally.clone();
        summary.events = self.events;
        summary.jobs = self.ledger.jobs.len();
        summary.tasks = self.ledger.jobs.values().map(|job| job.tasks.len() as u64).sum();
        summary.thrown_away = self.waste.thrown_away();
        summary.done_twice = self.waste.done_twice();
        summary.left_behind = self.left_behind();
        summary.virtual_time = self.now.since(self.start);
        summary
    }
}

fn list_of<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}
