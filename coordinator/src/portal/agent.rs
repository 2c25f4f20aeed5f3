//! One agent: what it offers, when it is there, what it has, and what an administrator can do about it.

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{
    amount::{counted, size},
    state::Intake,
};

use crate::{
    api::{AgentBody, OutlookBody, standing},
    http::{
        Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::Answer,
        },
        fleet::{agents, policy},
    },
    portal::{
        draw,
        frame::Frame,
        words::{self, Html},
    },
};

/// Attempts that are listed; a machine has few slots, and a few wait behind them.
const ATTEMPTS_SHOWN: usize = 50;

/// Something that an administrator can do.
struct Deed {
    word: &'static str,
    method: &'static str,
    path: String,
    body: &'static str,
    ask: String,
    done: &'static str,
    grave: bool,
}

struct Attempt {
    id: String,
    link: String,
}

#[derive(Template)]
#[template(path = "agent.html")]
struct Page<'a> {
    frame: &'a Frame,
    agent: &'a AgentBody,
    state: Html,
    answer: String,
    deeds: Vec<Deed>,
    facts: Vec<(&'static str, String)>,
    heat: Option<Html>,
    week: Html,
    local: String,
    now: Vec<(&'static str, String)>,
    settings: Vec<(String, String)>,
    attempts: Vec<Attempt>,
    more: usize,
}

/// `GET /agents/{agent}`
pub(super) async fn page(State(state): Shared, viewer: Viewer, frame: Frame, At(called): At<String>) -> Answer<Response> {
    let body = agents::found(&state, &called).await?;
    let outlook = policy::outlook(State(state), viewer, At(called), Asked(policy::When::default())).await?.0;
    let (word, tone) = standing::of_agent(&body);
    let why = standing::why_of_agent(&body).map(|why| frame.said(&why));
    let shown = body.attempts.iter().take(ATTEMPTS_SHOWN);
    let attempt = |attempt: &lull_shared::id::AttemptId| Attempt {
        id: attempt.to_string(),
        link: format!("/jobs/{}/tasks/{}", attempt.task.job, attempt.task.index),
    };
    frame.answer(&Page {
        state: words::state(word, tone),
        answer: why.unwrap_or_else(|| offers(&body)),
        deeds: if frame.is_admin() { deeds(&body) } else { Vec::new() },
        facts: facts(&frame, &body),
        heat: body.idle_hours.as_deref().map(draw::idle),
        week: draw::allowed(&outlook.week),
        local: outlook.local.clone().unwrap_or_default(),
        now: now(&frame, &outlook),
        settings: outlook.settings.into_iter().collect(),
        attempts: shown.map(attempt).collect(),
        more: body.attempts.len().saturating_sub(ATTEMPTS_SHOWN),
        agent: &body,
        frame: &frame,
    })
}

fn offers(agent: &AgentBody) -> String {
    match (&agent.capacity, agent.connected) {
        (Some(capacity), Some(_)) => format!("{} of {} busy.", capacity.slots_busy, counted(capacity.slots.into(), "slot")),
        (_, _) => "It is not connected.".into(),
    }
}

fn deeds(agent: &AgentBody) -> Vec<Deed> {
    let (id, name) = (agent.agent, &agent.name);
    let deed = |word, path: &str, body, ask: String, done, grave| Deed {
        word,
        method: "POST",
        path: format!("/api/v1/agents/{id}{path}"),
        body,
        ask,
        done,
        grave,
    };
    if agent.removed.is_some() {
        return Vec::new();
    }
    let gone = || Deed {
        method: "DELETE",
        ..deed("Remove", "", "", format!("Take {name} off the list for good? What it ran keeps its name."), "removed", true)
    };
    if agent.intake == Intake::Revoked {
        let restore = deed("Restore", "/restore", "", format!("Let {name} in again?"), "restored", false);
        return vec![restore, gone()];
    }
    let mut deeds = Vec::new();
    if agent.quarantine.is_some() {
        deeds.push(deed("Trust", "/trust", "", format!("Trust {name} again?"), "trusted", false));
    }
    let open = deed("Uncordon", "/intake", r#"{"intake":"open"}"#, String::new(), "it takes new work", false);
    let cordon = deed(
        "Cordon",
        "/intake",
        r#"{"intake":"cordoned"}"#,
        String::new(),
        "it takes nothing new; what it has goes on there",
        false,
    );
    let ask =
        format!("Drain {name}? It takes nothing new; what waits and what can be moved is taken back, and the rest may finish.");
    let drain =
        deed("Drain", "/intake", r#"{"intake":"draining"}"#, ask, "it takes nothing new; what can be moved is taken back", false);
    match agent.intake {
        Intake::Open => deeds.extend([cordon, drain]),
        Intake::Cordoned => deeds.extend([open, drain]),
        Intake::Draining => deeds.push(open),
        Intake::Revoked => {}
    }
    let ask = format!(
        "Revoke {name}? Its certificate, its key and its name are refused until it is restored; {} there.",
        counted(agent.attempts.len() as u64, "attempt")
    );
    deeds.push(deed("Revoke", "/intake", r#"{"intake":"revoked"}"#, ask, "it is thrown out", true));
    if agent.left.is_some() {
        deeds.push(gone());
    }
    deeds
}

fn facts(frame: &Frame, agent: &AgentBody) -> Vec<(&'static str, String)> {
    let mut facts: Vec<(&'static str, String)> = vec![("agent", agent.agent.to_string())];
    let mut add = |name: &'static str, value: Option<String>| {
        facts.extend(value.filter(|value| !value.is_empty()).map(|value| (name, value)))
    };
    let time = |at: jiff::Timestamp| frame.clock(&at);
    add("group", agent.group.as_deref().map(|group| frame.text(group)));
    add("version", agent.version.as_deref().map(|version| frame.text(version)));
    let machine = agent.machine.as_ref();
    add(
        "machine",
        machine.map(|of| {
            frame.text(&format!("{} {}, {}, {}", of.os, of.arch, counted(of.cores.into(), "core"), size(of.memory_bytes)))
        }),
    );
    add("free", agent.capacity.map(|of| format!("{} % of its processors, {}", of.cpu_free_percent, size(of.memory_free_bytes))));
    add("enrolled", Some(time(agent.enrolled)));
    add("connected", agent.connected.map(time));
    add("last heard", agent.last_heard.map(time));
    add("silent since", agent.silent_since.map(time));
    add("asleep since", agent.asleep.map(time));
    add("left", agent.left.map(time));
    add("removed", agent.removed.map(time));
    add("open cage", agent.open_cage.as_deref().map(|cage| frame.text(cage)));
    let labels: Vec<String> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("labels", Some(frame.text(&labels.join(" "))));
    let narrowed: Vec<String> = agent.narrowed.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("owner narrows", Some(frame.text(&narrowed.join(" "))));
    add("keeps", (agent.snapshots > 0).then(|| counted(agent.snapshots, "snapshot") + " of tasks"));
    let refused = |count: u64, what: &str| (count > 0).then(|| format!("{count} times: {what}"));
    add("not believed", refused(agent.claims_refused, "words about attempts that it did not hold"));
    add("kept too long", refused(agent.overtimes, "attempts beyond their time limits"));
    add("cut off", refused(agent.breaches, "breaches of the protocol"));
    add("peer", Some(agent.peer.clone()));
    facts
}

/// What it may do now, by the policy and its own clock.
fn now(frame: &Frame, outlook: &OutlookBody) -> Vec<(&'static str, String)> {
    let told = |doing: &crate::api::Doing| match &doing.reason {
        Some(reason) => frame.said(&reason.message),
        None => counted(doing.slots.into(), "slot"),
    };
    let mut now = Vec::new();
    now.extend(outlook.now.as_ref().map(|doing| ("does now", told(doing))));
    if let Some(at) = &outlook.at {
        now.push(("owner away", told(&at.owner_away)));
        now.push(("owner there", told(&at.owner_there)));
    }
    now
}
