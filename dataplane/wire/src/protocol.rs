//! Numbers and names of IP protocols, as `/etc/protocols` and nft have them.

use std::fmt;

/// The number of an IP protocol: IPv4's protocol field, IPv6's last next header.
/// Source: IANA protocol numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// IPv6 hop-by-hop options; as an IPv4 protocol, unassigned.
    pub const HOP_BY_HOP: Self = Self(0);
    /// Internet Control Message Protocol.
    pub const ICMP: Self = Self(1);
    /// Internet Group Management Protocol.
    pub const IGMP: Self = Self(2);
    /// IPv4 in IP.
    pub const IPIP: Self = Self(4);
    /// Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// Exterior Gateway Protocol.
    pub const EGP: Self = Self(8);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// Datagram Congestion Control Protocol.
    pub const DCCP: Self = Self(33);
    /// IPv6 in IP.
    pub const IPV6: Self = Self(41);
    /// IPv6 routing header.
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header.
    pub const FRAGMENT: Self = Self(44);
    /// Generic Routing Encapsulation.
    pub const GRE: Self = Self(47);
    /// Encapsulating Security Payload.
    pub const ESP: Self = Self(50);
    /// Authentication Header.
    pub const AH: Self = Self(51);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// IPv6: nothing follows.
    pub const NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options.
    pub const DESTINATION: Self = Self(60);
    /// Open Shortest Path First.
    pub const OSPF: Self = Self(89);
    /// Protocol Independent Multicast.
    pub const PIM: Self = Self(103);
    /// Virtual Router Redundancy Protocol.
    pub const VRRP: Self = Self(112);
    /// Layer Two Tunneling Protocol.
    pub const L2TP: Self = Self(115);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);
    /// Lightweight UDP.
    pub const UDPLITE: Self = Self(136);

    /// The protocol's name in small letters, if it has a common one.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(protocol, _)| *protocol == self).map(|(_, name)| *name)
    }

    /// The protocol of that name, capital or small. Numbers are not names.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = NAMES.iter().chain(ALIASES);
        named.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(protocol, _)| *protocol)
    }

    /// Every name that [`Self::from_name`] knows, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().chain(ALIASES).map(|(_, name)| *name)
    }

    /// Whether the first four bytes of its header are a source and a destination port.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::UDPLITE | Self::SCTP | Self::DCCP)
    }
}

impl fmt::Display for Protocol {
    /// The name, or the number of a protocol that has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

const NAMES: &[(Protocol, &str)] = &[
    (Protocol::TCP, "tcp"),
    (Protocol::UDP, "udp"),
    (Protocol::ICMP, "icmp"),
    (Protocol::ICMPV6, "icmpv6"),
    (Protocol::SCTP, "sctp"),
    (Protocol::GRE, "gre"),
    (Protocol::UDPLITE, "udplite"),
    (Protocol::DCCP, "dccp"),
    (Protocol::ESP, "esp"),
    (Protocol::AH, "ah"),
    (Protocol::IGMP, "igmp"),
    (Protocol::IPIP, "ipip"),
    (Protocol::IPV6, "ipv6"),
    (Protocol::EGP, "egp"),
    (Protocol::OSPF, "ospf"),
    (Protocol::PIM, "pim"),
    (Protocol::VRRP, "vrrp"),
    (Protocol::L2TP, "l2tp"),
    (Protocol::ROUTING, "ipv6-route"),
    (Protocol::FRAGMENT, "ipv6-frag"),
    (Protocol::NO_NEXT_HEADER, "ipv6-nonxt"),
    (Protocol::DESTINATION, "ipv6-opts"),
];

const ALIASES: &[(Protocol, &str)] = &[
    (Protocol::ICMPV6, "ipv6-icmp"),
    (Protocol::ICMPV6, "icmp6"),
    (Protocol::IPIP, "ipencap"),
    (Protocol::OSPF, "ospfigp"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (protocol, name) in NAMES {
            assert_eq!(Protocol::from_name(name), Some(*protocol));
            assert_eq!(protocol.to_string(), *name);
        }
        assert_eq!(Protocol::from_name("IPv6-ICMP"), Some(Protocol::ICMPV6));
        assert_eq!(Protocol::from_name("6"), None);
        assert_eq!(Protocol(253).to_string(), "253");
    }
}
