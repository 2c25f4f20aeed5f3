//! EDGE: the HTTP interface under `/api/v1`, for the command line, the portal and other people's scripts.
//!
//! Handlers check who asks, translate, and pass on: decisions are the scheduler's, memory is the store's. Nothing
//! here holds a body in memory that can be large. What one address, one token or a stranger may have under way is in
//! `guests`, `shares` and `body`.

pub(crate) mod door;
pub(crate) mod fleet;
#[cfg(test)]
mod misread;
pub mod routes;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod siege;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod visits;
pub(crate) mod work;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use lull_shared::time::Timestamp;
use tokio_util::sync::CancellationToken;

use self::door::{cookie::Cookies, error::Refused, failures::Failures, sessions::Sessions, shares::Shares, spool::Spools};
pub use self::door::{
    front::Front,
    hosts::Hosts,
    serve::{Entrance, serve},
};
use crate::{
    api,
    portal::{self, live::Live},
    term::Coordinator,
};

/// A body of JSON: a submission with all its arguments and variables is far below it.
const JSON_BYTES_MAX: usize = 1024 * 1024;

/// What every handler gets.
pub struct Interface {
    pub(crate) coordinator: Arc<Coordinator>,
    /// Ends the streams and long polls that would keep the server from stopping.
    pub(crate) shutdown: CancellationToken,
    pub(crate) shares: Shares,
    spools: Spools,
    failures: Failures,
    sessions: Sessions,
    cookies: Cookies,
    /// What all who look at the portal share.
    pub(crate) live: Live,
    /// The path under which people find it, without a slash at its end; empty at the root. Links of pages begin with it.
    pub base: String,
}

/// How often a request that waits looks whether the store is still there.
const SILENCE_LOOK: Duration = Duration::from_millis(250);

impl Interface {
    /// Waits until the store does not answer any more; when it answered last.
    pub(crate) async fn store_falls_silent(&self) -> Timestamp {
        loop {
            if let Some(since) = self.coordinator.lease.store_silent_since() {
                return since;
            }
            tokio::time::sleep(SILENCE_LOOK).await;
        }
    }
}

/// The state of all handlers.
pub(crate) type Shared = axum::extract::State<Arc<Interface>>;

/// All routes of the interface. Uploads wait in `spool`, a folder, until they are whole. People find it below the path `base`.
pub fn router(coordinator: Arc<Coordinator>, spool: PathBuf, shutdown: CancellationToken, base: &str) -> Router {
    let spools = Spools::new(spool);
    let cookies = Cookies::new(coordinator.network, base);
    let live = Live::begin(coordinator.clone(), shutdown.clone());
    let state = Arc::new(Interface {
        coordinator,
        shutdown,
        shares: Shares::default(),
        spools,
        failures: Failures::default(),
        sessions: Sessions::default(),
        cookies,
        live,
        base: base.to_owned(),
    });
    let routes = routes::router(&state).route("/session", post(fleet::sessions::sign_in));
    Router::new()
        .route("/health", get(fleet::status::health))
        .nest(api::PREFIX, routes)
        .merge(portal::router(&state))
        .fallback(async || Refused::not_found("there is nothing at this path", "the interface begins at /api/v1"))
        .method_not_allowed_fallback(async || Refused::method())
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .with_state(state)
}
