//! A loaded module, ready to be run again and again: a fresh instance with zeroed memory for each attempt.

use std::{ffi::OsStr, fs::File, io::Read as _};

use bytes::Bytes;
use lull_shared::{
    digest::{Digest, OutlineBuilder},
    id::{AttemptId, TaskId},
    job::Grants,
    message::ModuleKind,
    state::{Part, Trouble, Usage},
};
use wasmtime::{Engine, ExternType, FuncType, InstancePre, Linker, Module, Store, ThrownException, Trap, component};
use wasmtime_wasi::{
    I32Exit,
    p1::wasi_snapshot_preview1,
    p2::{
        self,
        bindings::{CommandPre, clocks::monotonic_clock, filesystem},
    },
};

use crate::executor::{
    code::engine,
    inside::{
        failure,
        guest::{Ends, Guest},
        moving::{self, Arriving, Ended, Meter, Movable},
        pipe::{Incoming, Outgoing},
        poll,
        scratch::{self, Backing, component::HasFiles},
        stream::{Shared, lock},
        surface,
        time::HasMonotonic,
    },
    protocol::{Build, Done, FromExecutor, Input, Load, LoadError, Run},
    sys, trail,
};

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// A module that was checked, loaded and linked.
pub(in crate::executor) struct Program {
    engine: Engine,
    code: Code,
    /// Memory that every instance begins with, at least.
    memory_bytes_min: u64,
    /// Where the bytes of scratch folders lie, if the job has them.
    scratch: Option<Backing>,
    runtime: tokio::runtime::Runtime,
}

enum Code {
    Preview1(InstancePre<Guest>),
    Migratable(Movable),
    Component(CommandPre<Guest>),
}

impl Program {
    /// Checks the artifact's digest on the open file, then loads and links it.
    pub(in crate::executor) fn load(load: &Load) -> Result<Self, LoadError> {
        let file = open_checked(&load.artifact, load.digest)?;
        if let Build::Migratable { .. } = load.build {
            moving::movable(load.kind, load.grants)?;
        }
        let unready = |reason: String| LoadError::Engine { reason };
        let engine = engine::running(load.kind, load.build).map_err(|error| unready(error.to_string()))?;
        let code = match (load.kind, load.build) {
            (ModuleKind::Preview1, Build::Plain) => preview1(&engine, file, load.grants).map(Code::Preview1),
            (ModuleKind::Preview1, Build::Migratable { .. }) => migratable(&engine, file).map(Code::Migratable),
            (ModuleKind::Component, _) => component(&engine, &file, load.grants).map(Code::Component),
        };
        let code = code.map_err(|error| match is_starved(&error) {
            true => unready(format!("{error:#}")),
            false => LoadError::Refused { reason: format!("{error:#}") },
        })?;
        // Guests call the host through futures; with everything in memory they are ready at once, and nothing here
        // starts a thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| unready(error.to_string()))?;
        let memory_bytes_min = code.memory_bytes_min();
        let scratch = Backing::make(load).map_err(LoadError::Machine)?;
        Ok(Self { engine, code, memory_bytes_min, scratch, runtime })
    }

    /// Whether attempts can be asked for snapshots, and go on from them.
    pub(in crate::executor) fn is_movable(&self) -> bool {
        matches!(self.code, Code::Migratable(_))
    }

    /// Runs one attempt, the `number`th in this process, to its last instruction; none if it was suspended.
    pub(in crate::executor) fn run(
        &self,
        load: &Load,
        run: &Run,
        number: u32,
        incoming: &Shared<Incoming>,
        outgoing: &Shared<Outgoing>,
    ) -> std::io::Result<Option<Finish>> {
        let mut resume = run.resume;
        let fails = |what: &str, error: &dyn std::fmt::Display| -> ! {
            give_up(outgoing, Trouble::new(Part::Scratch, format!("it cannot be {what}: {error}")))
        };
        loop {
            let before = resume.map(|resume| resume.usage).unwrap_or_default();
            let meter = Meter::start(before);
            trail::begin(number, before, meter.cpu_start());
            let made = self.world(load, run, incoming, outgoing);
            let (mut store, ends) = made.unwrap_or_else(|error| fails("opened", &format!("{error:#}")));
            // The machine would refuse it first, in words that name no limit. What was moved here began within it.
            let begins = resume.is_some() || self.memory_bytes_min <= load.limits.memory_bytes;
            let result = match &self.code {
                _ if !begins => {
                    store.data_mut().budget().deny();
                    Err(wasmtime::Error::msg("it begins with more memory than its limit"))
                }
                Code::Preview1(pre) => self.runtime.block_on(call_module(pre, &mut store)),
                Code::Component(pre) => self.runtime.block_on(call_component(pre, &mut store)),
                Code::Migratable(movable) => {
                    let body = resume.take().map(|resume| (Arriving::new(resume.body, incoming), resume.output_bytes));
                    let attempt = moving::Attempt { id: run.attempt, number, load, ends: &ends, meter: &meter, outgoing };
                    match self.runtime.block_on(movable.run(&mut store, &attempt, body)) {
                        Ok(Ok(Ended::ByItself)) => Ok(Ok(())),
                        Ok(Ok(Ended::Suspended)) => return Ok(None),
                        Ok(Err(unfit)) => {
                            lock(outgoing).send(&FromExecutor::Refused(unfit))?;
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            let budget = store.data_mut().budget();
            let (memory_peak_bytes, memory_denied) = (budget.memory_bytes(), budget.denied());
            let starved = budget.take_starved().or_else(|| result.as_ref().err().filter(|error| is_starved(error)).map(words));
            drop(store);
            let output_exceeded = lock(&ends.stdout).exceeded();
            let scratch = scratch::Verdict::of(ends.scratch.as_ref());
            let verdict = failure::judge(result, load, memory_denied, output_exceeded, scratch.denied);
            if let (Err(_), false, Some(reason)) = (&verdict, memory_denied, starved) {
                give_up(outgoing, Trouble::new(Part::Executor, format!("the system gives no more memory: {reason}")));
            }
            if let (Err(_), Some(reason)) = (&verdict, scratch.trouble) {
                give_up(outgoing, Trouble::new(Part::Scratch, reason));
            }
            if let Some(backing) = &self.scratch {
                backing.empty().unwrap_or_else(|error| fails("emptied", &error));
            }
            return Ok(Some(Finish { attempt: run.attempt, verdict, ends, usage: meter.read(memory_peak_bytes) }));
        }
    }

    /// Instantiates it once and looks for its beginning; or says why no attempt would get that far. A trap of code that it
    /// runs at that may come of the arguments, which are nobody's: it is no reason.
    pub(in crate::executor) fn try_out(
        &self,
        load: &Load,
        starts: bool,
        incoming: &Shared<Incoming>,
        outgoing: &Shared<Outgoing>,
    ) -> Result<(), String> {
        let attempt = AttemptId { task: TaskId { job: load.world.job, index: 0 }, number: 1 };
        let run = Run { attempt, input: Input::Inline(Bytes::new()), resume: None };
        let made = self.world(load, &run, incoming, outgoing);
        let (mut store, _ends) = made.map_err(|error| format!("{error:#}"))?;
        let tried = match &self.code {
            Code::Preview1(pre) => {
                check_start(pre.module())?;
                self.runtime.block_on(async { pre.instantiate_async(&mut store).await.map(drop) })
            }
            Code::Component(pre) => self.runtime.block_on(async { pre.instantiate_async(&mut store).await.map(drop) }),
            Code::Migratable(movable) => self.runtime.block_on(movable.try_out(&mut store)),
        };
        let Err(error) = tried else { return Ok(()) };
        let own = error.is::<Trap>() || error.is::<I32Exit>() || error.is::<ThrownException>();
        if own && starts { Ok(()) } else { Err(format!("it cannot be instantiated: {error:#}")) }
    }

    /// A fresh store with all that an attempt finds.
    fn world(
        &self,
        load: &Load,
        run: &Run,
        incoming: &Shared<Incoming>,
        outgoing: &Shared<Outgoing>,
    ) -> wasmtime::Result<(Store<Guest>, Ends)> {
        let scratch = self.scratch.as_ref().map(Backing::tree).transpose()?;
        let (guest, ends) = Guest::new(load, run, scratch, incoming, outgoing);
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| guest.budget());
        if !matches!(self.code, Code::Component(_)) {
            // What one call may carry: as much as the guest can have, and never less than the engine's own bound. A
            // component's streams take pieces, and that bound holds for its lists.
            let carried = usize::try_from(load.limits.memory_bytes).unwrap_or(usize::MAX);
            store.set_hostcall_fuel(carried.max(store.hostcall_fuel()));
        }
        Ok((store, ends))
    }
}

impl Code {
    fn memory_bytes_min(&self) -> u64 {
        let required = match self {
            Self::Preview1(pre) => Some(pre.module().resources_required()),
            Self::Migratable(movable) => Some(movable.module().resources_required()),
            Self::Component(pre) => pre.instance_pre().component().resources_required(),
        };
        let pages = required.and_then(|required| required.max_initial_memory_size).unwrap_or(0);
        pages.saturating_mul(WASM_PAGE_BYTES)
    }
}

/// What is left of an attempt when its instance is gone.
pub(in crate::executor) struct Finish {
    attempt: lull_shared::id::AttemptId,
    verdict: Result<(), lull_shared::state::Failure>,
    ends: Ends,
    usage: Usage,
}

impl Finish {
    /// How much of its input is still in the pipe.
    pub(in crate::executor) fn input_left(&self) -> u64 {
        lock(&self.ends.stdin).left_in_pipe()
    }

    /// The last message about it. The end of a long output is sent on the way.
    pub(in crate::executor) fn report(self) -> std::io::Result<Done> {
        let outcome = match self.verdict {
            Ok(()) => Ok(lock(&self.ends.stdout).finish()?),
            Err(failure) => Err(failure),
        };
        let (log, log_dropped_bytes) = lock(&self.ends.log).finish();
        Ok(Done { attempt: self.attempt, outcome, log, log_dropped_bytes, usage: self.usage })
    }
}

/// A command begins with a function that takes nothing and gives nothing.
fn check_start(module: &Module) -> Result<(), String> {
    let fits = |ty: &FuncType| ty.params().len() == 0 && ty.results().len() == 0;
    match module.get_export("_start") {
        Some(ExternType::Func(ty)) if fits(&ty) => Ok(()),
        Some(ExternType::Func(ty)) => {
            Err(format!("its `_start` is {ty}, and that of a command takes no parameters and gives no results"))
        }
        _ => Err("it exports no function `_start`".into()),
    }
}

/// The guest's own verdict, or what stopped it.
async fn call_module(pre: &InstancePre<Guest>, store: &mut Store<Guest>) -> wasmtime::Result<Result<(), ()>> {
    let instance = pre.instantiate_async(&mut *store).await?;
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
    start.call_async(store, ()).await.map(Ok)
}

/// The same of a component.
async fn call_component(pre: &CommandPre<Guest>, store: &mut Store<Guest>) -> wasmtime::Result<Result<(), ()>> {
    let command = pre.instantiate_async(&mut *store).await?;
    command.wasi_cli_run().call_run(store).await
}

fn preview1(engine: &Engine, file: File, grants: Grants) -> wasmtime::Result<InstancePre<Guest>> {
    let (module, linker) = module(engine, file, grants.clock)?;
    linker.instantiate_pre(&module)
}

fn migratable(engine: &Engine, file: File) -> wasmtime::Result<Movable> {
    let (module, mut linker) = module(engine, file, false)?;
    Movable::link(&mut linker, &module)
}

/// A module, and the world of preview 1.
fn module(engine: &Engine, file: File, real_clock: bool) -> wasmtime::Result<(Module, Linker<Guest>)> {
    // SAFETY: its digest is the one that the authority or this agent signed, and only the agent writes the file.
    let module = unsafe { sys::module(engine, file)? };
    let mut linker = Linker::new(engine);
    wasi_snapshot_preview1::add_to_linker(&mut linker, Guest::world)?;
    linker.allow_shadowing(true);
    surface::add_to_linker(&mut linker)?;
    if !real_clock {
        poll::add_to_linker(&mut linker, Guest::clock)?;
    }
    Ok((module, linker))
}

fn component(engine: &Engine, file: &File, grants: Grants) -> wasmtime::Result<CommandPre<Guest>> {
    // SAFETY: its digest is the one that the authority or this agent signed, and only the agent writes the file.
    let component = unsafe { sys::component(engine, file)? };
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    if grants.scratch {
        filesystem::preopens::add_to_linker::<Guest, HasFiles>(&mut linker, Guest::files)?;
        filesystem::types::add_to_linker::<Guest, HasFiles>(&mut linker, Guest::files)?;
    }
    if !grants.clock {
        monotonic_clock::add_to_linker::<Guest, HasMonotonic>(&mut linker, Guest::monotonic)?;
    }
    CommandPre::new(linker.instantiate_pre(&component)?)
}

/// Opens a compiled module and checks the digest of what was opened: nothing else may be loaded.
pub fn open_checked(path: &OsStr, expected: Digest) -> Result<File, LoadError> {
    let unreadable = |error: std::io::Error| LoadError::Unreadable { reason: error.to_string() };
    let mut file = sys::open_lent(path).map_err(unreadable)?;
    let mut outline = OutlineBuilder::default();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece).map_err(unreadable)? {
            0 => break,
            read => outline.update(&piece[..read]),
        }
    }
    let found = outline.finish().0.digest;
    if found == expected { Ok(file) } else { Err(LoadError::Digest { expected, found }) }
}

/// Ends this process, since the machine fails it.
fn give_up(outgoing: &Shared<Outgoing>, trouble: Trouble) -> ! {
    // Without its agent nobody is left to tell.
    let _ = lock(outgoing).send(&FromExecutor::Trouble(trouble));
    std::process::exit(crate::executor::EXIT_TROUBLE)
}

/// Whether the system had no memory, or no address space, for what the engine wanted.
pub(in crate::executor) fn is_starved(error: &wasmtime::Error) -> bool {
    error.chain().any(sys::is_starved)
}

fn words(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}
