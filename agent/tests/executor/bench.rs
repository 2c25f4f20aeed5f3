//! A workbench: compile a guest, start an executor, run attempts, hear events within a deadline.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lull_engine::executor::{
    engine::{self, CompileOptions, Platform},
    process::{Death, Event, Executor, Finished, Input, Output, Run, Snapshot, SpawnError, Spec},
    protocol::{Build, Load, Priority, World},
};
use lull_shared::{
    digest::Digest,
    id::{AttemptId, JobId, TaskId},
    job::{AttemptLimits, Grants},
    message::ModuleKind,
    state::Failure,
    time::Timestamp,
};
use tokio::sync::mpsc::UnboundedReceiver;

/// Far above what anything here takes, on a machine with other work.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub folder: Arc<tempfile::TempDir>,
    pub load: Load,
    /// What is started.
    pub program: PathBuf,
}

impl Bench {
    pub(crate) fn new(text: &str) -> Self {
        Self::of_kind(text, ModuleKind::Preview1)
    }

    /// With the migratable build of the same function, made by hand: what stands behind `;;+` is part of it.
    pub(crate) fn migratable(text: &str) -> Self {
        let text = text.replace(";;+", "");
        let mut bench = Self::new(&text);
        bench.load.build = Build::Migratable { code: Digest::of(text.as_bytes()) };
        bench
    }

    pub(crate) fn of_kind(text: &str, kind: ModuleKind) -> Self {
        Self::of_module(&wat::parse_str(text).expect("the guest is valid text"), kind)
    }

    /// With a function that a compiler made.
    pub(crate) fn of_module(module: &[u8], kind: ModuleKind) -> Self {
        let options = CompileOptions { kind, canonical_nans: false, platform: Platform::host() };
        let artifact = engine::precompile(module, &options).expect("the guest compiles");
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let path = folder.path().join("artifact");
        std::fs::write(&path, &artifact).expect("a file");
        let load = Load {
            artifact: path.into(),
            digest: Digest::of(&artifact),
            kind,
            build: Build::Plain,
            limits: AttemptLimits { memory_bytes: 64 << 20, ..AttemptLimits::default() },
            grants: Grants::default(),
            scratch: None,
            priority: Priority::Normal,
            world: World {
                job: JobId(7),
                function: "resize".into(),
                args: vec!["--width".into(), "640".into()],
                env: vec![("COLOUR".into(), "yes".into())],
                exit_codes: lull_shared::codes::ExitCodes::default(),
                seed: 11,
                clock_start: Timestamp::from_millis(1_000_000),
            },
        };
        Self { folder, load, program: program() }
    }

    /// Grants a scratch folder with something in it.
    pub(crate) fn with_scratch(mut self, scratch_bytes: u64) -> Self {
        let scratch = self.folder.path().join("scratch");
        std::fs::create_dir_all(scratch.join("old")).expect("a folder");
        std::fs::write(scratch.join("file"), "from before").expect("a file");
        self.load.grants.scratch = true;
        self.load.limits.scratch_bytes = scratch_bytes;
        self.load.scratch = Some(scratch.into());
        self
    }

    pub(crate) async fn try_start(&self) -> Result<Bed, SpawnError> {
        let spec = Spec { program: Some(self.program.clone()), load: self.load.clone() };
        let (executor, events) = tokio::time::timeout(DEADLINE, Executor::spawn(spec)).await.expect("it starts in time")?;
        Ok(Bed { executor, events, folder: Arc::clone(&self.folder) })
    }

    pub(crate) async fn start(&self) -> Bed {
        self.try_start().await.expect("the executor starts")
    }

    /// Starts an executor for one attempt.
    pub(crate) async fn once(&self, input: &[u8]) -> Finished {
        let mut bed = self.start().await;
        bed.run(0, input);
        bed.finished().await
    }

    /// What the one attempt failed of.
    pub(crate) async fn failure(&self) -> Failure {
        self.once(b"").await.outcome.expect_err("it fails")
    }
}

/// A started executor.
pub(crate) struct Bed {
    pub executor: Executor,
    pub events: UnboundedReceiver<Event>,
    folder: Arc<tempfile::TempDir>,
}

impl Bed {
    pub(crate) fn run(&self, index: u32, input: &[u8]) {
        self.run_with(index, Input::Inline(Bytes::copy_from_slice(input)));
    }

    pub(crate) fn run_with(&self, index: u32, input: Input) {
        let output = self.outputs().join(format!("output-{index}"));
        self.executor.run(Run { attempt: attempt(index), input, output, resume: None }).expect("the executor takes it");
    }

    pub(crate) async fn event(&mut self) -> Event {
        tokio::time::timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("an event")
    }

    pub(crate) async fn started(&mut self, index: u32) {
        let event = self.event().await;
        assert!(matches!(event, Event::Started { attempt: started } if started == attempt(index)), "{event:?}");
    }

    /// The folder of long outputs.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    /// The next end of an attempt.
    pub(crate) async fn finished(&mut self) -> Finished {
        loop {
            match self.event().await {
                Event::Started { .. } => {}
                Event::Finished(finished) => return *finished,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hands over an attempt that goes on from a snapshot.
    pub(crate) fn resume(&self, index: u32, input: Input, snapshot: PathBuf) {
        let output = self.outputs().join(format!("output-{index}"));
        self.executor.run(Run { attempt: attempt(index), input, output, resume: Some(snapshot) }).expect("the executor takes it");
    }

    /// The next snapshot or end.
    pub(crate) async fn saved_or_finished(&mut self) -> Result<Snapshot, Finished> {
        loop {
            match self.event().await {
                Event::Started { .. } => {}
                Event::Saved(snapshot) => return Ok(*snapshot),
                Event::Finished(finished) => return Err(*finished),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The snapshot that was asked for.
    pub(crate) async fn saved(&mut self) -> Snapshot {
        self.saved_or_finished().await.unwrap_or_else(|finished| panic!("it ended before: {finished:?}"))
    }

    /// The snapshot that was asked for; none if the process died first.
    pub(crate) async fn saved_or_died(&mut self) -> Option<Snapshot> {
        match self.event().await {
            Event::Saved(snapshot) => Some(*snapshot),
            Event::Died { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    /// The end of the process after an attempt was begun.
    pub(crate) async fn died_running(&mut self) -> Death {
        loop {
            match self.event().await {
                Event::Started { .. } => {}
                Event::Died { running: Some(_), death, .. } => return death,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The end of the process.
    pub(crate) async fn died(&mut self) -> (Option<AttemptId>, Vec<AttemptId>, Death) {
        let event = self.event().await;
        let Event::Died { running, queued, death, .. } = event else { panic!("{event:?}") };
        (running, queued, death)
    }
}

pub(crate) fn attempt(index: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(7), index }, number: 2 }
}

pub(crate) fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lull-agent")).to_owned()
}

pub(crate) fn inline(finished: &Finished) -> &[u8] {
    match &finished.outcome {
        Ok(Output::Inline(bytes)) => bytes,
        other => panic!("no inline output: {other:?}"),
    }
}
