//! Sockets in files: one in the data folder, and one where a service's manager puts it.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

/// Where a service's socket is found.
pub const HERE: &str = "/run/lull-agent/control.sock";
/// The longest path that the kernel takes for a socket, with its end mark.
const PATH_BYTES_MAX: usize = 107;

pub type Stream = UnixStream;

/// The socket of a data folder.
pub fn socket(data: &Path) -> io::Result<PathBuf> {
    let path = data.join("agent.sock");
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let words = format!("`{}` is too long for a socket's name; choose a data folder with a shorter one", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    }
    Ok(path)
}

/// Speaks with the agent of a data folder.
pub async fn connect(data: &Path) -> io::Result<Stream> {
    UnixStream::connect(socket(data)?).await
}

/// Whether a service of this machine can be asked.
pub fn is_there() -> bool {
    Path::new(HERE).exists()
}

/// Speaks with the service of this machine.
pub async fn connect_here() -> io::Result<Stream> {
    UnixStream::connect(HERE).await
}
