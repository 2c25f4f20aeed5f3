//! From a module to all that is published of it, each step in a caged process of its own.
//!
//! ```text
//! check -> compile for each platform -> try -> rewrite -> compile for each platform -> try
//!                                              \____ the build that can be moved ____/
//! ```

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use lull_engine::executor::{
    compile::{Bounds, CompileError, Inspected, Source, Target, Trial, Workbench},
    engine::{EngineError, Platform},
    protocol::{Build, Priority},
};
use lull_shared::{digest::BlobRef, hint, job::Moving, message::ModuleKind};

use super::kept::KeptBuilds;

/// Memory that a compiler's process may have: far more than modules of real toolchains take, and less than one function of
/// 270 kB was seen to take that is nothing but calls.
pub const MEMORY_BYTES_DEFAULT: u64 = 2 << 30;
/// How long one step may take: a module of 13 MB takes 21 s of an idle processor, and the coordinator's has other work.
pub const TIME_DEFAULT: Duration = Duration::from_secs(10 * 60);
/// Threads of one compilation: every one more costs memory, and modules with more functions than that are few.
const THREADS_MAX: u16 = 8;

/// With `auto`, what compiling the build that can be moved may take over the plain one, in processor time: real modules
/// take three to five times (`moves --compiling`), and one that was written to be slow took 140.
pub const MOVABLE_TIMES_MAX: u32 = 20;
/// What it may take however quickly the plain one is compiled.
pub const MOVABLE_CPU_MIN: Duration = Duration::from_secs(10);
/// With `auto`, how much larger it may be when it is compiled; real ones are three to eight times as large.
pub const MOVABLE_SIZE_TIMES_MAX: u64 = 24;
/// What it may have however small the plain one is.
pub const MOVABLE_BYTES_MIN: u64 = 32 << 20;

/// How modules are worked on here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Making {
    /// Memory of each process.
    pub memory_bytes: u64,
    /// Time of each process.
    pub time: Duration,
    /// Where builds are kept for the next time; none: they are made anew.
    pub kept: Option<PathBuf>,
}

impl Default for Making {
    fn default() -> Self {
        Self { memory_bytes: MEMORY_BYTES_DEFAULT, time: TIME_DEFAULT, kept: None }
    }
}

/// What is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub canonical_nans: bool,
    pub moving: Moving,
    pub platforms: BTreeSet<Platform>,
}

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Reading,
    Checking,
    Compiling(Platform),
    Trying,
    Rewriting,
    CompilingMovable(Platform),
    TryingMovable,
    Storing,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading => f.write_str("reading the module"),
            Self::Checking => f.write_str("checking the module"),
            Self::Compiling(platform) => write!(f, "compiling for {platform}"),
            Self::Trying => f.write_str("trying whether agents can run it"),
            Self::Rewriting => f.write_str("making the build that can be moved"),
            Self::CompilingMovable(platform) => write!(f, "compiling the build that can be moved for {platform}"),
            Self::TryingMovable => f.write_str("trying the build that can be moved"),
            Self::Storing => f.write_str("storing what was made"),
        }
    }
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub path: PathBuf,
    pub blob: BlobRef,
}

/// A module compiled for one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub engine: String,
    pub part: Part,
}

/// What was made of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub kind: ModuleKind,
    pub interface: Vec<String>,
    pub plain: Vec<Compiled>,
    pub movable: Option<Movable>,
    /// Why there is no build that can be moved although one was to be made.
    pub not_movable: Option<String>,
}

/// The build that can be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movable {
    pub module: Part,
    pub compiled: Vec<Compiled>,
}

/// Nothing is published.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("no agent could run this module: {0}")]
    Unrunnable(String),
    #[error("this module is too costly to compile: {0}")]
    Costly(CompileError),
    #[error("no build of this module can be moved: {0}")]
    NotMovable(String),
    #[error("the module could not be compiled: {0}")]
    Compiler(CompileError),
    #[error("the module could not be compiled: {0}")]
    Engine(#[from] EngineError),
}

/// Where modules are worked on.
pub struct Workshop {
    bench: Workbench,
    kept: Option<KeptBuilds>,
}

/// An engine, and the platform that it is for.
type Aim = (Platform, String);

impl Workshop {
    /// Works as it is told to.
    pub fn new(making: &Making) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = u16::try_from(threads).unwrap_or(THREADS_MAX).min(THREADS_MAX);
        let bounds = Bounds { memory_bytes: making.memory_bytes, time: making.time, cpu: None, threads };
        let bench = Workbench { program: None, priority: Priority::Low, bounds };
        Self { bench, kept: making.kept.clone().map(KeptBuilds::new) }
    }

    /// The engines of those platforms that can be compiled for from here; agents of others compile for themselves.
    pub async fn engines(platforms: BTreeSet<Platform>) -> Vec<String> {
        aims_of(platforms).await.into_iter().map(|(_, engine)| engine).collect()
    }

    /// Makes everything, into files in the folder `into`. Each step is told before it begins.
    pub async fn make(
        &self,
        module: &Source,
        recipe: &Recipe,
        into: &Path,
        tell: impl Fn(Phase) + Send + Sync,
    ) -> Result<Made, MakeError> {
        let aims = aims_of(recipe.platforms.clone()).await;
        let engines: Vec<&str> = aims.iter().map(|(_, engine)| engine.as_str()).collect();
        if let Some(kept) = &self.kept
            && let Some(made) = kept.find(module.digest, recipe, &engines, into).await
        {
            return Ok(made);
        }
        let made = self.make_anew(module, recipe, &aims, into, tell).await?;
        if let Some(kept) = &self.kept {
            kept.keep(module.digest, recipe, &engines, &made).await;
        }
        Ok(made)
    }

    async fn make_anew(
        &self,
        module: &Source,
        recipe: &Recipe,
        aims: &[Aim],
        into: &Path,
        tell: impl Fn(Phase) + Send + Sync,
    ) -> Result<Made, MakeError> {
        tell(Phase::Checking);
        let inspected = self.bench.inspect(module).await.map_err(unrunnable)?;
        let (kind, canonical_nans) = (inspected.kind, recipe.canonical_nans);
        let (mut plain, mut cpu) = (Vec::new(), Duration::ZERO);
        for (number, (platform, engine)) in aims.iter().enumerate() {
            tell(Phase::Compiling(platform.clone()));
            let target = Target { kind, canonical_nans, platform: platform.to_string() };
            let path = into.join(format!("plain-{number}"));
            let product = self.bench.compile(module, &target, &path).await.map_err(unrunnable)?;
            cpu = cpu.max(product.cpu);
            plain.push(Compiled { engine: engine.clone(), part: Part { path, blob: product.blob } });
        }
        if let Some(own) = own(aims, &plain) {
            tell(Phase::Trying);
            self.bench.try_out(&trial(own, &inspected, Build::Plain)).await.map_err(unrunnable)?;
        }
        let largest = plain.iter().map(|compiled| compiled.part.blob.size_bytes).max().unwrap_or(0);
        let (movable, not_movable) = match recipe.moving {
            Moving::Never => (None, None),
            Moving::Always => {
                let made = self.movable(&self.bench, module, &inspected, recipe, aims, into, &tell).await;
                (Some(made.map_err(not_movable)?), None)
            }
            Moving::Auto => {
                let bench = Workbench { bounds: bounded(self.bench.bounds, cpu), ..self.bench.clone() };
                match self.movable(&bench, module, &inspected, recipe, aims, into, &tell).await {
                    Ok(made) => match too_large(&made, largest) {
                        None => (Some(made), None),
                        Some(reason) => (None, Some(reason)),
                    },
                    Err(error) if error.is_the_modules() => (None, Some(reason(&error))),
                    Err(error) => return Err(MakeError::Compiler(error)),
                }
            }
        };
        Ok(Made { kind, interface: inspected.interface, plain, movable, not_movable })
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is the caller's own context")]
    async fn movable(
        &self,
        bench: &Workbench,
        module: &Source,
        inspected: &Inspected,
        recipe: &Recipe,
        aims: &[Aim],
        into: &Path,
        tell: &(impl Fn(Phase) + Send + Sync),
    ) -> Result<Movable, CompileError> {
        tell(Phase::Rewriting);
        let path = into.join("movable");
        let build = bench.rewrite(module, &path).await?;
        let module = Part { path, blob: build.blob };
        let source = Source { path: module.path.clone(), digest: module.blob.digest };
        let mut compiled = Vec::new();
        for (number, (platform, engine)) in aims.iter().enumerate() {
            tell(Phase::CompilingMovable(platform.clone()));
            let (kind, canonical_nans) = (inspected.kind, recipe.canonical_nans);
            let target = Target { kind, canonical_nans, platform: platform.to_string() };
            let path = into.join(format!("movable-{number}"));
            let product = bench.compile(&source, &target, &path).await?;
            compiled.push(Compiled { engine: engine.clone(), part: Part { path, blob: product.blob } });
        }
        if let Some(own) = own(aims, &compiled) {
            tell(Phase::TryingMovable);
            let build = Build::Migratable { code: module.blob.digest };
            self.bench.try_out(&trial(own, inspected, build)).await?;
        }
        Ok(Movable { module, compiled })
    }
}

/// Naming an engine sets one up.
async fn aims_of(platforms: BTreeSet<Platform>) -> Vec<Aim> {
    tokio::task::spawn_blocking(move || aims(&platforms)).await.unwrap_or_default()
}

fn aims(platforms: &BTreeSet<Platform>) -> Vec<Aim> {
    let aim = |platform: &Platform| match platform.engine() {
        Ok(engine) => Some((platform.clone(), engine)),
        Err(error) => {
            tracing::info!(%platform, %error, "nothing is compiled for a platform; its agents compile themselves");
            None
        }
    };
    platforms.iter().filter_map(aim).collect()
}

/// What was compiled for this machine.
fn own<'a>(aims: &[Aim], compiled: &'a [Compiled]) -> Option<&'a Part> {
    let host = Platform::host();
    let (_, engine) = aims.iter().find(|(platform, _)| *platform == host)?;
    compiled.iter().find(|compiled| compiled.engine == *engine).map(|compiled| &compiled.part)
}

fn trial(part: &Part, inspected: &Inspected, build: Build) -> Trial {
    Trial {
        artifact: Source { path: part.path.clone(), digest: part.blob.digest },
        kind: inspected.kind,
        build,
        memory_bytes: inspected.memory_bytes,
        starts: inspected.starts,
    }
}

/// The bounds within which a second build is worth its cost.
fn bounded(bounds: Bounds, plain: Duration) -> Bounds {
    // Whole seconds, as the system counts them and people read them.
    let cpu = Duration::from_secs((plain * MOVABLE_TIMES_MAX).as_secs());
    Bounds { cpu: Some(cpu.max(MOVABLE_CPU_MIN)), ..bounds }
}

fn too_large(movable: &Movable, plain_bytes: u64) -> Option<String> {
    let largest = movable.compiled.iter().map(|compiled| compiled.part.blob.size_bytes).max()?;
    let max = (plain_bytes * MOVABLE_SIZE_TIMES_MAX).max(MOVABLE_BYTES_MIN);
    (largest > max).then(|| {
        let (largest, max) = (bytesize::ByteSize(largest), bytesize::ByteSize(max));
        format!("the build for that would have {largest}, and at most {max} are taken for this module")
    })
}

fn unrunnable(error: CompileError) -> MakeError {
    match error {
        CompileError::Memory { .. } | CompileError::Time { .. } | CompileError::Cpu { .. } => MakeError::Costly(error),
        CompileError::Refused(_) if error.is_the_modules() => MakeError::Unrunnable(error.to_string()),
        CompileError::Refused(_) | CompileError::Process(_) | CompileError::Died { .. } => MakeError::Compiler(error),
    }
}

fn not_movable(error: CompileError) -> MakeError {
    if error.is_the_modules() { MakeError::NotMovable(reason(&error)) } else { MakeError::Compiler(error) }
}

/// Why there is no build that can be moved.
fn reason(error: &CompileError) -> String {
    match error {
        CompileError::Cpu { limit } => {
            let limit = humantime::format_duration(*limit);
            format!(
                "compiling the build for that took more than {limit} of processor time, {MOVABLE_TIMES_MAX} times the plain one's"
            )
        }
        CompileError::Memory { .. } | CompileError::Time { .. } => format!("of the build for that, {error}"),
        CompileError::Refused(_) | CompileError::Process(_) | CompileError::Died { .. } => hint::in_one_line(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movable(size_bytes: u64) -> Movable {
        let part = Part { path: PathBuf::new(), blob: BlobRef { size_bytes, ..BlobRef::of(b"x") } };
        Movable { module: part.clone(), compiled: vec![Compiled { engine: "e".into(), part }] }
    }

    #[test]
    fn a_second_build_has_its_bounds_by_the_first() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::AGENT;
        assert_eq!(bounded(bounds, second / 10).cpu, Some(MOVABLE_CPU_MIN), "small modules cost little whatever the ratio");
        assert_eq!(bounded(bounds, second * 10).cpu, Some(second * 200));
        assert_eq!(too_large(&movable(MOVABLE_BYTES_MIN), 1), None);
        assert_eq!(too_large(&movable(24 << 30), 1 << 30), None);
        assert!(too_large(&movable(25 << 30), 1 << 30).is_some_and(|reason| reason.contains("25")));
    }
}
