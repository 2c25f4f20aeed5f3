//! The files that pages name: embedded, with a part of their digest in their names, so that a browser never asks twice.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use lull_shared::digest::Digest;

use crate::http::door::error::Refused;

/// Digits of the digest in a name: enough that no two editions share one.
const DIGITS: usize = 12;

struct Asset {
    name: String,
    kind: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    fn new(stem: &str, ending: &str, kind: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Digest::of(bytes).to_string();
        let digits: String = digest.trim_start_matches("b3:").chars().take(DIGITS).collect();
        Self { name: format!("{stem}-{digits}.{ending}"), kind, bytes }
    }

    fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("lull", "css", "text/css; charset=utf-8", include_bytes!("assets/lull.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("lull", "js", "text/javascript; charset=utf-8", include_bytes!("assets/lull.js")));
static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("lull", "svg", "image/svg+xml", include_bytes!("assets/lull.svg")));

/// Where the style sheet is.
pub(super) fn style() -> String {
    STYLE.path()
}

/// Where the script is.
pub(super) fn script() -> String {
    SCRIPT.path()
}

/// Where the icon is.
pub(super) fn icon() -> String {
    ICON.path()
}

/// `GET /assets/{name}`
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.name == name) else {
        let hint = "load the page again: it names those of this version";
        return Refused::not_found("there is no such file of the portal", hint).into_response();
    };
    let mut response = asset.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes over the wire is below the bound even before it is compressed.
    const BYTES_MAX: usize = 40 * 1024;

    #[test]
    fn each_file_is_small_and_its_name_tells_its_contents() {
        for asset in [&*STYLE, &*SCRIPT, &*ICON] {
            assert!(asset.bytes.len() < BYTES_MAX, "{} has {} bytes", asset.name, asset.bytes.len());
            assert!(!asset.bytes.is_empty() && asset.name.starts_with("lull-"), "{}", asset.name);
        }
        assert_ne!(Asset::new("a", "js", "", b"1").name, Asset::new("a", "js", "", b"2").name);
    }
}
