//! What the agent and its tray both ask of Windows: accounts and access lists, and that there is input. Empty elsewhere.
#![cfg(windows)]

pub mod input;
pub mod keys;

use std::{
    ffi::{OsStr, c_void},
    fmt, io,
    os::windows::{
        ffi::OsStrExt as _,
        io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    },
    ptr,
};

use windows_sys::Win32::{
    Foundation::{HANDLE, LocalFree},
    Security::{
        ACCESS_ALLOWED_ACE, ACE_HEADER, ACL,
        Authorization::{
            ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
            SE_OBJECT_TYPE, SetSecurityInfo,
        },
        Cryptography::{BCRYPT_SHA1_ALG_HANDLE, BCryptHash},
        DACL_SECURITY_INFORMATION, GetAce, GetSecurityDescriptorDacl, GetTokenInformation, OWNER_SECURITY_INFORMATION,
        PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
    },
    System::{
        SystemServices::ACCESS_ALLOWED_ACE_TYPE,
        Threading::{GetCurrentProcess, OpenProcessToken},
    },
};

/// The system itself, and the group of administrators.
pub const SYSTEM: &str = "S-1-5-18";
pub const ADMINISTRATORS: &str = "S-1-5-32-544";

/// A text as the system takes it.
pub fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// The result of a call of the system that gives zero when it fails.
pub fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A handle that a call of the system has just made, or why it did not.
pub fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// An account or a group, by its number (SID) as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account(String);

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Account {
    /// Whose this process is.
    pub fn own() -> io::Result<Self> {
        let mut token = ptr::null_mut();
        // SAFETY: it concerns this process only; the last is a place for a handle.
        done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) })?;
        Self::of_token(&owned(token)?)
    }

    /// The account that Windows has for a service of this name, whether the service is there or not: a digest of the name.
    pub fn of_service(name: &str) -> io::Result<Self> {
        let letters: Vec<u8> = name.to_uppercase().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut digest = [0_u8; 20];
        let length = u32::try_from(letters.len()).map_err(io::Error::other)?;
        // SAFETY: both are as long as is said, and no secret goes in.
        let status = unsafe {
            let (letters, digest) = (letters.as_ptr(), digest.as_mut_ptr());
            BCryptHash(BCRYPT_SHA1_ALG_HANDLE, ptr::null(), 0, letters, length, digest, 20)
        };
        if status < 0 {
            return Err(io::Error::other(format!("no digest can be made: status {:x}", status.cast_unsigned())));
        }
        let parts = digest.as_chunks::<4>().0.iter().map(|part| u32::from_le_bytes(*part).to_string());
        Ok(Self(format!("S-1-5-80-{}", parts.collect::<Vec<_>>().join("-"))))
    }

    /// Whom a token stands for.
    pub fn of_token(token: &OwnedHandle) -> io::Result<Self> {
        // Larger than any: an account's number has at most 68 bytes.
        let mut user = [0_usize; 32];
        let mut filled = 0;
        // SAFETY: the handle is open, and the place as large as is said and aligned for the structure.
        done(unsafe {
            let size = size_of_val(&user) as u32;
            GetTokenInformation(token.as_raw_handle(), TokenUser, user.as_mut_ptr().cast(), size, &mut filled)
        })?;
        // SAFETY: the call filled it with this structure, which points into it.
        unsafe { Self::of((*user.as_ptr().cast::<TOKEN_USER>()).User.Sid) }
    }

    /// # Safety
    /// It points to an account's number.
    unsafe fn of(sid: PSID) -> io::Result<Self> {
        let mut text = ptr::null_mut();
        // SAFETY: the caller's promise; the other is a place for a pointer.
        done(unsafe { ConvertSidToStringSidW(sid, &mut text) })?;
        // SAFETY: the text ends in a zero, and is given back once.
        unsafe {
            let length = (0..).take_while(|at| *text.add(*at) != 0).count();
            let account = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
            LocalFree(text.cast());
            Ok(Self(account))
        }
    }

    /// The system or an administrator: they can do everything anyway.
    pub fn rules(&self) -> bool {
        self.0 == SYSTEM || self.0 == ADMINISTRATORS
    }

    /// The account of a service. Whoever lets one in is an administrator.
    pub fn is_service(&self) -> bool {
        self.0.starts_with("S-1-5-80-")
    }

    /// Its number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who may do what with something, as the system keeps it.
pub struct Access(PSECURITY_DESCRIPTOR);

// SAFETY: nothing writes to it after it was made.
unsafe impl Send for Access {}
// SAFETY: as above.
unsafe impl Sync for Access {}

impl Access {
    /// As it is written in the system's own language for that (SDDL).
    pub fn parse(text: &str) -> io::Result<Self> {
        let mut made = ptr::null_mut();
        // SAFETY: the text ends in a zero, and the place is one for a pointer.
        done(unsafe {
            let text = wide(text);
            ConvertStringSecurityDescriptorToSecurityDescriptorW(text.as_ptr(), SDDL_REVISION_1, &mut made, ptr::null_mut())
        })?;
        Ok(Self(made))
    }

    /// This account, the system and administrators may do everything, and nobody else anything; in a folder with all that will
    /// be in it. Nothing is inherited from above.
    pub fn private() -> io::Result<Self> {
        let own = Account::own()?;
        Self::parse(&format!("O:{own}D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{own})"))
    }

    /// For a call that makes something.
    pub fn attributes(&self) -> SECURITY_ATTRIBUTES {
        let size = size_of::<SECURITY_ATTRIBUTES>() as u32;
        SECURITY_ATTRIBUTES { nLength: size, lpSecurityDescriptor: self.0, bInheritHandle: 0 }
    }

    /// Puts this in the place of what was said of something open.
    pub fn give(&self, handle: RawHandle, kind: SE_OBJECT_TYPE) -> io::Result<()> {
        let (mut present, mut list, mut by_default) = (0, ptr::null_mut(), 0);
        // SAFETY: it is whole, and the others are valid places.
        done(unsafe { GetSecurityDescriptorDacl(self.0, &mut present, &mut list, &mut by_default) })?;
        let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
        // SAFETY: the handle is open, and the list outlives the call.
        code(unsafe { SetSecurityInfo(handle, kind, what, ptr::null_mut(), ptr::null_mut(), list, ptr::null()) })
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        // SAFETY: the system gave it, to be given back so.
        unsafe { LocalFree(self.0.cast()) };
    }
}

/// The result of a call of the system that gives an error's number.
pub fn code(result: u32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result.cast_signed())) }
}

/// Whose something open is, and who may do something with it.
pub struct Standing {
    pub owner: Account,
    /// Who is allowed what, in the order of the list; none if everybody is allowed everything.
    pub allowed: Option<Vec<(Account, u32)>>,
}

impl Standing {
    /// Of something open.
    pub fn of(handle: RawHandle, kind: SE_OBJECT_TYPE) -> io::Result<Self> {
        let (mut owner, mut list, mut whole) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let what = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
        // SAFETY: the handle is open, and the others are places for pointers, all of them into `whole`.
        code(unsafe {
            GetSecurityInfo(handle, kind, what, &mut owner, ptr::null_mut(), &mut list, ptr::null_mut(), &mut whole)
        })?;
        let _whole = Access(whole);
        // SAFETY: both point into what is kept until the end of this function.
        unsafe { Ok(Self { owner: Account::of(owner)?, allowed: allowed(list)? }) }
    }
}

/// # Safety
/// It points to a list, or nowhere.
unsafe fn allowed(list: *const ACL) -> io::Result<Option<Vec<(Account, u32)>>> {
    if list.is_null() {
        return Ok(None);
    }
    let mut found = Vec::new();
    // SAFETY: the caller's promise.
    for index in 0..unsafe { (*list).AceCount } {
        let mut entry: *mut c_void = ptr::null_mut();
        // SAFETY: the list has so many entries, and the place is one for a pointer.
        done(unsafe { GetAce(list, index.into(), &mut entry) })?;
        // SAFETY: every entry begins so, and those of this type go on so.
        unsafe {
            if u32::from((*entry.cast::<ACE_HEADER>()).AceType) == ACCESS_ALLOWED_ACE_TYPE {
                let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
                let sid = (&raw mut (*entry).SidStart).cast::<c_void>();
                found.push((Account::of(sid)?, (*entry).Mask));
            }
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_account_follows_from_its_name() {
        let account = Account::of_service("LullAgent").expect("a digest");
        assert_eq!(account.as_str(), "S-1-5-80-133123037-1827440224-1169210890-1049192538-1867615981");
    }

    #[test]
    fn an_account_has_a_number_and_a_list_can_be_made_of_it() {
        let own = Account::own().expect("this process is somebody's");
        assert!(own.as_str().starts_with("S-1-5-"), "{own}");
        Access::private().expect("a list");
        Access::parse("D:(A;;nonsense").map(drop).expect_err("that is not a list");
    }
}
