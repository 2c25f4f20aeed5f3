//! The outputs of a job as files of a folder, each written as soon as its task has ended, and a manifest of them.
//!
//! The folder is tried before anything runs. Nothing in it is written over but what an earlier run put there, which the
//! manifest knows; a file appears whole or not at all. Whoever comes again fetches only what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures::TryStreamExt as _;
use lull_shared::{digest::OutlineBuilder, id::JobId, shown::is_unseen};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    api::ResultBody,
    cli::{
        exit::{Exit, Failure},
        jobs::{
            names::{self, MANIFEST},
            results::{self, OutArgs},
        },
        shown::output::printable,
    },
    client::Client,
};

/// Results asked for at a time: up to 64 KiB each.
const PAGE: u32 = 200;
/// Labels asked for at a time.
const LABELS_PAGE: u32 = 10_000;
/// Between two looks at what has ended: a person notices no less, and a coordinator does.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look that takes long is made as much more rarely.
const LOOK_SHARE: u32 = 4;
/// Requests of one look while the job runs; the next goes on where it ended.
const REQUESTS_MAX: usize = 32;

/// A folder for results that can be written to.
pub(crate) struct Folder {
    path: PathBuf,
    suffix: String,
    /// What is in it by an earlier run or by this one, by its path below the folder.
    known: BTreeMap<String, Line>,
    /// What this run has written.
    fresh: BTreeSet<String>,
    /// Made with its first line: an empty one would be an input of whoever reads this very folder.
    manifest: Option<File>,
}

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    task: String,
    label: Option<String>,
    /// Below the folder, its parts between slashes.
    file: String,
    bytes: u64,
    digest: String,
}

impl Folder {
    /// Makes the folder that is wanted, if one is, and tries to write to it.
    pub(crate) fn open(out: &OutArgs) -> Result<Option<Self>, Failure> {
        let Some(path) = &out.out else { return Ok(None) };
        let suffix = out.suffix.clone().unwrap_or_default();
        if suffix.contains(['/', '\\']) || suffix.contains(is_unseen) {
            let message = format!("`{}` cannot end the name of a file", printable(&suffix));
            return Err(Failure::usage(message).hint("write it like .json"));
        }
        if path.is_file() {
            let message = format!("{} is a file, and outputs go into a folder, each into a file of its own", path.display());
            return Err(
                Failure::usage(message).hint("name a folder with --out DIR, like --out results; it is made if it is not there")
            );
        }
        let failed = |error| Failure::unwritable(path, &error).hint("name a folder that can be written to with --out DIR");
        fs::create_dir_all(path).map_err(failed)?;
        let mut trial = temporary(path).map_err(failed)?;
        trial.write_all(b"lull").and_then(|()| trial.flush()).map_err(failed)?;
        drop(trial);
        let known = known(&path.join(MANIFEST))?;
        Ok(Some(Self { path: path.clone(), suffix, known, fresh: BTreeSet::new(), manifest: None }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one output; its file's path below the folder.
    async fn put(&mut self, client: &Client, result: &ResultBody, path: &str) -> Result<(), Failure> {
        let line = |file: &str| Line {
            task: result.task.to_string(),
            label: result.label.clone(),
            file: file.to_owned(),
            bytes: result.output.size_bytes,
            digest: result.output.digest.to_string(),
        };
        if self.is_there(&line(path)) {
            self.fresh.insert(path.to_owned());
            return Ok(());
        }
        let (folder, path) = match self.make_way(path) {
            Ok(folder) => (folder, path),
            // Something else is where a folder should be.
            Err(error) if is_taken(&error) => (self.path.clone(), path.rsplit('/').next().unwrap_or(path)),
            Err(error) => return Err(Failure::unwritable(&self.path.join(path), &error)),
        };
        let file = self.fill(client, result, &folder).await?;
        let own = |name: &str| {
            let earlier = self.known.get(name).filter(|_| !self.fresh.contains(name));
            earlier.is_some_and(|earlier| name == path || earlier.label == result.label)
        };
        let place = place(file, path, result.task.index as usize, &self.path, own);
        let place = place.map_err(|error| Failure::unwritable(&self.path.join(path), &error))?;
        let line = line(&place);
        if let Err(error) = self.note(&line) {
            // A file that the manifest does not know would be a stranger's the next time.
            let _ = fs::remove_file(self.path.join(&place));
            return Err(Failure::unwritable(&self.path.join(MANIFEST), &error));
        }
        self.fresh.insert(place.clone());
        self.known.insert(place, line);
        Ok(())
    }

    /// Whether this very output is where it belongs.
    fn is_there(&self, line: &Line) -> bool {
        self.known.get(&line.file).is_some_and(|known| known == line)
            && digest_of(&self.path.join(&line.file), line.bytes).is_some_and(|digest| digest == line.digest)
    }

    /// The folder of a path, made if it is missing. One that is a link leads who knows where.
    fn make_way(&self, path: &str) -> io::Result<PathBuf> {
        let mut folder = self.path.clone();
        let Some((folders, _)) = path.rsplit_once('/') else { return Ok(folder) };
        for part in folders.split('/') {
            folder.push(part);
            match fs::symlink_metadata(&folder) {
                Ok(about) if about.is_dir() => {}
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&folder)?,
                Err(error) => return Err(error),
            }
        }
        Ok(folder)
    }

    async fn fill(&self, client: &Client, result: &ResultBody, folder: &Path) -> Result<NamedTempFile, Failure> {
        let failed = |error| Failure::unwritable(folder, &error);
        let mut file = temporary(folder).map_err(failed)?;
        match results::inline(result)? {
            Some(bytes) => file.write_all(&bytes).map_err(failed)?,
            None => {
                let mut parts = pin!(client.output(result.task).await?);
                while let Some(part) = parts.try_next().await? {
                    file.write_all(&part).map_err(failed)?;
                }
            }
        }
        file.flush().map_err(failed)?;
        Ok(file)
    }

    fn note(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line).map_err(io::Error::other)?;
        text.push('\n');
        let manifest = match &mut self.manifest {
            Some(manifest) => manifest,
            none => none.insert(lull_engine::files::append_to(&self.path.join(MANIFEST))?),
        };
        manifest.write_all(text.as_bytes())
    }

    /// Leaves a manifest with one line for each file: one that was written again has two until then.
    fn tidy(&self) -> io::Result<()> {
        let there = self.known.values().filter(|line| self.path.join(&line.file).exists());
        let text: String = there.filter_map(|line| Some(serde_json::to_string(line).ok()? + "\n")).collect();
        let mut file = temporary(&self.path)?;
        file.write_all(text.as_bytes())?;
        file.persist(self.path.join(MANIFEST)).map(drop).map_err(|error| error.error)
    }
}

/// Whether a file is the manifest of a folder of results.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == MANIFEST) && known(path).is_ok_and(|known| !known.is_empty())
}

/// What an earlier run left in a folder, by file.
fn known(manifest: &Path) -> Result<BTreeMap<String, Line>, Failure> {
    let text = match fs::read_to_string(manifest) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::unreadable(manifest, &error)),
    };
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if lines.is_empty() && !text.trim().is_empty() {
        let failure = Failure::new(Exit::Failed, format!("{} is there and was not written by `lull`", manifest.display()));
        return Err(failure.hint("name another folder with --out DIR"));
    }
    Ok(lines.into_iter().map(|line| (line.file.clone(), line)).collect())
}

/// A file without its name yet, for whoever may read what is made here.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lull-").suffix(".partial");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Whether something else is there already, or where a folder on the way should be.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory)
}

/// Gives a file its name, or another one if somebody else's has it; which.
fn place(file: NamedTempFile, path: &str, index: usize, folder: &Path, own: impl Fn(&str) -> bool) -> io::Result<String> {
    let mut file = file;
    for name in [path.to_owned()].into_iter().chain(names::others(index, path)) {
        let target = folder.join(&name);
        if own(&name) {
            return file.persist(target).map(|_| name).map_err(|error| error.error);
        }
        match file.persist_noclobber(target) {
            Ok(_) => return Ok(name),
            Err(taken) if is_taken(&taken.error) => file = taken.file,
            Err(other) => return Err(other.error),
        }
    }
    unreachable!("there is always another number")
}

/// The digest of a file that has this size.
fn digest_of(path: &Path, bytes: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    if file.metadata().ok()?.len() != bytes {
        return None;
    }
    let (mut builder, mut buffer) = (OutlineBuilder::default(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(builder.finish().0.digest.to_string()),
            read => builder.update(&buffer[..read]),
        }
    }
}

/// Brings the outputs of one job into a folder while the job runs.
pub(crate) struct Gatherer<'a> {
    client: &'a Client,
    job: JobId,
    folder: Folder,
    /// By task.
    paths: Vec<String>,
    written: Vec<bool>,
    files: u64,
    /// Where the next look goes on.
    cursor: usize,
}

impl<'a> Gatherer<'a> {
    /// For a job that was submitted: asks what its inputs are called.
    pub(crate) async fn new(client: &'a Client, job: JobId, folder: Folder) -> Result<Self, Failure> {
        let (mut labels, mut from) = (Vec::new(), 0);
        loop {
            let page = client.tasks(job, None, from, LABELS_PAGE).await?;
            for task in page.items {
                labels.resize(task.task.index as usize, None);
                labels.push(task.label);
            }
            match page.next.and_then(|next| next.parse().ok()) {
                Some(next) => from = next,
                None => break,
            }
        }
        let paths = names::paths(&labels, &folder.suffix);
        let written = vec![false; paths.len()];
        Ok(Self { client, job, folder, paths, written, files: 0, cursor: 0 })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes what has ended, again and again; returns only if that cannot go on. `succeeded` says how many there are.
    pub(crate) async fn as_tasks_end(&mut self, mut succeeded: watch::Receiver<u64>) -> Failure {
        loop {
            let files = self.files;
            if succeeded.wait_for(|succeeded| *succeeded > files).await.is_err() {
                return std::future::pending().await;
            }
            let begun = Instant::now();
            match self.look(REQUESTS_MAX, Self::gap).await {
                Ok(()) => {}
                // The coordinator is away; whoever watches the job decides how long that may last.
                Err(failure) if matches!(failure.exit, Exit::Unreachable) => {}
                Err(failure) => return failure,
            }
            sleep(LOOK_EVERY.max(begun.elapsed() * LOOK_SHARE)).await;
        }
    }

    /// Writes all that has ended and is not there yet; how many files there are then.
    pub(crate) async fn rest(&mut self) -> Result<u64, Failure> {
        self.cursor = 0;
        self.look(usize::MAX, |_, _| PAGE).await?;
        self.folder.tidy().map_err(|error| Failure::unwritable(&self.folder.path.join(MANIFEST), &error))?;
        Ok(self.files)
    }

    /// Goes once through what is missing, from where the last look ended.
    async fn look(&mut self, requests_max: usize, limit: impl Fn(&Self, usize) -> u32) -> Result<(), Failure> {
        for _ in 0..requests_max {
            let Some(from) = (self.cursor..self.paths.len()).find(|index| !self.written[*index]) else {
                self.cursor = 0;
                return Ok(());
            };
            let page = self.client.results(self.job, from as u32, limit(self, from)).await?;
            for result in &page.items {
                let index = result.task.index as usize;
                let Some(path) = self.paths.get(index).filter(|_| !self.written[index]) else { continue };
                self.folder.put(self.client, result, path).await?;
                self.written[index] = true;
                self.files += 1;
            }
            self.cursor = match (page.next, page.items.last()) {
                (Some(_), Some(last)) => last.task.index as usize + 1,
                (_, _) => self.paths.len(),
            };
        }
        Ok(())
    }

    /// How many tasks in a row are missing: what was written is not fetched again.
    fn gap(&self, from: usize) -> u32 {
        let missing = self.written[from..].iter().take(PAGE as usize).take_while(|written| !**written).count();
        u32::try_from(missing).unwrap_or(PAGE).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Folder {
        let out = OutArgs { out: Some(path.to_owned()), suffix: None };
        Folder::open(&out).expect("it can be written to").expect("one is wanted")
    }

    fn file(folder: &Path, text: &str) -> NamedTempFile {
        let mut file = temporary(folder).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_refused_before_anything_runs() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("file"), "x").expect("written");
        let out = OutArgs { out: Some(root.path().join("file/below")), suffix: None };
        let failure = Folder::open(&out).err().expect("a file is in the way");
        assert!(failure.to_string().contains("--out DIR"), "{failure}");
        let out = OutArgs { out: Some(root.path().join("file")), suffix: None };
        let failure = Folder::open(&out).err().expect("it is a file");
        assert!(failure.message.contains("is a file, and outputs go into a folder"), "{failure}");
        let out = OutArgs { out: Some(root.path().join("new")), suffix: Some("/../x".into()) };
        assert!(Folder::open(&out).is_err());
        fs::write(root.path().join(MANIFEST), "my own notes").expect("written");
        let out = OutArgs { out: Some(root.path().to_owned()), suffix: None };
        assert!(Folder::open(&out).is_err(), "somebody else's manifest");
    }

    #[test]
    fn only_what_an_earlier_run_wrote_is_written_over() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("a.txt"), "mine").expect("written");
        let stranger = |_: &str| false;
        assert_eq!(place(file(root.path(), "new"), "a.txt", 3, root.path(), stranger).expect("placed"), "3-a.txt");
        assert_eq!(place(file(root.path(), "new"), "a.txt", 3, root.path(), stranger).expect("placed"), "3-2-a.txt");
        assert_eq!(place(file(root.path(), "newer"), "3-a.txt", 3, root.path(), |_| true).expect("placed"), "3-a.txt");
        let read = |name: &str| fs::read_to_string(root.path().join(name)).expect("it is there");
        assert_eq!((read("a.txt"), read("3-a.txt")), ("mine".into(), "newer".into()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_folder_leads_nobody_out_of_it() {
        let (root, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
        let folder = open(&root.path().join("out"));
        std::os::unix::fs::symlink(outside.path(), folder.path().join("sub")).expect("a link");
        assert!(folder.make_way("sub/a.txt").is_err());
        assert!(folder.make_way("other/deep/a.txt").expect("made").is_dir());
        assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_manifest_has_one_line_for_each_file_once_it_is_tidy() {
        let root = tempfile::tempdir().expect("a folder");
        let mut folder = open(root.path());
        let line = |file: &str, task: &str| Line {
            task: task.into(),
            label: None,
            file: file.into(),
            bytes: 1,
            digest: OutlineBuilder::default().finish().0.digest.to_string(),
        };
        fs::write(root.path().join("a"), "x").and_then(|()| fs::write(root.path().join("b"), "x")).expect("written");
        for line in [line("a", "j1.0"), line("b", "j1.1"), line("a", "j2.0")] {
            folder.note(&line).expect("noted");
            folder.known.insert(line.file.clone(), line);
        }
        assert_eq!(known(&root.path().join(MANIFEST)).expect("readable"), folder.known, "the last word holds");
        folder.tidy().expect("tidied");
        let text = fs::read_to_string(root.path().join(MANIFEST)).expect("readable");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("j2.0") && !text.contains("j1.0"), "{text}");
    }
}
