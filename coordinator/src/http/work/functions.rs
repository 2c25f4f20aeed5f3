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
    store::record::{LabelRecord, VersionRecord},
    version::{NoVersion, Which},
};

/// Which version: its number, its label, or `latest`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Looked {
    version: Option<String>,
}

/// Which version is meant by its number alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removed {
    version: Option<u32>,
}

/// `GET /functions`: all versions, newest first within their function.
pub(crate) async fn list(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<FunctionBody>>> {
    let authority = Authority::of(&state.coordinator.issuer.authority);
    let versions = state.coordinator.store.versions().await?;
    let labels = state.coordinator.store.labels().await?;
    let body = |version| labelled(shape::function(version, &authority), &labels);
    Ok(Json(Page::whole(versions.into_iter().map(body).collect())))
}

/// With what it is called beside its number.
fn labelled(body: FunctionBody, labels: &[LabelRecord]) -> FunctionBody {
    let own = labels.iter().filter(|label| label.function == body.function && label.number == body.number);
    FunctionBody { labels: own.map(|label| label.label.clone()).collect(), ..body }
}

/// `GET /functions/{name}`
pub(crate) async fn show(
    State(state): Shared,
    _viewer: Viewer,
    At(name): At<String>,
    Asked(asked): Asked<Looked>,
) -> Answer<Json<FunctionBody>> {
    let which = match asked.version.as_deref().map(str::parse) {
        None => Which::Usual,
        Some(Ok(which)) => which,
        Some(Err(NoVersion { .. })) => {
            return Err(Refused::field("version", "this names no version\nhint: write its number, its label, or latest"));
        }
    };
    let version = named(&state, &name, &which).await?;
    let body = shape::function(version, &Authority::of(&state.coordinator.issuer.authority));
    Ok(Json(labelled(body, &state.coordinator.store.labels().await?)))
}

/// `GET /functions/{name}/versions/{number}/module`
pub(crate) async fn module(State(state): Shared, _viewer: Viewer, At((name, number)): At<(String, u32)>) -> Answer<Response> {
    let version = named(&state, &name, &Which::Number(number)).await?;
    Ok(blobs::stream(state.coordinator.store.clone(), version.module))
}

/// `DELETE /functions/{name}`
pub(crate) async fn remove(
    State(state): Shared,
    caller: Publisher,
    At(name): At<String>,
    Asked(asked): Asked<Removed>,
) -> Answer<Json<Affected>> {
    let coordinator = &state.coordinator;
    if let Some(number) = asked.version {
        let labels = coordinator.store.labels().await?;
        if let Some(label) = labels.iter().find(|label| label.function == name && label.number == number) {
            return Err(Refused::conflict(
                format!("{name}@{number} is what {name}@{} stands for", label.label),
                format!("let it stand for another first: `lull func promote {name}@NUMBER --label {}`", label.label),
            ));
        }
    }
    let affected =
        coordinator.store.remove_versions(&coordinator.lead, &name, asked.version, &caller.who(), clock::now()).await?;
    if affected == 0 {
        let which = asked.version.map_or(Which::Usual, Which::Number);
        return Err(unknown(&state, &name, &which).await?);
    }
    Ok(Json(Affected { affected }))
}

/// A version by its function's name.
pub(crate) async fn named(state: &Interface, name: &str, which: &Which) -> Answer<VersionRecord> {
    match state.coordinator.store.version_named(name, which).await? {
        Some(version) => Ok(version),
        None => Err(unknown(state, name, which).await?),
    }
}

/// What is said of a function that is not there: which is most likely meant.
async fn unknown(state: &Interface, name: &str, which: &Which) -> Answer<Refused> {
    let versions = state.coordinator.store.versions().await?;
    let labels = state.coordinator.store.labels().await?;
    let known: Vec<(&str, u32)> = versions.iter().map(|version| (version.function.as_str(), version.number)).collect();
    let own = labels.iter().filter(|label| label.function == name).map(|label| (label.label.as_str(), label.number)).collect();
    Ok(no_function(name, which, &known, own))
}

fn no_function(name: &str, which: &Which, known: &[(&str, u32)], labels: Vec<(&str, u32)>) -> Refused {
    let newest = known.iter().filter(|(function, _)| *function == name).map(|(_, number)| *number).max();
    match (which, newest) {
        (Which::Number(number), Some(newest)) => Refused::not_found(
            format!("{} has no version {number}", quoted(name)),
            format!("its newest version is {name}@{newest}; `lull func list` shows them all"),
        ),
        (Which::Label(label), Some(newest)) => {
            let meant = alike::question(label, labels.iter().map(|(label, _)| *label));
            let there: Vec<String> = labels.iter().map(|(label, number)| format!("{label} (which is {name}@{number})")).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Refused::not_found(
                format!("{} has no version that is called {}", quoted(name), quoted(label)),
                format!("{meant}its labels are: {there}; `lull func promote {name}@{newest} --label {label}` gives this one"),
            )
        }
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
        let told = |name: &str, which| {
            let (status, detail) = no_function(name, &which, &known, vec![("stable", 1)]).into_parts();
            assert_eq!(status, 404);
            format!("{}\n{}", detail.message, detail.hint.unwrap_or_default())
        };
        assert!(
            told("statz", Which::Usual).starts_with("there is no function `statz`\ndid you mean `stats`? `lull func list` shows")
        );
        assert!(told("Thumbnial", Which::Number(1)).contains("did you mean `thumbnail`?"));
        assert!(told("risk", Which::Newest).starts_with("there is no function `risk`\n`lull func list` shows"));
        assert_eq!(
            told("stats", Which::Number(2)),
            "`stats` has no version 2\nits newest version is stats@3; `lull func list` shows them all"
        );
        assert_eq!(
            told("stats", Which::Label("stabel".into())),
            "`stats` has no version that is called `stabel`\ndid you mean `stable`? its labels are: stable (which is stats@1); `lull \
             func promote stats@3 --label stabel` gives this one"
        );
    }
}
