//! `lull func`: publish, list, show, remove.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lull_shared::{job::Moving, limits::MODULE_BYTES_MAX};

use super::{
    Context,
    exit::{Exit, Failure, Outcome},
    output::{Cell, Look, Row, pairs},
    sample::Sample,
};
use crate::{
    api::{FunctionBody, PublishOptions, PublishedBody},
    client::Client,
};

/// What can be done with functions.
#[derive(Debug, Subcommand)]
pub enum Func {
    /// Publish a module: a new version of its function, unless it is one already
    Publish(Publish),
    /// List all versions of all functions
    #[command(after_help = "EXAMPLES:\n  lull func list")]
    List,
    /// Show a version: digest, size, imports and exports
    #[command(after_help = "EXAMPLES:\n  lull func show stats\n  lull func show stats@2 -o json")]
    Show(Called),
    /// Take a version, or all of a function, out of use for new jobs; those that have it go on
    #[command(after_help = "EXAMPLES:\n  lull func remove stats@1\n  lull func remove stats")]
    Remove(Called),
}

/// `lull func publish`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  lull func publish stats.wasm\n  lull func publish target/wasm32-wasip1/release/risk.wasm --name risk --canonical-nans
  lull func publish risk.wasm --sample scenario-7.json -- --paths 10000"
)]
pub struct Publish {
    /// The module: a WASI command (wasm32-wasip1) or a component that exports wasi:cli/run
    file: PathBuf,
    /// What the function is called; the file's name without its ending if left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Make NaNs the same on every kind of processor; floating-point loops can take twice as long
    #[arg(long)]
    canonical_nans: bool,
    /// Whether a second build is made, of which running tasks can be moved to another machine: where the module allows it
    /// (auto), or else it is not published (always), or not at all (never)
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    migratable: When,
    /// Run both builds on this input here, side by side, and remember what moving costs; otherwise it is guessed
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Arguments of the function for the sample, after --
    #[arg(last = true, value_name = "ARGS", requires = "sample")]
    args: Vec<String>,
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

/// A function or one version of it.
#[derive(Debug, Args)]
pub struct Called {
    /// NAME or NAME@NUMBER
    #[arg(value_name = "NAME[@N]", value_parser = called)]
    called: (String, Option<u32>),
}

impl Func {
    pub async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Publish(publish) => publish.run(context).await,
            Self::List => {
                context.out.list(&context.server.connect()?.functions().await?.items)?;
                Ok(Exit::Succeeded)
            }
            Self::Show(Called { called: (name, number) }) => {
                let function = context.server.connect()?.function(name, *number).await?;
                context.out.one(&function, &function.called(), |look| describe(&function, look))?;
                Ok(Exit::Succeeded)
            }
            Self::Remove(Called { called: (name, number) }) => {
                let affected = context.server.connect()?.remove_function(name, *number).await?.affected;
                context.out.note(format!("{affected} versions of {name} are out of use for new jobs"));
                Ok(Exit::Succeeded)
            }
        }
    }
}

impl Publish {
    async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let mut options =
            PublishOptions { canonical_nans: self.canonical_nans, migratable: self.migratable.into(), cost_percent: None };
        if let Some(input) = &self.sample {
            let sample = Sample { input, args: &self.args, canonical_nans: self.canonical_nans };
            context.out.note(format!("both builds run on {}, side by side; this takes some seconds", input.display()));
            let measured = sample.measure(&read(&self.file).await?).await?;
            context.out.note(measured.to_string());
            options.cost_percent = measured.cost_percent();
        }
        let published = publish(&client, &self.file, self.name.as_deref(), &options).await?;
        let called = published.function.called();
        context.out.one(&published, &called, |_| format!("{called}\n"))?;
        let what = if published.existing { "was published before" } else { "is published" };
        context.out.note(moves(&published.function));
        context.out.note(format!("{called} {what}; `lull submit {} INPUT...` runs it", published.function.function));
        Ok(Exit::Succeeded)
    }
}

/// Publishes a file under a name, its own if none is given.
pub async fn publish(
    client: &Client,
    file: &Path,
    name: Option<&str>,
    options: &PublishOptions,
) -> Result<PublishedBody, Failure> {
    let module = read(file).await?;
    let own = own_name(file);
    let name = name.or(own.as_deref()).ok_or_else(|| {
        Failure::usage(format!("{} gives the function no name", file.display())).hint("name it with --name NAME")
    })?;
    Ok(client.publish(name, module, options).await?)
}

async fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::unreadable(file, &error);
    let size = tokio::fs::metadata(file).await.map_err(unreadable)?.len();
    if size > MODULE_BYTES_MAX {
        let message = format!("{} is larger than {}", file.display(), bytesize::ByteSize(MODULE_BYTES_MAX));
        return Err(
            Failure::usage(message).hint("build it without debug information: wasm-strip, or strip = true in its profile")
        );
    }
    tokio::fs::read(file).await.map_err(unreadable)
}

/// A function's name from its file's: `text-stats.wasm`, `text-stats.component.wasm` -> `text-stats`.
pub fn own_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_string_lossy();
    let stem = name.split('.').find(|part| !part.is_empty())?;
    let safe: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
    let safe = safe.trim_start_matches(['-', '_']);
    (!safe.is_empty()).then(|| safe.to_owned())
}

fn called(text: &str) -> Result<(String, Option<u32>), String> {
    match text.split_once('@') {
        None => Ok((text.to_owned(), None)),
        Some((name, number)) => match number.parse() {
            Ok(number) => Ok((name.to_owned(), Some(number))),
            Err(_) => Err(format!("`{number}` is no version: write NAME or NAME@NUMBER")),
        },
    }
}

impl Row for FunctionBody {
    const NAME: &'static str = "functions";
    const HEADINGS: &'static [&'static str] = &["FUNCTION", "KIND", "SIZE", "DIGEST", "PUBLISHED", "BY"];

    fn id(&self) -> String {
        self.called()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.called().into(),
            kind(self).into(),
            bytesize::ByteSize(self.size_bytes).to_string().into(),
            self.digest.short().into(),
            look.time(self.published).into(),
            self.published_by.as_str().into(),
        ]
    }
}

fn kind(function: &FunctionBody) -> &'static str {
    match function.kind {
        lull_shared::message::ModuleKind::Preview1 => "module",
        lull_shared::message::ModuleKind::Component => "component",
    }
}

/// Whether tasks can be moved while they run, and what that costs.
fn moves(function: &FunctionBody) -> String {
    let hindrance = function.interface.iter().find_map(|line| line.strip_prefix("cannot be moved: "));
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
    let mut text = pairs(
        vec![
            ("function", function.called().into()),
            ("version", function.version.to_string().into()),
            ("kind", kind(function).into()),
            ("digest", function.digest.to_string().into()),
            ("size", bytesize::ByteSize(function.size_bytes).to_string().into()),
            ("NaNs", if function.canonical_nans { "the same everywhere" } else { "as each processor makes them" }.into()),
            ("compiled for", engines.join(", ").into()),
            ("moving", moves(function).into()),
            ("published", format!("{} by {}", look.time(function.published), function.published_by).into()),
        ],
        look,
    );
    if !function.interface.is_empty() {
        text.push('\n');
        for line in &function.interface {
            text.push_str(&format!("  {}\n", super::output::printable(line)));
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
        assert_eq!(called("stats@3"), Ok(("stats".into(), Some(3))));
        assert!(called("stats@new").is_err());
    }
}
