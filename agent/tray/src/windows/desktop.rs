//! What is asked of the desktop around the icon.

use std::{ffi::OsStr, io, ptr};

use lull_desk::SERVICE;
use lull_windows::{Access, Account, SYSTEM, wide};
use windows_sys::Win32::{
    Foundation::HWND,
    Security::Authorization::SE_KERNEL_OBJECT,
    System::{
        Registry::{HKEY_CURRENT_USER, RRF_RT_REG_DWORD, RegGetValueW},
        Threading::GetCurrentProcess,
    },
    UI::{
        HiDpi::{GetDpiForSystem, GetDpiForWindow, GetSystemMetricsForDpi},
        Shell::ShellExecuteW,
        WindowsAndMessaging::{FindWindowW, SM_CXSMICON, SW_SHOWNORMAL},
    },
};

use crate::icon::Bar;

/// A call that failed gives back a number up to this.
const SHELL_ERROR_MAX: usize = 32;

/// How the task bar is coloured. Systems that are older than the choice do not say.
pub(super) fn bar() -> Bar {
    let (key, name) = (wide(r"Software\Microsoft\Windows\CurrentVersion\Themes\Personalize"), wide("SystemUsesLightTheme"));
    let (mut light, mut size) = (0_u32, size_of::<u32>() as u32);
    // SAFETY: both names end in a zero, and the place is as large as is said.
    let asked = unsafe {
        let (key, name, place) = (key.as_ptr(), name.as_ptr(), (&raw mut light).cast());
        RegGetValueW(HKEY_CURRENT_USER, key, name, RRF_RT_REG_DWORD, ptr::null_mut(), place, &mut size)
    };
    match (asked, light) {
        (0, 0) => Bar::Dark,
        (0, _) => Bar::Light,
        _ => Bar::Unknown,
    }
}

/// How large an icon is there, in points on each side.
pub(super) fn icon_size() -> u32 {
    // SAFETY: the name ends in a zero; the others only ask, also about a window that is not there.
    let size = unsafe {
        let taskbar: HWND = FindWindowW(wide("Shell_TrayWnd").as_ptr(), ptr::null());
        let dpi = if taskbar.is_null() { 0 } else { GetDpiForWindow(taskbar) };
        GetSystemMetricsForDpi(SM_CXSMICON, if dpi == 0 { GetDpiForSystem() } else { dpi })
    };
    u32::try_from(size).unwrap_or(0).clamp(16, 64)
}

/// Has the desktop open a page or an address.
pub(super) fn open(what: &OsStr) -> io::Result<()> {
    let (open, what) = (wide("open"), wide(what));
    // SAFETY: the texts end in a zero, and the others are left out.
    let done = unsafe { ShellExecuteW(ptr::null_mut(), open.as_ptr(), what.as_ptr(), ptr::null(), ptr::null(), SW_SHOWNORMAL) };
    if done.addr() > SHELL_ERROR_MAX { Ok(()) } else { Err(io::Error::other("no program here opens pages")) }
}

/// Lets the service see which program this is, as it lets its own user and the system do everything. By default a process is
/// closed to other accounts, and the service could not tell its own tray from another program.
pub(super) fn let_service_look() -> io::Result<()> {
    /// `PROCESS_QUERY_LIMITED_INFORMATION`
    const LOOK: &str = "0x1000";
    let (own, service) = (Account::own()?, Account::of_service(SERVICE)?);
    let access = Access::parse(&format!("D:P(A;;GA;;;{own})(A;;GA;;;{SYSTEM})(A;;{LOOK};;;{service})"))?;
    // SAFETY: the call gives a number that stands for this process.
    access.give(unsafe { GetCurrentProcess() }, SE_KERNEL_OBJECT)
}
