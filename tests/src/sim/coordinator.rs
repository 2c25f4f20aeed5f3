//! The coordinators' processes: the shell's steps around the real scheduler, each of which can be the last.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use lull_coordinator::{
    claims,
    dispatch::{
        Catalogue, Ended,
        submission::{Moment, Moments, look_up},
        turn::{Committed, Outgoing, Sealed, Turn, excuse_silence},
        writer::{Framer, Peer},
    },
    scheduler::{
        Limits, Scheduler,
        effect::{Change, Effect, Order, Refusal, Reply},
        event::{Event, RequestId, StreamId, Submission},
    },
    store::{Reign as Hold, StoreError, faulty::Fault},
};
use lull_shared::{
    digest::Digest,
    id::{AgentId, Epoch, JobId},
    message::{GoodbyeReason, RecallReason, ToAgent, ToAgentFrame, ToCoordinator},
    resources::Capacity,
    state::Intake,
    time::Timestamp,
};

use super::{
    events::{CoordinatorEvent, CoordinatorId, What},
    link::LinkId,
    options::{Kind, Mutation},
    processor,
    promise::{Checked, Promise, Violation, hold},
    store::at_once,
    world::World,
};

/// As the coordinator's shell has them.
const INPUTS_PER_TURN: usize = 1024;
const REIGN_LEASE: Duration = Duration::from_secs(9);
const RENEWAL: Duration = Duration::from_secs(3);
const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(50);
const COMMIT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// One coordinator process, or the place where one runs.
pub struct Coordinator {
    name: &'static str,
    /// Counts its starts and ends.
    pub life: u32,
    pub state: State,
    pub frozen_until: Timestamp,
    /// Its own copies of snapshots, which survive it.
    pub snapshots: BTreeMap<Digest, u64>,
    catalogue: Arc<Catalogue>,
    moments: Moments,
    inbox: VecDeque<Input>,
    turn_at: Option<Timestamp>,
}

pub enum State {
    Down,
    Standby,
    Loading { epoch: Epoch, tries: u32 },
    Reigning(Box<Reign>),
}

/// What waits for a coordinator's loop.
#[derive(Debug)]
pub enum Input {
    Event(Box<Event>),
    Attach { stream: StreamId, link: LinkId },
    Request { number: u64, wish: Request },
    Submit { number: u64, submission: Box<Submission>, moment: Moment },
    Retry { number: u64, job: JobId },
}

/// What people ask beside new jobs.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    Cancel(JobId),
    Intake(AgentId, Intake),
}

/// A loaded scheduler and its streams.
pub struct Reign {
    pub epoch: Epoch,
    pub scheduler: Scheduler,
    links: BTreeMap<StreamId, (LinkId, Framer)>,
    replies: BTreeMap<RequestId, u64>,
    last_request: u64,
    pending: Option<Pending>,
}

/// A turn on its way to the store.
struct Pending {
    work: Work,
    changes: Vec<Change>,
    began: Timestamp,
    pause: Duration,
}

enum Work {
    Turn(Turn),
    /// What a broken shell makes of a turn.
    Loose(Sealed),
}

/// What came of a commit, of a sound shell or a broken one.
enum Answer {
    Done(Sealed),
    Refused(Work, StoreError),
    Ended(Ended),
}

impl From<Committed> for Answer {
    fn from(committed: Committed) -> Self {
        match committed {
            Committed::Done(sealed) => Self::Done(sealed),
            Committed::Refused(turn, error) => Self::Refused(Work::Turn(turn), error),
            Committed::Ended(ended, _) => Self::Ended(ended),
        }
    }
}

impl Coordinator {
    pub fn new(name: &'static str, database: &super::store::Database) -> Self {
        Self {
            name,
            life: 0,
            state: State::Down,
            frozen_until: Timestamp::default(),
            snapshots: BTreeMap::new(),
            catalogue: Arc::new(Catalogue::new(database.store.clone())),
            moments: Moments::default(),
            inbox: VecDeque::new(),
            turn_at: None,
        }
    }

    pub fn is_frozen(&self, now: Timestamp) -> bool {
        self.frozen_until > now
    }

    /// Whether agents can open streams: from when it has the lease.
    pub fn listens(&self) -> bool {
        matches!(self.state, State::Loading { .. } | State::Reigning(_))
    }

    pub fn reign(&self) -> Option<&Reign> {
        match &self.state {
            State::Reigning(reign) => Some(reign),
            State::Down | State::Standby | State::Loading { .. } => None,
        }
    }

    pub fn moment(&self) -> Moment {
        self.moments.now()
    }

    fn reign_mut(&mut self) -> Option<&mut Reign> {
        match &mut self.state {
            State::Reigning(reign) => Some(reign),
            State::Down | State::Standby | State::Loading { .. } => None,
        }
    }
}

impl Reign {
    /// Whether the scheduler knows nothing that the store does not.
    pub fn is_settled(&self) -> bool {
        self.pending.is_none()
    }

    fn expect_reply(&mut self, number: u64) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.replies.insert(request, number);
        request
    }
}

impl World {
    pub fn push_coordinator(&mut self, id: CoordinatorId, at: Timestamp, what: CoordinatorEvent) {
        let life = self.coordinators[id].life;
        self.queue.push(at, What::Coordinator { coordinator: id, life, what });
    }

    pub fn coordinator_event(&mut self, id: CoordinatorId, life: u32, what: CoordinatorEvent) -> Checked {
        let coordinator = &self.coordinators[id];
        if coordinator.life != life {
            return Ok(());
        }
        if coordinator.is_frozen(self.now) {
            let at = coordinator.frozen_until;
            self.queue.push(at, What::Coordinator { coordinator: id, life, what });
            return Ok(());
        }
        match what {
            CoordinatorEvent::TakeOver => self.take_over(id),
            CoordinatorEvent::Load => self.load(id),
            CoordinatorEvent::Turn => return self.turn(id),
            CoordinatorEvent::Commit => return self.commit(id),
            CoordinatorEvent::Renew => self.renew(id),
            CoordinatorEvent::Fetched(snapshot) => self.custody_fetched(id, snapshot),
        }
        Ok(())
    }

    /// A process starts and stands by for its turn.
    pub fn start_coordinator(&mut self, id: CoordinatorId) {
        let coordinator = &mut self.coordinators[id];
        if !matches!(coordinator.state, State::Down) {
            return;
        }
        coordinator.life += 1;
        coordinator.state = State::Standby;
        self.push_coordinator(id, self.now, CoordinatorEvent::TakeOver);
    }

    /// A process ends at once. What it had sent may still arrive, unless its machine went with it.
    pub fn crash_coordinator(&mut self, id: CoordinatorId, silently: bool, restart_after: Duration) {
        let coordinator = &mut self.coordinators[id];
        if matches!(coordinator.state, State::Down) {
            return;
        }
        let (name, life) = (coordinator.name, coordinator.life);
        coordinator.life += 1;
        coordinator.state = State::Down;
        coordinator.inbox.clear();
        coordinator.turn_at = None;
        coordinator.moments = Moments::default();
        coordinator.frozen_until = Timestamp::default();
        self.summary.crashes += 1;
        self.note(|| format!("! coordinator {name} ends"));
        for machine in 0..self.machines.len() {
            let Some(link) = self.machines[machine].link else { continue };
            let stream = &self.links[link];
            if stream.coordinator != id || stream.coordinator_life != life || stream.broken {
                continue;
            }
            if silently {
                let after = self.unnoticed();
                self.cut(link, after, after);
            } else {
                self.close_from_coordinator(link);
            }
        }
        self.queue.push(self.now + restart_after, What::StartCoordinator { coordinator: id });
    }

    fn take_over(&mut self, id: CoordinatorId) {
        if !matches!(self.coordinators[id].state, State::Standby) {
            return;
        }
        let (store, name) = (self.database.store.clone(), self.coordinators[id].name);
        match at_once(store.take_over(name, REIGN_LEASE, self.now)) {
            Ok(Hold::Ours { epoch }) => {
                self.epoch = epoch;
                self.summary.handovers += 1;
                self.note(|| format!("! coordinator {name} takes over in epoch {}", epoch.0));
                self.coordinators[id].state = State::Loading { epoch, tries: 0 };
                self.push_coordinator(id, self.now, CoordinatorEvent::Load);
                self.push_coordinator(id, self.now + RENEWAL, CoordinatorEvent::Renew);
            }
            Ok(Hold::Theirs { .. }) => {
                self.push_coordinator(id, self.now + Duration::from_secs(1), CoordinatorEvent::TakeOver);
            }
            Err(_) => self.crash_coordinator(id, false, Duration::from_secs(2)),
        }
    }

    fn load(&mut self, id: CoordinatorId) {
        let State::Loading { epoch, tries } = self.coordinators[id].state else { return };
        let mut snapshot = match at_once(self.database.store.load(epoch)) {
            Ok(snapshot) => snapshot,
            Err(StoreError::Fenced) => return self.crash_coordinator(id, false, Duration::from_secs(1)),
            Err(_) => {
                self.coordinators[id].state = State::Loading { epoch, tries: tries + 1 };
                let pause = Duration::from_millis(100) * (1 << tries.min(6));
                return self.push_coordinator(id, self.now + pause, CoordinatorEvent::Load);
            }
        };
        let (limits, seed, now) = (self.limits(), self.dice.coordinators.seed(), self.now);
        self.summary.loads += 1;
        at_once(async {
            for job in &mut snapshot.jobs {
                self.coordinators[id].catalogue.learn_movable(job).await;
            }
        });
        let coordinator = &mut self.coordinators[id];
        coordinator.catalogue.restore(&snapshot);
        coordinator.moments.pass();
        let began = processor::time();
        let scheduler = Scheduler::restore(snapshot, limits, seed, now);
        self.summary.core_time += processor::time() - began;
        coordinator.state = State::Reigning(Box::new(Reign {
            epoch,
            scheduler,
            links: BTreeMap::new(),
            replies: BTreeMap::new(),
            last_request: 0,
            pending: None,
        }));
        coordinator.turn_at = None;
        self.turn_soon(id, now);
    }

    pub fn limits(&self) -> Limits {
        let believes_hours = self.options.week.is_none_or(|week| week.believes_hours);
        Limits { lease: self.options.heartbeat() * 4, believes_hours, ..Limits::default() }
    }

    fn renew(&mut self, id: CoordinatorId) {
        let epoch = match &self.coordinators[id].state {
            State::Loading { epoch, .. } => *epoch,
            State::Reigning(reign) => reign.epoch,
            State::Down | State::Standby => return,
        };
        match at_once(self.database.store.renew(epoch, REIGN_LEASE, self.now)) {
            Err(StoreError::Fenced) if self.options.mutation != Some(Mutation::IgnoreFence) => self.step_down(id),
            Ok(()) | Err(_) => self.push_coordinator(id, self.now + RENEWAL, CoordinatorEvent::Renew),
        }
    }

    /// Another reigns: the process ends, and stands by in its next life.
    fn step_down(&mut self, id: CoordinatorId) {
        self.summary.fenced += 1;
        self.crash_coordinator(id, false, Duration::from_secs(1));
    }

    /// The loop has something to do at that time, unless it is going to look earlier.
    fn turn_soon(&mut self, id: CoordinatorId, at: Timestamp) {
        let coordinator = &mut self.coordinators[id];
        if coordinator.turn_at.is_none_or(|turn_at| at < turn_at) {
            coordinator.turn_at = Some(at);
            self.push_coordinator(id, at, CoordinatorEvent::Turn);
        }
    }

    pub fn arrives(&mut self, id: CoordinatorId, input: Input) {
        self.coordinators[id].inbox.push_back(input);
        if self.coordinators[id].reign().is_some_and(Reign::is_settled) {
            self.turn_soon(id, self.now + Duration::from_micros(300));
        }
    }

    /// One turn of the loop, up to its commit.
    fn turn(&mut self, id: CoordinatorId) -> Checked {
        let now = self.now;
        let coordinator = &mut self.coordinators[id];
        if coordinator.turn_at.is_none_or(|at| at > now) || coordinator.reign().is_none_or(|reign| !reign.is_settled()) {
            return Ok(());
        }
        coordinator.turn_at = None;
        let began = processor::time();
        let mut taken = 0;
        while taken < INPUTS_PER_TURN {
            let Some(input) = self.coordinators[id].inbox.pop_front() else { break };
            // These look into the store, which must know by then all that happened before.
            let looks = match &input {
                Input::Retry { .. } => true,
                Input::Submit { moment, .. } => self.coordinators[id].moments.have_passed(*moment),
                Input::Event(_) | Input::Attach { .. } | Input::Request { .. } => false,
            };
            if looks && taken > 0 {
                self.coordinators[id].inbox.push_front(input);
                break;
            }
            taken += 1;
            self.take(id, input);
        }
        let sends_early = self.options.mutation == Some(Mutation::SendBeforeCommit);
        let loose = sends_early || matches!(self.options.mutation, Some(Mutation::TrustDoubt | Mutation::IgnoreFence));
        let coordinator = &mut self.coordinators[id];
        let State::Reigning(reign) = &mut coordinator.state else { return Ok(()) };
        reign.scheduler.handle_timeout(now);
        let (work, changes) = if loose {
            let (changes, sealed) = drain_loosely(&mut reign.scheduler);
            (Work::Loose(sealed), changes)
        } else {
            let turn = Turn::drain(&mut reign.scheduler);
            let changes = turn.changes().to_vec();
            (Work::Turn(turn), changes)
        };
        self.summary.core_time += processor::time() - began;
        self.summary.turns += 1;
        changes.iter().for_each(|change| coordinator.catalogue.follow(change));
        let mut pending = Pending { work, changes, began: now, pause: COMMIT_PAUSE_MIN };
        if let (true, Work::Loose(sealed)) = (sends_early, &mut pending.work) {
            let early = std::mem::take(sealed);
            self.send_sealed(id, early)?;
        }
        let nothing = pending.changes.is_empty();
        if let Some(reign) = self.coordinators[id].reign_mut() {
            reign.pending = Some(pending);
        }
        if nothing {
            return self.commit(id);
        }
        let latency = self.dice.coordinators.seconds(0.001, 0.012);
        self.push_coordinator(id, now + latency, CoordinatorEvent::Commit);
        Ok(())
    }

    fn take(&mut self, id: CoordinatorId, input: Input) {
        let (now, store) = (self.now, self.database.store.clone());
        let coordinator = &mut self.coordinators[id];
        let State::Reigning(reign) = &mut coordinator.state else { return };
        match input {
            Input::Event(event) => {
                if let Event::Disconnected { stream, .. } = &*event {
                    reign.links.remove(stream);
                }
                reign.scheduler.handle(*event, now);
            }
            Input::Attach { stream, link } => {
                let peer = Peer {
                    agent: self.links[link].agent,
                    stream,
                    epoch: reign.epoch,
                    certificate: None,
                    policy: None,
                    coordinators: Vec::new(),
                    heartbeat: self.options.heartbeat(),
                };
                reign.links.insert(stream, (link, Framer::new(peer, coordinator.catalogue.clone())));
            }
            Input::Request { number, wish } => {
                let request = reign.expect_reply(number);
                let by = "ada".to_owned();
                let event = match wish {
                    Request::Cancel(job) => Event::Cancel { request, job, by },
                    Request::Intake(agent, intake) => Event::SetIntake { request, agent, intake, by },
                };
                reign.scheduler.handle(event, now);
            }
            Input::Submit { number, mut submission, moment } => {
                if coordinator.moments.have_passed(moment) {
                    match at_once(look_up(&*store, &mut submission)) {
                        Ok(None) => {}
                        Ok(Some(job)) => {
                            let reply = Reply::Submitted { job, existing: true };
                            return self.queue.push(now, What::Answered { number, reply });
                        }
                        Err(_) => return,
                    }
                }
                let request = reign.expect_reply(number);
                reign.scheduler.handle(Event::Submit { request, submission }, now);
            }
            Input::Retry { number, job } => match at_once(store.load_for_retry(job)) {
                Err(_) => {}
                Ok(None) => {
                    let reply = Reply::Refused(Refusal::NoJob(job));
                    self.queue.push(now, What::Answered { number, reply });
                }
                Ok(Some((snapshot, tasks))) => {
                    let request = reign.expect_reply(number);
                    coordinator.catalogue.reopen(&snapshot);
                    let event = Event::Retry { request, job: Box::new(snapshot), tasks, by: "ada".into() };
                    reign.scheduler.handle(event, now);
                }
            },
        }
    }

    /// The turn reaches the store; what follows depends on its answer, and on whether the process lives to hear it.
    fn commit(&mut self, id: CoordinatorId) -> Checked {
        let now = self.now;
        let (store, limits) = (self.database.store.clone(), self.limits());
        let Some(reign) = self.coordinators[id].reign_mut() else { return Ok(()) };
        let epoch = reign.epoch;
        let Some(Pending { work, changes, began, pause }) = reign.pending.take() else { return Ok(()) };
        let (committed, recorded) = match work {
            Work::Turn(turn) => (at_once(turn.commit(&*store, epoch)).into(), true),
            Work::Loose(sealed) => self.commit_loosely(epoch, sealed, &changes),
        };
        let fault = self.database.moods.last();
        let sealed = match committed {
            Answer::Done(sealed) => {
                if recorded {
                    self.record(id, &changes)?;
                }
                sealed
            }
            Answer::Refused(work, error) => {
                self.summary.refused_commits += 1;
                let what = || format!("the store does not take what the scheduler decided: {error}");
                hold(Promise::NothingLost, fault != Fault::None, what, &[])?;
                let pending = Pending { work, changes, began, pause: (pause * 2).min(COMMIT_PAUSE_MAX) };
                if let Some(reign) = self.coordinators[id].reign_mut() {
                    reign.pending = Some(pending);
                }
                self.push_coordinator(id, now + pause, CoordinatorEvent::Commit);
                return Ok(());
            }
            Answer::Ended(Ended::InDoubt) => {
                if fault == Fault::Unconfirmed {
                    self.record(id, &changes)?;
                }
                self.summary.doubts += 1;
                self.note(|| format!("! epoch {} is in doubt about a commit: {fault:?}", epoch.0));
                self.end_reign(id, epoch);
                return Ok(());
            }
            Answer::Ended(Ended::Fenced | Ended::Stopped) => {
                self.step_down(id);
                return Ok(());
            }
        };
        let took = now.since(began);
        if let Some(reign) = self.coordinators[id].reign_mut()
            && !changes.is_empty()
        {
            excuse_silence(&mut reign.scheduler, took, limits.lease, now);
        }
        if !changes.is_empty() && !self.healed && self.dice.coordinators.chance(self.crash_after_commit()) {
            return self.crash_half_sent(id, sealed);
        }
        self.send_sealed(id, sealed)?;
        self.look_again(id);
        Ok(())
    }

    /// Between a commit and its words: about one crash in an hour of a small world.
    fn crash_after_commit(&self) -> f64 {
        let turns_per_hour = (f64::from(self.options.tasks) * 4.0 / f64::from(self.options.hours)).max(200.0);
        0.3 * self.options.rate(Kind::Crash) / turns_per_hour
    }

    fn crash_half_sent(&mut self, id: CoordinatorId, mut sealed: Sealed) -> Checked {
        let kept = self.dice.coordinators.index(sealed.orders.len() + 1);
        sealed.orders.truncate(kept);
        sealed.replies.clear();
        self.note(|| format!("! a coordinator crashes after a commit, with {kept} orders sent"));
        self.send_sealed(id, sealed)?;
        let restart = self.dice.coordinators.seconds(1.0, 40.0);
        self.crash_coordinator(id, false, restart);
        Ok(())
    }

    /// When the loop is to look next.
    fn look_again(&mut self, id: CoordinatorId) {
        let now = self.now;
        let coordinator = &self.coordinators[id];
        let Some(reign) = coordinator.reign() else { return };
        if !coordinator.inbox.is_empty() {
            return self.turn_soon(id, now);
        }
        if let Some(due) = reign.scheduler.poll_timeout() {
            let at = due.max(now + Duration::from_micros(1));
            self.turn_soon(id, at);
        }
    }

    /// The store is in doubt: streams are closed and everything is loaded anew.
    fn end_reign(&mut self, id: CoordinatorId, epoch: Epoch) {
        let ended = std::mem::replace(&mut self.coordinators[id].state, State::Loading { epoch, tries: 0 });
        if let State::Reigning(reign) = ended {
            reign.links.into_values().for_each(|(link, _)| self.close_from_coordinator(link));
        }
        self.push_coordinator(id, self.now + Duration::from_millis(10), CoordinatorEvent::Load);
    }

    /// The changes are in the store now.
    fn record(&mut self, id: CoordinatorId, changes: &[Change]) -> Checked {
        let mut ended = false;
        for change in changes {
            self.digest_change(change);
            self.note_change(change);
            ended |= matches!(change, Change::JobEnded { .. });
            self.ledger.apply(change)?;
            self.note_useful(change);
        }
        if ended {
            self.coordinators[id].moments.pass();
        }
        let Some(reign) = self.coordinators[id].reign() else { return Ok(()) };
        let mut last = None;
        for job in changes.iter().filter_map(Change::job) {
            if last.replace(job) != Some(job) {
                self.check_job(reign, job)?;
            }
        }
        Ok(())
    }

    /// The scheduler counts a job's tasks as the ledger does.
    pub fn check_job(&self, reign: &Reign, job: JobId) -> Checked {
        let Some(known) = self.ledger.jobs.get(&job) else { return Ok(()) };
        let view = reign.scheduler.job(job, self.now);
        let agrees = match &view {
            Some(view) => !known.state.is_ended() && known.agrees(&view.counts),
            None => known.state.is_ended(),
        };
        let what = || format!("{job}: the scheduler counts {:?}, committed are {}", view.map(|view| view.counts), known.words());
        hold(Promise::NothingLost, agrees, what, &[job.into()])
    }

    fn send_sealed(&mut self, id: CoordinatorId, sealed: Sealed) -> Checked {
        for Outgoing { agent, stream, number, order } in sealed.orders {
            self.check_order(agent, &order)?;
            let last = matches!(order, Order::Goodbye { .. });
            let Some(reign) = self.coordinators[id].reign_mut() else { return Ok(()) };
            let Some((link, framer)) = reign.links.get_mut(&stream) else { continue };
            let (link, frames) = (*link, at_once(framer.frames(number, order)));
            let given_back = framer.given_back();
            frames.into_iter().for_each(|frame| self.send_to_agent(link, frame));
            given_back.into_iter().for_each(|event| self.arrives(id, Input::Event(Box::new(event))));
            if last {
                self.coordinators[id].reign_mut().map(|reign| reign.links.remove(&stream));
                self.close_from_coordinator(link);
            }
        }
        for custody in sealed.custody {
            self.custody(id, custody);
        }
        for (request, reply) in sealed.replies {
            let Some(number) = self.coordinators[id].reign_mut().and_then(|reign| reign.replies.remove(&request)) else {
                continue;
            };
            self.check_reply(&reply)?;
            let at = self.now + self.dice.coordinators.seconds(0.001, 0.01);
            self.queue.push(at, What::Answered { number, reply });
        }
        Ok(())
    }

    /// Nothing is ordered that the store does not know.
    fn check_order(&self, agent: AgentId, order: &Order) -> Checked {
        let unrecorded =
            |what: String, about: &[super::promise::Subject]| Err(Violation::new(Promise::RecordBeforeSend, what, about));
        match order {
            Order::Assign { attempts } => {
                match attempts.iter().map(|given| &given.attempt).find(|attempt| !self.ledger.knows(**attempt)) {
                    Some(attempt) => unrecorded(
                        format!("{agent} is given {attempt}, which is not in the store"),
                        &[(*attempt).into(), agent.into()],
                    ),
                    None => Ok(()),
                }
            }
            Order::Acknowledge { attempts } => {
                let early = |attempt: &&_| self.ledger.live_at(**attempt) == Some(agent) || !self.ledger.knows(**attempt);
                match attempts.iter().find(early) {
                    Some(attempt) => unrecorded(
                        format!("{agent} is told that the result of {attempt} is durable, and it is not"),
                        &[(*attempt).into(), agent.into()],
                    ),
                    None => Ok(()),
                }
            }
            Order::Terms { job } if !self.ledger.jobs.contains_key(job) => {
                unrecorded(format!("{agent} is told of {job}, which is not in the store"), &[(*job).into()])
            }
            Order::Recall { attempts, reason: RecallReason::Cancelled } => {
                let running = |attempt: &&lull_shared::id::AttemptId| {
                    let stopped = self.ledger.jobs.get(&attempt.task.job).is_some_and(|job| job.stop.is_some());
                    !stopped && self.ledger.is_live(**attempt)
                };
                match attempts.iter().find(running) {
                    Some(attempt) => unrecorded(
                        format!("{attempt} is cancelled at {agent}, and the store does not know why"),
                        &[(*attempt).into(), agent.into()],
                    ),
                    None => Ok(()),
                }
            }
            Order::Intake(intake) if !self.ledger.may_be_told(agent, *intake) => {
                unrecorded(format!("{agent} is told that it is {}, and the store is not", intake.as_str()), &[agent.into()])
            }
            Order::Discard { snapshots } => match snapshots.iter().find(|digest| self.ledger.needs(**digest, agent)) {
                Some(digest) => {
                    unrecorded(format!("{agent} is to discard {digest}, from which a task is to go on"), &[agent.into()])
                }
                None => Ok(()),
            },
            Order::Terms { .. }
            | Order::Recall { .. }
            | Order::Keep { .. }
            | Order::Safe { .. }
            | Order::Wake { .. }
            | Order::Intake(_)
            | Order::Welcome { .. }
            | Order::Forget { .. }
            | Order::Goodbye { .. } => Ok(()),
        }
    }

    fn check_reply(&self, reply: &Reply) -> Checked {
        match reply {
            Reply::Submitted { job, .. } => {
                let known = self.ledger.jobs.contains_key(job);
                hold(Promise::RecordBeforeSend, known, || format!("{job} was promised and is not in the store"), &[(*job).into()])
            }
            Reply::Done { .. } | Reply::Refused(_) => Ok(()),
        }
    }

    /// A frame of an agent reaches the coordinator's edge.
    pub fn coordinator_hears(&mut self, link: LinkId, messages: Vec<ToCoordinator>) -> Checked {
        let stream = &self.links[link];
        let (id, agent) = (stream.coordinator, stream.agent);
        if stream.broken || self.coordinators[id].life != stream.coordinator_life {
            return Ok(());
        }
        if stream.stalled_until > self.now {
            let at = stream.stalled_until;
            self.queue.push(at, What::ToCoordinator { link, messages });
            return Ok(());
        }
        for message in messages {
            let number = self.links[link].number;
            match (number, message) {
                (None, ToCoordinator::Hello(hello)) => {
                    if let Err(reason) = claims::check_hello(agent, &hello) {
                        self.refuse(link, reason);
                        return Ok(());
                    }
                    self.streams += 1;
                    let stream = StreamId(self.streams);
                    self.links[link].number = Some(stream);
                    self.arrives(id, Input::Attach { stream, link });
                    self.arrives(id, Input::Event(Box::new(Event::Connected { agent, stream, hello: Box::new(hello) })));
                }
                (None, _) => {
                    self.refuse(link, GoodbyeReason::Protocol("the first message must be `Hello`".into()));
                    return Ok(());
                }
                (Some(stream), message) => match at_once(claims::check(&*self.database.store, agent, message)) {
                    Ok(message) => {
                        if self.options.mutation == Some(Mutation::AcknowledgeOnArrival) {
                            self.acknowledge_early(link, &message);
                        }
                        self.arrives(id, Input::Event(Box::new(Event::Message { agent, stream, message })));
                    }
                    Err(_) => {
                        self.cut(link, Duration::from_millis(1), Duration::ZERO);
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    fn refuse(&mut self, link: LinkId, reason: GoodbyeReason) {
        self.summary.refused_agents += 1;
        self.send_to_agent(link, ToAgentFrame { number: 0, messages: vec![ToAgent::Goodbye { reason }] });
        self.close_from_coordinator(link);
    }

    pub fn coordinator_sees_end(&mut self, link: LinkId) {
        let stream = &mut self.links[link];
        stream.broken = true;
        let (id, agent) = (stream.coordinator, stream.agent);
        if let Some(stream) = stream.number.take()
            && self.coordinators[id].life == self.links[link].coordinator_life
        {
            self.arrives(id, Input::Event(Box::new(Event::Disconnected { agent, stream })));
        }
    }

    pub fn gossip_arrives(&mut self, capacity: Capacity) {
        for id in 0..self.coordinators.len() {
            if self.coordinators[id].reign().is_some() {
                self.arrives(id, Input::Event(Box::new(Event::Capacity { capacity: capacity.clone() })));
            }
        }
    }

    fn acknowledge_early(&mut self, link: LinkId, message: &ToCoordinator) {
        if let ToCoordinator::Finished(finished) = message {
            let attempts = finished.iter().map(|record| record.attempt).collect();
            self.send_to_agent(link, ToAgentFrame { number: 0, messages: vec![ToAgent::Acknowledge { attempts }] });
        }
    }

    /// As a broken shell commits, and whether the store really has it.
    fn commit_loosely(&mut self, epoch: Epoch, sealed: Sealed, changes: &[Change]) -> (Answer, bool) {
        if changes.is_empty() {
            return (Answer::Done(sealed), true);
        }
        let mutation = self.options.mutation;
        match at_once(self.database.store.clone().commit(epoch, changes)) {
            Ok(()) => (Answer::Done(sealed), true),
            Err(error @ StoreError::Determinate(_)) => (Answer::Refused(Work::Loose(sealed), error), false),
            Err(StoreError::Indeterminate(_)) if mutation == Some(Mutation::TrustDoubt) => {
                (Answer::Done(sealed), self.database.moods.last() == Fault::Unconfirmed)
            }
            Err(StoreError::Fenced) if mutation == Some(Mutation::IgnoreFence) => (Answer::Done(sealed), false),
            Err(StoreError::Indeterminate(_)) => (Answer::Ended(Ended::InDoubt), false),
            Err(StoreError::Fenced) => (Answer::Ended(Ended::Fenced), false),
        }
    }
}

fn drain_loosely(scheduler: &mut Scheduler) -> (Vec<Change>, Sealed) {
    let (mut changes, mut sealed) = (Vec::new(), Sealed::default());
    while let Some(effect) = scheduler.poll_effect() {
        match effect {
            Effect::Record(change) => changes.push(change),
            Effect::Send { agent, stream, number, order } => sealed.orders.push(Outgoing { agent, stream, number, order }),
            Effect::Reply { request, reply } => sealed.replies.push((request, reply)),
            Effect::Custody(custody) => sealed.custody.push(custody),
        }
    }
    (changes, sealed)
}
