//! `lull job`: submit, list, show, wait, cancel, retry, results, logs.

use std::{pin::pin, time::Duration};

use clap::{Args, Subcommand};
use futures::TryStreamExt as _;
use lull_shared::{
    alike,
    amount::quoted,
    bound,
    id::TaskId,
    job::DependencyCondition,
    state::{AttemptEnd, JobState, TaskCounts, TaskState},
};

use crate::{
    api::{CauseBody, InputsBody, JobBody, JobDetails, MoveBody, RetryRequest, standing},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        jobs::{
            files::{self, Gatherer},
            logs::JobLogs,
            results::{self, OutArgs},
            submit::Submit,
        },
        shown::{
            follow::{self, Follow},
            output::{Cell, Deed, Format, Look, Row, Tone, counted, pairs, table, write_out},
        },
        typed::{
            amount::{self, spoken},
            moment::{self, Moment},
            selector::JobName,
        },
    },
    client::JobQuery,
};

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Submit a job: one task for each input
    Submit(Box<Submit>),
    /// List jobs, newest first
    List(List),
    /// Show one job with its conditions
    Show(Show),
    /// Wait until a job has ended, and exit as it ended
    Wait(Wait),
    /// Cancel a job: nothing new starts, what runs is stopped
    #[command(after_help = "EXAMPLES:\n  lull job cancel j42")]
    Cancel(One),
    /// Run the failed, cancelled and expired tasks of an ended job again
    Retry(Retry),
    /// Show what came of a job's tasks
    Results(Results),
    /// Print what a job's tasks wrote to standard error
    Logs(JobLogs),
}

/// `lull job list`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull job list --state active --watch\n  lull job list --submitter ann -o id")]
pub(crate) struct List {
    /// Only jobs in this state: active, succeeded, failed, cancelled or expired
    #[arg(long, value_name = "STATE", value_parser = job_state)]
    state: Option<JobState>,
    /// Only jobs that this person or program submitted
    #[arg(long, value_name = "NAME", value_parser = amount::some)]
    submitter: Option<String>,
    /// Only jobs that are called this
    #[arg(long, value_name = "NAME", value_parser = amount::some)]
    name: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = bound::JOBS_SHOWN.numbers::<u32>())]
    limit: u32,
    /// Only jobs with a lower number: the next part of the list
    #[arg(long, value_name = "JOB")]
    before: Option<JobName>,
    /// Show the list again whenever it changes
    #[arg(long)]
    watch: bool,
}

/// `lull job show`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull job show j42\n  lull job show j42 --watch")]
pub(crate) struct Show {
    /// The job, like j42, or last for the one that you submitted last
    job: JobName,
    /// Show it again whenever it changes, until it has ended
    #[arg(long)]
    watch: bool,
}

/// `lull job wait`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull wait j42 && echo all succeeded\n  lull wait j42 --timeout 30m")]
pub(crate) struct Wait {
    /// The job, like j42, or last for the one that you submitted last
    job: JobName,
    /// Give up after this time; the job goes on
    #[arg(long, value_name = "TIME", value_parser = bound::PATIENCE.times())]
    timeout: Option<Duration>,
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The job, like j42, or last for the one that you submitted last
    job: JobName,
}

/// `lull job retry`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  lull job retry j42\n  lull job retry last --finish-by \"in 8h\"")]
pub(crate) struct Retry {
    /// The job, like j42, or last
    job: JobName,
    /// When its tasks must have ended this time: 06:00 (the next), "2027-03-01 06:00", "in 8h"; needed for a job that has expired
    #[arg(long, value_name = "MOMENT", value_parser = moment::moment)]
    finish_by: Option<Moment>,
}

/// `lull job results`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  lull job results j42\n  lull job results j42 --out results/ --suffix .json\n  lull job results j42 --task 7 > seventh.png"
)]
pub(crate) struct Results {
    /// The job, like j42, or last for the one that you submitted last
    job: JobName,
    #[command(flatten)]
    out: OutArgs,
    /// Write the output of this task, byte for byte, to standard output
    #[arg(long, value_name = "INDEX", conflicts_with = "out", value_parser = bound::INDEX.numbers::<u32>())]
    task: Option<u32>,
}

impl Job {
    /// Whether it changes nothing and writes no file.
    pub(crate) fn only_shows(&self) -> bool {
        matches!(self, Self::List(_) | Self::Show(_) | Self::Logs(_))
    }

    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Submit(submit) => submit.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Wait(wait) => wait.run(context).await,
            Self::Cancel(one) => {
                let client = context.server.connect()?;
                let job = one.job.find(&client).await?;
                let affected = client.cancel(job).await?.affected;
                let words = format!("{job} is cancelled, with {} not done", counted(affected, "task"));
                context.out.done(&Deed::new("cancelled", job).affecting(affected), words)?;
                Ok(Exit::Succeeded)
            }
            Self::Retry(retry) => retry.run(context).await,
            Self::Results(results) => results.run(context).await,
            Self::Logs(logs) => logs.run(context).await,
        }
    }
}

impl List {
    async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let query = JobQuery {
            state: self.state,
            submitter: self.submitter.clone(),
            name: self.name.clone(),
            mine: None,
            before: match self.before {
                Some(name) => Some(name.find(&client).await?.to_string()),
                None => None,
            },
            limit: Some(self.limit),
        };
        context.show(self.watch, async || Ok(context.out.listed(&client.jobs(&query).await?.items))).await
    }
}

impl Show {
    async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let job = self.job.find(&client).await?;
        let text = |details: &JobDetails| context.out.shown(details, &job.to_string(), |look| describe(details, look));
        if !self.watch {
            context.out.print(&text(&client.job(job).await?))?;
            return Ok(Exit::Succeeded);
        }
        context.out.check_repeatable()?;
        let JobDetails { terms, moves, failures, .. } = client.job(job).await?;
        let mut screen = context.screen();
        let watching = follow::watch(&client, job, |body| {
            // A terminal that is gone is noticed when the command ends.
            let (terms, moves, failures) = (terms.clone(), moves.clone(), failures.clone());
            let _ = screen.show(&text(&JobDetails { job: body.clone(), terms, moves, failures }));
        });
        tokio::select! {
            ended = watching => Ok(Exit::from(ended?.state)),
            () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")
                .hint(format!("{job} goes on; `lull job show {job}` shows it again, `lull wait {job}` waits for its end"))),
        }
    }
}

impl Wait {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let job = self.job.find(&client).await?;
        let ended = follow::to_the_end(&client, job, Follow::new(context).at_most(self.timeout), None).await?;
        context.out.list(std::slice::from_ref(&ended))?;
        Ok(Exit::from(ended.state))
    }
}

impl Retry {
    async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let job = self.job.find(&client).await?;
        let resolve = |moment: Moment| {
            moment.resolve(jiff::Timestamp::now(), &amount::own_zone().unwrap_or_default()).map_err(Failure::usage)
        };
        let wanted = RetryRequest { finish_by: self.finish_by.map(resolve).transpose()? };
        let affected = client.retry(job, &wanted).await?.affected;
        let words = format!("{job} runs again, with {}; `lull wait {job}` waits", counted(affected, "task"));
        context.out.done(&Deed::new("retried", job).affecting(affected), words)?;
        Ok(Exit::Succeeded)
    }
}

impl Results {
    async fn run(&self, context: &Context) -> Outcome {
        let work = self.brought(context);
        tokio::select! {
            outcome = work => outcome,
            () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")
                .hint(format!("`lull job results {}` begins again, and brings to --out only what is missing", self.job))),
        }
    }

    async fn brought(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let id = self.job.find(&client).await?;
        if let Some(index) = self.task {
            let task = TaskId { job: id, index };
            if context.out.format != Format::Table {
                let result = results::one(&client, task).await?;
                context.out.one(&result, &task.to_string(), |_| String::new())?;
                return Ok(Exit::Succeeded);
            }
            let mut parts = pin!(client.output(task).await?);
            while let Some(part) = parts.try_next().await? {
                write_out(&part)?;
            }
            return Ok(Exit::Succeeded);
        }
        let folder = files::Folder::open(&self.out)?;
        let job = client.job(id).await?.job;
        if !job.state.is_ended() {
            context.out.note(format!("{id} has not ended; `lull wait {id}` waits for the rest"));
        }
        let mut gatherer = match folder {
            Some(folder) => Some(Gatherer::new(&client, id, folder).await?),
            None => None,
        };
        results::present(context, &client, &job, gatherer.as_mut()).await?;
        Ok(Exit::Succeeded)
    }
}

impl Row for JobBody {
    const NAME: &'static str = "jobs";
    const HEADINGS: &'static [&'static str] =
        &["JOB", "NAME", "FUNCTION", "STATE", "SUCCEEDED", "RUNNING", "FAILED", "CANCELLED", "SUBMITTED", "BY", "REASON"];

    fn id(&self) -> String {
        self.job.to_string()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let failed = Cell::toned(self.counts.failed, if self.counts.failed > 0 { Tone::Bad } else { Tone::Plain });
        vec![
            self.job.to_string().into(),
            self.name.as_str().into(),
            self.function.as_str().into(),
            state(self),
            format!("{}/{}", self.counts.succeeded, self.tasks).into(),
            self.counts.running.to_string().into(),
            failed,
            dropped(&self.counts),
            look.time(self.submitted).into(),
            self.submitter.as_str().into(),
            standing::why_of_job(self).unwrap_or_default().into(),
        ]
    }
}

/// Tasks that ended without having come to their end: all of a job's in one way as a rule.
fn dropped(counts: &TaskCounts) -> Cell {
    let words = match (counts.cancelled, counts.expired) {
        (cancelled, 0) => cancelled.to_string(),
        (0, expired) => format!("{expired} expired"),
        (cancelled, expired) => format!("{cancelled}, {expired} expired"),
    };
    Cell::toned(words, if counts.cancelled + counts.expired > 0 { Tone::Odd } else { Tone::Plain })
}

/// In one word.
fn state(job: &JobBody) -> Cell {
    let (word, tone) = standing::of_job(job);
    Cell::toned(word, tone)
}

fn describe(details: &JobDetails, look: &Look) -> String {
    let (job, terms) = (&details.job, &details.terms);
    let counts: Vec<String> = TaskState::ALL
        .into_iter()
        .filter(|state| job.counts.get(*state) > 0)
        .map(|state| format!("{} {state}", job.counts.get(state)))
        .collect();
    let inputs = match &terms.inputs {
        InputsBody::Range { first, count } => format!("numbers {first} to {}", first + u64::from(count.saturating_sub(1))),
        InputsBody::Numbers(numbers) => format!("numbers {numbers}"),
        InputsBody::Pack { digest, .. } => format!("pack {}", digest.short()),
    };
    let mut lines: Vec<(&str, Cell)> = vec![
        ("job", job.job.to_string().into()),
        ("name", job.name.as_str().into()),
        ("function", job.function.as_str().into()),
        ("state", state(job)),
        ("tasks", format!("{}: {}", job.tasks, counts.join(", ")).into()),
    ];
    let mut add = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            lines.push((name, value.into()));
        }
    };
    let silent = "of which nothing is heard: their results still count, and copies run where there is room";
    let unreachable = Some(job.unreachable).filter(|count| *count > 0);
    add("unreachable", unreachable.map(|count| format!("{} with agents {silent}", counted(count.into(), "task"))));
    add("waits because", job.waiting.as_ref().map(|reason| reason.message.clone()));
    add("because", job.reason.clone());
    add("moved", job.moved.filter(|moved| *moved > 0).map(|moved| counted(moved, "attempt")));
    add("lost", job.lost.filter(|lost| *lost > 0).map(|lost| counted(lost, "attempt")));
    add("mean time", job.mean_wall_ms.map(|ms| spoken(Duration::from_secs_f64(ms / 1_000.0))));
    add("submitted", Some(format!("{} by {}", look.time(job.submitted), job.submitter)));
    add("ended", job.ended.map(|at| look.time(at)));
    add("inputs", Some(inputs));
    add("arguments", Some(terms.args.join(" ")).filter(|args| !args.is_empty()));
    let variables: Vec<String> = terms.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("environment", Some(variables.join(" ")).filter(|text| !text.is_empty()));
    add("priority", Some(job.priority.to_string()).filter(|_| job.priority != 0));
    let millis = Duration::from_millis;
    let pause =
        format!("{} after {} to {}", terms.retries, spoken(millis(terms.backoff_ms)), spoken(millis(terms.backoff_max_ms)));
    add("retries", Some(pause).filter(|_| terms.retries > 0).or(Some("none".into())));
    let size = |bytes: u64| bytesize::ByteSize(bytes).to_string();
    add("time limit", Some(spoken(millis(terms.time_limit_ms))));
    add("memory limit", Some(size(terms.memory_bytes)));
    add("output limit", Some(size(terms.output_bytes)));
    let grants: Vec<String> = terms.grants.iter().map(|grant| format!("{grant:?}").to_lowercase()).collect();
    add("granted", Some(grants.join(", ")).filter(|text| !text.is_empty()));
    let conditions: Vec<String> = terms.require.iter().map(ToString::to_string).collect();
    add("requires", Some(conditions.join(", ")).filter(|text| !text.is_empty()));
    add("verified", terms.verify.map(|share| format!("{share} of its tasks, by a second agent")));
    add("window", terms.window.clone());
    add("finish by", terms.finish_by.map(|at| look.time(at)));
    add("time zone", Some(terms.zone.to_string()));
    let after: Vec<String> = terms.after.iter().map(|after| format!("{} ({})", after.job, condition(after.condition))).collect();
    add("after", Some(after.join(", ")).filter(|text| !text.is_empty()));
    add("lost after", Some(format!("{} of silence", spoken(millis(terms.lost_after_ms)))));
    add("stops after", terms.failures_max.map(|failures| counted(failures.into(), "failed task")));
    add("at once", terms.at_once.map(|tasks| counted(tasks.into(), "task")));
    let classes: Vec<String> = terms.fail_fast_on.iter().map(ToString::to_string).collect();
    add("fails fast on", Some(classes.join(", ")).filter(|text| !text.is_empty()));
    add("exit codes", Some(terms.exit_codes.to_string()).filter(|_| !terms.exit_codes.is_usual()));
    add("key", terms.idempotency_key.clone());
    let mut text = pairs(lines, look);
    text.push_str(&causes(&details.failures, look));
    if !details.moves.is_empty() {
        let headings = ["LEFT", "TASK", "FROM", "TO", "WENT ON AFTER", "PAUSE", "CAUSE"];
        text.push('\n');
        text.push_str(&table(&headings, details.moves.iter().map(|moved| move_cells(moved, look)).collect(), look));
    }
    text
}

/// How a job that must end first has to end.
fn condition(condition: DependencyCondition) -> &'static str {
    match condition {
        DependencyCondition::Ok => "if it succeeds",
        DependencyCondition::Any => "however it ends",
    }
}

/// Why tasks failed, by cause; nothing if none did.
pub(crate) fn causes(causes: &[CauseBody], look: &Look) -> String {
    if causes.is_empty() {
        return String::new();
    }
    let cells = |cause: &CauseBody| {
        vec![
            Cell::toned(cause.tasks, Tone::Bad),
            cause.message.as_str().into(),
            cause.example.to_string().into(),
            cause.log.as_deref().unwrap_or("(empty)").into(),
        ]
    };
    format!("\n{}", table(&["FAILED", "REASON", "EXAMPLE", "LOG"], causes.iter().map(cells).collect(), look))
}

fn move_cells(moved: &MoveBody, look: &Look) -> Vec<Cell> {
    let went_on = match moved.resumed {
        Some(resumed) => crate::cli::jobs::task::went_on(resumed).into(),
        None => Cell::toned("began anew", Tone::Odd),
    };
    vec![
        look.time(moved.left).into(),
        moved.attempt.task.to_string().into(),
        moved.from_name.as_str().into(),
        moved.to_name.as_str().into(),
        went_on,
        spoken(Duration::from_millis(moved.pause_ms)).into(),
        match (&moved.cause, moved.end) {
            (Some(cause), AttemptEnd::Lost) => format!("lost: {cause}").into(),
            (Some(cause), _) => cause.as_str().into(),
            (None, end) => end.to_string().into(),
        },
    ]
}

fn job_state(text: &str) -> Result<JobState, String> {
    let shown = standing::WORDS_OF_ACTIVE;
    JobState::from_word(text).ok_or_else(|| match shown.contains(&text) {
        true => {
            format!("a job that is shown as {text} is active\nhint: write active; the column STATE tells those that are {text}")
        }
        false => {
            let known = ["active", "succeeded", "failed", "cancelled", "expired"];
            let meant = alike::question(text, known);
            format!("{} is not a state of jobs\nhint: {meant}write {}", quoted(text), alike::or(&known))
        }
    })
}

#[cfg(test)]
mod tests {
    use lull_shared::id::JobId;

    use super::*;
    use crate::{
        api::Reason,
        cli::shown::{
            output::tests::{check_fits, plain, wide_name, worst_name, worst_reason},
            progress::tests::job as some_job,
        },
    };

    fn job(number: u64, counts: TaskCounts) -> JobBody {
        JobBody {
            job: JobId(number),
            name: worst_name(number),
            function: format!("{}@12", worst_name(number)),
            submitter: "a-person-with-a-name-of-some-length".into(),
            moved: None,
            lost: None,
            ..some_job(counts)
        }
    }

    #[test]
    fn at_every_width_jobs_are_told_apart_and_long_reasons_go_on_below_their_rows() {
        let counts = TaskCounts { succeeded: 999_999, running: 10_000, ..TaskCounts::default() };
        let jobs = [
            JobBody { waiting: Some(Reason::new("dependency", worst_reason())), ..job(101, counts) },
            JobBody { stopping: Some(JobState::Cancelled), ..job(102, counts) },
            JobBody { state: JobState::Succeeded, ..job(103, counts) },
            JobBody { state: JobState::Failed, reason: Some(worst_reason()), name: wide_name(104), ..job(104, counts) },
        ];
        check_fits(&jobs, "STATE", &["waiting", "cancelling", "succeeded", "failed"]);
    }

    #[test]
    fn only_what_succeeded_counts_as_done() {
        let counts = TaskCounts { succeeded: 3, failed: 2, cancelled: 5, ..TaskCounts::default() };
        let told = |counts| {
            let cells = job(1, counts).cells(&plain(Format::Table).look);
            [4, 6, 7].map(|column| cells[column].text.clone())
        };
        assert_eq!(JobBody::HEADINGS[4..8], ["SUCCEEDED", "RUNNING", "FAILED", "CANCELLED"]);
        assert_eq!(told(counts), ["3/10", "2", "5"]);
        assert_eq!(told(TaskCounts { cancelled: 0, expired: 4, ..counts }), ["3/9", "2", "4 expired"]);
        assert_eq!(told(TaskCounts { expired: 4, ..counts }), ["3/14", "2", "5, 4 expired"]);
    }
}
