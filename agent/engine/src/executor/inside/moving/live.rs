//! An instance of a migratable build, by the parts that a snapshot is made of.

use wasmtime::{Global, Instance, Memory, Store, TypedFunc, Val};

use super::shape::Shape;
use crate::{
    executor::inside::guest::Guest,
    migratable::contract::{self, State},
};

/// Where the used part of the stack begins.
const STACK_BEGIN: usize = contract::STACK_BASE as usize;

/// The exports of an instance.
pub(super) struct Live {
    pub(super) memories: Vec<(u32, Memory)>,
    pub(super) globals: Vec<(u32, Global)>,
    run: TypedFunc<(), ()>,
    restored: Option<TypedFunc<(), ()>>,
    state: Global,
    pointer: Global,
    stack: Memory,
}

impl Live {
    /// Takes them from a fresh instance, and gives its stack all the room that it may have: the guest's own growing
    /// is then the only one that counts. Room that is not used costs nothing.
    pub(super) fn of(instance: &Instance, store: &mut Store<Guest>, shape: &Shape) -> wasmtime::Result<Self> {
        let missing = |name: &str| wasmtime::Error::msg(format!("the module lost its export `{name}`"));
        let memory = |store: &mut Store<Guest>, name: String| instance.get_memory(store, &name).ok_or_else(|| missing(&name));
        let global = |store: &mut Store<Guest>, name: String| instance.get_global(store, &name).ok_or_else(|| missing(&name));
        let memories = shape.memories.iter().map(|n| Ok((*n, memory(store, format!("{}{n}", contract::MEMORY_PREFIX))?)));
        let memories = memories.collect::<wasmtime::Result<Vec<_>>>()?;
        let globals = shape.globals.iter().map(|n| Ok((*n, global(store, format!("{}{n}", contract::GLOBAL_PREFIX))?)));
        let globals = globals.collect::<wasmtime::Result<Vec<_>>>()?;
        let stack = memory(store, contract::STACK.into())?;
        store.data_mut().budget().leave_uncounted(true);
        let grown = stack.grow(&mut *store, shape.stack_pages_max - shape.stack_pages);
        store.data_mut().budget().leave_uncounted(false);
        grown?;
        Ok(Self {
            memories,
            globals,
            run: instance.get_typed_func(&mut *store, contract::RUN)?,
            restored: if shape.restored { Some(instance.get_typed_func(&mut *store, contract::RESTORED)?) } else { None },
            state: global(store, contract::STATE.into())?,
            pointer: global(store, contract::STACK_POINTER.into())?,
            stack,
        })
    }

    /// The flag that the guest polls. Valid as long as the store: this memory has all the room that it ever gets.
    pub(super) fn flag(&self, store: &Store<Guest>) -> *mut i32 {
        self.stack.data_ptr(store).cast()
    }

    /// Runs the guest until it ends or is suspended; true if it was suspended.
    pub(super) async fn run(&self, store: &mut Store<Guest>) -> wasmtime::Result<bool> {
        self.run.call_async(&mut *store, ()).await?;
        Ok(matches!(self.state.get(store), Val::I32(state) if state == State::Unwinding as i32))
    }

    /// Tells the build that its memories and globals are those of another instance.
    pub(super) async fn tell_restored(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        self.set_state(store, State::Running)?;
        match &self.restored {
            Some(restored) => restored.call_async(store, ()).await,
            None => Ok(()),
        }
    }

    /// The build is to do this when it runs next.
    pub(super) fn set_state(&self, store: &mut Store<Guest>, state: State) -> wasmtime::Result<()> {
        self.state.set(store, Val::I32(state as i32))
    }

    /// The frames that an unwound guest left.
    pub(super) fn stack<'a>(&self, store: &'a mut Store<Guest>) -> wasmtime::Result<&'a [u8]> {
        let end = match self.pointer.get(&mut *store) {
            Val::I32(end) => end.cast_unsigned() as usize,
            _ => 0,
        };
        let stack = self.stack.data(&*store).get(STACK_BEGIN..end);
        stack.ok_or_else(|| wasmtime::Error::msg("the module unwound beyond its stack"))
    }

    /// Puts frames there. False if there is no room for so many.
    pub(super) fn set_stack(&self, store: &mut Store<Guest>, frames: &[u8]) -> wasmtime::Result<bool> {
        let end = STACK_BEGIN + frames.len();
        let Some(room) = self.stack.data_mut(&mut *store).get_mut(STACK_BEGIN..end) else { return Ok(false) };
        room.copy_from_slice(frames);
        self.pointer.set(store, Val::I32(i32::try_from(end)?))?;
        Ok(true)
    }
}
