//! Memory that an executor writes and its agent reads: a section without a name, of a size that nobody can change.

use std::{
    io,
    os::windows::io::{AsHandle as _, AsRawHandle as _, OwnedHandle},
    sync::atomic::AtomicU64,
};

use windows_sys::Win32::{
    Foundation::INVALID_HANDLE_VALUE,
    System::{
        Console::{GetStdHandle, STD_ERROR_HANDLE},
        Memory::{
            CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_BASIC_INFORMATION, MEMORY_MAPPED_VIEW_ADDRESS,
            MapViewOfFile, PAGE_READWRITE, UnmapViewOfFile, VirtualQuery,
        },
    },
};

use super::owned;

/// The agent's end.
pub(in crate::executor) struct Pad {
    section: OwnedHandle,
    view: MEMORY_MAPPED_VIEW_ADDRESS,
    length: usize,
}

/// What a process has of it as its standard error: whoever writes there as to a stream is refused it.
pub(in crate::executor) type PadEnd = OwnedHandle;

// SAFETY: the view is read through `read` alone, byte by byte, and unmapped by `drop`.
unsafe impl Send for Pad {}
// SAFETY: as above.
unsafe impl Sync for Pad {}

impl Pad {
    pub(in crate::executor) fn create(length: u64) -> io::Result<Self> {
        let bytes = usize::try_from(length).map_err(io::Error::other)?;
        let (high, low) = ((length >> 32) as u32, length as u32);
        // SAFETY: a new section of the system's own memory touches nothing else.
        let section = owned(unsafe {
            CreateFileMappingW(INVALID_HANDLE_VALUE, std::ptr::null(), PAGE_READWRITE, high, low, std::ptr::null())
        })?;
        // SAFETY: the section is that long, and a new view touches no other memory.
        let view = unsafe { MapViewOfFile(section.as_raw_handle(), FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, bytes) };
        if view.Value.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { section, view, length: bytes })
    }

    /// For a process to be started.
    pub(in crate::executor) fn end(&self) -> io::Result<PadEnd> {
        self.section.as_handle().try_clone_to_owned()
    }

    /// Fills all of this from a place on.
    pub(in crate::executor) fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let start = self.place(at, into.len())?;
        for (offset, byte) in into.iter_mut().enumerate() {
            // SAFETY: the range lies inside of the view, as was just checked. Its other end may write meanwhile: a volatile
            // read takes whatever is there.
            *byte = unsafe { start.add(offset).read_volatile() };
        }
        Ok(())
    }

    /// As its other end would write.
    #[cfg(test)]
    pub(in crate::executor) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let start = self.place(at, bytes.len())?;
        // SAFETY: the range lies inside of the view, as was just checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
        Ok(())
    }

    fn place(&self, at: u64, length: usize) -> io::Result<*mut u8> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        match at.checked_add(length) {
            // SAFETY: it stays inside of the view.
            Some(end) if end <= self.length => Ok(unsafe { self.view.Value.cast::<u8>().add(at) }),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Pad {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `create`, and nothing has a part of it.
        unsafe { UnmapViewOfFile(self.view) };
    }
}

/// Memory that another process reads.
pub(in crate::executor) struct SharedMemory {
    start: *mut u8,
    length: usize,
}

// SAFETY: it is written through `write` alone, which no two threads call: an executor writes one log.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Copies bytes in; those beyond its end are left out.
    pub(in crate::executor) fn write(&self, at: usize, bytes: &[u8]) {
        let Some(room) = self.length.checked_sub(at) else { return };
        let length = bytes.len().min(room);
        // SAFETY: the range was just checked to lie inside of the view, which lives as long as the process.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), length) };
    }
}

/// Maps so many words and bytes of this process's standard error, if that is a section which has them.
pub(in crate::executor) fn map_standard_error<const WORDS: usize>(
    bytes: usize,
) -> Option<(&'static [AtomicU64; WORDS], SharedMemory)> {
    let length = WORDS * 8 + bytes;
    // SAFETY: a new view touches no other memory; what is no section, or is shorter, is refused.
    let start = unsafe {
        let section = GetStdHandle(STD_ERROR_HANDLE);
        if section.is_null() || section == INVALID_HANDLE_VALUE {
            return None;
        }
        MapViewOfFile(section, FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, length).Value
    };
    if start.is_null() || mapped(start) < length {
        return None;
    }
    let start = start.cast::<u8>();
    // SAFETY: the view is aligned to a page, long enough, and never unmapped; its words are only used as atomics.
    let words = unsafe { &*start.cast::<[AtomicU64; WORDS]>() };
    // SAFETY: the words lie inside of the view.
    let log = SharedMemory { start: unsafe { start.add(WORDS * 8) }, length: bytes };
    Some((words, log))
}

/// How long the view that begins here is.
fn mapped(start: *const std::ffi::c_void) -> usize {
    let mut found = MEMORY_BASIC_INFORMATION::default();
    // SAFETY: the structure is as large as is said; the call only looks.
    let filled = unsafe { VirtualQuery(start, &mut found, size_of::<MEMORY_BASIC_INFORMATION>()) };
    if filled == 0 { 0 } else { found.RegionSize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pad_is_read_as_it_was_written_and_not_beyond_its_end() {
        let pad = Pad::create(10_000).expect("a section");
        pad.write(b"lull", 9_996).expect("room");
        let mut read = [0; 4];
        pad.read(&mut read, 9_996).expect("it is there");
        assert_eq!(&read, b"lull");
        pad.read(&mut read, 9_997).expect_err("that is beyond its end");
        pad.read(&mut read, u64::MAX).expect_err("that too");
        pad.read(&mut read, 0).expect("it is there");
        assert_eq!(read, [0; 4]);
    }
}
