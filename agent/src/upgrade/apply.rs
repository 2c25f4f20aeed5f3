//! `lull-agent upgrade apply`: installs what the agent has handed over, for whoever has the right to.
//!
//! It trusts nothing of the agent's account. Each file is opened once, without following a link; the package is copied to a folder
//! that only this user writes, and it is the copy that is checked against the network's word and given to the installer. What the
//! network's word is worth is said by the key that an administrator pinned ([`Home::trust`]), and by the count of what was installed
//! before.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use lull_shared::{
    digest::{BlobRef, OutlineBuilder},
    release::{self, Here, Platform, RELEASE_BYTES_MAX, Release, Unfit},
    time::Timestamp,
};

use super::{PACKAGE, RELEASE, home::Home, sys, version};

/// What is read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// An installer that takes longer is ended.
const INSTALLER_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(100);
/// Tries while another installation runs, and the pause between them.
const TRIES_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_secs(10);
/// The end of what an installer said.
const SAID_BYTES_MAX: usize = 400;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder in which the agent handed the package over.
    pub handed: PathBuf,
    pub home: PathBuf,
    /// What installs a package, in the system's installer's place; it is given the package's path.
    pub installer: Option<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self { handed: super::handed(&sys::data()), home: sys::home(), installer: None }
    }
}

/// A package that was not installed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("cannot use {path}: {source}", path = .path.display())]
    Home { path: PathBuf, source: io::Error },
    #[error("no network may upgrade this machine\nhint: {}", sys::TRUST_HINT)]
    Distrust,
    #[error("whom this machine trusts with upgrades cannot be read\nhint: {}", sys::TRUST_HINT)]
    Trust,
    #[error("cannot read what was handed over: {0}")]
    Handed(io::Error),
    #[error("what was handed over is not a release")]
    NoRelease,
    #[error("the release is not followed: {0}")]
    Unfit(#[from] Unfit),
    #[error("the package is not the one that the release names")]
    Package,
    #[error("{0}")]
    Installer(String),
}

/// What was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub version: String,
    pub count: u64,
}

/// Installs what was handed over, if all of it is as the network says.
pub fn apply(places: &Places) -> Result<Applied, ApplyError> {
    let home = Home::at(&places.home);
    let in_home = |source| ApplyError::Home { path: places.home.clone(), source };
    sys::own_folder(home.folder()).map_err(in_home)?;
    let _lock = lock(&places.home).map_err(in_home)?;
    let trust = home.trust().map_err(in_home)?.ok_or(ApplyError::Distrust)?;
    let (authority, network) = trust.network().ok_or(ApplyError::Trust)?;
    let signed = release::decode(&read_small(&places.handed)?).map_err(|_| ApplyError::NoRelease)?;
    let tried = home.count().map_err(in_home)?;
    // One that was given to the installer is not given to it again.
    let count_min = tried.saturating_add(1);
    let here = Here { authority: &authority, network, platform: Platform::here(), version: version(), count_min };
    let release = Release::check(&signed, &here, Timestamp::from(jiff::Timestamp::now()))?;
    let copy = places.home.join(sys::COPY);
    copy_checked(&places.handed, &copy, release.package)?;
    home.note_count(release.count).map_err(in_home)?;
    let result = install(places, &copy);
    home.tell(release.count, &release.version, result.clone()).map_err(in_home)?;
    // Nobody needs it any more; what stays takes room, and the next one takes its place.
    let _ = fs::remove_file(&copy);
    result.map_err(ApplyError::Installer)?;
    Ok(Applied { version: release.version, count: release.count })
}

/// One at a time.
fn lock(home: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(home.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn read_small(handed: &Path) -> Result<Vec<u8>, ApplyError> {
    let file = sys::open_untrusted(handed, RELEASE).map_err(ApplyError::Handed)?;
    let mut bytes = Vec::new();
    file.take(RELEASE_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(ApplyError::Handed)?;
    Ok(bytes)
}

/// Copies the package, and no byte more than it should have; what was copied is what is checked.
fn copy_checked(handed: &Path, copy: &Path, wanted: BlobRef) -> Result<(), ApplyError> {
    let from = sys::open_untrusted(handed, PACKAGE).map_err(ApplyError::Handed)?;
    let here = |source| ApplyError::Home { path: copy.to_owned(), source };
    let mut to = sys::create_own(copy).map_err(here)?;
    let (mut from, mut outline, mut chunk) = (from.take(wanted.size_bytes + 1), OutlineBuilder::default(), vec![0; CHUNK_BYTES]);
    loop {
        let read = from.read(&mut chunk).map_err(ApplyError::Handed)?;
        if read == 0 {
            break;
        }
        outline.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(here)?;
    }
    to.sync_all().map_err(here)?;
    if outline.finish().0 == wanted {
        return Ok(());
    }
    // It is not what it should be, and takes room.
    let _ = fs::remove_file(copy);
    Err(ApplyError::Package)
}

/// Runs the installer to its end; why it did not install, in words.
fn install(places: &Places, package: &Path) -> Result<(), String> {
    let said = places.home.join("installer.log");
    for _ in 0..TRIES_MAX {
        let mut installer = match &places.installer {
            Some(program) => {
                let mut made_up = Command::new(program);
                made_up.arg(package);
                made_up
            }
            None => sys::installer(package),
        };
        let (code, words) = run(&mut installer, &said)?;
        match code {
            Some(0) => return Ok(()),
            code if sys::is_busy(code, &words) => sleep(PAUSE),
            Some(code) => return Err(format!("the installer ended with {code}: {words}")),
            None => return Err(format!("the installer was killed: {words}")),
        }
    }
    Err("another installation has run all the time\nhint: it is tried again with the next release".into())
}

/// How a program ended, and the end of what it said.
fn run(program: &mut Command, said: &Path) -> Result<(Option<i32>, String), String> {
    let failed = |error: io::Error| format!("the installer cannot be started: {error}");
    let log = sys::create_own(said).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut child = program.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok((status.code(), last_words(said)));
        }
        if begun.elapsed() > INSTALLER_TIME_MAX {
            // It may have ended at this moment.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!(
                "the installer took longer than {} minutes: {}",
                INSTALLER_TIME_MAX.as_secs() / 60,
                last_words(said)
            ));
        }
        sleep(LOOK);
    }
}

fn last_words(said: &Path) -> String {
    let bytes = fs::read(said).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(SAID_BYTES_MAX)..];
    String::from_utf8_lossy(end).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use libp2p::identity::Keypair;
    use lull_shared::{
        codec,
        identity::{Authority, NetworkId, sign},
    };

    use super::*;

    const NETWORK: NetworkId = NetworkId([3; 16]);
    const BYTES: &[u8] = b"a package of some bytes";

    struct World {
        folder: tempfile::TempDir,
        key: Keypair,
        places: Places,
    }

    impl World {
        /// A machine that trusts a network, and an installer that notes what it was given and ends like this.
        fn new(ends: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let (key, at) = (Keypair::generate_ed25519(), |name: &str| folder.path().join(name));
            let (handed, home, installer) = (at("handed"), at("home"), at("installer"));
            fs::create_dir(&handed).expect("made");
            sys::own_folder(&home).expect("made");
            Home::at(&home).write_trust(&Authority::of(&key), NETWORK).expect("written");
            let script = format!("#!/bin/sh\ncp \"$1\" {}\n{ends}\n", at("installed").display());
            fs::write(&installer, script).expect("written");
            fs::set_permissions(&installer, fs::Permissions::from_mode(0o755)).expect("set");
            let places = Places { handed, home, installer: Some(installer) };
            Self { folder, key, places }
        }

        fn release(&self, count: u64) -> Release {
            Release {
                network: NETWORK,
                platform: Platform::here().unwrap_or(Platform::DebAmd64),
                version: "99.0.0".into(),
                package: BlobRef::of(BYTES),
                count,
                expires: Timestamp::from(jiff::Timestamp::now()) + Duration::from_secs(600),
            }
        }

        fn hand(&self, release: &Release) {
            fs::write(self.places.handed.join(PACKAGE), BYTES).expect("written");
            fs::write(self.places.handed.join(RELEASE), codec::encode(&sign(&self.key, release))).expect("written");
        }

        fn installed(&self) -> Option<Vec<u8>> {
            fs::read(self.folder.path().join("installed")).ok()
        }

        fn refused(&self) -> String {
            let error = apply(&self.places).expect_err("nothing is to be installed").to_string();
            assert_eq!(self.installed(), None, "{error}");
            error
        }
    }

    #[test]
    fn what_the_network_vouches_for_is_installed_once() {
        let world = World::new("exit 0");
        world.hand(&world.release(7));
        assert_eq!(apply(&world.places).expect("installed"), Applied { version: "99.0.0".into(), count: 7 });
        assert_eq!(world.installed().as_deref(), Some(BYTES));
        let outcome = Home::at(&world.places.home).outcome().expect("it is told");
        assert_eq!((outcome.count, outcome.failed), (7, None));
        let again = apply(&world.places).expect_err("it was").to_string();
        assert!(again.contains("release 7 was followed already"), "{again}");
        assert!(!world.places.home.join(sys::COPY).exists(), "the copy is gone");
    }

    #[test]
    fn an_installer_that_fails_is_told_with_what_it_said_and_not_asked_again() {
        let world = World::new("echo no room for it >&2; exit 3");
        world.hand(&world.release(7));
        let error = apply(&world.places).expect_err("it failed").to_string();
        assert_eq!(error, "the installer ended with 3: no room for it");
        assert_eq!(Home::at(&world.places.home).outcome().and_then(|outcome| outcome.failed), Some(error));
        assert!(apply(&world.places).expect_err("over").to_string().contains("followed already"));
    }

    #[test]
    fn what_nobody_vouches_for_reaches_no_installer() {
        let world = World::new("exit 0");
        assert!(world.refused().starts_with("cannot read what was handed over"), "nothing is there");
        world.hand(&world.release(7));
        fs::write(world.places.handed.join(PACKAGE), b"another package entirely").expect("written");
        assert_eq!(world.refused(), "the package is not the one that the release names");
        fs::write(world.places.handed.join(PACKAGE), [BYTES, b"!"].concat()).expect("written");
        assert_eq!(world.refused(), "the package is not the one that the release names");
        fs::write(world.places.handed.join(RELEASE), b"\x01nonsense").expect("written");
        assert_eq!(world.refused(), "what was handed over is not a release");
        let stranger = sign(&Keypair::generate_ed25519(), &world.release(7));
        fs::write(world.places.handed.join(RELEASE), codec::encode(&stranger)).expect("written");
        assert!(world.refused().contains("nobody vouches for it"));
        let older = Release { version: "0.0.1".into(), ..world.release(7) };
        world.hand(&older);
        assert!(world.refused().contains("it is version 0.0.1"));
        let over = Release { expires: Timestamp::from_millis(1), ..world.release(7) };
        world.hand(&over);
        assert!(world.refused().contains("it was good until"));
        world.hand(&world.release(7));
        Home::at(&world.places.home).distrust().expect("removed");
        assert!(world.refused().starts_with("no network may upgrade this machine"));
    }

    #[test]
    fn links_pipes_and_folders_in_place_of_files_are_not_followed() {
        let world = World::new("exit 0");
        let (package, release) = (world.places.handed.join(PACKAGE), world.places.handed.join(RELEASE));
        world.hand(&world.release(7));
        let elsewhere = world.folder.path().join("elsewhere");
        fs::rename(&package, &elsewhere).expect("moved");
        symlink(&elsewhere, &package).expect("linked");
        assert!(world.refused().starts_with("cannot read what was handed over"));
        fs::remove_file(&package).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &package, rustix::fs::FileType::Fifo, 0o644.into(), 0).expect("a pipe");
        assert!(world.refused().contains("is no file"), "it would wait for ever");
        fs::remove_file(&package).expect("removed");
        fs::rename(&elsewhere, &package).expect("moved");
        fs::remove_file(&release).expect("removed");
        fs::create_dir(&release).expect("made");
        assert!(world.refused().starts_with("cannot read what was handed over"));
        let real = world.folder.path().join("real");
        fs::remove_dir(&release).expect("removed");
        world.hand(&world.release(7));
        fs::rename(&world.places.handed, &real).expect("moved");
        symlink(&real, &world.places.handed).expect("linked");
        assert!(world.refused().starts_with("cannot read what was handed over"), "nor is the folder itself");
    }

    #[test]
    fn a_home_that_others_can_write_is_not_used() {
        let world = World::new("exit 0");
        world.hand(&world.release(7));
        fs::set_permissions(&world.places.home, fs::Permissions::from_mode(0o777)).expect("set");
        assert!(world.refused().contains("its owner alone can write"));
    }
}
