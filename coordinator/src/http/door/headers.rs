//! What every answer says to browsers: what its page may do, that nobody keeps it, and that it is what it says it is.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// A page has its own scripts, styles and pictures, asks only here, and is in no other's frame.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// What somebody's function wrote is no page, whatever is in it.
pub(crate) const DOWNLOAD_POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";
/// Browsers ask by HTTPS only for this long after they last did: a year.
const HTTPS_ONLY: &str = "max-age=31536000";

/// What is said unless the answer says something else itself.
const USUAL: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Puts them into an answer. `https_only`: browsers believe this server's certificate, and need not ask it in plain any more.
pub(crate) fn dress(response: &mut Response, https_only: bool) {
    let headers = response.headers_mut();
    for (name, value) in USUAL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if https_only {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HTTPS_ONLY));
    }
}

/// Makes an answer a file to be kept, which no browser shows as a page.
pub(crate) fn download(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOWNLOAD_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::IntoResponse as _};

    use super::*;

    #[test]
    fn an_answer_keeps_what_it_says_itself_and_gets_the_rest() {
        let mut response = Body::empty().into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        dress(&mut response, false);
        let said = |name: HeaderName| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(said(header::CACHE_CONTROL).as_deref(), Some("max-age=1"));
        assert_eq!(said(header::CONTENT_SECURITY_POLICY).as_deref(), Some(POLICY));
        assert_eq!(said(header::STRICT_TRANSPORT_SECURITY), None);
        dress(&mut response, true);
        assert!(response.headers().contains_key(header::STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn a_download_stays_one() {
        let mut response = "<script>".into_response();
        download(&mut response);
        dress(&mut response, false);
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], DOWNLOAD_POLICY);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/octet-stream");
        assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "attachment");
    }
}
