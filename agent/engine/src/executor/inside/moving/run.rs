//! One attempt of a migratable build, from its beginning or from a snapshot, until it ends or is suspended.

use std::time::{Duration, Instant};

use lull_shared::{id::AttemptId, state::Usage};
use wasmtime::{Caller, InstancePre, Linker, Module, Store};

use super::{Arriving, asks, descriptors, live::Live, restore, save::save, shape::Shape};
use crate::{
    executor::{
        inside::{
            guest::{Ends, Guest},
            pipe::Outgoing,
            stream::{Shared, lock},
        },
        protocol::{Ask, FromExecutor, Load, Saved},
        sys,
    },
    migratable::contract::{self, State},
    snapshot::Unfit,
};

/// A migratable build, linked.
pub(in crate::executor) struct Movable {
    pre: InstancePre<Guest>,
    shape: Shape,
}

/// How a run of it came to its end without a fault.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::executor) enum Ended {
    ByItself,
    Suspended,
}

/// What an attempt has used, the attempts before it included.
pub(in crate::executor) struct Meter {
    start: Instant,
    cpu_start: Duration,
    before: Usage,
}

impl Meter {
    /// Begins to count.
    pub(in crate::executor) fn start(before: Usage) -> Self {
        Self { start: Instant::now(), cpu_start: sys::cpu_time(), before }
    }

    /// The processor time of this process when it began.
    pub(in crate::executor) fn cpu_start(&self) -> Duration {
        self.cpu_start
    }

    pub(in crate::executor) fn read(&self, memory_bytes: u64) -> Usage {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Usage {
            wall_us: self.before.wall_us.saturating_add(micros(self.start.elapsed())),
            cpu_us: self.before.cpu_us.saturating_add(micros(sys::cpu_time().saturating_sub(self.cpu_start))),
            memory_peak_bytes: memory_bytes,
        }
    }
}

/// Everything about one run but its instance.
pub(in crate::executor) struct Attempt<'a> {
    pub(in crate::executor) id: AttemptId,
    /// Counted from 1 in this process.
    pub(in crate::executor) number: u32,
    pub(in crate::executor) load: &'a Load,
    pub(in crate::executor) ends: &'a Ends,
    pub(in crate::executor) meter: &'a Meter,
    pub(in crate::executor) outgoing: &'a Shared<Outgoing>,
}

impl Movable {
    /// Checks and links a build; `linker` has the whole of preview 1.
    pub(in crate::executor) fn link(linker: &mut Linker<Guest>, module: &Module) -> wasmtime::Result<Self> {
        let shape = Shape::of(module).map_err(wasmtime::Error::msg)?;
        linker.allow_shadowing(true);
        descriptors::follow(linker)?;
        linker.func_wrap(contract::IMPORT_MODULE, contract::IMPORT_POLL, |mut caller: Caller<'_, Guest>| -> i32 {
            let asked = asks::take();
            caller.data_mut().asked = asked;
            i32::from(asked.is_some())
        })?;
        Ok(Self { pre: linker.instantiate_pre(module)?, shape })
    }

    /// Instantiates it as an attempt would, and no more.
    pub(in crate::executor) async fn try_out(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        store.data_mut().budget().expect_beside(self.shape.stack_bytes());
        let instance = self.pre.instantiate_async(&mut *store).await?;
        store.data_mut().budget().settle();
        Live::of(&instance, store, &self.shape).map(drop)
    }

    pub(in crate::executor) fn module(&self) -> &Module {
        self.pre.module()
    }

    /// Runs an attempt. A snapshot that does not fit leaves a store that is of no use, and the input untouched.
    pub(in crate::executor) async fn run(
        &self,
        store: &mut Store<Guest>,
        attempt: &Attempt<'_>,
        resume: Option<(Arriving, u64)>,
    ) -> wasmtime::Result<Result<Ended, Unfit>> {
        store.data_mut().budget().expect_beside(self.shape.stack_bytes());
        let instance = self.pre.instantiate_async(&mut *store).await?;
        store.data_mut().budget().settle();
        let live = Live::of(&instance, store, &self.shape)?;
        if let Some((body, output_bytes)) = resume {
            let restored = restore::restore(store, &live, attempt.ends, attempt.load, output_bytes, body).await;
            if let Err(unfit) = restored {
                return Ok(Err(unfit));
            }
            live.tell_restored(store).await?;
            live.set_state(store, State::Rewinding)?;
        }
        // SAFETY: the store, and with it the flag, lives longer than this function.
        let _listening = unsafe { asks::Listening::new(attempt.number, live.flag(store)) };
        while live.run(store).await? {
            let ask = store.data_mut().asked.take();
            let ask = ask.ok_or_else(|| wasmtime::Error::msg("the module unwound without being asked to"))?;
            save(store, &live, attempt.ends, attempt.outgoing)?;
            attempt.tell_saved(ask, store.data_mut().budget().memory_bytes());
            if ask == Ask::Suspend {
                return Ok(Ok(Ended::Suspended));
            }
            live.set_state(store, State::Rewinding)?;
        }
        Ok(Ok(Ended::ByItself))
    }
}

impl Attempt<'_> {
    fn tell_saved(&self, ask: Ask, memory_bytes: u64) {
        let output_bytes = lock(&self.ends.stdout).state().0;
        let saved = Saved { attempt: self.id, ask, output_bytes, usage: self.meter.read(memory_bytes) };
        if lock(self.outgoing).send(&FromExecutor::Saved(Box::new(saved))).is_err() {
            // Without its agent nobody is left to run for.
            std::process::exit(crate::executor::EXIT_ORPHANED);
        }
    }
}
