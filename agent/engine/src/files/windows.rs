//! Owner-only permissions by access list: this account, the system and administrators.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::windows::{
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
        io::AsRawHandle as _,
    },
    path::Path,
};

use windows_sys::Win32::{
    Foundation::{ERROR_ALREADY_EXISTS, ERROR_INVALID_FUNCTION, GENERIC_ALL, GENERIC_READ, GENERIC_WRITE},
    Security::Authorization::SE_FILE_OBJECT,
    Storage::FileSystem::{
        BY_HANDLE_FILE_INFORMATION, CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_REPARSE_POINT,
        FILE_ATTRIBUTE_TEMPORARY, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_DATA, FILE_SHARE_DELETE,
        FILE_SHARE_READ, FILE_SHARE_WRITE, GetFileInformationByHandle, READ_CONTROL, ReOpenFile, WRITE_DAC,
    },
};

use crate::windows::{Access, Account, Standing, done, owned, wide};

const SHARED: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    let access = Access::private()?;
    // SAFETY: the path ends in a zero, and the attributes outlive the call.
    match done(unsafe { CreateDirectoryW(wide(path).as_ptr(), &access.attributes()) }) {
        Err(error) if error.raw_os_error() == Some(ERROR_ALREADY_EXISTS.cast_signed()) && path.is_dir() => Ok(()),
        other => other,
    }
}

/// A new file that this account, the system and administrators alone may read; and a service, if the folder is one's, which
/// nobody else may use then.
pub(super) fn fresh(named: &tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let access = access_in(folder)?;
    named.make_in(folder, |path| {
        // SAFETY: the path ends in a zero, and the attributes outlive the call.
        let made = unsafe {
            let rights = GENERIC_READ | GENERIC_WRITE;
            let (path, access) = (wide(path), access.attributes());
            CreateFileW(path.as_ptr(), rights, SHARED, &access, CREATE_NEW, FILE_ATTRIBUTE_TEMPORARY, std::ptr::null_mut())
        };
        owned(made).map(File::from)
    })
}

fn access_in(folder: &Path) -> io::Result<Access> {
    let mut options = OpenOptions::new();
    let opened = options.access_mode(READ_CONTROL).share_mode(SHARED).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(folder);
    let allowed = opened.and_then(|folder| Standing::of(folder.as_raw_handle(), SE_FILE_OBJECT)).ok().and_then(|of| of.allowed);
    let service = allowed.into_iter().flatten().map(|(account, _)| account).find(Account::is_service);
    match service {
        Some(service) => {
            let own = Account::own()?;
            Access::parse(&format!("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{own})(A;;FA;;;{service})"))
        }
        None => Access::private(),
    }
}

/// One that it makes inherits from its folder, which is private.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    unlinked(OpenOptions::new().create(true).truncate(false).write(true), path)
}

pub(super) fn append_to(path: &Path) -> io::Result<File> {
    unlinked(OpenOptions::new().create(true).append(true), path)
}

/// Opens what has this name itself, and refuses a link.
fn unlinked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path)?;
    match file.metadata()?.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT {
        0 => Ok(file),
        _ => Err(io::Error::other("it is a link\nhint: remove it; a file of its own is made in its place")),
    }
}

/// Everybody, whoever has proved who they are, and all users of the machine.
const CROWDS: [&str; 3] = ["S-1-1-0", "S-1-5-11", "S-1-5-32-545"];

/// Whether others might read it, and may not any more.
pub(super) fn close_to_others(file: &File) -> io::Result<bool> {
    let Standing { owner, allowed } = Standing::of(file.as_raw_handle(), SE_FILE_OBJECT)?;
    let own = Account::own()?;
    let reads = |rights: u32| rights & (FILE_READ_DATA | GENERIC_READ | GENERIC_ALL) != 0;
    let is_other = |account: &Account| *account != own && *account != owner && !account.rules() && !account.is_service();
    let others = allowed.map(|allowed| {
        let others = allowed.into_iter().filter(|(account, rights)| reads(*rights) && is_other(account));
        others.map(|(account, _)| account).collect::<Vec<_>>()
    });
    let is_crowd = |account: &Account| CROWDS.contains(&account.as_str());
    let open_to_all = others.as_ref().is_none_or(|others| others.iter().any(is_crowd));
    if others.is_some_and(|others| others.is_empty()) {
        return Ok(false);
    }
    if owner == own || owner.rules() {
        // SAFETY: the handle is open; what is made has other rights on the same file.
        let again = owned(unsafe { ReOpenFile(file.as_raw_handle(), READ_CONTROL | WRITE_DAC, SHARED, 0) });
        let closed = again.and_then(|again| Access::private()?.give(again.as_raw_handle(), SE_FILE_OBJECT));
        match closed {
            Ok(()) => return Ok(true),
            // It is the administrators' and this is none: they let others read it.
            Err(error) if open_to_all => return Err(error),
            Err(_) => return Ok(false),
        }
    }
    if !open_to_all {
        return Ok(false);
    }
    let words = "it is another user's and everybody may read it\nhint: `icacls FILE /inheritance:r /grant:r *S-1-5-32-544:F`, and \
                 replace the secret if it may have been copied";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
}

/// NTFS keeps names in its journal; where a folder can be flushed it is.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let opened = OpenOptions::new().write(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path);
    match opened.and_then(|folder| folder.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) if error.raw_os_error() == Some(ERROR_INVALID_FUNCTION.cast_signed()) => Ok(()),
        other => other,
    }
}

pub(super) fn is_same(file: &File, path: &Path) -> bool {
    let name = |file: &File| {
        let mut about = BY_HANDLE_FILE_INFORMATION::default();
        // SAFETY: the handle is open, and the place one for this structure.
        done(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut about) }).ok()?;
        Some((about.dwVolumeSerialNumber, about.nFileIndexHigh, about.nFileIndexLow))
    };
    // No right is needed to look what it is.
    let named = OpenOptions::new().access_mode(0).share_mode(SHARED).open(path);
    name(file).zip(named.ok().and_then(|named| name(&named))).is_some_and(|(open, named)| open == named)
}

/// The standard library goes from handle to handle, so that paths do not grow, and follows no link.
pub(super) fn empty_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let gone = if kind.is_dir() {
            fs::remove_dir_all(&path)
        } else if kind.is_symlink_dir() {
            fs::remove_dir(&path)
        } else {
            remove_file(&path)
        };
        match gone {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// One that may only be read is opened to its owner first.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mut rights = fs::symlink_metadata(path)?.permissions();
            rights.set_readonly(false);
            fs::set_permissions(path, rights)?;
            fs::remove_file(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_emptied_of_what_may_only_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a").join("b");
        fs::create_dir_all(&inner).expect("folders");
        let file = folder.path().join("file");
        fs::write(&file, b"x").expect("a file");
        let mut rights = fs::metadata(&file).expect("it is there").permissions();
        rights.set_readonly(true);
        fs::set_permissions(&file, rights).expect("it is ours");
        empty_folder(folder.path()).expect("it goes");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_file_is_known_by_what_it_is_and_not_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, b"x").expect("a file");
        fs::write(&other, b"x").expect("a file");
        let open = File::open(&one).expect("it is there");
        assert!(is_same(&open, &one) && !is_same(&open, &other));
    }
}
