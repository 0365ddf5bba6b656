//! Receive offloads of a device that AF_PACKET or AF_XDP reads: off, or super-frames arrive and VLAN tags are gone.
//!
//! By ethtool's netlink interface, which names features as `ethtool -k` does.
//!
//! Source: Linux Documentation/networking/ethtool-netlink.rst, "FEATURES_GET", "FEATURES_SET".

use std::io;

use netlink_packet_core::DefaultNla;
use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::{Netlink, Raw, decode, nested, text};

/// What must be off, by the kernel's names.
const UNWANTED: [&str; 5] = ["rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "rx-vlan-hw-parse"];

const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEVICE: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// ethtool's netlink interface.
pub(super) struct Offload {
    netlink: Netlink,
    family: u16,
}

impl Offload {
    /// Finds ethtool's family.
    ///
    /// # Errors
    /// The kernel has none (before 5.6).
    pub(super) fn open() -> io::Result<Offload> {
        let mut netlink = Netlink::open(NETLINK_GENERIC)?;
        let ask = Raw::new(CONTROLLER, [GET_FAMILY, 1, 0, 0], &[text(FAMILY_NAME, "ethtool")]);
        let answers = netlink.request(ask, 0)?;
        let id = answers.iter().flat_map(Raw::attributes).find(|(kind, _)| *kind == FAMILY_ID);
        let family = id.and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)));
        let family = family.ok_or_else(|| io::Error::other("ethtool's netlink family has no id"))?;
        Ok(Offload { netlink, family })
    }

    /// Those of the unwanted features that are on.
    ///
    /// # Errors
    /// No such device.
    pub(super) fn unwanted(&mut self, device: &str) -> io::Result<Vec<String>> {
        let ask = Raw::new(self.family, [FEATURES_GET, 1, 0, 0], &[header(device)]);
        let answers = self.netlink.request(ask, 0)?;
        let active = answers.iter().flat_map(Raw::attributes).find(|(kind, _)| *kind == FEATURES_ACTIVE);
        let names = active.map(|(_, bitset)| set_bits(bitset)).unwrap_or_default();
        Ok(names.into_iter().filter(|name| UNWANTED.contains(&name.as_str())).collect())
    }

    /// Turns `features` of `device` on or off.
    ///
    /// # Errors
    /// No such device or feature.
    pub(super) fn set(&mut self, device: &str, features: &[String], on: bool) -> io::Result<()> {
        if features.is_empty() {
            return Ok(());
        }
        let bits: Vec<DefaultNla> = features.iter().map(|name| bit(name, on)).collect();
        let wanted = nested(FEATURES_WANTED, &[nested(BITSET_BITS, &bits)]);
        let order = Raw::new(self.family, [FEATURES_SET, 1, 0, 0], &[header(device), wanted]);
        self.netlink.request(order, 0).map(drop)
    }
}

fn header(device: &str) -> DefaultNla {
    nested(FEATURES_HEADER, &[text(HEADER_DEVICE, device)])
}

fn bit(name: &str, on: bool) -> DefaultNla {
    let mut attributes = vec![text(BIT_NAME, name)];
    if on {
        attributes.push(DefaultNla::new(BIT_VALUE, Vec::new()));
    }
    nested(BITS_BIT, &attributes)
}

/// Names of a bitset that lists only bits that are set ("no mask").
fn set_bits(bitset: &[u8]) -> Vec<String> {
    let lists = decode(bitset).into_iter().filter(|(kind, _)| *kind == BITSET_BITS);
    let bits = lists.flat_map(|(_, list)| decode(list)).filter(|(kind, _)| *kind == BITS_BIT);
    let names = bits.flat_map(|(_, bit)| decode(bit)).filter(|(kind, _)| *kind == BIT_NAME);
    names.map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect()
}
