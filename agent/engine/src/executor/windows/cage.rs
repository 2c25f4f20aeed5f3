//! What holds this process, as it finds itself: it was started in its cage, and cannot open it.

use std::{
    fs::File,
    io,
    net::UdpSocket,
    os::windows::io::AsRawHandle as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use windows_sys::Win32::{
    Foundation::HANDLE,
    Security::{GetTokenInformation, TOKEN_QUERY, TokenCapabilities, TokenIsAppContainer},
    System::{
        JobObjects::{
            JOB_OBJECT_LIMIT_PROCESS_MEMORY, JOBOBJECT_BASIC_UI_RESTRICTIONS, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
            JobObjectBasicUIRestrictions, JobObjectExtendedLimitInformation,
        },
        Threading::{
            BELOW_NORMAL_PRIORITY_CLASS, GetCurrentProcess, GetProcessMitigationPolicy, IDLE_PRIORITY_CLASS, OpenProcess,
            OpenProcessToken, PROCESS_MITIGATION_POLICY, PROCESS_POWER_THROTTLING_CURRENT_VERSION,
            PROCESS_POWER_THROTTLING_EXECUTION_SPEED, PROCESS_POWER_THROTTLING_STATE, PROCESS_TERMINATE, PROCESS_VM_READ,
            ProcessChildProcessPolicy, ProcessExtensionPointDisablePolicy, ProcessImageLoadPolicy, ProcessPowerThrottling,
            ProcessStrictHandleCheckPolicy, SetPriorityClass, SetProcessInformation,
        },
    },
};

use super::{done, job, owned};
use crate::executor::{
    ENTRY,
    code::compile::Bounds,
    protocol::{Cage, Layer, Load, Priority},
};

/// What the two walls of the kernel are called here.
pub(in crate::executor) const CONTAINER_NAME: &str = "app container";
pub(in crate::executor) const CALLS_NAME: &str = "mitigation policies";

/// The agent's number; 0 for none.
static AGENT: AtomicU32 = AtomicU32::new(0);

/// Whom this process must not reach.
pub(super) fn remember_agent(agent: Option<u32>) {
    AGENT.store(agent.unwrap_or(0), Ordering::Relaxed);
}

/// Steps back behind every other process.
pub(in crate::executor) fn set_priority(priority: Priority) -> Layer {
    match priority {
        Priority::Normal => Layer::Missing { reason: "it was asked to run like any program".into() },
        // SAFETY: it concerns this process only.
        Priority::Low => Layer::of(done(unsafe { SetPriorityClass(GetCurrentProcess(), BELOW_NORMAL_PRIORITY_CLASS) })),
        // SAFETY: as above.
        Priority::Idle => {
            Layer::of(done(unsafe { SetPriorityClass(GetCurrentProcess(), IDLE_PRIORITY_CLASS) }).and_then(|()| eco()))
        }
    }
}

/// Asks for cores and speeds that save power (EcoQoS). Background mode is no help: it takes memory away too.
fn eco() -> io::Result<()> {
    let state = PROCESS_POWER_THROTTLING_STATE {
        Version: PROCESS_POWER_THROTTLING_CURRENT_VERSION,
        ControlMask: PROCESS_POWER_THROTTLING_EXECUTION_SPEED,
        StateMask: PROCESS_POWER_THROTTLING_EXECUTION_SPEED,
    };
    let size = size_of::<PROCESS_POWER_THROTTLING_STATE>() as u32;
    // SAFETY: it concerns this process only, and the structure is as large as is said.
    let asked = unsafe { SetProcessInformation(GetCurrentProcess(), ProcessPowerThrottling, (&raw const state).cast(), size) };
    done(asked).map_err(|error| io::Error::other(format!("it runs when nobody else does, but without EcoQoS ({error})")))
}

/// Looks at the cage. The module must be loaded by now.
pub(in crate::executor) fn close_cage(_: &Load, priority: Layer) -> Cage {
    probed(priority)
}

/// The same for a process that reads its standard input and writes its standard output and nothing else.
pub(in crate::executor) fn close_pipe_cage(_: &Bounds, priority: Layer) -> Cage {
    probed(priority)
}

/// What is loaded now may be the work of a compiler that was taken over: the container holds it already.
pub(in crate::executor) fn confine_to_reading(_: &Path) -> Layer {
    Layer::of(container())
}

/// The memory that this process may have at most.
pub(in crate::executor) fn memory_limit() -> u64 {
    match job::own::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>(JobObjectExtendedLimitInformation) {
        Ok(limits) if limits.BasicLimitInformation.LimitFlags & JOB_OBJECT_LIMIT_PROCESS_MEMORY != 0 => {
            limits.ProcessMemoryLimit as u64
        }
        Ok(_) | Err(_) => u64::MAX,
    }
}

/// What holds, with what was tried and not only asked for.
fn probed(priority: Layer) -> Cage {
    let container = Layer::of(container());
    Cage {
        files: files(),
        network: network(&container),
        programs: programs(),
        processes: processes(),
        system_calls: Layer::of(mitigated()),
        limits: Layer::of(limited()),
        container,
        priority,
    }
}

fn system_root() -> PathBuf {
    std::env::var_os("SystemRoot").map_or_else(|| PathBuf::from(r"C:\Windows"), PathBuf::from)
}

/// Nothing but what the system lets every program read, and no file can be made. A folder that everybody may look into on an
/// ordinary account is the top of the system's disk.
fn files() -> Layer {
    let root = system_root();
    let top = root.ancestors().last().unwrap_or(Path::new(r"C:\")).to_owned();
    let fresh = root.join("Temp").join(format!("lull-{}", std::process::id()));
    if std::fs::read_dir(&top).is_ok() {
        return Layer::Missing { reason: format!("{} was tried and opened", top.display()) };
    }
    if File::create_new(&fresh).is_ok() {
        let _ = std::fs::remove_file(&fresh);
        return Layer::Missing { reason: format!("a file was tried and made in {}", root.join("Temp").display()) };
    }
    Layer::Holds
}

/// A socket can be made; it must not reach anybody. The address is one of those that are nobody's.
fn network(container: &Layer) -> Layer {
    match UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9")) {
        Ok(()) => Layer::Missing { reason: "it was tried and succeeded".into() },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Layer::Holds,
        // A machine without a network proves nothing; a container without capabilities has none to use one.
        Err(_) if container.holds() => Layer::Holds,
        Err(error) => Layer::Missing { reason: format!("it was tried and not refused ({error})") },
    }
}

/// Tries to start this program once more, as an executor that has nothing to do.
fn programs() -> Layer {
    let Ok(program) = std::env::current_exe() else { return Layer::Missing { reason: "it could not be tried".into() } };
    let mut command = Command::new(program);
    command.arg(ENTRY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(mut started) => {
            let _ = started.kill();
            let _ = started.wait();
            Layer::Missing { reason: "it was tried and succeeded".into() }
        }
        Err(_) => Layer::Holds,
    }
}

/// Tries whether its agent could be ended or read, and whether it could outlive it.
fn processes() -> Layer {
    let agent = AGENT.load(Ordering::Relaxed);
    // SAFETY: the call only asks for a handle.
    if agent != 0 && owned(unsafe { OpenProcess(PROCESS_TERMINATE | PROCESS_VM_READ, 0, agent) }).is_ok() {
        return Layer::Missing { reason: "its agent was tried and opened".into() };
    }
    let limits = job::own::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>(JobObjectExtendedLimitInformation);
    Layer::of(limits.and_then(|limits| has(limits.BasicLimitInformation.LimitFlags, KILL, "it could outlive its agent")))
}

const KILL: u32 = windows_sys::Win32::System::JobObjects::JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;

fn has(flags: u32, wanted: u32, lacking: &str) -> io::Result<()> {
    if flags & wanted == wanted { Ok(()) } else { Err(io::Error::other(lacking.to_owned())) }
}

/// What the job says of itself.
fn limited() -> io::Result<()> {
    let limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = job::own(JobObjectExtendedLimitInformation)?;
    has(limits.BasicLimitInformation.LimitFlags, job::LIMITS, "its job does not bound memory and processes")?;
    let desk: JOBOBJECT_BASIC_UI_RESTRICTIONS = job::own(JobObjectBasicUIRestrictions)?;
    has(desk.UIRestrictionsClass, job::NO_DESK, "its job leaves it the desk")
}

/// Whether this process's token is that of a container, and has no capability.
fn container() -> io::Result<()> {
    let mut token = std::ptr::null_mut();
    // SAFETY: it concerns this process only; the last is a place for a handle.
    done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) })?;
    let token = owned(token)?;
    let (is_container, _) = asked::<1>(token.as_raw_handle(), TokenIsAppContainer)?;
    if is_container[0] == 0 {
        return Err(io::Error::other("it runs outside of one"));
    }
    // A list of groups begins with their number; an empty one fits here.
    let (capabilities, _) = asked::<16>(token.as_raw_handle(), TokenCapabilities)?;
    if capabilities[0] == 0 { Ok(()) } else { Err(io::Error::other("it has capabilities")) }
}

/// What a token says, in words of four bytes, and how many bytes of it.
fn asked<const WORDS: usize>(token: HANDLE, class: i32) -> io::Result<([u32; WORDS], u32)> {
    let (mut words, mut filled) = ([0; WORDS], 0);
    // SAFETY: the handle is open, and the words are as many as is said.
    done(unsafe { GetTokenInformation(token, class, words.as_mut_ptr().cast(), (WORDS * 4) as u32, &mut filled) })?;
    Ok((words, filled))
}

/// Each policy that was asked for, by its lowest bits: children, handles, extension points, images.
fn mitigated() -> io::Result<()> {
    for (policy, bits, name) in [
        (ProcessChildProcessPolicy, 1, "children are not forbidden"),
        (ProcessStrictHandleCheckPolicy, 1, "wrong handles are not errors"),
        (ProcessExtensionPointDisablePolicy, 1, "extension points are open"),
        (ProcessImageLoadPolicy, 3, "images of others can be loaded"),
    ] {
        has(policy_flags(policy)?, bits, name)?;
    }
    Ok(())
}

fn policy_flags(policy: PROCESS_MITIGATION_POLICY) -> io::Result<u32> {
    let mut flags = 0_u32;
    // SAFETY: each of the policies asked for is one word.
    done(unsafe { GetProcessMitigationPolicy(GetCurrentProcess(), policy, (&raw mut flags).cast(), size_of::<u32>()) })?;
    Ok(flags)
}
