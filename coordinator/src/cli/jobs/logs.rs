//! `lull task logs` and `lull job logs`: what functions wrote to standard error, kept or while they write it.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use clap::Args;
use lull_shared::{
    amount::size,
    bound,
    id::{JobId, TaskId},
};
use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep};

use crate::{
    api::{LogBody, TaskBody},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        shown::output::{Format, printable_lines},
        typed::selector::{JobName, TaskName},
    },
    client::{Client, ClientError},
};

/// How long one question for more of a log may wait for it.
const WAIT: Duration = Duration::from_secs(15);
/// Between two looks at a task that waits, or at all tasks of a job.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a coordinator may be away while somebody reads.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// `lull task logs`
#[derive(Debug, Args)]
#[command(
    after_help = "A running task's log is what it wrote so far.\n\nEXAMPLES:\n  lull task logs j42.7\n  lull task logs -f j42.7\n  \
                  lull task logs j42.7 --attempt 1"
)]
pub(crate) struct TaskLogs {
    /// The task, like j42.7, or last.7 for one of the job that you submitted last
    task: TaskName,
    /// The log of this attempt; of the newest one if left out
    #[arg(long, value_name = "N", value_parser = bound::SOME.numbers::<u32>())]
    attempt: Option<u32>,
    /// Go on with what is written, until the task has ended
    #[arg(short, long)]
    follow: bool,
}

/// `lull job logs`
#[derive(Debug, Args)]
#[command(after_help = "Each line begins with its task.\n\nEXAMPLES:\n  lull job logs j42\n  lull job logs -f j42\n  \
                  lull job logs j42 --from 500 --limit 50")]
pub(crate) struct JobLogs {
    /// The job, like j42, or last for the one that you submitted last
    job: JobName,
    /// Go on with what is written, until these tasks have ended
    #[arg(short, long)]
    follow: bool,
    /// From the task with this index on
    #[arg(long, value_name = "INDEX", default_value_t = 0, value_parser = bound::INDEX.numbers::<u32>())]
    from: u32,
    /// At most this many tasks
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = bound::LOGS_SHOWN.numbers::<u32>())]
    limit: u32,
}

/// What was read of a log, and where to go on.
struct Reading {
    attempt: Option<u32>,
    next: u64,
}

impl TaskLogs {
    /// The attempt that is meant, by its number or as a part of its task's name.
    fn attempt(&self) -> Result<Option<u32>, Failure> {
        match (self.task.attempt, self.attempt) {
            (Some(named), Some(number)) if named != number => {
                Err(Failure::usage(format!("attempt {named} cannot stand beside --attempt {number}"))
                    .hint("leave one of them out"))
            }
            (named, number) => Ok(named.or(number)),
        }
    }

    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let attempt = self.attempt()?;
        let client = context.server.connect()?;
        if self.follow {
            context.out.check_repeatable()?;
            return tokio::select! {
                followed = self.follow(&client, context, attempt) => followed,
                () = context.interrupted() => Err(interrupted(&format!("lull task logs -f {}", self.task))),
            };
        }
        let log = client.log(self.task.find(&client).await?, attempt).await?;
        print(context, &log)?;
        Ok(Exit::Succeeded)
    }

    async fn follow(&self, client: &Client, context: &Context, attempt: Option<u32>) -> Outcome {
        let task = self.task.find(client).await?;
        let mut reading = Reading { attempt, next: 0 };
        let mut away: Option<Instant> = None;
        loop {
            match client.log_from(task, reading.attempt, reading.next, WAIT).await {
                Ok(log) => {
                    away = None;
                    print(context, &log)?;
                    reading = Reading { attempt: Some(log.attempt.number), next: log.next };
                    if !log.live && (attempt.is_some() || !goes_on(client, context, task, &mut reading).await?) {
                        return Ok(Exit::Succeeded);
                    }
                }
                // It has not begun yet.
                Err(ClientError::Refused { status: 404, .. }) => {
                    if client.task(task).await?.task.state.is_ended() {
                        return Ok(Exit::Succeeded);
                    }
                    sleep(PAUSE).await;
                }
                Err(error) => stay(error, &mut away).await?,
            }
        }
    }
}

/// Whether another attempt follows the one whose log has ended; it is read from where it goes on.
async fn goes_on(client: &Client, context: &Context, task: TaskId, reading: &mut Reading) -> Result<bool, Failure> {
    let details = client.task(task).await?;
    let Some(next) = details.history.iter().find(|one| Some(one.attempt.number) > reading.attempt) else {
        if details.task.state.is_ended() {
            return Ok(false);
        }
        sleep(PAUSE).await;
        return Ok(true);
    };
    let before = details.history.iter().find(|one| Some(one.attempt.number) == reading.attempt);
    let why = before.and_then(|one| one.reason.clone()).unwrap_or_default();
    context.out.note(format!("{task} goes on with {}: {why}", next.attempt));
    // One that goes on from a snapshot has its log from there too.
    let from = if next.resumed.is_some() { reading.next } else { 0 };
    *reading = Reading { attempt: Some(next.attempt.number), next: from };
    Ok(true)
}

impl JobLogs {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if self.follow {
            context.out.check_repeatable()?;
        }
        tokio::select! {
            read = self.read(context) => read,
            () = context.interrupted() => Err(interrupted(&format!("lull job logs -f {}", self.job))),
        }
    }

    async fn read(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        let job = self.job.find(&client).await?;
        let mut readings: BTreeMap<u32, Reading> = BTreeMap::new();
        let mut halves: BTreeMap<u32, String> = BTreeMap::new();
        let mut done = std::collections::BTreeSet::new();
        let mut away: Option<Instant> = None;
        let mut said = Said { job, lines: Vec::new() };
        loop {
            let tasks = match client.tasks(job, None, self.from, self.limit).await {
                Ok(page) => page.items,
                Err(error) => {
                    stay(error, &mut away).await?;
                    continue;
                }
            };
            for task in tasks.iter().filter(|task| task.attempts > 0) {
                let index = task.task.index;
                if !done.contains(&index)
                    && self.read_task(&client, context, task, (&mut readings, &mut halves, &mut said)).await?
                {
                    done.insert(index);
                }
            }
            let all = tasks.iter().all(|task| task.state.is_ended() && (task.attempts == 0 || done.contains(&task.task.index)));
            // Tasks appear in the list as they begin.
            let complete = tasks.len() as u32 == self.limit || client.job(job).await?.job.state.is_ended();
            if !self.follow || all && complete {
                for (index, half) in halves {
                    said.say(context, index, &half)?;
                }
                if context.out.format == Format::Json {
                    context.out.one(&said, &job.to_string(), |_| String::new())?;
                }
                return Ok(Exit::Succeeded);
            }
            sleep(PAUSE).await;
        }
    }

    /// Prints what a task wrote since it was looked at. Whether there will be no more.
    async fn read_task(
        &self,
        client: &Client,
        context: &Context,
        task: &TaskBody,
        (readings, halves, said): (&mut BTreeMap<u32, Reading>, &mut BTreeMap<u32, String>, &mut Said),
    ) -> Result<bool, Failure> {
        let index = task.task.index;
        let reading = readings.entry(index).or_insert(Reading { attempt: None, next: 0 });
        // A later attempt is read from its beginning.
        if reading.attempt.is_some_and(|number| number < task.attempts) && !self.resumes(client, task).await? {
            *reading = Reading { attempt: None, next: 0 };
        }
        let log = match client.log_from(task.task, None, reading.next, Duration::ZERO).await {
            Ok(log) => log,
            Err(ClientError::Refused { status: 404, .. }) => return Ok(task.state.is_ended()),
            Err(error) => return Err(error.into()),
        };
        *reading = Reading { attempt: Some(log.attempt.number), next: log.next };
        let half = halves.entry(index).or_default();
        half.push_str(&log.text);
        let text = std::mem::take(half);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        half.push_str(&text[whole..]);
        for line in text[..whole].lines() {
            said.say(context, index, line)?;
        }
        Ok(!log.live && task.state.is_ended())
    }

    /// Whether a task's newest attempt went on from a snapshot, and with that from the log before.
    async fn resumes(&self, client: &Client, task: &TaskBody) -> Result<bool, Failure> {
        Ok(client.task(task.task).await?.history.last().is_some_and(|last| last.resumed.is_some()))
    }
}

/// The lines of a job's tasks, for programs that want one value.
#[derive(Serialize)]
struct Said {
    #[serde(serialize_with = "as_text")]
    job: JobId,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    task: String,
    line: String,
}

fn as_text<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(job)
}

impl Said {
    fn say(&mut self, context: &Context, index: u32, line: &str) -> Result<(), Failure> {
        if line.is_empty() {
            return Ok(());
        }
        let task = TaskId { job: self.job, index };
        let said = Line { task: task.to_string(), line: line.to_owned() };
        match context.out.format {
            Format::Json => self.lines.push(said),
            Format::Table => context.out.print(&harmless(&format!("{task} {line}\n")))?,
            _ => context.out.one(&said, &said.task, |_| String::new())?,
        }
        Ok(())
    }
}

fn print(context: &Context, log: &LogBody) -> Result<(), Failure> {
    if context.out.format != Format::Table {
        return context.out.one(log, &log.attempt.to_string(), |_| String::new());
    }
    if log.dropped_bytes > 0 {
        context.out.note(format!("{} were not kept; --log-limit keeps more", size(log.dropped_bytes)));
    }
    context.out.print(&harmless(&log.text))
}

/// What a terminal would take for commands is shown instead.
fn harmless(text: &str) -> String {
    if std::io::stdout().is_terminal() { printable_lines(text) } else { text.to_owned() }
}

/// Whoever reads does not hold up what is read.
fn interrupted(again: &str) -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
        .hint(format!("what runs goes on; `{again}` reads from the beginning again, and goes on with what is written"))
}

/// Waits for a coordinator that may come back.
async fn stay(error: ClientError, away: &mut Option<Instant>) -> Result<(), Failure> {
    let passes = match &error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused { status, .. } => matches!(status, 429 | 503),
        ClientError::Nonsense { .. } | ClientError::WrongPin { .. } | ClientError::Untrusted { .. } | ClientError::Address(_) => {
            false
        }
    };
    let since = *away.get_or_insert_with(Instant::now);
    if !passes || since.elapsed() > AWAY_MAX {
        return Err(error.into());
    }
    sleep(PAUSE).await;
    Ok(())
}
