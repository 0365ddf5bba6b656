//! Addresses as an operator writes them: prefixes and ranges of either family.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use sluice_wire::Family;

use crate::decode::number;
use crate::diagnostics::ValueError;

/// The family of an address.
pub const fn family(addr: IpAddr) -> Family {
    match addr {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// An address and the length of its network part, `10.0.0.1/24`. Host bits may be set: an interface's address has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// `addr/len`; `None` if `len` is more than the family has bits.
    pub const fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let max = match addr {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if len <= max { Some(Self { addr, len }) } else { None }
    }

    /// The prefix of one address: `/32` or `/128`.
    pub const fn host(addr: IpAddr) -> Self {
        let len = match addr {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { addr, len }
    }

    /// The address as given, host bits included.
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// Length of the network part in bits.
    #[allow(clippy::len_without_is_empty)] // a prefix length; there is no empty prefix
    pub const fn len(self) -> u8 {
        self.len
    }

    /// The address family.
    pub const fn family(self) -> Family {
        family(self.addr)
    }

    /// True for `/32` of IPv4 and `/128` of IPv6.
    pub fn is_host(self) -> bool {
        self == Self::host(self.addr)
    }

    /// First address of the prefix: the host bits cleared.
    pub fn network(self) -> IpAddr {
        match self.addr {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask))
            }
        }
    }

    /// Last address of the prefix: the host bits set. For an IPv4 subnet, its broadcast address.
    pub fn last(self) -> IpAddr {
        match self.addr {
            IpAddr::V4(a) => {
                let host = u32::MAX.checked_shr(u32::from(self.len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | host))
            }
            IpAddr::V6(a) => {
                let host = u128::MAX.checked_shr(u32::from(self.len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() | host))
            }
        }
    }

    /// The same prefix with its host bits cleared.
    pub fn masked(self) -> Self {
        Self { addr: self.network(), len: self.len }
    }

    /// True if `addr` is of the same family and inside the prefix.
    pub fn contains(self, addr: IpAddr) -> bool {
        self.range().contains(addr)
    }

    /// The prefix as a range of addresses.
    pub fn range(self) -> IpRange {
        IpRange { first: self.network(), last: self.last() }
    }
}

impl std::fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl FromStr for IpPrefix {
    type Err = ValueError;

    /// Reads `10.0.0.0/8`, or an address alone as the prefix of that host.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((addr, len)) = text.split_once('/') else { return parse_addr(text).map(Self::host) };
        let addr = parse_addr(addr)?;
        let max = Self::host(addr).len;
        let len = number(len).and_then(|len| u8::try_from(len).ok()).and_then(|len| Self::new(addr, len));
        len.ok_or_else(|| ValueError::new(format!("`{text}` has no valid prefix length (0 to {max})")))
    }
}

/// Reads an address.
pub(crate) fn parse_addr(text: &str) -> Result<IpAddr, ValueError> {
    text.parse().map_err(|_| ValueError::new(format!("`{text}` is no IP address")))
}

/// Addresses of one family from `first` to `last`, both included; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// The range `first-last`; `None` if the families differ or the range runs backwards.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let same = family(first) == family(last);
        (same && first.cmp(&last) != Ordering::Greater).then_some(Self { first, last })
    }

    /// The range of one address.
    pub const fn host(addr: IpAddr) -> Self {
        Self { first: addr, last: addr }
    }

    /// First address.
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// Last address, included.
    pub const fn last(self) -> IpAddr {
        self.last
    }

    /// The address family.
    pub const fn family(self) -> Family {
        family(self.first)
    }

    /// True if `addr` is of the same family and inside the range.
    pub fn contains(self, addr: IpAddr) -> bool {
        family(addr) == self.family() && self.first <= addr && addr <= self.last
    }

    /// True if every address of `other` is in this range.
    pub fn covers(self, other: Self) -> bool {
        self.contains(other.first) && self.contains(other.last)
    }

    /// The fewest prefixes that make up exactly this range, in order of address.
    pub fn prefixes(self) -> Vec<IpPrefix> {
        let bits: u32 = if self.family() == Family::V4 { 32 } else { 128 };
        let (mut first, last) = (to_bits(self.first), to_bits(self.last));
        let mut prefixes = Vec::new();
        loop {
            // The largest block that starts at `first`, is aligned, and does not pass `last`.
            let aligned = first.trailing_zeros().min(bits);
            let fitting = match (last - first).checked_add(1) {
                Some(count) => count.ilog2(),
                None => 128,
            };
            let host_bits = aligned.min(fitting);
            let len = u8::try_from(bits - host_bits).unwrap_or(0);
            prefixes.push(IpPrefix { addr: from_bits(self.family(), first), len });
            let next = 1u128.checked_shl(host_bits).and_then(|size| first.checked_add(size));
            match next {
                Some(next) if next <= last => first = next,
                _ => return prefixes,
            }
        }
    }
}

impl std::fmt::Display for IpRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl From<IpPrefix> for IpRange {
    fn from(prefix: IpPrefix) -> Self {
        prefix.range()
    }
}

impl FromStr for IpRange {
    type Err = ValueError;

    /// Reads an address, a prefix or `first-last`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((first, last)) = text.split_once('-') else {
            return text.parse::<IpPrefix>().map(Into::into);
        };
        let (first, last) = (parse_addr(first.trim())?, parse_addr(last.trim())?);
        if family(first) != family(last) {
            return Err(ValueError::new(format!("range `{text}` mixes IPv4 and IPv6")));
        }
        Self::new(first, last).ok_or_else(|| ValueError::new(format!("range `{text}` runs backwards")))
    }
}

fn to_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(addr: &str, len: u8) -> IpPrefix {
        IpPrefix::new(addr.parse().unwrap(), len).unwrap()
    }

    #[test]
    fn a_prefix_spans_its_network() {
        let p = prefix("10.1.2.3", 22);
        assert_eq!(p.network().to_string(), "10.1.0.0");
        assert_eq!(p.last().to_string(), "10.1.3.255");
        assert_eq!(p.masked().to_string(), "10.1.0.0/22");
        assert_eq!(prefix("1.2.3.4", 0).range().to_string(), "0.0.0.0-255.255.255.255");
        assert_eq!(prefix("2001:db8::1", 64).last().to_string(), "2001:db8::ffff:ffff:ffff:ffff");
        assert!(prefix("::", 0).contains("::1".parse().unwrap()));
        assert!(!prefix("::", 0).contains("1.1.1.1".parse().unwrap()));
        assert!(prefix("1.1.1.1", 32).is_host());
    }

    #[test]
    fn a_range_splits_into_the_fewest_prefixes() {
        let split = |a: &str, b: &str| {
            let range = IpRange::new(a.parse().unwrap(), b.parse().unwrap()).unwrap();
            range.prefixes().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(split("10.0.0.0", "10.0.0.255"), "10.0.0.0/24");
        assert_eq!(split("10.0.0.1", "10.0.0.6"), "10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32");
        assert_eq!(split("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(split("255.255.255.254", "255.255.255.255"), "255.255.255.254/31");
        assert_eq!(split("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::/0");
        assert_eq!(split("2001:db8::1", "2001:db8::2"), "2001:db8::1/128 2001:db8::2/128");
    }
}
