//! Windows' way to give memory back.

use windows_sys::Win32::System::{
    Memory::{GetProcessHeap, HeapCompact},
    Threading::{GetCurrentProcess, SetProcessWorkingSetSize},
};

/// Freed memory at the end of the heap and in holes of it.
pub(super) fn trim_heap() {
    // SAFETY: it concerns free memory of the process's own heap only, and may be called at any time.
    unsafe { HeapCompact(GetProcessHeap(), 0) };
}

/// All pages leave the working set: those with code go back to the file cache, and the others are taken from there, or from
/// where they were written, at the next touch.
pub(super) fn let_go_of_code() {
    // SAFETY: it concerns this process only; the two sizes mean that nothing is to stay.
    unsafe { SetProcessWorkingSetSize(GetCurrentProcess(), usize::MAX, usize::MAX) };
}
