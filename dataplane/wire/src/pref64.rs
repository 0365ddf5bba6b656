//! IPv6 addresses that stand for IPv4 ones: which bits of a prefix's addresses are the IPv4 address.
//!
//! Bits that a prefix leaves over must be zero, although a receiver is to ignore them: an address that stands for
//! another in two ways could not be answered from the one that was asked.
//!
//! Source: RFC 6052 section 2; Pref64::/n is RFC 6146's name for such a prefix.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A prefix whose addresses stand for all of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pref64 {
    bits: u128,
    length: u8,
}

/// Bits 64 to 71, which are zero in every such address, lie here when the IPv4 address has been put around them.
const LOWER_HALF: u128 = u64::MAX as u128;

impl Pref64 {
    /// The lengths that there are, in bits.
    pub const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

    /// `64:ff9b::/96`. It must not stand for addresses that mean nothing elsewhere: RFC 6052 section 3.1.
    pub const WELL_KNOWN: Self = Self { bits: 0x0064_ff9b << 96, length: 96 };

    /// A prefix; None if there is none of that length, bits behind it are set, or bits 64 to 71 are.
    pub const fn new(address: Ipv6Addr, length: u8) -> Option<Self> {
        let bits = address.to_bits();
        let among = matches!(length, 32 | 40 | 48 | 56 | 64 | 96);
        if !among || bits << length != 0 || (bits >> 56) & 0xff != 0 {
            return None;
        }
        Some(Self { bits, length })
    }

    /// Its first address.
    pub const fn address(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.bits)
    }

    /// Its length in bits.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether an address lies in it, whatever stands behind the prefix.
    #[inline]
    pub const fn contains(&self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.bits) >> (128 - self.length) == 0
    }

    /// The address that stands for an IPv4 address.
    #[inline]
    pub const fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        let put = (address.to_bits() as u128) << (96 - self.length);
        let put = if self.length == 96 { put } else { put & !LOWER_HALF | (put & LOWER_HALF) >> 8 };
        Ipv6Addr::from_bits(self.bits | put)
    }

    /// The IPv4 address that an address stands for; None for one of another prefix, or with bits set that mean nothing.
    #[inline]
    pub const fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let put = address.to_bits() ^ self.bits;
        let put = if self.length == 96 {
            put
        } else if (put >> 56) & 0xff == 0 {
            put & !LOWER_HALF | (put & LOWER_HALF) << 8
        } else {
            return None;
        };
        let left = 96 - self.length;
        let whole = put >> left;
        if whole >> 32 == 0 && whole << left == put { Some(Ipv4Addr::from_bits(whole as u32)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Option<Pref64> {
        let (address, length) = text.split_once('/').unwrap();
        Pref64::new(address.parse().unwrap(), length.parse().unwrap())
    }

    /// The table of RFC 6052 section 2.4.
    #[test]
    fn the_rfcs_examples() {
        for (of, expected) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let of = prefix(of).unwrap();
            let (inner, expected) = (Ipv4Addr::new(192, 0, 2, 33), expected.parse().unwrap());
            assert_eq!(of.embed(inner), expected, "{of:?}");
            assert_eq!(of.extract(expected), Some(inner), "{of:?}");
            assert!(of.contains(expected));
        }
        assert_eq!(prefix("64:ff9b::/96"), Some(Pref64::WELL_KNOWN));
    }

    #[test]
    fn what_is_no_prefix_and_what_is_no_address_of_one() {
        for text in ["2001:db8::/33", "2001:db8::1/96", "2001:db8::/128", "2001:db8:0:0:100::/96", "::/0"] {
            assert_eq!(prefix(text), None, "{text}");
        }
        for (of, address) in [
            ("64:ff9b::/96", "64:ff9b:1::192.0.2.33"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:1c0:2:2100::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:1"),
            ("2001:db8::/32", "2001:db8:c000:221::1"),
            ("2001:db8::/32", "2001:db9:c000:221::"),
        ] {
            assert_eq!(prefix(of).unwrap().extract(address.parse().unwrap()), None, "{address} of {of}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(address in any::<u32>(), bits in any::<u128>(), length in 0..6usize) {
            let length = Pref64::LENGTHS[length];
            let bits = (bits >> (128 - length) << (128 - length)) & !(0xff << 56);
            let prefix = Pref64::new(bits.into(), length).unwrap();
            let embedded = prefix.embed(address.into());
            prop_assert_eq!(prefix.extract(embedded), Some(address.into()));
            prop_assert_eq!(embedded.octets()[8], 0);
        }
    }
}
