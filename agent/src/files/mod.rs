//! Files that nobody but the agent's user may read, and that are whole or not there.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;

/// Makes a folder, and those above it, for this user only.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        sys::make_private_folder(path)?;
    }
    Ok(())
}

/// What is written to try a folder: a disk that takes no more than this takes no result either.
const TRIAL_BYTES: usize = 256 << 10;

/// Makes a folder that may have been removed, and tries whether it can be written to.
pub fn try_folder(folder: &Path) -> io::Result<()> {
    make_private_folder(folder)?;
    let trial = folder.join("trial.tmp");
    let written = sys::create_private(&trial).and_then(|mut file| {
        file.write_all(&vec![0; TRIAL_BYTES])?;
        file.sync_all()
    });
    remove_if_there(&trial)?;
    written
}

/// Replaces a file by these bytes, durably; whoever looks sees the old ones or the new ones.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = sys::create_private(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&fresh, path)?;
    sync_folder_of(path)
}

/// Makes a file's name durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sys::sync_folder)
}

/// Makes the bytes of a file that somebody else wrote durable.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::options().read(true).write(true).open(path)?.sync_data()
}

/// Whether an open file is still the one with this name.
pub fn is_same(file: &File, path: &Path) -> bool {
    sys::is_same(file, path)
}

/// Removes a file that may not be there.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
