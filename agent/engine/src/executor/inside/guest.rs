//! One attempt as the engine sees it: its world of arguments, streams, clock and randomness, and its memory budget.

use std::sync::{Arc, Mutex};

use lull_shared::message::ModuleKind;
use wasmtime::ResourceLimiter;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx};

use crate::executor::{
    inside::{
        moving::Change,
        pipe::{Incoming, Outgoing},
        random::{Seed, Stream},
        scratch::{
            Tree,
            component::{Files, View},
            preview1::World,
        },
        stream::{Log, Reader, Shared, Stdin, Stdout, Writer},
        time::{Clock, Monotonic, VirtualClock},
    },
    protocol::{Ask, Load, Run},
    trail,
};

/// Handles of a component at once: streams, descriptors, deadlines and what waits for them. A few hundred bytes each,
/// outside of the guest's memory.
const HANDLES_MAX: usize = 1 << 14;
/// A table's entry is a pointer.
const TABLE_ENTRY_BYTES: usize = 8;

/// What a store holds.
pub(in crate::executor) struct Guest {
    world: World,
    /// What a component has of files; a module has them in its world.
    files: Option<Files>,
    clock: VirtualClock,
    budget: Budget,
    /// What it did to its descriptors; followed in migratable builds only.
    pub(in crate::executor) changes: Vec<Change>,
    /// What it is to be suspended for.
    pub(in crate::executor) asked: Option<Ask>,
}

/// The ends of a guest's streams that stay with the host.
pub(in crate::executor) struct Ends {
    pub(in crate::executor) stdin: Shared<Stdin>,
    pub(in crate::executor) stdout: Shared<Stdout>,
    pub(in crate::executor) log: Shared<Log>,
    /// None where it is real.
    pub(in crate::executor) random: Option<Stream>,
    pub(in crate::executor) scratch: Option<Shared<Tree>>,
}

impl Guest {
    /// The world of one attempt.
    pub(in crate::executor) fn new(
        load: &Load,
        run: &Run,
        scratch: Option<Tree>,
        incoming: &Shared<Incoming>,
        outgoing: &Shared<Outgoing>,
    ) -> (Self, Ends) {
        let index = run.attempt.task.index;
        let seed = Seed::of_task(load.world.seed, index);
        let ends = Ends {
            stdin: Arc::new(Mutex::new(Stdin::new(&run.input, incoming))),
            stdout: Arc::new(Mutex::new(Stdout::new(load.limits.output_bytes, Arc::clone(outgoing)))),
            log: Arc::new(Mutex::new(Log::new(load.limits.log_bytes))),
            random: (!load.grants.random).then(|| seed.stream(0)),
            scratch: scratch.map(|tree| Arc::new(Mutex::new(tree))),
        };
        let clock = VirtualClock::starting(load.world.clock_start);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdin(Reader(Arc::clone(&ends.stdin)))
            .stdout(Writer(Arc::clone(&ends.stdout)))
            .stderr(Writer(Arc::clone(&ends.log)))
            .allow_blocking_current_thread(true)
            .arg(&load.world.function)
            .args(&load.world.args)
            .env("LULL_TASK_INDEX", index.to_string())
            .env("LULL_ATTEMPT", run.attempt.number.to_string())
            .env("LULL_JOB", load.world.job.to_string())
            .envs(&load.world.env);
        if !load.grants.clock {
            wasi.wall_clock(clock.clone()).monotonic_clock(clock.clone());
        }
        if let Some(random) = &ends.random {
            wasi.secure_random(random.clone()).insecure_random(seed.stream(1)).insecure_random_seed(seed.small());
        }
        let mut wasi = wasi.build_p1();
        wasi.ctx().table.set_max_capacity(HANDLES_MAX);
        let dates = if load.grants.clock { Clock::Real } else { Clock::Virtual(clock.clone()) };
        let files = ends.scratch.clone().map(|tree| Files { tree, clock: dates });
        let (world, files) = match (load.kind, files) {
            (ModuleKind::Preview1, Some(Files { tree, clock })) => (World::with_files(wasi, tree, clock), None),
            (_, files) => (World::without_files(wasi), files),
        };
        let budget = Budget { limit_bytes: load.limits.memory_bytes, ..Budget::default() };
        (Self { world, files, clock, budget, changes: Vec::new(), asked: None }, ends)
    }

    /// Its preview 1 world.
    pub(in crate::executor) fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The engine's part of it.
    pub(in crate::executor) fn preview1(&mut self) -> &mut WasiP1Ctx {
        &mut self.world.wasi
    }

    /// Its files, if it is a component.
    pub(in crate::executor) fn files(&mut self) -> View<'_> {
        View { files: self.files.clone(), table: self.world.wasi.ctx().table }
    }

    /// Its deterministic clock.
    pub(in crate::executor) fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Its deterministic clock as components wait on it.
    pub(in crate::executor) fn monotonic(&mut self) -> Monotonic<'_> {
        Monotonic { clock: &self.clock, table: self.world.wasi.ctx().table }
    }

    /// What bounds its memory.
    pub(in crate::executor) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.world.wasi.ctx()
    }
}

/// The memory that an attempt may have, over all its memories and tables.
#[derive(Default)]
pub(in crate::executor) struct Budget {
    limit_bytes: u64,
    memory_bytes: u64,
    table_bytes: u64,
    denied: bool,
    /// Of the memory above, what the host asked for and not the guest.
    host_bytes: u64,
    uncounted: bool,
    /// What the system said when it had no more memory.
    starved: Option<String>,
}

impl Budget {
    /// The instance that is made next has so much memory beside the guest's own.
    pub(in crate::executor) fn expect_beside(&mut self, host_bytes: u64) {
        self.host_bytes = host_bytes;
    }

    /// The instance was made.
    pub(in crate::executor) fn settle(&mut self) {
        self.memory_bytes -= std::mem::take(&mut self.host_bytes);
    }

    /// Whether what grows from now on is the host's affair.
    pub(in crate::executor) fn leave_uncounted(&mut self, uncounted: bool) {
        self.uncounted = uncounted;
    }

    /// Goes on as it was elsewhere.
    pub(in crate::executor) fn resume(&mut self, denied: bool) {
        self.denied = denied;
    }

    /// Linear memory; it never shrinks, so this is the peak.
    pub(in crate::executor) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What the system said when it had no memory for what was permitted.
    pub(in crate::executor) fn take_starved(&mut self) -> Option<String> {
        self.starved.take()
    }

    /// Whether the guest asked for more than it may have.
    pub(in crate::executor) fn denied(&self) -> bool {
        self.denied
    }

    /// The guest is refused memory without being asked.
    pub(in crate::executor) fn deny(&mut self) {
        self.denied = true;
    }

    fn grow(&mut self, by: usize) -> bool {
        let total = self.memory_bytes.saturating_add(self.table_bytes).saturating_add(by as u64);
        let fits = total <= self.limit_bytes.saturating_add(self.host_bytes);
        self.denied |= !fits;
        fits
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if self.uncounted {
            return Ok(maximum.is_none_or(|maximum| desired <= maximum));
        }
        let by = desired.saturating_sub(current);
        let fits = maximum.is_none_or(|maximum| desired <= maximum) && self.grow(by);
        self.memory_bytes += if fits { by as u64 } else { 0 };
        trail::memory(self.memory_bytes.saturating_sub(self.host_bytes));
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if crate::executor::inside::program::is_starved(&error) {
            self.starved = Some(format!("{error:#}"));
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let by = desired.saturating_sub(current).saturating_mul(TABLE_ENTRY_BYTES);
        let fits = maximum.is_none_or(|maximum| desired <= maximum) && self.grow(by);
        self.table_bytes += if fits { by as u64 } else { 0 };
        Ok(fits)
    }
}
