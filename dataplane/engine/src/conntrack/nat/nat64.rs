//! Who an IPv6 flow to an IPv4 host is in IPv4: an address and a port of a pool that is nobody else's.
//!
//! Inside of the router such a flow is one of IPv6, with the pool's addresses in the same prefix as the host's, and so
//! an ordinary translated one: see docs/adr/0021. An inner address has always the same one of the pool, and an inner address and
//! port the same outer ones towards every host.
//!
//! Source: RFC 6146 sections 3.5 and 3.5.1.1; RFC 6052 section 3.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::Pref64;

use super::NatRange;
use crate::conntrack::tuple::{Address, Seeds};

/// A prefix that stands for IPv4, and what flows to it get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64 {
    prefix: Pref64,
    pool: (u32, u32),
    ports: (u16, u16),
}

/// Networks that mean nothing outside of a site, which the well-known prefix must not stand for: private ones, shared address
/// space, protocol assignments, benchmarks. Those for documentation are left: they lead nowhere anyway.
/// Source: RFC 6052 section 3.1, RFC 6890 section 2.2.2.
const NOT_GLOBAL: [(Ipv4Addr, u32); 7] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// Networks in which there is no host: this one, loopback, groups and what is reserved.
const NO_HOST: [(Ipv4Addr, u32); 3] =
    [(Ipv4Addr::new(0, 0, 0, 0), 8), (Ipv4Addr::new(127, 0, 0, 0), 8), (Ipv4Addr::new(224, 0, 0, 0), 3)];

impl Nat64 {
    /// With a pool of all addresses and ports between two each. None if a range runs backwards.
    pub fn new(prefix: Pref64, pool: (Ipv4Addr, Ipv4Addr), ports: (u16, u16)) -> Option<Nat64> {
        let pool = (pool.0.to_bits(), pool.1.to_bits());
        (pool.0 <= pool.1 && ports.0 <= ports.1).then_some(Nat64 { prefix, pool, ports })
    }

    /// The prefix.
    pub const fn prefix(&self) -> &Pref64 {
        &self.prefix
    }

    /// The pool's addresses, the first and the last.
    pub const fn pool(&self) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::from_bits(self.pool.0), Ipv4Addr::from_bits(self.pool.1))
    }

    /// The pool's addresses as the router has them inside, the first and the last. With a prefix shorter than 96 bits others lie
    /// between, that stand for nothing.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        let (first, last) = self.pool();
        (self.prefix.embed(first).into(), self.prefix.embed(last).into())
    }

    /// The ports of each address, both ends included, in host order; of ICMP, identifiers.
    pub const fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Whether flows are let go to a host.
    pub fn reaches(&self, host: Ipv4Addr) -> bool {
        let among = |list: &[(Ipv4Addr, u32)]| {
            list.iter().any(|(network, length)| (network.to_bits() ^ host.to_bits()) >> (32 - length) == 0)
        };
        let means_something = self.prefix != Pref64::WELL_KNOWN || !among(&NOT_GLOBAL);
        means_something && !among(&NO_HOST) && !self.lends(host)
    }

    /// What the source of a flow becomes.
    pub fn range(&self, source: Ipv6Addr) -> NatRange {
        let source = source.to_bits();
        let spread = u128::mix((source, 0), (source, 0), 0, &Seeds::new(0));
        let address = Ipv4Addr::from_bits(u32::within(self.pool.0, self.pool.1, spread));
        NatRange {
            ports: Some(self.ports),
            endpoint_independent: true,
            ..NatRange::address(self.prefix.embed(address).into())
        }
    }

    /// Whether an address is one of the pool's.
    pub fn lends(&self, address: Ipv4Addr) -> bool {
        (self.pool.0..=self.pool.1).contains(&address.to_bits())
    }

    /// Whether a port of an address is one of the pool's.
    pub fn lends_port(&self, address: Ipv4Addr, port: u16) -> bool {
        self.lends(address) && (self.ports.0..=self.ports.1).contains(&port)
    }

    /// The pool's address that an address stands for.
    pub fn lent(&self, address: IpAddr) -> Option<Ipv4Addr> {
        let IpAddr::V6(address) = address else { return None };
        self.prefix.extract(address).filter(|address| self.lends(*address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat64(prefix: &str, length: u8) -> Nat64 {
        let prefix = Pref64::new(prefix.parse().unwrap(), length).unwrap();
        let pool = (Ipv4Addr::new(203, 0, 113, 8), Ipv4Addr::new(203, 0, 113, 11));
        Nat64::new(prefix, pool, (1024, 65535)).unwrap()
    }

    #[test]
    fn hosts_that_are_reached() {
        for (host, well_known, own) in [
            ("198.51.100.7", true, true),
            ("10.1.2.3", false, true),
            ("172.31.255.255", false, true),
            ("172.32.0.1", true, true),
            ("192.168.0.1", false, true),
            ("100.127.0.1", false, true),
            ("203.0.113.7", true, true),
            ("203.0.113.8", false, false),
            ("203.0.113.11", false, false),
            ("127.0.0.1", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
        ] {
            let host = host.parse().unwrap();
            assert_eq!(nat64("64:ff9b::", 96).reaches(host), well_known, "{host}");
            assert_eq!(nat64("2001:db8:64::", 64).reaches(host), own, "{host}");
        }
    }

    #[test]
    fn a_source_has_one_address_of_the_pool_and_all_are_used() {
        for length in [64, 96] {
            let nat64 = nat64("2001:db8:64::", length);
            let mut used = std::collections::HashSet::new();
            for host in 1..=64u16 {
                let source = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host);
                let (address, same) = nat64.range(source).addresses.unwrap();
                assert_eq!(address, same);
                assert_eq!(nat64.range(source), nat64.range(source));
                used.insert(nat64.lent(address).unwrap());
            }
            assert_eq!(used.len(), 4);
        }
    }
}
