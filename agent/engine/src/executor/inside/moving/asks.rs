//! How an ask reaches a guest in a tight loop: a signal carries it, and its handler raises the flag that the guest polls.
//!
//! A signal and not a thread, since a cage is closed to threads and holds only the thread that closes it. Each ask names
//! the run that it is for by its number in this process, so that one that comes too late raises nothing, and one that
//! comes before its run has begun waits for it. Everything here is one process's own, and atomics only: the handler
//! interrupts anything.

use std::{
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::SeqCst},
};

use crate::executor::protocol::Ask;

/// The run that each ask was last for. Runs are counted from 1.
static SUSPEND: AtomicU32 = AtomicU32::new(0);
static CHECKPOINT: AtomicU32 = AtomicU32::new(0);
/// The run that polls [`FLAG`]; 0 for none.
static RUNNING: AtomicU32 = AtomicU32::new(0);
static FLAG: AtomicPtr<i32> = AtomicPtr::new(ptr::null_mut());

/// An ask as a signal carries it.
pub(in crate::executor) fn word(ask: Ask, run: u32) -> usize {
    let ask = match ask {
        Ask::Checkpoint => 0,
        Ask::Suspend => 1,
    };
    (run as usize) << 1 | ask
}

/// Hears an ask. Called from a signal handler.
pub(in crate::executor) fn hear(word: usize) {
    let run = (word >> 1) as u32;
    let asked = if word & 1 == 1 { &SUSPEND } else { &CHECKPOINT };
    asked.store(run, SeqCst);
    if RUNNING.load(SeqCst) == run {
        set(1);
    }
}

fn set(value: i32) {
    let flag = FLAG.load(SeqCst);
    if !flag.is_null() {
        // SAFETY: whoever put it there keeps the memory alive until it is taken away again, and the guest beside it
        // is interrupted or on this very thread.
        unsafe { AtomicI32::from_ptr(flag) }.store(value, SeqCst);
    }
}

/// A run that can be asked. Dropping it ends that.
pub(super) struct Listening(());

impl Listening {
    /// The run of this number polls this flag.
    ///
    /// # Safety
    /// The flag is aligned, and outlives what is returned.
    pub(super) unsafe fn new(run: u32, flag: *mut i32) -> Self {
        FLAG.store(flag, SeqCst);
        RUNNING.store(run, SeqCst);
        if SUSPEND.load(SeqCst) == run || CHECKPOINT.load(SeqCst) == run {
            set(1);
        }
        Self(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        RUNNING.store(0, SeqCst);
        FLAG.store(ptr::null_mut(), SeqCst);
    }
}

/// Lowers the flag and says what was asked for, if anything still is. Suspending is a snapshot too.
pub(super) fn take() -> Option<Ask> {
    set(0);
    let run = RUNNING.load(SeqCst);
    let is_for = |ask: &AtomicU32| ask.compare_exchange(run, 0, SeqCst, SeqCst).is_ok();
    if run == 0 {
        None
    } else if is_for(&SUSPEND) {
        Some(Ask::Suspend)
    } else {
        is_for(&CHECKPOINT).then_some(Ask::Checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, since a process has one run.
    #[test]
    fn an_ask_reaches_its_own_run_and_no_other() {
        let mut flag = 0;
        let raised = |flag: &mut i32| {
            // SAFETY: it is a live, aligned local.
            unsafe { AtomicI32::from_ptr(flag) }.load(SeqCst) == 1
        };
        hear(word(Ask::Checkpoint, 2));
        // SAFETY: `flag` is dropped after every `Listening`.
        let first = unsafe { Listening::new(1, &mut flag) };
        assert!(!raised(&mut flag), "it is for the next one");
        hear(word(Ask::Suspend, 1));
        hear(word(Ask::Checkpoint, 1));
        assert!(raised(&mut flag));
        assert_eq!(take(), Some(Ask::Suspend));
        assert!(!raised(&mut flag));
        assert_eq!(take(), Some(Ask::Checkpoint));
        assert_eq!(take(), None);
        drop(first);
        hear(word(Ask::Suspend, 1));
        assert!(!raised(&mut flag), "it came too late");
        hear(word(Ask::Checkpoint, 2));
        // SAFETY: as above.
        let _second = unsafe { Listening::new(2, &mut flag) };
        assert!(raised(&mut flag), "it came before its run had begun");
        assert_eq!(take(), Some(Ask::Checkpoint));
    }
}
