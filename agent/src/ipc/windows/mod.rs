//! A named pipe of the data folder. Whoever listens says who may open it; whoever opens it looks whose it is.

use std::{io, path::Path};

use lull_desk::sys::pipe_of;
use lull_windows::Access;
use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

/// A pipe for one conversation after the other.
pub(super) struct Listener {
    name: Vec<u16>,
    access: Access,
    next: NamedPipeServer,
}

/// Listens for the data folder's user. A name that somebody has taken already is an error.
pub(super) fn listen(data: &Path) -> io::Result<Listener> {
    Listener::open(pipe_of(data)?, Access::private()?)
}

/// The next one who speaks.
pub(super) async fn accept(listener: &mut Listener) -> io::Result<NamedPipeServer> {
    listener.accept().await
}

impl Listener {
    /// Listens under this name for whom the access lets in.
    pub(super) fn open(name: Vec<u16>, access: Access) -> io::Result<Self> {
        let next = instance(&name, &access, true)?;
        Ok(Self { name, access, next })
    }

    pub(super) async fn accept(&mut self) -> io::Result<NamedPipeServer> {
        self.next.connect().await?;
        let fresh = instance(&self.name, &self.access, false)?;
        Ok(std::mem::replace(&mut self.next, fresh))
    }
}

fn instance(name: &[u16], access: &Access, first: bool) -> io::Result<NamedPipeServer> {
    let name: std::ffi::OsString = std::os::windows::ffi::OsStringExt::from_wide(name.strip_suffix(&[0]).unwrap_or(name));
    let mut attributes = access.attributes();
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    // SAFETY: the attributes are whole, and outlive the call.
    unsafe { options.create_with_security_attributes_raw(name, (&raw mut attributes).cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_taken_is_not_listened_on() {
        let data = tempfile::tempdir().expect("a folder");
        let _first = listen(data.path()).expect("a pipe");
        listen(data.path()).map(drop).expect_err("somebody else listens");
    }
}
