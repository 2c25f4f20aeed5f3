//! Starting a process inside of its cage, and lending it what it is to open.

use std::{
    ffi::{OsStr, OsString, c_void},
    fs::File,
    io,
    os::windows::{
        fs::OpenOptionsExt as _,
        io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    },
    process::{ChildStdin, ChildStdout, ExitStatus},
    ptr,
    sync::Arc,
};

use windows_sys::Win32::{
    Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, HANDLE_FLAG_INHERIT, SetHandleInformation},
    Security::{FreeSid, PSID, SECURITY_CAPABILITIES},
    Storage::FileSystem::{FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE},
    System::{
        LibraryLoader::{LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW},
        Pipes::CreatePipe,
        Threading::{
            CREATE_NO_WINDOW, CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT, CreateProcessW, DeleteProcThreadAttributeList,
            EXTENDED_STARTUPINFO_PRESENT, GetCurrentProcess, GetExitCodeProcess, InitializeProcThreadAttributeList,
            LPPROC_THREAD_ATTRIBUTE_LIST, PROC_THREAD_ATTRIBUTE_CHILD_PROCESS_POLICY, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
            PROC_THREAD_ATTRIBUTE_MITIGATION_POLICY, PROC_THREAD_ATTRIBUTE_SECURITY_CAPABILITIES, PROCESS_INFORMATION,
            ResumeThread, STARTF_USESTDHANDLES, STARTUPINFOEXW, UpdateProcThreadAttribute,
        },
        WindowsProgramming::PROCESS_CREATION_CHILD_PROCESS_RESTRICTED,
    },
};

use super::{Job, done, function, owned, status, wait_for, wide};
use crate::executor::handle::spawn::Start;

/// The variable in which a process finds the number of the handle that brings it asks.
pub(super) const ASKS: &str = "LULL_EXECUTOR_ASKS";
/// The AppContainer of all executors. It has no capability, and nothing is granted to its name anywhere.
const CONTAINER: &str = "Lull.Executor";
/// What a name begins with that stands for a lent handle. No path has a colon there.
const LENT: &str = "lent::";
/// The first of two words of mitigation policies, each "always on": strict checks of handles; no extension points, so that
/// nothing of others is loaded into it; no fonts but the system's; no images from the network or of low integrity; those of the
/// system first. Not the ban on dynamic code: what is compiled is mapped executable.
const MITIGATIONS: u64 = 1 << 24 | 1 << 32 | 1 << 48 | 1 << 52 | 1 << 56 | 1 << 60;

/// A started process with its pipes. Whoever drops it leaves the process to its job.
pub(in crate::executor) struct Child {
    pub(in crate::executor) stdin: Option<ChildStdin>,
    pub(in crate::executor) stdout: Option<ChildStdout>,
    pid: u32,
    pub(super) process: OwnedHandle,
    pub(super) job: Arc<Job>,
    pub(super) asks: File,
}

impl Child {
    pub(in crate::executor) fn id(&self) -> u32 {
        self.pid
    }

    pub(in crate::executor) fn kill(&mut self) -> io::Result<()> {
        self.job.kill(&self.process)
    }

    /// Waits for its end, with its standard input closed.
    pub(in crate::executor) fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        wait_for(&self.process)?;
        let mut code = 0;
        // SAFETY: the handle is open.
        done(unsafe { GetExitCodeProcess(self.process.as_raw_handle(), &mut code) })?;
        Ok(status(code))
    }
}

/// Both ends of a pipe that holds so much: first the one to read from.
fn pipe(bytes: usize) -> io::Result<(OwnedHandle, OwnedHandle)> {
    let (mut read, mut write) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: both are places for a handle.
    done(unsafe { CreatePipe(&mut read, &mut write, ptr::null(), u32::try_from(bytes).unwrap_or(0)) })?;
    Ok((owned(read)?, owned(write)?))
}

/// Lets children have a handle that are told of it.
fn inheritable(handle: &OwnedHandle) -> io::Result<HANDLE> {
    // SAFETY: the handle is open.
    done(unsafe { SetHandleInformation(handle.as_raw_handle(), HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) })?;
    Ok(handle.as_raw_handle())
}

/// Starts this program, or another one, under its executor entry: suspended, in its job, then resumed.
pub(in crate::executor) fn start(start: Start) -> io::Result<Child> {
    let program = start.program.map_or_else(std::env::current_exe, Ok)?;
    let bytes = start.pipe_bytes.unwrap_or(0);
    let ((stdin, to), (from, stdout), (asks, ask)) = (pipe(bytes)?, pipe(bytes)?, pipe(0)?);
    let nothing = OwnedHandle::from(super::nowhere()?);
    let stderr = start.trail.as_ref().unwrap_or(&nothing);
    let handles = [inheritable(&stdin)?, inheritable(&stdout)?, inheritable(stderr)?, inheritable(&asks)?];
    let job = Arc::new(Job::new(start.allowance)?);
    let order = Order { program: wide(&program), line: line(&program, &start.words), world: world(handles[3]), handles };
    let (pid, process, thread) = order.carry_out()?;
    let mut child =
        Child { stdin: Some(to.into()), stdout: Some(from.into()), pid, process, job: Arc::clone(&job), asks: ask.into() };
    let runs = job.take_in(&child.process).and_then(|()| {
        // SAFETY: the handle is that of the process's first thread, which has not run.
        match unsafe { ResumeThread(thread.as_raw_handle()) } {
            u32::MAX => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    });
    if let Err(error) = runs {
        let _ = child.kill();
        return Err(error);
    }
    Ok(child)
}

/// The command line. No word of ours has a space or a quotation mark, and no path the latter.
fn line(program: &std::path::Path, words: &[String]) -> Vec<u16> {
    let mut line = OsString::from("\"");
    line.push(program);
    line.push("\"");
    for word in words {
        line.push(" ");
        line.push(word);
    }
    wide(line)
}

/// The environment: where the system is, which its own libraries want to know, and where asks come from.
fn world(asks: HANDLE) -> Vec<u16> {
    let mut world = wide(format!("{ASKS}={}", asks as usize));
    if let Some(root) = std::env::var_os("SystemRoot") {
        let mut variable = OsString::from("SystemRoot=");
        variable.push(root);
        world.extend(wide(variable));
    }
    world.push(0);
    world
}

/// A process to be made.
struct Order {
    program: Vec<u16>,
    line: Vec<u16>,
    world: Vec<u16>,
    /// Standard input, output and error, and the asks.
    handles: [HANDLE; 4],
}

/// What a process is made with; a system may lack any of it.
#[derive(Debug, Clone, Copy)]
struct Walls {
    container: bool,
    mitigations: bool,
}

impl Order {
    /// With every wall that the system has: each is left out only if the process cannot be made with it.
    fn carry_out(&self) -> io::Result<(u32, OwnedHandle, OwnedHandle)> {
        let tries = [(true, true), (true, false), (false, true), (false, false)];
        let mut failed = None;
        for (container, mitigations) in tries {
            match self.try_with(Walls { container, mitigations }) {
                Ok(made) => return Ok(made),
                // What went wrong with everything tells most.
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        Err(failed.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }

    fn try_with(&self, walls: Walls) -> io::Result<(u32, OwnedHandle, OwnedHandle)> {
        let container = if walls.container { Some(Container::find()?) } else { None };
        let capabilities = container.as_ref().map(|container| SECURITY_CAPABILITIES {
            AppContainerSid: container.0,
            Capabilities: ptr::null_mut(),
            CapabilityCount: 0,
            Reserved: 0,
        });
        let mut attributes = Attributes::new(4)?;
        let handles = (&raw const self.handles).cast();
        // SAFETY: all that attributes point to outlives the process's making.
        unsafe { attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles, size_of_val(&self.handles))? };
        if let Some(capabilities) = &capabilities {
            let place = (&raw const *capabilities).cast();
            // SAFETY: as above.
            unsafe { attributes.set(PROC_THREAD_ATTRIBUTE_SECURITY_CAPABILITIES, place, size_of_val(capabilities))? };
        }
        let (mitigations, children) = (MITIGATIONS, PROCESS_CREATION_CHILD_PROCESS_RESTRICTED);
        if walls.mitigations {
            // SAFETY: as above.
            unsafe {
                attributes.set(PROC_THREAD_ATTRIBUTE_MITIGATION_POLICY, (&raw const mitigations).cast(), size_of::<u64>())?;
                attributes.set(PROC_THREAD_ATTRIBUTE_CHILD_PROCESS_POLICY, (&raw const children).cast(), size_of::<u32>())?;
            }
        }
        self.make(&mut attributes)
    }

    fn make(&self, attributes: &mut Attributes) -> io::Result<(u32, OwnedHandle, OwnedHandle)> {
        let mut startup = STARTUPINFOEXW { lpAttributeList: attributes.list(), ..STARTUPINFOEXW::default() };
        startup.StartupInfo.cb = size_of::<STARTUPINFOEXW>() as u32;
        startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
        [startup.StartupInfo.hStdInput, startup.StartupInfo.hStdOutput, startup.StartupInfo.hStdError, _] = self.handles;
        let flags = CREATE_SUSPENDED | CREATE_NO_WINDOW | CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT;
        let mut made = PROCESS_INFORMATION::default();
        // The call may write into the line.
        let mut line = self.line.clone();
        // SAFETY: every text ends in a zero, the environment in two, and the attributes' list is whole.
        done(unsafe {
            CreateProcessW(
                self.program.as_ptr(),
                line.as_mut_ptr(),
                ptr::null(),
                ptr::null(),
                1,
                flags,
                self.world.as_ptr().cast(),
                ptr::null(),
                (&raw const startup.StartupInfo).cast(),
                &mut made,
            )
        })?;
        Ok((made.dwProcessId, owned(made.hProcess)?, owned(made.hThread)?))
    }
}

/// A list of attributes, in memory of its own.
struct Attributes(Vec<usize>);

impl Attributes {
    fn new(count: u32) -> io::Result<Self> {
        let mut size = 0;
        // SAFETY: without a list the call says how large one is.
        unsafe { InitializeProcThreadAttributeList(ptr::null_mut(), count, 0, &mut size) };
        let mut list = Self(vec![0; size.div_ceil(size_of::<usize>()).max(1)]);
        // SAFETY: the list is as large as was asked for.
        let made = done(unsafe { InitializeProcThreadAttributeList(list.list(), count, 0, &mut size) });
        if let Err(error) = made {
            // Nothing is to be given back of a list that was not made.
            list.0.clear();
            return Err(error);
        }
        Ok(list)
    }

    fn list(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.0.as_mut_ptr().cast()
    }

    /// # Safety
    /// What it points to outlives the list, and is what this attribute takes.
    unsafe fn set(&mut self, attribute: u32, value: *const c_void, size: usize) -> io::Result<()> {
        // SAFETY: the list was made with room for it; for the rest, the caller's promise.
        done(unsafe { UpdateProcThreadAttribute(self.list(), 0, attribute as usize, value, size, ptr::null_mut(), ptr::null()) })
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            // SAFETY: it was made, and is given back once.
            unsafe { DeleteProcThreadAttributeList(self.list()) };
        }
    }
}

type CreateProfile =
    unsafe extern "system" fn(*const u16, *const u16, *const u16, *const c_void, u32, *mut PSID) -> windows_sys::core::HRESULT;
type DeriveSid = unsafe extern "system" fn(*const u16, *mut PSID) -> windows_sys::core::HRESULT;

/// The AppContainer that executors run in, by its number.
struct Container(PSID);

impl Container {
    /// Makes it for this account, or finds it there.
    fn find() -> io::Result<Self> {
        let lacks = || io::Error::from(io::ErrorKind::Unsupported);
        // SAFETY: the name ends in a zero, and is looked for among the system's own libraries.
        let library = unsafe { LoadLibraryExW(wide(LIBRARY).as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
        if library.is_null() {
            return Err(io::Error::last_os_error());
        }
        let create = function(LIBRARY, c"CreateAppContainerProfile").ok_or_else(lacks)?;
        let derive = function(LIBRARY, c"DeriveAppContainerSidFromAppContainerName").ok_or_else(lacks)?;
        // SAFETY: the functions of these names have these types.
        let (create, derive) = unsafe {
            (
                std::mem::transmute::<unsafe extern "system" fn() -> isize, CreateProfile>(create),
                std::mem::transmute::<unsafe extern "system" fn() -> isize, DeriveSid>(derive),
            )
        };
        let (name, about) = (wide(CONTAINER), wide("Where Lull runs functions"));
        let mut sid = ptr::null_mut();
        // SAFETY: every text ends in a zero, no capabilities are given, and the last is a place for the number.
        let made = unsafe { create(name.as_ptr(), name.as_ptr(), about.as_ptr(), ptr::null(), 0, &mut sid) };
        // It is usually there already.
        if made < 0 {
            // SAFETY: as above.
            let found = unsafe { derive(name.as_ptr(), &mut sid) };
            if found < 0 {
                return Err(io::Error::from_raw_os_error(found & 0xffff));
            }
        }
        Ok(Self(sid))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // SAFETY: the system gave it for this.
        unsafe { FreeSid(self.0) };
    }
}

const LIBRARY: &str = "userenv.dll";

/// Opens a file and gives the process a handle of its own; the name by which [`open_lent`] finds it there. What is
/// lent may be mapped to be run.
pub(in crate::executor) fn lend(child: &Child, path: &OsStr) -> io::Result<OsString> {
    let mut options = File::options();
    options.access_mode(FILE_GENERIC_READ | FILE_GENERIC_EXECUTE).share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
    give(child, &options.open(path)?)
}

/// Makes the file for scratch folders, which goes with its last handle, and gives the process the only one that stays.
pub(in crate::executor) fn lend_scratch(child: &Child, folder: &OsStr) -> io::Result<OsString> {
    give(child, &tempfile::tempfile_in(folder)?)
}

fn give(child: &Child, file: &File) -> io::Result<OsString> {
    let mut given = ptr::null_mut();
    // SAFETY: all three handles are open, and that of the process has every right on it.
    done(unsafe {
        let (own, process) = (GetCurrentProcess(), child.process.as_raw_handle());
        DuplicateHandle(own, file.as_raw_handle(), process, &mut given, 0, 0, DUPLICATE_SAME_ACCESS)
    })?;
    Ok(format!("{LENT}{}", given as usize).into())
}

/// Opens what was lent, once; or a file by its path, for whoever is in no cage.
pub(in crate::executor) fn open_lent(name: &OsStr) -> io::Result<File> {
    match name.to_str().and_then(|name| name.strip_prefix(LENT)?.parse::<usize>().ok()) {
        // SAFETY: the agent gave this process the handle, named it once, and nothing else uses it.
        Some(handle) => Ok(unsafe { File::from_raw_handle(handle as RawHandle) }),
        None => {
            let mut options = File::options();
            options.access_mode(FILE_GENERIC_READ | FILE_GENERIC_EXECUTE);
            options.share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE).open(name)
        }
    }
}

/// The file for scratch folders that was lent.
pub(in crate::executor) fn scratch_file(name: &OsStr) -> io::Result<File> {
    match name.to_str().is_some_and(|name| name.starts_with(LENT)) {
        true => open_lent(name),
        false => tempfile::tempfile_in(name),
    }
}
