//! The executor processes of all slots, and the tasks that start them and listen to them.
//!
//! A start takes time (a module may have to be compiled) and can be given up: each has a generation, and reports of
//! one that was given up are not heard any more.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use lull_engine::{
    cache::Cache,
    executor::{
        artifact::{ArtifactError, Artifacts},
        compile::{CompileError, Refusal},
        probe,
        process::{self, Executor, Finished, Output, Piece, Run, SpawnError, Spec},
        protocol::{self, Ask, Cage, Load, LoadError, Priority, World},
    },
    files,
};
use lull_session::{Code, Done, Event, Plan, StartError, slot::SlotId};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    limits::LOG_PIECE_BYTES,
    message::{self, Build, LogPiece, ModuleManifest, Outcome, Payload, Remains},
    state::{Part, Trouble, Usage},
};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::outbox::Outbox;

/// Attempts whose executors were killed, and whose logs are kept until that is said: each may have half a megabyte.
const REMAINS_MAX: usize = 64;
/// What is told now and then of the log of a running attempt, beside what it used: its last lines.
const LOG_END_BYTES: usize = 2 * 1024;
/// Attempts of which that is told at once.
const LOG_ENDS_MAX: usize = 8;
/// Executor events handed over at once: two for each attempt.
const EVENTS_PER_REPORT: usize = 512;

/// What all starts need.
pub struct Workshop {
    pub cache: Cache,
    pub outbox: Outbox,
    pub artifacts: Artifacts,
    /// Where executors make the files for their scratch folders, which have no name there.
    pub scratch: PathBuf,
    /// Snapshots while they are written, on the cache's disk.
    pub snapshots: PathBuf,
    pub priority: Priority,
    /// Another program than this one, in tests.
    pub program: Option<PathBuf>,
}

/// What comes from executors.
pub enum Report {
    /// From the task of one start.
    Slot { slot: SlotId, generation: u64, news: News },
    /// What a probe of executors found.
    Tried(Result<Cage, String>),
    /// What a probe of the folder for scratch files found.
    TriedScratch(Result<(), String>),
}

/// What happened to the process of a slot.
pub enum News {
    Started(Box<Executor>),
    NotStarted(StartError),
    Events(Vec<process::Event>),
}

/// Every slot's process.
pub struct Processes {
    workshop: Arc<Workshop>,
    reports: mpsc::Sender<Report>,
    slots: Vec<Slot>,
    generation: u64,
    cage: Option<Cage>,
    /// What attempts left whose executors were killed or that were suspended, until their results are said or they are
    /// released.
    remains: BTreeMap<AttemptId, Remains>,
    /// What those had said that are asked to suspend.
    suspending: BTreeMap<SlotId, Remains>,
    /// At which time of telling each running attempt was told of last, and how often something was told.
    told: BTreeMap<AttemptId, u64>,
    times_told: u64,
    /// Processor time that was not asked for yet of executors that are gone.
    cpu_of_gone: Duration,
}

/// Processor time that functions have had.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime {
    /// Those whose processes live, each since its start.
    pub alive: Duration,
    /// All, since this was asked last.
    pub gained: Duration,
}

struct Slot {
    generation: u64,
    /// What its process had had of the processors when that was asked for last.
    cpu: Duration,
    frozen: bool,
    state: State,
}

enum State {
    None,
    Starting(AbortHandle),
    Alive(Box<Executor>),
}

impl Processes {
    /// No processes yet.
    pub fn new(slots: u16, workshop: Workshop, reports: mpsc::Sender<Report>) -> Self {
        let none = || Slot { generation: 0, cpu: Duration::ZERO, frozen: false, state: State::None };
        let slots = std::iter::repeat_with(none).take(usize::from(slots)).collect();
        Self {
            workshop: Arc::new(workshop),
            reports,
            slots,
            generation: 0,
            cage: None,
            remains: BTreeMap::new(),
            suspending: BTreeMap::new(),
            told: BTreeMap::new(),
            times_told: 0,
            cpu_of_gone: Duration::ZERO,
        }
    }

    /// Starts an executor; its report follows.
    pub fn start(&mut self, id: SlotId, plan: Arc<Plan>, build: Build) {
        self.generation += 1;
        let (generation, reports) = (self.generation, self.reports.clone());
        let workshop = Arc::clone(&self.workshop);
        let task = tokio::spawn(async move {
            let report = |news| Report::Slot { slot: id, generation, news };
            let mut events = match workshop.start(&plan, build).await {
                Ok((executor, events)) => {
                    // The run loop is gone only when the process ends.
                    let _ = reports.send(report(News::Started(Box::new(executor)))).await;
                    events
                }
                Err(error) => {
                    let _ = reports.send(report(News::NotStarted(error))).await;
                    return;
                }
            };
            let mut batch = Vec::new();
            while events.recv_many(&mut batch, EVENTS_PER_REPORT).await > 0 {
                let mut news = Vec::with_capacity(batch.len());
                for event in batch.drain(..) {
                    news.extend(workshop.take_over(id, event).await);
                }
                let _ = reports.send(report(News::Events(news))).await;
            }
        });
        self.slots[usize::from(id)] =
            Slot { generation, cpu: Duration::ZERO, frozen: false, state: State::Starting(task.abort_handle()) };
    }

    /// What a report means to the session.
    pub fn hear(&mut self, report: Report) -> Vec<Event> {
        let (id, generation, news) = match report {
            Report::Slot { slot, generation, news } => (slot, generation, news),
            Report::Tried(found) => return self.probed(&found),
            Report::TriedScratch(result) => return vec![Event::Probed { part: Part::Scratch, result }],
        };
        let slot = &mut self.slots[usize::from(id)];
        if slot.generation != generation {
            return Vec::new();
        }
        match news {
            News::Started(executor) => {
                if slot.frozen {
                    log_failure("freeze", id, executor.freeze());
                }
                let news = self.cage.as_ref() != Some(executor.cage());
                let caged = news.then(|| Event::Caged { missing: executor.cage().missing() });
                self.cage = Some(executor.cage().clone());
                slot.state = State::Alive(executor);
                caged.into_iter().chain([Event::Ready { slot: id }]).collect()
            }
            News::NotStarted(error) => {
                slot.state = State::None;
                tracing::warn!(slot = id, ?error, "an executor could not be started");
                vec![Event::StartFailed { slot: id, error }]
            }
            News::Events(mut events) => {
                let died = events.iter_mut().filter_map(|event| match event {
                    process::Event::Died { remains, .. } => remains.take(),
                    _ => None,
                });
                let remains = died.map(|remains| *remains).next();
                let suspended = events.iter().find_map(|event| match event {
                    process::Event::Saved(snapshot) if snapshot.ask == Ask::Suspend => Some((snapshot.attempt, snapshot.usage)),
                    _ => None,
                });
                let suspended = suspended.map(|(attempt, usage)| {
                    // What it used is known by its snapshot, what it said from before.
                    let said = self.suspending.remove(&id).filter(|said| said.attempt == attempt);
                    let none = Remains { attempt, log: Default::default(), log_dropped_bytes: 0, usage };
                    Remains { usage, ..said.unwrap_or(none) }
                });
                let news = events.into_iter().flat_map(|event| translate(id, slot, event)).collect();
                // Of one that was killed here it was taken before.
                if remains.as_ref().is_some_and(|remains| !self.remains.contains_key(&remains.attempt)) {
                    self.keep_remains(remains);
                }
                self.keep_remains(suspended);
                news
            }
        }
    }

    /// Hands an attempt to a slot's executor.
    pub fn run(&mut self, id: SlotId, attempt: AttemptId, input: Payload, resume: Option<BlobRef>) {
        let State::Alive(executor) = &self.slots[usize::from(id)].state else { return };
        let input = match input {
            Payload::Inline(bytes) => process::Input::Inline(bytes),
            Payload::Blob(blob) => process::Input::File(self.workshop.cache.path(&blob.digest)),
        };
        let output = self.workshop.outbox.output_path(attempt);
        let resume = resume.map(|blob| self.workshop.cache.path(&blob.digest));
        if let Err(error) = executor.run(Run { attempt, input, output, resume }) {
            // It has died: its last event is on its way, and names what it had begun.
            tracing::debug!(slot = id, %attempt, %error, "an executor took no more");
        }
    }

    /// Turns a slot's executor to another job.
    pub fn serve(&mut self, id: SlotId, plan: &Plan) {
        let State::Alive(executor) = &self.slots[usize::from(id)].state else { return };
        if let Err(error) = executor.serve(world(plan)) {
            // It has died: its last event is on its way.
            tracing::debug!(slot = id, %error, "an executor took no other job");
        }
    }

    /// Asks for a snapshot of what a slot's executor runs. Where none can be taken the executor of what was to be suspended
    /// is ended, so that its memory is free all the same.
    pub fn ask(&mut self, id: SlotId, attempt: AttemptId, ask: Ask) {
        let State::Alive(executor) = &self.slots[usize::from(id)].state else { return };
        let file = self.workshop.snapshots.join(format!(
            "slot-{id}-{}",
            match ask {
                Ask::Checkpoint => "checkpoint",
                Ask::Suspend => "suspend",
            }
        ));
        if ask == Ask::Suspend {
            match executor.remains().filter(|said| said.attempt == attempt) {
                Some(said) => self.suspending.insert(id, said),
                None => self.suspending.remove(&id),
            };
        }
        let asked = match ask {
            Ask::Checkpoint => executor.checkpoint(attempt, file),
            Ask::Suspend => executor.suspend(attempt, file),
        };
        if let Err(error) = asked {
            tracing::debug!(slot = id, %attempt, ?ask, %error, "no snapshot can be taken");
            if ask == Ask::Suspend {
                executor.kill();
            }
        }
    }

    /// Takes the processor from a slot's process, now or as soon as it has started.
    pub fn freeze(&mut self, id: SlotId) {
        let slot = &mut self.slots[usize::from(id)];
        slot.frozen = true;
        if let State::Alive(executor) = &slot.state {
            log_failure("freeze", id, executor.freeze());
        }
    }

    /// Gives it back.
    pub fn thaw(&mut self, id: SlotId) {
        let slot = &mut self.slots[usize::from(id)];
        slot.frozen = false;
        if let State::Alive(executor) = &slot.state {
            log_failure("thaw", id, executor.thaw());
        }
    }

    /// Ends a slot's process. A start that is given up is over at once; the end of a living one is reported.
    pub fn kill(&mut self, id: SlotId) -> Option<Event> {
        let slot = &mut self.slots[usize::from(id)];
        match &slot.state {
            State::Alive(executor) => {
                let remains = executor.remains();
                let had = executor.cpu_time().unwrap_or_default();
                self.cpu_of_gone += had.saturating_sub(std::mem::replace(&mut slot.cpu, had));
                executor.kill();
                self.keep_remains(remains);
                None
            }
            State::Starting(task) => {
                task.abort();
                *slot = Slot { generation: 0, cpu: Duration::ZERO, frozen: false, state: State::None };
                Some(Event::Gone { slot: id, failed: None })
            }
            State::None => Some(Event::Gone { slot: id, failed: None }),
        }
    }

    fn keep_remains(&mut self, remains: Option<Remains>) {
        let Some(remains) = remains else { return };
        self.remains.insert(remains.attempt, remains);
        while self.remains.len() > REMAINS_MAX {
            self.remains.pop_first();
        }
    }

    /// What an attempt left whose executor was killed, once.
    pub fn take_remains(&mut self, attempt: AttemptId) -> Option<Remains> {
        self.remains.remove(&attempt)
    }

    /// A result of an executor that was killed, with what that left.
    pub fn completed(&self, record: Arc<message::Finished>) -> Arc<message::Finished> {
        let Some(Remains { log, log_dropped_bytes, usage, .. }) = self.remains.get(&record.attempt).cloned() else {
            return record;
        };
        let usage = Usage { wall_us: usage.wall_us.max(record.usage.wall_us), ..usage };
        Arc::new(message::Finished { log, log_dropped_bytes, usage, ..message::Finished::clone(&record) })
    }

    /// A part of the log of an attempt that runs.
    pub fn log(&self, attempt: AttemptId, asked: u64) -> LogPiece {
        let alive =
            self.slots.iter().filter_map(|slot| if let State::Alive(executor) = &slot.state { Some(executor) } else { None });
        let piece = alive.filter_map(|executor| executor.log(attempt, asked, LOG_PIECE_BYTES)).next();
        match piece {
            Some(Piece { from, bytes, total }) => LogPiece { attempt, asked, from, bytes: bytes.into(), total: Some(total) },
            None => LogPiece { attempt, asked, from: asked, bytes: Default::default(), total: None },
        }
    }

    /// What running attempts used and the ends of their logs, those first of which that was told the longest ago: what is
    /// known of them while they run, and should this machine vanish.
    pub fn log_ends(&mut self) -> Vec<Remains> {
        let alive =
            self.slots.iter().filter_map(|slot| if let State::Alive(executor) = &slot.state { Some(executor) } else { None });
        let mut remains: Vec<Remains> = alive.filter_map(|executor| executor.remains()).collect();
        self.told.retain(|attempt, _| remains.iter().any(|remains| remains.attempt == *attempt));
        remains.sort_by_key(|remains| self.told.get(&remains.attempt).copied());
        remains.truncate(LOG_ENDS_MAX);
        self.times_told += 1;
        for remains in &mut remains {
            self.told.insert(remains.attempt, self.times_told);
            let cut = remains.log.len().saturating_sub(LOG_END_BYTES);
            remains.log = remains.log.slice(cut..);
            remains.log_dropped_bytes += cut as u64;
        }
        remains
    }

    /// Ends every process, when nobody listens any more.
    pub fn kill_all(&mut self) {
        for slot in &mut self.slots {
            if let State::Starting(task) = &slot.state {
                task.abort();
            }
            slot.state = State::None;
        }
    }

    /// The processor time of functions. What one uses between the last asking and its own end is in neither.
    pub fn cpu_time(&mut self) -> CpuTime {
        let mut time = CpuTime { alive: Duration::ZERO, gained: std::mem::take(&mut self.cpu_of_gone) };
        for slot in &mut self.slots {
            // One that has just ended has nothing to say any more.
            if let State::Alive(executor) = &slot.state
                && let Ok(had) = executor.cpu_time()
            {
                time.alive += had;
                time.gained += had.saturating_sub(std::mem::replace(&mut slot.cpu, had));
            }
        }
        time
    }

    /// Takes in what a probe found.
    fn probed(&mut self, found: &Result<Cage, String>) -> Vec<Event> {
        let result = found.as_ref().map(|_| ()).map_err(Clone::clone);
        let mut events = vec![Event::Probed { part: Part::Executor, result: result.clone() }];
        match found {
            Ok(cage) => {
                self.cage = Some(cage.clone());
                events.push(Event::Caged { missing: cage.missing() });
            }
            Err(reason) => events.push(Event::Probed { part: Part::Cage, result: Err(reason.clone()) }),
        }
        events.push(Event::Probed { part: Part::Killed, result });
        events
    }

    /// Tries what executors need; a report follows.
    pub fn probe(&self) {
        let (workshop, reports) = (Arc::clone(&self.workshop), self.reports.clone());
        tokio::spawn(async move {
            let found = probe::probe(workshop.program.clone()).await.map_err(|error| error.to_string());
            // The run loop is gone only when the process ends.
            let _ = reports.send(Report::Tried(found)).await;
        });
    }

    /// Tries whether the folder for scratch files can be written to; a report follows.
    pub fn probe_scratch(&self) {
        let (workshop, reports) = (Arc::clone(&self.workshop), self.reports.clone());
        tokio::task::spawn_blocking(move || {
            let result = files::try_folder(&workshop.scratch).map_err(|error| error.to_string());
            let _ = reports.blocking_send(Report::TriedScratch(result));
        });
    }

    /// What holds the executors on this machine, once one has started.
    pub fn cage(&self) -> Option<&Cage> {
        self.cage.as_ref()
    }
}

fn translate(id: SlotId, slot: &mut Slot, event: process::Event) -> Vec<Event> {
    let event = match event {
        process::Event::Started { .. } => None,
        process::Event::Saved(snapshot) => {
            let process::Snapshot { attempt, ask, blob, .. } = *snapshot;
            Some(Event::Saved { slot: id, attempt, snapshot: blob, suspended: ask == Ask::Suspend })
        }
        process::Event::NotSaved { attempt, reason, .. } => {
            tracing::warn!(slot = id, %attempt, reason, "a snapshot cannot be written");
            None
        }
        process::Event::Refused { attempt, unfit } => Some(Event::BeginsAnew { slot: id, attempt, reason: unfit.to_string() }),
        process::Event::Finished(finished) => {
            let Finished { attempt, outcome, log, log_dropped_bytes, usage } = *finished;
            let outcome = match outcome {
                Ok(Output::Inline(bytes)) => Outcome::Succeeded { output: Payload::Inline(bytes) },
                Ok(Output::File { blob, .. }) => Outcome::Succeeded { output: Payload::Blob(blob) },
                Err(failure) => Outcome::Failed(failure),
            };
            Some(Event::Done { slot: id, done: Box::new(Done { attempt, outcome, log, log_dropped_bytes, usage }) })
        }
        process::Event::Died { running, death, .. } => {
            slot.state = State::None;
            if let process::Death::Crashed { how } = &death {
                tracing::warn!(slot = id, how, "an executor died");
            }
            let ended = running.map(|attempt| (id, attempt));
            let trouble = death.trouble().map(|trouble| Event::Trouble { trouble, ended });
            let gone = Event::Gone { slot: id, failed: running.zip(death.failure()) };
            return trouble.into_iter().chain([gone]).collect();
        }
    };
    event.into_iter().collect()
}

fn log_failure(what: &str, slot: SlotId, result: io::Result<()>) {
    if let Err(error) = result {
        // A process that has just died cannot be frozen; its last event is on its way.
        tracing::debug!(slot, what, %error, "a process did not obey");
    }
}

impl Workshop {
    async fn start(&self, plan: &Plan, build: Build) -> Result<(Executor, mpsc::UnboundedReceiver<process::Event>), StartError> {
        let (Some(code), Some(manifest)) = (plan.code(build), plan.manifest_of(build)) else {
            return Err(StartError::Executor("its module has no such build".into()));
        };
        let blob = code.blob();
        let fetched = self.cache.path(&blob.digest);
        let (artifact, digest) = match code {
            Code::Artifact(_) => (fetched, blob.digest),
            Code::Module(_) => {
                let made = match self.artifacts.ready(&manifest, &fetched).await {
                    Ok(made) => made,
                    Err(error) => return Err(self.not_compiled(blob, error).await),
                };
                (made.path, made.digest)
            }
        };
        if plan.brief.grants.scratch {
            // It may have been removed while the agent ran.
            let scratch = self.scratch.clone();
            let made = tokio::task::spawn_blocking(move || files::make_private_folder(&scratch)).await;
            made.map_err(io::Error::other).flatten().map_err(|error| {
                let reason = format!("{}: {error}", self.scratch.display());
                StartError::Trouble(Trouble::new(Part::Scratch, reason))
            })?;
        }
        let brief = &plan.brief;
        let load = Load {
            artifact: artifact.into_os_string(),
            digest,
            kind: manifest.kind,
            build: match build {
                Build::Plain => protocol::Build::Plain,
                Build::Migratable => protocol::Build::Migratable { code: manifest.module.digest },
            },
            limits: brief.limits,
            grants: brief.grants,
            scratch: brief.grants.scratch.then(|| self.scratch.clone().into_os_string()),
            priority: self.priority,
            world: world(plan),
        };
        match Executor::spawn(Spec { program: self.program.clone(), load }).await {
            Ok(started) => Ok(started),
            Err(error) => Err(self.not_spawned(&manifest, code, error).await),
        }
    }

    /// Puts a snapshot into the cache, which may take the disk's time; none if that fails. All else is passed on.
    async fn take_over(&self, id: SlotId, event: process::Event) -> Option<process::Event> {
        let process::Event::Saved(snapshot) = &event else { return Some(event) };
        let (attempt, path, blob) = (snapshot.attempt, snapshot.path.clone(), snapshot.blob);
        match self.cache.on_disk(move |cache| cache.adopt(&path, blob)).await.flatten() {
            Ok(()) => Some(event),
            Err(error) => {
                tracing::warn!(slot = id, %attempt, %error, "a snapshot cannot be kept");
                None
            }
        }
    }

    /// What the cache holds is not what it should be.
    async fn forget(&self, digest: Digest) {
        // It fails only while the agent ends.
        let _ = self.cache.on_disk(move |cache| cache.forget(&digest)).await;
    }

    async fn not_compiled(&self, module: BlobRef, error: ArtifactError) -> StartError {
        match error {
            ArtifactError::Compile(CompileError::Refused(Refusal::Module(reason))) => StartError::Module(reason),
            ArtifactError::Compile(CompileError::Refused(Refusal::Unreadable(_) | Refusal::Digest { .. })) => {
                self.forget(module.digest).await;
                StartError::Missing(error.to_string())
            }
            ArtifactError::Disk(_) | ArtifactError::Compile(_) => StartError::Executor(error.to_string()),
        }
    }

    async fn not_spawned(&self, manifest: &ModuleManifest, code: Code, error: SpawnError) -> StartError {
        let SpawnError::Load(load) = &error else { return StartError::Executor(error.to_string()) };
        match (code, load) {
            (_, LoadError::Engine { .. }) => StartError::Executor(error.to_string()),
            (_, LoadError::Machine(trouble)) => StartError::Trouble(trouble.clone()),
            (Code::Artifact(blob), LoadError::Unreadable { .. } | LoadError::Digest { .. }) => {
                self.forget(blob.digest).await;
                StartError::Missing(error.to_string())
            }
            (Code::Artifact(_), LoadError::Refused { .. } | LoadError::Unmovable(_)) => StartError::Artifact(error.to_string()),
            (Code::Module(_), LoadError::Unreadable { .. } | LoadError::Digest { .. }) => {
                // It is compiled anew for the next attempt.
                if let Err(error) = self.artifacts.forget(manifest).await {
                    tracing::debug!(%error, "a damaged artifact cannot be removed");
                }
                StartError::Executor(error.to_string())
            }
            (Code::Module(_), LoadError::Refused { .. } | LoadError::Unmovable(_)) => StartError::Module(error.to_string()),
        }
    }
}

fn world(plan: &Plan) -> World {
    let brief = &plan.brief;
    World {
        job: brief.job,
        function: plan.manifest.function.clone(),
        args: brief.args.clone(),
        env: brief.env.clone(),
        exit_codes: brief.exit_codes.clone(),
        seed: brief.seed,
        clock_start: brief.clock_start,
    }
}
