//! The names that this server goes by. A page of somebody else's whose name is made to lead here (DNS rebinding) is told
//! apart by the name in its requests, and a form of another site by where it says that it comes from.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, Uri, header};

use crate::http::door::{
    auth, cookie,
    error::{Answer, Refused},
};

/// Names and addresses that requests may be for.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// This machine's own name, and these besides; of a URL its host counts.
    pub fn new(machine: &str, more: impl IntoIterator<Item = String>) -> Self {
        let own = [machine.to_owned()];
        let names = own.into_iter().chain(more).filter_map(|name| {
            let authority = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
            let host = host_of(authority.split('/').next().unwrap_or_default());
            (!host.is_empty()).then(|| host.to_ascii_lowercase())
        });
        Self { names: names.collect() }
    }

    /// All of them, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Refuses a request that is for another host than this one, or that another site's page makes.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap, local: Option<SocketAddr>) -> Answer<()> {
        let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text(headers, header::HOST.as_str()));
        let Some(host) = host else {
            return Err(Refused::misdirected("the request names no host", "send the header Host, as HTTP/1.1 demands"));
        };
        if !self.knows(host_of(host), local) {
            let message = format!("this server does not go by the name `{}`", printable(host_of(host)));
            let hint = "use an address or name that it is known by, or start it with `lull server run --http-host NAME`";
            return Err(Refused::misdirected(message, hint));
        }
        match origin(headers, host) {
            _ if method.is_safe() => Ok(()),
            Origin::Own => Ok(()),
            // Programs say nothing, and show a token that no browser adds by itself as it adds a cookie.
            Origin::Unsaid if auth::bearer(headers).is_some() || !cookie::has_any(headers) => Ok(()),
            Origin::Unsaid => Err(Refused::without_origin()),
            Origin::Foreign => Err(Refused::cross_site()),
        }
    }

    fn knows(&self, host: &str, local: Option<SocketAddr>) -> bool {
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let ip = ip.to_canonical();
            // The address at which the request arrived is ours, whichever of our interfaces has it.
            let arrived = local.is_some_and(|local| local.ip().to_canonical() == ip);
            return ip.is_loopback()
                || arrived
                || self.names.iter().any(|name| name.parse::<IpAddr>().is_ok_and(|name| name == ip));
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        host == "localhost" || self.names.contains(&host)
    }
}

/// Whose page made a request, as far as a browser says it.
enum Origin {
    Own,
    Foreign,
    Unsaid,
}

fn origin(headers: &HeaderMap, host: &str) -> Origin {
    let own = match (text(headers, "sec-fetch-site"), text(headers, header::ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)),
        (None, None) => return Origin::Unsaid,
    };
    if own { Origin::Own } else { Origin::Foreign }
}

/// A header as text; one that is given more than once, or is no text, matches nothing.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some("");
    }
    Some(first.to_str().unwrap_or(""))
}

/// An authority without its port.
fn host_of(authority: &str) -> &str {
    let after_ip6 = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_ip6..].find(':') {
        Some(at) => &authority[..after_ip6 + at],
        None => authority,
    }
}

fn printable(host: &str) -> String {
    host.chars().filter(char::is_ascii_graphic).take(lull_shared::limits::NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new("desk-7", ["lull.example.org".to_owned(), "https://proxy.example.org:8443/lull".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header"));
        }
        headers
    }

    fn status(method: Method, pairs: &[(&'static str, &str)]) -> u16 {
        let local = Some("10.0.0.7:7411".parse().expect("an address"));
        let uri = Uri::from_static("/api/v1/jobs");
        hosts().check(&method, &uri, &headers(pairs), local).map_or_else(|refused| refused.into_parts().0, |()| 200)
    }

    #[test]
    fn a_request_for_one_of_our_names_is_taken() {
        for host in [
            "localhost:7411",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1:7411",
            "127.0.0.9",
            "[::1]:7411",
            "10.0.0.7:7411",
            "desk-7",
            "Desk-7:7411",
            "lull.example.org",
            "proxy.example.org:8443",
        ] {
            assert_eq!(status(Method::GET, &[("host", host)]), 200, "{host}");
        }
    }

    #[test]
    fn a_request_for_another_name_is_misdirected_whatever_address_it_leads_to() {
        for host in
            ["evil.example", "localhost.evil.example", "desk-7.evil.example", "10.0.0.8", "", "[::2]", "127.0.0.1.evil.example"]
        {
            assert_eq!(status(Method::GET, &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status(Method::GET, &[]), 421);
        assert_eq!(status(Method::GET, &[("host", "localhost"), ("host", "evil.example")]), 421, "it is not clear for whom");
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let with = |pair| [("host", "localhost:7411"), pair];
        for pair in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:7412"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(status(Method::POST, &with(pair)), 403, "{pair:?}");
            assert_eq!(status(Method::GET, &with(pair)), 200, "{pair:?}: it changes nothing, and the page cannot read it");
        }
        for pair in [("origin", "http://localhost:7411"), ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")] {
            assert_eq!(status(Method::POST, &with(pair)), 200, "{pair:?}");
        }
        assert_eq!(status(Method::DELETE, &[("host", "localhost:7411")]), 200, "a program says nothing of it");
    }

    #[test]
    fn whoever_asks_by_a_cookie_says_where_he_comes_from() {
        let (host, cookie) = (("host", "localhost:7411"), ("cookie", "__Host-lull-0a0b0c0d=x"));
        assert_eq!(status(Method::POST, &[host, cookie]), 403);
        assert_eq!(status(Method::GET, &[host, cookie]), 200);
        assert_eq!(status(Method::POST, &[host, cookie, ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(status(Method::POST, &[host, cookie, ("origin", "http://localhost:7411")]), 200);
        assert_eq!(status(Method::POST, &[host, cookie, ("sec-fetch-site", "same-site")]), 403);
        assert_eq!(status(Method::POST, &[host, cookie, ("authorization", "Bearer x")]), 200, "the token counts");
        assert_eq!(status(Method::POST, &[host, cookie, ("authorization", "Basic x")]), 403, "browsers add that by themselves");
        assert_eq!(status(Method::POST, &[host, ("cookie", "other=x")]), 200);
    }
}
