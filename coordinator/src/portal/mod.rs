//! EDGE: the portal: pages for people, rendered here and served beside the interface that they use.
//!
//! Pages only read. What changes something is a request that a page's script makes to `/api/v1`, the one interface, and what
//! pages show comes from the same functions as the interface's answers. Without its script a page still reads.
//!
//! ```text
//! request -> entry (who asks, how long it may take) -> page (what the interface says) -> frame (HTML) -> browser
//!                                                                       live (what changed, once for all) -> its script
//! ```
//!
//! Nothing in a page is code or style but the two files in `assets`, whose names change with their contents.

mod access;
mod agent;
mod agents;
mod assets;
mod cached;
mod draw;
mod entry;
mod find;
mod frame;
mod functions;
mod job;
mod jobs;
pub(crate) mod live;
mod network;
mod night;
mod plan;
mod policy;
mod signin;
mod task;
#[cfg(test)]
mod tests;
mod timeline;
mod tonight;
mod words;

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{any, get},
};

use crate::http::Interface;
pub(crate) use frame::elsewhere;

/// All pages. Whoever is not known is shown where to sign in.
pub(crate) fn router(state: &Arc<Interface>) -> Router<Arc<Interface>> {
    Router::new()
        .route("/", get(tonight::page))
        .route("/live", get(live::stream))
        .route("/find", get(find::find))
        .route("/jobs", get(jobs::page))
        .route("/jobs/{job}", get(job::page))
        .route("/jobs/{job}/tasks/{index}", get(task::page))
        .route("/agents", get(agents::page))
        .route("/agents/{agent}", get(agent::page))
        .route("/functions", get(functions::list))
        .route("/functions/{name}", get(functions::one))
        .route("/policy", get(policy::page))
        .route("/network", get(network::page))
        .route("/access", get(access::page))
        .route("/audit", get(access::audit))
        .route_layer(from_fn_with_state(state.clone(), entry::admit))
        .route(
            "/{*path}",
            any(entry::nothing).layer(from_fn_with_state(state.clone(), entry::admit)).layer(from_fn(entry::people)),
        )
        .route("/signin", get(signin::page))
        .route("/assets/{name}", get(assets::serve))
}
