//! One instance of a program, plain or migratable, and its snapshot.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicI32, Ordering},
    task::{Context, Poll, Waker},
};

use lull_engine::migratable::contract::{self, State};
use wasmtime::{
    AsContextMut, Caller, Config, Engine, Extern, Instance, Linker, Module, PoolingAllocationConfig, Store, Trap, Val,
};

use super::wasi::{self, Exit, Wasi};

/// More than any program here uses between two moves.
const FUEL: u64 = 1 << 50;
/// Deep recursion of unoptimised frames with vectors.
const STACK_BYTES: usize = 8 << 20;

/// Machines at one time: one is restored while the one before is still there, and tests run beside each other.
const MACHINES: u32 = 16;
const MEMORIES: u32 = 4;

/// An engine whose results do not depend on the machine, that counts fuel.
pub fn engine() -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(MACHINES)
        .total_memories(MACHINES * MEMORIES)
        .total_tables(MACHINES * 2)
        .total_stacks(MACHINES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(2)
        .max_core_instance_size(64 << 20);
    let mut config = Config::new();
    config
        .allocation_strategy(pool)
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(2 * STACK_BYTES);
    Engine::new(&config).expect("the engine takes this configuration")
}

/// A machine with a program on it.
pub struct Machine {
    store: Store<World>,
    instance: Instance,
}

/// What the program sees.
#[derive(Default)]
struct World {
    wasi: Wasi,
    /// How many polls are still answered with "go on".
    refusals: u32,
    flag: Option<Flag>,
}

/// The address of the flag. The memory it is in never moves: it lives as long as the store.
#[derive(Clone, Copy)]
pub struct Flag(*const AtomicI32);
// SAFETY: it is only read and written as an atomic, while its store is alive.
unsafe impl Send for Flag {}

impl Flag {
    /// The flag of a build, in the stack memory that it exports; a plain module has none. It must not outlive the store.
    pub fn of(instance: &Instance, mut store: impl AsContextMut) -> Option<Self> {
        let stack = instance.get_memory(&mut store, contract::STACK)?;
        Some(Self(stack.data_ptr(&store).cast()))
    }

    /// Raises or lowers it.
    pub fn set(self, up: bool) {
        // SAFETY: see `Flag`; the memory has a page from the start.
        unsafe { (*self.0).store(up.into(), Ordering::SeqCst) }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Done,
    Exit(i32),
    Trap(String),
    Suspended,
}

impl End {
    fn of(error: &wasmtime::Error) -> Self {
        match (error.downcast_ref::<Exit>(), error.downcast_ref::<Trap>()) {
            (Some(exit), _) => Self::Exit(exit.0),
            (_, Some(trap)) => Self::Trap(format!("{trap:?}")),
            _ => Self::Trap(format!("{error:#}")),
        }
    }
}

/// When the flag is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Never,
    AtOnce,
    /// When this much fuel has been used.
    After(u64),
}

/// Everything that a program is while it does not run.
#[derive(Clone)]
pub struct Snapshot {
    memories: Vec<Vec<u8>>,
    globals: Vec<(String, Val)>,
    frames: Vec<u8>,
    stack_pointer: i32,
    wasi: Wasi,
}

impl Snapshot {
    /// Bytes of spilled frames.
    pub fn frames_bytes(&self) -> usize {
        self.frames.len()
    }
}

/// Memories and globals by their names, as bytes.
pub type Remains = Vec<(String, Vec<u8>)>;

impl Machine {
    /// Puts a program on a fresh machine, or says how its start function ended.
    pub fn new(module: &Module, wasi: Wasi) -> Result<Self, End> {
        let engine = module.engine();
        let mut linker = Linker::new(engine);
        wasi::link(&mut linker, |world: &mut World| &mut world.wasi);
        let poll = |mut caller: Caller<'_, World>| -> i32 {
            let world = caller.data_mut();
            if let Some(flag) = world.flag {
                flag.set(false);
            }
            let refused = world.refusals > 0;
            world.refusals = world.refusals.saturating_sub(1);
            (!refused).into()
        };
        linker.func_wrap(contract::IMPORT_MODULE, contract::IMPORT_POLL, poll).expect("the name is free");
        let mut store = Store::new(engine, World { wasi, ..World::default() });
        store.set_fuel(FUEL).expect("fuel is on");
        let instance = finish(pin!(linker.instantiate_async(&mut store, module)), || ()).map_err(|error| End::of(&error))?;
        store.data_mut().flag = Flag::of(&instance, &mut store);
        Ok(Self { store, instance })
    }

    /// Puts a program that was suspended on a fresh machine.
    pub fn restore(module: &Module, snapshot: &Snapshot) -> Self {
        let mut machine = Self::new(module, snapshot.wasi.clone()).expect("builds have no start function");
        let (store, instance) = (&mut machine.store, machine.instance);
        let frames = &snapshot.frames;
        let end = contract::STACK_BASE as usize + frames.len();
        fill(store, instance, contract::STACK, end, |memory| memory[end - frames.len()..end].copy_from_slice(frames));
        for (at, content) in snapshot.memories.iter().enumerate() {
            let name = format!("{}{at}", contract::MEMORY_PREFIX);
            fill(store, instance, &name, content.len(), |memory| memory.copy_from_slice(content));
        }
        for (name, value) in &snapshot.globals {
            machine.set_global(name, *value);
        }
        machine.set_global(contract::STACK_POINTER, Val::I32(snapshot.stack_pointer));
        if let Ok(restored) = machine.instance.get_typed_func::<(), ()>(&mut machine.store, contract::RESTORED) {
            finish(pin!(restored.call_async(&mut machine.store, ())), || ()).expect("it only drops data");
        }
        machine.rewind();
        machine
    }

    /// Says that what runs next goes on where it was suspended.
    pub fn rewind(&mut self) {
        self.set_global(contract::STATE, Val::I32(State::Rewinding as i32));
    }

    /// Runs until the end, or until the program is suspended. Some polls may be answered with "go on".
    pub fn run(&mut self, moment: Moment, refusals: u32) -> End {
        let is_build = self.store.data().flag.is_some();
        let entry = if is_build { contract::RUN } else { "_start" };
        let entry = self.instance.get_typed_func::<(), ()>(&mut self.store, entry).expect("every program has an entry");
        let flag = self.store.data().flag;
        let raise = || {
            if let Some(flag) = flag {
                flag.set(true);
            }
        };
        self.store.data_mut().refusals = refusals;
        self.store.set_fuel(FUEL).expect("fuel is on");
        let interval = if let Moment::After(fuel) = moment { Some(fuel.max(1)) } else { None };
        self.store.fuel_async_yield_interval(interval).expect("fuel is on");
        if moment == Moment::AtOnce {
            raise();
        }
        let ended = finish(pin!(entry.call_async(&mut self.store, ())), raise);
        if let Some(flag) = flag {
            flag.set(false);
        }
        match ended {
            Ok(()) if is_build && self.state() == State::Unwinding as i32 => End::Suspended,
            Ok(()) => End::Done,
            Err(error) => End::of(&error),
        }
    }

    /// Fuel used by the last run.
    pub fn fuel_used(&self) -> u64 {
        FUEL - self.store.get_fuel().expect("fuel is on")
    }

    /// What the program wrote to standard output.
    pub fn output(&self) -> &[u8] {
        &self.store.data().wasi.output
    }

    /// The value of `lull_sp`: how much is spilled.
    pub fn stack_pointer(&mut self) -> i32 {
        self.global(contract::STACK_POINTER)
    }

    fn state(&mut self) -> i32 {
        self.global(contract::STATE)
    }

    /// Takes a snapshot of a suspended program.
    pub fn snapshot(&mut self) -> Snapshot {
        let stack_pointer = self.stack_pointer();
        let (mut memories, mut globals, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        let exports: Vec<(String, Extern)> =
            self.instance.exports(&mut self.store).map(|export| (export.name().to_owned(), export.into_extern())).collect();
        for (name, export) in exports {
            match export {
                Extern::Memory(memory) if name == contract::STACK => {
                    frames = memory.data(&self.store)[contract::STACK_BASE as usize..stack_pointer as usize].to_vec();
                }
                Extern::Memory(memory) if name.starts_with(contract::MEMORY_PREFIX) => {
                    memories.push(memory.data(&self.store).to_vec());
                }
                Extern::Global(global) if name.starts_with(contract::GLOBAL_PREFIX) => {
                    globals.push((name, global.get(&mut self.store)));
                }
                _ => {}
            }
        }
        Snapshot { memories, globals, frames, stack_pointer, wasi: self.store.data().wasi.clone() }
    }

    /// The memories and globals that the program exports itself.
    pub fn remains(&mut self) -> Remains {
        let exports: Vec<(String, Extern)> =
            self.instance.exports(&mut self.store).map(|export| (export.name().to_owned(), export.into_extern())).collect();
        let mut remains = Remains::new();
        for (name, export) in exports.into_iter().filter(|(name, _)| !name.starts_with(contract::PREFIX)) {
            match export {
                Extern::Memory(memory) => remains.push((name, memory.data(&self.store).to_vec())),
                Extern::Global(global) => remains.push((name, bytes(global.get(&mut self.store)))),
                _ => {}
            }
        }
        remains
    }

    fn global(&mut self, name: &str) -> i32 {
        let global = self.instance.get_global(&mut self.store, name).expect("every build exports it");
        global.get(&mut self.store).unwrap_i32()
    }

    fn set_global(&mut self, name: &str, value: Val) {
        let global = self.instance.get_global(&mut self.store, name).expect("every build exports it");
        global.set(&mut self.store, value).expect("it is mutable and of this type");
    }
}

/// Makes a memory large enough and writes to it.
fn fill(store: &mut Store<World>, instance: Instance, name: &str, size: usize, write: impl FnOnce(&mut [u8])) {
    let memory = instance.get_memory(&mut *store, name).expect("every build exports it");
    let missing = size.saturating_sub(memory.data_size(&*store)).div_ceil(64 << 10);
    memory.grow(&mut *store, missing as u64).expect("it was as large before");
    write(memory.data_mut(&mut *store));
}

fn bytes(value: Val) -> Vec<u8> {
    match value {
        Val::I32(value) => value.to_le_bytes().to_vec(),
        Val::I64(value) => value.to_le_bytes().to_vec(),
        Val::F32(value) => value.to_le_bytes().to_vec(),
        Val::F64(value) => value.to_le_bytes().to_vec(),
        Val::V128(value) => value.as_u128().to_le_bytes().to_vec(),
        _ => Vec::new(),
    }
}

/// Runs a future to its end; it waits for nothing but to be asked again.
fn finish<F: Future>(mut future: std::pin::Pin<&mut F>, mut between: impl FnMut()) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => between(),
        }
    }
}
