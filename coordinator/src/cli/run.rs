//! `lull run`: a function over inputs, from a file to results in one command.
//!
//! On a network that is known (by `--server`, `--data` or a profile) the module is published and the job submitted
//! there. Otherwise a private mesh is started on this machine, used, and taken down again.

use std::path::{Path, PathBuf};

use clap::Args;
use lull_shared::{id::JobId, state::TaskState};

use super::{
    Context,
    exit::{Exit, Failure, Outcome},
    follow::{self, Follow},
    input::InputArgs,
    private::{Mesh, MeshConfig},
    publish,
    results::{self, OutArgs},
    submit::{self, SubmitOptions},
};
use crate::{
    api::PublishOptions,
    client::{Client, ClientError},
};

/// Failed tasks whose logs are shown: more are mostly the same again.
const LOGS_SHOWN: u32 = 3;
/// Lines of each.
const LOG_LINES_SHOWN: usize = 8;

/// `lull run`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull run text-stats.wasm reports/*.txt -- --top 10\n  \
    lull run monte-carlo.wasm --array 0-99 --agents 4 -o json -- --paths 1000000\n  \
    lull run thumbnail.wasm photos/ --out thumbs/ -- --size 320\n  \
    lull run text-stats.wasm --each-line names.txt --server http://coordinator:7411")]
pub struct Run {
    /// The function's module, a file; on a known network also a published function, NAME or NAME@NUMBER
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
pub struct MeshArgs {
    /// How many agent processes it has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub agents: u16,
    /// How many tasks each agent runs at a time; together as many as there are processors if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub slots: Option<u16>,
    /// Use a private mesh even if a network is known
    #[arg(long)]
    pub private: bool,
    /// Keep its data folder, and say where it is
    #[arg(long)]
    pub keep: bool,
}

impl Run {
    pub async fn run(&self, context: &Context) -> Outcome {
        if let Some(client) = self.known(context).await? {
            return self.on(context, &client, Follow::new(context)).await;
        }
        if !is_file(&self.function) {
            let failure = Failure::new(Exit::NotFound, format!("there is no file {}", self.function.display()));
            return Err(failure.hint("name a module; published functions need a network: `lull login URL --token TOKEN`"));
        }
        let config = MeshConfig {
            agents: self.mesh.agents,
            slots: self.mesh.slots,
            data: context.server.data.clone(),
            keep: self.mesh.keep,
        };
        let mesh = tokio::select! {
            mesh = Mesh::start(config) => mesh?,
            () = context.interrupted() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
        };
        let outcome = tokio::select! {
            outcome = self.on(context, mesh.client(), Follow::new(context).passing()) => outcome,
            failure = mesh.abandoned(|lost| context.out.note(lost.to_string())) => Err(failure),
        };
        if let Some(kept) = mesh.stop().await {
            context.out.note(format!("the mesh's data is kept in {}", kept.display()));
        }
        outcome
    }

    /// The network that is known, unless a private mesh is wanted.
    async fn known(&self, context: &Context) -> Result<Option<Client>, Failure> {
        let known = if self.mesh.private { None } else { context.server.connect_named()? };
        let Some(client) = known else { return Ok(None) };
        // A data folder may name a server that was killed: its data is then the private mesh's.
        let gone = async || matches!(client.health().await, Err(ClientError::Unreachable { .. }));
        let abandoned = context.server.server.is_none() && context.server.data.is_some() && gone().await;
        Ok(Some(client).filter(|_| !abandoned))
    }

    /// Publishes, submits, waits, and shows what came of it.
    async fn on(&self, context: &Context, client: &Client, follow: Follow<'_>) -> Outcome {
        let prepare = async {
            let function = if is_file(&self.function) {
                let wanted = publish::Wanted { file: &self.function, name: None, options: PublishOptions::default() };
                publish::publish(context, client, &wanted, &mut None).await?.function.called()
            } else {
                self.function.to_string_lossy().into_owned()
            };
            submit::send(client, function, &self.inputs, &self.options).await
        };
        let submitted = tokio::select! {
            submitted = prepare => submitted?,
            () = context.interrupted() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
        };
        let ended = follow::to_the_end(client, submitted.job.0, follow).await?;
        results::present(context, client, &ended, &self.out).await?;
        if ended.counts.failed > 0 {
            show_logs(context, client, ended.job.0).await?;
        }
        Ok(Exit::from(ended.state))
    }
}

/// The logs of some failed tasks: a private mesh takes them with it.
async fn show_logs(context: &Context, client: &Client, job: JobId) -> Result<(), Failure> {
    for task in client.tasks(job, Some(TaskState::Failed), 0, LOGS_SHOWN).await?.items {
        let Ok(log) = client.log(task.task.0, None).await else { continue };
        let lines: Vec<&str> = log.text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        if !last.is_empty() {
            context.out.note(format!("the log of {} ends:\n  {}", *task.task, last.join("\n  ")));
        }
    }
    Ok(())
}

fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm") || path.is_file()
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
