//! Sessions of people with browsers: a token is exchanged for a cookie, so that no page ever holds the token.
//!
//! A caller by cookie is one like any other: see [`crate::http::door::auth`] and, for what a page of another site asks for,
//! [`crate::http::door::hosts`].

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use tokio::time::{Instant, timeout};

use crate::{
    access,
    api::{Affected, Asker, Page, SessionBody, SessionId, SignIn},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::{self, Admin, At, Caller, Secure, Viewer},
            cookie::{self, Secret},
            error::{Answer, Refused},
            failures::Source,
            guests::{Asking, Guest},
            sessions::{Beginning, Session},
            takes::without_parameters,
        },
        routes,
    },
    store::record::{AuditRecord, who},
};

/// What a stranger may send: a token of some fifty characters, in JSON.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// How long he may take for it.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// What the audit calls somebody who showed no valid token.
const NOBODY: &str = "nobody";

/// An answer that gives a browser a cookie, or takes it back.
pub(crate) struct WithCookie<T>(pub T, pub HeaderValue);

impl<T: IntoResponse> IntoResponse for WithCookie<T> {
    fn into_response(self) -> Response {
        ([(header::SET_COOKIE, self.1)], self.0).into_response()
    }
}

/// `POST /session`: exchanges a token for a cookie. Nobody is known yet, so what is read is little and takes little time.
pub(crate) async fn sign_in(State(state): Shared, request: Request) -> Answer<WithCookie<Json<Asker>>> {
    without_parameters(request.uri())?;
    let source = routes::source(&request);
    let (parts, body) = request.into_parts();
    let bytes = {
        let _asking = parts.extensions.get::<Arc<Guest>>().cloned().map(Asking::begin);
        let whole = axum::body::to_bytes(body, BODY_BYTES_MAX);
        let read = timeout(BODY_TIME_MAX, whole).await.map_err(|_| Refused::too_slow("the body comes too slowly"))?;
        read.map_err(|_| Refused::too_large("the body ended early, or it is larger than any token"))?
    };
    if !auth::is_json(&parts.headers) {
        return Err(Refused::not_json());
    }
    let SignIn { token } = auth::decoded(&bytes)?;
    begin(&state, &token, &parts.headers, source).await
}

/// Begins a session of whoever shows this token, in place of the one that he may be in.
pub(crate) async fn begin(
    state: &Interface,
    token: &str,
    headers: &HeaderMap,
    source: Option<Source>,
) -> Answer<WithCookie<Json<Asker>>> {
    if let Some(since) = state.coordinator.lease.store_silent_since() {
        return Err(Refused::store_silent(since, false));
    }
    let fingerprint = access::fingerprint(token);
    let from = source.map(|source| source.ip);
    let token = match auth::valid(fingerprint, source, state).await {
        Ok(token) => token,
        Err(refused) => {
            note_refusal(state, source, &refused).await?;
            return Err(refused);
        }
    };
    let (secure, now) = (cookie::is_secure(source, headers), Instant::now());
    if let Some(before) = state.cookies.fingerprint(headers, secure)
        && let Some(session) = state.sessions.touch(&before, clock::now(), now)
    {
        state.sessions.end(session.id);
    }
    let secret = Secret::random();
    let mut caller = Caller::of(token, None);
    let with = Beginning { token: caller.token, fingerprint, name: caller.name.clone(), from };
    let id = state.sessions.begin(secret.fingerprint(), with, clock::now(), now);
    let noted = note(state, &caller.who(), "session.begin", id.to_string(), &from_words(from)).await;
    if let Err(refused) = noted {
        state.sessions.end(id);
        return Err(refused);
    }
    caller.session = Some(id);
    Ok(WithCookie(Json(asker(&caller)), state.cookies.set(&secret, secure)))
}

/// `GET /session`: who asks.
pub(crate) async fn show(State(_state): Shared, viewer: Viewer) -> Answer<Json<Asker>> {
    Ok(Json(asker(&viewer)))
}

/// `DELETE /session`: ends the one that the request is made in; a request with a token is in none.
pub(crate) async fn sign_out(State(state): Shared, viewer: Viewer, secure: Secure) -> Answer<WithCookie<Json<Affected>>> {
    let ended = viewer.session.and_then(|id| state.sessions.end(id));
    if let Some(session) = &ended {
        note(&state, &viewer.who(), "session.end", session.id.to_string(), "").await?;
    }
    Ok(WithCookie(Json(Affected { affected: u64::from(ended.is_some()) }), state.cookies.clear(secure.0)))
}

/// `GET /sessions`: whose they are, since when, and from where; those begun last first.
pub(crate) async fn list(State(state): Shared, admin: Admin) -> Answer<Json<Page<SessionBody>>> {
    let body = |session: Session| SessionBody {
        session: session.id,
        token: session.token,
        name: session.name,
        since: session.since.to_jiff(),
        used: session.used.to_jiff(),
        from: session.from.map(|ip| ip.to_string()).unwrap_or_default(),
        own: admin.session == Some(session.id),
    };
    Ok(Json(Page::whole(state.sessions.list(Instant::now()).into_iter().map(body).collect())))
}

/// `DELETE /sessions/{session}`: ends anybody's.
pub(crate) async fn end(State(state): Shared, admin: Admin, At(id): At<SessionId>) -> Answer<Json<Affected>> {
    let Some(session) = state.sessions.end(id) else {
        return Err(Refused::not_found(format!("there is no session {id}"), "it may have ended; look at `GET /api/v1/sessions`"));
    };
    let whose = format!("of {}", who(Some(session.token), &session.name));
    note(&state, &admin.who(), "session.end", id.to_string(), &whose).await?;
    Ok(Json(Affected { affected: 1 }))
}

fn asker(caller: &Caller) -> Asker {
    Asker {
        token: caller.token,
        name: caller.name.clone(),
        role: caller.role,
        expires: caller.expires.map(|at| at.to_jiff()),
        session: caller.session,
    }
}

fn from_words(from: Option<std::net::IpAddr>) -> String {
    from.map(|ip| format!("from {ip}")).unwrap_or_default()
}

/// Few lines, however many try: each address once a minute, with how often it was.
async fn note_refusal(state: &Interface, source: Option<Source>, refused: &Refused) -> Answer<()> {
    let from = source.map(|source| source.ip);
    if !(refused.is_unknown_caller() || refused.is_busy()) {
        return Ok(());
    }
    let Some(times) = state.sessions.refuse(from, Instant::now()) else { return Ok(()) };
    let words = match times {
        1 => from_words(from),
        times => format!("{}, {times} times", from_words(from)),
    };
    note(state, NOBODY, "session.refuse", String::new(), &words).await
}

async fn note(state: &Interface, by: &str, action: &str, subject: String, detail: &str) -> Answer<()> {
    let line = AuditRecord::new(clock::now(), by, action, subject, detail);
    Ok(state.coordinator.store.note(&state.coordinator.lead, &line).await?)
}
