//! A tray in each session that has somebody. The service itself cannot start programs there; an installer, which is the system,
//! can, and so a machine need not wait for the next logon.

use std::{
    ffi::c_void,
    io,
    os::windows::{
        ffi::OsStrExt as _,
        io::{AsRawHandle as _, OwnedHandle},
    },
    path::Path,
    ptr,
};

use lull_engine::windows::{done, owned, wide};
use windows_sys::Win32::System::{
    Environment::{CreateEnvironmentBlock, DestroyEnvironmentBlock},
    RemoteDesktop::{
        WTS_CURRENT_SERVER_HANDLE, WTS_SESSION_INFOW, WTSActive, WTSDisconnected, WTSEnumerateSessionsW, WTSFreeMemory,
        WTSQueryUserToken,
    },
    Threading::{CREATE_UNICODE_ENVIRONMENT, CreateProcessAsUserW, PROCESS_INFORMATION, STARTUPINFOW},
};

use crate::service::{Done, ServiceError};

/// The tray's program, beside this one.
const PROGRAM: &str = "lull-tray.exe";
/// Where programs of a session show their windows.
const DESKTOP: &str = r"winsta0\default";

/// Starts the trays of all sessions.
pub fn start_trays() -> Result<Done, ServiceError> {
    let program = std::env::current_exe().map(|program| program.with_file_name(PROGRAM));
    let program = program.map_err(|error| ServiceError(format!("this program's file is not known: {error}")))?;
    if !program.is_file() {
        return Ok(Done { words: "there is no tray on this machine".into(), refused: Vec::new() });
    }
    let sessions = sessions().map_err(|error| ServiceError(format!("the sessions of this machine are not known: {error}")))?;
    let mut refused = Vec::new();
    let mut started = 0;
    for session in sessions {
        match start_in(session, &program) {
            Ok(()) => started += 1,
            Err(error) => refused.push(format!("session {session}: {error}")),
        }
    }
    Ok(Done { words: format!("trays were started in {}", lull_shared::amount::counted(started, "session")), refused })
}

/// The sessions that somebody is logged on in.
fn sessions() -> io::Result<Vec<u32>> {
    let (mut first, mut count) = (ptr::null_mut::<WTS_SESSION_INFOW>(), 0);
    // SAFETY: it concerns this machine, and both are places for what is given.
    done(unsafe { WTSEnumerateSessionsW(WTS_CURRENT_SERVER_HANDLE, 0, 1, &mut first, &mut count) })?;
    // SAFETY: the call gave so many, and they are given back once, after the last use.
    let all = unsafe { std::slice::from_raw_parts(first, count as usize) };
    // The system's own session has no user.
    let with_somebody =
        |session: &&WTS_SESSION_INFOW| session.SessionId != 0 && (session.State == WTSActive || session.State == WTSDisconnected);
    let sessions = all.iter().filter(with_somebody).map(|session| session.SessionId).collect();
    // SAFETY: as above.
    unsafe { WTSFreeMemory(first.cast()) };
    Ok(sessions)
}

/// The variables of a user's programs.
struct Variables(*mut c_void);

impl Drop for Variables {
    fn drop(&mut self) {
        // SAFETY: it was made by the call that this gives back to.
        unsafe { DestroyEnvironmentBlock(self.0) };
    }
}

fn start_in(session: u32, program: &Path) -> io::Result<()> {
    let mut token = ptr::null_mut();
    // SAFETY: the place is one for a handle.
    done(unsafe { WTSQueryUserToken(session, &mut token) })?;
    let token = owned(token)?;
    let mut variables = Variables(ptr::null_mut());
    // SAFETY: the token is open, and the place is one for a pointer.
    done(unsafe { CreateEnvironmentBlock(&mut variables.0, token.as_raw_handle(), 0) })?;
    let (path, mut desktop) = (wide(program), wide(DESKTOP));
    let quoted = ["\"".as_ref(), program.as_os_str(), "\"".as_ref()];
    let mut line: Vec<u16> = quoted.iter().flat_map(|part| part.encode_wide()).chain([0]).collect();
    // SAFETY: both are structures that may be all zero.
    let (mut how, mut made): (STARTUPINFOW, PROCESS_INFORMATION) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    how.cb = size_of::<STARTUPINFOW>() as u32;
    how.lpDesktop = desktop.as_mut_ptr();
    // SAFETY: every text ends in a zero and outlives the call, and no handle is passed on.
    done(unsafe {
        CreateProcessAsUserW(
            token.as_raw_handle(),
            path.as_ptr(),
            line.as_mut_ptr(),
            ptr::null(),
            ptr::null(),
            0,
            CREATE_UNICODE_ENVIRONMENT,
            variables.0,
            ptr::null(),
            &how,
            &mut made,
        )
    })?;
    let _: [io::Result<OwnedHandle>; 2] = [owned(made.hProcess), owned(made.hThread)];
    Ok(())
}
