//! One job: how it goes, why it waits, what failed and why, its tasks and what came of them.

use std::time::Duration;

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{
    amount::{counted, size, spoken},
    id::JobId,
    state::{JobState, TaskState},
};
use serde::Deserialize;

use crate::{
    api::{InputsBody, JobDetails, JobTerms, TaskBody, standing},
    http::{
        Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::Answer,
        },
        work::{explained, jobs, tasks},
    },
    portal::{
        draw,
        frame::Frame,
        plan, timeline, tonight,
        words::{self, Html},
    },
    store::record::TokenRole,
};

/// Tasks and results on one page.
const TASKS_PAGE: u32 = 25;
const RESULTS_PAGE: u32 = 12;
/// Attempts that are drawn.
const ATTEMPTS_DRAWN: u32 = 400;
/// Moves that are listed.
const MOVES_SHOWN: usize = 10;

/// Which tasks of it are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    state: Option<TaskState>,
    from: Option<u32>,
    results: Option<u32>,
}

struct Facet {
    word: String,
    link: String,
    count: String,
    current: bool,
}

struct Cause {
    tasks: u64,
    message: String,
    example: String,
    link: String,
    log: String,
}

struct Line {
    index: u32,
    label: String,
    state: Html,
    why: String,
    attempts: u32,
    agent: String,
    agent_link: String,
    started: Html,
}

struct Output {
    task: String,
    label: String,
    link: String,
    file: String,
    size: String,
}

struct Moved {
    left: Html,
    task: String,
    link: String,
    from: String,
    to: String,
    cause: String,
}

#[derive(Template)]
#[template(path = "job.html")]
struct Page<'a> {
    frame: &'a Frame,
    job: &'a JobDetails,
    state: Html,
    answer: String,
    late: String,
    why: String,
    bar: Html,
    counts: Vec<(Html, String)>,
    timeline: Option<Html>,
    causes: Vec<Cause>,
    facets: Vec<Facet>,
    lines: Vec<Line>,
    next: Option<String>,
    first: Option<String>,
    outputs: Vec<Output>,
    outputs_next: Option<String>,
    moves: Vec<Moved>,
    terms: Vec<(&'static str, String)>,
    /// Tasks that a retry runs again; none where it cannot be asked for.
    retry: Option<String>,
    cancel: Option<String>,
}

/// `GET /jobs/{job}`
pub(super) async fn page(
    State(state): Shared,
    viewer: Viewer,
    frame: Frame,
    At(id): At<JobId>,
    Asked(which): Asked<Which>,
) -> Answer<Response> {
    let may = frame.may(TokenRole::Submitter);
    let (record, view) = jobs::look(&state, id).await?;
    let may_change = may && viewer.may_change(record.owner);
    let job = jobs::details(&state, &record, view.as_ref()).await?;
    let now = crate::clock::now();
    let plan = view.as_ref().map(|view| plan::plan(&record.spec, view, now));
    let why = match record.state.is_ended() {
        true => job.job.reason.clone().unwrap_or_default(),
        false => {
            let told = async { Ok(explained::told(&state, id).await?.summary) };
            state.live.jobs_explained.fresh(id, told).await?.as_str().to_owned()
        }
    };
    let attempts = jobs::newest_attempts(&state, id, None, ATTEMPTS_DRAWN).await?;
    let listed = tasks::page(&state, &record, which.state, which.from.unwrap_or(0), TASKS_PAGE).await?;
    let outputs = tasks::results_page(&state, &record, which.results.unwrap_or(0), RESULTS_PAGE).await?;
    let counts = &job.job.counts;
    let link = |state: Option<TaskState>, from: Option<&str>| {
        let state = state.map(|state| format!("state={state}"));
        let from = from.map(|from| format!("from={from}"));
        let query = state.into_iter().chain(from).collect::<Vec<_>>().join("&");
        if query.is_empty() { format!("/jobs/{id}#tasks") } else { format!("/jobs/{id}?{query}#tasks") }
    };
    let facet = |word: &str, count: u64, state| Facet {
        word: word.to_owned(),
        link: link(state, None),
        count: frame.number(&count),
        current: which.state == state,
    };
    let mut facets = vec![facet("all", job.job.tasks, None)];
    let there = TaskState::ALL.into_iter().filter(|state| counts.get(*state) > 0 || which.state == Some(*state));
    facets.extend(there.map(|state| facet(state.as_str(), counts.get(state).into(), Some(state))));
    let badly = u64::from(counts.failed) + u64::from(counts.cancelled) + u64::from(counts.expired);
    let (word, tone) = standing::of_job(&job.job);
    let (answer, late) = answer(&frame, &job, plan.as_ref());
    frame.answer(&Page {
        state: words::state(word, tone),
        answer,
        late,
        why: frame.said(&why),
        bar: draw::meter(counts),
        counts: shown_counts(&frame, &job),
        timeline: timeline::timeline(&attempts, now, tonight::reader(&frame)),
        causes: causes(&frame, &job),
        facets,
        lines: listed.items.iter().map(|task| line(&frame, task)).collect(),
        next: listed.next.map(|next| link(which.state, Some(&next))),
        first: which.from.map(|_| link(which.state, None)),
        outputs: outputs.items.iter().map(output).collect(),
        outputs_next: outputs.next.map(|next| format!("/jobs/{id}?results={next}#results")),
        moves: job.moves.iter().take(MOVES_SHOWN).map(|moved| moved_line(&frame, moved)).collect(),
        terms: terms(&frame, &job.terms),
        retry: (may_change && record.state.is_ended() && badly > 0).then(|| counted(badly, "task")),
        cancel: (may_change && !record.state.is_ended() && job.job.stopping.is_none())
            .then(|| counted(job.job.tasks - counts.ended(), "task")),
        job: &job,
        frame: &frame,
    })
}

/// How it goes, and how late it is.
fn answer(frame: &Frame, job: &JobDetails, plan: Option<&plan::Plan>) -> (String, String) {
    let (counts, all) = (&job.job.counts, job.job.tasks);
    let done = format!("{} of {}", frame.number(&counts.ended()), task_count(frame, all));
    let Some(plan) = plan else {
        let took = job.job.ended.map(|ended| Duration::try_from(ended.duration_since(job.job.submitted)).unwrap_or_default());
        let took = took.map(|took| format!(" after {}", words::about(took))).unwrap_or_default();
        return (
            format!("{} of {} succeeded{took}.", frame.number(&counts.succeeded.into()), task_count(frame, all)),
            String::new(),
        );
    };
    let verb = if counts.ended() == 1 { "has" } else { "have" };
    let rate =
        plan.hourly.filter(|hourly| (1..all).contains(hourly)).map(|hourly| format!(", about {} an hour", frame.number(&hourly)));
    let rate = rate.unwrap_or_default();
    let expected = match plan.ends {
        Some(_) => format!("; the rest {}", tonight::expected(frame, plan, None)),
        None => String::new(),
    };
    let late = plan.late.map(|late| format!("{} late.", words::about(late))).unwrap_or_default();
    let expected = if late.is_empty() {
        expected
    } else {
        expected.rsplit_once(',').map_or(expected.clone(), |(on, _)| on.to_owned() + ",")
    };
    let end = if late.is_empty() { "." } else { "" };
    (format!("{done} {verb} ended{rate}{expected}{end}"), late)
}

/// So many tasks, with the digits of a long number in groups.
fn task_count(frame: &Frame, count: u64) -> String {
    format!("{} {}", frame.number(&count), if count == 1 { "task" } else { "tasks" })
}

fn shown_counts(frame: &Frame, job: &JobDetails) -> Vec<(Html, String)> {
    let counts = &job.job.counts;
    let some = TaskState::ALL.into_iter().filter(|state| counts.get(*state) > 0);
    some.map(|state| (words::state(state.as_str(), standing::of_task(state)), frame.number(&counts.get(state).into()))).collect()
}

fn causes(frame: &Frame, job: &JobDetails) -> Vec<Cause> {
    let cause = |cause: &crate::api::CauseBody| Cause {
        tasks: cause.tasks,
        message: frame.said(&cause.message),
        example: cause.example.to_string(),
        link: format!("/jobs/{}/tasks/{}", cause.example.job, cause.example.index),
        log: cause.log.as_deref().map(|line| frame.text(line)).unwrap_or_default(),
    };
    job.failures.iter().map(cause).collect()
}

fn line(frame: &Frame, task: &TaskBody) -> Line {
    let why = match (&task.unreachable, &task.reason, &task.not_before) {
        (Some(since), _, _) => format!("unreachable since {since}: its result still counts"),
        (None, Some(reason), _) => reason.clone(),
        (None, None, Some(at)) if task.state == TaskState::Waiting => format!("not before {at}"),
        (None, None, _) => String::new(),
    };
    Line {
        index: task.task.index,
        label: words::label(task.label.as_deref(), task.task.index),
        state: words::state(task.state.as_str(), standing::of_task(task.state)),
        why: frame.said(&why),
        attempts: task.attempts,
        agent: task.agent_name.as_deref().map(|name| frame.text(name)).unwrap_or_default(),
        agent_link: task.agent.map(|agent| format!("/agents/{agent}")).unwrap_or_default(),
        started: task.started.as_ref().map(|at| frame.time(at)).unwrap_or_default(),
    }
}

fn output(result: &crate::api::ResultBody) -> Output {
    let task = result.task;
    Output {
        task: task.to_string(),
        label: words::label(result.label.as_deref(), task.index),
        link: format!("/api/v1/jobs/{}/tasks/{}/output", task.job, task.index),
        file: task.to_string(),
        size: size(result.output.size_bytes),
    }
}

fn moved_line(frame: &Frame, moved: &crate::api::MoveBody) -> Moved {
    let task = moved.attempt.task;
    let gone_on = moved.resumed.map(|resumed| format!("; went on after {}", spoken(Duration::from_millis(resumed.spent_ms))));
    let cause = moved.cause.clone().unwrap_or_else(|| moved.end.to_string());
    Moved {
        left: frame.time(&moved.left),
        task: task.to_string(),
        link: format!("/jobs/{}/tasks/{}", task.job, task.index),
        from: frame.text(&moved.from_name),
        to: frame.text(&moved.to_name),
        cause: frame.said(&(cause + &gone_on.unwrap_or_default())),
    }
}

fn terms(frame: &Frame, terms: &JobTerms) -> Vec<(&'static str, String)> {
    let millis = Duration::from_millis;
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    let mut add = |name: &'static str, value: String| {
        if !value.is_empty() {
            lines.push((name, value));
        }
    };
    add(
        "inputs",
        match &terms.inputs {
            InputsBody::Range { first, count } => {
                format!("numbers {first} to {}", first.saturating_add(u64::from(count.saturating_sub(1))))
            }
            InputsBody::Numbers(numbers) => format!("numbers {numbers}"),
            InputsBody::Pack { digest, .. } => format!("pack {}", digest.short()),
        },
    );
    add("arguments", frame.text(&terms.args.join(" ")));
    let variables: Vec<String> = terms.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("environment", frame.text(&variables.join(" ")));
    add("window", terms.window.clone().unwrap_or_default());
    add("finish by", terms.finish_by.map(|at| frame.clock(&at)).unwrap_or_default());
    let retries =
        format!("{} after {} to {}", terms.retries, spoken(millis(terms.backoff_ms)), spoken(millis(terms.backoff_max_ms)));
    add("retries", if terms.retries == 0 { "none".into() } else { retries });
    add("time limit", spoken(millis(terms.time_limit_ms)));
    add("memory limit", size(terms.memory_bytes));
    add("output limit", size(terms.output_bytes));
    let all = |items: Vec<String>| items.join(", ");
    add("granted", all(terms.grants.iter().map(|grant| format!("{grant:?}").to_lowercase()).collect()));
    add("requires", all(terms.require.iter().map(ToString::to_string).collect()));
    add("verified", terms.verify.map(|share| format!("{share} of its tasks, by a second agent")).unwrap_or_default());
    add("after", all(terms.after.iter().map(|after| after.job.to_string()).collect()));
    add("lost after", format!("{} of silence", spoken(millis(terms.lost_after_ms))));
    add("stops after", terms.failures_max.map(|failures| counted(failures.into(), "failed task")).unwrap_or_default());
    add("at once", terms.at_once.map(|tasks| counted(tasks.into(), "task")).unwrap_or_default());
    add("fails fast on", all(terms.fail_fast_on.iter().map(ToString::to_string).collect()));
    add("key", terms.idempotency_key.as_deref().map(|key| frame.text(key)).unwrap_or_default());
    lines
}

impl Page<'_> {
    fn is_active(&self) -> bool {
        self.job.job.state == JobState::Active
    }
}
