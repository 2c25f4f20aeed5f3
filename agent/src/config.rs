//! The agent's settings: a TOML file in which every key may be left out, then environment and flags.

use std::{
    fmt, fs, io,
    net::Ipv4Addr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use libp2p::Multiaddr;
use lull_engine::executor::protocol::Priority;
use lull_mesh::UploadRules;
use lull_session::guard::{CpuRule, MemoryRule, Rules};
use lull_shared::{limits, name::check_name, resources::Labels, state::GROUP_LABEL};
use serde::{Deserialize, Deserializer, de};

/// Labels that the agent sets itself.
const OWN_LABELS: [&str; 5] = ["os", "arch", "cores", "memory", "name"];
/// How long memory must be short before it pauses, and plenty before it goes on: as for the processors.
const MEMORY_PAUSE_AFTER: Duration = Duration::from_secs(2);
const MEMORY_RESUME_AFTER: Duration = Duration::from_secs(5);

/// Settings with their defaults filled in, except for those that depend on the machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What people call this machine; its host name if not given.
    pub name: Option<String>,
    pub labels: Labels,
    /// The number of processors if not given.
    pub slots: Option<u16>,
    /// Half of the machine's memory if not given.
    #[serde(deserialize_with = "some_size")]
    pub memory_max: Option<ByteSize>,
    #[serde(deserialize_with = "size")]
    pub cache_max: ByteSize,
    #[serde(deserialize_with = "size")]
    pub outbox_max: ByteSize,
    pub cache_dir: Option<PathBuf>,
    pub scratch_dir: Option<PathBuf>,
    pub listen: Vec<Multiaddr>,
    /// What is sent to peers of blobs, in a second; 0 sets no limit.
    #[serde(deserialize_with = "size")]
    pub upload_max: ByteSize,
    pub mdns: bool,
    /// 0 switches the rule off.
    pub cpu_pause_percent: u8,
    #[serde(deserialize_with = "duration")]
    pub cpu_pause_after: Duration,
    pub cpu_resume_percent: u8,
    #[serde(deserialize_with = "duration")]
    pub cpu_resume_after: Duration,
    #[serde(deserialize_with = "size")]
    pub memory_free_min: ByteSize,
    #[serde(deserialize_with = "duration")]
    pub snapshot_every: Duration,
    #[serde(deserialize_with = "duration")]
    pub warm_time: Duration,
    #[serde(deserialize_with = "priority")]
    pub priority: Priority,
    pub open_cage: OpenCage,
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            labels: Labels::new(),
            slots: None,
            memory_max: None,
            cache_max: ByteSize::gib(4),
            outbox_max: ByteSize::gib(4),
            cache_dir: None,
            scratch_dir: None,
            listen: vec![any_address()],
            upload_max: ByteSize(0),
            mdns: true,
            cpu_pause_percent: 50,
            cpu_pause_after: Duration::from_secs(2),
            cpu_resume_percent: 25,
            cpu_resume_after: Duration::from_secs(5),
            memory_free_min: ByteSize::mib(512),
            snapshot_every: Duration::from_secs(5 * 60),
            warm_time: Duration::from_secs(20),
            priority: Priority::Idle,
            open_cage: OpenCage::Refuse,
            log: "info".to_owned(),
        }
    }
}

/// What an agent does where the cage around its executors is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum OpenCage {
    /// It takes no work, and says why.
    #[default]
    Refuse,
    /// It works all the same: what functions cannot reach is then up to WebAssembly's own walls.
    Work,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("{key}: {reason}")]
    Value { key: &'static str, reason: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: Box<ConfigError> },
}

impl Config {
    /// Every setting with its default and its meaning, commented out: what the installer ships.
    pub fn default_toml() -> &'static str {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../installer/agent.toml"))
    }

    /// Reads a file. One that is not `required` may be missing.
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        Self::parse(&text, path)
    }

    /// Reads the text of a file; `path` is what errors call it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        config.check().map_err(|wrong| ConfigError::File { path: path.to_owned(), source: wrong.into() })?;
        Ok(config)
    }

    /// Checks what the types cannot say; to be called again after overrides.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, reason: String| Err(ConfigError::Value { key, reason });
        if let Some(name) = &self.name
            && let Err(why) = check_name(name)
        {
            return wrong("name", format!("`{name}` cannot be an agent's name: {why}"));
        }
        check_labels(&self.labels).map_err(|reason| ConfigError::Value { key: "labels", reason })?;
        match self.slots {
            Some(slots) if slots == 0 || slots > limits::SLOTS_PER_AGENT_MAX => {
                return wrong("slots", format!("{slots} is not between 1 and {}", limits::SLOTS_PER_AGENT_MAX));
            }
            Some(_) | None => {}
        }
        let upload = self.upload_max.as_u64();
        if (1..limits::UPLOAD_RATE_MIN).contains(&upload) {
            return wrong(
                "upload_max",
                format!("{} a second are too few; 0 sets no limit, 32 KiB is the lowest", self.upload_max),
            );
        }
        if self.cpu_pause_percent > 100 {
            return wrong("cpu_pause_percent", format!("{} is not between 0 and 100", self.cpu_pause_percent));
        }
        if self.cpu_pause_percent > 0 && self.cpu_resume_percent > self.cpu_pause_percent {
            let (resume, pause) = (self.cpu_resume_percent, self.cpu_pause_percent);
            return wrong("cpu_resume_percent", format!("{resume} is above cpu_pause_percent, which is {pause}"));
        }
        Ok(())
    }

    /// How blobs are sent to peers.
    pub fn uploads(&self) -> UploadRules {
        UploadRules { bytes_per_second_max: NonZeroU64::new(self.upload_max.as_u64()), seeds: false }
    }

    /// The guard's rules about processors and memory.
    pub fn rules(&self) -> Rules {
        let cpu = CpuRule {
            pause_percent: self.cpu_pause_percent,
            pause_after: self.cpu_pause_after,
            resume_percent: self.cpu_resume_percent,
            resume_after: self.cpu_resume_after,
        };
        Rules {
            cpu: (self.cpu_pause_percent > 0).then_some(cpu),
            memory: MemoryRule {
                free_min_bytes: self.memory_free_min.as_u64(),
                pause_after: MEMORY_PAUSE_AFTER,
                resume_after: MEMORY_RESUME_AFTER,
            },
        }
    }
}

/// Every interface, at a port that the system chooses.
fn any_address() -> Multiaddr {
    Multiaddr::from(Ipv4Addr::UNSPECIFIED).with(libp2p::multiaddr::Protocol::Tcp(0))
}

/// Checks labels that an administrator gave; the error is in words.
pub fn check_labels(labels: &Labels) -> Result<(), String> {
    if labels.len() > limits::LABELS_MAX {
        return Err(format!("{} labels; at most {} are taken", labels.len(), limits::LABELS_MAX));
    }
    for (key, value) in labels {
        if let Err(why) = check_name(key) {
            return Err(format!("`{key}` cannot be a label: {why}"));
        }
        if key == GROUP_LABEL {
            return Err(format!(
                "`{key}` is given by the token that a machine joins with, and no machine gives it to itself\nhint: remove `{key}` \
                 from the labels of the configuration file or the command line; `lull token create --group {value}` makes a token \
                 for that group"
            ));
        }
        if OWN_LABELS.contains(&key.as_str()) {
            return Err(format!(
                "`{key}` is set by the agent itself\nhint: remove `{key}` from the labels of the configuration file or the command \
                 line"
            ));
        }
        if value.is_empty() || value.len() > limits::NAME_BYTES_MAX {
            return Err(format!("the value of `{key}` must have 1 to {} bytes", limits::NAME_BYTES_MAX));
        }
    }
    Ok(())
}

/// A label as people type it, `KEY=VALUE`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not a label\nhint: write KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// A size, `"4 GiB"`, or a number of bytes.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = ByteSize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"4 GiB\"")
        }

        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
            u64::try_from(bytes).map(ByteSize).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
            text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(Visitor)
}

fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    size(deserializer).map(Some)
}

/// A duration, `"2s"` or `"1m 30s"`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = &"a duration such as \"2s\" or \"1m 30s\"";
    humantime::parse_duration(&text).map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), expected))
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_priority(&text).map_err(de::Error::custom)
}

/// `idle` or `normal`.
pub fn parse_priority(text: &str) -> Result<Priority, String> {
    match text {
        "idle" => Ok(Priority::Idle),
        "normal" => Ok(Priority::Normal),
        other => Err(format!("`{other}` is not a priority\nhint: write idle or normal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.toml");
        fs::write(&path, text).expect("a file");
        Config::load(&path, true).map_err(|error| error.to_string())
    }

    fn uncommented() -> String {
        let setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
        Config::default_toml().lines().filter(setting).map(|line| format!("{}\n", &line[2..])).collect()
    }

    #[test]
    fn the_file_that_is_shipped_changes_nothing() {
        assert_eq!(load(Config::default_toml()), Ok(Config::default()));
    }

    #[test]
    fn the_file_that_is_shipped_shows_every_setting_with_its_default() {
        let shown = load(&uncommented()).expect("what it shows can be used");
        let Config { name, labels, slots, memory_max, cache_dir, scratch_dir, .. } = shown.clone();
        assert!(name.is_some() && slots.is_some() && memory_max.is_some() && cache_dir.is_some() && scratch_dir.is_some());
        assert!(!labels.is_empty());
        let defaults = Config { name, labels, slots, memory_max, cache_dir, scratch_dir, ..Config::default() };
        assert_eq!(shown, defaults);
        let keys: Vec<String> = uncommented().lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
        let unknown = load("none_of_them = 1").expect_err("an unknown key");
        let known = unknown.split("expected one of").nth(1).expect("the error lists the keys");
        for key in known.split('`').skip(1).step_by(2) {
            assert!(keys.iter().any(|shown| shown == key), "`{key}` is not in installer/agent.toml");
        }
    }

    #[test]
    fn errors_name_the_key_and_what_it_takes() {
        let cases = [
            ("cpu_pause = 5", "cpu_pause"),
            ("slots = 0", "slots: 0 is not between 1 and 256"),
            ("slots = \"many\"", "slots"),
            ("cache_max = \"big\"", "a size such as \"4 GiB\""),
            ("cpu_pause_after = \"soon\"", "a duration such as"),
            ("cpu_resume_percent = 60", "cpu_resume_percent: 60 is above cpu_pause_percent, which is 50"),
            ("labels = { os = \"mine\" }", "`os` is set by the agent itself\nhint: remove `os` from the labels"),
            ("labels = { group = \"lab\" }", "agent.toml: labels: `group` is given by the token"),
            ("labels = { group = \"lab\" }", "\nhint: remove `group` from the labels"),
            ("name = \"my desk\"", "name: `my desk`"),
            ("priority = \"high\"", "write idle or normal"),
            ("listen = [\"here\"]", "listen"),
            ("upload_max = \"1 KiB\"", "32 KiB is the lowest"),
        ];
        for (text, expected) in cases {
            let error = load(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let missing = Config::load(Path::new("/nowhere/agent.toml"), true).expect_err("missing").to_string();
        assert!(missing.contains("/nowhere/agent.toml"), "{missing}");
        assert!(Config::load(Path::new("/nowhere/agent.toml"), false).is_ok());
    }

    #[test]
    fn a_share_of_zero_switches_the_processor_rule_off() {
        assert_eq!(load("cpu_pause_percent = 0").expect("it can be used").rules().cpu, None);
    }
}
