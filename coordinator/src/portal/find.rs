//! From what somebody types to the page that is meant.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lull_shared::id::{AgentId, AttemptId, JobId, TaskId};
use serde::Deserialize;

use crate::{
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, Viewer},
            error::Answer,
        },
    },
    portal::words,
};

/// What is looked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    q: Option<String>,
}

/// `GET /find`
pub(super) async fn find(State(state): Shared, _viewer: Viewer, Asked(what): Asked<What>) -> Answer<Response> {
    let text = what.q.unwrap_or_default();
    let to = match by_id(text.trim()) {
        Some(path) => path,
        None => by_name(&state, text.trim()).await?,
    };
    let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/jobs"));
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response())
}

/// Where what has this id is.
fn by_id(text: &str) -> Option<String> {
    let task = |task: TaskId| format!("/jobs/{}/tasks/{}", task.job, task.index);
    if let Ok(attempt) = text.parse::<AttemptId>() {
        return Some(task(attempt.task));
    }
    if let Ok(found) = text.parse::<TaskId>() {
        return Some(task(found));
    }
    if text.starts_with('a') && text.parse::<AgentId>().is_ok() {
        return Some(format!("/agents/{text}"));
    }
    let job = text.parse::<JobId>().ok();
    job.map(|job| format!("/jobs/{job}"))
}

/// Where what has this name most likely is: an agent, or else jobs of that name.
async fn by_name(state: &Interface, name: &str) -> Answer<String> {
    let agents = state.live.agents(state).await?;
    if name.is_empty() {
        return Ok("/jobs".into());
    }
    if agents.iter().any(|agent| agent.name.eq_ignore_ascii_case(name)) {
        return Ok(format!("/agents?name={}", words::encoded(name)));
    }
    Ok(format!("/jobs?name={}", words::encoded(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_to_their_pages() {
        for (text, path) in [
            ("j42", Some("/jobs/j42")),
            ("j42.7", Some("/jobs/j42/tasks/7")),
            ("j42.7#2", Some("/jobs/j42/tasks/7")),
            ("a3", Some("/agents/a3")),
            ("desk-17", None),
            ("//evil", None),
        ] {
            assert_eq!(by_id(text).as_deref(), path, "{text}");
        }
    }
}
