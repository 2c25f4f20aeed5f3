//! How this agent becomes another version: told by the coordinator, installed by somebody else who has the right to.
//!
//! ```text
//! told --checked--> fetch --here--> give way --nothing runs here any more--> place --in the folder--> given --> the installer
//!   |                 |                                                                                |        ends this process
//!   v                 v                                                                                v
//! refused          failed                                                          failed: work goes on here
//! ```
//! The agent's account has no right to install. What it hands over is a package and the network's word for it in a folder of its
//! own ([`HANDED`]); `lull-agent upgrade apply`, started by the system ([`sys`]), believes nothing of it that it has not checked
//! itself ([`apply`]), and tells in [`home`] what came of it. Identity, policy and results stay where they are all the while.
//!
//! Here is what follows from what; the run loop carries it out.

pub mod apply;
pub mod home;
#[cfg(unix)]
#[path = "unix.rs"]
pub(crate) mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
pub(crate) mod sys;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use lull_engine::files;
use lull_shared::{
    codec,
    digest::{BlobRef, Digest},
    identity::{Authority, NetworkId, Signed},
    release::{Here, Platform, Release, UpgradeReport, UpgradeStep},
    time::Timestamp,
};

use self::home::{Home, Outcome};

/// The folder, below the agent's data, in which a package waits for its installer.
pub const HANDED: &str = "upgrade";
/// The package in it.
pub const PACKAGE: &str = "package";
/// The network's word for it, written last: the installer starts when it appears.
pub const RELEASE: &str = "release";

/// How long what runs may take to be elsewhere: it goes with the agent's end otherwise, as with any other.
const GIVE_WAY_MAX: Duration = Duration::from_secs(60);
/// How long an installer may take from the package being there until this process is ended or a failure is told.
const INSTALLER_TIME_MAX: Duration = Duration::from_secs(20 * 60);

static MADE_UP: OnceLock<String> = OnceLock::new();

/// This program's version.
pub fn version() -> &'static str {
    MADE_UP.get().map_or(env!("CARGO_PKG_VERSION"), String::as_str)
}

/// Has this process say that it is another version. For the programs of tests: no program that is installed calls it.
#[doc(hidden)]
pub fn pretend(version: String) {
    // Whoever said so first is right.
    let _ = MADE_UP.set(version);
}

/// Whose agent this is, and what may be done with it.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub authority: Authority,
    pub network: NetworkId,
    /// Whether the policy lets the network upgrade it.
    pub allowed: bool,
}

/// A release that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub release: Release,
    pub signed: Signed,
}

/// What the run loop is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Put the package into the cache and keep it there. Answered by [`Upgrade::fetched`].
    Fetch(BlobRef),
    /// The cache need not keep it any longer.
    Unpin(Digest),
    /// Give away what runs and take nothing, or go on.
    GiveWay(bool),
    /// Hand the package to the installer. Answered by [`Upgrade::placed`].
    Place(Box<Wanted>),
    /// To the coordinator.
    Say(UpgradeReport),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    None,
    Fetching(Wanted),
    GivingWay {
        wanted: Wanted,
        until: Timestamp,
    },
    Placing(Wanted),
    Given {
        wanted: Wanted,
        until: Timestamp,
    },
    /// Nothing more is done about it until another is told.
    Ended(UpgradeReport),
}

/// Where an upgrade of this agent stands.
pub(crate) struct Upgrade {
    home: Home,
    stage: Stage,
    /// The count of the newest release that was followed here.
    newest: u64,
}

impl Upgrade {
    /// None is under way.
    pub(crate) fn new(data: &Path) -> Self {
        Self { home: Home::of_this_machine(), stage: Stage::None, newest: recall(data) }
    }

    /// Whether it is to be looked at again and again.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::None | Stage::Ended(_))
    }

    /// Whether this blob was asked for here.
    pub(crate) fn wants(&self, digest: Digest) -> bool {
        matches!(&self.stage, Stage::Fetching(wanted) if wanted.release.package.digest == digest)
    }

    /// The coordinator wants this agent to be another version, or not any more.
    pub(crate) fn told(&mut self, signed: Option<Signed>, me: &Me, now: Timestamp) -> Vec<Doing> {
        let Some(signed) = signed else { return self.never_mind() };
        match &self.stage {
            Stage::Fetching(wanted) | Stage::GivingWay { wanted, .. } | Stage::Placing(wanted) | Stage::Given { wanted, .. }
                if wanted.signed == signed =>
            {
                return vec![self.report(&self.stage)];
            }
            Stage::None
            | Stage::Fetching(_)
            | Stage::GivingWay { .. }
            | Stage::Placing(_)
            | Stage::Given { .. }
            | Stage::Ended(_) => {}
        }
        // What is with the installer is done with first.
        if matches!(self.stage, Stage::Placing(_) | Stage::Given { .. }) {
            return Vec::new();
        }
        let mut doings = self.never_mind();
        self.stage = match self.check(&signed, me, now) {
            Ok(release) => {
                doings.push(Doing::Fetch(release.package));
                self.newest = release.count;
                Stage::Fetching(Wanted { release, signed })
            }
            Err(Refusal { count, step }) => Stage::Ended(UpgradeReport { count, step }),
        };
        doings.push(self.report(&self.stage));
        doings
    }

    /// What became of the package's way here.
    pub(crate) fn fetched(&mut self, result: Result<(), String>, now: Timestamp) -> Vec<Doing> {
        let Stage::Fetching(wanted) = std::mem::replace(&mut self.stage, Stage::None) else { return Vec::new() };
        match result {
            Ok(()) => {
                self.stage = Stage::GivingWay { wanted, until: now + GIVE_WAY_MAX };
                vec![Doing::GiveWay(true)]
            }
            Err(reason) => self.failed(&wanted, format!("the package could not be fetched: {reason}")),
        }
    }

    /// Looks at what has happened meanwhile. `idle`: nothing runs here, and what was here is elsewhere.
    pub(crate) fn look(&mut self, idle: bool, now: Timestamp) -> Vec<Doing> {
        match &self.stage {
            Stage::GivingWay { wanted, until } if idle || *until <= now => {
                let wanted = wanted.clone();
                self.stage = Stage::Placing(wanted.clone());
                vec![Doing::Place(Box::new(wanted))]
            }
            Stage::Given { wanted, until } => {
                let (wanted, late) = (wanted.clone(), *until <= now);
                match self.home.outcome() {
                    Some(Outcome { count, failed: Some(reason), .. }) if count == wanted.release.count => {
                        self.failed(&wanted, reason)
                    }
                    _ if late => self.failed(&wanted, format!("the installer did not come\nhint: {}", sys::INSTALLER_HINT)),
                    _ => Vec::new(),
                }
            }
            Stage::None | Stage::Fetching(_) | Stage::GivingWay { .. } | Stage::Placing(_) | Stage::Ended(_) => Vec::new(),
        }
    }

    /// The package is in the folder and its installer was called, or why not.
    pub(crate) fn placed(&mut self, result: Result<(), String>, now: Timestamp) -> Vec<Doing> {
        let Stage::Placing(wanted) = std::mem::replace(&mut self.stage, Stage::None) else { return Vec::new() };
        match result {
            Ok(()) => {
                let unpin = Doing::Unpin(wanted.release.package.digest);
                self.stage = Stage::Given { wanted, until: now + INSTALLER_TIME_MAX };
                vec![unpin, self.report(&self.stage)]
            }
            Err(reason) => self.failed(&wanted, format!("it could not be handed over: {reason}")),
        }
    }

    fn never_mind(&mut self) -> Vec<Doing> {
        match std::mem::replace(&mut self.stage, Stage::None) {
            Stage::Fetching(wanted) => vec![Doing::Unpin(wanted.release.package.digest)],
            Stage::GivingWay { wanted, .. } => vec![Doing::Unpin(wanted.release.package.digest), Doing::GiveWay(false)],
            // The installer does not hear it.
            stage @ (Stage::Placing(_) | Stage::Given { .. }) => {
                self.stage = stage;
                Vec::new()
            }
            Stage::None | Stage::Ended(_) => Vec::new(),
        }
    }

    fn failed(&mut self, wanted: &Wanted, reason: String) -> Vec<Doing> {
        tracing::warn!(version = wanted.release.version, reason, "the upgrade did not come about; this version goes on");
        let report = UpgradeReport { count: wanted.release.count, step: UpgradeStep::Failed { reason } }.bounded();
        self.stage = Stage::Ended(report);
        vec![Doing::Unpin(wanted.release.package.digest), Doing::GiveWay(false), self.report(&self.stage)]
    }

    fn check(&self, signed: &Signed, me: &Me, now: Timestamp) -> Result<Release, Refusal> {
        let platform = Platform::here();
        let here = Here { authority: &me.authority, network: me.network, platform, version: version(), count_min: self.newest };
        let release = Release::check(signed, &here, now).map_err(|unfit| Refusal::of(signed, unfit.to_string()))?;
        let refused = |reason: String| Refusal { count: release.count, step: UpgradeStep::Refused { reason } };
        if let Some(Outcome { count, failed: Some(reason), .. }) = self.home.outcome()
            && count == release.count
        {
            return Err(Refusal { count, step: UpgradeStep::Failed { reason } });
        }
        if !me.allowed {
            return Err(refused("its policy refuses upgrades by the network (`upgrades`)".into()));
        }
        match self.home.trust() {
            Ok(Some(trust)) if trust.is(&me.authority, me.network) => Ok(release),
            Ok(Some(_)) => Err(refused("its administrator trusts another network with upgrades".into())),
            Ok(None) => Err(refused(format!("its administrator has not allowed it\nhint: {}", sys::TRUST_HINT))),
            Err(error) => Err(refused(format!("whom its administrator trusts with upgrades cannot be read: {error}"))),
        }
    }

    fn report(&self, stage: &Stage) -> Doing {
        let step = |wanted: &Wanted, step| UpgradeReport { count: wanted.release.count, step };
        Doing::Say(match stage {
            Stage::Fetching(wanted) | Stage::GivingWay { wanted, .. } | Stage::Placing(wanted) => {
                step(wanted, UpgradeStep::Fetching)
            }
            Stage::Given { wanted, .. } => step(wanted, UpgradeStep::Given),
            Stage::Ended(report) => report.clone(),
            Stage::None => UpgradeReport { count: self.newest, step: UpgradeStep::Fetching },
        })
    }
}

/// A release that is not followed, as it is told.
struct Refusal {
    count: u64,
    step: UpgradeStep,
}

impl Refusal {
    /// Of one that was not believed: the coordinator knows which one it said.
    fn of(signed: &Signed, reason: String) -> Self {
        let count = codec::decode::<Release>(&signed.body).map_or(0, |release| release.count);
        Self { count, step: UpgradeStep::Refused { reason } }
    }
}

/// The count of the newest release that was followed here.
fn recall(data: &Path) -> u64 {
    let file = data.join(HANDED).join("count");
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Puts a package into the folder for its installer, the release last, and has the installer called.
pub(crate) fn place(data: &Path, cached: &Path, wanted: &Wanted) -> io::Result<()> {
    let folder = data.join(HANDED);
    files::make_private_folder(&folder)?;
    let (package, release) = (folder.join(PACKAGE), folder.join(RELEASE));
    // What came before it is over.
    files::remove_if_there(&release)?;
    files::remove_if_there(&package)?;
    fs::copy(cached, &package)?;
    files::sync_file(&package)?;
    files::replace_private(&folder.join("count"), wanted.release.count.to_string().as_bytes())?;
    files::replace_private(&release, &codec::encode(&wanted.signed))?;
    sys::call_installer().map_err(io::Error::other)
}

/// Where an installer finds what an agent with this data folder hands over.
pub fn handed(data: &Path) -> PathBuf {
    data.join(HANDED)
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use lull_shared::{
        id::Term,
        identity::{TermProof, sign},
    };

    use super::*;

    struct World {
        upgrade: Upgrade,
        key: Keypair,
        me: Me,
        now: Timestamp,
        _folder: tempfile::TempDir,
    }

    const NETWORK: NetworkId = NetworkId([3; 16]);

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let home = Home::at(folder.path());
            let key = Keypair::generate_ed25519();
            let me = Me { authority: Authority::of(&key), network: NETWORK, allowed: true };
            home.write_trust(&me.authority, NETWORK).expect("written");
            let upgrade = Upgrade { home, stage: Stage::None, newest: 5 };
            Self { upgrade, key, me, now: Timestamp::from_millis(1_000), _folder: folder }
        }

        fn release(&self, count: u64) -> Signed {
            let platform = Platform::here().unwrap_or(Platform::DebAmd64);
            let (version, package) = ("99.0.0".to_owned(), BlobRef::of(b"package"));
            let expires = self.now + Duration::from_secs(9_999_999);
            sign(&self.key, &Release { network: NETWORK, platform, version, package, count, expires })
        }

        fn told(&mut self, signed: &Signed) -> Vec<Doing> {
            self.upgrade.told(Some(signed.clone()), &self.me, self.now)
        }

        /// Told, fetched, idle, placed.
        fn given(&mut self, count: u64) -> Vec<Doing> {
            let signed = self.release(count);
            self.told(&signed);
            self.upgrade.fetched(Ok(()), self.now);
            self.upgrade.look(true, self.now);
            self.upgrade.placed(Ok(()), self.now)
        }
    }

    fn says(doings: &[Doing]) -> Vec<UpgradeStep> {
        let said = |doing: &Doing| if let Doing::Say(report) = doing { Some(report.step.clone()) } else { None };
        doings.iter().filter_map(said).collect()
    }

    fn refusal(doings: &[Doing]) -> String {
        match &says(doings)[..] {
            [UpgradeStep::Refused { reason }] => reason.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn work_is_given_away_before_the_package_is_handed_over() {
        let mut world = World::new();
        let signed = world.release(7);
        let package = BlobRef::of(b"package");
        let doings = world.told(&signed);
        assert_eq!((&doings[0], says(&doings)), (&Doing::Fetch(package), vec![UpgradeStep::Fetching]));
        assert!(world.upgrade.wants(package.digest) && !world.upgrade.wants(Digest::of(b"x")));
        assert_eq!(world.upgrade.fetched(Ok(()), world.now), [Doing::GiveWay(true)]);
        assert_eq!(world.upgrade.look(false, world.now), [], "something runs still");
        let doings = world.upgrade.look(true, world.now);
        assert!(matches!(&doings[..], [Doing::Place(wanted)] if wanted.signed == signed));
        let doings = world.upgrade.placed(Ok(()), world.now);
        assert_eq!((&doings[0], says(&doings)), (&Doing::Unpin(package.digest), vec![UpgradeStep::Given]));
        assert_eq!(says(&world.told(&signed)), [UpgradeStep::Given], "it is said again on a new stream");
    }

    #[test]
    fn what_does_not_end_is_waited_for_a_minute_at_most() {
        let mut world = World::new();
        let signed = world.release(7);
        world.told(&signed);
        world.upgrade.fetched(Ok(()), world.now);
        let late = world.now + GIVE_WAY_MAX;
        assert!(matches!(&world.upgrade.look(false, late)[..], [Doing::Place(_)]));
    }

    #[test]
    fn an_installer_that_fails_or_does_not_come_leaves_this_version_at_work() {
        let mut world = World::new();
        world.given(7);
        assert_eq!(world.upgrade.look(true, world.now), []);
        world.upgrade.home.tell(7, "99.0.0", Err("dpkg ended with 1".into())).expect("written");
        let doings = world.upgrade.look(true, world.now);
        assert!(doings.contains(&Doing::GiveWay(false)));
        let failed = || vec![UpgradeStep::Failed { reason: "dpkg ended with 1".into() }];
        assert_eq!(says(&doings), failed());
        let again = world.release(7);
        assert_eq!(says(&world.told(&again)), failed(), "after a restart too, and not tried again");
        world.given(8);
        let late = world.now + INSTALLER_TIME_MAX;
        let doings = world.upgrade.look(true, late);
        assert!(
            matches!(&says(&doings)[..], [UpgradeStep::Failed { reason }] if reason.starts_with("the installer did not come"))
        );
    }

    #[test]
    fn who_must_not_be_followed_is_refused_with_the_reason() {
        let mut world = World::new();
        let old = world.release(4);
        assert_eq!(refusal(&world.told(&old)), "it is release 4, and release 4 was followed already");
        let strange = sign(&world.key, &TermProof { network: NETWORK, term: Term(9) });
        assert!(refusal(&world.told(&strange)).starts_with("nobody vouches for it"));
        world.me.allowed = false;
        let signed = world.release(8);
        assert!(refusal(&world.told(&signed)).contains("policy"));
        world.me.allowed = true;
        world.upgrade.home.write_trust(&Authority::of(&Keypair::generate_ed25519()), NETWORK).expect("written");
        assert!(refusal(&world.told(&signed)).contains("another network"));
        world.upgrade.home = Home::at(Path::new("/nowhere"));
        assert!(refusal(&world.told(&signed)).contains("has not allowed it"));
    }

    #[test]
    fn a_rollout_that_stops_is_left_unless_the_installer_has_it() {
        let mut world = World::new();
        let signed = world.release(7);
        world.told(&signed);
        world.upgrade.fetched(Ok(()), world.now);
        let doings = world.upgrade.told(None, &world.me, world.now);
        assert!(doings.contains(&Doing::GiveWay(false)) && !world.upgrade.is_under_way());
        world.given(8);
        assert_eq!(world.upgrade.told(None, &world.me, world.now), []);
        assert!(world.upgrade.is_under_way());
    }

    #[test]
    fn the_release_appears_in_the_folder_after_its_package() {
        let mut world = World::new();
        let signed = world.release(7);
        world.told(&signed);
        let Stage::Fetching(wanted) = world.upgrade.stage.clone() else { panic!("it was told") };
        let data = tempfile::tempdir().expect("a folder");
        let cached = data.path().join("cached");
        fs::write(&cached, b"package").expect("written");
        // Where no installer can be called, the package is there all the same.
        let _ = place(data.path(), &cached, &wanted);
        let folder = handed(data.path());
        assert_eq!(fs::read(folder.join(PACKAGE)).expect("the package"), b"package");
        let release = fs::read(folder.join(RELEASE)).expect("the release");
        assert_eq!(codec::decode::<Signed>(&release), Ok(signed));
        assert_eq!(recall(data.path()), 7);
    }
}
