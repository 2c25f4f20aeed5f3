//! Windows' part of an executor's cage, and what stands for signals and descriptors there.
//!
//! ```text
//! start     the process, in an AppContainer without capabilities and with mitigation policies, suspended until it is in its job
//! job       memory, no children, no desk, end with the agent; freeze, thaw, kill
//! cage      what the process itself finds that holds it
//! pad       memory that an executor writes and its agent reads
//! ```
//! A process is in its cage from its first instruction on: what it is to open is opened by the agent and lent to it. Every
//! layer is tried on its own and reported; a system that lacks one leaves the others standing.

mod cage;
mod job;
mod pad;
mod start;

use std::{
    ffi::c_void,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::windows::{
        fs::FileExt as _,
        io::{AsHandle as _, AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
        process::ExitStatusExt as _,
    },
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::process::ChildStdout;
use wasmtime::{Module, component::Component};
use windows_sys::Win32::{
    Foundation::{
        ERROR_COMMITMENT_LIMIT, ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_ENOUGH_QUOTA, ERROR_OUTOFMEMORY, FILETIME, HANDLE,
        INVALID_HANDLE_VALUE, WAIT_OBJECT_0,
    },
    System::{
        Diagnostics::Debug::{SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SEM_NOOPENFILEERRORBOX, SetErrorMode},
        LibraryLoader::{GetModuleHandleW, GetProcAddress},
        ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS},
        Threading::{
            GetCurrentProcess, GetCurrentThread, GetProcessTimes, INFINITE, RegisterWaitForSingleObject, SetThreadPriority,
            THREAD_PRIORITY_HIGHEST, UnregisterWaitEx, WT_EXECUTEONLYONCE, WaitForSingleObject,
        },
    },
};

pub(super) use self::{
    cage::{CALLS_NAME, CONTAINER_NAME, close_cage, close_pipe_cage, confine_to_reading, memory_limit, set_priority},
    pad::{Pad, PadEnd, SharedMemory, map_standard_error},
    start::{Child, lend, lend_scratch, open_lent, scratch_file, start},
};
use self::{job::Job, start::ASKS};
use crate::windows::{done, owned, wide};

/// The exit code of a process that its agent killed: nothing else ends with it.
const KILLED: u32 = 0x4c55_4c4c;

/// A function that not every system has.
fn function(library: &str, name: &std::ffi::CStr) -> Option<unsafe extern "system" fn() -> isize> {
    // SAFETY: both names end in a zero; the libraries that are asked for here are loaded for good.
    unsafe { GetProcAddress(GetModuleHandleW(wide(library).as_ptr()), name.as_ptr().cast()) }
}

/// Ties this process to its agent's life, which its job does, and has it end without asking anybody. False when the agent
/// is gone already: its job would have ended this process.
pub(super) fn detach(agent: Option<u32>) -> bool {
    // SAFETY: it concerns this process only.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX) };
    cage::remember_agent(agent);
    true
}

/// Reads from a place of a file; nothing at its end.
pub(super) fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(into, at)
}

/// Writes all of it to a place of a file.
pub(super) fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = file.seek_write(bytes, at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (bytes, at) = (&bytes[written..], at + written as u64);
    }
    Ok(())
}

/// The process's standard input and output, without the standard library's buffers.
pub(super) fn pipes() -> io::Result<(File, File)> {
    Ok((File::from(io::stdin().as_handle().try_clone_to_owned()?), File::from(io::stdout().as_handle().try_clone_to_owned()?)))
}

/// Nothing watches a pipe here: a thread of the runtime's pool reads when it is asked to, and waits.
pub(super) fn leave_alone(pipe: ChildStdout) -> io::Result<ChildStdout> {
    Ok(pipe)
}

/// As it was left.
pub(super) fn watch(pipe: ChildStdout) -> io::Result<ChildStdout> {
    Ok(pipe)
}

/// Where nothing is to be read and everything is lost.
pub(super) fn nowhere() -> io::Result<File> {
    File::options().read(true).write(true).open(r"\\.\NUL")
}

/// Loads a module from the file that is open: maps it, or reads it where a file that may only be read cannot be mapped
/// so that what is mapped may be written to (Wine).
///
/// # Safety
/// As for the engine's own ways to load one from a file and from bytes.
pub(super) unsafe fn module(engine: &wasmtime::Engine, file: File) -> wasmtime::Result<Module> {
    let again = file.try_clone()?;
    // SAFETY: the caller's promise.
    match unsafe { Module::deserialize_open_file(engine, file) } {
        Err(error) if is_denied(&error) => {
            let bytes = whole(&again)?;
            // SAFETY: as above.
            unsafe { Module::deserialize(engine, bytes) }
        }
        loaded => loaded,
    }
}

fn is_denied(error: &wasmtime::Error) -> bool {
    let denied = |cause: &io::Error| cause.kind() == io::ErrorKind::PermissionDenied;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(denied))
}

fn whole(mut file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Loads a component from the file that is open. It is read and not mapped: it may have no name that this process can open.
///
/// # Safety
/// As for the engine's own way to load one from bytes.
pub(super) unsafe fn component(engine: &wasmtime::Engine, file: &File) -> wasmtime::Result<Component> {
    let bytes = whole(file)?;
    // SAFETY: the caller's promise.
    unsafe { Component::deserialize(engine, bytes) }
}

/// Windows ends nobody when memory runs out: whoever asks for more is refused it.
pub(super) fn be_killed_first() {}

/// The system's words for no more memory.
const LACKS: [u32; 4] = [ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_COMMITMENT_LIMIT, ERROR_NOT_ENOUGH_QUOTA];

fn lacks(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| LACKS.contains(&code.cast_unsigned()))
}

/// Whether the system had no memory, or no address space, for what was wanted.
pub(super) fn is_starved(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(lacks)
}

/// Whether this is the system's own word for no more memory.
pub(super) fn is_out_of_memory(cause: &(dyn std::error::Error + 'static)) -> bool {
    is_starved(cause)
}

/// Whether words tell of a mapping that the system refused for want of memory. Its words are in the machine's language, its
/// numbers are not.
pub(super) fn tells_of_no_memory(words: &str) -> bool {
    LACKS.iter().any(|code| words.contains(&format!("(os error {code})")))
}

/// Has asks heard from now on, whatever this process is doing. Called once. A thread hears them: the walls here are those of
/// the process, and so are this thread's. It comes before the guest's, and does next to nothing.
pub(super) fn hear_asks(hear: fn(usize)) {
    let Some(asks) = std::env::var(ASKS).ok().and_then(|number| number.parse::<usize>().ok()) else { return };
    // SAFETY: the agent put the number of a handle there that it left to this process, and nothing else uses it.
    let mut asks = unsafe { File::from_raw_handle(asks as RawHandle) };
    let listen = move || {
        // SAFETY: it concerns this thread only.
        unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_HIGHEST) };
        let mut word = [0; size_of::<u64>()];
        while asks.read_exact(&mut word).is_ok() {
            hear(u64::from_le_bytes(word) as usize);
        }
    };
    // Without it asks are not heard, and whoever asked waits for the attempt's end.
    let _ = std::thread::Builder::new().name("asks".into()).spawn(listen);
}

/// A `FILETIME` that counts how long something took.
fn length(time: FILETIME) -> Duration {
    let ticks = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(ticks.saturating_mul(100))
}

/// The processor time of a process.
fn cpu_time_of(process: HANDLE) -> io::Result<Duration> {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and each of the others is a valid place.
    done(unsafe { GetProcessTimes(process, &mut created, &mut exited, &mut kernel, &mut user) })?;
    Ok(length(kernel) + length(user))
}

/// Processor time of this process.
pub(super) fn cpu_time() -> Duration {
    // SAFETY: it concerns this process only.
    cpu_time_of(unsafe { GetCurrentProcess() }).unwrap_or_default()
}

/// A process held by its handle: nothing done to it ever reaches another one that got its number.
pub(super) struct Handle {
    pid: u32,
    process: OwnedHandle,
    job: Arc<Job>,
    asks: Mutex<File>,
}

impl Handle {
    /// Nobody may have waited for the child.
    pub(super) fn of(child: &Child) -> io::Result<Self> {
        let asks = Mutex::new(child.asks.try_clone()?);
        Ok(Self { pid: child.id(), process: child.process.try_clone()?, job: Arc::clone(&child.job), asks })
    }

    /// Waits until the process has ended: its handle is signalled then.
    pub(super) async fn ended(&self) -> io::Result<()> {
        let (told, ended) = tokio::sync::oneshot::channel();
        let _wait = Wait::register(self.process.as_raw_handle(), told)?;
        ended.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn freeze(&self) -> io::Result<()> {
        self.job.freeze(&self.process)
    }

    pub(super) fn thaw(&self) -> io::Result<()> {
        self.job.thaw(&self.process)
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        self.job.kill(&self.process)
    }

    /// Sends it an ask, which waits while it is frozen: the pipe holds far more of them than are ever open.
    pub(super) fn ask(&self, word: usize) -> io::Result<()> {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        io::Write::write_all(&mut *asks, &(word as u64).to_le_bytes())
    }

    /// Memory in RAM, in bytes.
    pub(super) fn resident_bytes(&self) -> io::Result<u64> {
        let mut counters = PROCESS_MEMORY_COUNTERS::default();
        let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
        // SAFETY: the handle is open, and the structure as large as is said.
        done(unsafe { K32GetProcessMemoryInfo(self.process.as_raw_handle(), &mut counters, size) })?;
        Ok(counters.WorkingSetSize as u64)
    }

    /// Processor time so far.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        cpu_time_of(self.process.as_raw_handle())
    }
}

/// A wait of the system's pool for a handle. Dropping it ends the wait.
struct Wait {
    wait: HANDLE,
    told: *mut Option<tokio::sync::oneshot::Sender<()>>,
}

// SAFETY: the wait may be ended by any thread, and what it points to is used by its callback until then and by `drop` after.
unsafe impl Send for Wait {}
// SAFETY: nothing can be done with a shared one.
unsafe impl Sync for Wait {}

impl Wait {
    fn register(handle: RawHandle, told: tokio::sync::oneshot::Sender<()>) -> io::Result<Self> {
        unsafe extern "system" fn signalled(told: *mut c_void, _: bool) {
            // SAFETY: it is the box of `register`, which outlives the wait; the callback is called once.
            if let Some(told) = unsafe { (*told.cast::<Option<tokio::sync::oneshot::Sender<()>>>()).take() } {
                let _ = told.send(());
            }
        }
        let told = Box::into_raw(Box::new(Some(told)));
        let mut wait = std::ptr::null_mut();
        // SAFETY: the handle is open until the wait has ended: whoever waits has it.
        let registered = done(unsafe {
            RegisterWaitForSingleObject(&mut wait, handle, Some(signalled), told.cast(), INFINITE, WT_EXECUTEONLYONCE)
        });
        match registered {
            Ok(()) => Ok(Self { wait, told }),
            Err(error) => {
                // SAFETY: nothing was registered, so that nobody else has it.
                drop(unsafe { Box::from_raw(told) });
                Err(error)
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // SAFETY: it was registered, and is ended once. This waits for a callback that runs, so that nobody has the box after it.
        unsafe {
            UnregisterWaitEx(self.wait, INVALID_HANDLE_VALUE);
            drop(Box::from_raw(self.told));
        }
    }
}

/// Waits until a process has ended.
fn wait_for(process: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open.
    match unsafe { WaitForSingleObject(process.as_raw_handle(), INFINITE) } {
        WAIT_OBJECT_0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What ended a process, as far as its limits tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It aborted: Rust does when no memory is left.
    GaveUp,
    /// It had more processor time than its limit.
    ProcessorTime,
    Other,
}

// Exit codes: the system's own for what ended a process.
const ACCESS_VIOLATION: u32 = 0xc000_0005;
const IN_PAGE_ERROR: u32 = 0xc000_0006;
const NO_MEMORY: u32 = 0xc000_0017;
const ILLEGAL_INSTRUCTION: u32 = 0xc000_001d;
const QUOTA_EXCEEDED: u32 = 0xc000_0044;
const STACK_OVERFLOW: u32 = 0xc000_00fd;
const CONTROL_C: u32 = 0xc000_013a;
/// What `abort` ends with.
const FAIL_FAST: u32 = 0xc000_0409;
const BREAKPOINT: u32 = 0x8000_0003;
/// Of a session that is logged off, and of a debugger that lets nothing go on.
const TERMINATED: u32 = 0x4001_0004;
/// What those who end other processes write: the task manager and `taskkill`, and programs for .NET.
const BY_OTHERS: [u32; 4] = [1, u32::MAX, TERMINATED, CONTROL_C];

/// What ended it.
pub(super) fn ending(status: ExitStatus) -> Ending {
    match code(status) {
        FAIL_FAST | NO_MEMORY => Ending::GaveUp,
        ERROR_NOT_ENOUGH_QUOTA | QUOTA_EXCEEDED => Ending::ProcessorTime,
        _ => Ending::Other,
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match code(status) {
        KILLED => "killed".into(),
        ACCESS_VIOLATION | IN_PAGE_ERROR => format!("exception {:x}, a memory fault", code(status)),
        STACK_OVERFLOW => format!("exception {STACK_OVERFLOW:x}, no more stack"),
        ILLEGAL_INSTRUCTION => format!("exception {ILLEGAL_INSTRUCTION:x}, an instruction that is none"),
        FAIL_FAST | BREAKPOINT => format!("exception {:x}, it gave up", code(status)),
        code if BY_OTHERS.contains(&code) => format!("killed with exit code {}", code.cast_signed()),
        code if code >> 30 == 3 => format!("exception {code:x}"),
        code => format!("exit code {code}"),
    }
}

/// Whether a process was ended as others end one, and not by a fault of its own.
pub(super) fn is_from_outside(status: ExitStatus) -> bool {
    BY_OTHERS.contains(&code(status))
}

fn code(status: ExitStatus) -> u32 {
    status.code().map_or(0, i32::cast_unsigned)
}

/// The status that a process with this exit code has.
fn status(code: u32) -> ExitStatus {
    ExitStatus::from_raw(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faults_exit_code_is_told_from_that_of_somebody_who_ends_processes() {
        for (code, outside, words) in [
            (KILLED, false, "killed"),
            (ACCESS_VIOLATION, false, "exception c0000005, a memory fault"),
            (FAIL_FAST, false, "exception c0000409, it gave up"),
            (1, true, "killed with exit code 1"),
            (u32::MAX, true, "killed with exit code -1"),
            (4, false, "exit code 4"),
        ] {
            assert_eq!((is_from_outside(status(code)), describe(status(code)).as_str()), (outside, words), "{code:x}");
        }
        assert_eq!(ending(status(FAIL_FAST)), Ending::GaveUp);
        assert_eq!(ending(status(ERROR_NOT_ENOUGH_QUOTA)), Ending::ProcessorTime);
    }

    #[test]
    fn a_mapping_refused_for_want_of_memory_is_known_in_every_language() {
        assert!(tells_of_no_memory("Die Auslagerungsdatei ist zu klein (os error 1455)"));
        assert!(!tells_of_no_memory("access is denied (os error 5)"));
    }
}
