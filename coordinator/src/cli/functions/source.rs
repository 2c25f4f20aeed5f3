//! What people call a function, as a module in a file: a module as it is, and a script bound to what runs it.

use std::path::{Path, PathBuf};

use lull_engine::executor::process::{Input, Output};
use lull_shared::{job::AttemptLimits, job::Moving, state};
use tempfile::TempDir;

use crate::{
    cli::{
        exit::Failure,
        functions::local::{Local, Setting, Wanted, read},
        shown::output::Output as Shown,
    },
    publishing::javascript::{SCRIPT_BYTES_MAX, Script, checker},
};

/// Reading a script takes milliseconds.
const CHECK_TIME_MS: u64 = 30_000;

/// Endings of source files that a compiler makes modules of, and what makes a module of them.
const COMPILED: [(&str, &str); 10] = [
    ("rs", "`cargo build --release --target wasm32-wasip1`"),
    ("toml", "`cargo build --release --target wasm32-wasip1`"),
    ("c", "wasi-sdk: `clang --target=wasm32-wasi -O2 FILE -o FUNCTION.wasm`"),
    ("cc", "wasi-sdk: `clang++ --target=wasm32-wasi -O2 FILE -o FUNCTION.wasm`"),
    ("cpp", "wasi-sdk: `clang++ --target=wasm32-wasi -O2 FILE -o FUNCTION.wasm`"),
    ("go", "`GOOS=wasip1 GOARCH=wasm go build -o FUNCTION.wasm`"),
    ("py", "`componentize-py -d wit -w command componentize FILE -o FUNCTION.wasm`"),
    ("cs", "`dotnet publish -r wasi-wasm`"),
    ("zig", "`zig build-exe -target wasm32-wasi -O ReleaseFast FILE`"),
    ("wat", "`wasm-tools parse FILE -o FUNCTION.wasm`"),
];

/// A module in a file, which goes with this if it was made for it.
pub(crate) struct Module {
    pub path: PathBuf,
    _folder: Option<TempDir>,
}

impl Module {
    /// The module that a file is, or that is made of it.
    pub(crate) async fn of(file: &Path, out: &Shown, tell: impl Fn(&str) + Send + Sync) -> Result<Self, Failure> {
        if Script::is_named(file) {
            let bytes = read(file, SCRIPT_BYTES_MAX as u64 + 1).await?;
            let script = Script::new(file, bytes).map_err(|error| Failure::usage(error.to_string()))?;
            tell(&format!("reading {}", script.name));
            check(&script, out).await?;
            let folder = tempfile::tempdir().map_err(|error| Failure::unwritable(&std::env::temp_dir(), &error))?;
            let path = folder.path().join(format!("{}.wasm", script.name));
            tokio::fs::write(&path, script.module()).await.map_err(|error| Failure::unwritable(&path, &error))?;
            return Ok(Self { path, _folder: Some(folder) });
        }
        let ending = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match COMPILED.iter().find(|(known, _)| ending == *known) {
            Some((_, how)) if file.is_file() => {
                let message = format!("{} is source code, and a function is what a compiler makes of it", file.display());
                Err(Failure::usage(message).hint(format!("build it, and name the .wasm that comes of it: {how}")))
            }
            _ => Ok(Self { path: file.to_owned(), _folder: None }),
        }
    }
}

/// Has the script read, as it will be when it runs, and says what is wrong with it. A machine that cannot do that says so, and
/// the script's tasks will find it out.
async fn check(script: &Script, out: &Shown) -> Result<(), Failure> {
    let wanted = Wanted { canonical_nans: false, moving: Moving::Never, kept: true };
    let limits = AttemptLimits { time_ms: CHECK_TIME_MS, ..AttemptLimits::default() };
    let setting = Setting { function: "check".into(), args: vec![script.name.clone()], limits, ..Setting::default() };
    let looked = async {
        let local = Local::make(checker(), wanted, |_| {}).await?;
        local.plain(&setting).await?.run(Input::Inline(script.text.clone().into())).await
    };
    let words = match looked.await {
        Ok(Ok(finished)) => match finished.outcome {
            Ok(Output::Inline(_) | Output::File { .. }) => return Ok(()),
            Err(state::Failure::Exit { .. }) => String::from_utf8_lossy(&finished.log).trim_end().to_owned(),
            Err(failure) => format!("{} cannot be read: {failure}", script.name),
        },
        Ok(Err(stopped)) => format!("{} cannot be read: {stopped}", script.name),
        Err(failure) => {
            out.note(format!("{} is not checked before it is published: {}", script.name, failure.message));
            return Ok(());
        }
    };
    Err(Failure::usage(words).hint("mend the script and give the command again"))
}
