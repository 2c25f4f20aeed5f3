//! A socket file with mode 0600.

use std::{io, path::Path};

use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, ToFsName as _,
        tokio::prelude::{LocalSocketListener, LocalSocketStream},
        traits::tokio::Listener as _,
    },
    os::unix::local_socket::ListenerOptionsExt as _,
};

pub(super) type Listener = LocalSocketListener;

/// Listens for the data folder's user. What an agent that was killed left there gives way.
pub(super) fn listen(data: &Path) -> io::Result<Listener> {
    let name = lull_desk::sys::socket(data)?.to_fs_name::<GenericFilePath>()?;
    ListenerOptions::new().name(name).try_overwrite(true).mode(0o600).create_tokio()
}

/// The next one who speaks.
pub(super) async fn accept(listener: &mut Listener) -> io::Result<LocalSocketStream> {
    listener.accept().await
}
