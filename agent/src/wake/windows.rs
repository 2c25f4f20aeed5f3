//! A card's own address, by its place among the system's interfaces.

use if_addrs::Interface;
use lull_engine::windows::code;
use lull_shared::resources::Mac;
use windows_sys::Win32::NetworkManagement::IpHelper::{GetIfEntry2, MIB_IF_ROW2};

pub(super) fn mac_of(interface: &Interface) -> Option<Mac> {
    let mut row = MIB_IF_ROW2 { InterfaceIndex: interface.index?, ..MIB_IF_ROW2::default() };
    // SAFETY: the structure is whole, and names the interface.
    code(unsafe { GetIfEntry2(&mut row) }).ok()?;
    let (mac, _) = row.PhysicalAddress.split_first_chunk()?;
    // What has no address of its own has zeros.
    (row.PhysicalAddressLength == 6).then_some(Mac(*mac)).filter(|mac| *mac != Mac([0; 6]))
}
