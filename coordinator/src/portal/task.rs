//! One task: its attempts, what it wrote, and why it is where it is.

use std::{collections::BTreeMap, time::Duration};

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{
    amount::{counted, size, spoken},
    id::{JobId, TaskId},
    message::Build,
    state::Usage,
};
use serde::Deserialize;

use crate::{
    api::{AttemptBody, ExplanationBody, LogBody, TaskDetails, standing},
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::Answer,
        },
        work::{logs, tasks},
    },
    portal::{
        frame::Frame,
        words::{self, Html},
    },
};

/// Bytes of a log that a page begins with: its end, which is what people look for.
const LOG_BYTES: usize = 24 * 1024;
/// Agents that are named of those that something is in the way on.
const OBSTACLES_MAX: usize = 12;

/// Which attempt's log is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    attempt: Option<u32>,
}

struct Line {
    number: u32,
    state: Html,
    agent: String,
    agent_link: String,
    started: Html,
    took: String,
    used: String,
    why: String,
    backtrace: String,
}

struct Log {
    attempt: u32,
    text: String,
    cut: bool,
    next: u64,
    live: bool,
}

/// Some agents, and what is in the way there.
struct Way {
    agents: u64,
    reason: String,
    /// The name of one of them.
    example: String,
}

struct WayLine {
    agents: String,
    reason: String,
    example: String,
}

/// Why a task is where it is, without the agents one by one: short enough to be kept for whoever asks next.
pub(super) struct Explained {
    reason: Option<String>,
    why: Vec<String>,
    ways: Vec<Way>,
}

impl Explained {
    fn of(body: &ExplanationBody) -> Self {
        Self { reason: body.reason.clone(), why: why(body), ways: ways(body) }
    }
}

#[derive(Template)]
#[template(path = "task.html")]
struct Page<'a> {
    frame: &'a Frame,
    task: &'a TaskDetails,
    job: JobId,
    index: u32,
    state: Html,
    answer: String,
    facts: Vec<(&'static str, String)>,
    lines: Vec<Line>,
    log: Option<Log>,
    why: Vec<String>,
    ways: Vec<WayLine>,
    has_output: bool,
    output: String,
}

/// `GET /jobs/{job}/tasks/{index}`
pub(super) async fn page(
    State(state): Shared,
    _viewer: Viewer,
    frame: Frame,
    At((job, index)): At<(JobId, u32)>,
    Asked(which): Asked<Which>,
) -> Answer<Response> {
    let task = TaskId { job, index };
    let details = tasks::details(&state, task).await?;
    let explained = async { Ok(Explained::of(&tasks::explained(&state, task).await?)) };
    let explained = state.live.tasks_explained.fresh(task, explained).await?;
    let log = log(&state, task, which.attempt).await?;
    let body = &details.task;
    let answer = match (body.state.is_ended(), &explained.reason) {
        (true, Some(reason)) => frame.said(reason),
        (_, _) => format!("{task} {}", body.state.told()),
    };
    frame.answer(&Page {
        job,
        index,
        state: words::state(body.state.as_str(), standing::of_task(body.state)),
        answer,
        facts: facts(&frame, &details),
        lines: details.history.iter().rev().map(|attempt| line(&frame, attempt)).collect(),
        log,
        why: explained.why.iter().map(|words| frame.said(words)).collect(),
        ways: explained.ways.iter().map(|way| shown(&frame, way)).collect(),
        has_output: body.output_bytes.is_some(),
        output: body.output_bytes.map(size).unwrap_or_default(),
        task: &details,
        frame: &frame,
    })
}

fn facts(frame: &Frame, details: &TaskDetails) -> Vec<(&'static str, String)> {
    let task = &details.task;
    let label = task.label.as_deref().map(|label| ("input", frame.text(label)));
    let failures = (task.failures > 0).then(|| ("failures", task.failures.to_string()));
    let next = task.not_before.map(|at| ("not before", frame.clock(&at)));
    label.into_iter().chain(failures).chain(next).collect()
}

fn line(frame: &Frame, attempt: &AttemptBody) -> Line {
    let (word, tone) = match attempt.end {
        None if attempt.unreachable.is_some() => ("silent", standing::Tone::Odd),
        None if attempt.paused.is_some() => ("paused", standing::Tone::Odd),
        None => ("live", standing::Tone::Plain),
        Some(end) => (end.as_str(), standing::of_end(end)),
    };
    let end = attempt.ended.unwrap_or(frame.now);
    let took = Duration::try_from(end.duration_since(attempt.started)).unwrap_or_default();
    let mut why: Vec<String> = Vec::new();
    why.extend(attempt.cause.clone());
    why.extend(attempt.resumed.map(|from| format!("went on after {}", spoken(Duration::from_millis(from.spent_ms)))));
    why.extend(attempt.unreachable.map(|since| format!("nothing is heard of its agent since {since}; its result still counts")));
    why.extend(attempt.paused.as_ref().map(|paused| paused.message.clone()));
    why.extend(attempt.failure.as_ref().map(|failure| failure.message.clone()).or_else(|| attempt.reason.clone()));
    let backtrace = attempt.failure.as_ref().map(|failure| failure.backtrace.join("\n")).unwrap_or_default();
    Line {
        number: attempt.attempt.number,
        state: words::state(word, tone),
        agent: frame.text(&attempt.agent_name),
        agent_link: format!("/agents/{}", attempt.agent),
        started: frame.time(&attempt.started),
        took: spoken(took),
        used: attempt.usage.or(attempt.usage_so_far).map(used).unwrap_or_default()
            + if attempt.build == Build::Migratable { ", can be moved" } else { "" },
        why: frame.said(&why.join("; ")),
        backtrace: frame.text(&backtrace),
    }
}

fn used(usage: Usage) -> String {
    let cpu = spoken(Duration::from_micros(usage.cpu_us));
    format!("{cpu} of a processor, {}", size(usage.memory_peak_bytes))
}

/// The end of a log; what comes after it is fetched by the page's script.
async fn log(state: &Interface, task: TaskId, attempt: Option<u32>) -> Answer<Option<Log>> {
    let Some(LogBody { attempt, text, next, live, dropped_bytes, .. }) = logs::now(state, task, attempt).await? else {
        return Ok(None);
    };
    let at = text.len().saturating_sub(LOG_BYTES);
    let at = (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    // It begins with a whole line if it can.
    let begin = if at == 0 { 0 } else { text[at..].find('\n').map_or(at, |line| at + line + 1) };
    let text = lull_shared::shown::escaped_lines(&text[begin..]).into_owned();
    Ok(Some(Log { attempt: attempt.number, text, cut: begin > 0 || dropped_bytes > 0, next, live }))
}

fn why(explained: &ExplanationBody) -> Vec<String> {
    let mut why: Vec<String> = Vec::new();
    why.extend(explained.waiting.as_ref().map(|reason| reason.message.clone()));
    why.extend(explained.outage.as_ref().map(|outage| outage.message.clone()));
    why.extend(explained.second_copy.as_ref().map(|reason| reason.message.clone()));
    why.extend(
        explained
            .ahead
            .filter(|ahead| *ahead > 0)
            .map(|ahead| format!("{} start before it if nothing changes", counted(ahead, "task"))),
    );
    why.extend(explained.build.as_ref().map(|build| build_words(build.build, &build.reason)));
    why
}

fn build_words(build: Build, reason: &str) -> String {
    let which = match build {
        Build::Plain => "it runs the plain build",
        Build::Migratable => "it runs the build that can be moved",
    };
    format!("{which}: {reason}")
}

/// The agents by what is in the way there, most agents first.
fn ways(explained: &ExplanationBody) -> Vec<Way> {
    let mut ways: BTreeMap<&str, (u64, String, &str)> = BTreeMap::new();
    for verdict in &explained.agents {
        let (kind, words) = match verdict.obstacles.first() {
            Some(reason) => (reason.kind.as_str(), reason.message.clone()),
            None => ("", "it could start the task now".to_owned()),
        };
        ways.entry(kind).or_insert((0, words, &verdict.agent_name)).0 += 1;
    }
    let mut ways: Vec<_> = ways.into_values().collect();
    ways.sort_by_key(|(agents, _, _)| std::cmp::Reverse(*agents));
    ways.truncate(OBSTACLES_MAX);
    ways.into_iter().map(|(agents, reason, example)| Way { agents, reason, example: example.to_owned() }).collect()
}

fn shown(frame: &Frame, way: &Way) -> WayLine {
    WayLine { agents: counted(way.agents, "agent"), reason: frame.said(&way.reason), example: frame.text(&way.example) }
}
