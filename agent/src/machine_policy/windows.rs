//! The registry, where Group Policy writes what holds on a machine.

use std::{io, ptr};

use lull_engine::windows::{code, wide};
use windows_sys::Win32::{
    Foundation::{ERROR_FILE_NOT_FOUND, ERROR_NO_MORE_ITEMS, ERROR_PATH_NOT_FOUND},
    System::Registry::{
        HKEY, HKEY_LOCAL_MACHINE, KEY_READ, KEY_WOW64_64KEY, REG_DWORD, REG_EXPAND_SZ, REG_QWORD, REG_SZ, RegCloseKey,
        RegEnumValueW, RegOpenKeyExW,
    },
};

use super::{Found, KEY, RECOMMENDED_KEY, VALUE_BYTES_MAX, Value, Values};

/// The longest name of a value that the registry has, with the zero at its end.
const NAME_LETTERS_MAX: usize = 16_384;
/// More values than that are in no policy of ours.
const VALUES_MAX: u32 = 256;

pub(super) fn found() -> Found {
    let mut found = Found::default();
    for (path, into) in [(KEY, &mut found.mandatory), (RECOMMENDED_KEY, &mut found.recommended)] {
        match values(path) {
            Ok(values) => *into = values,
            Err(error) => found.unread.push(format!(r"HKEY_LOCAL_MACHINE\{path}: {error}")),
        }
    }
    found
}

/// An open key.
struct Key(HKEY);

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: it was opened, and is closed once.
        unsafe { RegCloseKey(self.0) };
    }
}

/// The values of a key below the machine's; none if there is no such key.
fn values(path: &str) -> io::Result<Values> {
    let mut key = Key(ptr::null_mut());
    let path = wide(path);
    // SAFETY: the path ends in a zero, and the place is one for a key.
    let opened = unsafe { RegOpenKeyExW(HKEY_LOCAL_MACHINE, path.as_ptr(), 0, KEY_READ | KEY_WOW64_64KEY, &mut key.0) };
    if opened == ERROR_FILE_NOT_FOUND || opened == ERROR_PATH_NOT_FOUND {
        return Ok(Values::new());
    }
    code(opened)?;
    let mut values = Values::new();
    for index in 0..VALUES_MAX {
        let (mut name, mut data) = (vec![0_u16; NAME_LETTERS_MAX], vec![0_u8; VALUE_BYTES_MAX]);
        let (mut letters, mut bytes, mut kind) = (NAME_LETTERS_MAX as u32, VALUE_BYTES_MAX as u32, 0);
        // SAFETY: the key is open, and both places are as large as is said.
        let read = unsafe {
            let (name, data) = (name.as_mut_ptr(), data.as_mut_ptr());
            RegEnumValueW(key.0, index, name, &mut letters, ptr::null(), &mut kind, data, &mut bytes)
        };
        if read == ERROR_NO_MORE_ITEMS {
            break;
        }
        code(read)?;
        let name = String::from_utf16_lossy(&name[..letters as usize]);
        values.insert(name, value(kind, &data[..bytes as usize]));
    }
    Ok(values)
}

fn value(kind: u32, data: &[u8]) -> Value {
    match kind {
        REG_SZ | REG_EXPAND_SZ => {
            let letters: Vec<u16> = data.as_chunks::<2>().0.iter().map(|letter| u16::from_le_bytes(*letter)).collect();
            let text = String::from_utf16_lossy(&letters);
            Value::Text(text.trim_end_matches('\0').to_owned())
        }
        REG_DWORD => data.first_chunk().map_or(Value::Other, |data| Value::Number(u32::from_le_bytes(*data).into())),
        REG_QWORD => data.first_chunk().map_or(Value::Other, |data| Value::Number(u64::from_le_bytes(*data))),
        _ => Value::Other,
    }
}
