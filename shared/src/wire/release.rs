//! How agents are upgraded: what the network's authority vouches for, and what an agent makes of it.
//!
//! A [`Release`] names a package by its digest; the package itself travels like any blob. Whoever gives it to an installer
//! checks all of it first ([`Release::check`]): the agent, and after it, by itself again, the part that has the right to install.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{
    codec,
    digest::BlobRef,
    identity::{Authority, Claim, ClaimError, NetworkId, Signed, verify},
    resources::Machine,
    time::Timestamp,
};

/// A package of an agent: a tenth of it today.
pub const PACKAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Words about an upgrade that did not come about.
pub const REASON_BYTES_MAX: usize = 512;
/// A signed release, encoded: some hundred bytes.
pub const RELEASE_BYTES_MAX: usize = 4 * 1024;
/// The longest version, such as `1.12.0-rc.1`.
pub const VERSION_BYTES_MAX: usize = 64;

/// What a package is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Platform {
    /// Debian and its like, on x86-64.
    DebAmd64,
    /// Windows, on x86-64.
    MsiX64,
}

impl Platform {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The platform with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// That of a machine; none if no package is made for it.
    pub fn of(machine: &Machine) -> Option<Self> {
        Self::named(&machine.os, &machine.arch)
    }

    /// That of this machine.
    pub fn here() -> Option<Self> {
        Self::named(std::env::consts::OS, std::env::consts::ARCH)
    }

    fn named(os: &str, arch: &str) -> Option<Self> {
        match (os, arch) {
            ("linux", "x86_64") => Some(Self::DebAmd64),
            ("windows", "x86_64") => Some(Self::MsiX64),
            _ => None,
        }
    }
}

/// The authority's word that agents of a platform are to become this version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub network: NetworkId,
    pub platform: Platform,
    pub version: String,
    pub package: BlobRef,
    /// Rises with each release that the network signs: an older one is never followed again.
    pub count: u64,
    /// From then on nobody follows it.
    pub expires: Timestamp,
}

impl Claim for Release {
    const KIND: &'static str = "lull release 1";
}

/// Who looks at a release, and what they know already.
#[derive(Debug, Clone)]
pub struct Here<'a> {
    pub authority: &'a Authority,
    pub network: NetworkId,
    pub platform: Option<Platform>,
    /// The version that is there.
    pub version: &'a str,
    /// Releases with a lower count are over.
    pub count_min: u64,
}

/// A release that is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("nobody vouches for it: {0}")]
    Claim(#[from] ClaimError),
    #[error("it is of another network")]
    Network,
    #[error("it is for {}, and this machine is another kind", .0.as_str())]
    Platform(Platform),
    #[error("it was good until {0}")]
    Expired(Timestamp),
    #[error("it is release {count}, and release {newest} was followed already")]
    Over { count: u64, newest: u64 },
    #[error("it is version {offered}, and {here} is here")]
    NotNewer { offered: String, here: String },
    #[error("`{0}` is no version")]
    Version(String),
    #[error("a package of {0} bytes is none")]
    Size(u64),
}

impl Release {
    /// The release that these bytes are, if the authority signed it for this network and platform, and it leads forward.
    pub fn check(signed: &Signed, here: &Here<'_>, now: Timestamp) -> Result<Self, Unfit> {
        let release: Self = verify(here.authority, signed)?;
        if release.network != here.network {
            return Err(Unfit::Network);
        }
        if here.platform != Some(release.platform) {
            return Err(Unfit::Platform(release.platform));
        }
        if release.expires <= now {
            return Err(Unfit::Expired(release.expires));
        }
        if release.count < here.count_min {
            return Err(Unfit::Over { count: release.count, newest: here.count_min.saturating_sub(1) });
        }
        if !is_older(here.version, &release.version)? {
            return Err(Unfit::NotNewer { offered: release.version, here: here.version.to_owned() });
        }
        match release.package.size_bytes {
            1..=PACKAGE_BYTES_MAX => Ok(release),
            size => Err(Unfit::Size(size)),
        }
    }
}

/// Whether one version comes before another.
pub fn is_older(one: &str, other: &str) -> Result<bool, Unfit> {
    Ok(version(one)? < version(other)?)
}

/// A version as it is compared.
pub fn version(text: &str) -> Result<Version, Unfit> {
    let wrong = || Unfit::Version(text.chars().take(VERSION_BYTES_MAX).collect());
    if text.len() > VERSION_BYTES_MAX { Err(wrong()) } else { Version::parse(text).map_err(|_| wrong()) }
}

/// The signed release in a file that was handed over.
pub fn decode(bytes: &[u8]) -> Result<Signed, codec::DecodeError> {
    codec::decode(bytes)
}

/// How far an agent is with a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// [`Release::count`].
    pub count: u64,
    pub step: UpgradeStep,
}

/// A step of an upgrade at an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpgradeStep {
    /// It does not follow this release, and why.
    Refused { reason: String },
    /// It fetches the package, and goes on working meanwhile.
    Fetching,
    /// The installer has it: the agent ends soon, and comes back as the new version.
    Given,
    /// The installer has not installed it, and why: the version from before goes on.
    Failed { reason: String },
}

impl UpgradeReport {
    /// The same with words no longer than anybody takes.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let UpgradeStep::Refused { reason } | UpgradeStep::Failed { reason } = &mut self.step {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;
    use crate::identity::{Certificate, sign};

    const NETWORK: NetworkId = NetworkId([3; 16]);

    fn release() -> Release {
        Release {
            network: NETWORK,
            platform: Platform::DebAmd64,
            version: "0.2.0".into(),
            package: BlobRef::of(b"a package"),
            count: 7,
            expires: Timestamp::from_millis(1_000),
        }
    }

    fn judged(change: impl FnOnce(&mut Release), count_min: u64) -> Result<Release, Unfit> {
        let key = Keypair::generate_ed25519();
        let (authority, mut release) = (Authority::of(&key), release());
        change(&mut release);
        let here =
            Here { authority: &authority, network: NETWORK, platform: Some(Platform::DebAmd64), version: "0.1.0", count_min };
        Release::check(&sign(&key, &release), &here, Timestamp::from_millis(999))
    }

    #[test]
    fn a_release_leads_forward_in_time_count_and_version_or_not_at_all() {
        assert_eq!(judged(|_| {}, 7), Ok(release()), "the same one may be told again");
        assert_eq!(judged(|_| {}, 8), Err(Unfit::Over { count: 7, newest: 7 }));
        let not_newer = |offered: &str| Err(Unfit::NotNewer { offered: offered.into(), here: "0.1.0".into() });
        for version in ["0.1.0", "0.0.9", "0.1.0-rc.1"] {
            assert_eq!(judged(|release| release.version = version.into(), 0), not_newer(version));
        }
        assert!(judged(|release| release.version = "0.10.0".into(), 0).is_ok(), "numbers are compared as numbers");
        assert!(judged(|release| release.version = "1".into(), 0).is_err() && is_older("0.1.0", &"1".repeat(99)).is_err());
        let instant = Timestamp::from_millis(999);
        assert_eq!(judged(|release| release.expires = instant, 0), Err(Unfit::Expired(instant)));
    }

    #[test]
    fn a_release_of_another_network_platform_or_key_is_not_followed() {
        assert_eq!(judged(|release| release.network = NetworkId([4; 16]), 0), Err(Unfit::Network));
        assert_eq!(judged(|release| release.platform = Platform::MsiX64, 0), Err(Unfit::Platform(Platform::MsiX64)));
        assert_eq!(judged(|release| release.package.size_bytes = 0, 0), Err(Unfit::Size(0)));
        let large = PACKAGE_BYTES_MAX + 1;
        assert_eq!(judged(|release| release.package.size_bytes = large, 0), Err(Unfit::Size(large)));
        let (key, stranger) = (Keypair::generate_ed25519(), Authority::of(&Keypair::generate_ed25519()));
        let here = Here { authority: &stranger, network: NETWORK, platform: None, version: "0.1.0", count_min: 0 };
        let signed = sign(&key, &release());
        assert_eq!(Release::check(&signed, &here, Timestamp::default()), Err(Unfit::Claim(ClaimError::Signature)));
        assert_eq!(verify::<Certificate>(&Authority::of(&key), &signed), Err(ClaimError::Signature), "nor is it something else");
    }

    #[test]
    fn words_from_elsewhere_are_cut() {
        let long = UpgradeReport { count: 1, step: UpgradeStep::Failed { reason: "ä".repeat(1_000) } };
        let UpgradeStep::Failed { reason } = long.bounded().step else { panic!("it failed") };
        assert_eq!(reason.len(), REASON_BYTES_MAX);
    }

    #[test]
    fn every_platform_has_a_word_and_machines_without_packages_have_none() {
        for platform in [Platform::DebAmd64, Platform::MsiX64] {
            assert_eq!(Platform::from_word(platform.as_str()), Some(platform));
        }
        assert_eq!((Platform::named("linux", "aarch64"), Platform::named("windows", "x86_64")), (None, Some(Platform::MsiX64)));
    }
}
