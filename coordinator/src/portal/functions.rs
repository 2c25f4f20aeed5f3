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
    store::record::TokenRole,
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
    newest: u32,
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
        let newest = versions.iter().max_by_key(|version| version.number)?;
        Some(Line {
            name: frame.text(name),
            link: format!("/functions/{}", words::encoded(name)),
            newest: newest.number,
            versions: versions.len(),
            movable: movable(newest).0,
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
}

#[derive(Template)]
#[template(path = "function.html")]
struct One<'a> {
    frame: &'a Frame,
    name: String,
    encoded: String,
    newest: Version,
    older: Vec<Version>,
    more: usize,
    may_remove: bool,
}

/// `GET /functions/{name}`
pub(super) async fn one(
    State(state): Shared,
    viewer: Viewer,
    again: Viewer,
    frame: Frame,
    At(name): At<String>,
) -> Answer<Response> {
    let newest = functions::show(State(state.clone()), viewer, At(name), Asked(functions::Looked::newest())).await?.0;
    let mut versions: Vec<FunctionBody> = functions::list(State(state), again).await?.0.items;
    versions.retain(|version| version.function == newest.function && version.number != newest.number);
    versions.sort_by_key(|version| std::cmp::Reverse(version.number));
    frame.answer(&One {
        name: frame.text(&newest.function),
        encoded: words::encoded(&newest.function),
        newest: version(&frame, &newest),
        more: versions.len().saturating_sub(PAGE),
        older: versions.iter().take(PAGE).map(|of| version(&frame, of)).collect(),
        may_remove: frame.may(TokenRole::Publisher),
        frame: &frame,
    })
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
    }
}
