//! What came of a job: a table of results, JSON with the outputs, or one file for each task.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    path::PathBuf,
    pin::pin,
    time::Duration,
};

use clap::Args;
use data_encoding::BASE64;
use futures::TryStreamExt as _;
use lull_shared::{
    id::{JobId, TaskId},
    limits::INLINE_BYTES_MAX,
    state::TaskState,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    api::{JobBody, ResultBody, SCHEMA_VERSION, TaskBody},
    cli::{
        Context,
        exit::Failure,
        jobs::{files::Gatherer, names},
        shown::output::{Cell, Format, Look, Row, counted, printable, printable_lines, write_out},
        typed::amount::spoken,
    },
    client::Client,
};

/// Tasks asked for at a time.
const PAGE: u32 = 1_000;
/// Results asked for at a time: up to 64 KiB each.
const RESULTS_PAGE: u32 = 200;
/// Rows of a table for people; more can be had as lines.
const ROWS_MAX: usize = 1_000;
/// Lines gathered before they are printed: a write for each costs more than making it.
const PRINTED_BYTES: usize = 32 * 1024;
/// A larger output is left out of JSON and named by its digest.
const OUTPUT_IN_JSON_MAX: u64 = 16 * 1024 * 1024;
/// A longer output is not poured over a terminal.
const ON_TERMINAL_MAX: u64 = 1024 * 1024;
/// Characters of a label or an output in a table.
const SHOWN_CHARS: usize = 34;

/// One task and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TaskResult {
    pub task: String,
    pub label: Option<String>,
    pub state: TaskState,
    pub agent: Option<String>,
    pub attempts: u32,
    /// From the newest attempt's start to its end.
    pub seconds: Option<f64>,
    pub output_bytes: Option<u64>,
    pub digest: Option<String>,
    /// Why it did not succeed.
    pub reason: Option<String>,
    /// The output, when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The output, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_base64: Option<String>,
}

impl Row for TaskResult {
    const NAME: &'static str = "results";
    const HEADINGS: &'static [&'static str] = &["TASK", "INPUT", "STATE", "AGENT", "TIME", "SIZE", "OUTPUT"];

    fn id(&self) -> String {
        self.task.clone()
    }

    fn cells(&self, _look: &Look) -> Vec<Cell> {
        let last = match (&self.output, &self.reason) {
            (Some(text), _) => beginning(text),
            (None, Some(reason)) if self.state != TaskState::Succeeded => reason.clone(),
            (None, _) if self.output_base64.is_some() => "(binary)".into(),
            // It is not fetched for a table.
            (None, _) if self.digest.is_some() => "(large)".into(),
            (None, _) => String::new(),
        };
        vec![
            self.task.as_str().into(),
            Cell::or_dash(self.label.as_deref().map(ending)),
            self.state.into(),
            Cell::or_dash(self.agent.as_deref()),
            Cell::or_dash(self.seconds.map(|seconds| spoken(Duration::from_secs_f64(seconds)))),
            Cell::or_dash(self.output_bytes.map(|size| bytesize::ByteSize(size).to_string())),
            last.into(),
        ]
    }
}

/// Where outputs go besides standard output.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OutArgs {
    /// Write the output of each task to a file in this folder, named like its input, as soon as the task has ended. Files of
    /// an earlier run are replaced, others are not; manifest.jsonl says which file belongs to which task
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The ending of these files' names, like .json
    #[arg(long, value_name = "SUFFIX", requires = "out")]
    pub suffix: Option<String>,
}

/// Brings what is missing in the folder and prints a job's results in the form asked for.
pub(crate) async fn present(
    context: &Context,
    client: &Client,
    job: &JobBody,
    gatherer: Option<&mut Gatherer<'_>>,
) -> Result<(), Failure> {
    let to_files = gatherer.is_some();
    if let Some(gatherer) = gatherer {
        let files = gatherer.rest().await?;
        context.out.note(format!("{} in {}", counted(files, "file"), gatherer.folder().display()));
    }
    if context.out.format == Format::Table && job.tasks == 1 && job.counts.succeeded == 1 && !to_files {
        return print_only(context, client, job).await;
    }
    match context.out.format {
        Format::Table => {
            let mut rows = Vec::new();
            each(client, job.job, Wanted::Beginning, |result| {
                rows.push(result);
                Ok(if rows.len() < ROWS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })
            .await?;
            let labels: Vec<Option<String>> = rows.iter().map(|row| row.label.clone()).collect();
            for (row, label) in rows.iter_mut().zip(names::apart(&labels)) {
                row.label = label;
            }
            context.out.list(&rows)?;
            let beyond = job.tasks.saturating_sub(rows.len() as u64);
            if beyond > 0 {
                context.out.note(format!("... and {beyond} more; `lull job results {} -o jsonl` shows them all", job.job));
            }
            Ok(())
        }
        Format::Json => print_json(client, job).await,
        Format::Jsonl | Format::Id => {
            let wanted = if context.out.format == Format::Jsonl { Wanted::Whole } else { Wanted::Nothing };
            let mut lines = String::new();
            each(client, job.job, wanted, |result| {
                lines += &context.out.listed(&[result]);
                if lines.len() >= PRINTED_BYTES {
                    context.out.print(&std::mem::take(&mut lines))?;
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            context.out.print(&lines)
        }
    }
}

/// The output of a job of one task, whole.
async fn print_only(context: &Context, client: &Client, job: &JobBody) -> Result<(), Failure> {
    let task = client.tasks(job.job, None, 0, 1).await?.items.into_iter().next();
    let Some(task) = task else { return Ok(()) };
    let terminal = io::stdout().is_terminal();
    if terminal && task.output_bytes.is_some_and(|size| size > ON_TERMINAL_MAX) {
        context.out.note(format!("the output has {}", bytesize::ByteSize(task.output_bytes.unwrap_or_default())));
        context.out.note(format!("hint: `lull job results {} --task {} > FILE` writes it to a file", job.job, task.task.index));
        return Ok(());
    }
    let mut parts = pin!(client.output(task.task).await?);
    if !terminal {
        while let Some(part) = parts.try_next().await? {
            write_out(&part)?;
        }
        return Ok(());
    }
    let mut bytes = Vec::new();
    while let Some(part) = parts.try_next().await? {
        bytes.extend_from_slice(&part);
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            write_out((printable_lines(&text) + end).as_bytes())
        }
        Err(error) => {
            context
                .out
                .note(format!("the output is not text: {} of something else", bytesize::ByteSize(error.as_bytes().len() as u64)));
            context.out.note("hint: --out DIR writes it to a file, and so does `> FILE`");
            Ok(())
        }
    }
}

/// One JSON value, written as it comes: a job may have more results than fit in memory.
async fn print_json(client: &Client, job: &JobBody) -> Result<(), Failure> {
    write_out(format!("{{\n  \"schema_version\": {SCHEMA_VERSION},\n  \"job\": {},\n  \"results\": [", json!(job)).as_bytes())?;
    let mut separator = "\n    ";
    each(client, job.job, Wanted::Whole, |result| {
        write_out(format!("{separator}{}", json!(result)).as_bytes())?;
        separator = ",\n    ";
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    write_out(b"\n  ]\n}\n")
}

/// How much of the outputs is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    /// What comes along with a list.
    Beginning,
    /// Also those that are too large for that, one by one.
    Whole,
}

/// Every task in order, until `take` has enough.
async fn each(
    client: &Client,
    job: JobId,
    wanted: Wanted,
    mut take: impl FnMut(TaskResult) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    let mut from = 0;
    loop {
        let page = client.tasks(job, None, from, PAGE).await?;
        let mut results = match wanted {
            Wanted::Nothing => BTreeMap::new(),
            Wanted::Beginning | Wanted::Whole => results_of(client, job, &page.items).await?,
        };
        for task in page.items {
            let (id, result) = (task.task, results.remove(&task.task.index));
            let mut joined = joined(task, result)?;
            if wanted == Wanted::Whole {
                joined = whole(client, joined, id).await?;
            }
            if take(joined)?.is_break() {
                return Ok(());
            }
        }
        match page.next.and_then(|next| next.parse().ok()) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

/// One task and what came of it, its output included.
pub(crate) async fn one(client: &Client, task: TaskId) -> Result<TaskResult, Failure> {
    let body = client.task(task).await?.task;
    let mut found = results_of(client, task.job, std::slice::from_ref(&body)).await?;
    whole(client, joined(body, found.remove(&task.index))?, task).await
}

/// With an output that did not come along, unless it is too large for JSON.
async fn whole(client: &Client, mut result: TaskResult, task: TaskId) -> Result<TaskResult, Failure> {
    let size = result.output_bytes.unwrap_or(0);
    let missing = result.digest.is_some() && result.output.is_none() && result.output_base64.is_none();
    if missing && size <= OUTPUT_IN_JSON_MAX {
        (result.output, result.output_base64) = as_text(fetched(client, task, size).await?);
    }
    Ok(result)
}

async fn fetched(client: &Client, task: TaskId, size_bytes: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(size_bytes as usize);
    let mut parts = pin!(client.output(task).await?);
    while let Some(part) = parts.try_next().await? {
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// The results of these tasks, by index.
async fn results_of(client: &Client, job: JobId, tasks: &[TaskBody]) -> Result<BTreeMap<u32, ResultBody>, Failure> {
    let mut results = BTreeMap::new();
    let (Some(first), Some(last)) = (tasks.first(), tasks.last()) else { return Ok(results) };
    let mut from = first.task.index;
    while from <= last.task.index {
        let page = client.results(job, from, RESULTS_PAGE).await?;
        results.extend(page.items.into_iter().map(|result| (result.task.index, result)));
        match page.next.and_then(|next| next.parse().ok()) {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(results)
}

fn joined(task: TaskBody, result: Option<ResultBody>) -> Result<TaskResult, Failure> {
    let bytes = result.as_ref().map(inline).transpose()?.flatten();
    let (output, output_base64) = bytes.map(as_text).unwrap_or_default();
    let seconds = task.started.zip(task.ended).map(|(started, ended)| ended.duration_since(started).as_secs_f64().max(0.0));
    Ok(TaskResult {
        task: task.task.to_string(),
        label: task.label,
        state: task.state,
        agent: task.agent_name,
        attempts: task.attempts,
        seconds,
        output_bytes: result.as_ref().map(|result| result.output.size_bytes).or(task.output_bytes),
        digest: result.map(|result| result.output.digest.to_string()),
        reason: task.reason,
        output,
        output_base64,
    })
}

/// The bytes that came along.
pub(in crate::cli) fn inline(result: &ResultBody) -> Result<Option<Vec<u8>>, Failure> {
    let Some(text) = &result.inline_base64 else { return Ok(None) };
    let bytes = BASE64.decode(text.as_bytes()).map_err(anyhow::Error::from)?;
    debug_assert!(bytes.len() <= INLINE_BYTES_MAX, "{} bytes came along", bytes.len());
    Ok(Some(bytes))
}

/// Text as it is, anything else in base64.
fn as_text(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
    }
}

/// The beginning of a text, its lines run together.
fn beginning(text: &str) -> String {
    // A long output is not gone through for the sake of one line.
    let words: Vec<&str> = text.split_whitespace().take(SHOWN_CHARS).collect();
    shortened(&words.join(" "))
}

fn shortened(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The end of a label: what tells paths apart.
fn ending(label: &str) -> String {
    let label = printable(label);
    match label.char_indices().rev().nth(SHOWN_CHARS) {
        Some((start, c)) => format!("…{}", &label[start + c.len_utf8()..]),
        None => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shown::output::tests::plain;

    fn result(index: u32, state: TaskState) -> TaskResult {
        TaskResult {
            task: format!("j1.{index}"),
            label: Some(format!("docs/{index}.txt")),
            state,
            agent: Some("here-1".into()),
            attempts: 1,
            seconds: Some(0.25),
            output_bytes: None,
            digest: None,
            reason: None,
            output: None,
            output_base64: None,
        }
    }

    #[test]
    fn a_table_shows_the_beginning_or_the_reason() {
        let rows = [
            TaskResult { output: Some("\n{\n  \"a\": 1}\n".into()), output_bytes: Some(14), ..result(0, TaskState::Succeeded) },
            TaskResult { output_base64: Some("AA==".into()), output_bytes: Some(1), ..result(1, TaskState::Succeeded) },
            TaskResult { reason: Some("it exited with code 3".into()), ..result(2, TaskState::Failed) },
            TaskResult { digest: Some("b3:00".into()), output_bytes: Some(1 << 20), ..result(3, TaskState::Succeeded) },
        ];
        let expected = "\
TASK  INPUT       STATE      AGENT   TIME   SIZE     OUTPUT
j1.0  docs/0.txt  succeeded  here-1  250ms  14 B     { \"a\": 1}
j1.1  docs/1.txt  succeeded  here-1  250ms  1 B      (binary)
j1.2  docs/2.txt  failed     here-1  250ms  -        it exited with code 3
j1.3  docs/3.txt  succeeded  here-1  250ms  1.0 MiB  (large)
";
        assert_eq!(plain(Format::Table).listed(&rows), expected);
    }

    #[test]
    fn text_stays_text_and_bytes_become_base64() {
        assert_eq!(as_text(b"plain".to_vec()), (Some("plain".into()), None));
        assert_eq!(as_text(vec![0xff]), (None, Some("/w==".into())));
        assert!(json!(result(0, TaskState::Failed)).get("output").is_none(), "what is not there is left out");
    }
}
