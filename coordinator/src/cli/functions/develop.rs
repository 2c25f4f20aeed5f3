//! `lull func build` and `run`: a function's project on its author's machine.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use lull_engine::executor::process::{Finished, Input, Output};
use lull_shared::job::Moving;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::cli::{
    Context,
    exit::{Exit, Failure, Outcome},
    functions::{
        local::{Local, Setting, Stopped, Wanted},
        project::Project,
        source::Module,
    },
    shown::{
        output::{Deed, write_out},
        steps::Steps,
    },
    typed::amount::spoken,
};

/// Output that does not fit a message is copied in pieces.
const PIECE_BYTES: usize = 256 << 10;

/// Which project.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The project's folder, in which lull.toml is
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
}

/// `lull func build`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull func build\n  lull func build --project risk")]
pub(crate) struct Build {
    #[command(flatten)]
    pub which: Which,
}

/// `lull func run` and `lull func watch`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  lull func run\n  lull func run other.txt\n  lull func watch --project risk sample.json -- --paths 1000\n\n\
It runs once, in the cage and within the limits that agents have, by the plain build. Its output is on standard output and its log\n\
on standard error; the exit code is 0 if the task would have succeeded."
)]
pub(crate) struct Run {
    /// The input, a file, or - for standard input; that of lull.toml if left out
    #[arg(value_name = "INPUT")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub which: Which,
    /// Arguments of the function, after --, behind those of lull.toml
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

impl Build {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let project = Project::open(&self.which.project).await?;
        build(&project, context).await?;
        let module = project.module().display().to_string();
        context.out.done(&Deed::new("built", &module), format!("{module} is built"))?;
        Ok(Exit::Succeeded)
    }
}

impl Run {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        context.out.check_plain()?;
        let project = Project::open(&self.which.project).await?;
        build(&project, context).await?;
        self.once(&project, context).await
    }

    pub(super) async fn once(&self, project: &Project, context: &Context) -> Outcome {
        let input = self.input(project).await?;
        let local = {
            let steps = Mutex::new(Steps::new(&context.out));
            let tell = |step: &str| steps.lock().unwrap_or_else(PoisonError::into_inner).show(step, "");
            let module = Module::of(&project.module(), &context.out, tell).await?;
            let bytes = tokio::fs::read(&module.path).await.map_err(|error| Failure::unreadable(&module.path, &error))?;
            let wanted = Wanted { canonical_nans: project.canonical_nans, moving: Moving::Never, kept: true };
            Local::make(&bytes, wanted, tell).await?
        };
        let setting = Setting {
            function: project.name.clone(),
            args: project.args.iter().chain(&self.args).cloned().collect(),
            env: Vec::new(),
            limits: project.limits,
            grants: project.granted(),
        };
        let ended = local.plain(&setting).await?.run(input).await?;
        let finished = match ended {
            Ok(finished) => finished,
            Err(Stopped::TimeLimit { log }) => {
                say(&log).await;
                let limit = spoken(Duration::from_millis(project.limits.time_ms));
                return Err(Failure::new(Exit::Failed, format!("the task ran longer than its limit of {limit}"))
                    .hint("raise `time` in lull.toml, or give it less to do"));
            }
            Err(stopped) => return Err(Failure::new(Exit::Failed, format!("the task has no end of its own: {stopped}"))),
        };
        say(&finished.log).await;
        if finished.log_dropped_bytes > 0 {
            context.out.note(format!("{} of its log were dropped in the middle", bytesize::ByteSize(finished.log_dropped_bytes)));
        }
        show(finished, project, context).await
    }

    async fn input(&self, project: &Project) -> Result<Input, Failure> {
        let path = match (&self.input, &project.input) {
            (Some(path), _) if path == Path::new("-") => {
                let mut bytes = Vec::new();
                let read = tokio::io::stdin().read_to_end(&mut bytes).await;
                read.map_err(|error| Failure::unreadable(path, &error))?;
                return Ok(Input::Inline(bytes.into()));
            }
            (Some(path), _) => path.clone(),
            (None, Some(path)) => project.folder.join(path),
            (None, None) => return Ok(Input::Inline(Default::default())),
        };
        match tokio::fs::metadata(&path).await {
            Ok(found) if found.is_file() => Ok(Input::File(path)),
            Ok(_) => Err(Failure::usage(format!("{} is not a file", path.display())).hint("one run takes one input")),
            Err(error) => Err(Failure::unreadable(&path, &error)),
        }
    }
}

async fn show(finished: Finished, project: &Project, context: &Context) -> Outcome {
    let output = match finished.outcome {
        Ok(output) => output,
        Err(failure) => {
            return Err(Failure::new(Exit::Failed, format!("the task would fail: {failure}"))
                .hint("limits and grants stand in lull.toml; what the function wrote to standard error is above"));
        }
    };
    match output {
        Output::Inline(bytes) => write_out(&bytes)?,
        Output::File { path, .. } => {
            let unreadable = |error: std::io::Error| Failure::unreadable(&path, &error);
            let mut file = tokio::fs::File::open(&path).await.map_err(unreadable)?;
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                match file.read(&mut piece).await.map_err(unreadable)? {
                    0 => break,
                    read => write_out(&piece[..read])?,
                }
            }
        }
    }
    let (cpu, memory) = (Duration::from_micros(finished.usage.cpu_us), project.limits.memory_bytes);
    let limit = bytesize::ByteSize(memory);
    context.out.note(format!("the task would succeed: {:.1} ms of processor time, within {limit}", cpu.as_secs_f64() * 1e3));
    Ok(Exit::Succeeded)
}

/// What the function wrote to standard error goes to ours.
async fn say(log: &[u8]) {
    let mut err = tokio::io::stderr();
    let _ = err.write_all(log).await;
    if log.last().is_some_and(|last| *last != b'\n') {
        let _ = err.write_all(b"\n").await;
    }
    let _ = err.flush().await;
}

/// Runs the build command, if there is one. Its words go to standard error.
pub(super) async fn build(project: &Project, context: &Context) -> Result<(), Failure> {
    if let Some(line) = &project.build {
        context.out.note(format!("building {}: {line}", project.name));
        let shell = if cfg!(windows) { "cmd" } else { "sh" };
        let mut command = Command::new(shell);
        // `cmd` takes the rest of its command line apart itself.
        #[cfg(windows)]
        command.raw_arg("/C").raw_arg(line);
        #[cfg(not(windows))]
        command.args(["-c", line]);
        command.current_dir(&project.folder).kill_on_drop(true);
        command.stdin(std::process::Stdio::null()).stdout(std::io::stderr());
        let ended = command.status().await.map_err(|error| Failure::new(Exit::Failed, format!("cannot run {shell}: {error}")))?;
        if !ended.success() {
            return Err(not_built(line, ended.code()));
        }
    }
    let module = project.module();
    if module.is_file() {
        return Ok(());
    }
    let (message, hint) = match &project.build {
        Some(_) => (
            format!("the build succeeded, and there is no {}", module.display()),
            "`module` in lull.toml names what the build makes, from the project's folder on",
        ),
        None => (format!("there is no {}", module.display()), "`module` in lull.toml names the module or the script"),
    };
    Err(Failure::new(Exit::NotFound, message).hint(hint))
}

/// Tools, and how one gets them.
const TOOLS: [(&str, &str); 4] = [
    ("cargo", "https://rustup.rs installs Rust, and `rustup target add wasm32-wasip1` its target for functions"),
    (
        "clang",
        "wasi-sdk (https://github.com/WebAssembly/wasi-sdk) has a clang for functions; on Debian: `apt install clang lld wasi-libc \
         libclang-rt-dev-wasm32`",
    ),
    ("npx", "https://nodejs.org has Node.js with it"),
    ("make", "your system's packages have it (build-essential)"),
];

/// The shell's exit code for a program that is not there: of sh, and of cmd.
const NO_PROGRAM: [i32; 2] = [127, 9009];

/// The build failed; which tool may be missing.
fn not_built(line: &str, code: Option<i32>) -> Failure {
    let mut words = line.split_whitespace();
    let tool = words.find(|word| !word.contains('=')).unwrap_or_default();
    let known = TOOLS.iter().find(|(name, _)| *name == tool).map(|(_, hint)| *hint);
    match code {
        Some(code) if NO_PROGRAM.contains(&code) => Failure::new(Exit::Failed, format!("{tool} is not installed here"))
            .hint(known.unwrap_or("install it, or change `build` in lull.toml")),
        _ => {
            let code = code.map_or("was killed".to_owned(), |code| format!("ended with exit code {code}"));
            let hint = match known {
                Some(known) => format!("what it said is above; if something is not installed: {known}"),
                None => "what it said is above".to_owned(),
            };
            Failure::new(Exit::Failed, format!("the build {code}")).hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_fails_says_what_may_be_missing() {
        let missing = not_built("CFLAGS=-O2 make all", Some(127));
        assert_eq!(missing.message, "make is not installed here");
        assert!(missing.hint.is_some_and(|hint| hint.contains("build-essential")));
        let failed = not_built("cargo build", Some(101));
        assert_eq!(failed.message, "the build ended with exit code 101");
        assert!(failed.hint.is_some_and(|hint| hint.contains("rustup target add wasm32-wasip1")));
        assert!(not_built("./mine", Some(127)).hint.is_some_and(|hint| hint.contains("lull.toml")));
    }
}
