//! The time that a deterministic guest sees: it starts where the job says and moves only when it is looked at.
//!
//! Every reading of either clock takes one microsecond, and sleeping takes no time at all: the clock jumps to the
//! earliest deadline that is waited for when nothing else is ready. So a run sees the same times whenever, wherever
//! and however slowly it runs.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use lull_shared::time::Timestamp;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock,
    p2::{DynPollable, Pollable, bindings::clocks::monotonic_clock, subscribe},
};

/// What one reading of a clock takes.
const READING_NS: u64 = 1_000;

/// A clock of one run, in nanoseconds since 1970; both of the guest's clocks show it.
#[derive(Clone)]
pub(super) struct VirtualClock(Arc<State>);

struct State {
    now: AtomicU64,
    /// The earliest deadline of those that wait in the poll that goes on.
    earliest: AtomicU64,
}

impl VirtualClock {
    pub(super) fn starting(at: Timestamp) -> Self {
        let now = u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000);
        Self(Arc::new(State { now: AtomicU64::new(now), earliest: AtomicU64::new(u64::MAX) }))
    }

    /// Looks at the clock.
    pub(super) fn read(&self) -> u64 {
        self.0.now.fetch_add(READING_NS, Ordering::Relaxed)
    }

    /// Sleeps until then.
    pub(super) fn advance(&self, to: u64) {
        self.0.now.fetch_max(to, Ordering::Relaxed);
    }

    /// Shows what it showed elsewhere.
    pub(super) fn resume(&self, now: u64) {
        self.0.now.store(now, Ordering::Relaxed);
    }

    pub(super) fn peek(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// Waits for a deadline: first lets everything else in the poll say whether it is ready, then moves the clock
    /// if no other deadline is earlier.
    async fn wait(&self, deadline: u64) {
        if self.peek() >= deadline {
            return;
        }
        let mut asked = false;
        poll_fn(|context| {
            if asked && deadline <= self.0.earliest.load(Ordering::Relaxed) {
                self.0.earliest.store(u64::MAX, Ordering::Relaxed);
                self.advance(deadline);
                return Poll::Ready(());
            }
            asked = true;
            self.0.earliest.fetch_min(deadline, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl HostWallClock for VirtualClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(READING_NS)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.read())
    }
}

impl HostMonotonicClock for VirtualClock {
    fn resolution(&self) -> u64 {
        READING_NS
    }

    fn now(&self) -> u64 {
        self.read()
    }
}

/// The monotonic clock of a component, with waiting.
pub(super) struct Monotonic<'a> {
    pub(super) clock: &'a VirtualClock,
    pub(super) table: &'a mut ResourceTable,
}

/// Names [`Monotonic`] to the engine.
pub(super) struct HasMonotonic;

impl HasData for HasMonotonic {
    type Data<'a> = Monotonic<'a>;
}

impl monotonic_clock::Host for Monotonic<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(READING_NS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = self.table.push(Deadline { clock: self.clock.clone(), at: when })?;
        subscribe(self.table, deadline)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock.peek().saturating_add(duration);
        self.subscribe_instant(when)
    }
}

struct Deadline {
    clock: VirtualClock,
    at: u64,
}

#[async_trait::async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        self.clock.wait(self.at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_those_that_wait_the_earliest_wakes_and_the_clock_is_there() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        for _ in 0..2 {
            let now = clock.peek();
            tokio::select! {
                biased;
                () = clock.wait(now + 10_000) => panic!("the later one woke"),
                () = clock.wait(now + 500) => {}
            }
            assert_eq!(clock.peek(), now + 500);
        }
    }

    #[tokio::test]
    async fn the_clock_stands_still_for_what_is_ready() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        tokio::select! {
            biased;
            () = clock.wait(10_000) => panic!("nobody had to wait"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(clock.peek(), 0);
    }
}
