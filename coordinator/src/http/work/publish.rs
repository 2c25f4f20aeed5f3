//! Publishing: what was sent becomes a publication, which anybody who may publish can look at, wait for and stop.

use std::{ops::RangeInclusive, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use lull_shared::{hint, limits::MODULE_BYTES_MAX, name::check_name};
use serde::Deserialize;

use crate::{
    api::{Affected, Page, PublicationBody, PublicationId, PublicationState, PublishRequest},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Body, Publisher},
            error::{Answer, Refused},
        },
        work::blobs::too_large,
    },
    publishing::{PublishError, REMEMBERED, Seen, State as Standing, Wanted, make::MakeError},
    store::record::AuditRecord,
};

/// What somebody may have measured a migratable build to cost, in percent of the plain build's time. Half of it is a
/// better guess of the optimizer's; a hundred times is a mistake.
const COST_PERCENT: RangeInclusive<u32> = 50..=10_000;
/// The longest that one answer is waited for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Which change to wait for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Waiting {
    /// A revision that is known already.
    seen: Option<u64>,
    wait_s: Option<u64>,
}

/// `POST /functions/{name}/publications`
pub(crate) async fn begin(
    State(state): Shared,
    caller: Publisher,
    At(name): At<String>,
    Body(wanted): Body<PublishRequest>,
) -> Answer<(StatusCode, Json<PublicationBody>)> {
    if let Err(why) = check_name(&name) {
        return Err(Refused::field("name", &why.told(&name, "a function's name")));
    }
    if let Some(percent) = wanted.options.cost_percent.filter(|percent| !COST_PERCENT.contains(percent)) {
        let (from, to) = COST_PERCENT.into_inner();
        let hint = format!("leave it out, or measure it: {from} to {to}");
        return Err(Refused::invalid(
            format!("`options.cost_percent`: no build takes {percent} % of another's time"),
            Some(&hint),
        ));
    }
    let Some(module) = state.coordinator.store.touch_blob(&wanted.module, clock::now()).await? else {
        return Err(Refused::not_found("`module`: no blob with this digest is here", "upload it first: `PUT /api/v1/blobs`"));
    };
    if module.size_bytes > MODULE_BYTES_MAX {
        return Err(too_large(MODULE_BYTES_MAX));
    }
    let wanted = Wanted { function: name, module, options: wanted.options };
    let begun = state.coordinator.publications.begin(caller.token, &caller.who(), wanted);
    let (id, joined) = begun.map_err(|full| Refused::busy(full.to_string()))?;
    if !joined && let Err(error) = note(&state, &caller.who(), "publication.begin", id).await {
        // Nothing is done of which nobody could see later who wanted it.
        state.coordinator.publications.cancel(id);
        return Err(error);
    }
    let seen = state.coordinator.publications.look(id).ok_or_else(|| unknown(id))?;
    Ok((StatusCode::ACCEPTED, Json(PublicationBody { joined, ..body(seen) })))
}

/// `GET /publications/{publication}`: as it stands, or after the next change.
pub(crate) async fn show(
    State(state): Shared,
    _publisher: Publisher,
    At(id): At<PublicationId>,
    Asked(waiting): Asked<Waiting>,
) -> Answer<Json<PublicationBody>> {
    if let Some(seen) = waiting.seen {
        let time = Duration::from_secs(waiting.wait_s.unwrap_or(WAIT_MAX.as_secs())).min(WAIT_MAX);
        tokio::select! {
            () = state.coordinator.publications.changed(id, seen) => {}
            () = tokio::time::sleep(time) => {}
            () = state.shutdown.cancelled() => {}
        }
    }
    look(&state, id).map(body).map(Json)
}

/// `GET /publications`: those under way, and those that are remembered.
pub(crate) async fn list(State(state): Shared, _publisher: Publisher) -> Json<Page<PublicationBody>> {
    Json(Page::whole(state.coordinator.publications.all().into_iter().map(body).collect()))
}

/// `DELETE /publications/{publication}`
pub(crate) async fn cancel(State(state): Shared, caller: Publisher, At(id): At<PublicationId>) -> Answer<Json<Affected>> {
    let seen = look(&state, id)?;
    if !caller.may_change(Some(seen.owner)) {
        return Err(Refused::denied(format!("this publication is {}'s", seen.by)));
    }
    let affected = u64::from(state.coordinator.publications.cancel(id));
    if affected > 0 {
        note(&state, &caller.who(), "publication.cancel", id).await?;
    }
    Ok(Json(Affected { affected }))
}

/// A line of the audit about a publication.
async fn note(state: &Interface, by: &str, action: &str, id: PublicationId) -> Answer<()> {
    let about = look(state, id)?.wanted;
    let detail = format!("{} from {}", about.function, about.module.digest);
    let line = AuditRecord::new(clock::now(), by, action, id.to_string(), &detail);
    Ok(state.coordinator.store.note(&state.coordinator.lead, &line).await?)
}

fn look(state: &Interface, id: PublicationId) -> Answer<Seen> {
    state.coordinator.publications.look(id).ok_or_else(|| unknown(id))
}

fn unknown(id: PublicationId) -> Refused {
    let kept = humantime::format_duration(REMEMBERED);
    Refused::not_found(
        format!("the publication {id} is not known: it ended more than {kept} ago, or the coordinator was started anew"),
        "publish again: if it was done, its version is found at once",
    )
}

fn body(seen: Seen) -> PublicationBody {
    let mut body = PublicationBody {
        publication: seen.id,
        function: seen.wanted.function,
        module: seen.wanted.module.digest,
        options: seen.wanted.options,
        state: PublicationState::Waiting,
        joined: false,
        ahead: seen.ahead,
        phase: None,
        revision: seen.revision,
        begun: seen.begun.to_jiff(),
        by: seen.by,
        published: None,
        error: None,
        status: None,
    };
    match seen.state {
        Standing::Waiting => {}
        Standing::Working(phase) => {
            body.state = PublicationState::Working;
            body.phase = Some(phase.to_string());
        }
        Standing::Published(published) => {
            body.state = PublicationState::Published;
            body.published = Some((*published).clone());
        }
        Standing::Failed(error) => {
            let (status, detail) = refused(&error).into_parts();
            body.state = PublicationState::Failed;
            body.error = Some(detail);
            body.status = Some(status);
        }
        Standing::Cancelled => body.state = PublicationState::Cancelled,
    }
    body
}

/// What the author of a module can do.
fn refused(error: &PublishError) -> Refused {
    let words = error.to_string();
    match error {
        PublishError::Make(MakeError::Unrunnable(_)) => match hint::split(&words) {
            // What its author can do depends on what is wrong, and stands with that.
            (_, Some(_)) => Refused::invalid(words, None),
            (_, None) => {
                Refused::invalid(words, Some("run it with another WASI runtime, like wasmtime: it has to begin there, too"))
            }
        },
        PublishError::Make(MakeError::Costly(_)) => {
            let hint = "build it smaller, without debug information; `lull server run` bounds what compiling may take with \
                        --compile-memory and --compile-time";
            Refused::invalid(words, Some(hint))
        }
        PublishError::Make(MakeError::NotMovable(_)) => {
            let hint = "leave out --migratable=always to publish it all the same: its tasks then run where they began";
            Refused::invalid(words, Some(hint))
        }
        PublishError::Gone => Refused::not_found(words, "publish it again"),
        PublishError::Make(MakeError::Compiler(_) | MakeError::Engine(_)) | PublishError::Folder(_) => {
            Refused::unavailable(words)
        }
        // Its inside is not for others; it was logged.
        PublishError::Store(_) => Refused::unavailable("the store did not answer"),
    }
}
