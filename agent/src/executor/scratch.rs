//! The scratch folder: emptied before and after each attempt, and measured.
//!
//! The kernel bounds each file at the limit; the agent measures the whole folder while an attempt runs (see
//! [`super::process`]) and ends it when the sum is above. In between a guest may write as much as the disk takes in
//! the time between two measurements.

use std::{ffi::OsStr, fs, io, path::Path};

use super::protocol::Load;

/// Space taken by an entry that holds nothing, so that a million empty files are not free.
const ENTRY_BYTES: u64 = 4096;

/// Removes everything in the folder of this job, if it has one.
pub(super) fn empty(load: &Load) -> io::Result<()> {
    granted(load).map_or(Ok(()), |scratch| clear(Path::new(scratch)))
}

/// Whether the folder of this job holds as much as it may.
pub(super) fn is_full(load: &Load) -> bool {
    granted(load).is_some_and(|scratch| used_bytes(Path::new(scratch)) >= load.limits.scratch_bytes)
}

/// Too little to tell a full disk from a function that fills its folder.
const DISK_BYTES_MIN: u64 = 16 << 20;

/// What the function is not to blame for, if its folder cannot be used: it is gone, or the disk is full though the
/// folder is not.
pub(super) fn trouble(load: &Load) -> Option<String> {
    let scratch = Path::new(granted(load)?);
    match fs::metadata(scratch) {
        Err(error) => Some(format!("{error}: {}", scratch.display())),
        Ok(_) => {
            let free = rustix::fs::statvfs(scratch).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))?;
            let left = load.limits.scratch_bytes.saturating_sub(used_bytes(scratch));
            (free < DISK_BYTES_MIN.min(left)).then(|| format!("its disk is full: {}", scratch.display()))
        }
    }
}

/// Removes everything in a folder and leaves the folder.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// The space that a folder's entries take; links are not followed.
pub(super) fn used_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => ENTRY_BYTES + used_bytes(&entry.path()),
        Ok(metadata) => metadata.len().max(ENTRY_BYTES),
        Err(_) => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

fn granted(load: &Load) -> Option<&OsStr> {
    load.scratch.as_deref().filter(|_| load.grants.scratch)
}
