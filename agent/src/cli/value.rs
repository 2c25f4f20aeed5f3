//! Values of command lines and settings that have no type of their own: addresses and what is logged.

use std::net::SocketAddr;

use libp2p::{Multiaddr, multiaddr::Protocol};
use lull_shared::amount::quoted;
use tracing_subscriber::EnvFilter;

/// Where a member of the mesh can be reached: `/ip4/203.0.113.5/tcp/7410`, `/dns4/lull.example/udp/7410/quic-v1`.
pub fn address(text: &str) -> Result<Multiaddr, String> {
    let wrong = || {
        format!(
            "{} is not an address of the mesh\nhint: write it like /ip4/203.0.113.5/tcp/7410 or \
             /ip4/203.0.113.5/udp/7410/quic-v1",
            quoted(text)
        )
    };
    let address: Multiaddr = text.parse().map_err(|_| wrong())?;
    let mut parts = address.iter();
    let host = parts.next();
    let is_host =
        matches!(host, Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)));
    let is_way = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    let is_end = matches!((parts.next(), parts.next()), (None, _) | (Some(Protocol::P2p(_)), None));
    if is_host && is_way && is_end { Ok(address) } else { Err(wrong()) }
}

/// Where this machine accepts members of the mesh: an address of its own, as a number.
pub fn listen_address(text: &str) -> Result<Multiaddr, String> {
    let wrong = || {
        format!(
            "{} is not an address to listen at\nhint: write it like /ip4/0.0.0.0/tcp/7410 or /ip4/0.0.0.0/udp/7410/quic-v1; 0.0.0.0 is \
             every address of this machine, and port 0 any free one",
            quoted(text)
        )
    };
    let address = address(text).map_err(|_| wrong())?;
    let own = matches!(address.iter().next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let plain = !address.iter().any(|part| matches!(part, Protocol::P2p(_)));
    if own && plain { Ok(address) } else { Err(wrong()) }
}

/// Where this machine listens for HTTP: `127.0.0.1:7411`.
pub fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is not an address and a port\nhint: write the address as a number, like 127.0.0.1:7411 for this machine alone or \
             0.0.0.0:7411 for every machine that reaches it",
            quoted(text)
        )
    })
}

/// What is logged: a level, or levels by module, with commas between them.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let wrong = || {
        format!(
            "{} does not say what is logged\nhint: write error, warn, info, debug, trace or off, also by module: \
             info,lull_agent=debug",
            quoted(text)
        )
    };
    let is_level = |word: &str| word.eq_ignore_ascii_case("off") || word.parse::<tracing::Level>().is_ok();
    // A word alone that is not a level would be taken for a module of which everything is logged.
    let said = text.split(',').map(str::trim).all(|part| part.contains(['=', '[']) || is_level(part));
    if text.trim().is_empty() || !said {
        return Err(wrong());
    }
    EnvFilter::try_new(text).map_err(|_| wrong())
}

/// A text that [`log_filter`] takes, as it is.
pub fn log_text(text: &str) -> Result<String, String> {
    log_filter(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_the_mesh_speaks() {
        for text in ["/ip4/0.0.0.0/tcp/7410", "/ip6/::/udp/7410/quic-v1", "/ip4/127.0.0.1/tcp/0"] {
            assert!(address(text).is_ok() && listen_address(text).is_ok(), "{text}");
        }
        assert!(address("/dns4/lull.example/tcp/7410").is_ok());
        for text in ["", "x", "127.0.0.1:7410", "/ip4/0.0.0.0", "/ip4/0.0.0.0/udp/7410", "/ip4/0.0.0.0/tcp/7410/ws", "/tcp/7410"]
        {
            assert!(address(text).is_err_and(|words| words.contains("\nhint: write it like /ip4/")), "{text}");
        }
        for text in ["/dns4/lull.example/tcp/7410", "/ip4/0.0.0.0/tcp/99999"] {
            assert!(listen_address(text).is_err_and(|words| words.contains("\nhint: write it like /ip4/0.0.0.0")), "{text}");
        }
        assert!(socket("127.0.0.1:7411").is_ok() && socket("localhost:7411").is_err() && socket("7411").is_err());
    }

    #[test]
    fn what_is_logged_is_said_by_levels() {
        for text in ["info", "OFF", "warn,lull_agent=debug", "info,libp2p_swarm=warn"] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        for text in ["", " ", "verbose", "info,", "lull_agent=loud"] {
            assert!(log_filter(text).is_err(), "{text}");
        }
    }
}
