//! What of an upgrade is of Windows. Nobody there has the right to install for the agent yet: it refuses what the network offers.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// What helps where no installer comes.
pub(crate) const INSTALLER_HINT: &str = "install the package by Group Policy, Intune or by hand";
/// What an administrator does to let a network upgrade a machine.
pub(crate) const TRUST_HINT: &str = "on Windows packages are installed by Group Policy, Intune or by hand for now";
/// What a package is called once it was copied.
pub(crate) const COPY: &str = "package.msi";

pub(crate) fn home() -> PathBuf {
    let data = std::env::var_os("ProgramData").unwrap_or_else(|| r"C:\ProgramData".into());
    PathBuf::from(data).join("Lull").join("upgrade")
}

/// The data folder of the service's agent.
pub(crate) fn data() -> PathBuf {
    crate::service::data_folder().unwrap_or_default()
}

pub(crate) fn call_installer() -> Result<(), String> {
    Err("no part of the agent has the right to install on Windows yet".into())
}

/// The folder's own rights hold.
pub(crate) fn let_all_read(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub(crate) fn own_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

pub(crate) fn open_untrusted(folder: &Path, name: &str) -> io::Result<File> {
    let path = folder.join(name);
    let is_file = fs::symlink_metadata(&path)?.is_file();
    if is_file { File::open(path) } else { Err(io::Error::other(format!("{name} is no file"))) }
}

pub(crate) fn create_own(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// What installs a package.
pub(crate) fn installer(package: &Path) -> Command {
    let mut msiexec = Command::new("msiexec");
    msiexec.arg("/i").arg(package).args(["/qn", "/norestart"]);
    msiexec
}

/// Whether it could not begin because another installation runs, and may be tried again.
pub(crate) fn is_busy(code: Option<i32>, _said: &str) -> bool {
    code == Some(1618)
}
