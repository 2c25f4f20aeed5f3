//! The coordinators' processes: the shell's steps around the real scheduler, each of which can be the last.

mod turn;
mod words;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use lull_coordinator::{
    dispatch::{
        Catalogue,
        submission::{Moment, Moments},
        writer::Framer,
    },
    store::{Lead, StoreError, Takeover},
};
use lull_scheduler::{
    Limits, Scheduler,
    effect::Look,
    event::{Event, RequestId, StreamId, Submission},
};
use lull_shared::{
    digest::Digest,
    id::{AgentId, JobId},
    state::Intake,
    time::Timestamp,
};

use super::{
    events::{CoordinatorEvent, CoordinatorId, What},
    judged::promise::{Checked, Promise, Violation},
    machines::{link::LinkId, processor},
    options::Mutation,
    store::at_once,
    world::World,
};

/// As the coordinator's shell has them.
const LEADER_LEASE: Duration = Duration::from_secs(9);
const RENEWAL: Duration = Duration::from_secs(3);

/// One coordinator process, or the place where one runs.
pub(super) struct Coordinator {
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

pub(super) enum State {
    Down,
    Standby,
    Loading { lead: Lead, tries: u32 },
    Leading(Box<Leader>),
}

/// What waits for a coordinator's loop.
#[derive(Debug)]
pub(super) enum Input {
    Event(Box<Event>),
    Attach { stream: StreamId, link: LinkId },
    Request { number: u64, wish: Request },
    Submit { number: u64, submission: Box<Submission>, moment: Moment },
    Retry { number: u64, job: JobId },
}

/// What people ask beside new jobs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request {
    Cancel(JobId),
    Intake(AgentId, Intake),
}

/// A loaded scheduler and its streams.
pub(super) struct Leader {
    pub lead: Lead,
    pub scheduler: Scheduler,
    links: BTreeMap<StreamId, (LinkId, Framer)>,
    replies: BTreeMap<RequestId, u64>,
    last_request: u64,
    looks: Vec<Look>,
    pending: Option<turn::Pending>,
}

impl Coordinator {
    pub(super) fn new(name: &'static str, database: &super::store::Database) -> Self {
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

    pub(super) fn is_frozen(&self, now: Timestamp) -> bool {
        self.frozen_until > now
    }

    /// Whether agents can open streams: from when it has the lease.
    pub(super) fn listens(&self) -> bool {
        matches!(self.state, State::Loading { .. } | State::Leading(_))
    }

    pub(super) fn leader(&self) -> Option<&Leader> {
        match &self.state {
            State::Leading(leader) => Some(leader),
            State::Down | State::Standby | State::Loading { .. } => None,
        }
    }

    pub(super) fn moment(&self) -> Moment {
        self.moments.now()
    }

    fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.state {
            State::Leading(leader) => Some(leader),
            State::Down | State::Standby | State::Loading { .. } => None,
        }
    }
}

impl Leader {
    /// Whether the scheduler knows nothing that the store does not.
    pub(super) fn is_settled(&self) -> bool {
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
    pub(super) fn push_coordinator(&mut self, id: CoordinatorId, at: Timestamp, what: CoordinatorEvent) {
        let life = self.coordinators[id].life;
        self.queue.push(at, What::Coordinator { coordinator: id, life, what });
    }

    pub(super) fn coordinator_event(&mut self, id: CoordinatorId, life: u32, what: CoordinatorEvent) -> Checked {
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
            CoordinatorEvent::Load => return self.load(id),
            CoordinatorEvent::Turn => return self.turn(id),
            CoordinatorEvent::Commit => return self.commit(id),
            CoordinatorEvent::Renew => self.renew(id),
            CoordinatorEvent::Fetched(snapshot) => self.own_copy_fetched(id, snapshot),
        }
        Ok(())
    }

    /// A process starts and stands by for its turn.
    pub(super) fn start_coordinator(&mut self, id: CoordinatorId) {
        let coordinator = &mut self.coordinators[id];
        if !matches!(coordinator.state, State::Down) {
            return;
        }
        coordinator.life += 1;
        coordinator.state = State::Standby;
        self.push_coordinator(id, self.now, CoordinatorEvent::TakeOver);
    }

    /// A process ends at once. What it had sent may still arrive, unless its machine went with it.
    pub(super) fn crash_coordinator(&mut self, id: CoordinatorId, silently: bool, restart_after: Duration) {
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
        match at_once(store.take_over(name, LEADER_LEASE, self.now)) {
            Ok(Takeover::Ours(lead)) => {
                self.term = lead.term;
                self.summary.handovers += 1;
                self.note(|| format!("! coordinator {name} takes over in term {}", lead.term.0));
                self.coordinators[id].state = State::Loading { lead, tries: 0 };
                self.push_coordinator(id, self.now, CoordinatorEvent::Load);
                self.push_coordinator(id, self.now + RENEWAL, CoordinatorEvent::Renew);
            }
            Ok(Takeover::Theirs { .. }) => {
                self.push_coordinator(id, self.now + Duration::from_secs(1), CoordinatorEvent::TakeOver);
            }
            Err(_) => self.crash_coordinator(id, false, Duration::from_secs(2)),
        }
    }

    fn load(&mut self, id: CoordinatorId) -> Checked {
        let State::Loading { lead, tries } = &self.coordinators[id].state else { return Ok(()) };
        let (lead, tries) = (lead.clone(), *tries);
        let mut snapshot = match at_once(self.database.store.load(&lead)) {
            Ok(loaded) => loaded.snapshot,
            Err(StoreError::Fenced(_)) => {
                self.crash_coordinator(id, false, Duration::from_secs(1));
                return Ok(());
            }
            Err(_) => {
                self.coordinators[id].state = State::Loading { lead, tries: tries + 1 };
                let pause = Duration::from_millis(100) * (1 << tries.min(6));
                self.push_coordinator(id, self.now + pause, CoordinatorEvent::Load);
                return Ok(());
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
        coordinator.state = State::Leading(Box::new(Leader {
            lead,
            scheduler,
            links: BTreeMap::new(),
            replies: BTreeMap::new(),
            last_request: 0,
            looks: Vec::new(),
            pending: None,
        }));
        coordinator.turn_at = None;
        self.turn_soon(id, now);
        self.check_takeover(id)
    }

    /// Whoever takes over goes on from what was committed, all of it, before anybody tells it more.
    fn check_takeover(&self, id: CoordinatorId) -> Checked {
        let Some(leader) = self.coordinators[id].leader() else { return Ok(()) };
        leader.scheduler.audit().map_err(|what| Violation::new(Promise::Sound, what, &[]))?;
        if leader.scheduler.next_effect().is_some() {
            // It has decided more than is recorded.
            return Ok(());
        }
        self.ledger.jobs.keys().try_for_each(|job| self.check_job(leader, *job))
    }

    pub(super) fn limits(&self) -> Limits {
        let believes_hours = self.options.week.is_none_or(|week| week.believes_hours);
        let limits = Limits { lease: self.options.heartbeat() * 4, believes_hours, ..Limits::default() };
        match self.options.misfortune {
            // What is done twice is then done for that alone.
            Some(_) => Limits { straggler_after_results: u32::MAX, ..limits },
            None => limits,
        }
    }

    fn renew(&mut self, id: CoordinatorId) {
        let lead = match &self.coordinators[id].state {
            State::Loading { lead, .. } => lead.clone(),
            State::Leading(leader) => leader.lead.clone(),
            State::Down | State::Standby => return,
        };
        match at_once(self.database.store.renew(&lead, LEADER_LEASE, self.now)) {
            Err(StoreError::Fenced(_)) if self.options.mutation != Some(Mutation::IgnoreFence) => self.step_down(id),
            Ok(()) | Err(_) => self.push_coordinator(id, self.now + RENEWAL, CoordinatorEvent::Renew),
        }
    }

    /// Another leads: the process ends, and stands by in its next life.
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

    pub(super) fn arrives(&mut self, id: CoordinatorId, input: Input) {
        self.coordinators[id].inbox.push_back(input);
        if self.coordinators[id].leader().is_some_and(Leader::is_settled) {
            self.turn_soon(id, self.now + Duration::from_micros(300));
        }
    }
}
