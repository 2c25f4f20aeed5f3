//! Files that nobody but the agent's user may read, and that are whole or not there.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
};

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
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
    let mut trial = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    trial.write_all(&vec![0; TRIAL_BYTES])?;
    trial.as_file().sync_all()
}

/// What the names of files begin with that are not whole yet.
const FRESH: &str = ".lull-";

/// Replaces a file by these bytes, durably; whoever looks sees the old ones or the new ones.
///
/// They are written to a new file of a name that nobody can foresee, readable by this user alone, which then takes the
/// place of whatever has the name: nothing is written through a file or a link that lies there.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes)?.persist(path).map_err(|error| error.error)?;
    deeds::note("renamed", path);
    sync_folder_of(path)
}

/// The same for a name that must be free.
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder_of(path)
}

/// A file with these bytes beside the one that it is to become.
fn written(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut fresh = sys::fresh(tempfile::Builder::new().prefix(FRESH), folder_of(path))?;
    fresh.write_all(bytes)?;
    fresh.as_file().sync_all()?;
    deeds::note("synced", path);
    Ok(fresh)
}

/// Opens a file of this user's own to lock it, and makes it if it is not there; a link in its place is refused.
pub fn open_own(path: &Path) -> io::Result<File> {
    sys::open_own(path)
}

/// Opens a file to write at its end, and makes it if it is not there; a link in its place is refused.
pub fn append_to(path: &Path) -> io::Result<File> {
    sys::append_to(path)
}

/// What a file holds, if it is there. A link that leads nowhere is an error and not a file that may be made: what it stood for
/// may be on a disk that is not mounted at the moment.
pub fn read_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    there(path)?.map(read_all).transpose()
}

/// The same of a secret. One that other users may read is closed to them, and the log says so: nothing stops for what can be
/// mended at once, and whoever has to decide whether it was copied meanwhile learns of it. One that cannot be closed, as it is
/// another user's, is refused if everybody may read it; a group may, as it does where secrets are mounted.
pub fn read_secret(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = there(path)? else { return Ok(None) };
    if sys::close_to_others(&file)? {
        tracing::warn!(
            path = %path.display(),
            "other users could read this secret; it is closed to them now. hint: if one of them may have copied it, replace it"
        );
    }
    read_all(file).map(Some)
}

fn there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => Err(leads_nowhere(&to)),
            Err(_) => Ok(None),
        },
        Err(error) => Err(error),
    }
}

fn leads_nowhere(to: &Path) -> io::Error {
    io::Error::other(format!(
        "it is a link to {}, which is not there\nhint: make that available again, or remove the link if it is not needed any more",
        to.display()
    ))
}

fn read_all(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file's name durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    sys::sync_folder(folder_of(path))?;
    deeds::note("named", path);
    Ok(())
}

/// Makes the bytes of a file that somebody else wrote durable.
pub fn sync_file(path: &Path) -> io::Result<()> {
    sync(&File::options().read(true).write(true).open(path)?, path)
}

/// Makes the bytes of an open file durable.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    deeds::try_it("synced", path)?;
    file.sync_data()?;
    deeds::note("synced", path);
    Ok(())
}

/// Lets a file take the place of another, durably: after a power cut there is the old one or the whole new one.
pub fn put_in_place(file: &File, fresh: &Path, path: &Path) -> io::Result<()> {
    sync(file, fresh)?;
    fs::rename(fresh, path)?;
    deeds::note("renamed", path);
    sync_folder_of(path)
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

/// Whether a file of this name was not whole yet when its writer ended.
pub fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(FRESH.as_bytes())
}

/// Removes files that were not whole yet when their writer ended.
pub fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if is_unfinished(&entry.file_name()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder that may not be there, with all that is in it: however deep it nests, and following no link.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    match empty_folder(folder).and_then(|()| fs::remove_dir(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes all that is in a folder.
pub fn empty_folder(folder: &Path) -> io::Result<()> {
    sys::empty_folder(folder)
}

/// What is done to make files durable, in its order: no test can see what a disk remembers, but that it was asked in time.
#[doc(hidden)]
#[cfg(any(test, feature = "deeds"))]
pub mod deeds {
    use std::{
        path::{Path, PathBuf},
        sync::Mutex,
    };

    /// Nothing is noted unless somebody watches, which only tests do.
    static DONE: Mutex<Option<Vec<(&str, PathBuf)>>> = Mutex::new(None);

    /// Begins to note them.
    pub fn watch() {
        DONE.lock().expect("nobody panics here").get_or_insert_default();
    }

    /// Notes one.
    pub fn note(deed: &'static str, path: &Path) {
        if let Some(done) = &mut *DONE.lock().expect("nobody panics here") {
            done.push((deed, path.to_owned()));
        }
    }

    /// What the disk is to refuse, in tests.
    static REFUSED: Mutex<Vec<(&str, PathBuf)>> = Mutex::new(Vec::new());

    /// Fails where a test wants the disk to refuse this.
    pub fn try_it(deed: &'static str, path: &Path) -> std::io::Result<()> {
        let mut refused = REFUSED.lock().expect("nobody panics here");
        match refused.extract_if(.., |refused| refused.0 == deed && refused.1 == path).count() {
            0 => Ok(()),
            _ => Err(std::io::Error::other("the disk refuses it")),
        }
    }

    /// The disk refuses this the next time.
    pub fn refuse(deed: &'static str, path: &Path) {
        REFUSED.lock().expect("nobody panics here").push((deed, path.to_owned()));
    }

    /// What was done below a folder since the last look, as `synced outbox.log`.
    pub fn take(folder: &Path) -> Vec<String> {
        let mut done = DONE.lock().expect("nobody panics here");
        let own = done.get_or_insert_default().extract_if(.., |(_, path)| path.starts_with(folder));
        own.map(|(deed, path)| format!("{deed} {}", path.strip_prefix(folder).expect("it is below").display())).collect()
    }
}

/// A program keeps no account of them, and its disk refuses by itself.
#[cfg(not(any(test, feature = "deeds")))]
pub mod deeds {
    use std::path::Path;

    pub fn note(_: &'static str, _: &Path) {}

    /// Nothing is refused here.
    pub fn try_it(_: &'static str, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_is_replaced_by_one_of_its_own_and_never_through_what_lies_there() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().expect("a folder");
        let (others, key) = (folder.path().join("others"), folder.path().join("identity.key"));
        fs::write(&others, b"not ours").expect("a file");
        // What earlier versions wrote through.
        for name in ["identity.partial", "identity.new", "identity.key"] {
            symlink(&others, folder.path().join(name)).expect("a link");
        }
        deeds::watch();
        replace_private(&key, b"secret").expect("written");
        assert_eq!(fs::read(&others).expect("there"), b"not ours");
        let metadata = fs::symlink_metadata(&key).expect("there");
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600, "{metadata:?}");
        assert_eq!(fs::read(&key).expect("there"), b"secret");
        assert_eq!(deeds::take(folder.path()), ["synced identity.key", "renamed identity.key", "named identity.key"]);
        let taken = create_private(&key, b"other").expect_err("it has a file").kind();
        assert_eq!((taken, fs::read(&key).expect("there")), (io::ErrorKind::AlreadyExists, b"secret".to_vec()));
        let link = folder.path().join("link");
        symlink(folder.path().join("nowhere"), &link).expect("a link");
        for refused in [open_own(&link), append_to(&link), create_private(&link, b"x").and_then(|()| open_own(&key))] {
            refused.expect_err("a link is no file of ours");
        }
        assert!(!folder.path().join("nowhere").exists());
        let left = fs::read_dir(folder.path()).expect("ours").flatten();
        let left: Vec<_> = left.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(FRESH.as_bytes())).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_no_file_that_may_be_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("identity.key");
        assert_eq!(read_there(&link).expect("an answer"), None);
        std::os::unix::fs::symlink(folder.path().join("unmounted/key"), &link).expect("a link");
        for refused in [read_there(&link), read_secret(&link)] {
            let words = refused.expect_err("it is not known to be lost").to_string();
            assert!(words.contains("unmounted/key") && words.contains("\nhint: "), "{words}");
        }
        fs::create_dir(folder.path().join("unmounted")).expect("a folder");
        fs::write(folder.path().join("unmounted/key"), b"key").expect("written");
        assert_eq!(read_secret(&link).expect("it is there"), Some(b"key".to_vec()));
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_may_read_is_closed_to_them() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("identity.key");
        for mode in [0o644, 0o640, 0o606, 0o600, 0o400] {
            fs::write(&key, b"key").expect("written");
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is ours");
            assert_eq!(read_secret(&key).expect("it is there"), Some(b"key".to_vec()));
            let now = fs::metadata(&key).expect("it is there").permissions().mode() & 0o777;
            assert_eq!(now, mode & 0o700, "{mode:o}");
            fs::remove_file(&key).expect("it is ours");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_tree_is_removed_however_deep_it_nests_and_no_link_is_followed() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().expect("a folder");
        let outside = folder.path().join("outside");
        fs::write(&outside, b"stays").expect("a file");
        let root = folder.path().join("root");
        fs::create_dir(&root).expect("a folder");
        symlink(&outside, root.join("link")).expect("a link");
        symlink(folder.path(), root.join("up")).expect("a link");
        fs::create_dir(root.join("closed")).expect("a folder");
        fs::write(root.join("closed").join("file"), b"x").expect("a file");
        fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).expect("it is ours");
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, &root, flags, Mode::empty()).expect("it opens");
        for _ in 0..6000 {
            mkdirat(&at, "d", Mode::RWXU).expect("a folder");
            at = openat(&at, "d", flags, Mode::empty()).expect("it opens");
        }
        drop(at);
        remove_tree(&root).expect("it goes");
        assert!(!root.exists());
        assert_eq!(fs::read(&outside).expect("it is still there"), b"stays");
        remove_tree(&root).expect("nothing to do");
    }
}
