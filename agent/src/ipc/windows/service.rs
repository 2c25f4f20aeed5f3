//! The second pipe of an agent that is the system's service: for whoever sits at this machine, and for administrators.
//!
//! | who | by the system's word on the caller | may |
//! |---|---|---|
//! | administrator | the system, an elevated administrator, or the agent's own account | everything |
//! | at the desk | has a session that is in use, at the screen or from afar | look, pause, resume |
//! | anybody else | | nothing |
//!
//! Its name needs no data folder. Interactive users may open it; who is answered is decided with each request, by the token
//! that the caller's end of the pipe stands for.

use std::{
    io,
    os::windows::io::{AsHandle as _, AsRawHandle as _, BorrowedHandle, OwnedHandle},
    path::PathBuf,
    ptr,
    sync::Arc,
};

use lull_desk::{Right, sys::pipe_of_service};
use lull_windows::{Access, Account, done, owned};
use tokio::{
    net::windows::named_pipe::NamedPipeServer,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};
use windows_sys::Win32::{
    Security::{
        CheckTokenMembership, CreateWellKnownSid, GetTokenInformation, RevertToSelf, SECURITY_MAX_SID_SIZE, TOKEN_QUERY,
        TokenSessionId, WinBuiltinAdministratorsSid,
    },
    System::{
        Pipes::ImpersonateNamedPipeClient,
        Threading::{GetCurrentThread, OpenThreadToken},
    },
};

use super::{CONVERSATIONS_MAX, Call, Company, Guest, Hear, May, converse, peer, sys::Listener};
use crate::{sensor, service};

/// Interactive users may read and write, and not listen beside the service.
const INTERACTIVE: &str = "(A;;0x12019b;;;IU)";

/// Listens for whoever is at the desk, if this is the service. Without it the agent works all the same.
pub fn start(calls: mpsc::Sender<Call>, company: Company) -> Option<AbortHandle> {
    if !service::is_this_process() {
        return None;
    }
    let listening = access().and_then(|access| Listener::open(pipe_of_service(), access));
    let failed = |error: &io::Error| tracing::warn!(%error, "whoever is at the desk cannot reach this service");
    let listener = listening.inspect_err(failed).ok()?;
    Some(tokio::spawn(accept(listener, calls, company)).abort_handle())
}

fn access() -> io::Result<Access> {
    let own = Account::own()?;
    Access::parse(&format!("O:{own}D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{own}){INTERACTIVE}"))
}

async fn accept(mut listener: Listener, calls: mpsc::Sender<Call>, company: Company) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a local connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                continue;
            }
        };
        let (calls, company) = (calls.clone(), company.clone());
        tokio::spawn(async move {
            let Ok(end) = duplicate(&stream).map(Arc::new) else { return };
            let (reader, writer) = tokio::io::split(stream);
            let guest = guest(end);
            if let Err(error) = converse(reader, writer, place, calls, &company, &guest).await {
                tracing::debug!(%error, "a local conversation ended");
            }
        });
    }
}

/// Whoever is at the other end of a pipe.
fn guest(end: Arc<OwnedHandle>) -> Guest {
    let of = peer::session_of_pipe(&end).unwrap_or(u32::MAX);
    let asked = Arc::clone(&end);
    let may: May = Arc::new(move |request| Box::pin(std::future::ready(allowed(Caller::of(&asked), request.right()))));
    let hear = move || -> Result<Hear, String> {
        let session = peer::facts(&end, Caller::of(&end).map(|caller| caller.session)).session_of_tray(&own_tray()?)?;
        // What it says first is said once: there must be somebody to hear it.
        let tray = sensor::tray_of(session);
        let mut tray = tray.ok_or("the agent has only just started\nhint: ask again in a moment")?;
        Ok(Box::new(move |word| tray.tell(word)))
    };
    Guest { may, of, hear: Box::new(hear) }
}

/// The tray that was installed with this agent.
fn own_tray() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("it cannot be told where this agent is: {error}"))?;
    Ok(program.with_file_name(peer::TRAY))
}

fn duplicate(stream: &NamedPipeServer) -> io::Result<OwnedHandle> {
    // SAFETY: the pipe is open for as long as it is borrowed here.
    unsafe { BorrowedHandle::borrow_raw(stream.as_raw_handle()) }.as_handle().try_clone_to_owned()
}

/// Who is at the other end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Caller {
    rules: bool,
    session: u32,
}

impl Caller {
    /// Whoever wrote the last request.
    fn of(end: &OwnedHandle) -> io::Result<Self> {
        let token = token(end)?;
        let account = Account::of_token(&token)?;
        let rules = account.rules() || account == Account::own()? || is_administrator(&token)?;
        let (mut session, mut filled) = (0_u32, 0);
        // SAFETY: the handle is open, and the place is one word.
        done(unsafe {
            let place = (&raw mut session).cast();
            GetTokenInformation(token.as_raw_handle(), TokenSessionId, place, size_of::<u32>() as u32, &mut filled)
        })?;
        Ok(Self { rules, session })
    }
}

/// The caller's token, taken while this thread stands for the caller, and for nothing else.
fn token(end: &OwnedHandle) -> io::Result<OwnedHandle> {
    let mut token = ptr::null_mut();
    // SAFETY: the handle is that of a pipe's listening end.
    done(unsafe { ImpersonateNamedPipeClient(end.as_raw_handle()) })?;
    // SAFETY: it concerns this thread; the last is a place for a handle.
    let opened = done(unsafe { OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &mut token) });
    // SAFETY: as above.
    if unsafe { RevertToSelf() } == 0 {
        // A thread that goes on as somebody else does what is not meant.
        std::process::abort();
    }
    opened?;
    owned(token)
}

/// Whether a token is one of an administrator, and elevated: a token that is not has the group for refusals only.
fn is_administrator(token: &OwnedHandle) -> io::Result<bool> {
    let mut group = [0_u32; SECURITY_MAX_SID_SIZE as usize / 4];
    let (mut size, mut member) = (SECURITY_MAX_SID_SIZE, 0);
    // SAFETY: the place is as large as is said.
    done(unsafe { CreateWellKnownSid(WinBuiltinAdministratorsSid, ptr::null_mut(), group.as_mut_ptr().cast(), &mut size) })?;
    // SAFETY: the handle is open, the group was just made, and the last is a place for the answer.
    done(unsafe { CheckTokenMembership(token.as_raw_handle(), group.as_mut_ptr().cast(), &mut member) })?;
    Ok(member != 0)
}

/// Whether this caller has a right, and if not, why.
fn allowed(caller: io::Result<Caller>, needed: Right) -> Result<(), String> {
    const HINT: &str = "hint: run it in a terminal that was opened with \"Run as administrator\"";
    let Caller { rules, session } = caller.map_err(|error| format!("it cannot be told who asks: {error}\n{HINT}"))?;
    match needed {
        _ if rules => Ok(()),
        Right::Administrator => Err(format!("only administrators may do this\n{HINT}")),
        Right::Desk => match sensor::is_in_use(session) {
            Ok(true) => Ok(()),
            Ok(false) => Err("only whoever is logged in at this machine's desk may do this\nhint: run it there".into()),
            Err(why) => Err(format!("it cannot be told who is at this machine's desk: {why}\n{HINT}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_administrators_rule_and_who_asks_from_nowhere_gets_nothing() {
        let caller = |rules| Ok(Caller { rules, session: u32::MAX });
        assert_eq!(allowed(caller(true), Right::Administrator), Ok(()));
        assert!(allowed(caller(false), Right::Administrator).is_err_and(|why| why.contains("administrators")));
        assert!(allowed(caller(false), Right::Desk).is_err(), "that session is nobody's");
        assert!(allowed(Err(io::ErrorKind::PermissionDenied.into()), Right::Desk).is_err());
    }

    #[test]
    fn the_list_of_who_may_open_the_pipe_can_be_made() {
        access().expect("a list");
    }
}
