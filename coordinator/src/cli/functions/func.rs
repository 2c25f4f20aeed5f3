//! `lull func`: publish, list, show, remove.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lull_engine::executor::compile::MADE_WITH;
use lull_shared::{amount::quoted, job::Moving};

use crate::{
    api::{FunctionBody, LabelBody, PublicationId},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        functions::{
            develop::{Build, Run},
            diff::Diff,
            new::New,
            publish,
        },
        shown::output::{Cell, Deed, Look, Row, counted, pairs},
    },
    publishing::NOT_MOVABLE,
    version::{Named, NoVersion, STABLE, Which, check_label},
};

/// What can be done with functions.
#[derive(Debug, Subcommand)]
pub(crate) enum Func {
    /// Make a project: a source file that works, an input to try it on, and lull.toml
    New(New),
    /// Build the project of this folder, as its lull.toml says
    Build(Build),
    /// Build the project and run it here on one input, as an agent would
    Run(Run),
    /// The same again on every change of a file
    Watch(Run),
    /// Publish a module as a new version of its function, unless it is a version with these options already
    Publish(Publish),
    /// Show what became of a publication, wait for it, or stop it; without one, list all that are known
    #[command(after_help = PUBLICATION)]
    Publication(Publication),
    /// List all versions of all functions
    #[command(after_help = "EXAMPLES:\n  lull func list")]
    List,
    /// Show a version: digest, size, imports and exports
    #[command(after_help = "EXAMPLES:\n  lull func show stats\n  lull func show stats@2 -o json")]
    Show(Called),
    /// Show what two versions differ in: digests, sizes, imports, options, and the text of scripts
    Diff(Diff),
    /// Let a label stand for this version: `stable` is what the function's name alone stands for
    #[command(after_help = PROMOTE)]
    Promote(Promote),
    /// Let a label stand again for the version that it stood for before
    #[command(after_help = "EXAMPLES:\n  lull func rollback stats\n  lull func rollback stats --label canary")]
    Rollback(Rollback),
    /// Take one or all versions of a function out of use; jobs that use them go on
    #[command(after_help = "EXAMPLES:\n  lull func remove stats@1\n  lull func remove stats")]
    Remove(Removed),
}

const PUBLICATION: &str = "EXAMPLES:\n  lull func publication\n  lull func publication p00c0ffee00c0ffee --wait\n\n\
A publication goes on when whoever began it has gone. What became of it is remembered for an hour after its end, and\n\
not over a restart of the coordinator; publishing the same module again always finds what was done.";

/// `lull func publication`
#[derive(Debug, Args)]
pub(crate) struct Publication {
    /// The publication, as `lull func publish` named it
    #[arg(value_name = "PUBLICATION")]
    pub publication: Option<PublicationId>,
    /// Wait until it has ended, and exit as it ended
    #[arg(long, requires = "publication")]
    pub wait: bool,
    /// Stop it
    #[arg(long, requires = "publication", conflicts_with = "wait")]
    pub cancel: bool,
}

/// `lull func publish`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  lull func publish stats.wasm\n  lull func publish target/wasm32-wasip1/release/risk.wasm --name risk --canonical-nans
  lull func publish risk.wasm --sample scenario-7.json -- --paths 10000
  lull func publish report.js
  lull func publish --project risk\n\n\
Without a file the project of this folder is built and published, as its lull.toml says; what is given here wins."
)]
pub(crate) struct Publish {
    /// A module (a WASI command, wasm32-wasip1, or a component that exports wasi:cli/run), or a script in JavaScript; the
    /// project's if left out
    pub file: Option<PathBuf>,
    /// The project's folder, in which lull.toml is
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "file")]
    pub project: PathBuf,
    /// What the function is called; the file's name without its ending if left out
    #[arg(long, value_name = "NAME", value_parser = crate::cli::typed::amount::function_name)]
    pub name: Option<String>,
    /// Make NaNs the same on every kind of processor; floating-point loops can take twice as long
    #[arg(long)]
    pub canonical_nans: bool,
    /// Whether to make a second build whose running tasks can be moved to another machine: if the module allows it (auto),
    /// always (a module that does not allow it is not published) or never [default: auto]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub migratable: Option<When>,
    /// Run both builds on this input here, side by side, and remember what moving costs; otherwise it is guessed
    #[arg(long, value_name = "FILE")]
    pub sample: Option<PathBuf>,
    /// Arguments of the function for the sample, after --
    #[arg(last = true, value_name = "ARGS", requires = "sample")]
    pub args: Vec<String>,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum When {
    #[default]
    Auto,
    Always,
    Never,
}

impl From<When> for Moving {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

const PROMOTE: &str = "EXAMPLES:\n  lull func promote stats@3\n  lull func promote stats@4 --label canary\n\n\
Wherever a version is named, a label can stand for its number: `lull submit stats@canary ...`. The name alone means what is\n\
stable, or the newest version if none is. A job keeps the version that it was submitted with, whatever its label stands for\n\
later.";

/// A function or one version of it.
#[derive(Debug, Args)]
pub(crate) struct Called {
    /// NAME, NAME@NUMBER, NAME@LABEL or NAME@latest
    #[arg(value_name = "NAME[@VERSION]", value_parser = named)]
    called: Named,
}

/// A function or one version of it, by its number.
#[derive(Debug, Args)]
pub(crate) struct Removed {
    /// NAME or NAME@NUMBER
    #[arg(value_name = "NAME[@N]", value_parser = numbered)]
    called: Named,
}

/// `lull func promote`
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// NAME@NUMBER, or a version by another label or as NAME@latest
    #[arg(value_name = "NAME@VERSION", value_parser = versioned)]
    called: Named,
    /// The label
    #[arg(long, value_name = "LABEL", default_value = STABLE, value_parser = label)]
    label: String,
}

/// `lull func rollback`
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The function
    #[arg(value_name = "NAME", value_parser = crate::cli::typed::amount::function_name)]
    name: String,
    /// The label
    #[arg(long, value_name = "LABEL", default_value = STABLE, value_parser = label)]
    label: String,
}

impl Func {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Publish(wanted) => publish::run(wanted, context).await,
            Self::New(new) => new.run(context),
            other => tokio::select! {
                outcome = other.look(context) => outcome,
                () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
            },
        }
    }

    /// What can be broken off anywhere.
    async fn look(&self, context: &Context) -> Outcome {
        match self {
            Self::Publish(_) | Self::New(_) => unreachable!("it was taken before"),
            Self::Build(build) => build.run(context).await,
            Self::Run(run) => run.run(context).await,
            Self::Watch(run) => run.watch(context).await,
            Self::Diff(diff) => diff.run(context).await,
            Self::Publication(publication) => publish::publication(publication, context).await,
            Self::List => {
                context.out.list(&context.server.connect()?.functions().await?.items)?;
                Ok(Exit::Succeeded)
            }
            Self::Show(Called { called }) => {
                let function = context.server.connect()?.version(called).await?;
                context.out.one(&function, &function.called(), |look| describe(&function, look))?;
                Ok(Exit::Succeeded)
            }
            Self::Promote(Promote { called, label }) => {
                let client = context.server.connect()?;
                let number = match called.which {
                    Which::Number(number) => number,
                    _ => client.version(called).await?.number,
                };
                moved(&client.promote(&called.function, label, number).await?, context)
            }
            Self::Rollback(Rollback { name, label }) => moved(&context.server.connect()?.roll_back(name, label).await?, context),
            Self::Remove(Removed { called }) => {
                let (name, number) = match called {
                    Named { function, which: Which::Number(number) } => (function, Some(*number)),
                    Named { function, .. } => (function, None),
                };
                let affected = context.server.connect()?.remove_function(name, number).await?.affected;
                let subject = called.to_string();
                let words = format!("{} of {name}: out of use for new jobs", counted(affected, "version"));
                context.out.done(&Deed::new("removed", subject).affecting(affected), words)?;
                Ok(Exit::Succeeded)
            }
        }
    }
}

/// A function's name from its file's: `text-stats.wasm`, `text-stats.component.wasm` -> `text-stats`.
pub(crate) fn own_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_string_lossy();
    let stem = name.split('.').find(|part| !part.is_empty())?;
    let safe: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
    let safe = safe.trim_start_matches(['-', '_']);
    (!safe.is_empty()).then(|| safe.to_owned())
}

pub(super) fn named(text: &str) -> Result<Named, String> {
    text.parse().map_err(|wrong: NoVersion| wrong.to_string())
}

/// A function, or its version by number: whatever is removed is named as what it is.
fn numbered(text: &str) -> Result<Named, String> {
    match named(text)? {
        Named { which: Which::Newest | Which::Label(_), .. } => Err(format!(
            "{} names a version by what it is called today\nhint: name it by its number; `lull func show {text}` says which",
            quoted(text)
        )),
        named => Ok(named),
    }
}

fn versioned(text: &str) -> Result<Named, String> {
    match named(text)? {
        Named { which: Which::Usual, .. } => {
            Err(format!("{} names no version\nhint: write {text}@NUMBER, or {text}@latest for the newest", quoted(text)))
        }
        named => Ok(named),
    }
}

fn label(text: &str) -> Result<String, String> {
    check_label(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "a label"))
}

/// What a label stands for now, and what it stood for.
fn moved(body: &LabelBody, context: &Context) -> Outcome {
    let LabelBody { function, label, number, before, .. } = body;
    let called = format!("{function}@{number}");
    context.out.one(body, &called, |_| format!("{called}\n"))?;
    let before = match before {
        Some(before) if before == number => ", as before".to_owned(),
        Some(before) => format!(" in the place of {function}@{before}"),
        None => String::new(),
    };
    let alone = if label == STABLE { format!(", and so is {function} alone") } else { String::new() };
    context.out.note(format!("{function}@{label} is {called}{before}{alone}; jobs that were submitted keep their version"));
    Ok(Exit::Succeeded)
}

impl Row for FunctionBody {
    const NAME: &'static str = "functions";
    const HEADINGS: &'static [&'static str] = &["FUNCTION", "LABELS", "KIND", "SIZE", "DIGEST", "PUBLISHED", "BY"];

    fn id(&self) -> String {
        self.called()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.called().into(),
            self.labels.join(", ").into(),
            kind(self).into(),
            bytesize::ByteSize(self.size_bytes).to_string().into(),
            self.digest.short().into(),
            look.time(self.published).into(),
            self.published_by.as_str().into(),
        ]
    }
}

pub(super) fn kind(function: &FunctionBody) -> &'static str {
    match function.kind {
        lull_shared::message::ModuleKind::Preview1 => "module",
        lull_shared::message::ModuleKind::Component => "component",
    }
}

/// Whether tasks can be moved while they run, and what that costs.
pub(crate) fn moves(function: &FunctionBody) -> String {
    let hindrance = function.interface.iter().find_map(|line| line.strip_prefix(NOT_MOVABLE));
    match (&function.migratable, hindrance) {
        (Some(build), _) => {
            let (size, times) = (bytesize::ByteSize(build.size_bytes), f64::from(build.cost_percent) / 100.0);
            let known = if build.measured { "needed" } else { "is taken to need" };
            let hint = if build.measured { "" } else { " (--sample FILE measures that)" };
            format!("long tasks can be moved while they run, by a build of {size} that {known} {times:.2} times as long{hint}")
        }
        (None, Some(reason)) => format!("tasks cannot be moved while they run: {reason}"),
        (None, None) => "tasks are not moved while they run: no build was made for that".to_owned(),
    }
}

fn describe(function: &FunctionBody, look: &Look) -> String {
    let engines: Vec<&str> = function.artifacts.iter().map(|artifact| artifact.engine.as_str()).collect();
    let (makers, interface): (Vec<&str>, Vec<&str>) =
        function.interface.iter().map(String::as_str).partition(|line| line.starts_with(MADE_WITH));
    let makers: Vec<&str> = makers.into_iter().map(|line| line.trim_start_matches(MADE_WITH)).collect();
    let mut text = pairs(
        vec![
            ("function", function.called().into()),
            ("version", function.version.to_string().into()),
            ("labels", if function.labels.is_empty() { "none".into() } else { function.labels.join(", ").into() }),
            ("kind", kind(function).into()),
            ("digest", function.digest.to_string().into()),
            ("size", bytesize::ByteSize(function.size_bytes).to_string().into()),
            ("made with", if makers.is_empty() { "not said".into() } else { makers.join(", ").into() }),
            ("NaNs", if function.canonical_nans { "the same everywhere" } else { "as each processor makes them" }.into()),
            ("compiled for", engines.join(", ").into()),
            ("moving", moves(function).into()),
            ("published", format!("{} by {}", look.time(function.published), function.published_by).into()),
        ],
        look,
    );
    if !interface.is_empty() {
        text.push('\n');
        for line in interface {
            text.push_str(&format!("  {}\n", crate::cli::shown::output::printable(line)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_function_a_name() {
        let name = |path: &str| own_name(Path::new(path));
        assert_eq!(name("modules/text-stats.wasm").as_deref(), Some("text-stats"));
        assert_eq!(name("risk.component.wasm").as_deref(), Some("risk"));
        assert_eq!(name("my func.wasm").as_deref(), Some("my-func"));
        assert_eq!(name("-.wasm"), None);
    }

    #[test]
    fn a_version_is_named_by_a_number() {
        let wrong = |parsed: Result<Named, String>| parsed.expect_err("it is refused");
        assert_eq!(numbered("stats@3").map(|named| named.which), Ok(Which::Number(3)));
        assert!(wrong(numbered("stats@stable")).contains("`lull func show stats@stable` says which"));
        assert_eq!(versioned("stats@next").map(|named| named.which), Ok(Which::Label("next".into())));
        assert!(wrong(versioned("stats")).contains("stats@latest"));
        assert!(label("last").is_err() && label("stable").is_ok());
    }
}
