//! EDGE: the HTTP interface under the command line, the portal and other people's scripts.

use std::sync::Arc;

use axum::Router;

use crate::server::Coordinator;

/// All routes.
pub fn router(coordinator: Arc<Coordinator>) -> Router {
    Router::new().with_state(coordinator)
}
