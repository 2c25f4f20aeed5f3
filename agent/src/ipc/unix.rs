//! A socket file with mode 0600.

use std::{io, path::Path};

use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, Name, ToFsName as _,
        tokio::prelude::{LocalSocketListener, LocalSocketStream},
        traits::tokio::{Listener as _, Stream as _},
    },
    os::unix::local_socket::ListenerOptionsExt as _,
};

/// The longest path that the kernel takes for a socket, with its end mark.
const PATH_BYTES_MAX: usize = 107;

fn name(data: &Path) -> io::Result<Name<'static>> {
    let path = data.join("agent.sock");
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let words = format!("`{}` is too long for a socket's name; choose a data folder with a shorter one", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    }
    path.to_fs_name::<GenericFilePath>()
}

pub(super) type Listener = LocalSocketListener;
pub(super) type Stream = LocalSocketStream;

/// Listens for the data folder's user. What an agent that was killed left there gives way.
pub(super) fn listen(data: &Path) -> io::Result<Listener> {
    ListenerOptions::new().name(name(data)?).try_overwrite(true).mode(0o600).create_tokio()
}

/// The next one who speaks.
pub(super) async fn accept(listener: &mut Listener) -> io::Result<Stream> {
    listener.accept().await
}

/// Speaks with the agent of a data folder.
pub(super) async fn connect(data: &Path) -> io::Result<Stream> {
    Stream::connect(name(data)?).await
}
