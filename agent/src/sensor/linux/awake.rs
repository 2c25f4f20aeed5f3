//! Keeps the machine from going to sleep while work runs, where the policy says so: a lock of logind, let go at once.
//!
//! On a thread of its own, which begins when it is wanted for the first time: a bus that hangs must not hold up the work.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use rustbus::wire::UnixFd;

use super::{bus::Bus, system::inhibit};

/// A logind that was not there, or did not allow it, is asked again after this long.
const AGAIN: Duration = Duration::from_secs(60);

/// The lock, held or not.
#[derive(Default)]
pub(super) struct Awake {
    wanted: bool,
    thread: Option<Sender<bool>>,
}

impl Awake {
    /// Whether the lock is wanted from now on.
    pub(super) fn set(&mut self, wanted: bool) {
        if wanted == self.wanted {
            return;
        }
        self.wanted = wanted;
        let thread = self.thread.get_or_insert_with(|| {
            let (thread, orders) = channel();
            if let Err(error) = thread::Builder::new().name("awake".into()).spawn(move || keep(&orders)) {
                tracing::warn!(%error, "the machine cannot be kept awake");
            }
            thread
        });
        // A thread that could not begin keeps nothing.
        let _ = thread.send(wanted);
    }
}

/// Until the sensor is gone.
fn keep(orders: &Receiver<bool>) {
    let (mut wanted, mut lock) = (false, None);
    loop {
        let order = match (wanted, &lock) {
            (true, None) => orders.recv_timeout(AGAIN),
            (true, Some(_)) | (false, _) => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(order) => wanted = order,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // The last word counts.
        while let Ok(order) = orders.try_recv() {
            wanted = order;
        }
        lock = if wanted { lock.or_else(take) } else { None };
    }
}

fn take() -> Option<UnixFd> {
    let taken = Bus::connect().and_then(|mut bus| inhibit(&mut bus, ["idle:sleep", "Lull", "runs tasks", "block"]));
    taken.inspect_err(|error| tracing::info!(%error, "this machine cannot be kept awake while tasks run")).ok()
}
