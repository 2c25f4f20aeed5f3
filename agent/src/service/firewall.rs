//! The rule of the firewall: others may connect to where a service of ours listens, and to nothing else of this machine.
//!
//! What the rule says is decided here; who carries it out is the system's own program.
#![cfg_attr(not(windows), allow(dead_code))]

use std::{collections::BTreeSet, path::Path};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    Tcp(u16),
    Udp(u16),
}

/// The ports that stay. One that the system chooses anew at each start has no rule: the agent only dials out then.
pub(crate) fn doors(listen: &[Multiaddr]) -> BTreeSet<Door> {
    let door = |part| match part {
        Protocol::Tcp(port) if port > 0 => Some(Door::Tcp(port)),
        Protocol::Udp(port) if port > 0 => Some(Door::Udp(port)),
        _ => None,
    };
    listen.iter().flat_map(|address| address.iter().filter_map(door)).collect()
}

/// What is said to `netsh` to open one, for this program only, and not in networks that the machine calls public.
pub(crate) fn opened(rule: &str, door: Door, program: &Path) -> Vec<String> {
    let (protocol, port) = match door {
        Door::Tcp(port) => ("TCP", port),
        Door::Udp(port) => ("UDP", port),
    };
    let words = ["advfirewall", "firewall", "add", "rule"].map(str::to_owned);
    let settings = [
        format!("name={rule}"),
        "dir=in".to_owned(),
        "action=allow".to_owned(),
        format!("program={}", program.display()),
        format!("protocol={protocol}"),
        format!("localport={port}"),
        "profile=domain,private".to_owned(),
        "description=Other machines of the Lull network connect to this one.".to_owned(),
    ];
    words.into_iter().chain(settings).collect()
}

/// What is said to remove all of a name.
pub(crate) fn closed(rule: &str) -> Vec<String> {
    ["advfirewall", "firewall", "delete", "rule", &format!("name={rule}")].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addresses: &[&str]) -> Vec<Door> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        doors(&addresses).into_iter().collect()
    }

    #[test]
    fn a_door_is_opened_for_each_port_that_stays_and_for_no_other() {
        let both = ["/ip4/0.0.0.0/tcp/7412", "/ip6/::/tcp/7412", "/ip4/0.0.0.0/udp/7412/quic-v1"];
        assert_eq!(of(&both), [Door::Tcp(7412), Door::Udp(7412)]);
        assert_eq!(of(&["/ip4/0.0.0.0/tcp/0"]), []);
    }

    #[test]
    fn a_rule_is_for_one_program_at_one_port() {
        let said = opened("Lull Agent", Door::Tcp(7412), Path::new(r"C:\Program Files\Lull\Agent\lull-agent.exe"));
        for part in ["localport=7412", "protocol=TCP", r"program=C:\Program Files\Lull\Agent\lull-agent.exe", "dir=in"] {
            assert!(said.iter().any(|word| word == part), "{part}: {said:?}");
        }
        assert_eq!(closed("Lull Agent").last().map(String::as_str), Some("name=Lull Agent"));
    }
}
