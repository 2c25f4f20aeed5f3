//! Functions: lists, one of them, its module, and taking versions out of use.

use axum::{Json, extract::State, response::Response};
use lull_shared::identity::Authority;
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    version: Option<u32>,
}

/// `GET /functions`: all versions, newest first within their function.
pub async fn list(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<FunctionBody>>> {
    let authority = Authority::of(&state.coordinator.issuer.authority);
    let versions = state.coordinator.store.versions().await?;
    Ok(Json(Page::whole(versions.into_iter().map(|version| shape::function(version, &authority)).collect())))
}

/// `GET /functions/{name}`
pub async fn show(
    State(state): Shared,
    _viewer: Viewer,
    At(name): At<String>,
    Asked(asked): Asked<Which>,
) -> Answer<Json<FunctionBody>> {
    let version = named(&state, &name, asked.version).await?;
    Ok(Json(shape::function(version, &Authority::of(&state.coordinator.issuer.authority))))
}

/// `GET /functions/{name}/versions/{number}/module`
pub async fn module(State(state): Shared, _viewer: Viewer, At((name, number)): At<(String, u32)>) -> Answer<Response> {
    let version = named(&state, &name, Some(number)).await?;
    Ok(blobs::stream(state.coordinator.store.clone(), version.module))
}

/// `DELETE /functions/{name}`
pub async fn remove(
    State(state): Shared,
    caller: Publisher,
    At(name): At<String>,
    Asked(asked): Asked<Which>,
) -> Answer<Json<Affected>> {
    let coordinator = &state.coordinator;
    let affected =
        coordinator.store.remove_versions(&coordinator.lead, &name, asked.version, &caller.who(), clock::now()).await?;
    if affected == 0 {
        return Err(no_function(&name, asked.version));
    }
    Ok(Json(Affected { affected }))
}

/// A version by its function's name, its newest if no number is given.
pub async fn named(state: &Interface, name: &str, number: Option<u32>) -> Answer<VersionRecord> {
    let found = state.coordinator.store.version_named(name, number).await?;
    found.ok_or_else(|| no_function(name, number))
}

fn no_function(name: &str, number: Option<u32>) -> Refused {
    let called = number.map_or_else(|| name.to_owned(), |number| format!("{name}@{number}"));
    Refused::not_found(
        format!("there is no function {called}"),
        "`lull func list` shows what is published; `lull func publish FILE` publishes a module",
    )
}
