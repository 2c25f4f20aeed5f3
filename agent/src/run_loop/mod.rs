//! The one task that owns the session: SHELL. Events in, effects carried out, nothing decided here.
//!
//! ```text
//! owner, ipc, executors, outbox, fetches, network --- an edge each --> run loop: session.handle, then drain its effects
//!    ^                                                                    |
//!    +--- freezes, runs, keeps, fetches, batches ... ---------------------+   (never waits for any of them, nor a disk)
//! ```
//! Everything that has arrived is handled in one turn, the owner's before anything else (see `edges`); what the turn wants
//! said leaves in one batch.

mod audience;
mod edges;
mod notes;
pub mod processes;
mod remark;
mod start;
mod told;
pub mod transfers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use lull_engine::{cache::Cache, executor::protocol::Ask, memory};
use lull_mesh::NodeHandle;
use lull_session::{
    CloseReason, Effect, Event, Session,
    guard::{Announcement, OwnerWord},
};
use lull_shared::{
    bound, codec,
    message::ToCoordinator,
    portal::is_portal,
    state::{Part, PauseReason},
    time::Timestamp,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::start::{Fittings, ServeError, is_running, serve};
use self::{
    audience::Audience,
    edges::{Edges, Input},
    notes::{Note, Notes},
    processes::Processes,
    told::Told,
    transfers::Transfers,
};
use crate::{
    clock::Clock,
    ipc::{Call, Request, Response},
    member::Member,
    network::{FAREWELL_GRACE, Line, Said},
    outbox::Outbox,
    sensor::{Delay, Sensor, Word},
    status::{Status, Version},
    tally::{self, Counter},
    upgrade::{self, Doing, Me, Upgrade, Wanted},
    wake,
};

/// Words of one edge that are heard in one turn.
const WORDS_PER_TURN: usize = 64;
/// How often the machine is measured while there is work.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often while there is none: nothing could disturb the owner then but measuring.
const SAMPLE_AT_REST: Duration = Duration::from_secs(10);
/// How often the ends of running attempts' logs are told: a machine that vanishes costs no more of them.
const LOG_ENDS_EVERY: Duration = Duration::from_secs(60);
/// How long there must be no work until what only work needs is given back.
const REST: Duration = Duration::from_secs(10);
/// How long an agent that was asked to stop may take to write down what runs, have that fetched, and say goodbye. Service
/// managers wait for a minute and more before they kill.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long its last words may take to leave and to be heard.
const LAST_WORDS: Duration = FAREWELL_GRACE.saturating_mul(2);

/// How long there has been nothing to do.
#[derive(Debug, Clone, Copy)]
enum Rest {
    /// There is something, or was when it was last looked at.
    None,
    Since(Instant),
    /// Long enough: what only work needs was given back.
    Settled,
}

/// The run loop's state.
pub struct RunLoop {
    session: Session,
    clock: Clock,
    edges: Edges,
    line: Option<Line>,
    told: Told,
    /// Whether the coordinator does not know this machine's cards yet.
    tell_cards: bool,
    said: Vec<ToCoordinator>,
    company: Audience,
    counter: Counter,
    processes: Processes,
    transfers: Transfers,
    cache: Cache,
    outbox: Outbox,
    notes: Notes,
    node: NodeHandle,
    member: Arc<Member>,
    sensor: Box<dyn Sensor>,
    data: PathBuf,
    started: Timestamp,
    /// When the machine was measured last.
    sampled: Instant,
    rest: Rest,
    log_ends_told: Instant,
    /// What the operating system waits for: that nothing runs any more.
    delay: Option<Delay>,
    paused: Option<PauseReason>,
    /// Where people look at the network with a browser, as a coordinator said last.
    portal: Option<String>,
    upgrade: Upgrade,
    /// The package that is being put where its installer finds it.
    placing: Option<oneshot::Receiver<Result<(), String>>>,
    quit: bool,
}

impl RunLoop {
    /// Runs until the session has quit, or until `abort`.
    async fn run(&mut self, abort: CancellationToken) {
        while !self.quit && abort.run_until_cancelled(self.turn()).await.is_some() {}
        self.counter.look(self.session.running(), self.processes.cpu_time().gained, tally::local());
        if let Some(tally) = self.counter.unwritten() {
            self.notes.write(Note::Tally(tally));
        }
        self.processes.kill_all();
        if self.line.take().is_none() {
            return;
        }
        // The stream says that it is closed when everything was heard.
        let _ = timeout(LAST_WORDS, self.edges.closed()).await;
    }

    async fn turn(&mut self) {
        let now = self.now();
        let due = self.session.poll_timeout(now).map(|due| Instant::now() + self.clock.until(due));
        let show = self.company.due();
        let at_rest = !matches!(self.rest, Rest::None) && !self.upgrade.is_under_way();
        let sample = self.sampled + if at_rest { SAMPLE_AT_REST } else { SAMPLE };
        let first = tokio::select! {
            biased;
            input = self.edges.next() => Some(input),
            () = sleep_until([due, show].into_iter().flatten().fold(sample, Instant::min)) => None,
        };
        if first.is_some() || due.is_some_and(|due| due <= Instant::now()) || sample <= Instant::now() {
            self.company.something_happened();
        }
        if let Some(input) = first {
            self.apply(input);
        }
        // Graces and limits do not wait for whoever has much to say.
        if due.is_some_and(|due| due <= Instant::now()) {
            let now = self.now();
            self.session.handle_timeout(now);
        }
        if sample <= Instant::now() {
            self.sample();
        }
        for edge in 0..Edges::OTHERS {
            for _ in 0..WORDS_PER_TURN {
                self.hear_owner();
                let Some(input) = self.edges.other(edge) else { break };
                self.apply(input);
            }
        }
        self.carry_out();
        self.upgrade_goes_on();
        self.sensor.keep_awake(self.session.keeps_awake());
        self.sensor.look_closely(!self.session.is_idle());
        self.tell_companions();
        if !self.session.is_idle() {
            self.rest = Rest::None;
        } else if self.delay.is_some() && self.session.may_leave() {
            self.delay = None;
            tracing::info!("nothing runs here any more, and it is elsewhere: the operating system may go on");
        }
    }

    /// What the owner wants takes effect before the next word of anybody else.
    fn hear_owner(&mut self) {
        while let Some(input) = self.edges.owner() {
            self.apply(input);
        }
    }

    fn sample(&mut self) {
        self.sampled = Instant::now();
        let cpu = self.processes.cpu_time();
        let sample = self.sensor.sample(cpu.alive);
        self.event(Event::Sample(sample));
        self.counter.look(self.session.running(), cpu.gained, tally::local());
        if let Some(tally) = self.counter.due() {
            self.notes.write(Note::Tally(tally));
        }
        self.tell_blobs();
        self.tell_cards();
        self.tell_log_ends();
        self.rest = match self.rest {
            Rest::None => Rest::Since(self.sampled),
            Rest::Since(since) if since + REST <= self.sampled => {
                memory::give_back();
                Rest::Settled
            }
            rest @ (Rest::Since(_) | Rest::Settled) => rest,
        };
    }

    /// The time, and what the session must know about how it passed.
    fn now(&mut self) -> Timestamp {
        let reading = self.clock.read();
        if let Some(slept) = reading.slept {
            tracing::info!(slept = %humantime::format_duration(Duration::from_secs(slept.as_secs())), "this machine was asleep");
            self.session.handle(Event::Slept(slept), reading.now);
        }
        reading.now
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        self.session.handle(event, now);
    }

    fn apply(&mut self, input: Input) {
        match input {
            Input::Owner(word) => {
                match word {
                    Word::Input => self.event(Event::Input),
                    Word::Announced(announcement, delay) => self.announced(announcement, delay),
                    Word::Look => self.sample(),
                }
                self.carry_out();
            }
            Input::Call(call) => self.answer(call),
            Input::Stop => self.event(Event::Stop { grace: STOP_GRACE }),
            Input::Executor(report) => {
                tracing::trace!(target: "parts", "executor heard");
                let events = self.processes.hear(report);
                self.counter.ended(events.iter().filter(|event| matches!(event, Event::Done { .. })).count());
                if !events.is_empty() {
                    let now = self.now();
                    self.session.handle_all(events, now);
                }
            }
            Input::Answer(Event::Fetched { digest, result }) if self.upgrade.wants(digest) => {
                let now = self.now();
                let doings = self.upgrade.fetched(result, now);
                self.upgrade_by(doings);
            }
            Input::Answer(event) => {
                if let Event::Kept { .. } = event {
                    tracing::trace!(target: "parts", "result kept");
                }
                self.event(event);
            }
            Input::Coordinator(Said::Opened(line)) => {
                self.said.clear();
                self.told = Told::default();
                self.line = Some(line);
                self.event(Event::Connected);
                self.tell_cards = true;
            }
            Input::Coordinator(Said::Frame(frame)) => {
                tracing::trace!(target: "parts", "orders heard");
                self.event(Event::Frame(frame));
            }
            Input::Coordinator(Said::Closed) => {
                self.line = None;
                self.event(Event::Disconnected);
            }
        }
    }

    fn announced(&mut self, announcement: Announcement, delay: Option<Delay>) {
        tracing::info!(?announcement, "the operating system announces something");
        self.delay = Delay::after(announcement, delay, self.delay.take());
        self.event(Event::Announced(announcement));
    }

    fn answer(&mut self, call: Call) {
        let Call { request, reply } = call;
        let response = match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Policy => Response::Policy(Box::new(self.session.standing().clone())),
            // Whoever stays on the line is not answered here.
            Request::Accompany | Request::Dismiss { .. } => Response::Done,
            Request::Leave => {
                if self.line.is_some() {
                    self.said.push(ToCoordinator::Leaves);
                }
                self.event(Event::Stop { grace: STOP_GRACE });
                Response::Done
            }
            // These hold at once, and are answered when they hold after a restart too.
            Request::Pause { for_ms } => {
                // Whoever speaks to the socket is not only our own command line.
                if let Some(Err(outside)) = for_ms.map(|millis| bound::PAUSE.check(millis)) {
                    let _ = reply.send(Response::Error { message: outside.to_string() });
                    return;
                }
                let until = for_ms.map(|millis| self.now() + Duration::from_millis(millis));
                return self.owner_says(OwnerWord::Pause { until }, reply);
            }
            Request::Resume => return self.owner_says(OwnerWord::Run, reply),
            Request::Narrow(owner) => {
                self.event(Event::Narrowed(owner.clone()));
                let standing = Box::new(self.session.standing().clone());
                return self.notes.write(Note::Narrowed(*owner, standing, reply));
            }
        };
        // Whoever asked may have gone away.
        let _ = reply.send(response);
    }

    fn owner_says(&mut self, word: OwnerWord, reply: oneshot::Sender<Response>) {
        self.event(Event::Owner(word));
        self.notes.write(Note::Owner(word, reply));
    }

    fn status(&mut self) -> Status {
        let (cache_bytes, cache_bytes_max) = self.cache.usage();
        let membership = self.member.get();
        let now = self.now();
        Status {
            schema_version: Version,
            version: upgrade::version().to_owned(),
            agent: membership.agent,
            name: membership.name,
            network: membership.network.to_string(),
            peer: self.node.local_peer().to_string(),
            pid: std::process::id(),
            started: self.started,
            now,
            data: self.data.clone(),
            coordinator: self.line.as_ref().map(|line| line.address.to_string()),
            unwanted: self.member.unwanted(),
            portal: self.portal.clone(),
            machine_policy: self.session.standing().set_by_machine(),
            session: self.session.status(now),
            share: self.counter.share(tally::local()),
            sources: self.sensor.sources(),
            cage: self.processes.cage().map(ToString::to_string),
            cache_bytes,
            cache_bytes_max,
        }
    }

    /// Carries out everything that the session wants, and what follows from it.
    fn carry_out(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            if let Some(event) = self.effect(effect) {
                self.event(event);
            }
        }
        if !self.said.is_empty() {
            let batch = std::mem::take(&mut self.said);
            if self.line.as_ref().is_some_and(|line| !line.send(batch)) {
                self.close(CloseReason::Protocol("it does not read what it is told"));
            }
        }
        self.tell_pauses();
    }

    /// Carries out an effect; gives back what follows at once.
    fn effect(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Send(message) => {
                if let ToCoordinator::Finished(_) = message {
                    tracing::trace!(target: "parts", "result said");
                }
                if let ToCoordinator::Saved { .. } | ToCoordinator::Keeps(_) = message {
                    // Whoever is sent for the snapshot must find who holds it.
                    self.tell_blobs();
                }
                if let ToCoordinator::Released { attempts, .. } = &message {
                    let remains = attempts.iter().filter_map(|attempt| self.processes.take_remains(*attempt));
                    self.said.extend(remains.map(|remains| ToCoordinator::Remains(Box::new(remains))));
                }
                self.said.push(message);
            }
            Effect::ReadLog { attempt, from } => self.said.push(ToCoordinator::Log(self.processes.log(attempt, from))),
            Effect::Close(reason) => self.close(reason),
            Effect::Adopt(welcome) => {
                tracing::info!(agent = %welcome.agent, "connected");
                // It is opened on the owner's desktop: only what is an address, and nothing else.
                self.portal = welcome.portal.filter(|address| is_portal(address));
                self.adopt(welcome.certificate.as_deref(), welcome.coordinators);
            }
            Effect::Learn(coordinators) => self.learn(coordinators),
            Effect::KeepPolicy(signed) => {
                tracing::info!("the coordinator says what is allowed here");
                self.notes.write(Note::Policy(signed));
            }
            Effect::Upgrade(release) => {
                let now = self.now();
                let membership = self.member.get();
                let allowed = self.session.standing().effective().upgrades;
                let me = Me { authority: membership.authority, network: membership.network, allowed };
                let doings = self.upgrade.told(release, &me, now);
                self.upgrade_by(doings);
            }
            Effect::Publish(capacity) => {
                let node = self.node.clone();
                tokio::spawn(async move { node.publish_capacity(capacity).await });
            }
            Effect::Fetch(blob) => self.transfers.fetch(blob),
            Effect::Unpin(digest) => self.transfers.unpin(digest),
            Effect::Start { slot, plan, build } => self.processes.start(slot, plan, build),
            Effect::Serve { slot, plan } => self.processes.serve(slot, &plan),
            Effect::Run { slot, attempt, input, resume } => {
                tracing::trace!(target: "parts", "executor told");
                self.processes.run(slot, attempt, input, resume);
            }
            Effect::Checkpoint { slot, attempt } => self.processes.ask(slot, attempt, Ask::Checkpoint),
            Effect::Suspend { slot, attempt } => self.processes.ask(slot, attempt, Ask::Suspend),
            Effect::Erase(digest) => self.transfers.erase(digest),
            Effect::Freeze { slot } => self.processes.freeze(slot),
            Effect::Thaw { slot } => self.processes.thaw(slot),
            Effect::Kill { slot } => return self.processes.kill(slot),
            Effect::Probe(part) => self.probe(part),
            Effect::Keep(record) => self.outbox.keep(self.processes.completed(record)),
            Effect::Recollect(attempts) => self.outbox.recollect(attempts),
            Effect::Deliver { attempt, output } => self.transfers.deliver(attempt, output, self.outbox.output_path(attempt)),
            Effect::Drop(attempts) => {
                attempts.iter().for_each(|attempt| drop(self.processes.take_remains(*attempt)));
                self.outbox.drop_results(attempts);
            }
            Effect::Wake(cards) => drop(tokio::spawn(wake::wake(cards))),
            Effect::Log(remark) => remark::log(remark),
            Effect::Quit => self.quit = true,
        }
        None
    }

    /// An upgrade that is under way is looked at in each turn.
    fn upgrade_goes_on(&mut self) {
        if !self.upgrade.is_under_way() {
            return;
        }
        let now = self.now();
        if let Some(placing) = &mut self.placing {
            let result = match placing.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => Err("it broke".into()),
                Ok(result) => result,
            };
            self.placing = None;
            let doings = self.upgrade.placed(result, now);
            return self.upgrade_by(doings);
        }
        let doings = self.upgrade.look(self.session.may_leave(), now);
        self.upgrade_by(doings);
    }

    fn upgrade_by(&mut self, doings: Vec<Doing>) {
        for doing in doings {
            match doing {
                Doing::Fetch(blob) => self.transfers.fetch(blob),
                Doing::Unpin(digest) => self.transfers.unpin(digest),
                Doing::GiveWay(upgrading) => self.event(Event::Upgrading(upgrading)),
                Doing::Place(wanted) => self.place(*wanted),
                Doing::Say(report) => {
                    tracing::info!(release = report.count, step = ?report.step, "an upgrade");
                    if self.line.is_some() {
                        self.said.push(ToCoordinator::Upgrade(report));
                    }
                }
            }
        }
        self.carry_out();
    }

    /// Puts the package where its installer finds it: no turn waits for the disk.
    fn place(&mut self, wanted: Wanted) {
        let (data, cached) = (self.data.clone(), self.cache.path(&wanted.release.package.digest));
        let (done, placing) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let placed = upgrade::place(&data, &cached, &wanted).map_err(|error| error.to_string());
            // The agent may have ended meanwhile.
            let _ = done.send(placed);
        });
        self.placing = Some(placing);
    }

    fn probe(&self, part: Part) {
        match part {
            Part::Outbox => self.outbox.probe(),
            Part::Cache => self.transfers.probe(),
            Part::Scratch => self.processes.probe_scratch(),
            Part::Executor | Part::Killed | Part::Cage => self.processes.probe(),
        }
    }

    /// Tells the coordinator by which cards this machine can be woken and wake others, after the greeting.
    fn tell_cards(&mut self) {
        if std::mem::take(&mut self.tell_cards) && self.line.is_some() {
            self.said.push(ToCoordinator::Cards(wake::cards()));
        }
    }

    /// Tells the coordinator the ends of the logs that are written, rarely.
    fn tell_log_ends(&mut self) {
        if self.line.is_some() && self.log_ends_told.elapsed() >= LOG_ENDS_EVERY {
            self.log_ends_told = Instant::now();
            let ends = self.processes.log_ends();
            self.said.extend(ends.into_iter().map(|remains| ToCoordinator::Remains(Box::new(remains))));
        }
    }

    /// Tells the coordinator what changed in the cache. Said after the greeting, which leaves in the turn of its stream.
    fn tell_blobs(&mut self) {
        if self.line.is_some()
            && let Some(report) = self.told.report(&self.cache, self.node.transferred())
        {
            self.said.push(ToCoordinator::Blobs(report));
        }
    }

    fn close(&mut self, reason: CloseReason) {
        tracing::warn!(%reason, "closing the connection");
        self.said.clear();
        if let Some(line) = self.line.take() {
            line.close(reason);
        }
    }

    /// Keeps what a coordinator says about this agent's membership.
    fn adopt(&self, certificate: Option<&[u8]>, coordinators: Vec<String>) {
        if let Some(bytes) = certificate {
            match codec::decode(bytes) {
                Ok(fresh) => self.notes.write(Note::Certificate(fresh)),
                Err(error) => tracing::warn!(%error, "the coordinator sent a certificate that cannot be read"),
            }
        }
        self.learn(coordinators);
    }

    fn learn(&self, coordinators: Vec<String>) {
        let working = self.line.as_ref().map(|line| line.address.clone());
        self.notes.write(Note::Coordinators(coordinators, working));
    }

    /// Tells companions what they show, if it changed and they were not told a moment ago.
    fn tell_companions(&mut self) {
        self.company.working(!self.session.is_idle());
        if self.company.looks() {
            let status = self.status();
            self.company.show(status);
        }
    }

    /// Pauses are what an owner looks for in a log.
    fn tell_pauses(&mut self) {
        let paused = self.session.objects();
        if paused == self.paused {
            return;
        }
        match &paused {
            Some(reason) => tracing::info!(%reason, "paused"),
            None => tracing::info!("resumed"),
        }
        self.paused = paused;
    }
}
