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
use lull_shared::{
    amount::quoted,
    bound::{self, Bound},
    limits,
    misread::{self, Misread},
    name::{check_name, check_text},
    resources::Labels,
    state::GROUP_LABEL,
};
use serde::{Deserialize, Deserializer, de};

use crate::cli::value;

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
    #[serde(deserialize_with = "slots")]
    pub slots: Option<u16>,
    /// Half of the machine's memory if not given.
    #[serde(deserialize_with = "agent_memory")]
    pub memory_max: Option<ByteSize>,
    #[serde(deserialize_with = "cache")]
    pub cache_max: ByteSize,
    #[serde(deserialize_with = "outbox")]
    pub outbox_max: ByteSize,
    #[serde(deserialize_with = "folder")]
    pub cache_dir: Option<PathBuf>,
    #[serde(deserialize_with = "folder")]
    pub scratch_dir: Option<PathBuf>,
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<Multiaddr>,
    /// What is sent to peers of blobs, in a second; 0 sets no limit.
    #[serde(deserialize_with = "upload")]
    pub upload_max: ByteSize,
    pub mdns: bool,
    /// 0 switches the rule off.
    #[serde(deserialize_with = "percent")]
    pub cpu_pause_percent: u8,
    #[serde(deserialize_with = "settles")]
    pub cpu_pause_after: Duration,
    #[serde(deserialize_with = "percent")]
    pub cpu_resume_percent: u8,
    #[serde(deserialize_with = "settles")]
    pub cpu_resume_after: Duration,
    #[serde(deserialize_with = "memory_free")]
    pub memory_free_min: ByteSize,
    #[serde(deserialize_with = "snapshot_every")]
    pub snapshot_every: Duration,
    #[serde(deserialize_with = "warm")]
    pub warm_time: Duration,
    #[serde(deserialize_with = "priority")]
    pub priority: Priority,
    pub open_cage: OpenCage,
    /// For the estimate of what functions cost their owner.
    #[serde(deserialize_with = "watts")]
    pub watts_per_processor: u32,
    #[serde(deserialize_with = "log")]
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
            watts_per_processor: 8,
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
    #[error(
        "the configuration file {} cannot be read: {source}\nhint: name another with --config, or leave it out: every setting has a \
         default",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    /// The reason has its hint.
    #[error("{key}: {reason}")]
    Value { key: &'static str, reason: String },
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: Misread },
    #[error("{}: {source}", path.display())]
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
        let config: Self = misread::toml(text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        config.check().map_err(|wrong| ConfigError::File { path: path.to_owned(), source: wrong.into() })?;
        Ok(config)
    }

    /// Checks what one value alone does not tell; to be called again after overrides.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, reason: String| Err(ConfigError::Value { key, reason });
        if let Some(name) = &self.name
            && let Err(why) = check_name(name)
        {
            return wrong("name", why.told(name, "an agent's name"));
        }
        check_labels(&self.labels).map_err(|reason| ConfigError::Value { key: "labels", reason })?;
        if self.cpu_pause_percent > 0 && self.cpu_resume_percent > self.cpu_pause_percent {
            let (resume, pause) = (self.cpu_resume_percent, self.cpu_pause_percent);
            let words = format!("{resume} is above cpu_pause_percent, which is {pause}\nhint: write {pause} or less");
            return wrong("cpu_resume_percent", words);
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
        return Err(format!(
            "{} labels are too many\nhint: leave some out; at most {} are taken",
            labels.len(),
            limits::LABELS_MAX
        ));
    }
    for (key, value) in labels {
        if let Err(why) = check_name(key) {
            return Err(why.told(key, "a label"));
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
            let max = limits::NAME_BYTES_MAX;
            return Err(format!("the value of `{key}` has {} bytes\nhint: write 1 to {max} bytes", value.len()));
        }
        if let Err(why) = check_text(value) {
            return Err(why.told(value, &format!("the value of `{key}`")));
        }
    }
    Ok(())
}

/// A label as people type it, `KEY=VALUE`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let form = || format!("{} is not a label\nhint: write KEY=VALUE, like site=berlin", quoted(text));
    let (key, value) = text.split_once('=').ok_or_else(form)?;
    let label = (key.trim().to_owned(), value.trim().to_owned());
    check_labels(&Labels::from([label.clone()]))?;
    Ok(label)
}

/// A value as it stands in a file: a text, or a number that stands for itself.
struct Written(Bound);

impl de::Visitor<'_> for Written {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.span())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// A value within its bound.
fn within<'de, D: Deserializer<'de>>(decoder: D, bound: Bound) -> Result<u64, D::Error> {
    bound.read(&decoder.deserialize_any(Written(bound))?).map_err(de::Error::custom)
}

/// What the values of the file are bounded by, each under the name of its reader.
macro_rules! bounded {
    ($($name:ident: $kind:ty = $bound:expr, $made:expr;)+) => {$(
        fn $name<'de, D: Deserializer<'de>>(decoder: D) -> Result<$kind, D::Error> {
            within(decoder, $bound).map($made)
        }
    )+};
}

bounded! {
    slots: Option<u16> = bound::SLOTS, |slots| u16::try_from(slots).ok();
    agent_memory: Option<ByteSize> = bound::AGENT_MEMORY, |bytes| Some(ByteSize(bytes));
    cache: ByteSize = bound::CACHE, ByteSize;
    outbox: ByteSize = bound::OUTBOX, ByteSize;
    memory_free: ByteSize = bound::MEMORY_FREE, ByteSize;
    percent: u8 = bound::PERCENT, |percent| u8::try_from(percent).unwrap_or(u8::MAX);
    settles: Duration = bound::SETTLES, Duration::from_millis;
    snapshot_every: Duration = bound::SNAPSHOT_EVERY, Duration::from_millis;
    watts: u32 = bound::WATTS, |watts| u32::try_from(watts).unwrap_or(u32::MAX);
    warm: Duration = bound::WARM, Duration::from_millis;
}

/// What is sent in a second; 0 sets no limit.
fn upload<'de, D: Deserializer<'de>>(decoder: D) -> Result<ByteSize, D::Error> {
    parse_upload(&decoder.deserialize_any(Written(bound::UPLOAD))?).map_err(de::Error::custom)
}

/// The same as it is typed.
pub fn parse_upload(text: &str) -> Result<ByteSize, bound::Outside> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Ok(ByteSize(0)),
        Ok(_) | Err(_) => bound::UPLOAD.read(text).map(ByteSize),
    }
}

fn folder<'de, D: Deserializer<'de>>(decoder: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(decoder)?;
    match text.trim().is_empty() {
        true => Err(de::Error::custom("an empty text is not a folder\nhint: name a folder, or leave the setting out")),
        false => Ok(Some(text.into())),
    }
}

fn addresses<'de, D: Deserializer<'de>>(decoder: D) -> Result<Vec<Multiaddr>, D::Error> {
    let texts = Vec::<String>::deserialize(decoder)?;
    texts.iter().map(|text| value::listen_address(text).map_err(de::Error::custom)).collect()
}

fn log<'de, D: Deserializer<'de>>(decoder: D) -> Result<String, D::Error> {
    value::log_text(&String::deserialize(decoder)?).map_err(de::Error::custom)
}

fn priority<'de, D: Deserializer<'de>>(decoder: D) -> Result<Priority, D::Error> {
    let text = String::deserialize(decoder)?;
    parse_priority(&text).map_err(de::Error::custom)
}

/// `idle` or `normal`.
pub fn parse_priority(text: &str) -> Result<Priority, String> {
    match text {
        "idle" => Ok(Priority::Idle),
        "normal" => Ok(Priority::Normal),
        other => Err(format!("{} is not a priority\nhint: write idle or normal", quoted(other))),
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
        let known = unknown.split("the settings are ").nth(1).expect("the error lists the keys");
        assert!(known.split(", ").count() >= 20, "{known}");
        for key in known.split(", ") {
            assert!(keys.iter().any(|shown| shown == key), "`{key}` is not in installer/agent.toml");
        }
    }

    /// A value of each kind that no key takes, and some that none of its own kind should.
    const NONE: [&str; 12] = [
        "-1",
        "99999999999999999",
        "1.5",
        "[1]",
        "{ a = 1 }",
        "\"\"",
        "\"?\"",
        "\"-1s\"",
        "\"99999999999999 TiB\"",
        "true",
        "[\"x\"]",
        "0x",
    ];

    #[test]
    fn every_key_refuses_what_it_does_not_take_by_its_name_and_with_a_hint() {
        let mut refused = std::collections::BTreeMap::new();
        for key in uncommented().lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key.to_owned())) {
            for value in NONE {
                let text = format!("{key} = {value}");
                let Err(error) = load(&text) else { continue };
                let lines: Vec<&str> = error.lines().collect();
                assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{text}: {error}");
                assert!(value == "0x" || lines[0].contains(&key), "{text}: {error}");
                assert!(!error.contains("u16") && !error.contains("struct") && !error.contains("Config"), "{text}: {error}");
                *refused.entry(key.clone()).or_insert(0) += 1;
            }
        }
        assert!(refused.len() >= 20 && refused.values().all(|count| *count >= 9), "{refused:?}");
    }

    #[test]
    fn errors_name_the_key_and_what_it_takes() {
        let cases = [
            (
                "cpu_pause = 5",
                "there is no setting `cpu_pause`\nhint: did you mean `cpu_pause_after`? the settings are name, labels",
            ),
            ("cpu_pause_percents = 5", "hint: did you mean `cpu_pause_percent`?"),
            ("slots = 0", "agent.toml: slots: `0` is less than 1\nhint: write a whole number from 1 to 256, like 4"),
            ("slots = 99999", "slots: `99999` is more than 256\nhint: "),
            ("slots = \"many\"", "slots: `many` is not a whole number\nhint: "),
            ("cache_max = \"big\"", "cache_max: `big` is not a size\nhint: write a size from 16 MiB on, like 4GiB"),
            ("cache_max = \"0\"", "cache_max: `0` is less than 16 MiB"),
            ("memory_max = \"0\"", "memory_max: `0` is less than 16 MiB"),
            ("outbox_max = \"0\"", "outbox_max: `0` is less than 1 MiB"),
            ("cache_dir = \"\"", "cache_dir: an empty text is not a folder\nhint: name a folder"),
            ("scratch_dir = 5", "scratch_dir: `5` is not a text\nhint: write a text in quotes"),
            ("log = \"\"", "log: an empty text does not say what is logged\nhint: write error, warn, info"),
            ("log = \"verbose\"", "log: `verbose` does not say what is logged\nhint: "),
            ("mdns = \"yes\"", "mdns: \"yes\" is neither true nor false\nhint: write true or false, without quotes"),
            ("open_cage = \"maybe\"", "open_cage: `maybe` is not one of its values\nhint: write \"refuse\" or \"work\""),
            ("open_cage = \"wrok\"", "open_cage: `wrok` is not one of its values\nhint: did you mean `work`? write"),
            ("open_cage = true", "open_cage: `true` is not one of its values\nhint: write \"refuse\" or \"work\""),
            ("slots = ", "agent.toml: line 1: `slots` has no value\nhint: write one behind the `=`, or remove the line"),
            ("slots = 2\nslots = 3", "agent.toml: line 2: `slots` is there twice\nhint: keep one of the lines"),
            ("priority = idle", "line 1: the value of `priority`, `idle`, is not in quotes\nhint: write priority = \"idle\""),
            (
                "slots = true",
                "slots: `true` is not a whole number from 1 to 256, like 4\nhint: write a whole number from 1 to 256",
            ),
            (
                "cpu_pause_after = \"soon\"",
                "cpu_pause_after: `soon` is not a length of time\nhint: write a length of time from 0s to 1d, like 5s",
            ),
            ("snapshot_every = \"0s\"", "snapshot_every: `0s` is less than 100ms"),
            ("cpu_resume_percent = 60", "cpu_resume_percent: 60 is above cpu_pause_percent, which is 50\nhint: write 50 or less"),
            ("cpu_pause_percent = 101", "cpu_pause_percent: `101` is more than 100"),
            ("labels = { os = \"mine\" }", "`os` is set by the agent itself\nhint: remove `os` from the labels"),
            ("labels = { group = \"lab\" }", "agent.toml: labels: `group` is given by the token"),
            ("labels = { group = \"lab\" }", "\nhint: remove `group` from the labels"),
            ("labels = { site = 5 }", "labels.site: `5` is not a text"),
            ("name = \"my desk\"", "name: `my desk` cannot be an agent's name\nhint: use letters"),
            ("priority = \"high\"", "priority: `high` is not a priority\nhint: write idle or normal"),
            ("listen = [\"here\"]", "listen: `here` is not an address to listen at\nhint: write it like /ip4/0.0.0.0"),
            ("upload_max = \"1 KiB\"", "upload_max: `1 KiB` is less than 32 KiB\nhint: "),
            ("name = \"desk", "line 1: "),
        ];
        for (text, expected) in cases {
            let error = load(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.lines().last().is_some_and(|line| line.starts_with("hint: ")), "{text}: {error}");
        }
        let missing = Config::load(Path::new("/nowhere/agent.toml"), true).expect_err("missing").to_string();
        assert!(missing.contains("/nowhere/agent.toml") && missing.contains("\nhint: name another with --config"), "{missing}");
        assert!(Config::load(Path::new("/nowhere/agent.toml"), false).is_ok());
    }

    #[test]
    fn a_share_of_zero_switches_the_processor_rule_off() {
        assert_eq!(load("cpu_pause_percent = 0").expect("it can be used").rules().cpu, None);
    }
}
