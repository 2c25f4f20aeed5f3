//! Jobs: a page of them, by what there is an index for.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{id::JobId, state::JobState};
use serde::Deserialize;

use crate::{
    api::{JobBody, standing},
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, Viewer},
            error::Answer,
        },
        work::jobs,
    },
    portal::{
        frame::Frame,
        words::{self, Html},
    },
};

/// Jobs on one page.
const PAGE: u32 = 50;

/// Which jobs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    state: Option<String>,
    submitter: Option<String>,
    name: Option<String>,
    mine: Option<bool>,
    before: Option<JobId>,
    /// What holds active jobs back, by the kind of the reason.
    cause: Option<String>,
}

/// Something that narrows the list, and how many there are.
struct Facet {
    word: String,
    link: String,
    count: String,
    current: bool,
}

struct Line {
    job: String,
    name: String,
    function: String,
    state: Html,
    why: String,
    bar: Html,
    done: String,
    failed: u32,
    submitter: String,
    submitted: Html,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct Page<'a> {
    frame: &'a Frame,
    answer: String,
    states: Vec<Facet>,
    causes: Vec<Facet>,
    lines: Vec<Line>,
    which: &'a Which,
    first: Option<String>,
    next: Option<String>,
}

impl Which {
    /// The same list with something else about it, from its beginning.
    fn link(&self, state: Option<&str>, cause: Option<&str>, before: Option<&str>) -> String {
        let mine = self.mine.map(|mine| mine.to_string());
        let pairs = [
            ("state", state),
            ("cause", cause),
            ("submitter", self.submitter.as_deref().filter(|text| !text.is_empty())),
            ("name", self.name.as_deref().filter(|text| !text.is_empty())),
            ("mine", mine.as_deref()),
            ("before", before),
        ];
        let given = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", words::encoded(value?))));
        let query = given.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/jobs".to_owned() } else { format!("/jobs?{query}") }
    }

    fn state(&self) -> Option<&str> {
        self.state.as_deref().filter(|text| !text.is_empty())
    }

    fn cause(&self) -> Option<&str> {
        self.cause.as_deref().filter(|text| !text.is_empty())
    }
}

/// `GET /jobs`
pub(super) async fn page(State(state): Shared, viewer: Viewer, frame: Frame, Asked(which): Asked<Which>) -> Answer<Response> {
    let summary = state.live.jobs(&state).await?;
    let counts = &summary.states;
    let (items, next) = match which.cause() {
        // What holds jobs back is known of active ones alone, and of those the coordinator has all in memory.
        Some(cause) => held_by(&state, cause, which.before).await?,
        None => {
            let page = jobs::listed(&state, &viewer, which.filter()?, PAGE).await?;
            (page.items, page.next)
        }
    };
    let all: u64 = counts.iter().map(|count| count.jobs).sum();
    let any_is_more = counts.iter().any(|count| count.more);
    let told = |count: u64, more: bool| format!("{}{}", frame.number(&count), if more { "+" } else { "" });
    let facet = |word: &str, count: String, state: Option<&str>| Facet {
        word: word.to_owned(),
        link: which.link(state, None, None),
        count,
        current: which.cause().is_none() && which.state() == state,
    };
    let mut states = vec![facet("all", told(all, any_is_more), None)];
    states
        .extend(counts.iter().map(|count| facet(count.state.as_str(), told(count.jobs, count.more), Some(count.state.as_str()))));
    let cause = |(kind, count): (&String, &u64)| Facet {
        word: cause_words(kind).to_owned(),
        link: which.link(None, Some(kind), None),
        count: frame.number(count),
        current: which.cause() == Some(kind),
    };
    let active = counts.iter().find(|count| count.state == JobState::Active).map_or(0, |count| count.jobs);
    frame.answer(&Page {
        answer: match active {
            0 => "No job is active.".into(),
            1 => "One job is active.".into(),
            jobs => format!("{} jobs are active.", frame.number(&jobs)),
        },
        states,
        causes: order(&summary.held).into_iter().map(cause).collect(),
        lines: items.iter().map(|job| line(&frame, job)).collect(),
        first: which.before.map(|_| which.link(which.state(), which.cause(), None)),
        next: next.map(|next| which.link(which.state(), which.cause(), Some(&next))),
        which: &which,
        frame: &frame,
    })
}

impl Which {
    fn filter(&self) -> Answer<jobs::Filter> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let state = self.state().map(|word| {
            let refused = || {
                crate::http::door::error::Refused::invalid(
                    format!("`state`: `{word}` is not a state of jobs"),
                    Some("choose one of the links above the list"),
                )
            };
            JobState::from_word(word).ok_or_else(refused)
        });
        Ok(jobs::Filter::new(state.transpose()?, some(&self.submitter), some(&self.name), self.mine, self.before))
    }
}

async fn held_by(state: &Interface, cause: &str, before: Option<JobId>) -> Answer<(Vec<JobBody>, Option<String>)> {
    let mut items = jobs::active_held_by(state, cause.to_owned(), before, PAGE as usize + 1).await?;
    let more = items.len() > PAGE as usize;
    items.truncate(PAGE as usize);
    let next = items.last().filter(|_| more).map(|last| last.job.to_string());
    Ok((items, next))
}

/// What holds jobs back, for people.
fn cause_words(kind: &str) -> &str {
    match kind {
        "window" => "waiting for their window",
        "dependency" => "waiting for other jobs",
        "backoff" => "waiting for a retry",
        "verification" => "waiting for a second output",
        "at_once" => "at their limit at once",
        "failing" => "with failed tasks",
        "stopping" => "being stopped",
        "running" => "with running tasks",
        "queued" => "with all tasks queued",
        other => other,
    }
}

fn line(frame: &Frame, job: &JobBody) -> Line {
    let (word, tone) = standing::of_job(job);
    Line {
        job: job.job.to_string(),
        name: frame.text(&job.name),
        function: job.function.clone(),
        state: words::state(word, tone),
        why: standing::why_of_job(job).map(|why| frame.said(&why)).unwrap_or_default(),
        bar: super::draw::meter(&job.counts),
        done: format!("{} of {}", frame.number(&job.counts.ended()), frame.number(&job.tasks)),
        failed: job.counts.failed,
        submitter: frame.text(&job.submitter),
        submitted: frame.time(&job.submitted),
    }
}

/// How many active jobs there are of each kind, those that fail first.
fn order(held: &BTreeMap<String, u64>) -> Vec<(&String, &u64)> {
    let mut held: Vec<_> = held.iter().collect();
    held.sort_by_key(|(kind, _)| *kind != "failing");
    held
}
