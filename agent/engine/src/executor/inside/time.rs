//! The time that a deterministic guest sees: it starts where the job says and moves only when it is looked at.
//!
//! Every reading of either clock takes one microsecond, and sleeping takes no time at all: the clock jumps to the
//! earliest deadline that is waited for when nothing else is ready. So a run sees the same times whenever, wherever
//! and however slowly it runs.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, UNIX_EPOCH},
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
pub(in crate::executor) struct VirtualClock(Arc<State>);

struct State {
    now: AtomicU64,
    /// The deadlines that are waited for in the poll that goes on.
    awaited: Mutex<Vec<u64>>,
}

impl VirtualClock {
    pub(in crate::executor) fn starting(at: Timestamp) -> Self {
        let now = u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000);
        Self(Arc::new(State { now: AtomicU64::new(now), awaited: Mutex::default() }))
    }

    /// Looks at the clock.
    pub(in crate::executor) fn read(&self) -> u64 {
        self.0.now.fetch_add(READING_NS, Ordering::Relaxed)
    }

    /// Sleeps until then.
    pub(in crate::executor) fn advance(&self, to: u64) {
        self.0.now.fetch_max(to, Ordering::Relaxed);
    }

    /// Shows what it showed elsewhere.
    pub(in crate::executor) fn resume(&self, now: u64) {
        self.0.now.store(now, Ordering::Relaxed);
    }

    pub(in crate::executor) fn peek(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// Waits for a deadline: first lets everything else in the poll say whether it is ready, then moves the clock
    /// if no other deadline is earlier.
    async fn wait(&self, deadline: u64) {
        let mut waiting = None;
        poll_fn(|context| {
            if self.peek() >= deadline {
                return Poll::Ready(());
            }
            match &waiting {
                None => waiting = Some(Waiting::new(self, deadline)),
                Some(_) if self.awaited().iter().all(|other| deadline <= *other) => {
                    self.advance(deadline);
                    return Poll::Ready(());
                }
                Some(_) => {}
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn awaited(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A deadline that is waited for, until this is dropped: a poll that something else has answered waits no longer.
struct Waiting<'a> {
    clock: &'a VirtualClock,
    deadline: u64,
    since: u64,
}

impl<'a> Waiting<'a> {
    fn new(clock: &'a VirtualClock, deadline: u64) -> Self {
        clock.awaited().push(deadline);
        Self { clock, deadline, since: clock.peek() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut awaited = self.clock.awaited();
        if let Some(at) = awaited.iter().position(|deadline| *deadline == self.deadline) {
            awaited.swap_remove(at);
        }
        if self.clock.peek() == self.since {
            // To ask whether it is time yet is to look at the clock: who asks again and again gets there.
            self.clock.read();
        }
    }
}

/// What files are dated by.
#[derive(Clone)]
pub(in crate::executor) enum Clock {
    /// The guest's own, which no date moves.
    Virtual(VirtualClock),
    Real,
}

impl Clock {
    /// In nanoseconds since 1970.
    pub(in crate::executor) fn now(&self) -> u64 {
        match self {
            Self::Virtual(clock) => clock.peek(),
            Self::Real => UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        }
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
pub(in crate::executor) struct Monotonic<'a> {
    pub(in crate::executor) clock: &'a VirtualClock,
    pub(in crate::executor) table: &'a mut ResourceTable,
}

/// Names [`Monotonic`] to the engine.
pub(in crate::executor) struct HasMonotonic;

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
    async fn the_clock_stands_still_for_what_is_ready_but_for_the_look_at_it() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        tokio::select! {
            biased;
            () = clock.wait(10_000) => panic!("nobody had to wait"),
            () = clock.wait(20_000) => panic!("nobody had to wait"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(clock.peek(), READING_NS);
    }

    #[tokio::test]
    async fn a_deadline_that_was_not_needed_does_not_hold_up_the_next() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        tokio::select! {
            biased;
            () = clock.wait(10_000) => panic!("nobody had to wait"),
            () = std::future::ready(()) => {}
        }
        clock.wait(50_000).await;
        assert_eq!(clock.peek(), 50_000);
    }

    #[test]
    fn asking_again_and_again_whether_it_is_time_comes_to_the_time() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let ready = |clock: &VirtualClock, context: &mut std::task::Context<'_>| {
            std::future::Future::poll(std::pin::pin!(clock.wait(10 * READING_NS)), context).is_ready()
        };
        let asked = (0..100).position(|_| ready(&clock, &mut context));
        assert_eq!(asked, Some(10));
    }

    #[tokio::test]
    async fn all_whose_time_has_come_wake_together() {
        let clock = VirtualClock::starting(Timestamp::from_millis(0));
        tokio::join!(clock.wait(500), clock.wait(500), clock.wait(900));
        assert_eq!(clock.peek(), 900);
    }
}
