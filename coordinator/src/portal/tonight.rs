//! Tonight: what is offered, what runs when and whether it ends in time, and what needs somebody first.

use std::time::Duration;

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{amount::counted, time::Timestamp};

use crate::{
    api::standing,
    http::{
        Shared,
        door::{auth::Viewer, error::Answer},
    },
    portal::{
        draw::{self, Bar, Capacity, Reader, Stretch},
        frame::Frame,
        night::{self, Night, Planned},
        plan::Plan,
        words::{self, Html, about},
    },
};

const HOUR: Duration = Duration::from_secs(3_600);
/// How far back the pictures go.
const HOURS_BACK: u32 = 4;

/// Something that needs somebody.
struct Need {
    mark: Html,
    link: String,
    name: String,
    what: String,
    why: String,
    /// What the link at the end is called.
    act: &'static str,
}

/// A line of the table.
struct Line {
    job: String,
    name: String,
    function: String,
    state: Html,
    done: String,
    expected: String,
    late: bool,
}

#[derive(Template)]
#[template(path = "tonight.html")]
struct Page<'a> {
    frame: &'a Frame,
    heading: String,
    machines: String,
    jobs: String,
    late: String,
    needs: Vec<Need>,
    capacity: Html,
    bars: Option<Html>,
    lines: Vec<Line>,
    more: u64,
}

/// `GET /`
pub(super) async fn page(State(state): Shared, _viewer: Viewer, frame: Frame) -> Answer<Response> {
    let night = night::now(&state).await?;
    let late: Vec<&Planned> = night.jobs.iter().filter(|job| job.plan.late.is_some()).collect();
    let (capacity, bars) = (capacity(&frame, &night), bars(&frame, &night));
    frame.answer(&Page {
        heading: heading(&frame),
        machines: machines(&night),
        jobs: jobs(&night),
        late: late_words(&late),
        needs: needs(&frame, &night),
        capacity,
        bars,
        lines: night.jobs.iter().map(|job| line(&frame, job)).collect(),
        more: night.jobs_active.saturating_sub(night.jobs.len() as u64),
        frame: &frame,
    })
}

fn heading(frame: &Frame) -> String {
    let here = frame.now.to_zoned(frame.zone().clone());
    let part = match here.hour() {
        0..5 | 18.. => "night",
        5..12 => "morning",
        _ => "afternoon",
    };
    format!("{} {part}, {}", here.strftime("%A"), here.strftime("%H:%M"))
}

fn machines(night: &Night) -> String {
    let fleet = &night.fleet;
    match (fleet.enrolled, fleet.offering) {
        (0, _) => "No agent has joined yet.".into(),
        (1, 0) => "The one agent offers nothing now.".into(),
        (all, 0) => format!("None of {all} agents offers anything now."),
        (all, offering) => {
            let verb = if offering == 1 { "offers" } else { "offer" };
            let (slots, busy) = (counted(fleet.slots, "slot"), fleet.slots_busy);
            format!(
                "{offering} of {} {verb} {slots}, of which {busy} {} busy.",
                counted(all, "agent"),
                if busy == 1 { "is" } else { "are" }
            )
        }
    }
}

fn jobs(night: &Night) -> String {
    match night.jobs_active {
        0 => "No job is active.".into(),
        1 => "One job is active.".into(),
        jobs => format!("{jobs} jobs are active."),
    }
}

fn late_words(late: &[&Planned]) -> String {
    match late {
        [] => String::new(),
        [one] => format!("{} is expected {} late.", one.body.name, one.plan.late.map(about).unwrap_or_default()),
        several => format!("{} of them are expected late.", several.len()),
    }
}

/// What is expected of a job, in words.
pub(super) fn expected(frame: &Frame, plan: &Plan, waiting: Option<&str>) -> String {
    let from = plan.begins.map(|at| format!("from {} on; ", frame.clock(&at.to_jiff()))).unwrap_or_default();
    let Some(ends) = plan.ends else {
        return match waiting {
            Some(waiting) => frame.said(waiting),
            None => "not known yet".into(),
        };
    };
    let ends = frame.clock(&ends.to_jiff());
    match (plan.late, plan.early) {
        (Some(late), _) => format!("{from}ends about {ends}, {} late", about(late)),
        (None, Some(early)) => format!("{from}ends about {ends}, {} before it must", about(early)),
        (None, None) => format!("{from}ends about {ends}"),
    }
}

fn needs(frame: &Frame, night: &Night) -> Vec<Need> {
    let need = |sign, class, link: String, name: String, what: String, why: String, act| Need {
        mark: words::mark(sign, class),
        link,
        name,
        what,
        why,
        act,
    };
    let mut needs = Vec::new();
    if let Some(silent) = &night.store_silent {
        let what = "the database does not answer".to_owned();
        needs.push(need("warn", "bad", String::new(), String::new(), what, frame.said(&silent.message), ""));
    }
    if let Some(loss) = &night.store_loss {
        needs.push(need("warn", "bad", String::new(), String::new(), frame.said(&loss.message), frame.said(&loss.hint), ""));
    }
    if let Some(outage) = &night.outage {
        let what = format!("{} out of touch", counted(outage.agents.into(), "agent"));
        needs.push(need("off", "bad", String::new(), String::new(), what, frame.said(&outage.message), ""));
    }
    for job in night.jobs.iter().filter(|job| job.plan.late.is_some()) {
        let what = format!("is expected {} late", job.plan.late.map(about).unwrap_or_default());
        let by = job.finish_by.map(|by| format!("it is to finish by {}", frame.clock(&by.to_jiff()))).unwrap_or_default();
        needs.push(need("warn", "bad", format!("/jobs/{}", job.body.job), job.body.name.clone(), what, by, "Look at it"));
    }
    for (job, cause) in &night.failing {
        let what = format!("{} of {} failed", counted(job.counts.failed.into(), "task"), job.tasks);
        let why = cause.as_ref().map(|cause| {
            let log = cause.log.as_deref().map(|line| format!(" (“{}”)", frame.text(line))).unwrap_or_default();
            let share =
                if cause.tasks < u64::from(job.counts.failed) { format!("{} of them: ", cause.tasks) } else { String::new() };
            format!("{share}{}{log}", frame.said(&cause.message))
        });
        let link = format!("/jobs/{}", job.job);
        needs.push(need("warn", "bad", link, job.name.clone(), what, why.unwrap_or_default(), "Look at the causes"));
    }
    for agent in &night.troubled {
        let (word, _) = standing::of_agent(agent);
        let why = standing::why_of_agent(agent).unwrap_or_default();
        let link = format!("/agents/{}", agent.agent);
        needs.push(need("warn", "wait", link, agent.name.clone(), format!("is {word}"), frame.said(&why), "Look at it"));
    }
    let named = night.troubled.len() as u64;
    if night.fleet.troubled > named {
        let what = format!("{} more need somebody", counted(night.fleet.troubled - named, "agent"));
        needs.push(need("warn", "wait", "/agents".into(), String::new(), what, String::new(), "List them"));
    }
    needs
}

fn capacity(frame: &Frame, night: &Night) -> Html {
    let from = night.at - HOUR * HOURS_BACK;
    let past = || night.past.iter().filter(|sample| sample.at >= from);
    let (slots, busy) = (night.fleet.slots, night.fleet.slots_busy);
    let mut offered: Vec<_> = past().map(|sample| (sample.at, sample.slots)).collect();
    let mut used: Vec<_> = past().map(|sample| (sample.at, sample.slots_busy)).collect();
    offered.push((night.at, slots));
    used.push((night.at, busy));
    let expected: Vec<_> = (0..).map(|hour| night.at + HOUR * hour).zip(night.expected.iter().copied()).collect();
    let most = expected.iter().max_by_key(|(_, slots)| *slots);
    let most = most.map(|(at, slots)| format!(", at most {slots} expected, about {}", frame.clock(&at.to_jiff())));
    let words = format!("Slots offered: {slots} now, {busy} of them busy{}", most.unwrap_or_default());
    draw::capacity(&Capacity { offered: &offered, used: &used, expected: &expected, at: night.at }, &words, reader(frame))
}

pub(super) fn reader(frame: &Frame) -> Reader<'_> {
    Reader { now: frame.now, zone: frame.zone() }
}

fn bars(frame: &Frame, night: &Night) -> Option<Html> {
    let (from, to) = (night.at - HOUR * HOURS_BACK, night.at + HOUR * u32::try_from(night::HOURS_AHEAD).unwrap_or(12));
    let bars: Vec<Bar<'_>> = night.jobs.iter().map(|job| bar(frame, job, night.at, to)).collect();
    let words = format!("When each of {} runs; the table below says the same in words", counted(bars.len() as u64, "job"));
    (!bars.is_empty()).then(|| draw::bars(&bars, Stretch { from, to, at: night.at }, &words, reader(frame)))
}

fn bar<'a>(frame: &Frame, job: &'a Planned, now: Timestamp, horizon: Timestamp) -> Bar<'a> {
    let begun = job.body.counts.total() > u64::from(job.body.counts.queued) + u64::from(job.body.counts.waiting);
    let submitted = Timestamp::from(job.body.submitted);
    let begins = job.plan.begins.unwrap_or(now);
    let expected = match (job.plan.ends, job.plan.begins) {
        (Some(ends), _) => Some((begins, ends)),
        // How long it takes is not known: it is shown to begin.
        (None, Some(begins)) => Some((begins, (begins + HOUR).min(horizon))),
        (None, None) => None,
    };
    Bar {
        name: &job.body.name,
        done: begun.then_some((submitted, now)),
        expected,
        due: job.finish_by,
        class: match (job.plan.late, &job.body.waiting) {
            (Some(_), _) => "bad",
            (None, Some(_)) => "wait",
            (None, None) => "busy",
        },
        words: format!("{}: {}", job.body.name, expected_words(frame, job)),
    }
}

fn expected_words(frame: &Frame, job: &Planned) -> String {
    expected(frame, &job.plan, job.body.waiting.as_ref().map(|reason| reason.message.as_str()))
}

fn line(frame: &Frame, job: &Planned) -> Line {
    let (word, tone) = standing::of_job(&job.body);
    Line {
        job: job.body.job.to_string(),
        name: frame.text(&job.body.name),
        function: job.body.function.clone(),
        state: words::state(word, tone),
        done: format!("{} of {}", frame.number(&job.body.counts.ended()), frame.number(&job.body.tasks)),
        expected: expected_words(frame, job),
        late: job.plan.late.is_some(),
    }
}
