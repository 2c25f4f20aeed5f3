//! One office machine: power, agent process, disk, and the way of an event to its session.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use lull_session::{Config, Event, Kept, Session, Standing, guard::Rules};
use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId},
    identity::Authority,
    message::{Finished, Outcome, Payload, RecallReason, ToAgent, ToAgentFrame, ToCoordinator},
    policy::Policy,
    resources::Machine as Facts,
    time::Timestamp,
};

use crate::sim::{
    dice::{Dice, mixed},
    events::{Answer, MachineEvent, MachineId, What},
    judged::promise::{Checked, Promise, Violation, hold},
    machines::{executor::Executor, link::LinkId, owner::Owner},
    options::{Kind, Mutation, Options},
    store::ENGINES,
    week::{Desk, Week},
    world::World,
};

/// Pauses between tries to connect, as the agent's network makes them.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// As agents have it by default.
pub(crate) const SNAPSHOT_EVERY: Duration = Duration::from_secs(300);
/// A connection that nobody answers is given up.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Whether anything happens on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    Asleep {
        since: Timestamp,
        until: Timestamp,
    },
    Off,
    /// It never comes back.
    Dead,
}

/// A machine.
pub(crate) struct Machine {
    pub agent: AgentId,
    pub config: Config,
    pub laptop: bool,
    pub power: Power,
    /// Counts the starts of its agent.
    pub life: u32,
    pub session: Option<Session>,
    pub link: Option<LinkId>,
    pub unreachable_until: Timestamp,
    pub slots: Vec<Executor>,
    pub disk: Disk,
    pub cache: BTreeSet<Digest>,
    pub fetching: BTreeMap<Digest, u64>,
    pub owner: Owner,
    /// In a week.
    pub desk: Option<Box<Desk>>,
    pub said: Vec<ToCoordinator>,
    /// What follows at once from an effect.
    pub own: VecDeque<Event>,
    /// Attempts that a coordinator took back whatever had become of them.
    pub taken_back: BTreeSet<AttemptId>,
    pub next_coordinator: usize,
    pub dial_pause: Duration,
    timeout_at: Option<Timestamp>,
}

/// The outbox's disk: it survives.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub results: BTreeMap<AttemptId, Arc<Finished>>,
    /// Being written.
    pub pending: BTreeMap<AttemptId, Arc<Finished>>,
    pub full_until: Timestamp,
    pub busy_until: Timestamp,
}

impl Machine {
    /// The machines of a world, none of them on.
    pub(crate) fn fleet(options: &Options, authority: &Authority, start: Timestamp) -> Vec<Self> {
        let mut dice = Dice::new(options.seed, 3);
        let machine = |number| {
            let machine = Self::new(number, options, authority, &mut dice);
            if let Some(week) = options.week { machine.at_a_desk(options, week, start) } else { machine }
        };
        (1..=options.agents).map(machine).collect()
    }

    fn new(number: u32, options: &Options, authority: &Authority, dice: &mut Dice) -> Self {
        let agent = AgentId(u64::from(number));
        let laptop = dice.chance(0.4);
        let lab = dice.chance(0.1);
        let slots = [1, 2, 2, 4, 4, 8][dice.index(6)];
        let engine = ENGINES[dice.index(ENGINES.len())].to_owned();
        let os = if engine.contains("windows") { "windows" } else { "linux" };
        let site = if lab { "lab" } else { ["amsterdam", "berlin"][dice.index(2)] };
        // One in forty was forgotten at the last upgrades.
        let old = !options.steady && options.week.is_none() && dice.chance(0.025);
        Self {
            agent,
            config: Config {
                agent,
                agent_version: if old { "0.0.9" } else { ["0.1.0", "0.2.0"][dice.index(2)] }.into(),
                instances: [11, 12],
                machine_number: 13,
                machine: Facts { os: os.into(), arch: "x86_64".into(), cores: slots, memory_bytes: 16 << 30, engine },
                labels: [("site".to_owned(), site.to_owned())].into(),
                authority: authority.clone(),
                rules: Rules::default(),
                standing: Standing { admin: Policy::unrestricted(), ..Standing::default() },
                slots,
                memory_bytes_max: dice.number(2, 9) << 30,
                snapshot_every: SNAPSHOT_EVERY,
                warm_time: Duration::from_secs(20),
                works_in_open_cage: false,
            },
            laptop,
            power: Power::Off,
            life: 0,
            session: None,
            link: None,
            unreachable_until: Timestamp::default(),
            slots: (0..slots).map(|_| Executor::default()).collect(),
            disk: Disk::default(),
            cache: BTreeSet::new(),
            fetching: BTreeMap::new(),
            owner: Owner::new(options, laptop, lab, u64::from(number)),
            desk: None,
            said: Vec::new(),
            own: VecDeque::new(),
            taken_back: BTreeSet::new(),
            next_coordinator: dice.index(2),
            dial_pause: PAUSE_MIN,
            timeout_at: None,
        }
    }

    /// As it stands in a week: at a desk, under a policy, with memory for all its slots.
    fn at_a_desk(mut self, options: &Options, week: Week, start: Timestamp) -> Self {
        let (cores, slots) = [(2, 1), (4, 1), (4, 2), (8, 2)][(mixed(&[options.seed, self.agent.0]) % 4) as usize];
        let days = i64::from(options.hours.div_ceil(24));
        let desk = Desk::new(options.seed, self.agent.0, self.laptop, (cores, slots), week, start, days);
        (self.config.machine.cores, self.config.slots) = (cores, slots);
        self.config.memory_bytes_max = 8 << 30;
        let (admin, owner) = (desk.habits.policy.clone(), desk.habits.owner.clone());
        self.config.standing = Standing { version: 1, admin, owner, ..Standing::default() };
        self.slots = (0..slots).map(|_| Executor::default()).collect();
        self.desk = Some(Box::new(desk));
        self
    }

    /// Whether its agent speaks a language that nobody understands any more.
    pub(crate) fn is_old(&self) -> bool {
        self.config.agent_version == "0.0.9"
    }
}

impl World {
    /// Something happens to a machine's agent.
    pub(crate) fn machine_event(&mut self, id: MachineId, life: u32, what: MachineEvent) -> Checked {
        let machine = &mut self.machines[id];
        if machine.life != life || machine.session.is_none() {
            return Ok(());
        }
        if let Power::Asleep { until, .. } = machine.power {
            self.queue.push(until, What::Machine { machine: id, life, what });
            return Ok(());
        }
        match what {
            MachineEvent::Timeout => return self.session_timeout(id),
            MachineEvent::Sample => return self.sample(id),
            MachineEvent::OwnerDeadline if self.machines[id].desk.is_some() => return self.check_desk(id, true),
            MachineEvent::OwnerDeadline => return self.check_owner(id),
            MachineEvent::Input { first } => return self.input(id, first),
            MachineEvent::Bump => return self.bump(id),
            MachineEvent::BumpOver => return self.bump_over(id),
            MachineEvent::Leave { off, until } => return self.left(id, off, until),
            MachineEvent::Stop => return self.service_stops(id),
            MachineEvent::Dial => self.dial(id),
            MachineEvent::Opened(link) => return self.opened(id, link),
            MachineEvent::Executor { slot, tick, news } => return self.executor_news(id, slot, tick, news),
            MachineEvent::Disk(answer) => return self.disk_answers(id, answer),
            MachineEvent::Fetched { digest, fetch } => return self.fetch_ends(id, digest, fetch),
            MachineEvent::Delivered { attempt, input } => return self.delivery_ends(id, attempt, input),
        }
        Ok(())
    }

    pub(crate) fn push_machine(&mut self, id: MachineId, at: Timestamp, what: MachineEvent) {
        let life = self.machines[id].life;
        self.queue.push(at, What::Machine { machine: id, life, what });
    }

    /// Hands the session an event and carries out what it wants.
    pub(crate) fn tell(&mut self, id: MachineId, event: Event) -> Checked {
        let now = self.now;
        let Some(session) = &mut self.machines[id].session else { return Ok(()) };
        session.handle(event, now);
        self.settle(id)
    }

    fn session_timeout(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let machine = &mut self.machines[id];
        if machine.timeout_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        machine.timeout_at = None;
        let Some(session) = &mut machine.session else { return Ok(()) };
        // What was due may have moved: being called too early does no harm.
        session.handle_timeout(now);
        self.settle(id)
    }

    /// Carries out all effects, says what is to be said, and sets the clock.
    fn settle(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        loop {
            while let Some(effect) = self.machines[id].session.as_mut().and_then(Session::poll_effect) {
                self.carry_out(id, effect)?;
            }
            let machine = &mut self.machines[id];
            let (Some(event), Some(session)) = (machine.own.pop_front(), &mut machine.session) else { break };
            session.handle(event, now);
        }
        let said = std::mem::take(&mut self.machines[id].said);
        if let (false, Some(link)) = (said.is_empty(), self.machines[id].link) {
            self.send_to_coordinator(link, said);
        }
        self.check_owner(id)?;
        self.note_offer(id);
        let machine = &mut self.machines[id];
        let Some(session) = &machine.session else { return Ok(()) };
        if self.options.audit_every == 1 {
            session.audit();
        }
        if let Some(due) = session.poll_timeout(now)
            && machine.timeout_at.is_none_or(|at| due < at)
        {
            let at = due.max(now + Duration::from_micros(1));
            machine.timeout_at = Some(at);
            self.push_machine(id, at, MachineEvent::Timeout);
        }
        Ok(())
    }

    /// The agent starts, with what its disk kept.
    pub(crate) fn boot(&mut self, id: MachineId) -> Checked {
        let now = self.now;
        let forgets = self.options.mutation == Some(Mutation::ForgetOutbox);
        let dark = self.is_dark(id);
        let machine = &mut self.machines[id];
        if machine.session.is_some() || machine.power == Power::Dead || dark {
            return Ok(());
        }
        machine.power = Power::On;
        machine.life += 1;
        let large = |record: &Finished| match &record.outcome {
            Outcome::Succeeded { output: Payload::Blob(blob) } => Some(*blob),
            Outcome::Succeeded { .. } | Outcome::Failed(_) => None,
        };
        let kept = machine.disk.results.iter().map(|(attempt, record)| Kept { attempt: *attempt, output: large(record) });
        let kept: Vec<Kept> = if forgets { Vec::new() } else { kept.collect() };
        let number = 2 * u64::from(machine.life);
        let config = Config { instances: [number + 1, number + 2], ..machine.config.clone() };
        machine.session = Some(Session::new(config, &kept, now));
        machine.timeout_at = None;
        machine.dial_pause = PAUSE_MIN;
        let (agent, count) = (machine.agent, kept.len());
        self.note(|| format!("{agent} starts with {count} results in its outbox"));
        if self.machines[id].desk.is_some() {
            self.desk_starts(id)?;
        } else {
            self.restart_owner_watch(id);
        }
        let pause = self.dice.machines.seconds(0.1, 2.0);
        self.push_machine(id, now + pause, MachineEvent::Dial);
        self.settle(id)
    }

    /// The agent has left in good order; it starts again after a while, as after an upgrade.
    pub(crate) fn quit(&mut self, id: MachineId) {
        let said = std::mem::take(&mut self.machines[id].said);
        if let (false, Some(link)) = (said.is_empty(), self.machines[id].link) {
            self.send_to_coordinator(link, said);
        }
        self.kill(id, false);
        let at = self.now + self.dice.machines.seconds(0.5, 60.0);
        self.queue.push(at, What::Boot { machine: id });
    }

    /// The agent process ends at once: only its disk is left. What was being written is there or not.
    pub(crate) fn kill(&mut self, id: MachineId, silently: bool) {
        let now = self.now;
        (0..self.machines[id].config.slots).for_each(|slot| self.note_left(id, slot));
        let machine = &mut self.machines[id];
        let agent = machine.agent;
        machine.session = None;
        machine.life += 1;
        for slot in &mut machine.slots {
            slot.suspend(now);
            slot.vanish(now);
        }
        machine.fetching.clear();
        machine.said.clear();
        machine.own.clear();
        machine.disk.busy_until = Timestamp::default();
        for (attempt, record) in std::mem::take(&mut machine.disk.pending) {
            if self.dice.machines.chance(0.5) {
                machine.disk.results.insert(attempt, record);
            }
        }
        let link = machine.link.take();
        self.summary.kills += 1;
        self.note(|| format!("{agent} is killed"));
        let Some(link) = link else { return };
        if silently {
            let after = self.unnoticed();
            self.cut(link, after, after);
        } else {
            self.close_from_agent(link);
        }
    }

    pub(crate) fn dial_after(&mut self, id: MachineId, least: Duration) {
        let pause = self.machines[id].dial_pause.max(least);
        let pause = pause + self.dice.machines.between(Duration::ZERO, pause);
        self.machines[id].dial_pause = (self.machines[id].dial_pause * 2).min(PAUSE_MAX);
        self.push_machine(id, self.now + pause, MachineEvent::Dial);
    }

    fn dial(&mut self, id: MachineId) {
        let machine = &mut self.machines[id];
        if machine.link.is_some() {
            return;
        }
        let coordinator = machine.next_coordinator % self.coordinators.len();
        machine.next_coordinator += 1;
        let reachable = machine.unreachable_until <= self.now;
        if !reachable || self.coordinators[coordinator].is_frozen(self.now) {
            return self.dial_after(id, CONNECT_TIME / 2);
        }
        if !self.coordinators[coordinator].listens() {
            return self.dial_after(id, PAUSE_MIN);
        }
        let link = self.open_link(id, coordinator);
        let at = self.now + self.dice.links.seconds(0.002, 0.05);
        self.push_machine(id, at, MachineEvent::Opened(link));
    }

    fn opened(&mut self, id: MachineId, link: LinkId) -> Checked {
        let stream = &self.links[link];
        if self.machines[id].link.is_some() {
            return Ok(());
        }
        let there = !stream.broken && self.coordinators[stream.coordinator].life == stream.coordinator_life;
        if !there {
            self.dial_after(id, PAUSE_MIN);
            return Ok(());
        }
        let machine = &mut self.machines[id];
        machine.link = Some(link);
        machine.said.clear();
        self.tell(id, Event::Connected)
    }

    /// The agent finds its stream closed.
    pub(crate) fn agent_sees_end(&mut self, link: LinkId) -> Checked {
        let stream = &mut self.links[link];
        stream.broken = true;
        let (id, life) = (stream.machine, stream.machine_life);
        let machine = &mut self.machines[id];
        if machine.life != life || machine.link != Some(link) {
            return Ok(());
        }
        if let Power::Asleep { until, .. } = machine.power {
            self.queue.push(until, What::AgentSeesEnd { link });
            return Ok(());
        }
        machine.link = None;
        machine.dial_pause = PAUSE_MIN;
        self.tell(id, Event::Disconnected)?;
        self.dial_after(id, PAUSE_MIN);
        Ok(())
    }

    /// A frame reaches an agent.
    pub(crate) fn agent_hears(&mut self, link: LinkId, mut frame: Box<ToAgentFrame>) -> Checked {
        if self.options.mutation == Some(Mutation::KeepNothing) {
            frame.messages.retain(|message| !matches!(message, ToAgent::Keep { .. }));
        }
        let stream = &self.links[link];
        let (id, life) = (stream.machine, stream.machine_life);
        let machine = &self.machines[id];
        if stream.broken || machine.life != life || machine.link != Some(link) {
            return Ok(());
        }
        let later = match machine.power {
            Power::Asleep { until, .. } => Some(until),
            _ => (stream.stalled_until > self.now).then_some(stream.stalled_until),
        };
        if let Some(at) = later {
            self.queue.push(at, What::ToAgent { link, frame });
            return Ok(());
        }
        let agent = machine.agent;
        for message in &frame.messages {
            self.trace_to_agent(agent, message);
            match message {
                ToAgent::Acknowledge { attempts } => {
                    for attempt in attempts {
                        let lost = self.ledger.live_at(*attempt) == Some(agent) || !self.ledger.knows(*attempt);
                        let what = || format!("{agent} was told that its result of {attempt} is durable, and it is not");
                        hold(Promise::NothingLost, !lost, what, &[(*attempt).into(), agent.into()])?;
                    }
                }
                ToAgent::Recall { attempts, reason: RecallReason::Cancelled | RecallReason::Stale } => {
                    self.machines[id].taken_back.extend(attempts.iter().copied());
                }
                _ => {}
            }
        }
        self.tell(id, Event::Frame(*frame))
    }

    fn disk_answers(&mut self, id: MachineId, answer: Answer) -> Checked {
        let now = self.now;
        let disk = &mut self.machines[id].disk;
        let event = match answer {
            Answer::Kept(attempt) if disk.full_until > now => {
                disk.pending.remove(&attempt);
                Event::NotKept { attempts: vec![attempt], reason: "no space left on device".into() }
            }
            Answer::Kept(attempt) => {
                let Some(record) = disk.pending.remove(&attempt) else { return Ok(()) };
                disk.results.insert(attempt, record);
                Event::Kept { attempts: vec![attempt] }
            }
            Answer::Recollected(attempts) => {
                let (mut records, mut missing) = (Vec::new(), Vec::new());
                for attempt in attempts {
                    match disk.results.get(&attempt) {
                        Some(record) => records.push(Finished::clone(record)),
                        None => missing.push(attempt),
                    }
                }
                Event::Recollected { records, missing }
            }
        };
        self.tell(id, event)
    }

    /// A greeting names every result on the disk.
    pub(crate) fn check_greeting(&self, id: MachineId, holding: &[AttemptId]) -> Checked {
        let machine = &self.machines[id];
        let named: BTreeSet<&AttemptId> = holding.iter().collect();
        let Some(attempt) = machine.disk.results.keys().find(|attempt| !named.contains(attempt)) else { return Ok(()) };
        let what = format!("{} has the result of {attempt} on its disk and does not speak of it", machine.agent);
        Err(Violation::new(Promise::NothingLost, what, &[(*attempt).into(), machine.agent.into()]))
    }

    /// A result may go when it counts, was refused, or was taken back.
    pub(crate) fn check_dropped(&mut self, id: MachineId, attempt: AttemptId) -> Checked {
        let machine = &mut self.machines[id];
        let agent = machine.agent;
        let taken_back = machine.taken_back.remove(&attempt);
        let live = self.ledger.live_at(attempt) == Some(agent);
        let what = || format!("{agent} dropped the result of {attempt}, which is live");
        hold(Promise::NothingLost, !live || taken_back, what, &[attempt.into(), agent.into()])
    }

    /// Laptops sleep, and wake up later than the world.
    pub(crate) fn fall_asleep(&mut self, id: MachineId, time: Duration) {
        let now = self.now;
        let machine = &mut self.machines[id];
        let agent = machine.agent;
        machine.power = Power::Asleep { since: now, until: now + time };
        machine.slots.iter_mut().for_each(|slot| slot.suspend(now));
        self.note(|| format!("{agent} sleeps for {time:?}"));
        self.queue.push(now + time, What::WakeUp { machine: id });
        if let Some(link) = self.machines[id].link
            && time > Duration::from_secs(30)
        {
            let after = self.unnoticed();
            self.cut(link, time + Duration::from_secs(1), after);
        }
    }

    pub(crate) fn wake_up(&mut self, id: MachineId) -> Checked {
        let Power::Asleep { since, .. } = self.machines[id].power else { return Ok(()) };
        self.machines[id].power = Power::On;
        // Its clock was put off to the end that the sleep was to have.
        self.machines[id].timeout_at = None;
        if let Some(link) = self.machines[id].link.filter(|link| self.links[*link].broken) {
            self.queue.push(self.now + Duration::from_secs(1), What::AgentSeesEnd { link });
        }
        let slept = self.now.since(since);
        let agent = self.machines[id].agent;
        self.note(|| format!("{agent} wakes up"));
        if self.machines[id].session.is_none() {
            return self.boot(id);
        }
        if self.machines[id].desk.is_some() {
            self.desk_wakes(id)?;
        } else {
            self.restart_owner_watch(id);
        }
        (0..self.machines[id].slots.len()).try_for_each(|slot| self.run_front(id, slot as u16))?;
        if slept >= Duration::from_secs(2) { self.tell(id, Event::Slept(slept)) } else { self.settle(id) }
    }

    /// Whether this kind of fault happens now.
    pub(crate) fn strikes(&mut self, kind: Kind, probability: f64) -> bool {
        let probability = probability * self.options.rate(kind);
        !self.healed && self.dice.machines.chance(probability)
    }
}
