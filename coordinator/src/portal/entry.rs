//! Before a page is made: who asks, and how long it may take. What goes wrong is told by a page too.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    api::{CODE_HEADER, ErrorBody, ErrorDetail},
    http::{
        Interface, Shared,
        door::{
            auth::{self, Caller},
            error::{Answer, Refused},
            failures::Source,
            shares::Kind,
        },
        routes,
    },
    portal::{
        frame::{Frame, Look, trouble},
        words,
    },
};

/// A page that is not ready by then says so: whoever waits longer looks elsewhere.
const PAGE_TIME: Duration = Duration::from_secs(5);
/// The words of a refusal are short.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// The stream of news and the first page are there while the store does not answer.
const FROM_MEMORY: [&str; 2] = ["/", "/live"];

/// Lets in who is known and shows all others where to sign in.
pub(super) async fn admit(State(state): Shared, request: Request, next: Next) -> Response {
    let look = Look::of(&request);
    let headers = request.headers().clone();
    let caller = match caller(&state, &headers, routes::source(&request)).await {
        Ok(caller) => caller,
        Err(refused) if refused.is_unknown_caller() && !look.part => return signin(&look),
        Err(refused) => return told(Frame::new(look, None), refused.into_response()).await,
    };
    let frame = Frame::new(look, Some(&caller));
    let from_memory = FROM_MEMORY.contains(&frame.path());
    let answered = answer(&state, caller, &frame, request, next);
    let silence = async {
        match from_memory {
            true => std::future::pending().await,
            false => state.store_falls_silent().await,
        }
    };
    let response = tokio::select! {
        biased;
        answered = tokio::time::timeout(PAGE_TIME, answered) => match answered {
            Ok(Ok(response)) => response,
            Ok(Err(refused)) => refused.into_response(),
            Err(_) => slow().into_response(),
        },
        since = silence => Refused::store_silent(since, false).into_response(),
    };
    told(frame, response).await
}

pub(super) async fn caller(state: &Interface, headers: &HeaderMap, source: Option<Source>) -> Answer<Caller> {
    auth::known_without_store(headers, source, state).await
}

async fn answer(state: &Arc<Interface>, caller: Caller, frame: &Frame, mut request: Request, next: Next) -> Answer<Response> {
    let _place = state.shares.take(caller.token.0, Kind::Requests, 1)?;
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(frame.clone());
    Ok(next.run(request).await)
}

fn slow() -> Refused {
    let seconds = PAGE_TIME.as_secs();
    Refused::unavailable(format!("this page was not ready within {seconds} seconds"))
}

/// Sends whoever is not known to sign in, and back here afterwards.
fn signin(look: &Look) -> Response {
    let to = match look.here.as_str() {
        "/" => "/signin".to_owned(),
        here => format!("/signin?next={}", words::encoded(here)),
    };
    let location = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/signin"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// A page of its own for what was refused; anything else as it is.
async fn told(frame: Frame, response: Response) -> Response {
    if !response.headers().contains_key(CODE_HEADER) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let detail = serde_json::from_slice::<ErrorBody>(&bytes).map_or_else(|_| unreadable(), |body| body.error);
    let mut page = trouble(&frame, parts.status, &detail);
    for name in [CODE_HEADER, header::ALLOW.as_str(), header::RETRY_AFTER.as_str()] {
        if let (Some(value), Ok(name)) = (parts.headers.get(name), header::HeaderName::try_from(name)) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    page
}

fn unreadable() -> ErrorDetail {
    let (message, hint) = ("this did not work".into(), Some("try again in a moment".into()));
    ErrorDetail { code: "unavailable".into(), message, hint, leader: None }
}

/// Lets a browser that looks for a page see one that says that there is none; programs get the interface's own words.
pub(super) async fn people(request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let page = matches!(*request.method(), Method::GET | Method::HEAD) && accepts.contains("text/html");
    if page && !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    Refused::not_found("there is nothing at this path", "the interface begins at /api/v1").into_response()
}

/// A path at which there is nothing.
pub(super) async fn nothing(request: Request<Body>) -> Refused {
    let path: String = request.uri().path().chars().take(64).collect();
    Refused::not_found(
        format!("there is no page at {path}"),
        "the links above lead to all pages; the interface begins at /api/v1",
    )
}
