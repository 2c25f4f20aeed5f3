//! `lull run`: a function over inputs, from a file to results in one command.
//!
//! On a network that is known (by `--server`, `--data` or a profile) the module is published and the job submitted
//! there. Otherwise a private mesh is started on this machine, used, and taken down again.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use lull_shared::{bound, id::JobId};
use tokio::time::timeout;

use crate::{
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        functions::publish,
        jobs::{
            files::{Folder, Gatherer},
            results::{self, OutArgs},
            submit::{self, SubmitOptions},
        },
        reach::{
            connect::ServerArgs,
            private::{self, Data, Fate, Mesh, MeshConfig, Size},
        },
        shown::{
            follow::{self, Follow, quoted},
            output::counted,
            steps::Stages,
        },
        typed::input::{InputArgs, Inputs},
    },
    client::Client,
    publishing::javascript::Script,
};

/// Work that went on for so long is worth a folder of its own, even if no task of it has ended.
const WORTH_KEEPING: Duration = Duration::from_secs(60);
/// A coordinator in this process answers at once.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What is said of what was broken off before its job was submitted.
const NOTHING_BEGUN: &str = "no job was submitted yet; give the command again";

/// Causes of failures that are shown; `lull job show` has more.
const LOGS_SHOWN: usize = 3;
/// Lines of each.
const LOG_LINES_SHOWN: usize = 8;

/// `lull run`
#[derive(Debug, Args)]
#[command(
    override_usage = "lull run [OPTIONS] <FUNCTION> <INPUT...|--each-line FILE|--array NUMBERS|--from-json FILE> [-- ARGS...]"
)]
#[command(after_help = "EXAMPLES:\n  \
    lull run text-stats.wasm reports/*.txt -- --top 10\n  \
    lull run monte-carlo.wasm --array 0-99 --agents 4 -o json -- --paths 1000000\n  \
    lull run thumbnail.wasm photos/ --out thumbs/ -- --size 320\n  \
    lull run text-stats.wasm --each-line names.txt --server http://coordinator:7411")]
pub(crate) struct Run {
    /// The function, a file: a module, or a script in JavaScript; on a known network also a published function, as NAME,
    /// NAME@NUMBER or NAME@LABEL
    #[arg(value_name = "FUNCTION")]
    pub function: PathBuf,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub options: SubmitOptions,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// The private mesh.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The private mesh on this machine")]
pub(crate) struct MeshArgs {
    /// How many agent processes the private mesh has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = bound::AGENTS.numbers::<u16>())]
    pub agents: u16,
    /// How many tasks each agent runs at a time; by default the agents share the processors
    #[arg(long, value_name = "N", value_parser = bound::SLOTS.numbers::<u16>())]
    pub slots: Option<u16>,
    /// Use a private mesh even if a network is known
    #[arg(long)]
    pub private: bool,
    /// Keep its data folder, and say where it is and how to read the results in it. A folder named with --data is kept
    /// anyway, and so is the folder of a run that was interrupted after a task had ended or a minute had passed
    #[arg(long)]
    pub keep: bool,
}

impl Run {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        // What cannot be read or written is not worth waiting for.
        let folder = Folder::open(&self.out)?;
        let inputs = self.inputs.collect()?;
        let (progress, stages) = (Cell::default(), Stages::new(&context.out));
        if let Some(client) = self.known(context)? {
            return self.on(context, &client, Follow::new(context), (inputs, folder), &stages, &progress).await;
        }
        if !is_file(&self.function) {
            let failure = Failure::new(Exit::NotFound, format!("there is no file {}", self.function.display()));
            return Err(failure.hint("name a module; published functions need a network: `lull login URL --token-file FILE`"));
        }
        let size = Size { agents: self.mesh.agents, slots: self.mesh.slots };
        let starting = stages.begin(format!("starting a private mesh of {}", counted(size.agents.into(), "agent")));
        let mesh = tokio::select! {
            mesh = Mesh::start(MeshConfig { size, data: context.server.data.clone() }) => mesh?,
            () = context.interrupted() => return Err(Failure::new(Exit::Interrupted, "interrupted").hint(NOTHING_BEGUN)),
        };
        drop(starting);
        let outcome = tokio::select! {
            outcome = self.on(context, mesh.client(), Follow::new(context).passing(), (inputs, folder), &stages, &progress) => outcome,
            failure = mesh.abandoned(|lost| context.out.note(lost.to_string())) => Err(failure),
        };
        // Work that was done and not brought home is not thrown away.
        let begun = progress.get();
        let broken_off = begun.filter(|_| outcome.is_err());
        let worth = match broken_off {
            Some(begun) => {
                // Until that is known, it is.
                private::spare();
                begun.at.elapsed() >= WORTH_KEEPING || has_results(mesh.client(), begun.job).await
            }
            None => false,
        };
        let fate = if self.mesh.keep || worth { Fate::Kept } else { Fate::Deleted };
        let kept = mesh.stop(fate).await;
        match (outcome, kept, begun) {
            (Err(failure), Some(data), Some(begun)) => Err(self.to_go_on(failure, &data, begun)),
            (outcome, Some(data), Some(begun)) => {
                let (job, data) = (begun.job, quoted(&data));
                context.out.note(format!("the mesh's data is kept in {data}"));
                context.out.note(format!("hint: `lull job results {job} --data {data}` shows the results again"));
                outcome
            }
            (Err(failure), None, Some(_)) if failure.exit == Exit::Interrupted => {
                Err(failure.hint("no task had ended yet, and nothing is kept; --keep keeps it in any case"))
            }
            (outcome, _, _) => outcome,
        }
    }

    /// What was begun is kept; where, and how to go on.
    fn to_go_on(&self, failure: Failure, data: &Path, begun: Begun) -> Failure {
        let (job, data) = (begun.job, quoted(data));
        let out = self.out.out.as_deref().map(|out| format!(" --out {}", quoted(out))).unwrap_or_default();
        let suffix =
            self.out.suffix.as_deref().map(|suffix| format!(" --suffix {}", quoted(Path::new(suffix)))).unwrap_or_default();
        let results = format!("lull job results {job} --data {data}{out}{suffix}");
        let hint = if begun.ended {
            format!("`{results}` brings what is missing")
        } else {
            format!("`lull wait {job} --data {data}` goes on with the rest, then `{results}` brings the results")
        };
        let message = format!("{}; the work is kept in {data}", failure.message);
        Failure { message, ..failure }.hint(hint)
    }

    /// The network that is known, unless a private mesh is wanted.
    fn known(&self, context: &Context) -> Result<Option<Client>, Failure> {
        let ServerArgs { server, data, .. } = &context.server;
        let named = if self.mesh.private { None } else { server.as_ref() };
        if let (None, Some(data)) = (named, data) {
            return match Data::of(data) {
                Data::Fresh | Data::Private(_) => Ok(None),
                Data::InUse if self.mesh.private => Err(in_use(data).hint("name another folder, or leave --private out")),
                Data::InUse => context.server.connect_named(),
                Data::Coordinators => Err(in_use(data)
                    .hint(format!("`lull server run --data {}` starts it; a private mesh needs another folder", quoted(data)))),
            };
        }
        if self.mesh.private { Ok(None) } else { context.server.connect_named() }
    }

    /// Publishes, submits, waits, and shows what came of it.
    async fn on(
        &self,
        context: &Context,
        client: &Client,
        follow: Follow<'_>,
        (inputs, folder): (Inputs, Option<Folder>),
        stages: &Stages<'_>,
        progress: &Cell<Option<Begun>>,
    ) -> Outcome {
        let prepare = async {
            let function = if is_file(&self.function) {
                publish::publish(context, client, &self.function).await?.function.called()
            } else {
                self.function.to_string_lossy().into_owned()
            };
            let _stage = stages.begin("reading the inputs and bringing them to the coordinator");
            let submitted = submit::send(context, client, function, inputs, &self.options).await?;
            let job = submitted.job;
            progress.set(Some(Begun { job, at: Instant::now(), ended: false }));
            let gatherer = match folder {
                Some(folder) => Some(Gatherer::new(client, job, folder).await?),
                None => None,
            };
            Ok::<_, Failure>((job, gatherer))
        };
        let (job, mut gatherer) = tokio::select! {
            prepared = prepare => prepared?,
            () = context.interrupted() => return Err(Failure::new(Exit::Interrupted, "interrupted").hint(NOTHING_BEGUN)),
        };
        let ended = follow::to_the_end(client, job, follow, gatherer.as_mut()).await?;
        progress.set(progress.get().map(|begun| Begun { ended: true, ..begun }));
        let present = async {
            results::present(context, client, &ended, gatherer.as_mut()).await?;
            if ended.counts.failed > 0 {
                show_causes(context, client, job).await?;
            }
            Ok(Exit::from(ended.state))
        };
        tokio::select! {
            outcome = present => outcome,
            () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")
                .hint(format!("`lull job results {job}` shows the results again"))),
        }
    }
}

/// How far the work has come that is worth keeping.
#[derive(Debug, Clone, Copy)]
struct Begun {
    job: JobId,
    at: Instant,
    /// Whether nothing of it is left to be done, but for bringing the results.
    ended: bool,
}

/// Whether a task of the job has succeeded. A coordinator that does not say so keeps its folder.
async fn has_results(client: &Client, job: JobId) -> bool {
    match timeout(ANSWER_MAX, client.job(job)).await {
        Ok(Ok(details)) => details.job.counts.succeeded > 0,
        Ok(Err(_)) | Err(_) => true,
    }
}

fn in_use(data: &Path) -> Failure {
    let message = format!("{} is the data of a coordinator, not of a private mesh", data.display());
    Failure::new(Exit::Failed, message)
}

/// Why tasks failed, and the end of an example's log for each cause: a private mesh takes the logs with it.
async fn show_causes(context: &Context, client: &Client, job: JobId) -> Result<(), Failure> {
    let causes = client.job(job).await?.failures;
    for cause in causes.iter().take(LOGS_SHOWN) {
        let (tasks, example) = (counted(cause.tasks, "task"), cause.example);
        context.out.note(format!("{tasks} failed: {}, for example {example}", cause.message));
        let Ok(log) = client.log(example, None).await else { continue };
        let lines: Vec<&str> = log.text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        match last.is_empty() {
            true => context.out.note("its log is empty: it wrote nothing to standard error"),
            false => context.out.note(format!("its log ends:\n  {}", last.join("\n  "))),
        }
    }
    Ok(())
}

fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm") || Script::is_named(path) || path.is_file()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn a_run_takes_all_that_a_submission_takes() {
        let line = "x f.wasm in1 in2 --agents 3 --slots 2 --out results --retries 0 --require os=linux -- --width 100";
        let run = Line::try_parse_from(line.split(' ')).expect("a run").run;
        assert_eq!((run.mesh.agents, run.mesh.slots), (3, Some(2)));
        assert_eq!(run.inputs.paths, [PathBuf::from("in1"), PathBuf::from("in2")]);
        assert_eq!(run.options.args, ["--width", "100"]);
        assert!(Line::try_parse_from("x f.wasm in1 --agents 0".split(' ')).is_err());
        assert!(Line::try_parse_from("x f.wasm in1 --suffix .json".split(' ')).is_err(), "a suffix of nothing");
    }
}
