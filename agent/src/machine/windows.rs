//! The machine's id in the registry.

use lull_engine::windows::{code, wide};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RRF_SUBKEY_WOW6464KEY, RegGetValueW};

/// The operating system's own id, if it has one. Images that are rolled out have one each after their first start.
pub(super) fn id() -> Option<String> {
    let (key, name) = (wide(r"SOFTWARE\Microsoft\Cryptography"), wide("MachineGuid"));
    // Longer than any: it is written as 36 letters.
    let mut text = [0_u16; 128];
    let mut bytes = size_of_val(&text) as u32;
    let flags = RRF_RT_REG_SZ | RRF_SUBKEY_WOW6464KEY;
    // SAFETY: both names end in a zero, and the place is as large as is said.
    code(unsafe {
        let (key, name) = (key.as_ptr(), name.as_ptr());
        RegGetValueW(HKEY_LOCAL_MACHINE, key, name, flags, std::ptr::null_mut(), text.as_mut_ptr().cast(), &mut bytes)
    })
    .ok()?;
    let length = text.iter().position(|unit| *unit == 0)?;
    Some(String::from_utf16_lossy(&text[..length])).filter(|id| !id.is_empty())
}
