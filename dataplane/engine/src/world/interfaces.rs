//! Logical interfaces and the box's own addresses.

use std::net::IpAddr;

use sluice_wire::MacAddr;

use crate::ids::{InterfaceId, PortId};

/// Reverse path filter (RFC 3704).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RpFilter {
    /// None.
    #[default]
    Off,
    /// The source must be reachable by some interface.
    Loose,
    /// The source must be reachable by the interface that the packet came in by.
    Strict,
}

/// A logical interface: a port, or a VLAN on one.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name in `sluice.yaml`.
    pub name: String,
    /// The device.
    pub port: PortId,
    /// 802.1Q tag, 1 to 4094; None: untagged.
    pub vlan: Option<u16>,
    /// The router's MAC address here.
    pub mac: MacAddr,
    /// Largest IP datagram in bytes.
    pub mtu: u16,
    /// The router's addresses with the length of their prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Reverse path filter.
    pub rp_filter: RpFilter,
}

/// All interfaces by [`InterfaceId`], and the look-ups that packets need.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    list: Vec<Interface>,
}

impl Interfaces {
    /// Indexes the interfaces; an interface's id is its place in `list`.
    pub fn new(list: Vec<Interface>) -> Interfaces {
        Interfaces { list }
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceId, &Interface)> {
        self.list.iter().enumerate().map(|(i, x)| (InterfaceId(u16::try_from(i).unwrap_or(u16::MAX)), x))
    }

    /// One by id.
    pub fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.list.get(usize::from(id.0))
    }
}
