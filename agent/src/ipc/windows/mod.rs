//! A named pipe of the data folder. Whoever listens says who may open it, and whoever opens it looks whose it is: a name can be
//! taken by anybody who is faster.

use std::{
    io,
    os::windows::{
        ffi::OsStrExt as _,
        io::{AsRawHandle as _, IntoRawHandle as _, OwnedHandle},
    },
    path::Path,
    ptr,
    time::Duration,
};

use lull_engine::windows::{Access, Account, Standing, owned, wide};
use lull_shared::digest::Digest;
use tokio::{
    net::windows::named_pipe::{NamedPipeClient, NamedPipeServer, ServerOptions},
    time::{Instant, sleep},
};
use windows_sys::Win32::{
    Foundation::ERROR_PIPE_BUSY,
    Security::Authorization::SE_KERNEL_OBJECT,
    Storage::FileSystem::{
        CreateFileW, FILE_APPEND_DATA, FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_GENERIC_WRITE, OPEN_EXISTING,
        SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
    },
};

use crate::service;

/// How long a pipe may be busy: its next instance comes at once.
const BUSY_MAX: Duration = Duration::from_secs(2);
const BUSY_LOOK: Duration = Duration::from_millis(10);

/// Where pipes are.
pub(super) const PIPES: &str = r"\\.\pipe\";

/// A pipe for one conversation after the other.
pub(super) struct Listener {
    name: Vec<u16>,
    access: Access,
    next: NamedPipeServer,
}

pub(super) type Stream = NamedPipeClient;

/// The data folder's pipe; the same however its path is written.
fn name(data: &Path) -> io::Result<Vec<u16>> {
    let path = std::fs::canonicalize(data)?;
    let bytes: Vec<u8> = path.as_os_str().encode_wide().flat_map(u16::to_le_bytes).collect();
    Ok(wide(format!("{PIPES}lull-agent-{}", Digest::of(&bytes).to_hex())))
}

/// Listens for the data folder's user. A name that somebody has taken already is an error.
pub(super) fn listen(data: &Path) -> io::Result<Listener> {
    Listener::open(name(data)?, Access::private()?)
}

/// The next one who speaks.
pub(super) async fn accept(listener: &mut Listener) -> io::Result<NamedPipeServer> {
    listener.accept().await
}

/// Speaks with the agent of a data folder.
pub(super) async fn connect(data: &Path) -> io::Result<Stream> {
    connect_to(&name(data)?).await
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

/// Opens a pipe as somebody who may be asked for and not acted for, and looks whose it is.
pub(super) async fn connect_to(name: &[u16]) -> io::Result<Stream> {
    let since = Instant::now();
    let pipe = loop {
        match open(name) {
            Err(error) if is_busy(&error) && since.elapsed() < BUSY_MAX => sleep(BUSY_LOOK).await,
            opened => break opened?,
        }
    };
    check_owner(&Standing::of(pipe.as_raw_handle(), SE_KERNEL_OBJECT)?.owner)?;
    // SAFETY: the handle is that of a pipe which was opened for overlapped use, and nobody else has it.
    unsafe { NamedPipeClient::from_raw_handle(pipe.into_raw_handle()) }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_PIPE_BUSY.cast_signed())
}

fn open(name: &[u16]) -> io::Result<OwnedHandle> {
    // Writing, without the right to listen beside the agent.
    let rights = FILE_GENERIC_READ | FILE_GENERIC_WRITE & !FILE_APPEND_DATA;
    let flags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
    // SAFETY: the name ends in a zero.
    owned(unsafe { CreateFileW(name.as_ptr(), rights, 0, ptr::null(), OPEN_EXISTING, flags, ptr::null_mut()) })
}

/// A pipe is this user's, the service's, or of somebody who rules the machine anyway.
fn check_owner(owner: &Account) -> io::Result<()> {
    let service = Account::of_service(service::NAME).ok();
    if owner.rules() || *owner == Account::own()? || service.as_ref() == Some(owner) {
        return Ok(());
    }
    let words = format!("the pipe belongs to {owner}, who is not this machine's agent");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
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

    #[test]
    fn a_pipe_of_somebody_else_is_not_spoken_to() {
        check_owner(&Account::own().expect("ours")).expect("it is this user's");
        check_owner(&Account::of_service(service::NAME).expect("a number")).expect("it is the service's");
        check_owner(&Account::of_service("Spooler").expect("a number")).expect_err("it is another service's");
    }
}
