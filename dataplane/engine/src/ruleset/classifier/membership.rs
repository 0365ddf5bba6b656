//! Which named sets an address is in, for chains of rules that differ by their sets alone.
//!
//! A set changes without its policy being compiled again, so trees leave fields open that only named sets confine
//! ([`super::area`]), and a chain of a thousand such rules would be compared one by one. Here all sets that tell rules of
//! such chains apart lie in one list: the places where the answer changes, in order. One search in it says which sets
//! hold an address, and [`super::listed`] which rules these have.
//!
//! A change of a few elements goes into a second, small list beside the large one. What went stays until a set is compiled
//! again: a set too many names a rule too many, whose own tests decide.
//!
//! Bounded: two places for each range of a set; an address that is in more than [`MOST`] sets is in *many*, and all rules that
//! are listed are looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::ruleset::changed::NamedAddresses;
use crate::ruleset::classifier::area::Number;
use crate::ruleset::{AddressSet, SetId};

/// Sets that an address can be in, to be told apart.
const MOST: usize = 16;

/// The sets that chains are searched by. A clone shares all of it.
#[derive(Clone, Debug, Default)]
pub(in crate::ruleset) struct Membership {
    sets: Arc<[SetId]>,
    /// As the sets were compiled.
    whole: Arc<Map>,
    /// What came since.
    come: Arc<Map>,
}

impl Membership {
    /// Of those of `all` that are named in `sets`, sorted.
    pub(in crate::ruleset) fn new(sets: Vec<SetId>, all: &[NamedAddresses]) -> Membership {
        let none = Membership { sets: sets.into(), ..Membership::default() };
        none.with_whole(all)
    }

    /// The same sets, of which one was compiled again.
    pub(in crate::ruleset) fn with_compiled(&self, set: SetId, all: &[NamedAddresses]) -> Membership {
        if self.sets.contains(&set) { self.with_whole(all) } else { self.clone() }
    }

    /// The same sets, of which one was changed in a few elements.
    pub(in crate::ruleset) fn with_changed(&self, set: SetId, all: &[NamedAddresses]) -> Membership {
        if self.sets.contains(&set) { self.with_come(all) } else { self.clone() }
    }

    fn with_whole(&self, all: &[NamedAddresses]) -> Membership {
        let whole = Map::build(self.named(all).map(|(id, set)| (id, set.whole())).collect());
        Membership { whole: Arc::new(whole), ..self.with_come(all) }
    }

    fn with_come(&self, all: &[NamedAddresses]) -> Membership {
        let come = Map::build(self.named(all).filter_map(|(id, set)| Some((id, set.come()?))).collect());
        Membership { come: Arc::new(come), ..self.clone() }
    }

    fn named<'a>(&'a self, all: &'a [NamedAddresses]) -> impl Iterator<Item = (SetId, &'a NamedAddresses)> {
        self.sets.iter().filter_map(|id| Some((*id, all.get(id.0 as usize)?)))
    }

    /// The sets that hold an address, or held it before they were changed; from two lists, which may name a set twice.
    #[inline]
    pub(super) fn of(&self, address: IpAddr) -> [&Group; 2] {
        [self.whole.find(address), self.come.find(address)]
    }

    /// What it keeps, in bytes.
    pub(in crate::ruleset) fn bytes(&self) -> usize {
        self.whole.bytes() + self.come.bytes()
    }
}

/// Sets that an address is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// These, sorted; none if empty.
    Sets(Vec<SetId>),
    /// More than can be told apart.
    Many,
}

/// The sets that hold each address.
#[derive(Debug, Default)]
struct Map {
    v4: Side<u32>,
    v6: Side<u128>,
    groups: Box<[Group]>,
}

impl Map {
    fn build(sets: Vec<(SetId, &AddressSet)>) -> Map {
        let mut groups = Groups::default();
        let (v4, v6) = (Side::build(&sets, &mut groups), Side::build(&sets, &mut groups));
        Map { v4, v6, groups: groups.all.into() }
    }

    #[inline]
    fn find(&self, address: IpAddr) -> &Group {
        static NONE: Group = Group::Sets(Vec::new());
        let place = match address {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        };
        place.and_then(|place| self.groups.get(place as usize)).unwrap_or(&NONE)
    }

    fn bytes(&self) -> usize {
        let named = |group: &Group| match group {
            Group::Sets(sets) => size_of_val(&**sets),
            Group::Many => 0,
        };
        let groups = size_of_val(&*self.groups) + self.groups.iter().map(named).sum::<usize>();
        self.v4.bytes() + self.v6.bytes() + groups
    }
}

/// The addresses of one family.
#[derive(Debug, Default)]
struct Side<K> {
    /// Where the sets that hold an address are others than those of the address before, in order.
    starts: Box<[K]>,
    /// Which these are from there on, by their place in [`Map::groups`].
    groups: Box<[u32]>,
}

impl<K: Number> Side<K> {
    fn build(sets: &[(SetId, &AddressSet)], groups: &mut Groups) -> Side<K> {
        let mut ends = Vec::new();
        for (id, set) in sets {
            for &(first, last) in K::ranges(set) {
                ends.push((first, *id, true));
                ends.extend(last.after().map(|after| (after, *id, false)));
            }
        }
        ends.sort_unstable_by_key(|(place, ..)| *place);
        let (mut starts, mut found, mut inside) = (Vec::new(), Vec::new(), Vec::new());
        for here in ends.chunk_by(|(a, ..), (b, ..)| a == b) {
            for &(_, id, comes) in here {
                match (inside.binary_search(&id), comes) {
                    (Err(place), true) => inside.insert(place, id),
                    (Ok(place), false) => drop(inside.remove(place)),
                    _ => {}
                }
            }
            let group = groups.place_of(&inside);
            if found.last() != Some(&group) {
                starts.extend(here.first().map(|(place, ..)| *place));
                found.push(group);
            }
        }
        Side { starts: starts.into(), groups: found.into() }
    }

    #[inline]
    fn find(&self, address: K) -> Option<u32> {
        let behind = self.starts.partition_point(|start| *start <= address);
        self.groups.get(behind.checked_sub(1)?).copied()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.groups)
    }
}

/// Groups that were met, each once.
#[derive(Default)]
struct Groups {
    all: Vec<Group>,
    places: HashMap<Vec<SetId>, u32>,
    many: Option<u32>,
}

impl Groups {
    fn place_of(&mut self, sets: &[SetId]) -> u32 {
        let next = self.all.len() as u32;
        if sets.len() > MOST {
            return *self.many.get_or_insert_with(|| {
                self.all.push(Group::Many);
                next
            });
        }
        if let Some(place) = self.places.get(sets) {
            return *place;
        }
        self.all.push(Group::Sets(sets.to_vec()));
        self.places.insert(sets.to_vec(), next);
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ruleset::AddressSetBuilder;

    fn set(ranges: &[(u8, u8)]) -> AddressSet {
        let mut builder = AddressSetBuilder::default();
        for &(a, b) in ranges {
            // The last address of all has none behind it.
            let of = |n: u8| u32::MAX - 255 + u32::from(n);
            builder.range(IpAddr::V4(of(a.min(b)).into()), IpAddr::V4(of(a.max(b)).into()));
        }
        builder.build()
    }

    proptest! {
        /// Every set that holds an address is named, and no other; also after changes, but for what went.
        #[test]
        fn sets_are_named_that_hold_an_address(
            sets in prop::collection::vec(prop::collection::vec(any::<(u8, u8)>(), 0..3), 1..24),
            changes in prop::collection::vec((0usize..24, any::<(u8, u8)>(), any::<bool>()), 0..6),
        ) {
            let mut all: Vec<_> = sets.iter().map(|ranges| NamedAddresses::new(set(ranges))).collect();
            let ids = (0..all.len() as u32).map(SetId).collect();
            let mut membership = Membership::new(ids, &all);
            let mut exact = true;
            for (place, range, comes) in changes {
                let (place, none) = (place % all.len(), AddressSet::default());
                let (gone, come) = if comes { (none, set(&[range])) } else { (set(&[range]), none) };
                all[place] = all[place].changed(&gone, &come).unwrap();
                membership = membership.with_changed(SetId(place as u32), &all);
                exact = false;
            }
            for n in 0..=255u32 {
                let address = IpAddr::V4((u32::MAX - n).into());
                let holding: Vec<_> =
                    (0..).zip(&all).filter(|(_, set)| set.contains(address)).map(|(id, _)| SetId(id)).collect();
                let [whole, come] = membership.of(address);
                match (whole, come) {
                    (Group::Sets(whole), Group::Sets(come)) => {
                        let named = |id: &SetId| whole.contains(id) || come.contains(id);
                        prop_assert!(holding.iter().all(named), "{holding:?} of {whole:?} {come:?}");
                        prop_assert!(!exact || *whole == holding);
                    }
                    _ => prop_assert!(!exact || holding.len() > MOST),
                }
            }
        }
    }
}
