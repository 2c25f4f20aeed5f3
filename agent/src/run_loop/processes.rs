//! The executor processes of all slots, and the tasks that start them and listen to them.
//!
//! A start takes time (a module may have to be compiled) and can be given up: each has a generation, and reports of
//! one that was given up are not heard any more.

use std::{path::PathBuf, sync::Arc, time::Duration};

use lull_shared::{
    digest::BlobRef,
    id::AttemptId,
    message::{Build, ModuleManifest, Outcome, Payload},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::Input;
use crate::{
    cache::Cache,
    executor::{
        artifact::{ArtifactError, Artifacts},
        compile::{CompileError, Refusal},
        process::{self, Executor, Finished, Output, Run, SpawnError, Spec},
        protocol::{self, Ask, Cage, Load, LoadError, Priority, World},
    },
    files,
    outbox::Outbox,
    session::{Code, Done, Event, Plan, StartError},
    slot::SlotId,
};

/// Executor events handed over at once.
const EVENTS_PER_REPORT: usize = 64;

/// What all starts need.
pub struct Workshop {
    pub cache: Cache,
    pub outbox: Outbox,
    pub artifacts: Artifacts,
    /// Scratch folders, one for each slot.
    pub scratch: PathBuf,
    /// Snapshots while they are written, on the cache's disk.
    pub snapshots: PathBuf,
    pub priority: Priority,
    /// Another program than this one, in tests.
    pub program: Option<PathBuf>,
}

/// From the task of one start.
pub struct Report {
    slot: SlotId,
    generation: u64,
    news: News,
}

enum News {
    Started(Box<Executor>),
    NotStarted(StartError),
    Events(Vec<process::Event>),
}

/// Every slot's process.
pub struct Processes {
    workshop: Arc<Workshop>,
    inputs: mpsc::Sender<Input>,
    slots: Vec<Slot>,
    generation: u64,
    cage: Option<Cage>,
}

struct Slot {
    generation: u64,
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
    pub fn new(slots: u16, workshop: Workshop, inputs: mpsc::Sender<Input>) -> Self {
        let none = || Slot { generation: 0, frozen: false, state: State::None };
        let slots = std::iter::repeat_with(none).take(usize::from(slots)).collect();
        Self { workshop: Arc::new(workshop), inputs, slots, generation: 0, cage: None }
    }

    /// Starts an executor; its report comes by the inputs.
    pub fn start(&mut self, id: SlotId, plan: Arc<Plan>, build: Build) {
        self.generation += 1;
        let (generation, inputs) = (self.generation, self.inputs.clone());
        let workshop = Arc::clone(&self.workshop);
        let task = tokio::spawn(async move {
            let report = |news| Input::Executor(Report { slot: id, generation, news });
            let mut events = match workshop.start(id, &plan, build).await {
                Ok((executor, events)) => {
                    // The run loop is gone only when the process ends.
                    let _ = inputs.send(report(News::Started(Box::new(executor)))).await;
                    events
                }
                Err(error) => {
                    let _ = inputs.send(report(News::NotStarted(error))).await;
                    return;
                }
            };
            let mut batch = Vec::new();
            while events.recv_many(&mut batch, EVENTS_PER_REPORT).await > 0 {
                let _ = inputs.send(report(News::Events(std::mem::take(&mut batch)))).await;
            }
        });
        self.slots[usize::from(id)] = Slot { generation, frozen: false, state: State::Starting(task.abort_handle()) };
    }

    /// What a report means to the session.
    pub fn hear(&mut self, report: Report) -> Vec<Event> {
        let Report { slot: id, generation, news } = report;
        let slot = &mut self.slots[usize::from(id)];
        if slot.generation != generation {
            return Vec::new();
        }
        match news {
            News::Started(executor) => {
                self.cage = Some(executor.cage().clone());
                if slot.frozen {
                    log_failure("freeze", id, executor.freeze());
                }
                slot.state = State::Alive(executor);
                vec![Event::Ready { slot: id }]
            }
            News::NotStarted(error) => {
                slot.state = State::None;
                tracing::warn!(slot = id, ?error, "an executor could not be started");
                vec![Event::StartFailed { slot: id, error }]
            }
            News::Events(events) => {
                events.into_iter().filter_map(|event| translate(id, slot, event, &self.workshop.cache)).collect()
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
                executor.kill();
                None
            }
            State::Starting(task) => {
                task.abort();
                *slot = Slot { generation: 0, frozen: false, state: State::None };
                Some(Event::Gone { slot: id, failed: None })
            }
            State::None => Some(Event::Gone { slot: id, failed: None }),
        }
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

    /// The processor time that all living processes have had.
    pub fn cpu_time(&self) -> Duration {
        let alive = self.slots.iter().filter_map(|slot| match &slot.state {
            // One that has just ended has nothing to say any more.
            State::Alive(executor) => executor.cpu_time().ok(),
            State::None | State::Starting(_) => None,
        });
        alive.sum()
    }

    /// What holds the executors on this machine, once one has started.
    pub fn cage(&self) -> Option<&Cage> {
        self.cage.as_ref()
    }
}

fn translate(id: SlotId, slot: &mut Slot, event: process::Event, cache: &Cache) -> Option<Event> {
    match event {
        process::Event::Started { .. } => None,
        process::Event::Saved(snapshot) => {
            let process::Snapshot { attempt, ask, path, blob, .. } = *snapshot;
            match cache.adopt(&path, blob) {
                Ok(()) => Some(Event::Saved { slot: id, attempt, snapshot: blob, suspended: ask == Ask::Suspend }),
                Err(error) => {
                    tracing::warn!(slot = id, %attempt, %error, "a snapshot cannot be kept");
                    None
                }
            }
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
            Some(Event::Gone { slot: id, failed: running.zip(death.failure()) })
        }
    }
}

fn log_failure(what: &str, slot: SlotId, result: std::io::Result<()>) {
    if let Err(error) = result {
        // A process that has just died cannot be frozen; its last event is on its way.
        tracing::debug!(slot, what, %error, "a process did not obey");
    }
}

impl Workshop {
    async fn start(
        &self,
        slot: SlotId,
        plan: &Plan,
        build: Build,
    ) -> Result<(Executor, mpsc::UnboundedReceiver<process::Event>), StartError> {
        let (Some(code), Some(manifest)) = (plan.code(build), plan.manifest_of(build)) else {
            return Err(StartError::Executor("its module has no such build".into()));
        };
        let blob = code.blob();
        let fetched = self.cache.path(&blob.digest);
        let (artifact, digest) = match code {
            Code::Artifact(_) => (fetched, blob.digest),
            Code::Module(_) => {
                let made = self.artifacts.ready(&manifest, &fetched).await.map_err(not_compiled)?;
                (made.path, made.digest)
            }
        };
        let scratch = self.scratch.join(format!("slot-{slot}"));
        if plan.terms.grants.scratch {
            files::make_private_folder(&scratch).map_err(|error| StartError::Executor(error.to_string()))?;
        }
        let terms = &plan.terms;
        let load = Load {
            artifact: artifact.into_os_string(),
            digest,
            kind: manifest.kind,
            build: match build {
                Build::Plain => protocol::Build::Plain,
                Build::Migratable => protocol::Build::Migratable { code: manifest.module.digest },
            },
            limits: terms.limits,
            grants: terms.grants,
            scratch: terms.grants.scratch.then(|| scratch.into_os_string()),
            priority: self.priority,
            world: world(plan),
        };
        match Executor::spawn(Spec { program: self.program.clone(), load }).await {
            Ok(started) => Ok(started),
            Err(error) => Err(self.not_spawned(&manifest, code, error).await),
        }
    }

    async fn not_spawned(&self, manifest: &ModuleManifest, code: Code, error: SpawnError) -> StartError {
        let SpawnError::Load(load) = &error else { return StartError::Executor(error.to_string()) };
        match (code, load) {
            (Code::Artifact(blob), LoadError::Unreadable { .. } | LoadError::Digest { .. }) => {
                self.cache.forget(&blob.digest);
                StartError::Artifact(error.to_string())
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
    let terms = &plan.terms;
    World {
        job: terms.job,
        function: plan.manifest.function.clone(),
        args: terms.args.clone(),
        env: terms.env.clone(),
        exit_codes: terms.exit_codes.clone(),
        seed: terms.seed,
        clock_start: terms.clock_start,
    }
}

fn not_compiled(error: ArtifactError) -> StartError {
    match error {
        ArtifactError::Compile(CompileError::Refused(Refusal::Module(reason))) => StartError::Module(reason),
        ArtifactError::Disk(_) | ArtifactError::Compile(_) => StartError::Executor(error.to_string()),
    }
}
