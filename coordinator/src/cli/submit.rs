//! How a job is to run: the options that every command shares which submits one.

use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use lull_shared::{constraint::Constraint, share::Share, window::Window};

use super::{
    Context, amount,
    exit::{Exit, Failure, Outcome},
    files::{Folder, Gatherer},
    follow::{self, Follow},
    func::When,
    input::InputArgs,
    output::counted,
    results::{self, OutArgs},
    stage::Stages,
    upload::upload,
};
use crate::{
    api::{AfterBody, Grant, InputsBody, SubmitRequest, Submitted, Text},
    client::Client,
};

/// The conditions under which a job's tasks run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How it runs")]
pub struct SubmitOptions {
    /// What people call the job; the function's name if left out
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Higher runs first among your own jobs; 0 is ordinary
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i8,
    /// Further attempts after the first failed one [default: 2]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// The pause before the first retry; it doubles with each [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    pub backoff: Option<Duration>,
    /// The longest pause before a retry [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    pub backoff_max: Option<Duration>,
    /// The time that one attempt may run, pauses not counted [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    pub time_limit: Option<Duration>,
    /// The memory that one attempt may use [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    pub memory: Option<u64>,
    /// The output that one attempt may write [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    pub output_limit: Option<u64>,
    /// The scratch folder that one attempt may fill [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    pub scratch_limit: Option<u64>,
    /// The log that is kept of one attempt [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    pub log_limit: Option<u64>,
    /// Whether tasks run so that they can be moved to another machine in the middle, which costs some speed: where it is
    /// expected to pay (auto), always or never
    #[arg(long = "move", value_name = "WHEN", value_enum, default_value = "auto")]
    pub moving: When,
    /// The share of tasks, like 5%, that runs on a second agent as well, whose output must be the same before it counts; a
    /// third agent settles differences, and the one that differed from two others is quarantined
    #[arg(long, value_name = "SHARE")]
    pub verify: Option<Share>,
    /// How long nothing may be heard of a machine before what it has of the job counts as lost for good; a second copy
    /// runs elsewhere meanwhile, and the first result counts [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    pub lost_after: Option<Duration>,
    /// Something the function may touch beyond its input and output; may be repeated
    #[arg(long, value_name = "WHAT", value_enum)]
    pub grant: Vec<Grant>,
    /// A condition on an agent's labels, like os=linux or memory>=8GiB; may be repeated, all must hold
    #[arg(long, value_name = "CONDITION")]
    pub require: Vec<Constraint>,
    /// When tasks may start, like "22:00-06:00 mon-fri Europe/Amsterdam"
    #[arg(long, value_name = "WINDOW")]
    pub window: Option<Window>,
    /// Tasks that have not ended by then expire: 06:00, "in 8h" or 2026-11-24T06:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    pub finish_by: Option<jiff::Timestamp>,
    /// A job that must end first: ok:JOB (well) or any:JOB (however); may be repeated
    #[arg(long, value_name = "JOB", value_parser = amount::after)]
    pub after: Vec<AfterBody>,
    /// A second submission with the same key is the same job
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// After this many failed tasks the rest of the job is cancelled
    #[arg(long, value_name = "N")]
    pub max_fails: Option<u32>,
    /// A variable of the function's environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = amount::variable)]
    pub env: Vec<(String, String)>,
    /// One argument of the function; may be repeated. Those after `--` follow
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub arg: Vec<String>,
    /// The function's arguments
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    amount::moment(text, jiff::Timestamp::now(), &TimeZone::system())
}

impl SubmitOptions {
    /// The request for this function and these inputs.
    pub fn request(&self, function: String, inputs: InputsBody) -> SubmitRequest {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        SubmitRequest {
            function,
            inputs,
            name: self.name.clone(),
            args: self.arg.iter().chain(&self.args).cloned().collect(),
            env: self.env.iter().cloned().collect(),
            priority: self.priority,
            retries: self.retries,
            backoff_ms: self.backoff.map(millis),
            backoff_max_ms: self.backoff_max.map(millis),
            time_limit_ms: self.time_limit.map(millis),
            memory_bytes: self.memory,
            output_bytes: self.output_limit,
            log_bytes: self.log_limit,
            scratch_bytes: self.scratch_limit,
            grants: self.grant.clone(),
            require: self.require.iter().cloned().map(Text).collect(),
            window: self.window.as_ref().map(ToString::to_string),
            finish_by: self.finish_by,
            after: self.after.clone(),
            failures_max: self.max_fails,
            idempotency_key: self.idempotency_key.clone(),
            moving: self.moving.into(),
            verify: self.verify,
            lost_after_ms: self.lost_after.map(millis),
        }
    }
}

/// Uploads the inputs and submits.
pub async fn send(client: &Client, function: String, inputs: &InputArgs, options: &SubmitOptions) -> Result<Submitted, Failure> {
    let inputs = upload(client, inputs.collect()?).await?;
    Ok(client.submit(&options.request(function, inputs)).await?)
}

/// `lull job submit`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull submit stats report-*.txt -- --top 10\n  \
    lull submit monte-carlo@2 --array 0-999 --window \"22:00-06:00 mon-fri Europe/Amsterdam\" --retries 3\n  \
    lull submit thumbnail photos/ --require os=linux --wait --out thumbs/ -- --size 320")]
pub struct Submit {
    /// The published function: NAME for its newest version, or NAME@NUMBER
    #[arg(value_name = "FUNCTION")]
    pub function: String,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub options: SubmitOptions,
    /// Wait until the job has ended, and end as it did
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub out: OutArgs,
}

impl Submit {
    /// Whether it stays until the job has ended.
    pub fn stays(&self) -> bool {
        self.wait || self.out.out.is_some()
    }

    pub async fn run(&self, context: &Context) -> Outcome {
        if self.function.ends_with(".wasm") {
            let message = format!("{} is a file, and a job needs a published function", self.function);
            return Err(
                Failure::usage(message).hint(format!("`lull func publish {}` publishes it; `lull run` does both", self.function))
            );
        }
        let folder = Folder::open(&self.out)?;
        let client = context.server.connect()?;
        let stages = Stages::new(&context.out);
        let reading = stages.begin("reading the inputs and bringing them to the coordinator");
        let submitted = send(&client, self.function.clone(), &self.inputs, &self.options).await?;
        drop(reading);
        let job = submitted.job.0;
        if !self.wait && folder.is_none() {
            context.out.one(&submitted, &job.to_string(), |_| format!("{job}\n"))?;
            let existing = if submitted.existing { " was submitted before under this key" } else { " is submitted" };
            context.out.note(format!(
                "{job}{existing}: {} of {}; `lull wait {job}` waits",
                counted(submitted.tasks.into(), "task"),
                submitted.function
            ));
            return Ok(Exit::Succeeded);
        }
        let mut gatherer = match folder {
            Some(folder) => Some(Gatherer::new(&client, job, folder).await?),
            None => None,
        };
        let ended = follow::to_the_end(&client, job, Follow::new(context), gatherer.as_mut()).await?;
        results::present(context, &client, &ended, gatherer.as_mut()).await?;
        Ok(Exit::from(ended.state))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        submit: Submit,
    }

    fn parse(line: &str) -> Result<Submit, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.submit)
    }

    #[test]
    fn what_follows_two_dashes_is_the_functions() {
        let submit = parse("x stats a.txt b.txt --arg -v --priority -3 -- --top 10").expect("a submission");
        let request = submit.options.request(submit.function, InputsBody::default());
        assert_eq!(request.args, ["-v", "--top", "10"]);
        assert_eq!(request.priority, -3);
        assert_eq!(submit.inputs.paths, [PathBuf::from("a.txt"), PathBuf::from("b.txt")]);
    }

    #[test]
    fn inputs_come_from_exactly_one_place() {
        assert!(parse("x stats").is_err(), "none");
        assert!(parse("x stats a.txt --array 0-9").is_err(), "two");
        assert!(parse("x stats --each-line a --from-json b").is_err(), "two");
        assert!(parse("x stats --array 0-9").is_ok());
        assert!(parse("x stats -").is_ok());
    }

    #[test]
    fn amounts_become_what_the_interface_counts_in() {
        let line = "x f --array 0-9 --time-limit 10m --memory 256MiB --backoff 2s --grant clock --grant scratch --require os=linux \
                    --after any:j3 --env A=b --max-fails 5";
        let submit = parse(line).expect("a submission");
        let request = submit.options.request(submit.function, InputsBody::default());
        assert_eq!(
            (request.time_limit_ms, request.memory_bytes, request.backoff_ms),
            (Some(600_000), Some(256 << 20), Some(2_000))
        );
        assert_eq!(request.grants, [Grant::Clock, Grant::Scratch]);
        assert_eq!((request.env.get("A").map(String::as_str), request.failures_max), (Some("b"), Some(5)));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_sent() {
        for wrong in ["--time-limit soon", "--memory much", "--require linux", "--window nightly", "--grant network", "--after x"]
        {
            assert!(parse(&format!("x f --array 0-9 {wrong}")).is_err(), "{wrong}");
        }
    }
}
