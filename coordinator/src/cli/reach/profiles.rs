//! The profiles of this account: coordinators with a token each, one of which is in use. Files that their owner alone can
//! read, in a folder of this account's settings.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use directories::ProjectDirs;
use lull_shared::{alike, amount::quoted};
use serde::{Deserialize, Serialize};

use crate::{
    api::{PROFILE_VERSION, ProfileFile, ServerAddress},
    cli::exit::{Exit, Failure},
    client, keys,
    pin::Address,
    store::record::TokenRole,
};

/// What is behind every profile's name.
const EXTENSION: &str = "toml";
/// The file that names the one in use.
const CURRENT: &str = "current";
/// A file that somebody gives is some hundred bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The port that is not worth a word in a name.
const USUAL_PORT: u16 = 7411;
const NAME_BYTES_MAX: usize = 64;

/// One coordinator, or several that share a store, and who asks there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// The first that answers is asked.
    pub servers: Vec<ServerAddress>,
    pub token: String,
    /// What the token allowed when it was made, and until when it is valid, as far as that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<TokenRole>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<jiff::Timestamp>,
}

impl Profile {
    /// Where the coordinators are.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.servers.iter().map(|server| Address::new(server.url.clone(), server.pin)).collect()
    }

    /// Whether its token was valid until before now.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= jiff::Timestamp::now())
    }

    /// The address that people know it by.
    pub(crate) fn url(&self) -> &str {
        self.servers.first().map_or("", |server| server.url.as_str())
    }
}

impl From<ProfileFile> for Profile {
    fn from(file: ProfileFile) -> Self {
        Self { servers: file.servers, token: file.token, role: Some(file.role), expires: Some(file.expires) }
    }
}

/// The folder of this account's profiles.
#[derive(Debug, Clone)]
pub(crate) struct Profiles {
    folder: PathBuf,
}

impl Profiles {
    /// Those of whoever runs this.
    pub(crate) fn of_account() -> Result<Self, Failure> {
        let folders = ProjectDirs::from("", "", "lull").ok_or_else(|| {
            Failure::usage("this account has no home folder").hint("name a coordinator with --server or --data")
        })?;
        Ok(Self { folder: folders.config_dir().join("profiles") })
    }

    #[cfg(test)]
    pub(crate) fn within(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Their names in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::unreadable(&self.folder, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Failure::unreadable(&self.folder, &error))?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).filter(|name| check_name(name).is_ok());
            if let Some(name) = name.filter(|_| path.extension().is_some_and(|extension| extension == EXTENSION)) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The one of this name.
    pub(crate) fn named(&self, name: &str) -> Result<Profile, Failure> {
        let known = || -> Result<Failure, Failure> {
            let names = self.names()?;
            let meant = alike::question(name, names.iter().map(String::as_str));
            let hint =
                format!("{meant}`lull profile list` shows those of this account, `lull profile import FILE` brings one in");
            Ok(Failure::new(Exit::NotFound, format!("there is no profile {}", quoted(name))).hint(hint))
        };
        if check_name(name).is_err() {
            return Err(known()?);
        }
        match self.read(name)? {
            Some(profile) => Ok(profile),
            None => Err(known()?),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Profile>, Failure> {
        let path = self.path(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::unreadable(&path, &error)),
        };
        match toml::from_str::<Profile>(&text) {
            Ok(profile) if !profile.servers.is_empty() => Ok(Some(profile)),
            Ok(_) | Err(_) => Err(Failure::new(Exit::Failed, format!("the profile {name} is damaged: {}", path.display()))
                .hint(format!("`lull profile remove {name}` forgets it; then import it again, or `lull login`"))),
        }
    }

    /// The one in use, by its name.
    pub(crate) fn current(&self) -> Result<Option<String>, Failure> {
        let path = self.folder.join(CURRENT);
        match fs::read_to_string(&path) {
            Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| check_name(name).is_ok() && self.path(name).exists())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::unreadable(&path, &error)),
        }
    }

    /// Keeps one under this name; says where.
    pub(crate) fn keep(&self, name: &str, profile: &Profile) -> Result<PathBuf, Failure> {
        let text = toml::to_string(profile).map_err(anyhow::Error::from)?;
        keys::private_folder(&self.folder).map_err(anyhow::Error::from)?;
        keys::write_private(&self.path(name), text.as_bytes()).map_err(anyhow::Error::from)?;
        Ok(self.path(name))
    }

    /// Uses the one of this name from now on.
    pub(crate) fn choose(&self, name: &str) -> Result<(), Failure> {
        keys::private_folder(&self.folder).map_err(anyhow::Error::from)?;
        Ok(keys::write_private(&self.folder.join(CURRENT), name.as_bytes()).map_err(anyhow::Error::from)?)
    }

    /// Forgets one, damaged or not; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, Failure> {
        let gone = |path: &Path| match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::unreadable(path, &error)),
        };
        if self.current()?.as_deref() == Some(name) {
            gone(&self.folder.join(CURRENT))?;
        }
        gone(&self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{EXTENSION}"))
    }
}

/// Whether a profile can have this name: it is a file's, too.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let hint = "use letters, digits, `-`, `_` and `.`, beginning with a letter or digit";
    if fits { Ok(()) } else { Err(format!("{} cannot be the name of a profile\nhint: {hint}", quoted(name))) }
}

/// What a profile for this address is called: by its host, and by its port if that is not the usual one.
pub(crate) fn name_for(url: &str) -> String {
    let parsed = client::url(url).and_then(|url| reqwest::Url::parse(&url).ok());
    let host = parsed.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let port = parsed.as_ref().and_then(reqwest::Url::port).filter(|port| *port != USUAL_PORT);
    let whole = port.map_or_else(|| host.to_owned(), |port| format!("{host}-{port}"));
    let plain: String = whole.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let name: String = plain.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "default".to_owned() } else { name }
}

/// What somebody was given as a profile.
pub(crate) fn read_file(path: &Path) -> Result<ProfileFile, Failure> {
    let metadata = fs::metadata(path).map_err(|error| Failure::unreadable(path, &error))?;
    let shown = path.display();
    let no = |what: &str| {
        Failure::new(Exit::Failed, format!("{shown} {what}"))
            .hint("copy the file whole, or ask an administrator for a new one: `lull profile create` writes it")
    };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(no("is no profile: it is too large"));
    }
    let bytes = fs::read(path).map_err(|error| Failure::unreadable(path, &error))?;
    let version = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let version = version.as_ref().and_then(|value| value.get("lull_profile")?.as_u64());
    match version {
        None => return Err(no("is no profile, or damaged")),
        Some(version) if version > PROFILE_VERSION.into() => {
            return Err(Failure::new(Exit::Failed, format!("{shown} is a profile of a newer version of Lull"))
                .hint("install the `lull` of whoever made it"));
        }
        Some(_) => {}
    }
    let file: ProfileFile = serde_json::from_slice(&bytes).map_err(|_| no("is a damaged profile"))?;
    if file.servers.is_empty() || file.servers.iter().any(|server| client::url(&server.url).is_none()) {
        return Err(no("is a damaged profile: it names no coordinator"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(url: &str) -> Profile {
        let servers = vec![ServerAddress { url: url.into(), pin: Some(crate::pin::Pin::of_key(b"north")) }];
        Profile { servers, token: "lull_viewer_00".into(), role: Some(TokenRole::Viewer), expires: None }
    }

    #[test]
    fn profiles_are_kept_by_name_and_one_of_them_is_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let profiles = Profiles::within(&folder.path().join("profiles"));
        assert_eq!((profiles.names().expect("none"), profiles.current().expect("none")), (Vec::new(), None));
        for name in ["south", "north"] {
            profiles.keep(name, &profile(&format!("https://{name}:7411"))).expect("kept");
        }
        profiles.choose("north").expect("chosen");
        assert_eq!(profiles.names().expect("two"), ["north", "south"]);
        assert_eq!(profiles.current().expect("one").as_deref(), Some("north"));
        assert_eq!(profiles.named("north").expect("it is there"), profile("https://north:7411"));
        let unknown = profiles.named("nort").expect_err("none of this name").to_string();
        assert!(unknown.contains("there is no profile `nort`") && unknown.contains("`north`"), "{unknown}");
        assert!(profiles.named("../north").is_err());
        assert!(profiles.remove("north").expect("gone") && !profiles.remove("north").expect("not there"));
        assert_eq!(profiles.current().expect("none"), None);
        #[cfg(unix)]
        {
            let path = folder.path().join("profiles").join("south.toml");
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).expect("there").permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_profile_says_how_to_get_rid_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let profiles = Profiles::within(folder.path());
        for damaged in ["servers = 5", "token = \"x\"", "servers = []\ntoken = \"x\""] {
            fs::write(folder.path().join("north.toml"), damaged).expect("written");
            let words = profiles.named("north").expect_err(damaged).to_string();
            assert!(words.contains("is damaged") && words.contains("lull profile remove north"), "{words}");
        }
        assert!(profiles.remove("north").expect("gone"));
    }

    #[test]
    fn a_profile_is_called_by_its_host() {
        let names = ["https://Lull.example:7411", "http://127.0.0.1:9000", "https://[::1]:7411/lull", "lull.example"];
        assert_eq!(names.map(name_for), ["lull.example", "127.0.0.1-9000", "1", "lull.example"]);
        assert!(names.iter().all(|url| check_name(&name_for(url)).is_ok()));
    }

    #[test]
    fn a_file_that_is_no_profile_is_told_as_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.lullprofile");
        let said = |text: &str| {
            fs::write(&path, text).expect("written");
            read_file(&path).expect_err(text).to_string()
        };
        let server = r#""servers":[{"url":"https://north:7411"}]"#;
        let rest = r#""name":"ann","role":"viewer","token":"x","expires":"2027-03-01T06:00:00Z""#;
        for (text, expected) in [
            ("", "is no profile, or damaged"),
            ("{}", "is no profile, or damaged"),
            (r#"{"lull_profile":1}"#, "is a damaged profile"),
            (r#"{"lull_profile":9}"#, "of a newer version"),
            (&format!(r#"{{"lull_profile":1,{rest},"servers":[]}}"#), "names no coordinator"),
            (&format!(r#"{{"lull_profile":1,{rest},"servers":[{{"url":"ftp://x"}}]}}"#), "names no coordinator"),
        ] {
            assert!(said(text).contains(expected), "{text}: {}", said(text));
        }
        fs::write(&path, format!(r#"{{"lull_profile":1,{rest},{server}}}"#)).expect("written");
        assert_eq!(read_file(&path).expect("whole").name, "ann");
        assert!(read_file(&folder.path().join("none")).is_err());
    }
}
