//! Functions: those that there are, and the versions of one.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use lull_shared::{amount::size, message::ModuleKind};
use serde::Deserialize;

use crate::{
    api::FunctionBody,
    http::{
        Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::Answer,
        },
        work::functions,
    },
    portal::{frame::Frame, words, words::Html},
    store::record::{LabelRecord, TokenRole},
    version::STABLE,
};

/// Functions on one page, and versions of one.
const PAGE: usize = 50;

/// Which part of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    from: Option<usize>,
}

struct Line {
    name: String,
    link: String,
    /// The version that its name alone stands for.
    usual: String,
    /// The newest, where that is another.
    newest: String,
    /// The other versions with labels.
    labels: String,
    versions: usize,
    movable: String,
    published: Html,
    by: String,
}

#[derive(Template)]
#[template(path = "functions.html")]
struct List<'a> {
    frame: &'a Frame,
    all: usize,
    lines: Vec<Line>,
    previous: Option<String>,
    next: Option<String>,
}

/// `GET /functions`
pub(super) async fn list(State(state): Shared, viewer: Viewer, frame: Frame, Asked(part): Asked<Part>) -> Answer<Response> {
    let versions = functions::list(State(state), viewer).await?.0.items;
    let mut named: BTreeMap<&str, Vec<&FunctionBody>> = BTreeMap::new();
    for version in &versions {
        named.entry(&version.function).or_default().push(version);
    }
    let from = part.from.unwrap_or(0);
    let line = |(name, versions): (&&str, &Vec<&FunctionBody>)| {
        let newest = versions.iter().copied().max_by_key(|version| version.number)?;
        let usual = usual(versions.iter().copied()).unwrap_or(newest);
        let labelled = versions.iter().filter(|version| version.number != usual.number && !version.labels.is_empty());
        let labels: Vec<String> = labelled.map(|version| format!("@{} {}", version.number, version.labels.join(" "))).collect();
        Some(Line {
            name: frame.text(name),
            link: format!("/functions/{}", words::encoded(name)),
            usual: frame.text(&usual.called()),
            newest: if newest.number == usual.number { String::new() } else { format!("@{}", newest.number) },
            labels: frame.text(&labels.join(", ")),
            versions: versions.len(),
            movable: movable(usual).0,
            published: frame.time(&newest.published),
            by: frame.text(&newest.published_by),
        })
    };
    let link = |from: usize| if from == 0 { "/functions".to_owned() } else { format!("/functions?from={from}") };
    frame.answer(&List {
        all: named.len(),
        lines: named.iter().skip(from).take(PAGE).filter_map(line).collect(),
        previous: (from > 0).then(|| link(from.saturating_sub(PAGE))),
        next: (named.len() > from.saturating_add(PAGE)).then(|| link(from + PAGE)),
        frame: &frame,
    })
}

/// The version that a function's name alone stands for: the one that is called stable, or else the newest.
fn usual<'a>(versions: impl Iterator<Item = &'a FunctionBody> + Clone) -> Option<&'a FunctionBody> {
    let stable = versions.clone().find(|version| version.labels.iter().any(|label| label == STABLE));
    stable.or_else(|| versions.max_by_key(|version| version.number))
}

/// Whether it can be moved and what that costs; and why not, if it cannot.
fn movable(version: &FunctionBody) -> (String, String) {
    match version.migratable {
        Some(build) => {
            let how = if build.measured { "measured" } else { "assumed" };
            (format!("yes, at {} % of the plain build's time, {how}", build.cost_percent), String::new())
        }
        None => {
            let why = version.interface.iter().find(|line| line.contains("cannot be moved") || line.starts_with("not movable"));
            ("no".into(), why.cloned().unwrap_or_default())
        }
    }
}

struct Version {
    called: String,
    number: u32,
    kind: &'static str,
    digest: String,
    size: String,
    movable: String,
    why: String,
    nans: bool,
    platforms: Vec<String>,
    interface: Vec<String>,
    published: Html,
    by: String,
    module: String,
    labels: String,
    newest: bool,
    /// Whether the function's name alone stands for it.
    usual: bool,
}

struct Label {
    name: String,
    encoded: String,
    version: String,
    moved: Html,
    by: String,
    /// Whether it stood for another version before.
    has_before: bool,
}

#[derive(Template)]
#[template(path = "function.html")]
struct One<'a> {
    frame: &'a Frame,
    name: String,
    encoded: String,
    answer: String,
    usual: Version,
    versions: Vec<Version>,
    more: usize,
    labels: Vec<Label>,
    may_change: bool,
}

/// `GET /functions/{name}`
pub(super) async fn one(
    State(state): Shared,
    viewer: Viewer,
    again: Viewer,
    frame: Frame,
    At(name): At<String>,
) -> Answer<Response> {
    let shown = functions::show(State(state.clone()), viewer, At(name), Asked(functions::Looked::default())).await?.0;
    let labels = state.coordinator.store.labels().await?;
    let mut versions: Vec<FunctionBody> = functions::list(State(state), again).await?.0.items;
    versions.retain(|version| version.function == shown.function);
    versions.sort_by_key(|version| std::cmp::Reverse(version.number));
    let newest = versions.first().map_or(shown.number, |version| version.number);
    let version =
        |of: &FunctionBody| Version { newest: of.number == newest, usual: of.number == shown.number, ..version(&frame, of) };
    let own = labels.iter().filter(|label| label.function == shown.function);
    let label = |of: &LabelRecord| Label {
        name: frame.text(&of.label),
        encoded: words::encoded(&of.label),
        version: frame.text(&format!("{}@{}", of.function, of.number)),
        moved: frame.time(&of.moved.to_jiff()),
        by: frame.text(&of.moved_by),
        has_before: of.before.is_some(),
    };
    frame.answer(&One {
        name: frame.text(&shown.function),
        encoded: words::encoded(&shown.function),
        answer: stands_for(&frame, &shown, newest),
        usual: version(&shown),
        more: versions.len().saturating_sub(PAGE),
        versions: versions.iter().take(PAGE).map(version).collect(),
        labels: own.map(label).collect(),
        may_change: frame.may(TokenRole::Publisher),
        frame: &frame,
    })
}

/// Which version a function's name alone stands for, and why that one.
fn stands_for(frame: &Frame, usual: &FunctionBody, newest: u32) -> String {
    let (name, called) = (frame.text(&usual.function), frame.text(&usual.called()));
    let is_stable = usual.labels.iter().any(|label| label == STABLE);
    match (is_stable, usual.number == newest) {
        (false, _) => format!("{name} alone is {called}, the newest version."),
        (true, true) => format!("{name} alone is {called}, which is called {STABLE} and is the newest version."),
        (true, false) => format!("{name} alone is {called}, which is called {STABLE}; the newest version is {name}@{newest}."),
    }
}

fn version(frame: &Frame, of: &FunctionBody) -> Version {
    let (movable, why) = movable(of);
    Version {
        called: frame.text(&of.called()),
        number: of.number,
        kind: match of.kind {
            ModuleKind::Preview1 => "command (preview 1)",
            ModuleKind::Component => "component",
        },
        digest: of.digest.to_string(),
        size: size(of.size_bytes),
        movable,
        why: frame.text(&why),
        nans: of.canonical_nans,
        platforms: of.artifacts.iter().map(|artifact| frame.text(&artifact.engine)).collect(),
        interface: of.interface.iter().map(|line| frame.text(line)).collect(),
        published: frame.time(&of.published),
        by: frame.text(&of.published_by),
        module: format!("/api/v1/functions/{}/versions/{}/module", words::encoded(&of.function), of.number),
        labels: frame.text(&of.labels.join(" ")),
        newest: false,
        usual: false,
    }
}
