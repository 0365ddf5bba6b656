//! Named sets of addresses as they are asked: what was compiled, and what was changed since.
//!
//! A set of a million takes a second to compile; an address that is banned should not. So a change of a few elements goes
//! into two small sets beside the large one, which is shared; when these have grown to a part of it ([`PART`]), the
//! set is to be compiled again.
//!
//! Not here: which elements a set has. What goes is what no element covers any more, as the caller found.

use std::net::IpAddr;
use std::sync::Arc;

use crate::ruleset::AddressSet;

/// A change may be as large as one of so many parts of what was compiled.
const PART: usize = 16;

/// Ranges that a change may have beside sets that are small themselves.
const FEW: usize = 64;

/// A named set. A clone shares all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedAddresses {
    whole: Arc<AddressSet>,
    changes: Option<Arc<Changes>>,
}

/// What holds in place of what was compiled.
#[derive(Debug)]
struct Changes {
    come: AddressSet,
    gone: AddressSet,
}

impl NamedAddresses {
    /// A set as it was compiled.
    pub(super) fn new(set: AddressSet) -> NamedAddresses {
        NamedAddresses { whole: Arc::new(set), changes: None }
    }

    /// The set as it was compiled last.
    pub(super) fn whole(&self) -> &AddressSet {
        &self.whole
    }

    /// What came since.
    pub(super) fn come(&self) -> Option<&AddressSet> {
        self.changes.as_ref().map(|changes| &changes.come)
    }

    /// Whether an address is in it.
    #[inline]
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match &self.changes {
            None => self.whole.contains(address),
            Some(changes) => {
                changes.come.contains(address)
                    || self.whole.contains(address) && !changes.gone.contains(address)
            }
        }
    }

    /// The set without `gone` and with `come`; None if so much has changed that it is to be compiled again.
    pub(super) fn changed(&self, gone: &AddressSet, come: &AddressSet) -> Option<NamedAddresses> {
        let changes = match &self.changes {
            None => Changes { come: come.clone(), gone: gone.clone() },
            Some(before) => {
                Changes { come: before.come.without(gone).union(come), gone: before.gone.union(gone) }
            }
        };
        let most = (self.whole.ranges() / PART).max(FEW);
        (changes.come.ranges() + changes.gone.ranges() <= most)
            .then(|| NamedAddresses { whole: Arc::clone(&self.whole), changes: Some(Arc::new(changes)) })
    }

    /// What it keeps, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let changes = self.changes.as_ref().map_or(0, |changes| changes.come.bytes() + changes.gone.bytes());
        self.whole.bytes() + changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ruleset::AddressSetBuilder;

    fn set(ranges: &[(u8, u8)]) -> AddressSet {
        let mut builder = AddressSetBuilder::default();
        let address = |last: u8, v6: bool| -> IpAddr {
            let text = if v6 { format!("fd00::{last:x}") } else { format!("10.0.0.{last}") };
            text.parse().unwrap()
        };
        for &(a, b) in ranges {
            for v6 in [false, true] {
                builder.range(address(a.min(b), v6), address(a.max(b), v6));
            }
        }
        builder.build()
    }

    proptest! {
        /// Whatever comes and goes, the answer is that of the last word on each address.
        #[test]
        fn changes_are_as_if_the_set_had_been_compiled_again(
            whole in prop::collection::vec(any::<(u8, u8)>(), 0..20),
            changes in prop::collection::vec((any::<bool>(), any::<u8>(), 0u8..9), 0..40),
        ) {
            let mut named = NamedAddresses::new(set(&whole));
            let mut expected = [false; 256];
            for &(a, b) in &whole {
                (a.min(b)..=a.max(b)).for_each(|n| expected[usize::from(n)] = true);
            }
            for (comes, first, more) in changes {
                let range = (first, first.saturating_add(more));
                let (gone, come) = if comes { (set(&[]), set(&[range])) } else { (set(&[range]), set(&[])) };
                named = named.changed(&gone, &come).unwrap_or_else(|| {
                    let left: Vec<_> = (0..=255u8).filter(|n| expected[usize::from(*n)]).map(|n| (n, n)).collect();
                    NamedAddresses::new(set(&left)).changed(&gone, &come).unwrap()
                });
                (range.0..=range.1).for_each(|n| expected[usize::from(n)] = comes);
                for n in 0..=255u8 {
                    for address in [format!("10.0.0.{n}"), format!("fd00::{n:x}")] {
                        let found = named.contains(address.parse().unwrap());
                        prop_assert_eq!(found, expected[usize::from(n)], "{}", address);
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_change_is_none() {
        let many: Vec<(u8, u8)> = (0..100).map(|n| (2 * n, 2 * n)).collect();
        let named = NamedAddresses::new(set(&[(0, 255)]));
        assert!(named.changed(&AddressSet::default(), &set(&many)).is_none());
        assert!(named.changed(&set(&many[..20]), &AddressSet::default()).is_some());
        assert!(named.bytes() > 0);
    }
}
