//! Who asks: a bearer token, or the one that the session of a cookie refers to, is looked up by the digest of its secret, and
//! its role is checked before anything else.
//!
//! A handler takes [`Viewer`], [`Submitter`], [`Publisher`] or [`Admin`]; being able to build one is the permission.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures::StreamExt as _;
use lull_shared::{
    id::TokenId,
    misread::{self, Tree},
    time::Timestamp,
};
use serde::{Deserialize as _, de::DeserializeOwned};
use tokio::time::{Instant, timeout};

use crate::{
    access,
    api::SessionId,
    clock,
    http::{
        Interface, JSON_BYTES_MAX,
        door::{
            cookie,
            error::{Answer, Refused},
            failures::Source,
            shares::{Kind, Taken},
        },
    },
    json,
    store::{
        Registry,
        record::{TokenRecord, TokenRole, who},
    },
};

/// Whose token came with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Who it is: names are for people, and may be another's tomorrow.
    pub token: TokenId,
    pub name: String,
    pub role: TokenRole,
    /// When his token is not valid any more.
    pub expires: Option<Timestamp>,
    /// The session that he asks in, if he brought no token.
    pub session: Option<SessionId>,
}

impl Caller {
    /// Whoever holds this token, in this session if he did not bring it.
    pub(crate) fn of(token: TokenRecord, session: Option<SessionId>) -> Self {
        Self { token: TokenId(token.token), name: token.name, role: token.role, expires: token.expires, session }
    }

    /// Whether this caller may change what `owner` submitted; what nobody knows the owner of is the administrators'.
    pub(crate) fn may_change(&self, owner: Option<TokenId>) -> bool {
        self.role == TokenRole::Admin || owner == Some(self.token)
    }

    /// What the audit calls it: name and id.
    pub(crate) fn who(&self) -> String {
        who(Some(self.token), &self.name)
    }

    /// Refuses a caller whose role does not suffice.
    pub(crate) fn require(self, role: TokenRole) -> Answer<Self> {
        if self.role >= role {
            return Ok(self);
        }
        Err(Refused::denied(format!("this needs the role {}, and your token has the role {}", role.as_str(), self.role.as_str())))
    }
}

/// How long a caller waits for the store to say who he is, before it is looked whether it is remembered.
const PATIENCE: Duration = Duration::from_millis(800);

/// The same for what can be answered without the store: whoever it confirmed before is known while it does not answer.
pub(crate) async fn known_without_store(headers: &HeaderMap, source: Option<Source>, state: &Interface) -> Answer<Caller> {
    let shown = shown(headers, source, state)?;
    let remembered = || {
        let token = state.coordinator.callers.recall(&shown.fingerprint, clock::now())?;
        Some(Caller::of(token, shown.session()))
    };
    if state.coordinator.lease.store_silent_since().is_some()
        && let Some(caller) = remembered()
    {
        return Ok(caller);
    }
    match timeout(PATIENCE, known_by(shown, source, state)).await {
        Ok(Err(refused)) if refused.is_unavailable() => remembered().ok_or(refused),
        Ok(known) => known,
        Err(_) => remembered().ok_or_else(|| Refused::store_silent(state.coordinator.lease.asked().wall, false)),
    }
}

/// Whose token came with these headers, or whose session, from there; an address from which too many tokens came that are not
/// valid is not looked at for a while.
pub(crate) async fn known(headers: &HeaderMap, source: Option<Source>, state: &Interface) -> Answer<Caller> {
    known_by(shown(headers, source, state)?, source, state).await
}

/// What a request shows to say who asks.
#[derive(Debug, Clone, Copy)]
struct Shown {
    /// By what the token is looked up.
    fingerprint: [u8; 32],
    /// What refers to it, if it was not brought itself.
    session: Option<(SessionId, TokenId)>,
}

impl Shown {
    fn session(self) -> Option<SessionId> {
        self.session.map(|(id, _)| id)
    }
}

fn shown(headers: &HeaderMap, source: Option<Source>, state: &Interface) -> Answer<Shown> {
    if let Some(text) = bearer(headers) {
        return Ok(Shown { fingerprint: access::fingerprint(text), session: None });
    }
    let secure = cookie::is_secure(source, headers);
    let secret = state.cookies.fingerprint(headers, secure).ok_or_else(Refused::unknown_caller)?;
    let session = state.sessions.touch(&secret, clock::now(), Instant::now()).ok_or_else(Refused::session_over)?;
    Ok(Shown { fingerprint: session.fingerprint, session: Some((session.id, session.token)) })
}

async fn known_by(shown: Shown, source: Option<Source>, state: &Interface) -> Answer<Caller> {
    let fingerprint = shown.fingerprint;
    if let Some((_, of)) = shown.session {
        let token = token(fingerprint, &*state.coordinator.store).await.map_err(|refused| match refused.is_unknown_caller() {
            true => {
                state.sessions.end_those_of(of);
                Refused::session_over()
            }
            false => refused,
        })?;
        state.coordinator.callers.remember(fingerprint, token.clone());
        return Ok(Caller::of(token, shown.session()));
    }
    let token = valid(fingerprint, source, state).await?;
    Ok(Caller::of(token, None))
}

/// The token with this fingerprint, which came from there.
pub(crate) async fn valid(fingerprint: [u8; 32], source: Option<Source>, state: &Interface) -> Answer<TokenRecord> {
    let source = source.map(|source| source.ip);
    if source.is_some_and(|source| !state.failures.may_ask(source, &fingerprint, Instant::now())) {
        return Err(Refused::busy("too many requests came from this address with tokens that are not valid"));
    }
    let found = token(fingerprint, &*state.coordinator.store).await;
    let valid = match &found {
        Ok(_) => Some(true),
        Err(refused) if refused.is_unknown_caller() => Some(false),
        Err(_) => None,
    };
    if let Some((source, valid)) = source.zip(valid) {
        state.failures.note(source, &fingerprint, valid, Instant::now());
    }
    let token = found?;
    state.coordinator.callers.remember(fingerprint, token.clone());
    Ok(token)
}

/// Whose token came with these headers, of a coordinator that stands by.
pub(crate) async fn caller_of_standby(headers: &HeaderMap, store: &dyn Registry) -> Answer<Caller> {
    let text = bearer(headers).ok_or_else(Refused::unknown_caller)?;
    Ok(Caller::of(token(access::fingerprint(text), store).await?, None))
}

async fn token(fingerprint: [u8; 32], store: &dyn Registry) -> Answer<TokenRecord> {
    let token = store.authenticate(&fingerprint, clock::now()).await?;
    token.filter(|token| token.role != TokenRole::Agent).ok_or_else(Refused::unknown_caller)
}

/// The token that a request brings itself.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !text.trim().is_empty()).then_some(text)
}

macro_rules! roles {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        pub(crate) struct $name(Caller);

        impl Deref for $name {
            type Target = Caller;

            fn deref(&self) -> &Caller {
                &self.0
            }
        }

        impl FromRequestParts<Arc<Interface>> for $name {
            type Rejection = Refused;

            /// Whoever was let in is known: see [`crate::http::routes`].
            async fn from_request_parts(parts: &mut Parts, _state: &Arc<Interface>) -> Answer<Self> {
                let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(Refused::unknown_caller)?;
                caller.require(TokenRole::$name).map(Self)
            }
        }
    )*};
}

roles!(
    /// A caller who may look.
    Viewer,
    /// A caller who may submit jobs.
    Submitter,
    /// A caller who may publish functions.
    Publisher,
    /// A caller who may do everything.
    Admin
);

/// Whether a request came over a connection that others cannot read.
pub(crate) struct Secure(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for Secure {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Answer<Self> {
        let source = parts.extensions.get::<Source>().copied();
        Ok(Self(cookie::is_secure(source, &parts.headers)))
    }
}

/// The body of a request as JSON, or the reason why it is none in our words.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Interface>> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &Arc<Interface>) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        let token = parts.extensions.get::<Caller>().ok_or_else(Refused::unknown_caller)?.token.0;
        let (bytes, _held) = whole(body, token, state).await?;
        if !is_json(&parts.headers) {
            return Err(Refused::not_json());
        }
        decoded(&bytes).map(Self)
    }
}

/// The same where nothing need be said: without a body everything is left out.
pub(crate) struct Options<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Interface>> for Options<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &Arc<Interface>) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        let token = parts.extensions.get::<Caller>().ok_or_else(Refused::unknown_caller)?.token.0;
        let (bytes, _held) = whole(body, token, state).await?;
        match bytes.trim_ascii().is_empty() {
            true => decoded(b"{}").map(Self),
            false if !is_json(&parts.headers) => Err(Refused::not_json()),
            false => decoded(&bytes).map(Self),
        }
    }
}

/// All bytes of a body that is held in memory, and what they take of their sender's share until they were understood.
pub(crate) async fn whole(body: axum::body::Body, token: u64, state: &Interface) -> Answer<(Vec<u8>, Taken)> {
    let mut held = state.shares.take(token, Kind::HeldBytes, 0)?;
    let (mut bytes, mut body) = (Vec::new(), body.into_data_stream());
    while let Some(part) = body.next().await {
        let part = part.map_err(Refused::cut_short)?;
        if bytes.len() + part.len() > JSON_BYTES_MAX {
            return Err(Refused::too_large("the body is larger than any request needs"));
        }
        held.more(part.len() as u64)?;
        bytes.extend_from_slice(&part);
    }
    Ok((bytes, held))
}

/// Whether the headers say that the body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// A body as what is asked for; what is wrong is told by its field.
pub(crate) fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut decoder = serde_json::Deserializer::from_slice(bytes);
    let tree = Tree::deserialize(&mut decoder).and_then(|tree| decoder.end().map(|()| tree));
    let tree = tree.map_err(|error| {
        let hint = Some("send one JSON object and nothing behind it; names and texts stand in quotes");
        match (json::is_json(&error), bytes.trim_ascii().is_empty()) {
            (_, true) => Refused::invalid("the body is empty", hint),
            (true, false) => Refused::invalid(format!("the body cannot be read: {}", json::told(&error)), hint),
            (false, false) => Refused::invalid(format!("the body is not JSON: {}", json::told(&error)), hint),
        }
    })?;
    misread::decode(tree, misread::JSON).map_err(Refused::misread)
}

/// The values in a path.
pub(crate) struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let values = RawPathParams::from_request_parts(parts, state).await.map_err(|_| {
            Refused::invalid(
                "the path is not UTF-8 text",
                Some("write what is no letter as % and two hexadecimal digits, in UTF-8"),
            )
        })?;
        let named = values.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        misread::path(named).map(Self).map_err(Refused::misread)
    }
}

/// What stands behind the question mark is not made of names and values.
pub(crate) fn unreadable_query() -> Refused {
    Refused::invalid("what follows the `?` cannot be read", Some("write name=value, with & between them"))
}

/// The values behind the question mark.
pub(crate) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let Query(named) =
            Query::<Vec<(String, String)>>::from_request_parts(parts, state).await.map_err(|_| unreadable_query())?;
        misread::query(named).map(Self).map_err(Refused::misread)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(value: &str) -> HeaderMap {
        [(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header"))].into_iter().collect()
    }

    #[test]
    fn only_a_bearer_token_counts() {
        assert_eq!(bearer(&with("Bearer lull_viewer_00")), Some("lull_viewer_00"));
        assert_eq!(bearer(&with("bearer lull_viewer_00")), Some("lull_viewer_00"));
        for value in ["Bearer ", "Basic abc", "lull_viewer_00"] {
            assert_eq!(bearer(&with(value)), None, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_role_may_do_what_those_before_it_may_and_no_more() {
        let caller = |role| Caller { token: TokenId(1), name: "ann".into(), role, expires: None, session: None };
        assert!(caller(TokenRole::Submitter).require(TokenRole::Viewer).is_ok());
        assert!(caller(TokenRole::Submitter).require(TokenRole::Publisher).is_err());
        let (own, other) = (Some(TokenId(1)), Some(TokenId(2)));
        assert!(caller(TokenRole::Submitter).may_change(own) && !caller(TokenRole::Submitter).may_change(other));
        assert!(!caller(TokenRole::Submitter).may_change(None) && caller(TokenRole::Admin).may_change(None));
        assert!(caller(TokenRole::Admin).may_change(other));
    }

    #[test]
    fn a_body_that_is_not_understood_is_told_by_its_field_with_a_hint() {
        use crate::api::{CreateToken, PublishRequest, SetPolicy, SubmitRequest};
        fn told<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
            let (status, detail) = decoded::<T>(text.as_bytes()).map(|_| ()).expect_err(text).into_parts();
            assert_eq!(status, 400, "{text}");
            format!("{}\n{}", detail.message, detail.hint.unwrap_or_else(|| panic!("{text}: no hint")))
        }
        let inputs = r#""inputs":{"range":{"first":0,"count":1}}"#;
        let submission = |more: &str| told::<SubmitRequest>(&format!("{{\"function\":\"f\",{inputs}{more}}}"));
        let cases = [
            (told::<SubmitRequest>("{}"), "the field `function` is missing\ngive `function`"),
            (told::<SubmitRequest>(r#"{"function":"f"}"#), "the field `inputs` is missing"),
            (
                told::<SubmitRequest>("{"),
                "the body is not JSON: it ends within an object, at line 1, column 1\nsend one JSON object",
            ),
            (told::<SubmitRequest>(" "), "the body is empty\nsend one JSON object"),
            (
                told::<SubmitRequest>(r#"{"function":"f","inputs":{}}"#),
                "`inputs`: the object is empty\nwrite one of {\"range\": {\"first\": .., \"count\": ..}}, {\"numbers\": \"..\"} or \
                 {\"pack\": {\"digest\": .., \"size_bytes\": ..}}",
            ),
            (told::<SubmitRequest>(r#"{"function":"f","inputs":{"rage":{}}}"#), "did you mean `range`?"),
            (told::<SubmitRequest>(r#"{"function":"f","inputs":{"range":{"first":0}}}"#), "the field `count` is missing"),
            (
                told::<SubmitRequest>(r#"{"function":"f","inputs":{"range":{"first":-1,"count":1}}}"#),
                "`inputs.range.first`: `-1` is less than 0\nwrite a whole number from 0 on",
            ),
            (
                submission(r#","retries":"many""#),
                "`retries`: \"many\" is not a whole number\nwrite a whole number from 0 on, without quotes",
            ),
            (submission(r#","prioritty":1"#), "there is no field `prioritty`\ndid you mean `priority`?"),
            (submission(r#","require":["linux"]"#), "`require[0]`: `linux` is not a constraint\nwrite LABEL=VALUE"),
            (submission(r#","after":[{"job":"x","condition":"ok"}]"#), "`after[0].job`: `x` is not a job\nwrite it like j42"),
            (submission(r#","zone":"Mars/Base""#), "`zone`: `Mars/Base` is not the name of a time zone\nwrite one like"),
            (
                submission(r#","finish_by":"soon""#),
                "`finish_by`: `soon` is not a moment\nwrite a date, a time and how far its clock is from UTC, like 2027-03-01T06:00:00Z",
            ),
            (submission(r#","moving":5"#), "`moving`: `5` is not one of its values\nwrite \"auto\", \"always\" or \"never\""),
            (submission(r#","grants":["network"]"#), "`grants[0]`: `network` is not one of its values\nwrite \"clock\""),
            (submission(r#","verify":5"#), "`verify`: `5` is not a text\nwrite a text in quotes; write a percentage"),
            (told::<SetPolicy>(r#"{"set":{"cores":101}}"#), "`set.cores`: 101 is not a share in percent\nwrite 0 to 100"),
            (told::<SetPolicy>(r#"{"set":{"cores":300}}"#), "`set.cores`: 300 is not a share in percent\nwrite 0 to 100"),
            (told::<SetPolicy>(r#"{"set":{"idel":"1m"}}"#), "there is no field `idel` in `set`\ndid you mean `idle`?"),
            (told::<SetPolicy>(r#"{"set":{"unseen":"maybe"}}"#), "`set.unseen`: \"maybe\" is neither true nor false"),
            (told::<CreateToken>(r#"{"role":"king"}"#), "`role`: `king` is not one of its values\nwrite \"agent\", \"viewer\""),
            (told::<CreateToken>(r#"{"role":5}"#), "`role`: `5` is not one of its values\nwrite \"agent\", \"viewer\""),
            (told::<CreateToken>(r#"{"role":null}"#), "`role`: null is not one of its values"),
            (told::<PublishRequest>(r#"{"module":"x"}"#), "`module`: `x` is not a digest\nwrite b3: and 64"),
            (told::<PublishRequest>("[]"), "a list is not an object\nwrite an object with its fields"),
            (
                told::<PublishRequest>("{} {}"),
                "the body is not JSON: more stands behind it, at line 1, column 4\nsend one JSON object",
            ),
            (told::<PublishRequest>("{\"module\":1e999}"), "the body cannot be read: a number is too large, at line 1"),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said}\n- {expected}");
        }
    }

    #[test]
    fn the_audit_names_the_id_too() {
        let caller = |name: &str| {
            Caller { token: TokenId(7), name: name.into(), role: TokenRole::Viewer, expires: None, session: None }.who()
        };
        assert_eq!((caller("ann"), caller("t7")), ("ann (t7)".to_owned(), "t7".to_owned()));
    }
}
