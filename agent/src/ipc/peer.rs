//! Who may be the companion of a service, and see a session for it: the tray that was installed with it, in the session that
//! it speaks for.
//!
//! Whoever may pretend there is input may keep this machine from working, and whoever may pretend there is none may have it
//! work beside its owner. So each fact is asked of the system, and all of them must agree.

use std::path::{Path, PathBuf};

/// The tray's program.
#[cfg(windows)]
pub(super) const TRAY: &str = "lull-tray.exe";

/// What the system says of whoever is at the other end of a pipe; or why it does not.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The session that opened the pipe.
    pub pipe_session: Result<u32, String>,
    /// That of the user who speaks.
    pub user_session: Result<u32, String>,
    /// That of the process.
    pub process_session: Result<u32, String>,
    /// The process's program.
    pub program: Result<PathBuf, String>,
}

impl Facts {
    /// The session that this is the tray of, or why it is none.
    pub(super) fn session_of_tray(self, tray: &Path) -> Result<u32, String> {
        let unknown = |what: &str, why: String| format!("it cannot be told {what}: {why}");
        let session = self.pipe_session.map_err(|why| unknown("which session asks", why))?;
        let user = self.user_session.map_err(|why| unknown("who asks", why))?;
        let process = self.process_session.map_err(|why| unknown("which program asks", why))?;
        if user != session || process != session {
            return Err(format!("who asks is of the sessions {session}, {user} and {process}, and a tray is of one"));
        }
        if session == 0 {
            return Err("session 0 is that of services, and has no desk".into());
        }
        let program = self.program.map_err(|why| unknown("which program asks", why))?;
        if !is_same_file(&program, tray) {
            return Err(format!("{} is not {}, which was installed with this agent", program.display(), tray.display()));
        }
        Ok(session)
    }
}

/// Whether two paths of Windows name one file: whatever the case of their letters, and in either form of long paths.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| {
        let text = path.to_string_lossy().to_lowercase().replace('/', "\\");
        text.strip_prefix(r"\\?\").map_or(text.clone(), str::to_owned)
    };
    // What is no text could be taken for another.
    one.to_str().is_some() && other.to_str().is_some() && plain(one) == plain(other)
}

#[cfg(windows)]
pub(super) use self::asked::{facts, session_of_pipe};

#[cfg(windows)]
mod asked {
    use std::{
        ffi::OsString,
        io,
        os::windows::{
            ffi::OsStringExt as _,
            io::{AsRawHandle as _, OwnedHandle},
        },
    };

    use lull_windows::{done, owned};
    use windows_sys::Win32::System::{
        Pipes::{GetNamedPipeClientProcessId, GetNamedPipeClientSessionId},
        RemoteDesktop::ProcessIdToSessionId,
        Threading::{OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW},
    };

    use super::Facts;

    /// Longer than any path that the system takes.
    const PATH_UNITS_MAX: usize = 32_768;

    /// Asks the system about whoever is at the other end. The process is looked up by its number while its end of the pipe is
    /// open: so long the number is nobody else's.
    pub(in super::super) fn facts(end: &OwnedHandle, user_session: io::Result<u32>) -> Facts {
        let process = process_of_pipe(end);
        let words = |error: io::Error| error.to_string();
        let number = process.as_ref().map_err(ToString::to_string).copied();
        Facts {
            pipe_session: session_of_pipe(end).map_err(words),
            user_session: user_session.map_err(words),
            process_session: number.clone().and_then(|process| session_of_process(process).map_err(words)),
            program: number.and_then(|process| program_of(process).map_err(words)),
        }
    }

    pub(in super::super) fn session_of_pipe(end: &OwnedHandle) -> io::Result<u32> {
        let mut session = 0;
        // SAFETY: the handle is that of a pipe's listening end, and the place is one for the answer.
        done(unsafe { GetNamedPipeClientSessionId(end.as_raw_handle(), &mut session) })?;
        Ok(session)
    }

    fn process_of_pipe(end: &OwnedHandle) -> io::Result<u32> {
        let mut process = 0;
        // SAFETY: as above.
        done(unsafe { GetNamedPipeClientProcessId(end.as_raw_handle(), &mut process) })?;
        Ok(process)
    }

    fn session_of_process(process: u32) -> io::Result<u32> {
        let mut session = 0;
        // SAFETY: the place is one for the answer.
        done(unsafe { ProcessIdToSessionId(process, &mut session) })?;
        Ok(session)
    }

    /// A tray lets its service ask this; other users' programs do not.
    fn program_of(process: u32) -> io::Result<std::path::PathBuf> {
        // SAFETY: the call only asks.
        let process = owned(unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) })?;
        let mut path = vec![0_u16; PATH_UNITS_MAX];
        let mut length = PATH_UNITS_MAX as u32;
        // SAFETY: the handle is open, and the place as large as is said.
        done(unsafe { QueryFullProcessImageNameW(process.as_raw_handle(), PROCESS_NAME_WIN32, path.as_mut_ptr(), &mut length) })?;
        path.truncate(length as usize);
        Ok(OsString::from_wide(&path).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAY: &str = r"C:\Program Files\Lull\lull-tray.exe";

    fn tray(program: &str) -> Facts {
        Facts { pipe_session: Ok(2), user_session: Ok(2), process_session: Ok(2), program: Ok(program.into()) }
    }

    #[test]
    fn the_installed_tray_speaks_for_its_own_session() {
        for program in [TRAY, r"c:\program files\LULL\Lull-Tray.EXE", r"\\?\C:\Program Files\Lull\lull-tray.exe"] {
            assert_eq!(tray(program).session_of_tray(Path::new(TRAY)), Ok(2), "{program}");
        }
    }

    #[test]
    fn nobody_else_does() {
        let refused = |facts: Facts| facts.session_of_tray(Path::new(TRAY)).expect_err("it is not the tray");
        for program in [r"C:\Users\eve\lull-tray.exe", r"C:\Program Files\Lull\lull.exe", "lull-tray.exe", ""] {
            assert!(refused(tray(program)).contains("was installed with this agent"), "{program}");
        }
        assert!(refused(Facts { user_session: Ok(3), ..tray(TRAY) }).contains("2, 3 and 2"));
        assert!(refused(Facts { process_session: Ok(1), ..tray(TRAY) }).contains("2, 2 and 1"));
        let services = Facts { pipe_session: Ok(0), user_session: Ok(0), process_session: Ok(0), ..tray(TRAY) };
        assert!(refused(services).contains("session 0"));
        let why = || Err("access denied".to_owned());
        for facts in [
            Facts { pipe_session: Err("access denied".into()), ..tray(TRAY) },
            Facts { user_session: Err("access denied".into()), ..tray(TRAY) },
            Facts { process_session: Err("access denied".into()), ..tray(TRAY) },
            Facts { program: why(), ..tray(TRAY) },
        ] {
            assert!(refused(facts).contains("access denied"));
        }
    }
}
