//! Linux's part of an executor's cage: what the process gives up at its start, and what before its first guest.
//!
//! Every layer is tried on its own and reported; a kernel that lacks one leaves the others standing. System calls
//! that are not listed fail with `ENOSYS`, so that libraries fall back to older ones that are.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    net::UdpSocket,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use tokio::process::ChildStdout;
use wasmtime::{Module, component::Component};

use super::{
    OWN_MEMORY_BYTES,
    code::compile::Bounds,
    handle::spawn::Start,
    protocol::{Cage, Layer, Load, Priority},
};

/// Behind the machine's services, which share a processor with it ten to one.
const LOW: i32 = 10;
/// Files that may be open at once.
const FILES_OPEN_MAX: u64 = 64;
/// Finds the pages that a guest wrote, so that only those are wiped. From the kernel's `linux/fs.h`.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// What the two walls of the kernel are called here.
pub(super) const CONTAINER_NAME: &str = "landlock";
pub(super) const CALLS_NAME: &str = "system calls";

/// A started process, its pipes, and its entry in the process table.
pub(super) type Child = process::Child;

/// Starts this program, or another one, under its executor entry. It closes its cage itself.
pub(super) fn start(start: Start) -> io::Result<Child> {
    let program = match start.program {
        Some(program) => program,
        // The very file that runs, even if an upgrade has put another one in its place.
        None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::arg0(&mut command, "lull-executor");
    command.args(start.words).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(start.trail.map_or_else(Stdio::null, Stdio::from));
    let child = command.spawn()?;
    if let Some(bytes) = start.pipe_bytes {
        // What the kernel refuses makes it slower, no more.
        let _ = child.stdin.as_ref().map(|pipe| rustix::pipe::fcntl_setpipe_size(pipe, bytes));
        let _ = child.stdout.as_ref().map(|pipe| rustix::pipe::fcntl_setpipe_size(pipe, bytes));
    }
    Ok(child)
}

/// Lets a process open a file by the name that this gives. Here it opens files itself, before its cage is closed.
pub(super) fn lend(_: &Child, path: &OsStr) -> io::Result<OsString> {
    Ok(path.to_owned())
}

/// The same of a folder in which it makes the file for scratch folders.
pub(super) fn lend_scratch(_: &Child, folder: &OsStr) -> io::Result<OsString> {
    Ok(folder.to_owned())
}

/// Opens what was lent.
pub(super) fn open_lent(name: &OsStr) -> io::Result<File> {
    File::open(name)
}

/// A file for scratch folders in the folder that was lent.
pub(super) fn scratch_file(folder: &OsStr) -> io::Result<File> {
    tempfile::tempfile_in(folder)
}

/// Where nothing is to be read and everything is lost.
pub(super) fn nowhere() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Loads a module from the file that is open.
///
/// # Safety
/// As for the engine's own way to load one from a file.
pub(super) unsafe fn module(engine: &wasmtime::Engine, file: File) -> wasmtime::Result<Module> {
    // SAFETY: the caller's promise.
    unsafe { Module::deserialize_open_file(engine, file) }
}

/// Loads a component from the file that is open.
///
/// # Safety
/// As for the engine's own way to load one from a file.
pub(super) unsafe fn component(engine: &wasmtime::Engine, file: &File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the caller's promise.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Has the runtime watch a pipe no more.
pub(super) fn leave_alone(pipe: ChildStdout) -> io::Result<process::ChildStdout> {
    Ok(pipe.into_owned_fd()?.into())
}

/// Has the runtime watch it again.
pub(super) fn watch(pipe: process::ChildStdout) -> io::Result<ChildStdout> {
    ChildStdout::from_std(pipe)
}

/// Lets go of everything inherited and ties this process to its agent's life. False when the agent is gone already.
pub(super) fn detach(agent: Option<u32>) -> bool {
    // SAFETY: nothing in this process has opened a descriptor yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::setsid();
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    agent.is_none_or(|agent| parent == Some(agent))
}

/// Reads from a place of a file; nothing at its end.
pub(super) fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(into, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes all of it to a place of a file.
pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

/// The process's standard input and output, without the standard library's buffers.
pub(super) fn pipes() -> io::Result<(File, File)> {
    Ok((File::from(io::stdin().as_fd().try_clone_to_owned()?), File::from(io::stdout().as_fd().try_clone_to_owned()?)))
}

/// Steps back behind every other process.
pub(super) fn set_priority(priority: Priority) -> Layer {
    match priority {
        Priority::Normal => Layer::Missing { reason: "it was asked to run like any program".into() },
        Priority::Low => Layer::of(rustix::process::setpriority_process(None, LOW)),
        Priority::Idle => Layer::of(step_back()),
    }
}

fn step_back() -> io::Result<()> {
    rustix::process::setpriority_process(None, 19)?;
    // Desktops share the processor between sessions first; this one has a session of its own. Kernels without that
    // sharing have no such file.
    let _ = std::fs::write("/proc/self/autogroup", "19");
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_IDLE: i32 = 3 << 13;
    // SAFETY: the parameter is a valid structure, and the calls concern this process only.
    let failed = unsafe {
        let parameter = libc::sched_param { sched_priority: 0 };
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) < 0
            || libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameter) < 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes the cage for good. The module must be loaded by now.
pub(super) fn close_cage(load: &Load, priority: Layer) -> Cage {
    let limits = Layer::of(bound(load));
    let container = Layer::of(confine());
    let system_calls = Layer::of(filter(if load.grants.scratch { Calls::Scratch } else { Calls::Bare }));
    probed(container, system_calls, limits, priority)
}

/// What holds, with what was tried and not only asked for.
fn probed(container: Layer, system_calls: Layer, limits: Layer, priority: Layer) -> Cage {
    Cage {
        files: denied(File::open("/etc/passwd").or_else(missing_is_open).map(drop).or_else(|_| std::fs::metadata("/").map(drop))),
        network: denied(UdpSocket::bind("127.0.0.1:0")),
        programs: exec_is_denied(),
        processes: others_are_out_of_reach(),
        container,
        system_calls,
        limits,
        priority,
    }
}

/// The same for a process that reads its standard input and writes its standard output and nothing else, on some
/// threads.
pub(super) fn close_pipe_cage(bounds: &Bounds, priority: Layer) -> Cage {
    let limits = Layer::of(bound_compiler(bounds));
    let container = Layer::of(confine());
    let system_calls = Layer::of(filter(Calls::Threads));
    probed(container, system_calls, limits, priority)
}

fn bound_compiler(bounds: &Bounds) -> io::Result<()> {
    limit(Resource::Data, bounds.memory_bytes)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, FILES_OPEN_MAX)?;
    match bounds.cpu {
        Some(cpu) => limit_cpu(cpu.as_secs().max(1)),
        None => Ok(()),
    }
}

/// The kernel counts whole seconds. Its signal at the first limit tells what happened; at the second it only kills.
fn limit_cpu(seconds: u64) -> io::Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Cpu).maximum;
    let maximum = maximum.map_or(seconds + 1, |maximum| maximum.min(seconds + 1));
    let limit = Rlimit { current: Some(seconds.min(maximum)), maximum: Some(maximum) };
    Ok(rustix::process::setrlimit(Resource::Cpu, limit)?)
}

/// The memory that processes started from here may have at most.
pub(super) fn memory_limit() -> u64 {
    rustix::process::getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX)
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, to: u64) -> io::Result<()> {
    let to = rustix::process::getrlimit(resource).maximum.map_or(to, |maximum| maximum.min(to));
    Ok(rustix::process::setrlimit(resource, both(to))?)
}

/// Lets nothing be read from now on but this file and what the kernel says of this process. What is loaded now may be
/// the work of a compiler that was taken over.
pub(super) fn confine_to_reading(file: &Path) -> Layer {
    let every = AccessFs::from_all(ABI::V5);
    let confined = || -> Result<(), ConfineError> {
        let read = AccessFs::ReadFile;
        let rules = Ruleset::default()
            .handle_access(every)?
            .handle_access(AccessNet::from_all(ABI::V5))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .add_rule(PathBeneath::new(PathFd::new(file)?, read))?
            .add_rule(PathBeneath::new(PathFd::new("/proc/self")?, read))?
            // Where what its own code writes goes.
            .add_rule(PathBeneath::new(PathFd::new("/dev/null")?, read | AccessFs::WriteFile))?;
        enforced(rules.restrict_self()?.ruleset)
    };
    Layer::of(confined())
}

/// When memory runs out this process is the one to go.
pub(super) fn be_killed_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

fn both(bytes: u64) -> Rlimit {
    Rlimit { current: Some(bytes), maximum: Some(bytes) }
}

fn bound(load: &Load) -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code. A write beyond the file size limit is then an error like a full disk.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let file_bytes = if load.grants.scratch { load.limits.scratch_bytes } else { 0 };
    rustix::process::setrlimit(Resource::Data, both(load.limits.memory_bytes.saturating_add(OWN_MEMORY_BYTES)))?;
    rustix::process::setrlimit(Resource::Fsize, both(file_bytes))?;
    rustix::process::setrlimit(Resource::Nofile, both(FILES_OPEN_MAX))?;
    Ok(())
}

/// Whether the system had no memory, or no address space, for what was wanted.
pub(super) fn is_starved(cause: &(dyn std::error::Error + 'static)) -> bool {
    let lacks = |code: i32| code == libc::ENOMEM || code == libc::EAGAIN;
    let io = cause.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error().is_some_and(lacks));
    io || cause.downcast_ref::<rustix::io::Errno>().is_some_and(|error| lacks(error.raw_os_error()))
}

/// Whether words tell of a mapping that the system refused for want of memory.
pub(super) fn tells_of_no_memory(words: &str) -> bool {
    words.contains("Cannot allocate memory")
}

/// Whether this is the system's own word for no more memory.
pub(super) fn is_out_of_memory(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
}

#[derive(Debug, thiserror::Error)]
enum ConfineError {
    #[error("the kernel refuses: {0}")]
    Rules(#[from] RulesetError),
    #[error("what may be used cannot be opened: {0}")]
    Path(#[from] landlock::PathFdError),
    #[error("this kernel has no landlock")]
    Unsupported,
}

fn confine() -> Result<(), ConfineError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    enforced(rules.restrict_self()?.ruleset)
}

fn enforced(status: RulesetStatus) -> Result<(), ConfineError> {
    match status {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(ConfineError::Unsupported),
    }
}

/// What running a loaded module takes.
const CALLS: [libc::c_long; 39] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getcwd,
];

/// What the one file of a scratch folder takes on top. It is open when the cage closes.
const SCRATCH_CALLS: [libc::c_long; 3] = [libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_ftruncate];

#[derive(Debug, thiserror::Error)]
enum FilterError {
    #[error("no filter can be made: {0}")]
    Build(#[from] seccompiler::BackendError),
    #[error("the kernel refuses the filter: {0}")]
    Apply(#[from] seccompiler::Error),
}

/// Which system calls a process has use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// To run a loaded module.
    Bare,
    /// To use a scratch folder on top.
    Scratch,
    /// To start threads instead.
    Threads,
}

fn filter(calls: Calls) -> Result<(), FilterError> {
    let clear = |argument, bits: i32| condition(argument, SeccompCmpOp::MaskedEq(bits as u64), 0);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, vec![condition(1, SeccompCmpOp::Eq, PAGEMAP_SCAN)?]);
    rules.insert(libc::SYS_mmap, vec![clear(2, libc::PROT_EXEC)?]);
    rules.insert(libc::SYS_mprotect, vec![clear(2, libc::PROT_EXEC)?]);
    // With this a process ends itself when it cannot go on. Nobody else is within its reach.
    rules.insert(libc::SYS_tgkill, vec![condition(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    if calls == Calls::Scratch {
        rules.extend(SCRATCH_CALLS.map(|call| (call, Vec::new())));
    }
    if calls == Calls::Threads {
        // Threads of this process; a process of its own is refused.
        let thread = libc::CLONE_THREAD as u64;
        rules.insert(libc::SYS_clone, vec![condition(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    }
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow, arch)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
}

/// A probe that must fail.
fn denied<T>(attempt: io::Result<T>) -> Layer {
    match attempt {
        Ok(_) => Layer::Missing { reason: "it was tried and succeeded".into() },
        Err(_) => Layer::Holds,
    }
}

/// A machine without the file that was tried proves nothing: the root folder is always there.
fn missing_is_open(error: io::Error) -> io::Result<File> {
    if error.kind() == io::ErrorKind::NotFound { File::open("/") } else { Err(error) }
}

/// Tries to execute nothing: an allowed attempt fails because there is no such file.
fn exec_is_denied() -> Layer {
    let nothing = [std::ptr::null()];
    // SAFETY: the path is a valid, empty string and both lists are empty and terminated.
    unsafe { libc::execve(c"".as_ptr(), nothing.as_ptr(), nothing.as_ptr()) };
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Layer::Holds,
        _ => Layer::Missing { reason: "it was tried and not refused".into() },
    }
}

/// Tries whether its agent could be signalled, and whether it could outlive it.
fn others_are_out_of_reach() -> Layer {
    let agent = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
    let untie: libc::c_ulong = 0;
    // SAFETY: signal 0 only asks whether one could be sent, and the other calls concern this process only.
    let tries = unsafe {
        [
            libc::syscall(libc::SYS_tgkill, agent, agent, 0),
            libc::syscall(libc::SYS_kill, agent, 0),
            libc::syscall(libc::SYS_tkill, agent, 0),
            libc::syscall(libc::SYS_rt_sigqueueinfo, agent, 0, std::ptr::null::<u8>()),
            libc::syscall(libc::SYS_pidfd_open, agent, 0),
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, untie),
        ]
    };
    match tries.iter().all(|result| *result < 0) {
        true => Layer::Holds,
        false => Layer::Missing { reason: "it was tried and succeeded".into() },
    }
}

/// The signal that carries an ask: a real-time one, so that each of several arrives, and with its word.
fn ask_signal() -> i32 {
    libc::SIGRTMIN()
}

/// Has asks heard from now on, whatever this process is doing. Called once.
pub(super) fn hear_asks(hear: fn(usize)) {
    static HEAR: OnceLock<fn(usize)> = OnceLock::new();

    extern "C" fn heard(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel hands in a valid structure; it is read as far as the sender filled it.
        let word = unsafe { (*info).si_value().sival_ptr } as usize;
        if let Some(hear) = HEAR.get() {
            hear(word);
        }
    }

    HEAR.get_or_init(|| hear);
    // SAFETY: the handler touches nothing but atomics, and returns; calls that it interrupts are taken up again. It
    // runs on the stack that the engine keeps for handlers.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = heard as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(ask_signal(), &action, std::ptr::null_mut());
    }
}

/// A signal with a word, as `rt_sigqueueinfo(2)` wants it.
#[repr(C)]
struct Queued {
    signal: i32,
    error: i32,
    code: i32,
    sender: Sender,
    // The kernel copies a structure of 128 bytes.
    rest: [u8; 128 - 4 * size_of::<usize>()],
}

#[repr(C)]
struct Sender {
    // Sets the structure apart as the kernel's union does.
    word_aligned: [usize; 0],
    pid: i32,
    uid: u32,
    word: usize,
}

/// Memory that another process reads as a file.
pub(super) struct SharedMemory {
    start: *mut u8,
    length: usize,
}

// SAFETY: it is written through `write` alone, which no two threads call: an executor writes one log.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Copies bytes in; those beyond its end are left out.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        let Some(room) = self.length.checked_sub(at) else { return };
        let length = bytes.len().min(room);
        // SAFETY: the range was just checked to lie inside of the mapping, which lives as long as the process.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), length) };
    }
}

/// Maps so many words and bytes of this process's standard error, if that is a file which has them.
pub(super) fn map_standard_error<const WORDS: usize>(
    bytes: usize,
) -> Option<(&'static [std::sync::atomic::AtomicU64; WORDS], SharedMemory)> {
    let length = WORDS * 8 + bytes;
    let file = rustix::fs::fstat(io::stderr()).ok()?;
    if u64::try_from(file.st_size).ok()? < length as u64 {
        return None;
    }
    // SAFETY: a new mapping touches no other memory. The agent never makes the file shorter.
    let start = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, libc::STDERR_FILENO, 0)
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start.cast::<u8>();
    // SAFETY: the mapping is aligned to a page, long enough, and never unmapped; its words are only used as atomics.
    let words = unsafe { &*start.cast::<[std::sync::atomic::AtomicU64; WORDS]>() };
    // SAFETY: the words lie inside of the mapping.
    let log = SharedMemory { start: unsafe { start.add(WORDS * 8) }, length: bytes };
    Some((words, log))
}

/// The agent's end of such memory: a file that has no name and takes memory as it is written. Nobody can make it longer or
/// shorter: what it takes is nobody's memory by any other bound. Whoever writes to it as a stream writes behind its end, and in
/// vain. It is read as a file, so that whatever is written there is bytes, and no fault.
pub(super) struct Pad(File);

/// What a process has of it as its standard error.
pub(super) type PadEnd = File;

impl Pad {
    pub(super) fn create(length: u64) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, SealFlags};
        let mut file = File::from(rustix::fs::memfd_create("lull-trail", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(length)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// For a process to be started.
    pub(super) fn end(&self) -> io::Result<PadEnd> {
        self.0.try_clone()
    }

    /// Fills all of this from a place on.
    pub(super) fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }

    /// As its other end would write.
    #[cfg(test)]
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }
}

/// Processor time of this process.
pub(super) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid, and a failure leaves the zero in it.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A process held by its descriptor: a signal never reaches another one that got its number.
pub(super) struct Handle {
    pid: Pid,
    descriptor: std::os::fd::OwnedFd,
}

impl Handle {
    /// Nobody may have waited for the child.
    pub(super) fn of(child: &Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Self { pid, descriptor })
    }

    /// Waits until the process has ended: its descriptor is readable then.
    pub(super) async fn ended(&self) -> io::Result<()> {
        let descriptor = self.descriptor.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is open and owned, and nothing replaces it.
        let descriptor = unsafe { tokio::io::unix::AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE)? };
        descriptor.readable().await.map(drop)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn freeze(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.descriptor, Signal::STOP)?)
    }

    pub(super) fn thaw(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.descriptor, Signal::CONT)?)
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.descriptor, Signal::KILL)?)
    }

    /// Sends it an ask, which waits while it is frozen.
    pub(super) fn ask(&self, word: usize) -> io::Result<()> {
        let signal = ask_signal();
        let sender = Sender {
            word_aligned: [],
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            uid: rustix::process::getuid().as_raw(),
            word,
        };
        let queued = Queued { signal, error: 0, code: libc::SI_QUEUE, sender, rest: [0; _] };
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the structure is valid and as large as the kernel reads, and the descriptor is open.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, &raw const queued, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Memory in RAM, in bytes.
    pub(super) fn resident_bytes(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid.as_raw_nonzero()))?;
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    /// Processor time so far, in units of the kernel's clock tick.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero()))?;
        let fields = text.rsplit(')').next().unwrap_or_default().split(' ').collect::<Vec<_>>();
        let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidData);
        // After the name come the state and ten other fields, then user and system time.
        let sum = ticks(12)? + ticks(13)?;
        Ok(Duration::from_millis(sum * 1000 / rustix::param::clock_ticks_per_second()))
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

/// What ended it.
pub(super) fn ending(status: std::process::ExitStatus) -> Ending {
    match std::os::unix::process::ExitStatusExt::signal(&status) {
        Some(libc::SIGABRT) => Ending::GaveUp,
        Some(libc::SIGXCPU) => Ending::ProcessorTime,
        _ => Ending::Other,
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(libc::SIGKILL), _) => "killed".into(),
        (Some(libc::SIGSEGV), _) => "signal 11, a memory fault".into(),
        (Some(libc::SIGABRT), _) => "signal 6, it gave up".into(),
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "for no reason it told".into(),
    }
}

/// Whether a process was ended by a signal that no fault of its own sends. Linux's killer for want of memory sends the
/// same as a person does.
pub(super) fn is_from_outside(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    const OWN: [i32; 9] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
        libc::SIGSYS,
        libc::SIGTRAP,
        libc::SIGXFSZ,
        libc::SIGXCPU,
    ];
    status.signal().is_some_and(|signal| !OWN.contains(&signal))
}
