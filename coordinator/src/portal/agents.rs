//! Agents: a page of them, by their state.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::amount::size;
use serde::Deserialize;

use crate::{
    api::{AgentBody, standing},
    http::{
        Shared,
        door::{
            auth::{Asked, Viewer},
            error::Answer,
        },
    },
    portal::{
        frame::Frame,
        words::{self, Html},
    },
};

/// Agents on one page.
const PAGE: usize = 50;

/// Which agents.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    state: Option<String>,
    name: Option<String>,
    from: Option<usize>,
}

struct Facet {
    word: String,
    link: String,
    count: String,
    current: bool,
}

struct Line {
    agent: String,
    name: String,
    group: String,
    state: Html,
    why: String,
    slots: String,
    memory: String,
    machine: String,
    version: String,
    heard: Html,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct Page<'a> {
    frame: &'a Frame,
    answer: String,
    facets: Vec<Facet>,
    lines: Vec<Line>,
    which: &'a Which,
    previous: Option<String>,
    next: Option<String>,
}

impl Which {
    fn link(&self, state: Option<&str>, from: usize) -> String {
        let from = (from > 0).then(|| from.to_string());
        let pairs = [("state", state), ("name", self.name.as_deref().filter(|name| !name.is_empty())), ("from", from.as_deref())];
        let given = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", words::encoded(value?))));
        let query = given.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/agents".to_owned() } else { format!("/agents?{query}") }
    }

    fn state(&self) -> Option<&str> {
        self.state.as_deref().filter(|state| !state.is_empty())
    }

    /// Whether its name, id or group is what was asked for.
    fn names(&self, agent: &AgentBody) -> bool {
        let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) else { return true };
        let name = name.to_lowercase();
        let group = agent.group.as_deref().unwrap_or_default();
        agent.name.to_lowercase().contains(&name) || group.eq_ignore_ascii_case(&name) || agent.agent.to_string() == name
    }
}

/// `GET /agents`
pub(super) async fn page(State(state): Shared, _viewer: Viewer, frame: Frame, Asked(which): Asked<Which>) -> Answer<Response> {
    let agents = state.live.agents(&state).await?;
    let named = || agents.iter().filter(|agent| which.names(agent));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for agent in named() {
        *counts.entry(standing::of_agent(agent).0).or_default() += 1;
    }
    let facet = |word: &str, count: u64, state: Option<&str>| Facet {
        word: word.to_owned(),
        link: which.link(state, 0),
        count: frame.number(&count),
        current: which.state() == state,
    };
    let mut facets = vec![facet("all", counts.values().sum(), None)];
    facets.extend(counts.iter().map(|(word, count)| facet(word, *count, Some(word))));
    let from = which.from.unwrap_or(0);
    let listed = named().filter(|agent| which.state().is_none_or(|state| standing::of_agent(agent).0 == state));
    let mut listed: Vec<&AgentBody> = listed.skip(from).take(PAGE + 1).collect();
    let more = listed.len() > PAGE;
    listed.truncate(PAGE);
    frame.answer(&Page {
        answer: answer(&counts),
        facets,
        lines: listed.into_iter().map(|agent| line(&frame, agent)).collect(),
        previous: (from > 0).then(|| which.link(which.state(), from.saturating_sub(PAGE))),
        next: more.then(|| which.link(which.state(), from + PAGE)),
        which: &which,
        frame: &frame,
    })
}

fn answer(counts: &BTreeMap<&str, u64>) -> String {
    let all: u64 = counts.values().sum();
    let ready = counts.get("ready").copied().unwrap_or(0);
    match (all, ready) {
        (0, _) => "No agent has joined yet.".into(),
        (all, ready) => format!("{ready} of {all} are ready."),
    }
}

fn line(frame: &Frame, agent: &AgentBody) -> Line {
    let (word, tone) = standing::of_agent(agent);
    let capacity = agent.capacity.as_ref();
    Line {
        agent: agent.agent.to_string(),
        name: frame.text(&agent.name),
        group: agent.group.as_deref().map(|group| frame.text(group)).unwrap_or_default(),
        state: words::state(word, tone),
        why: standing::why_of_agent(agent).map(|why| frame.said(&why)).unwrap_or_default(),
        slots: capacity.map(|capacity| format!("{} of {} busy", capacity.slots_busy, capacity.slots)).unwrap_or_default(),
        memory: capacity.map(|capacity| format!("{} free", size(capacity.memory_free_bytes))).unwrap_or_default(),
        machine: agent
            .machine
            .as_ref()
            .map(|machine| frame.text(&format!("{} {}", machine.os, machine.arch)))
            .unwrap_or_default(),
        version: agent.version.as_deref().map(|version| frame.text(version)).unwrap_or_default(),
        heard: agent.last_heard.as_ref().map(|at| frame.time(at)).unwrap_or_default(),
    }
}
