//! Where people look at a network with a browser: an address that comes from elsewhere, and is opened on somebody's desktop.

/// Longer addresses are not opened: a name of a machine, a port and a path have some dozens of bytes.
pub const PORTAL_BYTES_MAX: usize = 512;

/// Whether a browser may be sent there: over HTTP or HTTPS, to a host, and without anything that a shell or a desktop would take
/// for more than an address.
pub fn is_portal(address: &str) -> bool {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let Some(rest) = rest.filter(|_| address.len() <= PORTAL_BYTES_MAX) else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]=%+,".contains(&byte);
    host.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[') && rest.bytes().all(plain)
}

/// Whether nobody but the machine itself reaches it.
pub fn is_loopback(address: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest).to_ascii_lowercase();
    host.starts_with("127.") || host.starts_with("[::1]") || host.starts_with("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_the_web_is_one() {
        for address in ["http://north:7411", "https://lull.example/", "https://[fd00::7]:7411", "http://10.0.0.7:7411/?a=b#c"] {
            assert!(is_portal(address), "{address}");
        }
        let long = format!("https://lull.example/{}", "x".repeat(PORTAL_BYTES_MAX));
        for address in [
            "file:///etc/passwd",
            "javascript:alert(1)",
            "ftp://lull.example",
            "HTTP://north",
            "http://",
            "http:///path",
            "http://-oProxy",
            "https://user@lull.example",
            "https://lull.example/$(id)",
            "https://lull.example/a b",
            "https://lull.example/;id",
            "https://lull.example/\u{202e}",
            "\\\\server\\share",
            &long,
        ] {
            assert!(!is_portal(address), "{address}");
        }
    }

    #[test]
    fn loopback_is_told_by_the_host() {
        assert!(is_loopback("http://127.0.0.1:7411") && is_loopback("http://[::1]:1") && is_loopback("https://LOCALHOST:1"));
        assert!(!is_loopback("http://10.0.0.7:1") && !is_loopback("https://lull.example"));
    }
}
