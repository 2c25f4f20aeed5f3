//! Where somebody signs in: with a token, for which the interface gives a session.

use askama::Template;
use axum::{
    extract::{Query, Request, State},
    response::Response,
};
use serde::Deserialize;

use crate::{
    http::{Shared, door::error::Answer, routes},
    portal::{
        entry,
        frame::{Frame, Look},
        words,
    },
};

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "signin.html")]
struct Page<'a> {
    frame: &'a Frame,
    next: &'a str,
    data: String,
}

/// `GET /signin`
pub(super) async fn page(State(state): Shared, request: Request) -> Answer<Response> {
    let asked = Query::<Next>::try_from_uri(request.uri()).map(|Query(asked)| asked.next).ok().flatten();
    let (look, source, headers) = (Look::of(&request), routes::source(&request), request.headers().clone());
    drop(request);
    let caller = entry::caller(&state, &headers, source).await.ok();
    let frame = Frame::new(look, caller.as_ref());
    let next = words::own_path(asked.as_deref().unwrap_or("/"));
    frame.answer(&Page { frame: &frame, next, data: crate::server::ADMIN_TOKEN_FILE.to_owned() })
}
