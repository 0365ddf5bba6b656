//! IP addresses of a packet, and the kinds of address that no route decides about: what a router must not
//! believe as a source (RFC 1812 section 5.3.7, RFC 4291), whatever its tables say. Whether an address is
//! local or a subnet's broadcast is known to the router's tables alone, and not decided here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Source and destination address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addrs {
    /// IPv4 addresses.
    V4 {
        /// Source.
        src: Ipv4Addr,
        /// Destination.
        dst: Ipv4Addr,
    },
    /// IPv6 addresses.
    V6 {
        /// Source.
        src: Ipv6Addr,
        /// Destination.
        dst: Ipv6Addr,
    },
}

impl Addrs {
    /// The source address.
    #[inline]
    pub const fn src(&self) -> IpAddr {
        match *self {
            Self::V4 { src, .. } => IpAddr::V4(src),
            Self::V6 { src, .. } => IpAddr::V6(src),
        }
    }

    /// The destination address.
    #[inline]
    pub const fn dst(&self) -> IpAddr {
        match *self {
            Self::V4 { dst, .. } => IpAddr::V4(dst),
            Self::V6 { dst, .. } => IpAddr::V6(dst),
        }
    }

    /// The family of both.
    #[inline]
    pub const fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    /// The same destination from another source; `None` if that is of the other family.
    #[inline]
    pub const fn with_src(&self, address: IpAddr) -> Option<Self> {
        match (*self, address) {
            (Self::V4 { dst, .. }, IpAddr::V4(src)) => Some(Self::V4 { src, dst }),
            (Self::V6 { dst, .. }, IpAddr::V6(src)) => Some(Self::V6 { src, dst }),
            _ => None,
        }
    }

    /// The same source to another destination; `None` if that is of the other family.
    #[inline]
    pub const fn with_dst(&self, address: IpAddr) -> Option<Self> {
        match (*self, address) {
            (Self::V4 { src, .. }, IpAddr::V4(dst)) => Some(Self::V4 { src, dst }),
            (Self::V6 { src, .. }, IpAddr::V6(dst)) => Some(Self::V6 { src, dst }),
            _ => None,
        }
    }

    /// The same addresses the other way round.
    #[inline]
    pub const fn reversed(&self) -> Self {
        match *self {
            Self::V4 { src, dst } => Self::V4 { src: dst, dst: src },
            Self::V6 { src, dst } => Self::V6 { src: dst, dst: src },
        }
    }
}

/// Which address of a packet cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Martian {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// Which address, if any, no router may forward or take in from a wire. Nobody is told about such a packet.
///
/// The kernel judges IPv6 before any hook, but IPv4 only when it routes, behind the tracker and `prerouting`.
///
/// `0.0.0.0` is a legal source only towards `255.255.255.255` (DHCP) and link-local groups; `::` is legal as
/// a source (duplicate address detection), and it is for the router not to *forward* it.
///
/// Source: RFC 1812 sections 4.2.2.11 and 5.3.7; RFC 4291 sections 2.5.3 and 2.7 with errata 3480;
/// observed on Linux (`ip_route_input_slow`, `ip6_rcv_core`).
#[inline]
pub fn martian(addrs: &Addrs) -> Option<Martian> {
    match *addrs {
        Addrs::V4 { src, dst } => martian_v4(src, dst),
        Addrs::V6 { src, dst } => martian_v6(src, dst),
    }
}

#[inline]
fn martian_v4(src: Ipv4Addr, dst: Ipv4Addr) -> Option<Martian> {
    if src.is_multicast() || src.is_broadcast() || src.is_loopback() {
        return Some(Martian::Source);
    }
    if src.is_unspecified() {
        let link_local_group = dst.octets().starts_with(&[224, 0, 0]);
        let to_all = dst.is_broadcast() || dst.is_unspecified() || link_local_group;
        return (!to_all).then_some(Martian::Source);
    }
    (dst.is_unspecified() || dst.is_loopback()).then_some(Martian::Destination)
}

#[inline]
fn martian_v6(src: Ipv6Addr, dst: Ipv6Addr) -> Option<Martian> {
    if src.is_multicast() || src.is_loopback() {
        return Some(Martian::Source);
    }
    let [first, second, ..] = dst.octets();
    let scope_below_link = first == 0xff && second & 0xf <= 1;
    (scope_below_link || dst.is_loopback() || dst.is_unspecified()).then_some(Martian::Destination)
}

/// Whether an address is a multicast group: `224.0.0.0/4`, `ff00::/8`.
#[inline]
pub fn is_multicast(address: IpAddr) -> bool {
    address.is_multicast()
}

/// Whether one host can own this address: not unspecified, multicast, the limited broadcast or loopback.
#[inline]
pub fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

/// Whether no router forwards it: `fe80::/10` and groups of link-local scope (`ff02::/16`). IPv4's
/// `169.254.0.0/16` is forwarded by Linux like any other prefix, its link-local groups `224.0.0.0/24` are not.
/// Source: RFC 4291 section 2.5.6, RFC 5771 section 4.
#[inline]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.octets();
            (first == 0xfe && second & 0xc0 == 0x80) || (first == 0xff && second & 0xf == 2)
        }
    }
}

/// The group that the owner of `target` listens on for neighbour solicitations: `ff02::1:ffXX:XXXX`.
/// Source: RFC 4291 section 2.7.1.
#[inline]
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(src: &str, dst: &str) -> Addrs {
        match (src.parse().unwrap(), dst.parse().unwrap()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
            _ => panic!("families differ"),
        }
    }

    #[test]
    fn martians() {
        use Martian::{Destination, Source};
        for (src, dst, expected) in [
            ("10.1.0.2", "10.2.0.2", None),
            ("169.254.1.1", "10.2.0.2", None),
            ("240.0.0.1", "10.2.0.2", None),
            ("224.0.0.1", "10.2.0.2", Some(Source)),
            ("255.255.255.255", "10.2.0.2", Some(Source)),
            ("127.0.0.1", "10.2.0.2", Some(Source)),
            ("0.0.0.0", "10.2.0.2", Some(Source)),
            ("0.0.0.0", "255.255.255.255", None),
            ("0.0.0.0", "224.0.0.1", None),
            ("0.0.0.0", "239.1.1.1", Some(Source)),
            ("10.1.0.2", "127.0.0.1", Some(Destination)),
            ("10.1.0.2", "0.0.0.0", Some(Destination)),
            ("fd00::1", "fd01::1", None),
            ("::", "ff02::1:ff00:1", None),
            ("::1", "fd01::1", Some(Source)),
            ("ff02::1", "fd01::1", Some(Source)),
            ("fd00::1", "::1", Some(Destination)),
            ("fd00::1", "::", Some(Destination)),
            ("fd00::1", "ff00::1", Some(Destination)),
            ("fd00::1", "ff01::1", Some(Destination)),
            ("fd00::1", "ff11::1", Some(Destination)),
            ("fd00::1", "ff02::1", None),
        ] {
            assert_eq!(martian(&addrs(src, dst)), expected, "{src} to {dst}");
        }
    }

    #[test]
    fn kinds() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for text in ["fe80::1", "febf::1", "ff02::2", "ff12::2", "224.0.0.5"] {
            assert!(is_link_local(ip(text)), "{text}");
        }
        for text in ["fec0::1", "ff05::2", "224.0.1.5", "169.254.0.1"] {
            assert!(!is_link_local(ip(text)), "{text}");
        }
        assert_eq!(IpAddr::V6(solicited_node("fd00:2::12:3456".parse().unwrap())), ip("ff02::1:ff12:3456"));
        assert!(!is_unicast(ip("255.255.255.255")) && is_unicast(ip("fd00::1")));
    }
}
