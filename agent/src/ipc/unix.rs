//! A socket file with mode 0600.

use std::{io, path::Path};

use interprocess::{
    local_socket::{GenericFilePath, ListenerOptions, Name, ToFsName as _},
    os::unix::local_socket::ListenerOptionsExt as _,
};

/// The longest path that the kernel takes for a socket, with its end mark.
const PATH_BYTES_MAX: usize = 107;

pub(super) fn name(data: &Path) -> io::Result<Name<'static>> {
    let path = data.join("agent.sock");
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let words = format!("`{}` is too long for a socket's name; choose a data folder with a shorter one", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    }
    path.to_fs_name::<GenericFilePath>()
}

pub(super) fn owner_only(options: ListenerOptions<'_>) -> ListenerOptions<'_> {
    options.mode(0o600)
}
