//! What all pages have around them: who looks, where else to go, and how moments and states are written.

use askama::Template;
use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use jiff::{Timestamp, tz::TimeZone};
use lull_agent::cli::output::{localised, short, times_in};
use lull_shared::{amount::grouped, shown::escaped, zone::Zone};

use crate::{
    api::ErrorDetail,
    http::door::{
        auth::Caller,
        error::{Answer, Refused},
    },
    portal::{
        assets,
        words::{self, Html},
    },
    store::record::TokenRole,
};

/// The header by which a page's script asks for what is between the frame's parts alone.
const PART_HEADER: &str = "lull-part";
/// Cookies that the script sets: how the page looks, and the time zone of whoever reads it.
const THEME_COOKIE: &str = "lull_theme";
const ZONE_COOKIE: &str = "lull_zone";

/// A page that the navigation leads to, for those of a role.
struct Place {
    path: &'static str,
    word: &'static str,
    role: TokenRole,
}

/// Those that there are, in their order.
const PLACES: &[Place] = &[
    Place { path: "/", word: "Tonight", role: TokenRole::Viewer },
    Place { path: "/jobs", word: "Jobs", role: TokenRole::Viewer },
    Place { path: "/agents", word: "Agents", role: TokenRole::Viewer },
    Place { path: "/functions", word: "Functions", role: TokenRole::Viewer },
    Place { path: "/policy", word: "Policy", role: TokenRole::Viewer },
    Place { path: "/network", word: "Network", role: TokenRole::Viewer },
    Place { path: "/access", word: "Access", role: TokenRole::Admin },
    Place { path: "/audit", word: "Audit", role: TokenRole::Admin },
];

/// How somebody looks at a page, as his request says.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// The path and what follows it.
    pub here: String,
    /// Only what is between the frame's parts.
    pub part: bool,
    theme: &'static str,
    zone: TimeZone,
}

impl Look {
    pub(super) fn of(request: &Request) -> Self {
        let here = request.uri().path_and_query().map_or("/", |here| here.as_str()).to_owned();
        let headers = request.headers();
        let theme = match cookie(headers, THEME_COOKIE) {
            Some("light") => "light",
            Some("dark") => "dark",
            _ => "",
        };
        let zone = cookie(headers, ZONE_COOKIE).and_then(|name| words::decoded(name).parse::<Zone>().ok());
        let zone = zone.map_or(TimeZone::UTC, |zone| zone.rules().clone());
        Self { here, part: headers.contains_key(PART_HEADER), theme, zone }
    }
}

/// A cookie's value as it came.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// What every page has.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    look: Look,
    /// Who looks, and what they may do; none where nobody has signed in.
    who: Option<(String, TokenRole)>,
    pub now: Timestamp,
}

impl<S: Send + Sync> FromRequestParts<S> for Frame {
    type Rejection = Refused;

    /// [`super::entry::admit`] has put it there.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Answer<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refused::unknown_caller)
    }
}

/// A link of the navigation.
pub(super) struct Link {
    pub path: &'static str,
    pub word: &'static str,
    pub current: bool,
}

impl Frame {
    pub(super) fn new(look: Look, caller: Option<&Caller>) -> Self {
        Self { look, who: caller.map(|caller| (caller.who(), caller.role)), now: Timestamp::now() }
    }

    /// The path without what follows it.
    pub(super) fn path(&self) -> &str {
        self.look.here.split('?').next().unwrap_or("/")
    }

    pub(super) fn here(&self) -> &str {
        &self.look.here
    }

    pub(super) fn part(&self) -> bool {
        self.look.part
    }

    pub(super) fn theme(&self) -> &'static str {
        self.look.theme
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.look.zone
    }

    pub(super) fn zone_words(&self) -> String {
        times_in(self.now, &self.look.zone)
    }

    /// What the zone is called, for the script to compare with its own.
    pub(super) fn zone_name(&self) -> String {
        self.look.zone.iana_name().unwrap_or("UTC").to_owned()
    }

    pub(super) fn who(&self) -> Option<&str> {
        self.who.as_ref().map(|(name, _)| name.as_str())
    }

    pub(super) fn role(&self) -> &'static str {
        self.who.as_ref().map_or("", |(_, role)| role.as_str())
    }

    /// Whether whoever looks may do what needs this role.
    pub(super) fn may(&self, role: TokenRole) -> bool {
        self.who.as_ref().is_some_and(|(_, own)| *own >= role)
    }

    pub(super) fn is_admin(&self) -> bool {
        self.may(TokenRole::Admin)
    }

    pub(super) fn links(&self) -> Vec<Link> {
        let path = self.path();
        let is_here = |place: &Place| path == place.path || (place.path != "/" && path.starts_with(&format!("{}/", place.path)));
        let shown = PLACES.iter().filter(|place| self.may(place.role));
        shown.map(|place| Link { path: place.path, word: place.word, current: is_here(place) }).collect()
    }

    pub(super) fn style(&self) -> String {
        assets::style()
    }

    pub(super) fn script(&self) -> String {
        assets::script()
    }

    pub(super) fn icon(&self) -> String {
        assets::icon()
    }

    /// A moment, as short as it can be told, in the time of whoever reads it.
    pub(super) fn time(&self, at: &Timestamp) -> Html {
        Html(format!("<time datetime=\"{at}\">{}</time>", short(*at, self.now, &self.look.zone)))
    }

    /// A moment to come, to the minute.
    pub(super) fn clock(&self, at: &Timestamp) -> String {
        words::clock(*at, self.now, &self.look.zone)
    }

    /// A text of the coordinator's, with its moments in the time of whoever reads it.
    pub(super) fn said(&self, text: &str) -> String {
        escaped(&localised(text, self.now, &self.look.zone).0).into_owned()
    }

    /// A text that somebody else wrote, with what nobody would see made visible.
    pub(super) fn text(&self, text: &str) -> String {
        escaped(text).into_owned()
    }

    pub(super) fn number(&self, number: &u64) -> String {
        grouped(*number)
    }

    /// A page as it is answered.
    pub(super) fn answer(&self, page: &impl Template) -> Answer<Response> {
        self.with(StatusCode::OK, page)
    }

    fn with(&self, status: StatusCode, page: &impl Template) -> Answer<Response> {
        let html = page.render().map_err(|error| {
            tracing::error!(%error, "a page could not be made");
            Refused::unavailable("this page could not be made")
        })?;
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("cookie, lull-part"));
        Ok(response)
    }
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct Trouble<'a> {
    frame: &'a Frame,
    detail: &'a ErrorDetail,
    denied: bool,
}

/// A page about something that was refused.
pub(super) fn trouble(frame: &Frame, status: StatusCode, detail: &ErrorDetail) -> Response {
    let page = Trouble { frame, detail, denied: status == StatusCode::FORBIDDEN };
    frame.with(status, &page).unwrap_or_else(|refused| refused.into_response())
}

/// Whether a browser asks for a page.
fn is_for_page(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("text/html") && !request.uri().path().starts_with(crate::api::PREFIX)
}

/// For a browser the page about a refusal that no page has a part in, such as one of a coordinator that stands by; how to
/// make it, since the request is gone by then.
pub(crate) fn elsewhere(request: &Request) -> Option<impl FnOnce(Refused) -> Response + use<>> {
    let frame = is_for_page(request).then(|| Frame::new(Look::of(request), None))?;
    Some(move |refused: Refused| {
        let (status, detail) = refused.into_parts();
        trouble(&frame, StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &detail)
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn look(pairs: &[(&str, &str)]) -> Look {
        let mut request = Request::builder().uri("/jobs?state=failed");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        Look::of(&request.body(Body::empty()).expect("a request"))
    }

    #[test]
    fn moments_are_told_in_the_zone_that_the_script_has_named() {
        let at: Timestamp = "2027-03-01T21:00:00Z".parse().expect("a moment");
        let told = |cookies: &str| {
            let frame = Frame { now: at, ..Frame::new(look(&[("cookie", cookies)]), None) };
            (frame.time(&at).0, frame.said("it opens at 2027-03-01T21:00:00Z"))
        };
        let expected =
            |clock: &str| (format!("<time datetime=\"2027-03-01T21:00:00Z\">{clock}</time>"), format!("it opens at {clock}"));
        assert_eq!(told("a=b; lull_zone=Europe%2FAmsterdam"), expected("22:00:00"));
        for other in ["", "lull_zone=", "lull_zone=Mars%2FBase", "lull_zone=%zz", "xlull_zone=Europe%2FAmsterdam"] {
            assert_eq!(told(other), expected("21:00:00"), "{other}");
        }
    }

    #[test]
    fn only_a_look_that_there_is_can_be_chosen() {
        assert_eq!(look(&[("cookie", "lull_theme=dark")]).theme, "dark");
        assert_eq!(look(&[("cookie", "lull_theme=\"><script>")]).theme, "");
        assert!(look(&[("lull-part", "1")]).part && !look(&[]).part);
    }
}
