//! The job that holds one process: what it may have, and the way to take the processor from it.
//!
//! Freezing is the job object's own (it takes new threads too), which no header names: where it is refused, all threads of the
//! process are suspended instead. Which of both is tried out once.

use std::{
    io,
    os::windows::io::{AsRawHandle as _, OwnedHandle},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use windows_sys::Win32::{
    Foundation::HANDLE,
    System::{
        JobObjects::{
            AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
            JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_LIMIT_PROCESS_MEMORY,
            JOB_OBJECT_LIMIT_PROCESS_TIME, JOB_OBJECT_UILIMIT_DESKTOP, JOB_OBJECT_UILIMIT_DISPLAYSETTINGS,
            JOB_OBJECT_UILIMIT_EXITWINDOWS, JOB_OBJECT_UILIMIT_GLOBALATOMS, JOB_OBJECT_UILIMIT_HANDLES,
            JOB_OBJECT_UILIMIT_READCLIPBOARD, JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS, JOB_OBJECT_UILIMIT_WRITECLIPBOARD,
            JOBOBJECT_BASIC_UI_RESTRICTIONS, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JOBOBJECTINFOCLASS,
            JobObjectBasicUIRestrictions, JobObjectExtendedLimitInformation, QueryInformationJobObject, SetInformationJobObject,
            TerminateJobObject,
        },
        Threading::TerminateProcess,
    },
};

use super::{KILLED, done, function, owned};
use crate::executor::handle::spawn::Allowance;

/// What every job must hold its process to.
pub(super) const LIMITS: u32 = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
    | JOB_OBJECT_LIMIT_ACTIVE_PROCESS
    | JOB_OBJECT_LIMIT_PROCESS_MEMORY
    | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION;
/// What is asked of a job for its desk: nothing of it is to be had.
pub(super) const NO_DESK: u32 = JOB_OBJECT_UILIMIT_DESKTOP
    | JOB_OBJECT_UILIMIT_DISPLAYSETTINGS
    | JOB_OBJECT_UILIMIT_EXITWINDOWS
    | JOB_OBJECT_UILIMIT_GLOBALATOMS
    | JOB_OBJECT_UILIMIT_HANDLES
    | JOB_OBJECT_UILIMIT_READCLIPBOARD
    | JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS
    | JOB_OBJECT_UILIMIT_WRITECLIPBOARD;

/// A job without a name. When its last handle is closed, however the agent ends, its process ends.
pub(super) struct Job {
    job: OwnedHandle,
    /// Suspending is counted, and a killed process is thawed no more.
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    Frozen,
    Killed,
}

impl Job {
    /// A job for one process. What the system refuses of it is left out: the process looks what holds it, and says so.
    pub(super) fn new(allowance: Allowance) -> io::Result<Self> {
        let job = Self::bare()?;
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = LIMITS;
        limits.BasicLimitInformation.ActiveProcessLimit = 1;
        limits.ProcessMemoryLimit = usize::try_from(allowance.memory_bytes).unwrap_or(usize::MAX);
        if let Some(cpu) = allowance.cpu {
            limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_PROCESS_TIME;
            limits.BasicLimitInformation.PerProcessUserTimeLimit = ticks(cpu);
        }
        if set(job.job.as_raw_handle(), JobObjectExtendedLimitInformation, &limits).is_err() {
            let mut least = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
            least.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
            // Without this nothing would end a process whose agent is gone.
            set(job.job.as_raw_handle(), JobObjectExtendedLimitInformation, &least)?;
        }
        let desk = JOBOBJECT_BASIC_UI_RESTRICTIONS { UIRestrictionsClass: NO_DESK };
        let _ = set(job.job.as_raw_handle(), JobObjectBasicUIRestrictions, &desk);
        Ok(job)
    }

    fn bare() -> io::Result<Self> {
        // SAFETY: no attributes and no name are asked for.
        let job = owned(unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) })?;
        Ok(Self { job, state: Mutex::new(State::Runs) })
    }

    /// Takes a process in, which must not have run yet.
    pub(super) fn take_in(&self, process: &OwnedHandle) -> io::Result<()> {
        // SAFETY: both handles are open.
        done(unsafe { AssignProcessToJobObject(self.job.as_raw_handle(), process.as_raw_handle()) })
    }

    pub(super) fn freeze(&self, process: &OwnedHandle) -> io::Result<()> {
        self.go(State::Frozen, process)
    }

    pub(super) fn thaw(&self, process: &OwnedHandle) -> io::Result<()> {
        self.go(State::Runs, process)
    }

    fn go(&self, to: State, process: &OwnedHandle) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (*state, to) {
            (State::Killed, _) => return Err(io::Error::from(io::ErrorKind::NotFound)),
            (from, to) if from == to => return Ok(()),
            (State::Runs | State::Frozen, _) => {}
        }
        self.hold(to == State::Frozen, process)?;
        *state = to;
        Ok(())
    }

    fn hold(&self, frozen: bool, process: &OwnedHandle) -> io::Result<()> {
        match Way::here() {
            Way::Job => self.freeze_job(frozen),
            Way::Threads => suspend(process, frozen),
        }
    }

    fn freeze_job(&self, frozen: bool) -> io::Result<()> {
        let order = Freeze { flags: FREEZE, freeze: frozen.into(), ..Freeze::default() };
        set(self.job.as_raw_handle(), FREEZE_INFORMATION, &order)
    }

    /// Ends the process, frozen or not: one that is frozen ends for certain once it is thawed.
    pub(super) fn kill(&self, process: &OwnedHandle) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both handles are open.
        let ended = done(unsafe { TerminateJobObject(self.job.as_raw_handle(), KILLED) })
            // SAFETY: as above.
            .or_else(|_| done(unsafe { TerminateProcess(process.as_raw_handle(), KILLED) }));
        if *state == State::Frozen {
            let _ = self.hold(false, process);
        }
        *state = State::Killed;
        ended
    }
}

/// How a process is frozen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Job,
    Threads,
}

impl Way {
    /// Tried out once, with a job that holds nothing.
    fn here() -> Self {
        static WAY: OnceLock<Way> = OnceLock::new();
        *WAY.get_or_init(|| {
            let tried = Job::bare().and_then(|job| job.freeze_job(true).and_then(|()| job.freeze_job(false)));
            match tried {
                Ok(()) => Self::Job,
                Err(error) => {
                    tracing::info!(%error, "jobs cannot be frozen here; the threads of an executor are suspended instead");
                    Self::Threads
                }
            }
        })
    }
}

/// `JobObjectFreezeInformation`, which Windows has since 8.
const FREEZE_INFORMATION: JOBOBJECTINFOCLASS = 18;
/// Of what can be said there, the freezing.
const FREEZE: u32 = 1;

#[repr(C)]
#[derive(Default)]
struct Freeze {
    flags: u32,
    freeze: u8,
    swap: u8,
    reserved: u16,
    wake_filter: [u32; 2],
}

type OfProcess = unsafe extern "system" fn(HANDLE) -> i32;

/// Suspends or resumes all threads of a process.
fn suspend(process: &OwnedHandle, suspended: bool) -> io::Result<()> {
    let name = if suspended { c"NtSuspendProcess" } else { c"NtResumeProcess" };
    let function = function("ntdll.dll", name).ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: both functions take a handle and give a status.
    let function = unsafe { std::mem::transmute::<unsafe extern "system" fn() -> isize, OfProcess>(function) };
    // SAFETY: the handle is open, with every right on the process.
    match unsafe { function(process.as_raw_handle()) } {
        0.. => Ok(()),
        status => Err(io::Error::other(format!("status {:x}", status.cast_unsigned()))),
    }
}

fn ticks(time: Duration) -> i64 {
    i64::try_from(time.as_nanos() / 100).unwrap_or(i64::MAX)
}

fn set<T>(job: HANDLE, class: JOBOBJECTINFOCLASS, information: &T) -> io::Result<()> {
    // SAFETY: the handle is open, and the structure is the one of this class, as large as is said.
    done(unsafe { SetInformationJobObject(job, class, (&raw const *information).cast(), size_of::<T>() as u32) })
}

/// What the job of this very process says of itself.
pub(super) fn own<T: Default>(class: JOBOBJECTINFOCLASS) -> io::Result<T> {
    let mut found = T::default();
    let size = size_of::<T>() as u32;
    // SAFETY: no handle means the own job; the structure is the one of this class, as large as is said.
    done(unsafe { QueryInformationJobObject(std::ptr::null_mut(), class, (&raw mut found).cast(), size, std::ptr::null_mut()) })?;
    Ok(found)
}
