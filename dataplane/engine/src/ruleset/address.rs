//! Sets of addresses of both families, and the match on one.

use std::net::IpAddr;

use sluice_wire::Family;

use crate::lpm::{Lpm, LpmKey};
use crate::ruleset::{Ruleset, SetId};

/// Ranges that are searched by halves; more are put into a trie.
const FEW: usize = 16;

/// An immutable set of addresses.
#[derive(Clone, Debug, Default)]
pub struct AddressSet {
    v4: Side<u32>,
    v6: Side<u128>,
}

impl AddressSet {
    /// The union of prefixes, `(address, length)`. Host bits are ignored.
    pub fn of_prefixes(prefixes: impl IntoIterator<Item = (IpAddr, u8)>) -> AddressSet {
        let mut builder = AddressSetBuilder::default();
        for (address, len) in prefixes {
            builder.prefix(address, len);
        }
        builder.build()
    }

    /// Whether an address is in it.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// Whether there is any address of a family in it.
    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => !self.v4.ranges.is_empty(),
            Family::V6 => !self.v6.ranges.is_empty(),
        }
    }

    /// What is in it or in another.
    #[must_use]
    pub fn union(&self, other: &AddressSet) -> AddressSet {
        AddressSet { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// What is in it and not in another.
    #[must_use]
    pub fn without(&self, other: &AddressSet) -> AddressSet {
        AddressSet { v4: self.v4.without(&other.v4), v6: self.v6.without(&other.v6) }
    }

    /// How many ranges it comes to.
    pub(super) fn ranges(&self) -> usize {
        self.v4.ranges.len() + self.v6.ranges.len()
    }

    /// What it keeps, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }

    /// Its IPv4 addresses, as ranges in order and apart.
    pub(super) fn ranges_v4(&self) -> &[(u32, u32)] {
        &self.v4.ranges
    }

    /// Its IPv6 addresses, likewise.
    pub(super) fn ranges_v6(&self) -> &[(u128, u128)] {
        &self.v6.ranges
    }
}

/// Collects the elements of an [`AddressSet`].
#[derive(Clone, Debug, Default)]
pub struct AddressSetBuilder {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSetBuilder {
    /// Adds a prefix of `len` bits; host bits are ignored.
    pub fn prefix(&mut self, address: IpAddr, len: u8) {
        match address {
            IpAddr::V4(v4) => {
                let hosts = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                self.v4.push((v4.to_bits() & !hosts, v4.to_bits() | hosts));
            }
            IpAddr::V6(v6) => {
                let hosts = u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                self.v6.push((v6.to_bits() & !hosts, v6.to_bits() | hosts));
            }
        }
    }

    /// Adds a range, both ends included. One that runs backwards, or from one family to the other, is empty.
    pub fn range(&mut self, first: IpAddr, last: IpAddr) {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => self.v4.push((first.to_bits(), last.to_bits())),
            (IpAddr::V6(first), IpAddr::V6(last)) => self.v6.push((first.to_bits(), last.to_bits())),
            _ => {}
        }
    }

    /// The set.
    pub fn build(self) -> AddressSet {
        AddressSet { v4: Side::new(self.v4), v6: Side::new(self.v6) }
    }
}

/// The addresses of one family.
#[derive(Clone, Debug, Default)]
struct Side<K> {
    /// Sorted, apart from each other, both ends included.
    ranges: Box<[(K, K)]>,
    /// The same, if there are more than [`FEW`].
    trie: Option<Lpm<K>>,
}

impl<K: LpmKey + Bits> Side<K> {
    fn new(mut ranges: Vec<(K, K)>) -> Side<K> {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        ranges.dedup_by(|later, kept| {
            let touches = later.0 <= kept.1 || kept.1.next() == Some(later.0);
            if touches {
                kept.1 = kept.1.max(later.1);
            }
            touches
        });
        let trie = (ranges.len() > FEW).then(|| {
            let prefixes = ranges.iter().flat_map(|&(first, last)| Prefixes { next: Some(first), last });
            Lpm::build(prefixes.map(|(key, len)| (key, len, 0)))
        });
        Side { ranges: ranges.into_boxed_slice(), trie }
    }

    fn union(&self, other: &Side<K>) -> Side<K> {
        Side::new(self.ranges.iter().chain(&other.ranges).copied().collect())
    }

    fn without(&self, other: &Side<K>) -> Side<K> {
        let mut left = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for &(first, last) in &self.ranges {
            while holes.next_if(|(_, end)| *end < first).is_some() {}
            let mut from = Some(first);
            // A hole may reach into the next range too, so it stays.
            for &(begin, end) in holes.clone().take_while(|(begin, _)| *begin <= last) {
                if let (Some(from), Some(before)) = (from, begin.before())
                    && from <= before
                {
                    left.push((from, before));
                }
                from = end.next();
            }
            left.extend(from.filter(|from| *from <= last).map(|from| (from, last)));
        }
        Side::new(left)
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.ranges) + self.trie.as_ref().map_or(0, Lpm::bytes)
    }

    #[inline]
    fn contains(&self, key: K) -> bool {
        match &self.trie {
            Some(trie) => trie.lookup(key).is_some(),
            None => {
                let behind = self.ranges.partition_point(|&(first, _)| first <= key);
                let range = behind.checked_sub(1).and_then(|place| self.ranges.get(place));
                range.is_some_and(|&(_, last)| key <= last)
            }
        }
    }
}

/// The fewest prefixes that make up a range.
struct Prefixes<K> {
    next: Option<K>,
    last: K,
}

impl<K: LpmKey + Bits> Iterator for Prefixes<K> {
    type Item = (K, u8);

    fn next(&mut self) -> Option<(K, u8)> {
        let first = self.next.filter(|first| *first <= self.last)?;
        // The longest run of host bits that are all clear in `first` and, all set, do not pass `last`.
        let mut hosts = first.trailing_zeros();
        while first.fill(hosts) > self.last {
            hosts -= 1;
        }
        self.next = first.fill(hosts).next();
        Some((first, u8::try_from(K::BITS - hosts).unwrap_or(u8::MAX)))
    }
}

/// Arithmetic that splitting ranges needs.
trait Bits: Sized {
    fn trailing_zeros(self) -> u32;
    /// With the lowest `count` bits set.
    fn fill(self, count: u32) -> Self;
    fn next(self) -> Option<Self>;
    fn before(self) -> Option<Self>;
}

impl Bits for u32 {
    fn trailing_zeros(self) -> u32 {
        self.trailing_zeros()
    }

    fn fill(self, count: u32) -> u32 {
        self | !u32::MAX.checked_shl(count).unwrap_or(0)
    }

    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }

    fn before(self) -> Option<u32> {
        self.checked_sub(1)
    }
}

impl Bits for u128 {
    fn trailing_zeros(self) -> u32 {
        self.trailing_zeros()
    }

    fn fill(self, count: u32) -> u128 {
        self | !u128::MAX.checked_shl(count).unwrap_or(0)
    }

    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }

    fn before(self) -> Option<u128> {
        self.checked_sub(1)
    }
}

/// A list of addresses, prefixes, ranges and named sets: any of them.
///
/// The families that it speaks of are those of the addresses written in the rule; a named set speaks of both,
/// whatever is in it at the moment, so that a negated match does not change its meaning with the set's contents.
#[derive(Clone, Debug, Default)]
pub struct AddressMatch {
    /// Those written in the rule.
    pub own: AddressSet,
    /// Named sets.
    pub sets: Box<[SetId]>,
}

impl AddressMatch {
    /// Prefixes alone.
    pub fn of_prefixes(prefixes: impl IntoIterator<Item = (IpAddr, u8)>) -> AddressMatch {
        AddressMatch { own: AddressSet::of_prefixes(prefixes), sets: Box::default() }
    }

    /// The only family that it speaks of, if it is one.
    pub(super) fn family(&self) -> Option<Family> {
        match (self.own.has(Family::V4), self.own.has(Family::V6), self.sets.is_empty()) {
            (true, false, true) => Some(Family::V4),
            (false, true, true) => Some(Family::V6),
            _ => None,
        }
    }

    /// Whether an address is in it; None if it is of a family that is not spoken of.
    #[inline]
    pub(super) fn contains(&self, ruleset: &Ruleset, address: IpAddr) -> Option<bool> {
        if self.own.contains(address) {
            return Some(true);
        }
        if self.sets.is_empty() {
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            return self.own.has(family).then_some(false);
        }
        let in_set =
            |set: &SetId| ruleset.address_sets.get(set.0 as usize).is_some_and(|set| set.contains(address));
        Some(self.sets.iter().any(in_set))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_and_ranges_of_both_families() {
        let mut builder = AddressSetBuilder::default();
        builder.prefix(ip("10.1.2.3"), 16);
        builder.prefix(ip("2001:db8::"), 32);
        builder.range(ip("192.0.2.10"), ip("192.0.2.20"));
        builder.range(ip("192.0.2.9"), ip("192.0.2.2"));
        let set = builder.build();
        for (address, expected) in [
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("192.0.2.10", true),
            ("192.0.2.20", true),
            ("192.0.2.21", false),
            ("192.0.2.5", false),
            ("2001:db8:ffff::", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(set.contains(ip(address)), expected, "{address}");
        }
        assert!(AddressSet::of_prefixes([(ip("::"), 0)]).contains(ip("ffff::")));
        assert!(!AddressSet::of_prefixes([(ip("::"), 0)]).has(Family::V4));
    }

    proptest! {
        #[test]
        fn a_trie_holds_the_same_as_its_ranges(
            ranges in prop::collection::vec((any::<u32>(), 0u32..1 << 24), 17..60),
            probes in prop::collection::vec(any::<u32>(), 100),
        ) {
            let ranges: Vec<(u32, u32)> =
                ranges.into_iter().map(|(first, size)| (first, first.saturating_add(size))).collect();
            let side = Side::new(ranges.clone());
            let ends = ranges.iter().flat_map(|&(a, b)| [a, b, a.wrapping_sub(1), b.wrapping_add(1)]);
            for key in probes.into_iter().chain(ends) {
                let expected = ranges.iter().any(|&(first, last)| first <= key && key <= last);
                prop_assert_eq!(side.contains(key), expected, "{}", key);
            }
        }
    }
}
