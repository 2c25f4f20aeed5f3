//! What a route takes of a request, known by the types of what its handler reads; what nobody would read is refused.
//!
//! Whoever sends a parameter or a body believes that it means something, and a request that leaves it out in silence does
//! something else than was asked for.

use std::sync::Arc;

use axum::{
    body::{Body as Bytes, HttpBody as _},
    extract::{FromRequestParts, Query, Request, State},
    handler::Handler,
    http::{HeaderMap, Method, Uri, request::Parts},
};
use lull_shared::misread::{self, Tree};
use serde::Deserialize;

use crate::http::{
    Interface,
    door::{
        auth::{self, Admin, Asked, At, Body, Options, Publisher, Secure, Submitter, Viewer},
        error::{Answer, Refused},
    },
};

/// What a route takes beside its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Takes {
    query: bool,
    body: Content,
}

/// What is in the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Nothing,
    Json,
    /// Whatever it is.
    Bytes,
}

/// What a handler with these arguments takes.
pub(crate) fn takes<H: Handler<T, Arc<Interface>>, T: Arguments>(_handler: &H) -> Takes {
    T::TAKES
}

/// One argument of a handler.
pub(crate) trait Argument {
    const TAKES: Takes = Takes::NOTHING;
}

impl<S> Argument for State<S> {}
impl Argument for Viewer {}
impl Argument for Submitter {}
impl Argument for Publisher {}
impl Argument for Admin {}
impl Argument for Method {}
impl Argument for HeaderMap {}
impl Argument for Secure {}
impl<T> Argument for At<T> {}

impl<T> Argument for Asked<T> {
    const TAKES: Takes = Takes { query: true, ..Takes::NOTHING };
}

impl<T> Argument for Body<T> {
    const TAKES: Takes = Takes { body: Content::Json, ..Takes::NOTHING };
}

impl<T> Argument for Options<T> {
    const TAKES: Takes = Takes { body: Content::Json, ..Takes::NOTHING };
}

impl Argument for Bytes {
    const TAKES: Takes = Takes { body: Content::Bytes, ..Takes::NOTHING };
}

/// All arguments of a handler, as the router knows them: behind a word of the router's own.
pub(crate) trait Arguments {
    const TAKES: Takes;
}

macro_rules! arguments {
    ($($($name:ident)+;)+) => {$(
        impl<M, $($name: Argument),+> Arguments for (M, $($name),+) {
            const TAKES: Takes = Takes::NOTHING$(.and($name::TAKES))+;
        }
    )+};
}

arguments! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}

/// Nothing that has a name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Takes {
    const NOTHING: Self = Self { query: false, body: Content::Nothing };

    const fn and(self, other: Self) -> Self {
        let body = match other.body {
            Content::Nothing => self.body,
            _ => other.body,
        };
        Self { query: self.query || other.query, body }
    }

    /// The request as it was, if all that it brings is read; `token` is the caller's.
    pub(crate) async fn check(self, request: Request, token: u64, state: &Interface) -> Answer<Request> {
        let (mut parts, mut body) = request.into_parts();
        if !self.query {
            no_parameters(&mut parts, self.body).await?;
        }
        if self.body == Content::Nothing && !body.is_end_stream() {
            let (bytes, _held) = auth::whole(body, token, state).await?;
            nothing_in(&bytes, self.query)?;
            body = Bytes::empty();
        }
        Ok(Request::from_parts(parts, body))
    }
}

/// Refuses parameters of an address that takes none.
pub(crate) fn without_parameters(uri: &Uri) -> Answer<()> {
    let named = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| auth::unreadable_query())?.0;
    misread::query::<Nothing>(named).map(|Nothing {}| ()).map_err(Refused::misread)
}

/// The same of a route, which may take its options elsewhere.
async fn no_parameters(parts: &mut Parts, body: Content) -> Answer<()> {
    let Err(refused) = Asked::<Nothing>::from_request_parts(parts, &()).await else { return Ok(()) };
    Err(match body {
        Content::Json => refused.instead("no parameter is taken here: write it as a field of the body, in JSON"),
        Content::Nothing | Content::Bytes => refused,
    })
}

/// Refuses a body with something in it.
fn nothing_in(bytes: &[u8], query: bool) -> Answer<()> {
    if bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    let refused = match serde_json::from_slice(bytes) {
        Ok(tree @ Tree::Map(_)) => match misread::decode(tree, misread::JSON) {
            Ok(Nothing {}) => return Ok(()),
            Err(misread) => Refused::misread(misread),
        },
        Ok(_) | Err(_) => Refused::invalid("no body is taken here", Some("send the request without one")),
    };
    Err(if query { refused.instead("no body is taken here: write parameters behind the `?` of the address") } else { refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_body_that_nobody_reads_is_told() {
        let told = |bytes: &str, query| {
            nothing_in(bytes.as_bytes(), query).map_err(|refused| {
                let (status, detail) = refused.into_parts();
                format!("{status} {}\n{}", detail.message, detail.hint.unwrap_or_default())
            })
        };
        for nothing in ["", " \n", "{}", " { } "] {
            assert_eq!(told(nothing, false), Ok(()), "{nothing:?}");
        }
        let field = "400 there is no field `reason`\n";
        assert_eq!(told(r#"{"reason":1}"#, false), Err(format!("{field}leave `reason` out: no field is taken here")));
        let elsewhere = "no body is taken here: write parameters behind the `?` of the address";
        assert_eq!(told(r#"{"reason":1}"#, true), Err(format!("{field}{elsewhere}")));
        for other in ["now", "[1]", "5", "{"] {
            assert_eq!(told(other, false), Err("400 no body is taken here\nsend the request without one".into()), "{other}");
        }
    }

    #[test]
    fn what_a_handler_takes_is_known_by_its_arguments() {
        use crate::http::{
            fleet::agents,
            work::{blobs, jobs, submission, tasks},
        };
        assert_eq!(takes(&agents::list), Takes::NOTHING);
        assert_eq!(takes(&tasks::list), Takes { query: true, body: Content::Nothing });
        assert_eq!(takes(&submission::submit), Takes { query: false, body: Content::Json });
        assert_eq!(takes(&jobs::retry), Takes { query: false, body: Content::Json });
        assert_eq!(takes(&blobs::upload), Takes { query: false, body: Content::Bytes });
    }
}
