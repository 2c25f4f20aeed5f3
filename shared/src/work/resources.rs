//! What a machine is and what of it is free.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{id::AgentId, state::PauseReason};

/// A machine's fixed facts and the names its administrator gave it, as constraints see them.
///
/// `os`, `arch`, `cores`, `memory` (bytes) and `name` are set by the agent; all others are the administrator's.
pub type Labels = BTreeMap<String, String>;

/// What an agent is: sent once per connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The operating system as `std::env::consts::OS` names it.
    pub os: String,
    /// The processor as `std::env::consts::ARCH` names it.
    pub arch: String,
    /// Logical processors.
    pub cores: u16,
    /// Physical memory, in bytes.
    pub memory_bytes: u64,
    /// Which compiled artifacts this agent's engine can load; equal strings are interchangeable.
    pub engine: String,
}

/// What an agent offers at this moment: soft state, true a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub agent: AgentId,
    /// [`crate::message::Instance::number`] of the run of the agent's program that says so: what an earlier one said, and
    /// gossip brings late, is ignored.
    pub run: u64,
    /// Counts up from 0 with each change in this run; an older one than known is ignored.
    pub sequence: u64,
    /// Attempts that may run at once.
    pub slots: u16,
    /// Attempts that run now.
    pub slots_busy: u16,
    /// Attempts received and not yet started.
    pub waiting: u32,
    /// The share of the machine's processors that others leave free, in percent.
    pub cpu_free_percent: u8,
    /// Memory that attempts may still take, in bytes.
    pub memory_free_bytes: u64,
    /// Why nothing runs here, when nothing may.
    pub paused: Option<PauseReason>,
}

impl Capacity {
    /// The same with words no longer than anybody takes.
    pub fn bounded(mut self) -> Self {
        self.paused = self.paused.map(PauseReason::bounded);
        self
    }
}

/// The hardware address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hardware address such as 00:1b:44:11:3a:b7")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let parse = |part| u8::from_str_radix(part, 16).ok().filter(|_| is_byte(part));
        let bytes: Option<Vec<u8>> = text.split(':').map(parse).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| ParseMacError(text.chars().take(64).collect()))
    }
}

/// An IPv4 subnet: a broadcast reaches all that are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The one that this address is in.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        Self { network: (u32::from(address) & !hosts(prefix)).into(), prefix }
    }

    /// The address of all that are in it.
    pub fn broadcast(&self) -> Ipv4Addr {
        (u32::from(self.network) | hosts(self.prefix)).into()
    }
}

/// The bits by which addresses of one subnet differ.
fn hosts(prefix: u8) -> u32 {
    u32::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// A network card and a subnet that it is in: an agent there can wake the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Card {
    pub mac: Mac,
    pub subnet: Subnet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_that_of_its_addresses_and_reaches_all_of_them() {
        let subnet = Subnet::of([192, 168, 17, 5].into(), 20);
        assert_eq!(subnet, Subnet::of([192, 168, 31, 200].into(), 20));
        assert_ne!(subnet, Subnet::of([192, 168, 32, 1].into(), 20));
        assert_eq!((subnet.to_string(), subnet.broadcast()), ("192.168.16.0/20".into(), [192, 168, 31, 255].into()));
        assert_eq!(Subnet::of([10, 0, 0, 1].into(), 200).broadcast(), Ipv4Addr::from([10, 0, 0, 1]), "nonsense harms nobody");
        assert_eq!(Subnet::of([10, 0, 0, 1].into(), 0).broadcast(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn hardware_addresses_are_read_as_they_are_written() {
        let mac = Mac([0, 0x1b, 0x44, 0x11, 0x3a, 0xb7]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert!(
            ["", "00:1b:44:11:3a", "00:1b:44:11:3a:b7:00", "0:1b:44:11:3a:b7", "00:1b:44:11:3a:+7"]
                .iter()
                .all(|text| text.parse::<Mac>().is_err())
        );
    }

    #[test]
    fn an_address_has_six_bytes_of_two_digits_each() {
        for text in ["00:1b:44:11:3a:b", "00:1b:44:11:3a:bb7", "00:1b:44:11:3a:+7", "00:1b:44:11:3a: 7", "00-1b-44-11-3a-b7"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert_eq!("FF:00:0a:A0:9f:01".parse(), Ok(Mac([0xff, 0, 0x0a, 0xa0, 0x9f, 1])));
    }

    #[test]
    fn the_words_of_a_capacity_are_cut_to_what_anybody_takes() {
        let reason = "x".repeat(crate::state::Trouble::REASON_BYTES_MAX + 1);
        let paused = PauseReason::Trouble(crate::state::Trouble { part: crate::state::Part::Cache, reason });
        let capacity = Capacity {
            agent: AgentId(1),
            run: 1,
            sequence: 1,
            slots: 1,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 1,
            paused: Some(paused),
        };
        let Some(PauseReason::Trouble(trouble)) = capacity.bounded().paused else { panic!("it is in trouble") };
        assert_eq!(trouble.reason.len(), crate::state::Trouble::REASON_BYTES_MAX);
    }
}
