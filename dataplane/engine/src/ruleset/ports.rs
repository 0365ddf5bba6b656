//! Sets of port numbers, and the match on one.

use crate::ruleset::{Ruleset, SetId};

/// Ranges that are compared one by one; more are looked up in a bitmap.
const FEW: usize = 8;

/// An immutable set of port numbers.
#[derive(Clone, Debug, Default)]
pub struct PortSet {
    /// Sorted, apart from each other, both ends included.
    ranges: Box<[(u16, u16)]>,
    /// One bit a port, if there are more than [`FEW`] ranges.
    bitmap: Option<Box<[u64]>>,
}

impl PortSet {
    /// The union of ranges, both ends included; a range that runs backwards is empty.
    pub fn new(ranges: impl IntoIterator<Item = (u16, u16)>) -> PortSet {
        let mut sorted: Vec<(u16, u16)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        sorted.dedup_by(|later, kept| {
            let touches = u32::from(later.0) <= u32::from(kept.1) + 1;
            if touches {
                kept.1 = kept.1.max(later.1);
            }
            touches
        });
        let bitmap = (sorted.len() > FEW).then(|| {
            let mut words = vec![0u64; 1024];
            for port in sorted.iter().flat_map(|&(first, last)| first..=last) {
                if let Some(word) = words.get_mut(usize::from(port / 64)) {
                    *word |= 1 << (port % 64);
                }
            }
            words.into_boxed_slice()
        });
        PortSet { ranges: sorted.into_boxed_slice(), bitmap }
    }

    /// Whether a port is in it.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        match &self.bitmap {
            Some(words) => words.get(usize::from(port / 64)).is_some_and(|word| word >> (port % 64) & 1 != 0),
            None => self.ranges.iter().any(|&(first, last)| first <= port && port <= last),
        }
    }

    /// Whether there is no port in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// What it keeps, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ranges) + self.bitmap.as_ref().map_or(0, |words| size_of_val(&**words))
    }

    /// Its ports, as ranges in order.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }
}

/// A list of ports, ranges and named sets: any of them.
#[derive(Clone, Debug, Default)]
pub struct PortMatch {
    /// Those written in the rule.
    pub own: PortSet,
    /// Named sets.
    pub sets: Box<[SetId]>,
}

impl PortMatch {
    /// Ports and ranges alone.
    pub fn of(ranges: impl IntoIterator<Item = (u16, u16)>) -> PortMatch {
        PortMatch { own: PortSet::new(ranges), sets: Box::default() }
    }

    /// The port, if it is one alone.
    pub(super) fn single(&self) -> Option<u16> {
        match (self.own.ranges(), self.sets.is_empty()) {
            (&[(first, last)], true) if first == last => Some(first),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn contains(&self, ruleset: &Ruleset, port: u16) -> bool {
        let in_set =
            |set: &SetId| ruleset.port_sets.get(set.0 as usize).is_some_and(|set| set.contains(port));
        self.own.contains(port) || self.sets.iter().any(in_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined() {
        let set = PortSet::new([(80, 90), (20, 10), (91, 100), (85, 88), (65535, 65535), (0, 0)]);
        assert_eq!(set.ranges(), [(0, 0), (80, 100), (65535, 65535)]);
        assert!(set.contains(0) && set.contains(100) && set.contains(65535) && !set.contains(15));
    }

    #[test]
    fn a_bitmap_holds_the_same_as_its_ranges() {
        let set = PortSet::new((0..2000u16).map(|n| (n * 30, n * 30 + n % 7)));
        assert!(set.bitmap.is_some());
        for port in 0..=u16::MAX {
            let expected = set.ranges().iter().any(|&(first, last)| (first..=last).contains(&port));
            assert_eq!(set.contains(port), expected, "{port}");
        }
    }
}
