//! Owner-only permissions by mode.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, openat, renameat, unlinkat},
    io::Errno,
};

pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// A new file that this user alone may read.
pub(super) fn fresh(named: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    named.tempfile_in(folder)
}

pub(super) fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(NOFOLLOW).open(path)
}

/// Whether others might read it, and may not any more.
pub(super) fn close_to_others(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o700))?;
        return Ok(true);
    }
    if mode & 0o007 == 0 {
        return Ok(false);
    }
    let words = "it is another user's and everybody may read it\nhint: `chmod o= FILE`, and replace the secret if it may have been copied";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
}

pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).custom_flags(NOFOLLOW).open(path)
}

const NOFOLLOW: i32 = libc::O_NOFOLLOW;

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn is_same(file: &File, path: &Path) -> bool {
    let name = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(open, named)| name(open) == name(named))
}

/// What lies deeper than one level is first moved up to the top, so that neither paths grow nor descriptors.
pub(super) fn empty_folder(folder: &Path) -> io::Result<()> {
    let top = openat(CWD, folder, FOLDER, Mode::empty())?;
    let mut moved = 0_u64;
    loop {
        let names = names(top.as_fd())?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if is_removed(top.as_fd(), &name)? {
                continue;
            }
            let inner = openat(&top, &name, FOLDER, Mode::empty())?;
            for below in self::names(inner.as_fd())? {
                while !is_removed(inner.as_fd(), &below)? {
                    moved += 1;
                    match renameat(&inner, &below, &top, format!(".moved-{moved}").as_str()) {
                        Ok(()) => break,
                        // Something else has that name.
                        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what is no folder; a folder is opened to its owner instead.
fn is_removed(folder: BorrowedFd<'_>, name: &CString) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {
            chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let entries = Dir::read_from(folder)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let names = entries.filter(|name| name.as_ref().map_or(true, |name| !matches!(name.to_bytes(), b"." | b"..")));
    Ok(names.collect::<Result<_, _>>()?)
}
