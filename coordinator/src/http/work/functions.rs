//! Functions: lists, one of them, its module, and taking versions out of use.

use axum::{Json, extract::State, response::Response};
use lull_shared::{alike, amount::quoted, identity::Authority};
use serde::Deserialize;

use crate::{
    api::{Affected, FunctionBody, Page, shape},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Publisher, Viewer},
            error::{Answer, Refused},
        },
        work::blobs,
    },
    store::record::VersionRecord,
};

/// Which version.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    version: Option<u32>,
}

/// `GET /functions`: all versions, newest first within their function.
pub(crate) async fn list(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<FunctionBody>>> {
    let authority = Authority::of(&state.coordinator.issuer.authority);
    let versions = state.coordinator.store.versions().await?;
    Ok(Json(Page::whole(versions.into_iter().map(|version| shape::function(version, &authority)).collect())))
}

/// `GET /functions/{name}`
pub(crate) async fn show(
    State(state): Shared,
    _viewer: Viewer,
    At(name): At<String>,
    Asked(asked): Asked<Which>,
) -> Answer<Json<FunctionBody>> {
    let version = named(&state, &name, asked.version).await?;
    Ok(Json(shape::function(version, &Authority::of(&state.coordinator.issuer.authority))))
}

/// `GET /functions/{name}/versions/{number}/module`
pub(crate) async fn module(State(state): Shared, _viewer: Viewer, At((name, number)): At<(String, u32)>) -> Answer<Response> {
    let version = named(&state, &name, Some(number)).await?;
    Ok(blobs::stream(state.coordinator.store.clone(), version.module))
}

/// `DELETE /functions/{name}`
pub(crate) async fn remove(
    State(state): Shared,
    caller: Publisher,
    At(name): At<String>,
    Asked(asked): Asked<Which>,
) -> Answer<Json<Affected>> {
    let coordinator = &state.coordinator;
    let affected =
        coordinator.store.remove_versions(&coordinator.lead, &name, asked.version, &caller.who(), clock::now()).await?;
    if affected == 0 {
        return Err(unknown(&state, &name, asked.version).await?);
    }
    Ok(Json(Affected { affected }))
}

/// A version by its function's name, its newest if no number is given.
pub(crate) async fn named(state: &Interface, name: &str, number: Option<u32>) -> Answer<VersionRecord> {
    match state.coordinator.store.version_named(name, number).await? {
        Some(version) => Ok(version),
        None => Err(unknown(state, name, number).await?),
    }
}

/// What is said of a function that is not there: which is most likely meant.
async fn unknown(state: &Interface, name: &str, number: Option<u32>) -> Answer<Refused> {
    let versions = state.coordinator.store.versions().await?;
    let known: Vec<(&str, u32)> = versions.iter().map(|version| (version.function.as_str(), version.number)).collect();
    Ok(no_function(name, number, &known))
}

fn no_function(name: &str, number: Option<u32>, known: &[(&str, u32)]) -> Refused {
    let newest = known.iter().filter(|(function, _)| *function == name).map(|(_, number)| *number).max();
    match (number, newest) {
        (Some(number), Some(newest)) => Refused::not_found(
            format!("{} has no version {number}", quoted(name)),
            format!("its newest version is {name}@{newest}; `lull func list` shows them all"),
        ),
        (_, _) => {
            let meant = alike::question(name, known.iter().map(|(function, _)| *function));
            Refused::not_found(
                format!("there is no function {}", quoted(name)),
                format!("{meant}`lull func list` shows what is published; `lull func publish FILE` publishes a module"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_not_there_is_told_with_the_one_that_is_meant() {
        let known = [("stats", 1), ("stats", 3), ("thumbnail", 1)];
        let told = |name: &str, number| {
            let (status, detail) = no_function(name, number, &known).into_parts();
            assert_eq!(status, 404);
            format!("{}\n{}", detail.message, detail.hint.unwrap_or_default())
        };
        assert!(told("statz", None).starts_with("there is no function `statz`\ndid you mean `stats`? `lull func list` shows"));
        assert!(told("Thumbnial", Some(1)).contains("did you mean `thumbnail`?"));
        assert!(told("risk", None).starts_with("there is no function `risk`\n`lull func list` shows"));
        assert_eq!(
            told("stats", Some(2)),
            "`stats` has no version 2\nits newest version is stats@3; `lull func list` shows them all"
        );
    }
}
