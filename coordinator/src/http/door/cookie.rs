//! The cookie of a session: how it is called, what is read of a request's, and how it is set and taken back.
//!
//! Browsers keep cookies by host and not by port, so its name carries the network's: two coordinators on one machine do not
//! sign each other's people out. Over HTTPS the name begins with a prefix that browsers let no other site and no plain
//! connection set.

use axum::http::{HeaderMap, HeaderValue, header};
use data_encoding::BASE64URL_NOPAD;
use lull_shared::{digest::Digest, identity::NetworkId};

use crate::http::door::failures::Source;

/// What every session's cookie is called, behind a prefix and before the network.
const NAME: &str = "lull-";
/// Names that only a secure connection can set; the first also for no path but the whole host.
const PREFIXES: [&str; 2] = ["__Host-", "__Secure-"];
/// Of a network's name: enough to tell those of one machine apart.
const NETWORK_CHARACTERS: usize = 8;

/// A session's secret, which only its browser holds.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// What is kept of it.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        *Digest::of(&self.0).as_bytes()
    }
}

/// How the cookies of an interface are made.
#[derive(Debug, Clone)]
pub(crate) struct Cookies {
    network: String,
    /// The path under which the interface is, without a slash at its end; empty at the root.
    base: String,
}

impl Cookies {
    /// Those of a network's interface below this path.
    pub(crate) fn new(network: NetworkId, base: &str) -> Self {
        let network = network.to_string().chars().take(NETWORK_CHARACTERS).collect();
        Self { network, base: base.to_owned() }
    }

    fn name(&self, secure: bool) -> String {
        let prefix = match (secure, self.base.is_empty()) {
            (false, _) => "",
            (true, true) => PREFIXES[0],
            (true, false) => PREFIXES[1],
        };
        format!("{prefix}{NAME}{}", self.network)
    }

    fn path(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }

    /// What is to be looked up for the session of a request that came so; none if it brings no cookie of ours.
    pub(crate) fn fingerprint(&self, headers: &HeaderMap, secure: bool) -> Option<[u8; 32]> {
        let name = self.name(secure);
        let mut ours = pairs(headers).filter(|(called, _)| *called == name);
        let (_, text) = ours.next()?;
        // Whoever could set another one beside it may not choose which counts.
        if ours.next().is_some() {
            return None;
        }
        let secret = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
        Some(Secret(secret).fingerprint())
    }

    /// The header that gives a browser its session.
    pub(crate) fn set(&self, secret: &Secret, secure: bool) -> HeaderValue {
        self.header(&BASE64URL_NOPAD.encode(&secret.0), secure, "")
    }

    /// The header that takes it back.
    pub(crate) fn clear(&self, secure: bool) -> HeaderValue {
        self.header("", secure, "; Max-Age=0")
    }

    fn header(&self, value: &str, secure: bool, more: &str) -> HeaderValue {
        let flag = if secure { "; Secure" } else { "" };
        let text = format!("{}={value}; Path={}; HttpOnly; SameSite=Lax{flag}{more}", self.name(secure), self.path());
        HeaderValue::from_str(&text).expect("a name of hexadecimal digits and a path that was checked")
    }
}

/// Whether a request came over a connection that others cannot read: ours, or that of a proxy before us. What a caller says
/// of it concerns nobody's cookie but his own.
pub(crate) fn is_secure(source: Option<Source>, headers: &HeaderMap) -> bool {
    let forwarded = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    source.is_some_and(|source| source.secure) || forwarded.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

/// Whether a request brings any session's cookie, of whichever network: whatever made it may be a browser.
pub(crate) fn has_any(headers: &HeaderMap) -> bool {
    let bare = |name: &'_ str| PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).starts_with(NAME);
    pairs(headers).any(|(name, _)| bare(name))
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(base: &str) -> Cookies {
        Cookies::new(NetworkId([0xab; 16]), base)
    }

    fn sent(text: &str) -> HeaderMap {
        [(header::COOKIE, text.parse().expect("a header"))].into_iter().collect()
    }

    #[test]
    fn a_cookie_is_bound_to_the_host_where_the_connection_allows_it() {
        let set = |base, secure| {
            let text = cookies(base).set(&Secret([7; 32]), secure).to_str().expect("text").to_owned();
            let (name, rest) = text.split_once('=').expect("a value");
            (name.to_owned(), rest.split_once("; ").expect("attributes").1.to_owned())
        };
        assert_eq!(set("", false), ("lull-abababab".into(), "Path=/; HttpOnly; SameSite=Lax".into()));
        assert_eq!(set("", true), ("__Host-lull-abababab".into(), "Path=/; HttpOnly; SameSite=Lax; Secure".into()));
        assert_eq!(set("/lull", true), ("__Secure-lull-abababab".into(), "Path=/lull; HttpOnly; SameSite=Lax; Secure".into()));
        assert!(cookies("").clear(true).to_str().expect("text").ends_with("; Max-Age=0"));
    }

    #[test]
    fn only_the_one_cookie_of_this_network_and_this_kind_of_connection_counts() {
        let (ours, secret) = (cookies(""), Secret([7; 32]));
        let text = BASE64URL_NOPAD.encode(&[7; 32]);
        let looked = |text: &str, secure| ours.fingerprint(&sent(text), secure);
        let found = Some(secret.fingerprint());
        assert_eq!(looked(&format!("a=b; lull-abababab={text}; c=d"), false), found);
        assert_eq!(looked(&format!("__Host-lull-abababab={text}"), true), found);
        for (other, secure) in [
            (format!("lull-abababab={text}"), true),
            (format!("__Host-lull-abababab={text}"), false),
            (format!("lull-cdcdcdcd={text}"), false),
            (format!("lull-abababab={text}; lull-abababab={text}"), false),
            (format!("lull-abababab={text}x"), false),
            ("lull-abababab=".to_owned(), false),
        ] {
            assert_eq!(looked(&other, secure), None, "{other}");
        }
    }

    #[test]
    fn a_cookie_of_any_network_tells_of_a_browser() {
        for text in ["lull-00000000=x", "a=b; __Host-lull-1=x", "__Secure-lull-="] {
            assert!(has_any(&sent(text)), "{text}");
        }
        for text in ["lull=x", "a=lull-1", "x__Host-lull-1=x", ""] {
            assert!(!has_any(&sent(text)), "{text}");
        }
    }

    #[test]
    fn a_connection_is_secure_by_itself_or_by_the_word_of_a_proxy() {
        let source = |secure| Some(Source { ip: [127, 0, 0, 1].into(), secure });
        let forwarded =
            |proto: &str| [("x-forwarded-proto".parse().expect("a name"), proto.parse().expect("a value"))].into_iter();
        assert!(is_secure(source(true), &HeaderMap::new()) && !is_secure(source(false), &HeaderMap::new()));
        assert!(is_secure(None, &forwarded("https").collect()) && !is_secure(None, &forwarded("http").collect()));
    }
}
