//! The second socket of an agent that is the system's service: for whoever sits at this machine, and for administrators.
//!
//! | who | by the kernel's word on the caller | may |
//! |---|---|---|
//! | administrator | root, or the agent's own user | everything |
//! | at the desk | has a session in front of a seat of this machine, as logind says | look, pause, resume |
//! | anybody else | | nothing |
//!
//! It is where the unit's `RuntimeDirectory` puts it, so that nobody needs to know a data folder. Where no logind answers
//! nobody is known to be at the desk.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use lull_desk::Right;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};

use super::{CONVERSATIONS_MAX, Call, Company, Guest, May, converse, sees_itself};

const FILE: &str = "control.sock";

/// Whether a user sits at this machine, or why that is not known.
pub type AtDesk = Arc<dyn Fn(u32) -> Result<bool, String> + Send + Sync>;

/// The folder that the service's manager made for sockets, if this is a service.
pub fn folder() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    std::env::split_paths(&folders).next()
}

/// Listens for whoever is at the desk, if this is a service. Without it the agent works all the same.
pub fn start(calls: mpsc::Sender<Call>, company: Company) -> Option<AbortHandle> {
    let folder = folder()?;
    let listening = listen(&folder, calls, company, Arc::new(crate::sensor::at_desk));
    let failed = |error: &io::Error| {
        tracing::warn!(folder = %folder.display(), %error, "whoever is at the desk cannot reach this service");
    };
    listening.inspect_err(failed).ok()
}

/// Listens in a folder for whoever may.
pub fn listen(folder: &Path, calls: mpsc::Sender<Call>, company: Company, at_desk: AtDesk) -> io::Result<AbortHandle> {
    let path = folder.join(FILE);
    lull_engine::files::remove_if_there(&path)?;
    let listener = UnixListener::bind(&path)?;
    // Everybody may speak; who is answered is decided with each request.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(tokio::spawn(accept(listener, calls, company, at_desk)).abort_handle())
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>, company: Company, at_desk: AtDesk) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a local connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                continue;
            }
        };
        let (calls, company, at_desk) = (calls.clone(), company.clone(), Arc::clone(&at_desk));
        tokio::spawn(async move {
            let Ok(caller) = stream.peer_cred().map(|caller| caller.uid()) else { return };
            let (reader, writer) = stream.into_split();
            let may: May = Arc::new(move |request| Box::pin(allowed(caller, request.right(), Arc::clone(&at_desk))));
            // The sensor of a Linux machine sees every seat itself.
            let guest = Guest { may, of: caller, hear: Box::new(sees_itself) };
            if let Err(error) = converse(reader, writer, place, calls, &company, &guest).await {
                tracing::debug!(%error, "a local conversation ended");
            }
        });
    }
}

/// Whether this user has a right, and if not, why.
async fn allowed(user: u32, needed: Right, at_desk: AtDesk) -> Result<(), String> {
    let own = rustix::process::getuid().as_raw();
    if user == 0 || user == own {
        return Ok(());
    }
    if needed == Right::Administrator {
        return Err("only administrators may do this\nhint: run it with sudo".into());
    }
    match tokio::task::spawn_blocking(move || at_desk(user)).await.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(true) => Ok(()),
        Ok(false) => Err("only whoever is logged in at this machine's desk may do this\nhint: run it there, or with sudo".into()),
        Err(why) => Err(format!("it cannot be told who is at this machine's desk: {why}\nhint: run it with sudo")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::{Request, Response, tests::answering};

    fn desk(answer: Result<bool, &'static str>) -> AtDesk {
        Arc::new(move |_| answer.map_err(Into::into))
    }

    #[tokio::test]
    async fn whoever_is_at_the_desk_may_look_and_pause_and_only_administrators_rule() {
        let stranger = rustix::process::getuid().as_raw() + 1;
        let may = async |needed, at_desk| allowed(stranger, needed, desk(at_desk)).await;
        assert_eq!(may(Right::Desk, Ok(true)).await, Ok(()));
        assert!(may(Right::Administrator, Ok(true)).await.is_err_and(|why| why.contains("sudo")));
        assert!(may(Right::Desk, Ok(false)).await.is_err_and(|why| why.contains("logged in")));
        assert!(may(Right::Desk, Err("no logind")).await.is_err_and(|why| why.contains("no logind")));
        for administrator in [0, rustix::process::getuid().as_raw()] {
            assert_eq!(allowed(administrator, Right::Administrator, desk(Err("no logind"))).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_service_is_found_by_its_socket_which_everybody_may_speak_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        drop(UnixListener::bind(&path).expect("a socket that an earlier life left"));
        let listener = listen(folder.path(), answering(Response::Done), Company::default(), desk(Ok(false))).expect("a socket");
        assert_eq!(std::fs::metadata(&path).expect("the socket").permissions().mode() & 0o777, 0o666);
        let (reader, writer) = tokio::net::UnixStream::connect(&path).await.expect("a connection").into_split();
        let answer = lull_desk::client::speak(reader, writer, &Request::Resume).await.expect("its own user may");
        assert_eq!(answer, Response::Done);
        listener.abort();
    }
}
