//! How a job is to run: the options that every command shares which submits one.

use std::time::Duration;

use clap::Args;
use lull_shared::{bound, codes::ExitCodes, constraint::Constraint, job::FailureClass, share::Share, zone::Zone};

use crate::{
    api::{AfterBody, Grant, InputsBody, SubmitRequest, Submitted, Text},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        functions::func::When,
        jobs::{
            files::{Folder, Gatherer},
            results::{self, OutArgs},
            upload::upload,
        },
        shown::{
            follow::{self, Follow},
            output::counted,
            steps::Stages,
        },
        typed::{
            amount,
            input::{InputArgs, Inputs},
            moment::{self, Moment},
            selector::AfterName,
        },
    },
    client::Client,
};

/// The conditions under which a job's tasks run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How it runs")]
pub(crate) struct SubmitOptions {
    /// What people call the job; the function's name if left out
    #[arg(long, value_name = "NAME", value_parser = amount::job_name)]
    pub name: Option<String>,
    /// Higher runs first among your own jobs; 0 is ordinary
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = amount::priority)]
    pub priority: i8,
    /// Further attempts after the first failed one [default: 2]
    #[arg(long, value_name = "N", value_parser = bound::RETRIES.numbers::<u32>())]
    pub retries: Option<u32>,
    /// The pause before the first retry; it doubles with each [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = bound::BACKOFF.times())]
    pub backoff: Option<Duration>,
    /// The longest pause before a retry [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = bound::BACKOFF.times())]
    pub backoff_max: Option<Duration>,
    /// The time that one attempt may run, pauses not counted [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = bound::TIME_LIMIT.times())]
    pub time_limit: Option<Duration>,
    /// The memory that one attempt may use [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = bound::MEMORY.numbers::<u64>())]
    pub memory: Option<u64>,
    /// The output that one attempt may write [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = bound::OUTPUT.numbers::<u64>())]
    pub output_limit: Option<u64>,
    /// The scratch folder that one attempt may fill [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = bound::SCRATCH.numbers::<u64>())]
    pub scratch_limit: Option<u64>,
    /// The log that is kept of one attempt [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = bound::LOG.numbers::<u64>())]
    pub log_limit: Option<u64>,
    /// Whether tasks can be moved to another machine while they run, which costs some speed: where it is expected to pay
    /// (auto), always or never
    #[arg(long = "move", value_name = "WHEN", value_enum, default_value = "auto")]
    pub moving: When,
    /// The share of tasks, like 5%, that also run on a second agent; an output counts only if both have the same. A third
    /// agent settles differences, and an agent that differs from two others is quarantined
    #[arg(long, value_name = "SHARE")]
    pub verify: Option<Share>,
    /// How long a machine may be silent before its tasks of the job count as lost; copies of them run elsewhere meanwhile,
    /// and the first result counts [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = bound::LOST_AFTER.times())]
    pub lost_after: Option<Duration>,
    /// Something the function may touch beyond its input and output; may be repeated
    #[arg(long, value_name = "WHAT", value_enum)]
    pub grant: Vec<Grant>,
    /// A condition on an agent's labels, like os=linux, memory=8GiB+ (at least) or cores=8- (at most); may be repeated, all
    /// must hold
    #[arg(long, value_name = "CONDITION")]
    pub require: Vec<Constraint>,
    /// When tasks may start, like "22:00-06:00 mon-fri Europe/Amsterdam"; in your own time zone if it names none
    #[arg(long, value_name = "WINDOW", value_parser = amount::window)]
    pub window: Option<String>,
    /// Tasks that have not ended by then expire: 06:00 (the next), "2027-03-01 06:00", "in 8h" or 2027-03-01T06:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = moment::moment)]
    pub finish_by: Option<Moment>,
    /// The time zone of --window and --finish-by where they name none, like Europe/Amsterdam; your own if left out
    #[arg(long, value_name = "ZONE", value_parser = clap::value_parser!(Zone))]
    pub zone: Option<Zone>,
    /// A job that must end first: ok:JOB (well) or any:JOB (however); may be repeated
    #[arg(long, value_name = "JOB")]
    pub after: Vec<AfterName>,
    /// Submit once: the same submission with this key again is the same job, and another one with it is refused
    #[arg(long, value_name = "KEY", value_parser = amount::key)]
    pub idempotency_key: Option<String>,
    /// Cancel the rest of the job after this many failed tasks
    #[arg(long, value_name = "N", value_parser = bound::SOME.numbers::<u32>())]
    pub max_fails: Option<u32>,
    /// Run at most this many of its tasks at once
    #[arg(long, value_name = "N", value_parser = bound::SOME.numbers::<u32>())]
    pub at_once: Option<u32>,
    /// The exit codes that mean success, like 0,3-5 [default: 0]
    #[arg(long, value_name = "CODES")]
    pub exit_codes: Option<ExitCodes>,
    /// Failures that no retry can mend, after which a task is not tried again: trap, exit (any code), exit=CODE, time-limit,
    /// memory-limit, output-limit, scratch-limit; several with commas between them
    #[arg(long, value_name = "FAILURES", value_parser = amount::failure, value_delimiter = ',')]
    pub fail_fast_on: Vec<FailureClass>,
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

impl SubmitOptions {
    /// The request for this function and these inputs, by somebody in this zone.
    pub(crate) fn request(
        &self,
        function: String,
        inputs: InputsBody,
        after: Vec<AfterBody>,
        zone: &Zone,
    ) -> Result<SubmitRequest, Failure> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A relative time is sent as it is: whoever asks again a minute later asks for the same.
        let (finish_by, finish_in_ms) = match self.finish_by {
            None => (None, None),
            Some(Moment::In(length)) => (None, Some(millis(length))),
            Some(moment) => (Some(moment.resolve(jiff::Timestamp::now(), zone).map_err(Failure::usage)?), None),
        };
        Ok(SubmitRequest {
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
            window: self.window.clone(),
            finish_by,
            finish_in_ms,
            zone: Some(Text(zone.clone())),
            after,
            failures_max: self.max_fails,
            at_once: self.at_once,
            exit_codes: self.exit_codes.clone().map(Text),
            fail_fast_on: self.fail_fast_on.iter().copied().map(Text).collect(),
            idempotency_key: self.idempotency_key.clone(),
            moving: self.moving.into(),
            verify: self.verify,
            lost_after_ms: self.lost_after.map(millis),
        })
    }
}

/// Uploads inputs and submits. What will probably not go as it was meant is said at once.
pub(crate) async fn send(
    context: &Context,
    client: &Client,
    function: String,
    inputs: Inputs,
    options: &SubmitOptions,
) -> Result<Submitted, Failure> {
    let inputs = upload(client, inputs).await?;
    let mut after = Vec::with_capacity(options.after.len());
    for name in &options.after {
        after.push(name.find(client).await?);
    }
    let own = options.zone.clone().or_else(amount::own_zone);
    if own.is_none() && (options.window.is_some() || options.finish_by.is_some()) {
        context.out.note("the time zone of this machine has no name that others know, so times are in UTC; --zone names yours");
    }
    let zone = own.unwrap_or_default();
    let submitted = client.submit(&options.request(function, inputs, after, &zone)?).await?;
    for warning in &submitted.warnings {
        context.out.note(format!("warning: {warning}"));
    }
    Ok(submitted)
}

/// When the job may run, and by when it must have, in the zone in which that was understood.
fn when(submitted: &Submitted) -> String {
    let zone = &*submitted.zone;
    let spoken = |at: jiff::Timestamp| at.to_zoned(zone.rules().clone()).strftime("%a %Y-%m-%d %H:%M").to_string();
    let window = submitted.window.as_ref().map(|window| match submitted.opens {
        Some(opens) => format!("window {window} (opens {})", spoken(opens)),
        None => format!("window {window} (open now)"),
    });
    let finish_by = submitted.finish_by.map(|at| format!("to finish by {} {zone}", spoken(at)));
    window.into_iter().chain(finish_by).map(|part| format!("; {part}")).collect()
}

/// `lull job submit`
#[derive(Debug, Args)]
#[command(
    override_usage = "lull submit [OPTIONS] <FUNCTION> <INPUT...|--each-line FILE|--array NUMBERS|--from-json FILE> [-- ARGS...]"
)]
#[command(after_help = "EXAMPLES:\n  \
    lull submit stats report-*.txt -- --top 10\n  \
    lull submit monte-carlo@2 --array 0-999 --window \"22:00-06:00 mon-fri Europe/Amsterdam\" --require memory=8GiB+\n  \
    lull submit thumbnail photos/ --require os=linux --wait --out thumbs/ -- --size 320")]
pub(crate) struct Submit {
    /// The published function: NAME for its stable version, or the newest if none is; or NAME@NUMBER, NAME@LABEL, NAME@latest
    #[arg(value_name = "FUNCTION", value_parser = amount::some)]
    pub function: String,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub options: SubmitOptions,
    /// Wait until the job has ended, and exit as it ended
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub out: OutArgs,
}

impl Submit {
    /// Whether it stays until the job has ended.
    pub(crate) fn stays(&self) -> bool {
        self.wait || self.out.out.is_some()
    }

    pub(crate) async fn run(&self, context: &Context) -> Outcome {
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
        let submitted = send(context, &client, self.function.clone(), self.inputs.collect()?, &self.options).await?;
        drop(reading);
        let job = submitted.job;
        if !self.wait && folder.is_none() {
            context.out.one(&submitted, &job.to_string(), |_| format!("{job}\n"))?;
            let existing = if submitted.existing { " was submitted before under this key" } else { " is submitted" };
            context.out.note(format!(
                "{job}{existing}: {} of {}{}; `lull wait {job}` waits",
                counted(submitted.tasks.into(), "task"),
                submitted.function,
                when(&submitted)
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

    fn asked(submit: Submit) -> SubmitRequest {
        let zone = "Europe/Amsterdam".parse().expect("a zone");
        submit.options.request(submit.function, InputsBody::default(), Vec::new(), &zone).expect("a request")
    }

    #[test]
    fn what_follows_two_dashes_is_the_functions() {
        let submit = parse("x stats a.txt b.txt --arg -v --priority -3 -- --top 10").expect("a submission");
        assert_eq!(submit.inputs.paths, [PathBuf::from("a.txt"), PathBuf::from("b.txt")]);
        let request = asked(submit);
        assert_eq!(request.args, ["-v", "--top", "10"]);
        assert_eq!(request.priority, -3);
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
        let request = asked(submit);
        assert_eq!(
            (request.time_limit_ms, request.memory_bytes, request.backoff_ms),
            (Some(600_000), Some(256 << 20), Some(2_000))
        );
        assert_eq!(request.grants, [Grant::Clock, Grant::Scratch]);
        assert_eq!((request.env.get("A").map(String::as_str), request.failures_max), (Some("b"), Some(5)));
    }

    #[test]
    fn moments_and_windows_are_those_of_the_persons_own_zone() {
        let options = ["x", "f", "--array", "0", "--window", "22:00-06:00", "--finish-by"];
        let finish = |moment: &'static str| {
            let line = options.into_iter().chain([moment]);
            asked(Line::try_parse_from(line).expect("a submission").submit)
        };
        let request = finish("2036-03-01 06:00");
        assert_eq!(request.finish_by, Some("2036-03-01T05:00:00Z".parse().expect("an instant")));
        assert_eq!(request.window.as_deref(), Some("22:00-06:00"), "the zone goes along");
        assert_eq!(request.zone.map(|zone| zone.to_string()).as_deref(), Some("Europe/Amsterdam"));
        let relative = finish("in 8h");
        assert_eq!((relative.finish_by, relative.finish_in_ms), (None, Some(8 * 3_600_000)));
    }

    #[test]
    fn how_tasks_end_and_how_many_run_is_asked_for_in_words() {
        let line = "x f --array 0-10:2,20 --at-once 4 --exit-codes 0,3-5 --fail-fast-on trap,exit=2 --fail-fast-on time-limit \
                    --after any:last";
        let submit = parse(line).expect("a submission");
        assert_eq!(submit.inputs.array.as_ref().map(|numbers| numbers.count()), Some(7));
        assert_eq!(submit.options.after[0].job, crate::cli::typed::selector::JobName::Last);
        let request = asked(submit);
        assert_eq!((request.at_once, request.exit_codes.map(|codes| codes.to_string())), (Some(4), Some("0,3-5".into())));
        let classes: Vec<String> = request.fail_fast_on.iter().map(ToString::to_string).collect();
        assert_eq!(classes, ["trap", "exit=2", "time-limit"]);
    }

    #[test]
    fn the_answer_says_when_in_the_zone_that_was_meant() {
        let at = |text: &str| Some(text.parse().expect("an instant"));
        let submitted = Submitted {
            job: "j7".parse().expect("a job"),
            existing: false,
            function: "stats@1".into(),
            tasks: 3,
            zone: Text("Europe/Amsterdam".parse().expect("a zone")),
            window: Some("22:00-06:00 Europe/Amsterdam".into()),
            opens: at("2026-11-30T21:00:00Z"),
            finish_by: at("2027-03-01T05:00:00Z"),
            warnings: Vec::new(),
        };
        assert_eq!(
            when(&submitted),
            "; window 22:00-06:00 Europe/Amsterdam (opens Mon 2026-11-30 22:00); to finish by Mon 2027-03-01 06:00 Europe/Amsterdam"
        );
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_sent() {
        for wrong in [
            "--time-limit soon",
            "--memory much",
            "--require linux",
            "--window nightly",
            "--grant network",
            "--after x",
            "--exit-codes 256",
            "--fail-fast-on lost",
            "--finish-by someday",
            "--zone Mars/Base",
            "--array 5-1",
        ] {
            let inputs = if wrong.starts_with("--array") { "" } else { "--array 0-9 " };
            assert!(parse(&format!("x f {inputs}{wrong}")).is_err(), "{wrong}");
        }
    }
}
