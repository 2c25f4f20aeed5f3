//! What of an upgrade is of Linux: systemd sees the package and starts the installer, which is dpkg.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// What the part with the right to install keeps.
pub(crate) const HOME: &str = "/var/lib/lull-upgrade";
/// Where the service's agent keeps its data.
pub(crate) const DATA: &str = "/var/lib/lull-agent";
/// What helps where no installer comes.
pub(crate) const INSTALLER_HINT: &str =
    "`systemctl enable --now lull-agent-upgrade.path` has it started; `journalctl -u lull-agent-upgrade` says more";
/// What an administrator does to let a network upgrade a machine.
pub(crate) const TRUST_HINT: &str = "`sudo lull-agent upgrade trust --token-file FILE` on that machine allows it";
/// What a package is called once it was copied.
pub(crate) const COPY: &str = "package.deb";

pub(crate) fn home() -> PathBuf {
    HOME.into()
}

/// The data folder of the service's agent.
pub(crate) fn data() -> PathBuf {
    DATA.into()
}

/// systemd watches the folder: nobody need be called.
pub(crate) fn call_installer() -> Result<(), String> {
    Ok(())
}

/// Lets every user read a file of an administrator's.
pub(crate) fn let_all_read(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Makes the folder if need be; an error if it could be written by others.
pub(crate) fn own_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let about = fs::symlink_metadata(folder)?;
    if !about.is_dir() || about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("{} must be a folder that its owner alone can write", folder.display())));
    }
    Ok(())
}

/// Opens a file of a folder that belongs to somebody who is not trusted: neither is a link, and what it is is a file.
pub(crate) fn open_untrusted(folder: &Path, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let folder = openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty())?;
    let file = File::from(openat(&folder, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(format!("{name} is no file"))) }
}

/// A new file that nobody else can read, in the place of whatever has its name.
pub(crate) fn create_own(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// What installs a package.
pub(crate) fn installer(package: &Path) -> Command {
    let mut dpkg = Command::new("dpkg");
    dpkg.args(["--install", "--force-confold", "--"].map(OsString::from)).arg(package);
    dpkg.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    dpkg
}

/// Whether it could not begin because another installation runs, and may be tried again.
pub(crate) fn is_busy(code: Option<i32>, said: &str) -> bool {
    code == Some(2) && said.contains("lock")
}
