//! Named pipes: one of the data folder, and one of the service. Whoever opens one looks whose it is: a name can be taken by
//! anybody who is faster.

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

use lull_shared::digest::Digest;
use lull_windows::{Account, Standing, done, owned, wide};
use tokio::{
    net::windows::named_pipe::NamedPipeClient,
    time::{Instant, sleep},
};
use windows_sys::Win32::{
    Foundation::{ERROR_FILE_NOT_FOUND, ERROR_PIPE_BUSY},
    Security::Authorization::SE_KERNEL_OBJECT,
    Storage::FileSystem::{
        CreateFileW, FILE_APPEND_DATA, FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_GENERIC_WRITE, OPEN_EXISTING,
        SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
    },
    System::Pipes::WaitNamedPipeW,
};

use crate::SERVICE;

/// How a service is called that is not there.
pub const HERE: &str = SERVICE;
/// How long a pipe may be busy: its next instance comes at once.
const BUSY_MAX: Duration = Duration::from_secs(2);
const BUSY_LOOK: Duration = Duration::from_millis(10);
/// Where pipes are.
const PIPES: &str = r"\\.\pipe\";

pub type Stream = NamedPipeClient;

/// The data folder's pipe; the same however its path is written.
pub fn pipe_of(data: &Path) -> io::Result<Vec<u16>> {
    let path = std::fs::canonicalize(data)?;
    let bytes: Vec<u8> = path.as_os_str().encode_wide().flat_map(u16::to_le_bytes).collect();
    Ok(wide(format!("{PIPES}lull-agent-{}", Digest::of(&bytes).to_hex())))
}

/// The service's pipe, which is found without a data folder.
pub fn pipe_of_service() -> Vec<u16> {
    wide(format!("{PIPES}{SERVICE}"))
}

/// Speaks with the agent of a data folder.
pub async fn connect(data: &Path) -> io::Result<Stream> {
    connect_to(&pipe_of(data)?).await
}

/// Whether a service of this machine can be asked.
pub fn is_there() -> bool {
    // A pipe that is busy is there as well.
    const NOT_THERE: i32 = ERROR_FILE_NOT_FOUND.cast_signed();
    // SAFETY: the name ends in a zero, and nothing is waited for.
    let asked = done(unsafe { WaitNamedPipeW(pipe_of_service().as_ptr(), 1) });
    asked.map_or_else(|error| error.raw_os_error() != Some(NOT_THERE), |()| true)
}

/// Speaks with the service of this machine.
pub async fn connect_here() -> io::Result<Stream> {
    connect_to(&pipe_of_service()).await
}

/// Opens a pipe as somebody who may be asked for and not acted for, and looks whose it is.
async fn connect_to(name: &[u16]) -> io::Result<Stream> {
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
    let service = Account::of_service(SERVICE).ok();
    if owner.rules() || *owner == Account::own()? || service.as_ref() == Some(owner) {
        return Ok(());
    }
    let words = format!("the pipe belongs to {owner}, who is not this machine's agent");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_of_somebody_else_is_not_spoken_to() {
        check_owner(&Account::own().expect("ours")).expect("it is this user's");
        check_owner(&Account::of_service(SERVICE).expect("a number")).expect("it is the service's");
        check_owner(&Account::of_service("Spooler").expect("a number")).expect_err("it is another service's");
    }
}
