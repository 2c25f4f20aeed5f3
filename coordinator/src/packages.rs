//! What a package of an agent is: its kind and its version, read from the file itself.
//!
//! ```text
//! lull-agent_VERSION_amd64.deb   an archive of `ar`: debian-binary, control.tar.gz, data.tar.*; its control file has the version
//! lull-agent-VERSION-x64.msi     a database of Windows Installer: its table of properties has the version
//! ```

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use flate2::read::GzDecoder;
use lull_shared::release::{PACKAGE_BYTES_MAX, Platform, version};

/// What a package of Debian's begins with.
const AR: &[u8; 8] = b"!<arch>\n";
/// What a database of Windows Installer begins with.
const COMPOUND: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// A member's header in an archive of `ar`, and a block of `tar`.
const MEMBER_BYTES: usize = 60;
const BLOCK_BYTES: usize = 512;
/// The control part with its scripts, unpacked: ours have some kilobytes.
const CONTROL_BYTES_MAX: u64 = 1024 * 1024;
/// What the packages of the agent are called inside.
const PACKAGE: &str = "lull-agent";
const PRODUCT: &str = "Lull Agent";

/// A package of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub platform: Platform,
    pub version: String,
    pub size_bytes: u64,
}

/// A file that is none.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    #[error("it is no package of an agent\nhint: name a lull-agent_VERSION_amd64.deb or a lull-agent-VERSION-x64.msi")]
    Kind,
    #[error("it is a package of {0}\nhint: agents are upgraded by lull-agent_VERSION_amd64.deb and lull-agent-VERSION-x64.msi")]
    Other(String),
    #[error("it is a package for {0}\nhint: agents on amd64 (x86-64) are upgraded over the mesh, others by hand")]
    Architecture(String),
    #[error("it has {0} bytes, and {PACKAGE_BYTES_MAX} are the most")]
    Size(u64),
    #[error("its version `{0}` is none\nhint: versions are like 0.2.0 or 0.2.0-rc.1")]
    Version(String),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Looks into a file.
pub fn look(path: &Path) -> Result<Package, PackageError> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    if size_bytes > PACKAGE_BYTES_MAX {
        return Err(PackageError::Size(size_bytes));
    }
    let (platform, version) = read(BufReader::new(file))?;
    Ok(Package { platform, version, size_bytes })
}

fn read(mut file: impl Read + Seek) -> Result<(Platform, String), PackageError> {
    let mut begins = [0; 8];
    file.read_exact(&mut begins).map_err(|_| PackageError::Kind)?;
    let (platform, found) = match begins {
        begins if begins == *AR => (Platform::DebAmd64, debian(file)?),
        COMPOUND => (Platform::MsiX64, windows(file)?),
        _ => return Err(PackageError::Kind),
    };
    // A pre-release of Debian's comes before its release.
    let found = found.replace('~', "-");
    version(&found).map_err(|_| PackageError::Version(found.chars().take(64).collect()))?;
    Ok((platform, found))
}

/// The version in the control file of an archive, which begins after its magic.
fn debian(mut file: impl Read + Seek) -> Result<String, PackageError> {
    loop {
        let mut header = [0; MEMBER_BYTES];
        file.read_exact(&mut header).map_err(|_| PackageError::Damaged("it has no control part"))?;
        let field = |from: usize, to: usize| std::str::from_utf8(&header[from..to]).unwrap_or_default().trim_end();
        let size: u64 = field(48, 58).parse().map_err(|_| PackageError::Damaged("a part has no size"))?;
        if field(0, 16).trim_end_matches('/') == "control.tar.gz" {
            let mut tar = Vec::new();
            GzDecoder::new(file.take(size)).take(CONTROL_BYTES_MAX).read_to_end(&mut tar)?;
            return of_control(&control(&tar).ok_or(PackageError::Damaged("it has no control file"))?);
        }
        if field(0, 16).starts_with("data.tar") {
            return Err(PackageError::Damaged("its control part is packed in a way that is not known here"));
        }
        let rest = i64::try_from(size + size % 2).map_err(|_| PackageError::Damaged("a part is too large"))?;
        file.seek_relative(rest)?;
    }
}

/// The text of the control file in an archive of `tar`.
fn control(tar: &[u8]) -> Option<String> {
    let mut at = 0;
    loop {
        let header = tar.get(at..at + BLOCK_BYTES)?;
        let text = |from: usize, to: usize| {
            let field = header.get(from..to)?;
            std::str::from_utf8(field.split(|byte| *byte == 0).next()?).ok()
        };
        let size = usize::from_str_radix(text(124, 136)?.trim(), 8).ok()?;
        let body = at + BLOCK_BYTES;
        if text(0, 100)?.trim_start_matches("./") == "control" {
            return String::from_utf8(tar.get(body..body.checked_add(size)?)?.to_vec()).ok();
        }
        at = body.checked_add(size.div_ceil(BLOCK_BYTES).checked_mul(BLOCK_BYTES)?)?;
    }
}

fn of_control(control: &str) -> Result<String, PackageError> {
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    match (field("Package"), field("Architecture"), field("Version")) {
        (Some(PACKAGE), Some("amd64"), Some(version)) => Ok(version.to_owned()),
        (Some(PACKAGE), Some(other), Some(_)) => Err(PackageError::Architecture(other.to_owned())),
        (Some(other), _, _) if other != PACKAGE => Err(PackageError::Other(other.to_owned())),
        _ => Err(PackageError::Damaged("its control file says too little")),
    }
}

/// The version among the properties of an installer's database.
fn windows(file: impl Read + Seek) -> Result<String, PackageError> {
    let damaged = |_: io::Error| PackageError::Damaged("it is no database of an installer");
    let mut package = msi::Package::open(file).map_err(damaged)?;
    let architecture = package.summary_info().arch().unwrap_or_default().to_owned();
    let rows = package.select_rows(msi::Select::table("Property")).map_err(damaged)?;
    let properties: Vec<(String, String)> =
        rows.filter_map(|row| Some((row["Property"].as_str()?.to_owned(), row["Value"].as_str()?.to_owned()))).collect();
    let property = |name: &str| properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match (property("ProductName"), property("ProductVersion")) {
        (Some(name), Some(_)) if name != PRODUCT => Err(PackageError::Other(name)),
        (Some(_), Some(_)) if architecture != "x64" => Err(PackageError::Architecture(architecture)),
        (Some(_), Some(version)) => Ok(version),
        _ => Err(PackageError::Damaged("it does not say what it installs")),
    }
}

/// Packages that hold nothing, for tests.
#[doc(hidden)]
pub mod made_up {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    /// A package of Debian's with this control file.
    pub fn debian(control: &str) -> Vec<u8> {
        let mut tar = vec![0; 512];
        tar[..9].copy_from_slice(b"./control");
        tar[124..135].copy_from_slice(format!("{:011o}", control.len()).as_bytes());
        tar.extend_from_slice(control.as_bytes());
        tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&tar).and_then(|()| packed.flush()).expect("a vector takes all");
        let packed = packed.finish().expect("a vector takes all");
        let mut file = b"!<arch>\n".to_vec();
        for (name, body) in [("debian-binary", b"2.0\n".as_slice()), ("control.tar.gz", &packed), ("data.tar", &[0; 1024])] {
            file.extend_from_slice(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", body.len()).as_bytes());
            file.extend_from_slice(body);
            file.resize(file.len().next_multiple_of(2), b'\n');
        }
        file
    }

    /// One of an agent of this version.
    pub fn agent(version: &str) -> Vec<u8> {
        debian(&format!("Package: lull-agent\nVersion: {version}\nArchitecture: amd64\nDescription: made up\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn found(bytes: &[u8]) -> Result<(Platform, String), String> {
        read(Cursor::new(bytes)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_package_of_debians_says_its_version_and_pre_releases_come_before_their_release() {
        assert_eq!(found(&made_up::agent("0.2.0")), Ok((Platform::DebAmd64, "0.2.0".into())));
        assert_eq!(found(&made_up::agent("0.2.0~rc.1")), Ok((Platform::DebAmd64, "0.2.0-rc.1".into())));
    }

    #[test]
    fn what_is_no_package_of_an_agent_is_refused_with_what_it_is() {
        let wrong = |control: &str| found(&made_up::debian(control)).expect_err(control);
        assert!(wrong("Package: lull\nVersion: 1.0.0\nArchitecture: amd64\n").starts_with("it is a package of lull\n"));
        assert!(wrong("Package: lull-agent\nVersion: 1.0.0\nArchitecture: arm64\n").starts_with("it is a package for arm64\n"));
        assert!(wrong("Package: lull-agent\nVersion: 1.0-1\nArchitecture: amd64\n").starts_with("its version `1.0-1` is none"));
        assert!(wrong("Package: lull-agent\n").starts_with("it is damaged"));
        assert!(found(b"MZ").expect_err("too short").starts_with("it is no package"));
        assert!(found(&[b"!<arch>\n".as_slice(), &[b'9'; 200]].concat()).is_err());
    }

    #[test]
    fn a_windows_installer_says_its_version() {
        let mut package = msi::Package::create(msi::PackageType::Installer, Cursor::new(Vec::new())).expect("a database");
        package.summary_info_mut().set_arch("x64");
        let columns = vec![
            msi::Column::build("Property").primary_key().id_string(72),
            msi::Column::build("Value").nullable().text_string(0),
        ];
        package.create_table("Property", columns).expect("a table");
        let row = |key: &str, value: &str| vec![msi::Value::from(key), msi::Value::from(value)];
        let rows = vec![row("ProductName", PRODUCT), row("ProductVersion", "0.2.0")];
        package.insert_rows(msi::Insert::into("Property").rows(rows)).expect("rows");
        let bytes = package.into_inner().expect("it is written").into_inner();
        assert_eq!(found(&bytes), Ok((Platform::MsiX64, "0.2.0".into())));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>(), byte: u8) {
            let _ = found(&[AR.as_slice(), &bytes].concat());
            let mut damaged = made_up::agent("0.2.0");
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let _ = found(&damaged);
            let _ = control(&bytes);
        }
    }
}
