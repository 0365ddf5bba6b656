//! What a rule lets choose from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a translation may choose from, both ends included. What is None is kept if it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NatRange {
    /// Addresses of one family.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Ports, in host order; of ICMP identifiers.
    pub ports: Option<(u16, u16)>,
    /// Of the addresses this many bits are given, and the others stay (iptables' NETMAP).
    pub prefix: Option<u8>,
    /// Whether an inner address and port gets the same outer ones towards every destination, and no other gets them
    /// (RFC 4787, endpoint-independent mapping). Of sources alone.
    pub endpoint_independent: bool,
}

impl NatRange {
    /// One address, whatever port.
    pub const fn address(address: IpAddr) -> NatRange {
        NatRange {
            addresses: Some((address, address)),
            ports: None,
            prefix: None,
            endpoint_independent: false,
        }
    }

    /// What it is for a packet with this address: where the range is a prefix, one address.
    pub fn of(&self, own: IpAddr) -> NatRange {
        let (Some((network, _)), Some(length)) = (self.addresses, self.prefix) else { return *self };
        NatRange::address(match (network, own) {
            (IpAddr::V4(network), IpAddr::V4(own)) => {
                let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                Ipv4Addr::from_bits(network.to_bits() & !host | own.to_bits() & host).into()
            }
            (IpAddr::V6(network), IpAddr::V6(own)) => {
                let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                Ipv6Addr::from_bits(network.to_bits() & !host | own.to_bits() & host).into()
            }
            // Rules with addresses match their family alone.
            _ => own,
        })
    }
}
