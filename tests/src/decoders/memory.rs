//! How much memory a decoder asks for, by an allocator that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// What this thread has allocated and not freed since it last began to measure. Below zero when it freed older things.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what each thread allocates. A program that installs it as its global allocator makes [`bounded`] effective.
pub struct Counting;

impl Counting {
    fn count(bytes: isize) {
        // A thread that is ending has no counters any more.
        let _ = IN_USE.try_with(|in_use| {
            in_use.set(in_use.get() + bytes);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
        });
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::count(-(layout.size() as isize));
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most that `work` had in use at once on this thread, in bytes, and what it made.
pub fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    IN_USE.set(0);
    PEAK.set(0);
    let made = work();
    (usize::try_from(PEAK.get()).unwrap_or(0), made)
}

/// What a decoder may take for lengths that were promised and never came: a string of the most a frame may have, and
/// serde's megabyte for each list within a list.
const PROMISED_BYTES_MAX: usize = 16 << 20;
/// What it may take for each byte that came: the smallest value of a list, an empty string, has one byte on the wire
/// and three words in memory, and a list has up to twice the room it needs while it grows.
const TIMES_MAX: usize = 64;

/// Does some work on so many foreign bytes.
///
/// # Panics
/// If it takes memory out of proportion to them.
pub fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let (peak, made) = peak(work);
    let most = PROMISED_BYTES_MAX + TIMES_MAX * bytes;
    assert!(peak <= most, "{peak} bytes of memory for {bytes} bytes of input; at most {most} are allowed");
    made
}
