//! Rules that only named sets tell from each other, listed by these sets instead of being put into a chain's tree.
//!
//! A rule is listed whose source or destination is in named sets and nothing else, if few rules ask for the same sets:
//! those of a set that many rules have are told apart by what else they ask, in the tree. [`super::membership`] says which
//! sets hold a packet's addresses; the rules of those are candidates, in their order, beside those that the tree finds.
//!
//! Not here: ports in named sets, and what `not` says; such rules stay in the tree.

use std::collections::HashMap;

use sluice_wire::Addrs;

use crate::ruleset::classifier::membership::{Group, Membership};
use crate::ruleset::guard::{Guard, GuardKey};
use crate::ruleset::{Match, RuleSpec, SetId, Test};

/// Rules that may have the same set to be listed by it.
const RULES_OF_SET: usize = 8;

/// The rules of a chain that are listed.
#[derive(Debug)]
pub(super) struct Listed {
    /// By the set that their source must be in, and their destination.
    source: BySet,
    destination: BySet,
    /// All of them.
    all: Box<[Entry]>,
}

/// A rule with its guard.
type Entry = (u32, Guard);

/// Which address of a packet a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Source,
    Destination,
}

impl Listed {
    /// Those of a chain, whose first rule has number `start`. None if they are no more than `few`.
    pub(super) fn of(rules: &[(RuleSpec, Guard)], start: u32, few: usize) -> Option<Box<Listed>> {
        let mut users: HashMap<(End, SetId), usize> = HashMap::new();
        for (end, sets) in rules.iter().flat_map(|(spec, _)| spec.tests.iter().filter_map(asked)) {
            for set in sets {
                *users.entry((end, *set)).or_default() += 1;
            }
        }
        let rare = |(end, sets): &(End, &[SetId])| {
            sets.iter().all(|set| users.get(&(*end, *set)).is_some_and(|users| *users <= RULES_OF_SET))
        };
        let (mut source, mut destination, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for ((spec, guard), rule) in rules.iter().zip(start..) {
            let Some((end, sets)) = spec.tests.iter().filter_map(asked).find(rare) else { continue };
            let list = match end {
                End::Source => &mut source,
                End::Destination => &mut destination,
            };
            list.extend(sets.iter().map(|set| (*set, (rule, *guard))));
            all.push((rule, *guard));
        }
        let (source, destination) = (BySet::of(source), BySet::of(destination));
        (all.len() > few).then(|| Box::new(Listed { source, destination, all: all.into() }))
    }

    /// Whether a rule is listed.
    pub(super) fn has(&self, rule: u32) -> bool {
        self.all.binary_search_by_key(&rule, |(listed, _)| *listed).is_ok()
    }

    /// How many rules are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The sets that they are listed by.
    pub(super) fn sets(&self) -> impl Iterator<Item = SetId> {
        self.source.sets().chain(self.destination.sets())
    }

    /// What it keeps, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.source.bytes() + self.destination.bytes() + size_of_val(&*self.all)
    }

    /// Those that may match a packet.
    #[inline]
    pub(super) fn find<'i>(&'i self, key: GuardKey, addrs: &Addrs, sets: &'i Membership) -> Found<'i> {
        let ([a, b], [c, d]) = (sets.of(addrs.src()), sets.of(addrs.dst()));
        Found {
            listed: self,
            key,
            groups: [(&self.source, a), (&self.source, b), (&self.destination, c), (&self.destination, d)],
        }
    }
}

/// The sets that alone confine an address, if that is what a test says.
fn asked(test: &Test) -> Option<(End, &[SetId])> {
    let (end, list) = match &test.what {
        Match::Source(list) => (End::Source, list),
        Match::Destination(list) => (End::Destination, list),
        _ => return None,
    };
    (!test.negated && list.own.ranges() == 0 && !list.sets.is_empty()).then_some((end, &*list.sets))
}

/// Rules by a set that they ask for.
#[derive(Debug)]
struct BySet {
    /// By [`SetId`]: where in `rules` its own begin, and where they end.
    places: Box<[(u32, u32)]>,
    rules: Box<[Entry]>,
}

impl BySet {
    fn of(mut list: Vec<(SetId, Entry)>) -> BySet {
        list.sort_by_key(|(set, (rule, _))| (*set, *rule));
        list.dedup_by_key(|(set, (rule, _))| (*set, *rule));
        let sets = list.last().map_or(0, |(set, _)| set.0 as usize + 1);
        let mut places = vec![(0, 0); sets];
        for ((set, _), place) in list.iter().zip(0..) {
            if let Some((first, end)) = places.get_mut(set.0 as usize) {
                *first = if *end == 0 { place } else { *first };
                *end = place + 1;
            }
        }
        BySet { places: places.into(), rules: list.into_iter().map(|(_, entry)| entry).collect() }
    }

    fn sets(&self) -> impl Iterator<Item = SetId> {
        (0..).zip(&self.places).filter(|(_, (first, end))| first < end).map(|(set, _)| SetId(set))
    }

    #[inline]
    fn rules(&self, set: SetId) -> &[Entry] {
        let Some(&(first, end)) = self.places.get(set.0 as usize) else { return &[] };
        self.rules.get(first as usize..end as usize).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.places) + size_of_val(&*self.rules)
    }
}

/// The rules of a chain that are listed under a packet's sets.
#[derive(Debug)]
pub(super) struct Found<'i> {
    listed: &'i Listed,
    key: GuardKey,
    groups: [(&'i BySet, &'i Group); 4],
}

impl Found<'_> {
    /// The first of them that is not before rule `from`.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let mut first = None;
        for (rules, group) in &self.groups {
            match group {
                Group::Sets(sets) => {
                    for set in sets {
                        first = earlier(first, self.first_of(rules.rules(*set), from));
                    }
                }
                Group::Many => first = earlier(first, self.first_of(&self.listed.all, from)),
            }
        }
        first
    }

    fn first_of(&self, rules: &[Entry], from: u32) -> Option<u32> {
        let behind = rules.partition_point(|(rule, _)| *rule < from);
        let mut rest = rules.get(behind..)?.iter();
        rest.find(|(_, guard)| guard.admits(self.key)).map(|(rule, _)| *rule)
    }
}

fn earlier(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
