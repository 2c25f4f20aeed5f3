//! `lull func watch`: a project is built and run again whenever somebody changes it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::mpsc, time::timeout};

use crate::cli::{
    Context,
    exit::{Exit, Failure, Outcome},
    functions::{
        develop::{Run, build},
        project::Project,
    },
};

/// An editor writes a file in several steps: what comes within this is one change.
const QUIET: Duration = Duration::from_millis(150);
/// Changes that are remembered while something is built.
const CHANGES_MAX: usize = 1024;
/// Files that builds write and that are remembered; with more nobody can tell who changes what.
const MADE_MAX: usize = 4096;
/// Folders in which builds write and nobody edits.
const UNWATCHED: [&str; 6] = ["target", "bin", "obj", ".git", "node_modules", "__pycache__"];

impl Run {
    /// Again and again, on every change, until it is interrupted.
    pub(crate) async fn watch(&self, context: &Context) -> Outcome {
        context.out.check_plain()?;
        let folder =
            std::path::absolute(&self.which.project).map_err(|error| Failure::unreadable(&self.which.project, &error))?;
        Project::open(&folder).await?;
        let mut changes = Changes::of(&folder)?;
        loop {
            match self.turn(&mut changes, context).await {
                Ok(()) => {}
                Err(failure) => context.out.note(failure.to_string()),
            }
            context.out.note("waiting for a change (Ctrl-C ends it)");
            changes.next().await;
        }
    }

    /// Builds until nobody changed anything meanwhile, and runs.
    async fn turn(&self, changes: &mut Changes, context: &Context) -> Result<(), Failure> {
        let project = loop {
            let project = Project::open(&self.which.project).await?;
            let built = build(&project, context).await;
            if project.build.is_none() || !changes.while_built().await {
                built?;
                break project;
            }
            context.out.note("it changed while it was built; building again");
        };
        self.once(&project, context).await.map(|_| ())
    }
}

/// The files of a project that change, told apart by who changes them: a build also writes.
struct Changes {
    /// It tells while it lives.
    _watcher: RecommendedWatcher,
    changed: mpsc::Receiver<PathBuf>,
    written: Written,
}

/// What was written while it was built.
#[derive(Debug, Default)]
struct Written {
    files: BTreeSet<PathBuf>,
    /// Whether it was built before.
    built: bool,
}

impl Written {
    /// Whether somebody changed something while it was built. What is written in the first build or in two of them is what
    /// builds make.
    fn by_others(&mut self, changed: Vec<PathBuf>) -> bool {
        let first = !std::mem::replace(&mut self.built, true);
        let mut others = false;
        for path in changed {
            others |= self.files.len() < MADE_MAX && self.files.insert(path) && !first;
        }
        others
    }
}

impl Changes {
    fn of(folder: &Path) -> Result<Self, Failure> {
        let (changed, changes) = mpsc::channel(CHANGES_MAX);
        let within = folder.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in event.paths.into_iter().filter(|path| is_source(&within, path)) {
                // One that does not fit is one of many.
                let _ = changed.try_send(path);
            }
        })
        .map_err(|error| unwatchable(folder, &error))?;
        watcher.watch(folder, RecursiveMode::Recursive).map_err(|error| unwatchable(folder, &error))?;
        Ok(Self { _watcher: watcher, changed: changes, written: Written::default() })
    }

    /// Waits for a change, and until it is quiet.
    async fn next(&mut self) {
        self.changed.recv().await;
        while timeout(QUIET, self.changed.recv()).await.is_ok_and(|change| change.is_some()) {}
    }

    /// Whether somebody changed something while it was built.
    async fn while_built(&mut self) -> bool {
        let mut changed = Vec::new();
        while changed.len() < CHANGES_MAX
            && let Ok(Some(path)) = timeout(QUIET, self.changed.recv()).await
        {
            changed.push(path);
        }
        // What is gone by now was a step of the build.
        changed.retain(|path| path.exists());
        self.written.by_others(changed)
    }
}

/// Whether a change of this file may change the function.
fn is_source(folder: &Path, path: &Path) -> bool {
    let inside = path.strip_prefix(folder).unwrap_or(path);
    let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy());
    !parts.any(|part| UNWATCHED.contains(&part.as_ref()))
}

fn unwatchable(folder: &Path, error: &notify::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{} cannot be watched: {error}", folder.display()))
        .hint("`lull func run` builds and runs once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_writes_is_no_change() {
        let counts = |path: &str| is_source(Path::new("/p"), &Path::new("/p").join(path));
        assert!(counts("src/main.rs") && counts("lull.toml") && counts("input.txt"));
        assert!(!counts("target/debug/x") && !counts(".git/index"));
    }

    #[test]
    fn what_builds_make_is_told_from_what_somebody_changes_meanwhile() {
        let mut written = Written::default();
        let mut others = |paths: &[&str]| written.by_others(paths.iter().map(PathBuf::from).collect());
        assert!(!others(&["main.wasm", "main.wasm"]), "the first build made it");
        assert!(!others(&["main.wasm"]), "so does the second");
        assert!(others(&["main.wasm", "main.c"]), "no build wrote that before");
        assert!(!others(&["main.c", "main.wasm"]), "a build that writes it each time is not repeated without end");
    }
}
