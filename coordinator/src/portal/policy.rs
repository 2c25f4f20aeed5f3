//! The policy: what is allowed on machines, and how an administrator changes it.

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    api::PolicyBody,
    http::{
        Shared,
        door::{auth::Viewer, error::Answer},
        fleet::policy,
    },
    portal::frame::Frame,
};

struct Override {
    conditions: String,
    settings: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "policy.html")]
struct Page<'a> {
    frame: &'a Frame,
    policy: &'a PolicyBody,
    set: String,
    overrides: Vec<Override>,
}

/// `GET /policy`
pub(super) async fn page(State(state): Shared, viewer: Viewer, frame: Frame) -> Answer<Response> {
    let policy = policy::show(State(state), viewer).await.0;
    let set = policy.set.as_ref().map(|at| frame.clock(at)).unwrap_or_default();
    let overrides = policy.overrides.iter().map(|other| Override {
        conditions: frame.text(&other.conditions.join(" and ")),
        settings: other.settings.iter().map(|(key, value)| (key.clone(), frame.text(value))).collect(),
    });
    frame.answer(&Page { set, overrides: overrides.collect(), policy: &policy, frame: &frame })
}
