//! Ethernet addresses, and those that belong to an IP multicast group.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An Ethernet address, in the order in which it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`: unknown, as in the target of an ARP request.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set: multicast, broadcast included.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a host can own this address: neither a group nor zero.
    #[inline]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// The group address of an IPv4 multicast group: `01:00:5e` and the group's low 23 bits.
    /// Source: RFC 1112 section 6.4.
    pub const fn multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group address of an IPv6 multicast group: `33:33` and the group's low 32 bits.
    /// Source: RFC 2464 section 7.
    pub const fn multicast_v6(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

/// An Ethernet address as frames are compared with it, in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station(u64);

impl Station {
    /// Whether a frame is to this very address.
    #[inline(always)]
    pub fn receives(self, frame: &[u8]) -> bool {
        // The two bytes behind the address are the source's; they go out at the top.
        frame.first_chunk().is_some_and(|bytes| u64::from_le_bytes(*bytes) << 16 == self.0)
    }
}

impl From<MacAddr> for Station {
    fn from(MacAddr([a, b, c, d, e, f]): MacAddr) -> Station {
        Station(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) << 16)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no Ethernet address: six pairs of hexadecimal digits, with `:` or `-` between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ethernet address (six bytes like 02:00:00:00:00:01)")]
pub struct ParseMacError;

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut mac = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut mac {
            let part = parts.next().ok_or(ParseMacError)?;
            let hex = part.len() <= 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            if !hex {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() { Err(ParseMacError) } else { Ok(Self(mac)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for (text, expected) in [
            ("02:00:00:00:01:0a", Some(MacAddr([2, 0, 0, 0, 1, 10]))),
            ("02-00-00-00-01-0A", Some(MacAddr([2, 0, 0, 0, 1, 10]))),
            ("2:0:0:0:1:a", Some(MacAddr([2, 0, 0, 0, 1, 10]))),
            ("02:00:00:00:01", None),
            ("02:00:00:00:01:0a:0b", None),
            ("02:00:00:00:01:0g", None),
            ("02:00:00:00:01:+a", None),
            ("02:00:00:00:01:", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        assert_eq!(MacAddr([2, 0, 0, 0, 1, 10]).to_string(), "02:00:00:00:01:0a");
    }

    #[test]
    fn groups() {
        let mdns = MacAddr::multicast_v4(Ipv4Addr::new(239, 255, 255, 250));
        assert_eq!(mdns.to_string(), "01:00:5e:7f:ff:fa");
        let node = MacAddr::multicast_v6("ff02::1:ff00:2".parse().unwrap());
        assert_eq!(node.to_string(), "33:33:ff:00:00:02");
        assert!(mdns.is_multicast() && node.is_multicast() && MacAddr::BROADCAST.is_multicast());
        assert!(!MacAddr::ZERO.is_unicast() && MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
    }
}
