//! The tree as packets meet it: nodes that cut one field, leaves that list areas in the order of their rules.
//!
//! A node looks a packet's field up among up to [`CUTS`] keys, and leads to one child; areas too wide for a
//! child, which would have to be in many, hang in a subtree of their own beside the children, so a packet ends in a few
//! leaves ([`LISTS`] at the most), between which [`Heads`] goes by rule number.
//!
//! A node is two lines of a cache for IPv4, five for IPv6; a leaf is a run of [`Block`], 176 and 368 bytes each.

use crate::arch;
use crate::ruleset::classifier::area::{Area, Field, Number, Point};
use crate::ruleset::classifier::{IndexStats, Named};
use crate::ruleset::guard::Guard;

/// Keys of a node.
pub(super) const CUTS: usize = 14;

/// Leaves in which one packet ends at the most.
pub(super) const LISTS: usize = 16;

/// Where a subtree is: a node's index, with [`Place::LEAF`] the index of a leaf's first block, or nowhere.
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
        let place = K::above(&self.keys, point.field(self.field));
        self.children.get(place).copied().unwrap_or(Place::NOWHERE)
    }
}

/// Areas of a leaf that are compared at once.
pub(super) const ABREAST: usize = 4;

/// Some areas of a leaf, in the order of their rules, field by field. Places that no area has admit nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<K> {
    sources: [[K; ABREAST]; 2],
    destinations: [[K; ABREAST]; 2],
    guards: [[u64; ABREAST]; 2],
    /// First and last ports: sources', then destinations'.
    ports: [[u16; 2 * ABREAST]; 2],
    /// The rules' indices with [`Block::EXACT`]; that of the first with [`Block::LAST`].
    rules: [u32; ABREAST],
}

impl<K: Number> Block<K> {
    /// The leaf ends here. No ruleset has that many rules.
    const LAST: u32 = 1 << 30;

    /// See [`Area::exact`].
    const EXACT: u32 = 1 << 31;

    /// Of up to [`ABREAST`] areas.
    pub(super) fn new<'a>(areas: impl IntoIterator<Item = &'a Area<K>>, last: bool) -> Block<K>
    where
        K: 'a,
    {
        let nobody = Guard::NOBODY.words();
        let mut block = Block {
            sources: Default::default(),
            destinations: Default::default(),
            guards: nobody.map(|word| [word; ABREAST]),
            ports: Default::default(),
            rules: [Block::<K>::LAST - 1; ABREAST],
        };
        for (n, area) in areas.into_iter().enumerate() {
            let (source, destination) = (area.range(Field::Source), area.range(Field::Destination));
            set(&mut block.sources, n, source.into());
            set(&mut block.destinations, n, destination.into());
            set(&mut block.guards, n, area.guard.words());
            for (place, field) in [(n, Field::SourcePort), (n + ABREAST, Field::DestinationPort)] {
                set(&mut block.ports, place, <[K; 2]>::from(area.range(field)).map(K::narrow));
            }
            if let Some(rule) = block.rules.get_mut(n) {
                *rule = area.rule | if area.exact { Block::<K>::EXACT } else { 0 };
            }
        }
        if let [first, ..] = &mut block.rules
            && last
        {
            *first |= Block::<K>::LAST;
        }
        block
    }

    /// The rule of its `n`th area.
    #[inline(always)]
    fn rule(&self, n: usize) -> Named {
        let packed = self.rules.get(n).copied().unwrap_or(u32::MAX);
        Named { rule: packed & (Block::<K>::LAST - 1), exact: packed & Block::<K>::EXACT != 0 }
    }

    #[inline(always)]
    fn is_last(&self) -> bool {
        self.rules.first().is_none_or(|first| first & Block::<K>::LAST != 0)
    }

    /// Which of its areas a packet is in, a bit each. All are asked, since which question a packet fails at is nothing that
    /// a processor could learn.
    #[inline(always)]
    fn admits(&self, point: &Point<K>) -> u32 {
        let ports = arch::within_16(&self.ports, [point.ports.0, point.ports.1]);
        arch::equal_masked(&self.guards, point.guard.word())
            & K::within(&self.sources, point.field(Field::Source))
            & K::within(&self.destinations, point.field(Field::Destination))
            & ports
            & ports >> ABREAST
    }
}

/// Puts the `n`th of two lists' elements into its places.
fn set<T, const N: usize>(lists: &mut [[T; N]; 2], n: usize, values: [T; 2]) {
    for (list, value) in lists.iter_mut().zip(values) {
        if let Some(place) = list.get_mut(n) {
            *place = value;
        }
    }
}

/// The areas of a chain's rules for packets of one family.
#[derive(Debug)]
pub(super) struct Tree<K> {
    pub(super) root: Place,
    pub(super) nodes: Box<[Node<K>]>,
    pub(super) blocks: Box<[Block<K>]>,
    /// Areas in all leaves.
    pub(super) entries: usize,
    /// Leaves that a packet ends in at the most.
    pub(super) leaves: usize,
    /// Entries in these leaves at the most.
    pub(super) longest: usize,
}

impl<K> Tree<K> {
    /// Asks for the first block of a leaf.
    #[inline(always)]
    fn ask_for(&self, block: u32) {
        if let Some(block) = self.blocks.get(block as usize) {
            arch::prefetch(block);
            arch::prefetch_end(block);
        }
    }

    pub(super) fn stats(&self) -> IndexStats {
        IndexStats {
            nodes: self.nodes.len(),
            entries: self.entries,
            bytes: size_of_val(&*self.nodes) + size_of_val(&*self.blocks),
            leaves: self.leaves,
            longest: self.longest,
            by_sets: 0,
        }
    }
}

/// Where in a tree the rules are that may match a packet, in their order: leaves that it ended in, each read up to its next
/// area that the packet is in, or whose rule comes behind another leaf's.
#[derive(Debug)]
pub(super) struct Heads {
    /// Blocks, one of each leaf; [`u32::MAX`] at its end.
    blocks: [u32; LISTS],
    len: usize,
}

impl Heads {
    /// In no tree.
    pub(super) const NONE: Heads = Heads { blocks: [u32::MAX; LISTS], len: 0 };

    /// Finds a packet's leaves. What is kept is written where it stays, since a copy right behind it would wait for it.
    #[inline]
    pub(super) fn find<K: Number>(&mut self, tree: &Tree<K>, point: &Point<K>) {
        let mut pending = [Place::NOWHERE; LISTS];
        let (mut waiting, mut len) = (0, 0);
        let mut place = tree.root;
        loop {
            while place.0 & Place::LEAF == 0 {
                let Some(node) = tree.nodes.get(place.0 as usize) else { break };
                arch::prefetch_end(node);
                // Whether there is one differs from node to node: no branch, but a place that is not kept.
                if let Some(slot) = pending.get_mut(waiting) {
                    *slot = node.wide;
                    waiting += usize::from(node.wide != Place::NOWHERE);
                }
                place = node.child(point);
            }
            if let Some(head) = self.blocks.get_mut(len) {
                *head = place.0 & !Place::LEAF;
                tree.ask_for(*head);
                len += usize::from(place != Place::NOWHERE);
            }
            let Some(next) = waiting.checked_sub(1) else { break };
            waiting = next;
            place = pending.get(next).copied().unwrap_or(Place::NOWHERE);
        }
        self.len = len;
    }

    /// The first of the rules that is not before rule `from`; to be asked with ever higher numbers, of the tree and the packet
    /// that they were found in and for.
    #[inline]
    pub(super) fn next<K: Number>(&mut self, tree: &Tree<K>, point: &Point<K>, from: u32) -> Option<Named> {
        let mut first = Named { rule: u32::MAX, exact: false };
        for head in self.blocks.iter_mut().take(self.len) {
            let mut place = *head;
            'leaf: for block in tree.blocks.get(place as usize..).unwrap_or_default() {
                if block.rule(0).rule >= first.rule {
                    break;
                }
                let mut admits = block.admits(point);
                while admits != 0 {
                    let named = block.rule(admits.trailing_zeros() as usize);
                    if named.rule >= from {
                        if named.rule < first.rule {
                            first = named;
                        }
                        break 'leaf;
                    }
                    admits &= admits - 1;
                }
                if block.is_last() {
                    place = u32::MAX;
                    break;
                }
                place += 1;
            }
            *head = place;
        }
        (first.rule != u32::MAX).then_some(first)
    }
}
