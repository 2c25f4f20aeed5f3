//! Every route of the interface and who may call it: one declaration, of which the router and the table are made.
//!
//! A route without a role cannot be written down here, and there is no other place where one becomes part of the router.
//! Whoever is not of the role is turned away before the handler is called. `ROUTES.md` is this table for people.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Method,
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{delete, get, post, put},
};

use super::{
    Interface,
    door::{
        auth::{self, Caller},
        body::Kept,
        error::{Answer, Refused},
        failures::Source,
        shares::Kind,
        takes::{Takes, takes},
    },
    fleet::{agents, coordinators, network, policy, profiles, registry, sessions, status, upgrades},
    work::{archive, blobs, explained, functions, jobs, labels, logs, publish, submission, tasks, watch},
};
use crate::store::record::TokenRole;

/// One way to ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// In lower case.
    pub method: &'static str,
    /// Below [`crate::api::PREFIX`].
    pub path: &'static str,
    /// The least role that may call it.
    pub role: TokenRole,
    /// Callers may use it on what is their own, and administrators on everybody's.
    pub own: bool,
}

/// What needs no token: whether it lives, and the way in.
const OPEN: [(&str, &str); 2] = [("GET", "/health"), ("POST", "/api/v1/session")];

/// What a request must meet before its handler is called.
#[derive(Clone, Copy)]
struct Rule {
    role: TokenRole,
    /// It is answered while the store does not answer, too.
    from_memory: bool,
    /// What else it brings would be read by nobody.
    takes: Takes,
}

macro_rules! routes {
    ($($method:ident $path:literal $role:ident $($mark:ident)? => $handler:path;)*) => {
        /// All routes but [`OPEN`], which anybody may call.
        pub const ROUTES: &[Route] = &[$(
            Route { method: stringify!($method), path: $path, role: TokenRole::$role, own: routes!(@own $($mark)?) },
        )*];

        /// The router of [`ROUTES`].
        pub fn router(state: &Arc<Interface>) -> Router<Arc<Interface>> {
            Router::new()$(.route($path, {
                let rule = Rule { role: TokenRole::$role, from_memory: routes!(@from_memory $($mark)?), takes: takes(&$handler) };
                $method($handler).route_layer(from_fn_with_state((state.clone(), rule), admit))
            }))*
        }
    };
    (@own own) => { true };
    (@own $($other:ident)?) => { false };
    (@from_memory from_memory) => { true };
    (@from_memory $($other:ident)?) => { false };
}

routes! {
    get "/status" Viewer from_memory => status::status;
    get "/coordinators" Viewer => coordinators::show;
    get "/session" Viewer => sessions::show;
    delete "/session" Viewer => sessions::sign_out;
    get "/sessions" Admin => sessions::list;
    delete "/sessions/{session}" Admin => sessions::end;
    get "/tokens" Admin => registry::tokens;
    post "/tokens" Admin => registry::create;
    delete "/tokens/{token}" Admin => registry::revoke;
    post "/profiles" Admin => profiles::create;
    get "/audit" Admin => registry::audit;
    get "/functions" Viewer => functions::list;
    get "/functions/{name}" Viewer => functions::show;
    delete "/functions/{name}" Publisher => functions::remove;
    post "/functions/{name}/publications" Publisher => publish::begin;
    get "/functions/{name}/versions/{number}/module" Viewer => functions::module;
    get "/functions/{name}/labels/{label}" Viewer => labels::show;
    post "/functions/{name}/labels/{label}" Publisher => labels::promote;
    post "/functions/{name}/labels/{label}/rollback" Publisher => labels::rollback;
    get "/publications" Publisher => publish::list;
    get "/publications/{publication}" Publisher => publish::show;
    delete "/publications/{publication}" Publisher own => publish::cancel;
    put "/blobs" Submitter => blobs::upload;
    get "/blobs/{digest}" Viewer => blobs::download;
    get "/jobs" Viewer => jobs::list;
    post "/jobs" Submitter => submission::submit;
    get "/jobs/summary" Viewer => jobs::summary;
    get "/jobs/{job}" Viewer => jobs::show;
    get "/jobs/{job}/attempts" Viewer => jobs::attempts;
    get "/jobs/{job}/archive" Viewer => archive::archive;
    get "/jobs/{job}/wait" Viewer => watch::wait;
    get "/jobs/{job}/events" Viewer => watch::events;
    get "/jobs/{job}/explain" Viewer => explained::explain;
    post "/jobs/{job}/cancel" Submitter own => jobs::cancel;
    post "/jobs/{job}/retry" Submitter own => jobs::retry;
    get "/jobs/{job}/results" Viewer => tasks::results;
    get "/jobs/{job}/tasks" Viewer => tasks::list;
    get "/jobs/{job}/tasks/{index}" Viewer => tasks::show;
    get "/jobs/{job}/tasks/{index}/output" Viewer => tasks::output;
    get "/jobs/{job}/tasks/{index}/log" Viewer => logs::log;
    get "/jobs/{job}/tasks/{index}/log/text" Viewer => logs::text;
    get "/jobs/{job}/tasks/{index}/explain" Viewer => tasks::explain;
    get "/agents" Viewer => agents::list;
    get "/agents/{agent}" Viewer => agents::show;
    post "/agents/{agent}/intake" Admin => agents::set_intake;
    post "/agents/{agent}/restore" Admin => agents::restore;
    delete "/agents/{agent}" Admin => agents::remove;
    post "/agents/{agent}/trust" Admin => agents::trust;
    get "/agents/{agent}/policy" Viewer => policy::outlook;
    get "/upgrades" Viewer => upgrades::list;
    post "/upgrades" Admin => upgrades::begin;
    post "/upgrades/stop" Admin => upgrades::stop;
    post "/upgrades/resume" Admin => upgrades::resume;
    get "/policy" Viewer => policy::show;
    put "/policy" Admin => policy::set;
    post "/policy/preview" Admin => policy::preview;
    get "/net/agents" Viewer => network::agents;
    get "/net/blobs" Viewer => network::blobs;
    get "/net/peers" Viewer => network::peers;
    get "/net/doctor" Viewer => network::doctor;
}

/// Lets in who has the role, and counts the request as one of the caller's until its answer was given. While the store does
/// not answer that is said, but for what can be answered without it.
async fn admit(State((state, rule)): State<(Arc<Interface>, Rule)>, request: Request, next: Next) -> Answer<Response> {
    let Rule { role, from_memory, takes } = rule;
    if from_memory {
        let caller = auth::known_without_store(request.headers(), source(&request), &state).await?.require(role)?;
        return serve(&state, caller, takes, request, next).await;
    }
    if let Some(since) = state.coordinator.lease.store_silent_since() {
        return Err(Refused::store_silent(since, false));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let answered = async {
        let caller = auth::known(request.headers(), source(&request), &state).await?.require(role)?;
        serve(&state, caller, takes, request, next).await
    };
    tokio::select! {
        biased;
        answer = answered => answer,
        since = state.store_falls_silent() => Err(Refused::store_silent(since, changes)),
    }
}

async fn serve(state: &Interface, caller: Caller, takes: Takes, request: Request, next: Next) -> Answer<Response> {
    let place = state.shares.take(caller.token.0, Kind::Requests, 1)?;
    let mut request = takes.check(request, caller.token.0, state).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await.map(|body| Body::new(Kept::new(body, place))))
}

pub(crate) fn source(request: &Request) -> Option<Source> {
    request.extensions().get::<Source>().copied()
}

/// The table for people.
pub fn table() -> String {
    let mut text = String::from("| method | path | least role | on whose |\n|---|---|---|---|\n");
    for (method, path) in OPEN {
        text.push_str(&format!("| {method} | `{path}` | none: no token is needed | |\n"));
    }
    for Route { method, path, role, own } in ROUTES {
        let whose = if *own { "the caller's own; an administrator everybody's" } else { "" };
        let (method, prefix, role) = (method.to_uppercase(), crate::api::PREFIX, role.as_str());
        text.push_str(&format!("| {method} | `{prefix}{path}` | {role} | {whose} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `LULL_GOLDEN=write cargo test` writes it anew.
    #[test]
    fn the_table_for_people_is_that_of_the_router() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/ROUTES.md");
        let text = format!("# Every route of the HTTP interface, and who may call it\n\n{}", table());
        if std::env::var_os("LULL_GOLDEN").is_some_and(|what| what == "write") {
            std::fs::write(file, &text).expect("written");
        }
        assert_eq!(std::fs::read_to_string(file).expect("it is here"), text, "write it anew with LULL_GOLDEN=write");
    }

    #[test]
    fn only_what_changes_something_asks_for_more_than_a_look() {
        // Whoever is signed in may sign out.
        for route in ROUTES.iter().filter(|route| route.method != "get" && route.path != "/session") {
            assert!(route.role > TokenRole::Viewer, "{route:?}");
        }
    }
}
