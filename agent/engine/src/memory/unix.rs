//! Linux's way to give memory back.

/// Freed memory at the end of the heap and in holes of it.
pub(super) fn trim_heap() {
    // SAFETY: it concerns free memory only, and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Pages of this program and its libraries that hold code and constants as they are in their files.
pub(super) fn let_go_of_code() {
    // SAFETY: the callback keeps nothing of what it is shown.
    unsafe { libc::dl_iterate_phdr(Some(let_go), std::ptr::null_mut()) };
}

/// Called for each loaded file with its segments.
unsafe extern "C" fn let_go(info: *mut libc::dl_phdr_info, _size: libc::size_t, _data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the loader shows a valid description with as many program headers as it says.
    let (base, segments) = unsafe {
        let info = &*info;
        let segments = match info.dlpi_phdr.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (info.dlpi_addr, segments)
    };
    let page = rustix::param::page_size() as u64;
    for segment in segments {
        // Whatever is writable, also if only until it was relocated, is in segments marked so.
        if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
            continue;
        }
        // Whole pages only: one at the edge may belong to the next segment as well.
        let start = (base + segment.p_vaddr).next_multiple_of(page);
        let end = (base + segment.p_vaddr + segment.p_memsz) / page * page;
        if start < end {
            // SAFETY: these pages are private, never written and backed by their file: the next touch reads the same
            // bytes again. A kernel's own pages (vdso) refuse, which is fine.
            unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
    0
}
