//! The manifest of a function's project, `lull.toml`: how it is built, and what it asks for.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lull_shared::{
    amount::exact,
    bound, hint,
    job::{AttemptLimits, Grants, Moving},
    misread,
    name::check_name,
};
use serde::Deserialize;

use crate::{
    api::Grant,
    cli::{exit::Failure, shown::follow::quoted},
};

/// The manifest's file.
pub(crate) const FILE: &str = "lull.toml";
/// Somebody writes it by hand.
const BYTES_MAX: u64 = 64 << 10;

/// A project in its folder.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub folder: PathBuf,
    pub name: String,
    /// The command that builds it, for a shell; none: there is nothing to build.
    pub build: Option<String>,
    /// The module or script, relative to the folder.
    pub module: PathBuf,
    /// An input to try it on.
    pub input: Option<PathBuf>,
    pub args: Vec<String>,
    pub limits: AttemptLimits,
    pub grants: Vec<Grant>,
    pub migratable: Moving,
    pub canonical_nans: bool,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Manifest {
    name: String,
    module: PathBuf,
    #[serde(default)]
    build: Option<String>,
    #[serde(default)]
    input: Option<PathBuf>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    migratable: Option<Moving>,
    #[serde(default)]
    canonical_nans: bool,
}

impl Project {
    /// The project of a folder.
    pub(crate) async fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        if !path.is_file() {
            let message = format!("there is no {FILE} in {}", shown(folder));
            return Err(Failure::usage(message).hint(
                "go to a function's project or name it with --project DIR; `lull func new NAME --lang LANGUAGE` makes one",
            ));
        }
        let bytes = super::local::read(&path, BYTES_MAX).await?;
        let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{} is not UTF-8 text", path.display())))?;
        Self::parse(folder, &text).map_err(|words| Failure::usage(format!("{}: {words}", path.display())))
    }

    fn parse(folder: &Path, text: &str) -> Result<Self, String> {
        let manifest: Manifest = misread::toml(text).map_err(|wrong| placed(text, &wrong.key, &wrong.to_string()))?;
        let wrong = |key: &str, words: String| placed(text, key, &format!("{key}: {words}"));
        check_name(&manifest.name).map_err(|why| wrong("name", why.told(&manifest.name, "a function's name")))?;
        let inside = |key: &str, path: &Path| {
            let leaves = path.is_absolute() || path.components().any(|part| matches!(part, std::path::Component::ParentDir));
            if leaves { Err(wrong(key, hint::with("it is outside the project", "write a path in this folder"))) } else { Ok(()) }
        };
        inside("module", &manifest.module)?;
        manifest.input.as_deref().map_or(Ok(()), |input| inside("input", input))?;
        let mut limits = AttemptLimits::default();
        if let Some(memory) = &manifest.memory {
            limits.memory_bytes = bound::MEMORY.sizes()(memory).map_err(|outside| wrong("memory", outside.to_string()))?.0;
        }
        if let Some(time) = &manifest.time {
            let time: Duration = bound::TIME_LIMIT.times()(time).map_err(|outside| wrong("time", outside.to_string()))?;
            limits.time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        }
        Ok(Self {
            folder: folder.to_owned(),
            name: manifest.name,
            build: manifest.build.filter(|build| !build.trim().is_empty()),
            module: manifest.module,
            input: manifest.input,
            args: manifest.args,
            limits,
            grants: manifest.grants,
            migratable: manifest.migratable.unwrap_or_default(),
            canonical_nans: manifest.canonical_nans,
        })
    }

    /// The file that is published.
    pub(crate) fn module(&self) -> PathBuf {
        self.folder.join(&self.module)
    }

    /// What it asks for, as a run takes it.
    pub(crate) fn granted(&self) -> Grants {
        let asks = |grant| self.grants.contains(&grant);
        Grants { clock: asks(Grant::Clock), random: asks(Grant::Random), scratch: asks(Grant::Scratch) }
    }

    /// The options of a submission that gives it what it asks for.
    fn options(&self) -> String {
        let usual = AttemptLimits::default();
        let mut options = String::new();
        if self.limits.memory_bytes != usual.memory_bytes {
            options.push_str(&format!(" --memory {}", memory(self.limits.memory_bytes)));
        }
        if self.limits.time_ms != usual.time_ms {
            let time = exact(Duration::from_millis(self.limits.time_ms)).replace(' ', "");
            options.push_str(&format!(" --time-limit {time}"));
        }
        for grant in &self.grants {
            let word = match grant {
                Grant::Clock => "clock",
                Grant::Random => "random",
                Grant::Scratch => "scratch",
            };
            options.push_str(&format!(" --grant {word}"));
        }
        options
    }

    /// How a version is submitted as the manifest says, if that is not as usual.
    pub(crate) fn submission(&self, called: &str) -> Option<String> {
        let options = self.options();
        let args: String = self.args.iter().map(|arg| format!(" {}", quoted(Path::new(arg)))).collect();
        let args = if args.is_empty() { args } else { format!(" --{args}") };
        (!options.is_empty() || !args.is_empty()).then(|| format!("lull submit {called}{options} INPUT...{args}"))
    }
}

/// An amount of memory as one types it, without a loss.
fn memory(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Words with the line that the key is in, if it is in one.
fn placed(text: &str, key: &str, words: &str) -> String {
    // A setting that is not known is named in the words alone.
    let named = words.split('`').nth(1).filter(|_| key.is_empty()).unwrap_or(key);
    let top = named.split(['.', '[']).next().unwrap_or_default();
    let is_it = |line: &str| line.split_once('=').is_some_and(|(found, _)| found.trim() == top);
    match text.lines().position(is_it).filter(|_| !top.is_empty() && !words.starts_with("line ")) {
        Some(line) => format!("line {}: {words}", line + 1),
        None => words.to_owned(),
    }
}

fn shown(folder: &Path) -> String {
    if folder == Path::new(".") { "this folder".into() } else { folder.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Project, String> {
        Project::parse(Path::new("p"), text)
    }

    #[test]
    fn a_manifest_says_how_a_function_is_built_and_what_it_asks_for() {
        let text = "name = \"report\"\nbuild = \"make\"\nmodule = \"out/report.wasm\"\ninput = \"in.txt\"\nargs = [\"--top\", \"3\"]\n\
                    memory = \"64MiB\"\ntime = \"10m\"\ngrants = [\"clock\"]\nmigratable = \"never\"\ncanonical-nans = true\n";
        let project = parse(text).expect("a manifest");
        assert_eq!((project.name.as_str(), project.module()), ("report", PathBuf::from("p/out/report.wasm")));
        assert_eq!((project.limits.memory_bytes, project.limits.time_ms), (64 << 20, 600_000));
        assert!(project.granted().clock && !project.granted().random && project.canonical_nans);
        assert_eq!(
            (project.migratable, project.options().as_str()),
            (Moving::Never, " --memory 64MiB --time-limit 10m --grant clock")
        );
        assert_eq!(
            project.submission("report@2").as_deref(),
            Some("lull submit report@2 --memory 64MiB --time-limit 10m --grant clock INPUT... -- --top 3")
        );
        let odd = parse("name = \"a\"\nmodule = \"a.js\"\nmemory = \"70000001\"\ntime = \"90s\"\n").expect("a manifest");
        assert_eq!(odd.options(), " --memory 70000001 --time-limit 1m30s");
        assert!(bound::TIME_LIMIT.times()("1m30s").is_ok(), "it can be typed");
        let least = parse("name = \"a\"\nmodule = \"a.js\"\n").expect("the rest has defaults");
        assert_eq!((least.submission("a"), least.limits), (None, AttemptLimits::default()));
        assert_eq!(least.build, None);
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_told_by_line_and_with_what_to_write() {
        let told = |line: &str| parse(&format!("name = \"a\"\nmodule = \"a.js\"\n{line}\n")).expect_err(line);
        let unknown = told("modul = \"b\"");
        assert!(unknown.contains("line 3") && unknown.contains("modul") && unknown.contains("module"), "{unknown}");
        assert!(told("memory = \"much\"").starts_with("line 3: memory: "), "{}", told("memory = \"much\""));
        assert!(told("time = 5").starts_with("line 3: "), "{}", told("time = 5"));
        assert!(told("grants = [\"files\"]").starts_with("line 3: "), "{}", told("grants = [\"files\"]"));
        assert!(told("input = \"../secret\"").contains("outside the project"));
        assert!(told("args = ").contains("line 3"), "{}", told("args = "));
        assert!(parse("module = \"a.js\"").expect_err("no name").contains("name"));
        assert!(parse("name = \"j1\"\nmodule = \"a.js\"").expect_err("an id").starts_with("line 1: name: "));
    }
}
