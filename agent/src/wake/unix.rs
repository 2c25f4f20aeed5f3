//! A card's own address, by the name that Linux gives it; nowhere else is it told.

use if_addrs::Interface;
use lull_shared::resources::Mac;

pub(super) fn mac_of(interface: &Interface) -> Option<Mac> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{}/address", interface.name)).ok()?;
    // What has no address of its own has zeros.
    text.trim().parse().ok().filter(|mac| *mac != Mac([0; 6]))
}
