//! Logical interfaces and the box's own addresses: whose frame is this, and what kind of address is that?
//!
//! Kinds are iptables' addrtype: local, broadcast, multicast, and routed for all else. The lowest address of
//! an IPv4 subnet is an ordinary one, as on Linux since 5.14. Addresses of IPv6 link scope that the kernel
//! derives from a MAC are known here too, since neighbours speak to them.
//!
//! Source: `net/ipv4/fib_frontend.c` (`fib_add_ifaddr`), RFC 4291 sections 2.5.6, 2.7.1 and appendix A.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::{MacAddr, solicited_node};

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
    /// Whether the addresses are given by programs on the box: what tells those of addresses goes to them
    /// (`stage::lease`).
    pub kernel_addresses: bool,
    /// Multicast groups that the box's own programs joined here, beside those that every router is in.
    pub groups: Vec<IpAddr>,
    /// Reverse path filter.
    pub rp_filter: RpFilter,
}

impl Interface {
    /// The IPv6 address of link scope that the kernel gives the tap beside this interface.
    pub fn link_local(&self) -> Ipv6Addr {
        link_local(self.mac)
    }

    /// Whether a multicast packet to `group` is for the box: all hosts, all routers, solicited nodes of its own
    /// addresses, and the groups joined by programs.
    pub fn listens_to(&self, group: IpAddr) -> bool {
        let always = match group {
            IpAddr::V4(v4) => v4 == ALL_HOSTS_V4,
            IpAddr::V6(v6) => {
                v6 == ALL_NODES_V6
                    || v6 == ALL_ROUTERS_V6
                    || v6 == solicited_node(self.link_local())
                    || self
                        .addresses
                        .iter()
                        .any(|(own, _)| matches!(own, IpAddr::V6(own) if solicited_node(*own) == v6))
            }
        };
        always || self.groups.contains(&group)
    }

    /// Whether `address` lies in a prefix of this interface; every address of IPv6 link scope does.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => true,
            _ => self
                .addresses
                .iter()
                .any(|&(own, len)| common_bits(own, address).is_some_and(|bits| bits >= len)),
        }
    }
}

/// `224.0.0.1`, RFC 1112 section 4.
const ALL_HOSTS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// `ff02::1`, RFC 4291 section 2.7.1.
const ALL_NODES_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// `ff02::2`, RFC 4291 section 2.7.1.
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The address of link scope with the modified EUI-64 of a MAC. Source: RFC 4291 appendix A.
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// What an address is to this router (iptables' addrtype).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// One of the router's own, loopback included.
    Local,
    /// `255.255.255.255`, or the broadcast address of a prefix on one of its interfaces.
    Broadcast,
    /// A multicast group.
    Multicast,
    /// None of these.
    Routed,
}

/// All interfaces by [`InterfaceId`], and the look-ups that packets need.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    list: Vec<Interface>,
    ports: Vec<PortInterfaces>,
    v4: OwnAddresses<u32>,
    v6: OwnAddresses<u128>,
}

/// The interfaces of one port.
#[derive(Clone, Debug, Default)]
struct PortInterfaces {
    untagged: Option<InterfaceId>,
    /// Sorted by tag.
    tagged: Vec<(u16, InterfaceId)>,
}

impl Interfaces {
    /// Indexes the interfaces; an interface's id is its place in `list`.
    pub fn new(list: Vec<Interface>) -> Interfaces {
        let mut ports: Vec<PortInterfaces> = Vec::new();
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for (place, interface) in list.iter().enumerate() {
            let id = InterfaceId(u16::try_from(place).unwrap_or(u16::MAX));
            let port = usize::from(interface.port.0);
            if ports.len() <= port {
                ports.resize_with(port + 1, PortInterfaces::default);
            }
            if let Some(port) = ports.get_mut(port) {
                match interface.vlan {
                    None => port.untagged = Some(id),
                    Some(tag) => port.tagged.push((tag, id)),
                }
            }
            v6.push((u128::from(interface.link_local()), AddressKind::Local));
            for &(address, len) in &interface.addresses {
                match address {
                    IpAddr::V4(own) => {
                        v4.push((u32::from(own), AddressKind::Local));
                        v4.extend(broadcast(own, len).map(|b| (u32::from(b), AddressKind::Broadcast)));
                    }
                    IpAddr::V6(own) => v6.push((u128::from(own), AddressKind::Local)),
                }
            }
        }
        for port in &mut ports {
            port.tagged.sort_unstable();
        }
        Interfaces { list, ports, v4: OwnAddresses::new(v4), v6: OwnAddresses::new(v6) }
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceId, &Interface)> {
        self.list.iter().enumerate().map(|(i, x)| (InterfaceId(u16::try_from(i).unwrap_or(u16::MAX)), x))
    }

    /// One by id.
    #[inline]
    pub fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.list.get(usize::from(id.0))
    }

    /// Whether any address of `before` is none of these any more.
    pub fn lack_any_of(&self, before: &Interfaces) -> bool {
        let addresses = before.list.iter().flat_map(|interface| &interface.addresses);
        addresses.into_iter().any(|&(address, _)| self.kind(address) != AddressKind::Local)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The interface that a frame with this VLAN tag belongs to.
    #[inline]
    pub fn of_port(&self, port: PortId, vlan: Option<u16>) -> Option<InterfaceId> {
        let port = self.ports.get(usize::from(port.0))?;
        match vlan {
            None => port.untagged,
            Some(tag) => {
                let place = port.tagged.binary_search_by_key(&tag, |&(tag, _)| tag).ok()?;
                port.tagged.get(place).map(|&(_, id)| id)
            }
        }
    }

    /// The first interface of a port, tagged or not: whose counters get what belongs to none of them.
    #[inline]
    pub fn any_of_port(&self, port: PortId) -> Option<InterfaceId> {
        let port = self.ports.get(usize::from(port.0))?;
        port.untagged.or_else(|| port.tagged.first().map(|&(_, id)| id))
    }

    /// What an address is to this router.
    #[inline]
    pub fn kind(&self, address: IpAddr) -> AddressKind {
        match address {
            IpAddr::V4(v4) => self.kind_v4(v4),
            IpAddr::V6(v6) => self.kind_v6(v6),
        }
    }

    /// What an IPv4 address is to this router.
    #[inline]
    pub fn kind_v4(&self, address: Ipv4Addr) -> AddressKind {
        match address.octets()[0] {
            127 => AddressKind::Local,
            224..=239 => AddressKind::Multicast,
            _ if address.is_broadcast() => AddressKind::Broadcast,
            _ => self.v4.get(u32::from(address)),
        }
    }

    /// Whether an IPv4 address, which is [ordinary](sluice_wire::PlainAddress::is_ordinary), is this router's own.
    #[inline(always)]
    pub fn own_v4(&self, address: u32) -> bool {
        self.v4.get(address) == AddressKind::Local
    }

    /// What an IPv6 address is to this router.
    #[inline]
    pub fn kind_v6(&self, address: Ipv6Addr) -> AddressKind {
        match address.octets()[0] {
            0xff => AddressKind::Multicast,
            0 if address.is_loopback() => AddressKind::Local,
            _ => self.v6.get(u128::from(address)),
        }
    }

    /// The address that the router speaks from when it sends to `destination` by `interface`: one in the same
    /// prefix, else one of that interface, else any of its own of that family.
    /// Source: RFC 1122 section 3.3.4.3, RFC 6724 section 5 rule 8; observed on Linux (`inet_select_addr`).
    pub fn source_for(&self, interface: InterfaceId, destination: IpAddr) -> Option<IpAddr> {
        let here = self.get(interface)?;
        if let IpAddr::V6(v6) = destination
            && (v6.is_unicast_link_local() || v6.octets().starts_with(&[0xff, 2]))
        {
            return Some(IpAddr::V6(here.link_local()));
        }
        closest(here, destination).or_else(|| self.list.iter().find_map(|other| closest(other, destination)))
    }
}

/// The address of `interface` that shares most bits with `destination` (IPv6), or the one whose prefix holds it
/// (IPv4), else its first.
fn closest(interface: &Interface, destination: IpAddr) -> Option<IpAddr> {
    let mut best: Option<(u8, IpAddr)> = None;
    for &(own, len) in &interface.addresses {
        let Some(bits) = common_bits(own, destination) else { continue };
        let rank = match destination {
            IpAddr::V4(_) => u8::from(bits >= len),
            IpAddr::V6(_) => bits,
        };
        if best.is_none_or(|(most, _)| rank > most) {
            best = Some((rank, own));
        }
    }
    best.map(|(_, own)| own)
}

/// How many leading bits two addresses share; None if their families differ.
fn common_bits(a: IpAddr, b: IpAddr) -> Option<u8> {
    let bits = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => return None,
    };
    u8::try_from(bits).ok()
}

/// The broadcast address of a prefix; none in /31 (RFC 3021) and /32.
pub(super) fn broadcast(own: Ipv4Addr, len: u8) -> Option<Ipv4Addr> {
    let host_bits = u32::MAX.checked_shr(u32::from(len)).filter(|_| len < 31)?;
    Some(Ipv4Addr::from(u32::from(own) | host_bits))
}

/// The router's own addresses in an open-addressing table: asked for every packet that no flow answers for.
#[derive(Clone, Debug)]
struct OwnAddresses<K> {
    slots: Box<[Option<(K, AddressKind)>]>,
}

impl<K> Default for OwnAddresses<K> {
    fn default() -> OwnAddresses<K> {
        OwnAddresses { slots: Box::default() }
    }
}

impl<K: Spread> OwnAddresses<K> {
    /// Where an address is both (the broadcast address of one prefix is a host in another), local wins.
    fn new(list: Vec<(K, AddressKind)>) -> OwnAddresses<K> {
        let mut slots = vec![None; (list.len() * 4).next_power_of_two()].into_boxed_slice();
        let (local, other): (Vec<_>, Vec<_>) =
            list.into_iter().partition(|(_, kind)| *kind == AddressKind::Local);
        for (key, kind) in local.into_iter().chain(other) {
            let mask = slots.len() - 1;
            let mut at = key.spread() & mask;
            while let Some(Some((other, _))) = slots.get(at) {
                if *other == key {
                    break;
                }
                at = (at + 1) & mask;
            }
            if let Some(slot @ None) = slots.get_mut(at) {
                *slot = Some((key, kind));
            }
        }
        OwnAddresses { slots }
    }

    #[inline]
    fn get(&self, key: K) -> AddressKind {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = key.spread() & mask;
        while let Some(Some((own, kind))) = self.slots.get(at) {
            if *own == key {
                return *kind;
            }
            at = (at + 1) & mask;
        }
        AddressKind::Routed
    }
}

/// Addresses as table keys. The table holds what the operator wrote, so no one can make it degenerate.
trait Spread: Copy + PartialEq {
    fn spread(self) -> usize;
}

impl Spread for u32 {
    #[inline]
    fn spread(self) -> usize {
        (self.wrapping_mul(0x9E37_79B1) >> 16) as usize
    }
}

impl Spread for u128 {
    #[inline]
    fn spread(self) -> usize {
        let folded = (self as u64) ^ ((self >> 64) as u64);
        (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn interface(name: &str, port: u16, vlan: Option<u16>, addresses: &[(&str, u8)]) -> Interface {
        Interface {
            name: name.into(),
            port: PortId(port),
            vlan,
            mac: MacAddr([2, 0, 0, 0, port as u8, 1]),
            mtu: 1500,
            addresses: addresses.iter().map(|&(a, len)| (ip(a), len)).collect(),
            groups: vec![ip("224.0.0.5")],
            kernel_addresses: false,
            rp_filter: RpFilter::Off,
        }
    }

    fn router() -> Interfaces {
        Interfaces::new(vec![
            interface("lan", 0, None, &[("10.1.0.1", 24), ("192.0.2.1", 31), ("fd00:1::1", 64)]),
            interface("dmz", 0, Some(7), &[("10.7.0.1", 16), ("10.7.9.1", 24)]),
            interface("wan", 1, Some(9), &[("203.0.113.9", 32)]),
        ])
    }

    #[test]
    fn kinds_are_those_of_fib_addrtype() {
        use AddressKind::*;
        let interfaces = router();
        for (address, expected) in [
            ("10.1.0.1", Local),
            ("10.7.9.1", Local),
            ("127.3.4.5", Local),
            ("203.0.113.9", Local),
            ("10.1.0.255", Broadcast),
            ("10.7.255.255", Broadcast),
            ("10.7.9.255", Broadcast),
            ("255.255.255.255", Broadcast),
            ("10.1.0.0", Routed),
            ("192.0.2.0", Routed),
            ("10.1.0.2", Routed),
            ("0.0.0.0", Routed),
            ("240.0.0.1", Routed),
            ("224.0.0.9", Multicast),
            ("239.255.255.255", Multicast),
            ("fd00:1::1", Local),
            ("::1", Local),
            ("fe80::ff:fe00:1", Local),
            ("fe80::ff:fe00:101", Local),
            ("fe80::ff:fe00:201", Routed),
            ("fd00:1::", Routed),
            ("ff02::1", Multicast),
        ] {
            assert_eq!(interfaces.kind(ip(address)), expected, "{address}");
        }
        assert_eq!(Interfaces::default().kind(ip("10.1.0.1")), Routed);
    }

    #[test]
    fn frames_find_their_interface() {
        let interfaces = router();
        for (port, vlan, expected) in [
            (0, None, Some(0)),
            (0, Some(7), Some(1)),
            (0, Some(8), None),
            (1, None, None),
            (1, Some(9), Some(2)),
            (2, None, None),
        ] {
            assert_eq!(interfaces.of_port(PortId(port), vlan), expected.map(InterfaceId), "{port} {vlan:?}");
        }
        assert_eq!(interfaces.any_of_port(PortId(1)), Some(InterfaceId(2)));
    }

    #[test]
    fn groups_of_a_router() {
        let interfaces = router();
        let lan = interfaces.get(InterfaceId(0)).unwrap();
        for (group, expected) in [
            ("224.0.0.1", true),
            ("224.0.0.5", true),
            ("224.0.0.9", false),
            ("ff02::1", true),
            ("ff02::2", true),
            ("ff02::1:ff00:1", true),
            ("ff02::1:ff00:2", false),
        ] {
            assert_eq!(lan.listens_to(ip(group)), expected, "{group}");
        }
    }

    #[test]
    fn the_router_speaks_from_the_address_nearest_to_whom_it_speaks() {
        let interfaces = router();
        for (interface, to, expected) in [
            (0, "10.1.0.2", Some("10.1.0.1")),
            (0, "192.0.2.0", Some("192.0.2.1")),
            (0, "8.8.8.8", Some("10.1.0.1")),
            (1, "10.7.9.8", Some("10.7.0.1")),
            (0, "fd00:2::2", Some("fd00:1::1")),
            (1, "fd00:2::2", Some("fd00:1::1")),
            (0, "fe80::9", Some("fe80::ff:fe00:1")),
            (0, "ff02::1", Some("fe80::ff:fe00:1")),
        ] {
            assert_eq!(interfaces.source_for(InterfaceId(interface), ip(to)), expected.map(ip), "{to}");
        }
    }
}
