//! The tree as packets meet it: nodes that cut one field, leaves that list areas in the order of their rules.
//!
//! A node looks a packet's field up among up to [`CUTS`] keys, and leads to one child; areas too wide for a
//! child, which would have to be in many, hang in a subtree of their own beside the children, so a packet ends in a few
//! leaves ([`LISTS`] at the most), between which [`Candidates`] goes by rule number.
//!
//! A node is two lines of a cache for IPv4, five for IPv6; a leaf is a run of [`Entry`], 48 and 96 bytes each.

use crate::ruleset::classifier::IndexStats;
use crate::ruleset::classifier::area::{Area, Field, Number, Point};
use crate::ruleset::guard::Guard;

/// Keys of a node.
pub(super) const CUTS: usize = 14;

/// Leaves in which one packet ends at the most.
pub(super) const LISTS: usize = 16;

/// Where a subtree is: a node's index, with [`Place::LEAF`] the index of a leaf's first entry, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// A subtree without areas.
    pub(super) const NOWHERE: Place = Place(u32::MAX);
    const LEAF: u32 = 1 << 31;

    pub(super) fn node(index: usize) -> Place {
        Place(index as u32)
    }

    pub(super) fn leaf(first: usize) -> Place {
        Place(first as u32 | Place::LEAF)
    }
}

/// Cuts one field.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Node<K> {
    /// Where children begin, but for the first; what is not used repeats the last.
    pub(super) keys: [K; CUTS],
    pub(super) field: Field,
    /// Areas that are too wide for a child.
    pub(super) wide: Place,
    pub(super) children: [Place; CUTS + 1],
}

impl<K: Number> Node<K> {
    #[inline(always)]
    fn child(&self, point: &Point<K>) -> Place {
        let value = point.field(self.field);
        // By halves, without a branch; counting all keys that are not above takes twice the instructions.
        let mut place = 0;
        for half in [8, 4, 2, 1] {
            if self.keys.get(place + half - 1).is_some_and(|key| *key <= value) {
                place += half;
            }
        }
        self.children.get(place).copied().unwrap_or(Place::NOWHERE)
    }
}

/// An area in a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<K> {
    source: (K, K),
    destination: (K, K),
    guard: Guard,
    sport: (u16, u16),
    dport: (u16, u16),
    /// The rule's index, and [`Entry::LAST`].
    rule: u32,
}

impl<K: Number> Entry<K> {
    /// The leaf ends here. No ruleset has that many rules.
    const LAST: u32 = 1 << 31;

    pub(super) fn new(area: &Area<K>, last: bool) -> Entry<K> {
        let ports = |field| {
            let (first, last) = area.range(field);
            (first.narrow(), last.narrow())
        };
        Entry {
            source: area.range(Field::Source),
            destination: area.range(Field::Destination),
            guard: area.guard,
            sport: ports(Field::SourcePort),
            dport: ports(Field::DestinationPort),
            rule: area.rule | if last { Entry::<K>::LAST } else { 0 },
        }
    }

    #[inline(always)]
    fn rule(&self) -> u32 {
        self.rule & !Entry::<K>::LAST
    }

    #[inline(always)]
    fn admits(&self, point: &Point<K>) -> bool {
        let within = |(first, last): (K, K), field| {
            let value = point.field(field);
            first <= value && value <= last
        };
        let (sport, dport) = point.ports;
        self.guard.admits(point.guard)
            && within(self.source, Field::Source)
            && within(self.destination, Field::Destination)
            && self.sport.0 <= sport
            && sport <= self.sport.1
            && self.dport.0 <= dport
            && dport <= self.dport.1
    }
}

/// The areas of a chain's rules for packets of one family.
#[derive(Debug)]
pub(super) struct Tree<K> {
    pub(super) root: Place,
    pub(super) nodes: Box<[Node<K>]>,
    pub(super) entries: Box<[Entry<K>]>,
    /// Leaves that a packet ends in at the most.
    pub(super) leaves: usize,
    /// Entries in these leaves at the most.
    pub(super) longest: usize,
}

impl<K> Tree<K> {
    pub(super) fn stats(&self) -> IndexStats {
        IndexStats {
            nodes: self.nodes.len(),
            entries: self.entries.len(),
            bytes: size_of_val(&*self.nodes) + size_of_val(&*self.entries),
            leaves: self.leaves,
            longest: self.longest,
            by_sets: 0,
        }
    }
}

/// The rules of a chain that may match a packet, in their order: leaves that it ended in, each read up to its next entry
/// that admits the packet, or whose rule comes behind another leaf's.
#[derive(Debug)]
pub(super) struct Candidates<'t, K> {
    tree: &'t Tree<K>,
    point: Point<K>,
    /// Entries, one of each leaf; [`u32::MAX`] at its end.
    heads: [u32; LISTS],
    len: usize,
}

impl<'t, K: Number> Candidates<'t, K> {
    #[inline]
    pub(super) fn find(tree: &'t Tree<K>, point: Point<K>) -> Candidates<'t, K> {
        let mut found = Candidates { tree, point, heads: [u32::MAX; LISTS], len: 0 };
        let mut pending = [Place::NOWHERE; LISTS];
        let mut waiting = 0;
        let mut place = tree.root;
        loop {
            while place.0 & Place::LEAF == 0 {
                let Some(node) = tree.nodes.get(place.0 as usize) else { break };
                if node.wide != Place::NOWHERE
                    && let Some(slot) = pending.get_mut(waiting)
                {
                    *slot = node.wide;
                    waiting += 1;
                }
                place = node.child(&found.point);
            }
            if place != Place::NOWHERE
                && let Some(head) = found.heads.get_mut(found.len)
            {
                *head = place.0 & !Place::LEAF;
                found.len += 1;
            }
            let Some(next) = waiting.checked_sub(1) else { return found };
            waiting = next;
            place = pending.get(next).copied().unwrap_or(Place::NOWHERE);
        }
    }

    /// The first of them that is not before rule `from`; to be asked with ever higher numbers.
    #[inline]
    pub(super) fn next(&mut self, from: u32) -> Option<u32> {
        let mut first = u32::MAX;
        for head in self.heads.iter_mut().take(self.len) {
            let mut place = *head;
            for entry in self.tree.entries.get(place as usize..).unwrap_or_default() {
                let rule = entry.rule();
                if rule >= first {
                    break;
                }
                // Few admit the packet, so that is asked before whether the rule was named already.
                if entry.admits(&self.point) && rule >= from {
                    first = rule;
                    break;
                }
                if entry.rule & Entry::<K>::LAST != 0 {
                    place = u32::MAX;
                    break;
                }
                place += 1;
            }
            *head = place;
        }
        (first != u32::MAX).then_some(first)
    }
}
