//! Drives a scheduler in tests: events in, effects out, everything recorded, and audited after each turn.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId, TokenId, VersionId},
    job::{Dependency, DependencyCondition, Inputs, JobSpec},
    message::{Finished, Hello, Instance, KeptSnapshot, Outcome, Payload, RecallReason, ToCoordinator},
    resources::{Capacity, Machine},
    state::{AttemptEnd, Failure, Intake, TaskCounts, Usage},
    time::Timestamp,
};

use crate::{
    Scheduler,
    effect::{Change, Effect, EndedAttempt, Look, Order, OwnCopy, Reply},
    event::{AgentSnapshot, Event, Movable, RequestId, Retry, StreamId, Submission},
    limits::Limits,
    tests::support::{ledger::Ledger, promised::Promised},
};

/// Monday, 2026-11-23, 12:00 UTC.
pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// A scheduler with its world.
pub(crate) struct Driver {
    pub scheduler: Scheduler,
    pub ledger: Ledger,
    pub now: Timestamp,
    limits: Limits,
    /// Of the last turn.
    pub changes: Vec<Change>,
    /// Of the last turn.
    pub orders: Vec<(AgentId, Order)>,
    /// Of the last turn, with the stream that each went out on and its number there.
    pub sent: Vec<(AgentId, StreamId, u64, Order)>,
    /// Of the last turn.
    pub replies: Vec<Reply>,
    /// Of the last turn.
    pub own_copies: Vec<OwnCopy>,
    /// What is asked of the store, and whether that waits for [`Self::answer_look`].
    looks: VecDeque<Look>,
    pub looks_wait: bool,
    /// The newest number on each stream.
    numbers: BTreeMap<(AgentId, StreamId), u64>,
    streams: BTreeMap<AgentId, StreamId>,
    requests: u64,
    /// Whether the versions of jobs to come can be moved.
    pub movable: Option<Movable>,
    /// The coordinator dies in the next turn that has more changes than this; so many are committed, or a few more.
    pub dies_after: Option<usize>,
    /// It did.
    pub died: bool,
    /// The most changes that one turn had.
    pub most_changes: usize,
    /// Every turn is held against these, if they are there from the beginning.
    pub promised: Option<Promised>,
    /// Snapshots that agents say they keep when they connect.
    pub keeps: BTreeMap<AgentId, Vec<KeptSnapshot>>,
}

/// An attempt by its short name.
pub(crate) fn attempt(job: u64, index: u32, number: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(job), index }, number }
}

/// A job of so many tasks, plain in every respect.
pub(crate) fn spec(count: u32) -> JobSpec {
    JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count })
}

/// The spec, waiting for another job.
pub(crate) fn after(mut spec: JobSpec, job: u64, condition: DependencyCondition) -> JobSpec {
    spec.after.push(Dependency { job: JobId(job), condition });
    spec
}

pub(crate) fn machine() -> Machine {
    Machine { os: "linux".into(), arch: "x86_64".into(), cores: 4, memory_bytes: 16 << 30, engine: "e".into() }
}

pub(crate) fn capacity(agent: u64, slots: u16) -> Capacity {
    Capacity {
        agent: AgentId(agent),
        run: 0,
        sequence: 1,
        slots,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    }
}

/// A result that took so long.
pub(crate) fn success(attempt: AttemptId, wall: Duration) -> Finished {
    let usage = Usage { wall_us: wall.as_micros() as u64, cpu_us: 1, memory_peak_bytes: 1 };
    let outcome = Outcome::Succeeded { output: Payload::inline(&b"42"[..]) };
    Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage }
}

/// A failure by exit code 1.
pub(crate) fn failure(attempt: AttemptId) -> Finished {
    let outcome = Outcome::Failed(Failure::Exit { code: 1 });
    Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage: Usage::default() }
}

/// The token of whoever is called so.
pub(crate) fn owner_called(name: &str) -> TokenId {
    TokenId(name.bytes().fold(0, |number, byte| number * 31 + u64::from(byte)))
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self {
            scheduler: Scheduler::restore(Default::default(), limits.clone(), 7, NOON),
            ledger: Ledger::default(),
            now: NOON,
            limits,
            changes: Vec::new(),
            orders: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            own_copies: Vec::new(),
            looks: VecDeque::new(),
            looks_wait: false,
            numbers: BTreeMap::new(),
            streams: BTreeMap::new(),
            requests: 0,
            movable: None,
            dies_after: None,
            died: false,
            most_changes: 0,
            promised: None,
            keeps: BTreeMap::new(),
        }
    }

    /// A scheduler with so many agents of so many slots, all connected.
    pub(crate) fn with_agents(agents: u64, slots: u16) -> Self {
        let mut driver = Self::new();
        (1..=agents).for_each(|agent| driver.enrol_and_connect(agent, slots));
        driver
    }

    /// A scheduler with so many agents of one slot, which are never taken for silent or slow.
    pub(crate) fn patient(agents: u64) -> Self {
        let long = Duration::from_secs(100_000);
        let mut driver = Self::with(Limits { lease: long, overtime_margin: long, begin_max: long, ..Limits::default() });
        (1..=agents).for_each(|agent| driver.enrol_and_connect(agent, 1));
        driver
    }

    // --- Events ---

    pub(crate) fn handle(&mut self, event: Event) {
        if let Some(promised) = &mut self.promised {
            promised.hears(&event, self.now);
        }
        self.scheduler.handle(event, self.now);
        self.drain();
    }

    /// Lets time pass, waking the scheduler whenever it wants.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let (mut changes, mut orders, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(due) = self.scheduler.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            if let Some(promised) = &mut self.promised {
                promised.time_passes();
            }
            self.scheduler.handle_timeout(self.now);
            self.drain();
            changes.append(&mut self.changes);
            orders.append(&mut self.orders);
            sent.append(&mut self.sent);
        }
        self.now = until;
        (self.changes, self.orders, self.sent) = (changes, orders, sent);
    }

    pub(crate) fn enrol(&mut self, agent: u64) {
        let agent = AgentSnapshot {
            agent: AgentId(agent),
            name: format!("pc-{agent}"),
            group: None,
            intake: Intake::Open,
            quarantine: None,
        };
        self.ledger.enrol(agent.clone());
        self.handle(Event::Enrolled { agent });
    }

    pub(crate) fn enrol_and_connect(&mut self, agent: u64, slots: u16) {
        self.enrol(agent);
        self.connect(agent, slots, &[]);
    }

    /// Opens a new stream, with attempts from an earlier one.
    pub(crate) fn connect(&mut self, agent: u64, slots: u16, holding: &[AttemptId]) {
        self.connect_as(agent, slots, holding, (0, 0));
    }

    /// The same from one of several programs, each on a machine.
    pub(crate) fn connect_as(&mut self, agent: u64, slots: u16, holding: &[AttemptId], (instance, machine): (u64, u64)) {
        let id = AgentId(agent);
        let stream = StreamId(self.streams.get(&id).map_or(1, |stream| stream.0 + 1));
        self.streams.insert(id, stream);
        let hello = Hello {
            agent_version: "1.0".into(),
            machine: self::machine(),
            labels: Default::default(),
            capacity: capacity(agent, slots),
            holding: holding.to_vec(),
            snapshots: self.keeps.get(&id).cloned().unwrap_or_default(),
            instance: Box::new(Instance { number: instance, machine, term_proof: None }),
            open_cage: None,
        };
        self.handle(Event::Connected { agent: id, stream, hello: Box::new(hello), from: format!("desk {instance}") });
    }

    pub(crate) fn disconnect(&mut self, agent: u64) {
        let stream = self.streams[&AgentId(agent)];
        self.handle(Event::Disconnected { agent: AgentId(agent), stream });
    }

    pub(crate) fn say(&mut self, agent: u64, message: ToCoordinator) {
        let stream = self.streams[&AgentId(agent)];
        self.handle(Event::Message { agent: AgentId(agent), stream, message });
    }

    pub(crate) fn started(&mut self, agent: u64, attempts: &[AttemptId]) {
        self.say(agent, ToCoordinator::Started { attempts: attempts.to_vec() });
    }

    pub(crate) fn succeed(&mut self, agent: u64, attempts: &[AttemptId]) {
        self.succeed_after(agent, attempts, Duration::from_secs(600));
    }

    pub(crate) fn succeed_after(&mut self, agent: u64, attempts: &[AttemptId], wall: Duration) {
        let results = attempts.iter().map(|attempt| success(*attempt, wall)).collect();
        self.say(agent, ToCoordinator::Finished(results));
    }

    pub(crate) fn fail(&mut self, agent: u64, attempt: AttemptId) {
        self.say(agent, ToCoordinator::Finished(vec![failure(attempt)]));
    }

    /// A heartbeat of an agent that has read everything.
    pub(crate) fn heartbeat(&mut self, agent: u64, holding: &[AttemptId]) {
        let frame_read = self.orders_sent(agent);
        self.say(agent, ToCoordinator::Heartbeat { frame_read, holding: holding.to_vec() });
    }

    pub(crate) fn orders_sent(&self, agent: u64) -> u64 {
        let stream = self.streams[&AgentId(agent)];
        self.numbers.get(&(AgentId(agent), stream)).copied().unwrap_or(0)
    }

    /// Everything that an honest agent holds, by the scheduler's view of it.
    pub(crate) fn held(&self, agent: u64) -> Vec<AttemptId> {
        self.scheduler.agent(AgentId(agent)).expect("an agent").attempts
    }

    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        self.submit_as("ada", spec)
    }

    pub(crate) fn submit_as(&mut self, submitter: &str, spec: JobSpec) -> JobId {
        match self.try_submit(submitter, spec) {
            Reply::Submitted { job, existing: false } => job,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn try_submit(&mut self, submitter: &str, spec: JobSpec) -> Reply {
        let ended = self.ledger.jobs().map(|job| (job, self.ledger.state(job))).filter(|(_, state)| state.is_ended()).collect();
        let (owner, submitter) = (owner_called(submitter), submitter.to_owned());
        let submission = Submission { owner, submitter, spec, version_name: "f@1".into(), seed: 1, movable: self.movable, ended };
        let request = self.request();
        self.handle(Event::Submit { request, submission: Box::new(submission) });
        self.reply()
    }

    pub(crate) fn cancel(&mut self, job: JobId) -> Reply {
        let request = self.request();
        self.handle(Event::Cancel { request, job, by: "ada".into() });
        self.reply()
    }

    pub(crate) fn retry(&mut self, job: JobId) -> Reply {
        self.retry_by(job, None)
    }

    pub(crate) fn retry_by(&mut self, job: JobId, finish_by: Option<Timestamp>) -> Reply {
        let job = self.ledger.load_for_retry(job);
        let states = job.spec.after.iter().map(|after| (after.job, self.ledger.state(after.job)));
        let ended = states.filter(|(_, state)| state.is_ended()).collect();
        let request = self.request();
        let (tasks, next) = self.ledger.ended_badly(job.job, 0, self.limits.retry_part_max);
        let retry = Retry { by: "ada".into(), finish_by, job, tasks, next, ended };
        self.handle(Event::Retry { request, retry: Box::new(retry) });
        self.reply()
    }

    pub(crate) fn set_intake(&mut self, agent: u64, intake: Intake) -> Reply {
        let request = self.request();
        self.handle(Event::SetIntake { request, agent: AgentId(agent), intake, by: "root".into() });
        self.reply()
    }

    pub(crate) fn trust(&mut self, agent: u64) -> Reply {
        let request = self.request();
        self.handle(Event::Trust { request, agent: AgentId(agent), by: "root".into() });
        self.reply()
    }

    /// The coordinator dies and another takes over; no stream survives.
    pub(crate) fn crash(&mut self) {
        self.scheduler = Scheduler::restore(self.ledger.snapshot(), self.limits.clone(), 7, self.now);
        self.numbers.clear();
        if let Some(promised) = &mut self.promised {
            promised.crash();
        }
        self.looks.clear();
        self.drain();
    }

    /// The store says what it was asked first. Whether it was asked something.
    pub(crate) fn answer_look(&mut self) -> bool {
        let Some(look) = self.looks.pop_front() else { return false };
        let event = self.answer(look);
        self.handle(event);
        true
    }

    fn answer(&self, Look { number, job, from, limit }: Look) -> Event {
        let (tasks, next) = self.ledger.ended_badly(job, from, limit);
        Event::EndedBadly { look: number, job, tasks, next }
    }

    // --- What came of it ---

    /// Attempts that the last turn gave to an agent.
    pub(crate) fn assigned(&self, agent: u64) -> Vec<AttemptId> {
        let given = self.orders.iter().filter_map(|(id, order)| match order {
            Order::Assign { attempts } if id.0 == agent => Some(attempts.iter().map(|given| given.attempt).collect::<Vec<_>>()),
            _ => None,
        });
        given.flatten().collect()
    }

    /// Attempts for which the last turn asked an agent.
    pub(crate) fn recalled(&self, agent: u64, why: RecallReason) -> Vec<AttemptId> {
        let asked = self.orders.iter().filter_map(|(id, order)| match order {
            Order::Recall { attempts, reason } if id.0 == agent && *reason == why => Some(attempts.clone()),
            _ => None,
        });
        asked.flatten().collect()
    }

    /// Attempts that ended in the last turn.
    pub(crate) fn ended(&self) -> Vec<EndedAttempt> {
        let ended = self.changes.iter().filter_map(|change| match change {
            Change::AttemptEnded(ended) => Some((**ended).clone()),
            _ => None,
        });
        ended.collect()
    }

    /// How the attempts of the last turn ended.
    pub(crate) fn ends(&self) -> Vec<(AttemptId, AttemptEnd)> {
        self.ended().into_iter().map(|ended| (ended.attempt, ended.end)).collect()
    }

    /// The counts of an active job.
    pub(crate) fn counts(&self, job: JobId) -> TaskCounts {
        self.scheduler.job(job, self.now).expect("an active job").counts
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn reply(&self) -> Reply {
        self.replies.first().expect("every request is answered").clone()
    }

    fn drain(&mut self) {
        self.drain_turn();
        while !self.looks_wait
            && let Some(look) = self.looks.pop_front()
        {
            let (changes, orders) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.orders));
            let (sent, replies) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.replies));
            self.scheduler.handle(self.answer(look), self.now);
            self.drain_turn();
            self.changes.splice(0..0, changes);
            self.orders.splice(0..0, orders);
            self.sent.splice(0..0, sent);
            self.replies.splice(0..0, replies);
        }
    }

    fn drain_turn(&mut self) {
        (self.changes, self.orders, self.sent, self.replies, self.own_copies) = Default::default();
        while let Some(next) = self.scheduler.next_effect() {
            if let (Some(most), Effect::Record(change)) = (self.dies_after, next)
                && self.changes.len() >= most
                && !change.continues()
            {
                (self.dies_after, self.died) = (None, true);
                return self.crash();
            }
            let effect = self.scheduler.poll_effect().expect("just seen");
            match effect {
                Effect::Record(change) => {
                    if let Some(promised) = &mut self.promised {
                        promised.records(&change, self.now);
                    }
                    self.ledger.apply(change.clone());
                    self.changes.push(change);
                }
                Effect::Send { agent, stream, number, order } => {
                    let newest = self.numbers.entry((agent, stream)).or_default();
                    assert_eq!(number, *newest + 1, "orders to {agent} are numbered without a gap");
                    *newest = number;
                    if let Some(promised) = &mut self.promised {
                        promised.says(agent, stream, &order);
                    }
                    self.check_known(agent, &order);
                    self.orders.push((agent, order.clone()));
                    self.sent.push((agent, stream, number, order));
                }
                Effect::Reply { reply, .. } => self.replies.push(reply),
                Effect::OwnCopy(own_copy) => self.own_copies.push(own_copy),
                Effect::Look(look) => self.looks.push_back(look),
            }
        }
        self.most_changes = self.most_changes.max(self.changes.iter().map(Change::rows).sum());
        if let Some(promised) = &mut self.promised {
            promised.ends();
        }
        self.check();
    }

    /// Nothing is said before what it needs is recorded: a turn may be cut anywhere in between.
    fn check_known(&self, agent: AgentId, order: &Order) {
        match order {
            Order::Assign { attempts } => {
                for given in attempts {
                    assert_eq!(self.ledger.live_at(given.attempt), Some(agent), "{} is given before it began", given.attempt);
                }
            }
            Order::Acknowledge { attempts } => {
                for attempt in attempts {
                    let live = self.ledger.live_at(*attempt);
                    assert_ne!(live, Some(agent), "{attempt} is acknowledged before it ended");
                }
            }
            _ => {}
        }
    }

    fn check(&self) {
        if let Err(what) = self.scheduler.audit() {
            panic!("{what}\nafter {:?}\n{:?}", self.changes, self.orders);
        }
        for job in self.ledger.jobs() {
            let (remembered, view) = (self.ledger.counts(job), self.scheduler.job(job, self.now));
            assert_eq!(view.is_none(), self.ledger.state(job).is_ended(), "{job} is active in one place only");
            let Some(mut counts) = view.map(|view| view.counts) else { continue };
            counts.queued += std::mem::take(&mut counts.waiting) + std::mem::take(&mut counts.moving);
            counts.running += std::mem::take(&mut counts.paused);
            assert_eq!(counts, remembered, "{job} as counted and as remembered");
        }
    }
}
