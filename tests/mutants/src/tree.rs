//! A copy of the repository with faults in it, and what Cargo says about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{
    areas,
    find::{Fault, QUESTION},
};

/// Where the question is answered. Every crate that has faults gets its own.
const ANSWER: &str = r#"
#[doc(hidden)]
pub fn is_faulty(fault: u32) -> bool {
    static CHOSEN: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("LULL_FAULT").ok().and_then(|fault| fault.parse().ok()).unwrap_or(u32::MAX));
    *CHOSEN == fault
}
"#;
/// Rounds in which faults that do not compile are left out.
const ROUNDS: usize = 12;

/// The copy.
pub struct Tree {
    pub root: PathBuf,
    pub target: PathBuf,
    originals: BTreeMap<String, String>,
}

/// The files of the repository as they are now, whether committed or not.
///
/// # Errors
/// Git or a file cannot be read.
pub fn files(repository: &Path) -> anyhow::Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository)
        .output()
        .context("cannot run git")?;
    ensure!(listed.status.success(), "git cannot list the files of {}", repository.display());
    let names = String::from_utf8(listed.stdout)?;
    Ok(names.lines().map(ToOwned::to_owned).filter(|name| repository.join(name).is_file()).collect())
}

impl Tree {
    /// Copies what has changed since the last time, so that Cargo builds no more than that.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn copy(repository: &Path, place: &Path) -> anyhow::Result<Self> {
        let root = place.join("tree");
        let mut originals = BTreeMap::new();
        for name in files(repository)? {
            let bytes = fs::read(repository.join(&name)).with_context(|| format!("cannot read {name}"))?;
            write_if_new(&root.join(&name), &bytes)?;
            if name.ends_with(".rs")
                && let Ok(text) = String::from_utf8(bytes)
            {
                originals.insert(name, text);
            }
        }
        Ok(Self { root, target: place.join("target"), originals })
    }

    /// Puts faults in, by their number, and leaves out those that do not compile. Which are in, at the end.
    ///
    /// # Errors
    /// Something else than a fault does not compile.
    pub fn put_in(&self, faults: &BTreeMap<u32, &Fault>) -> anyhow::Result<BTreeSet<u32>> {
        let mut alive: BTreeSet<u32> = faults.keys().copied().collect();
        for round in 0..ROUNDS {
            let places = self.write(faults, &alive)?;
            let broken = self.broken(&places)?;
            if broken.is_empty() {
                return Ok(alive);
            }
            eprintln!("round {}: {} faults do not compile and are left out", round + 1, broken.len());
            alive.retain(|fault| !broken.contains(fault));
        }
        anyhow::bail!("after {ROUNDS} rounds there are still faults that do not compile")
    }

    /// Writes all files with the faults in them. By file: where each fault is now.
    fn write(&self, faults: &BTreeMap<u32, &Fault>, alive: &BTreeSet<u32>) -> anyhow::Result<Places> {
        let mut by_file: BTreeMap<&str, Vec<(u32, &Fault)>> = BTreeMap::new();
        for number in alive {
            by_file.entry(&faults[number].file).or_default().push((*number, faults[number]));
        }
        let mut places = Places::new();
        for (name, original) in &self.originals {
            let mut own = by_file.remove(name.as_str()).unwrap_or_default();
            own.sort_by_key(|(_, fault)| fault.range.start);
            let (mut text, mut at) = (String::with_capacity(original.len()), 0);
            for (number, fault) in own {
                text.push_str(&original[at..fault.range.start]);
                let begins = text.len();
                text.push_str(&fault.text.replace(QUESTION, &format!("crate::is_faulty({number})")));
                places.entry(name.clone()).or_default().push((begins..text.len(), number));
                at = fault.range.end;
            }
            text.push_str(&original[at..]);
            if areas::AREAS.iter().any(|area| name.strip_suffix("/src/lib.rs") == Some(area.member())) {
                text.push_str(ANSWER);
            }
            write_if_new(&self.root.join(name), text.as_bytes())?;
        }
        Ok(places)
    }

    /// The faults that the compiler complains of.
    fn broken(&self, places: &Places) -> anyhow::Result<BTreeSet<u32>> {
        let mut broken = BTreeSet::new();
        let messages = self.cargo(&["check", "--workspace", "--lib"])?;
        let failed = messages.iter().filter(|message| message["message"]["level"] == "error");
        for message in failed.filter(|message| !message["message"]["spans"].as_array().is_none_or(Vec::is_empty)) {
            let before = broken.len();
            let mut files = BTreeSet::new();
            for span in message["message"]["spans"].as_array().into_iter().flatten() {
                let (file, begins, ends) = (span["file_name"].as_str(), span["byte_start"].as_u64(), span["byte_end"].as_u64());
                let (Some(file), Some(begins), Some(ends)) = (file, begins, ends) else { continue };
                files.insert(file.to_owned());
                for (range, number) in places.get(file).into_iter().flatten() {
                    if range.start < ends as usize && (begins as usize) < range.end {
                        broken.insert(*number);
                    }
                }
            }
            // A value that was moved in a fault is missed elsewhere: nothing of that file is tried.
            if broken.len() == before {
                broken.extend(files.iter().filter_map(|file| places.get(file)).flatten().map(|(_, number)| *number));
            }
            ensure!(!broken.is_empty(), "this does not compile without any fault:\n{}", message["message"]["rendered"]);
        }
        Ok(broken)
    }

    /// The test programs of the libraries by package.
    ///
    /// # Errors
    /// Something does not build.
    pub fn build_tests(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let mut programs = BTreeMap::new();
        for message in self.cargo(&["test", "--workspace", "--lib", "--no-run"])? {
            if let (Some(program), Some(manifest)) = (message["executable"].as_str(), message["manifest_path"].as_str()) {
                let package = match Path::new(manifest).parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
                    Some(folder) => format!("lull-{folder}"),
                    None => continue,
                };
                programs.insert(package, PathBuf::from(program));
            }
        }
        Ok(programs)
    }

    /// The simulator.
    ///
    /// # Errors
    /// It does not build.
    pub fn build_simulator(&self) -> anyhow::Result<PathBuf> {
        let built = self.cargo(&["build", "--workspace", "--bin", "sim"])?;
        let mut simulators = built
            .iter()
            .filter(|message| message["target"]["name"] == "sim")
            .filter_map(|message| message["executable"].as_str());
        Ok(simulators.next().context("the simulator was not built")?.into())
    }

    fn cargo(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let output = Command::new("cargo")
            .args(arguments)
            .args(["--locked", "--message-format", "json"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            // Nobody looks at a backtrace of a fault.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo")?;
        let messages: Vec<Value> =
            output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let complains = messages.iter().any(|message| message["message"]["level"] == "error");
        ensure!(output.status.success() || complains, "cargo {} failed", arguments.join(" "));
        Ok(messages)
    }
}

type Places = BTreeMap<String, Vec<(std::ops::Range<usize>, u32)>>;

fn write_if_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
