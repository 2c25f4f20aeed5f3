//! EDGE: the HTTP interface under `/api/v1`, for the command line, the portal and other people's scripts.
//!
//! Handlers check who asks, translate, and pass on: decisions are the scheduler's, memory is the store's. Nothing
//! here holds a body in memory that can be large.

mod agents;
mod auth;
mod blobs;
mod causes;
mod coordinators;
mod error;
mod explained;
mod front;
mod functions;
mod jobs;
mod listener;
mod logs;
mod network;
mod policy;
mod publish;
mod registry;
pub mod shape;
mod status;
mod submission;
mod tasks;
#[cfg(test)]
mod tests;
mod watch;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post, put},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::front::Front;
use self::{error::Refused, listener::Door};
use crate::{api, server::Coordinator};

/// A body of JSON: a submission with all its arguments and variables is far below it.
const JSON_BYTES_MAX: usize = 1024 * 1024;

/// What every handler gets.
pub struct Interface {
    coordinator: Arc<Coordinator>,
    /// Ends the streams and long polls that would keep the server from stopping.
    shutdown: CancellationToken,
}

/// The state of all handlers.
type Shared = axum::extract::State<Arc<Interface>>;

/// All routes of the interface.
pub fn router(coordinator: Arc<Coordinator>, shutdown: CancellationToken) -> Router {
    let state = Arc::new(Interface { coordinator, shutdown });
    let routes = Router::new()
        .route("/status", get(status::status))
        .route("/coordinators", get(coordinators::show))
        .route("/tokens", get(registry::tokens).post(registry::create))
        .route("/tokens/{token}", delete(registry::revoke))
        .route("/audit", get(registry::audit))
        .route("/functions", get(functions::list))
        .route("/functions/{name}", get(functions::show).delete(functions::remove))
        .route("/functions/{name}/publications", post(publish::begin))
        .route("/functions/{name}/versions/{number}/module", get(functions::module))
        .route("/publications", get(publish::list))
        .route("/publications/{publication}", get(publish::show).delete(publish::cancel))
        .route("/blobs", put(blobs::upload))
        .route("/blobs/{digest}", get(blobs::download))
        .route("/jobs", get(jobs::list).post(submission::submit))
        .route("/jobs/{job}", get(jobs::show))
        .route("/jobs/{job}/wait", get(watch::wait))
        .route("/jobs/{job}/events", get(watch::events))
        .route("/jobs/{job}/explain", get(explained::explain))
        .route("/jobs/{job}/cancel", post(jobs::cancel))
        .route("/jobs/{job}/retry", post(jobs::retry))
        .route("/jobs/{job}/results", get(tasks::results))
        .route("/jobs/{job}/tasks", get(tasks::list))
        .route("/jobs/{job}/tasks/{index}", get(tasks::show))
        .route("/jobs/{job}/tasks/{index}/output", get(tasks::output))
        .route("/jobs/{job}/tasks/{index}/log", get(logs::log))
        .route("/jobs/{job}/tasks/{index}/explain", get(tasks::explain))
        .route("/agents", get(agents::list))
        .route("/agents/{agent}", get(agents::show))
        .route("/agents/{agent}/intake", post(agents::set_intake))
        .route("/agents/{agent}/trust", post(agents::trust))
        .route("/agents/{agent}/policy", get(policy::outlook))
        .route("/policy", get(policy::show).put(policy::set))
        .route("/net/agents", get(network::agents))
        .route("/net/blobs", get(network::blobs))
        .route("/net/peers", get(network::peers))
        .route("/net/doctor", get(network::doctor));
    Router::new()
        .route("/health", get(status::health))
        .nest(api::PREFIX, routes)
        .fallback(async || Refused::not_found("there is nothing at this path", "the interface begins at /api/v1"))
        .method_not_allowed_fallback(async || Refused::method())
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .with_state(state)
}

/// Answers on `listener` until `shutdown`; waits for answers that are on their way.
pub async fn serve(listener: TcpListener, front: Front, shutdown: CancellationToken) -> io::Result<()> {
    let routes = Router::new().fallback(front::answer).with_state(front);
    axum::serve(Door::new(listener), routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
