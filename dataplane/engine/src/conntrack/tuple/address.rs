//! Addresses of both families as numbers, for what is written once for both; and the keyed hash of two endpoints, which
//! nobody who does not know its seeds can aim at.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::Family;

use super::{FamilyKey, FamilyKeys, Key};

/// An address as a number: `u32` or `u128`.
pub(in crate::conntrack) trait Address: Copy + Eq + Ord + Debug {
    /// Which family it is of.
    const FAMILY: Family;

    /// Of no host.
    const ZERO: Self;

    /// As the standard library has it.
    fn ip(self) -> IpAddr;

    /// From what the standard library has; None for the other family.
    fn of(address: IpAddr) -> Option<Self>;

    /// One of the addresses from `first` to `last`, by a hash.
    fn within(first: Self, last: Self, spread: u64) -> Self;

    /// Its first `length` bits, the others 0.
    fn prefix(self, length: u8) -> Self;

    /// A key of its family.
    fn key(key: FamilyKey<Self>) -> Key;

    /// Two endpoints mixed into a hash, whichever comes first.
    fn mix_either(a: (Self, u16), b: (Self, u16), protocol: u8, seeds: &Seeds) -> u64;

    /// Two endpoints mixed into a hash; the order of the arguments matters.
    fn mix(low: (Self, u16), high: (Self, u16), protocol: u8, seeds: &Seeds) -> u64;
}

impl Address for u32 {
    const FAMILY: Family = Family::V4;

    const ZERO: u32 = 0;

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    fn of(address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(v4) => Some(v4.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    fn within(first: u32, last: u32, spread: u64) -> u32 {
        let count = u64::from(last.saturating_sub(first)) + 1;
        first.wrapping_add((spread % count) as u32)
    }

    fn prefix(self, length: u8) -> u32 {
        self & u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
    }

    fn key(key: FamilyKey<u32>) -> Key {
        Key(FamilyKeys::V4(key))
    }

    #[inline(always)]
    fn mix_either(a: (u32, u16), b: (u32, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let (a, b) = (word(a), word(b));
        mix_words(a.min(b), a.max(b), protocol, seeds)
    }

    #[inline(always)]
    fn mix(low: (u32, u16), high: (u32, u16), protocol: u8, seeds: &Seeds) -> u64 {
        mix_words(word(low), word(high), protocol, seeds)
    }
}

/// An endpoint as one number, which is ordered as the pair is.
#[inline(always)]
fn word((address, port): (u32, u16)) -> u64 {
    u64::from(address) << 16 | u64::from(port)
}

#[inline(always)]
fn mix_words(low: u64, high: u64, protocol: u8, seeds: &Seeds) -> u64 {
    fold(fold(low ^ seeds.0, high ^ seeds.1), seeds.2 ^ u64::from(protocol))
}

impl Address for u128 {
    const FAMILY: Family = Family::V6;

    const ZERO: u128 = 0;

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    fn of(address: IpAddr) -> Option<u128> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.to_bits()),
        }
    }

    fn within(first: u128, last: u128, spread: u64) -> u128 {
        // Both halves of the address may differ from the first one's.
        let spread = u128::from(spread) << 64 | u128::from(spread.rotate_left(29));
        let count = last.saturating_sub(first).checked_add(1);
        first.wrapping_add(count.map_or(spread, |count| spread % count))
    }

    fn prefix(self, length: u8) -> u128 {
        self & u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
    }

    fn key(key: FamilyKey<u128>) -> Key {
        Key(FamilyKeys::V6(key))
    }

    #[inline(always)]
    fn mix_either(a: (u128, u16), b: (u128, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        u128::mix(low, high, protocol, seeds)
    }

    #[inline(always)]
    fn mix(low: (u128, u16), high: (u128, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let end = |(address, port): (u128, u16), seed: u64| {
            fold(address as u64 ^ seed, (address >> 64) as u64 ^ seeds.3).wrapping_add(u64::from(port))
        };
        fold(fold(end(low, seeds.0) ^ seeds.2, end(high, seeds.1)), seeds.2 ^ u64::from(protocol))
    }
}

/// Secrets of the hash, so that nobody outside can aim flows at one bucket.
#[derive(Clone, Copy, Debug)]
pub(in crate::conntrack) struct Seeds(u64, u64, u64, u64);

impl Seeds {
    /// Spreads one random number to four (splitmix64).
    pub(in crate::conntrack) fn new(seed: u64) -> Seeds {
        let nth = |n: u64| {
            let z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) | 1
        };
        Seeds(nth(1), nth(2), nth(3), nth(4))
    }
}

/// Both halves of a 128-bit product: each bit of either factor reaches most of the result.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
