//! How a tree is grown: node by node, the cut that promises the least work for a packet.
//!
//! Every field is tried with keys at even parts of the areas' ends, on a sample of the areas. Areas that would lie in
//! more than a few of the children are kept apart, in a subtree of their own, if that promises less than having
//! them in each; which of the two, and at what width, is part of the choice. Where no cut promises anything, a leaf
//! stays, however long.
//!
//! What may be spent is fixed before: copies of areas ([`COPIES`]), work, depth, and leaves that one packet ends in
//! ([`LISTS`]). Rules made to defeat the tree therefore cost time of packets (long leaves are read in order, like a
//! chain without a tree), never memory or time of the compiler beyond that.
//!
//! Source: after Li, Li, Li and Xie, "CutSplit: A Decision-Tree Combining Cutting and Splitting for Scalable Packet
//! Classification", INFOCOM 2018, and Vamanan, Voskuilen and Vijaykumar, "EffiCuts", SIGCOMM 2010; that wide rules are
//! kept apart at any node, by estimate, is ours.

use crate::ruleset::classifier::area::{Area, Field, Number};
use crate::ruleset::classifier::tree::{ABREAST, Block, CUTS, LISTS, Node, Place, Tree};

/// Areas that are not worth a node.
const FEW: usize = 8;

/// Entries for each area, on the average, at the most.
const COPIES: usize = 6;

/// Copies that one cut may make, for each area: where a generous one leaves a child with nearly all, a thrifty one is tried.
const COPIES_OF_CUT: [f32; 2] = [1.0, 0.5];

/// The same where nothing can be kept apart any more, and wide areas have to be copied.
const COPIES_WITHOUT_LISTS: [f32; 2] = [4.0, 1.0];

/// Areas looked at to choose keys, and to judge them.
const SAMPLE: usize = 256;
const TRIAL: usize = 2048;

/// Nodes above each other.
const DEPTH: usize = 40;

/// How many children an area may lie in before it is kept apart: the widths that are tried.
const REACHES: [usize; 3] = [1, 3, CUTS + 1];

/// Grows the tree of a chain's areas, which come in the order of their rules.
pub(super) fn grow<K: Number>(areas: &[Area<K>]) -> Tree<K> {
    let mut grower = Grower {
        areas,
        nodes: Vec::new(),
        blocks: Vec::with_capacity(areas.len() / 2),
        entries: 0,
        spare: areas.len() * (COPIES - 1),
        work: areas.len().saturating_mul(64).saturating_add(1 << 16),
    };
    let members = (0..areas.len() as u32).collect();
    let everywhere = [(K::default(), K::LAST); Field::COUNT];
    let root = grower.subtree(members, &everywhere, LISTS, DEPTH);
    Tree {
        root: root.place,
        nodes: grower.nodes.into(),
        blocks: grower.blocks.into(),
        entries: grower.entries,
        leaves: root.leaves,
        longest: root.longest,
    }
}

struct Grower<'a, K> {
    areas: &'a [Area<K>],
    nodes: Vec<Node<K>>,
    blocks: Vec<Block<K>>,
    /// Areas in all leaves.
    entries: usize,
    /// Copies that may still be made.
    spare: usize,
    /// Areas that may still be sorted into children.
    work: usize,
}

/// A subtree that was made.
#[derive(Clone, Copy)]
struct Grown {
    place: Place,
    /// Leaves that a packet ends in at the most, and entries in them.
    leaves: usize,
    longest: usize,
}

/// A range of each field.
type Region<K> = [(K, K); Field::COUNT];

/// A way to cut.
#[derive(Clone)]
struct Cut<K> {
    field: Field,
    keys: Vec<K>,
    /// Children that an area may lie in; wider ones are kept apart.
    reach: usize,
}

impl<K: Number> Grower<'_, K> {
    /// Makes a subtree of some areas, of which packets in `region` end in `lists` leaves at the most.
    fn subtree(&mut self, members: Vec<u32>, region: &Region<K>, lists: usize, depth: usize) -> Grown {
        if members.is_empty() {
            return Grown { place: Place::NOWHERE, leaves: 0, longest: 0 };
        }
        let affordable = members.len() <= self.work && depth > 0;
        if members.len() <= FEW || !affordable {
            return self.leaf(&members);
        }
        self.work -= members.len();
        let most = members.len() - members.len() / 16;
        for allowed in if lists < 2 { COPIES_WITHOUT_LISTS } else { COPIES_OF_CUT } {
            let Some(cut) = self.best_cut(&members, region, lists, allowed) else { break };
            let (children, wide) = self.part(&members, &cut);
            let copies = (children.iter().map(Vec::len).sum::<usize>() + wide.len()) - members.len();
            if wide.len() < most && children.iter().all(|child| child.len() < most) && copies <= self.spare {
                self.spare -= copies;
                drop(members);
                return self.node(&cut, children, wide, region, lists, depth - 1);
            }
        }
        self.leaf(&members)
    }

    fn leaf(&mut self, members: &[u32]) -> Grown {
        let place = Place::leaf(self.blocks.len());
        let last = members.len().div_ceil(ABREAST).saturating_sub(1);
        for (n, members) in members.chunks(ABREAST).enumerate() {
            let areas = members.iter().filter_map(|&member| self.areas.get(member as usize));
            self.blocks.push(Block::new(areas, n == last));
        }
        self.entries += members.len();
        Grown { place, leaves: 1, longest: members.len() }
    }

    fn node(
        &mut self,
        cut: &Cut<K>,
        children: Vec<Vec<u32>>,
        wide: Vec<u32>,
        region: &Region<K>,
        lists: usize,
        depth: usize,
    ) -> Grown {
        let index = self.nodes.len();
        let mut node = Node {
            keys: [K::LAST; CUTS],
            field: cut.field,
            wide: Place::NOWHERE,
            children: [Place::NOWHERE; CUTS + 1],
        };
        node.keys.iter_mut().zip(&cut.keys).for_each(|(place, key)| *place = *key);
        self.nodes.push(node);
        let aside = self.subtree(wide, region, lists / 2, depth);
        node.wide = aside.place;
        let mut most = Grown { place: Place::node(index), ..aside };
        let (mut leaves, mut longest) = (0, 0);
        for (n, child) in children.into_iter().enumerate() {
            let region = part_of(region, cut, n);
            let grown = self.subtree(child, &region, lists - aside.leaves, depth);
            // What lies behind the last key is never told from it: a packet's value may be the last number.
            node.children.iter_mut().skip(n).for_each(|place| *place = grown.place);
            leaves = leaves.max(grown.leaves);
            longest = longest.max(grown.longest);
        }
        most.leaves += leaves;
        most.longest += longest;
        if let Some(place) = self.nodes.get_mut(index) {
            *place = node;
        }
        most
    }

    /// The areas of each child, and those apart; each in the order of their rules.
    fn part(&self, members: &[u32], cut: &Cut<K>) -> (Vec<Vec<u32>>, Vec<u32>) {
        let mut children = vec![Vec::new(); cut.keys.len() + 1];
        let mut wide = Vec::new();
        for &member in members {
            let Some(area) = self.areas.get(member as usize) else { continue };
            let (first, last) = span(area, cut.field, &cut.keys);
            if last - first >= cut.reach {
                wide.push(member);
                continue;
            }
            for child in children.iter_mut().take(last + 1).skip(first) {
                child.push(member);
            }
        }
        (children, wide)
    }

    /// The cut that promises the least, if that is less than a leaf costs.
    fn best_cut(&self, members: &[u32], region: &Region<K>, lists: usize, allowed: f32) -> Option<Cut<K>> {
        let trial = sample(members, TRIAL);
        let scale = members.len() as f32 / trial.len() as f32;
        let mut best: Option<Cut<K>> = None;
        let mut least = leaf_cost(members.len() as f32);
        for field in Field::ALL {
            let keys = self.keys(members, field, region);
            if keys.is_empty() {
                continue;
            }
            let mut cut = Cut { field, keys, reach: 0 };
            // With room for one leaf nothing can be kept apart, whatever the sample says.
            for reach in REACHES.into_iter().skip(if lists < 2 { REACHES.len() - 1 } else { 0 }) {
                cut.reach = reach;
                match self.cost(&cut, &trial, scale, allowed) {
                    Some(cost) if cost < least => (least, best) = (cost, Some(cut.clone())),
                    _ => {}
                }
            }
        }
        best
    }

    /// Keys that part the ends of the areas in a region evenly, in order; none if all areas span it.
    fn keys(&self, members: &[u32], field: Field, region: &Region<K>) -> Vec<K> {
        let (low, high) = region.get(field as usize).copied().unwrap_or_default();
        let mut ends = Vec::with_capacity(2 * SAMPLE);
        for member in sample(members, SAMPLE) {
            let Some(area) = self.areas.get(member as usize) else { continue };
            let (first, last) = area.range(field);
            let begins = [Some(first), last.after()].into_iter().flatten();
            ends.extend(begins.filter(|begin| low < *begin && *begin <= high));
        }
        ends.sort_unstable();
        let wanted = (members.len() / 4).clamp(1, CUTS);
        let places = (1..=wanted).map(|n| n * ends.len() / (wanted + 1));
        let mut keys: Vec<K> = places.filter_map(|place| ends.get(place).copied()).collect();
        keys.dedup();
        keys
    }

    /// What a packet is thought to cost below this cut, judged by a sample of the areas that is `scale` times smaller;
    /// None if the cut may not be made.
    fn cost(&self, cut: &Cut<K>, trial: &[u32], scale: f32, allowed: f32) -> Option<f32> {
        // How many more, or fewer, areas each child has than the one before it.
        let mut steps = [0i32; CUTS + 2];
        let mut wide = 0.0;
        for &member in trial {
            let (first, last) = span(self.areas.get(member as usize)?, cut.field, &cut.keys);
            if last - first >= cut.reach {
                wide += scale;
                continue;
            }
            *steps.get_mut(first)? += 1;
            *steps.get_mut(last + 1)? -= 1;
        }
        let (mut here, mut total, mut squares) = (0, 0.0, 0.0);
        for step in steps {
            here += step;
            let child = here as f32 * scale;
            total += child;
            squares += child * child;
        }
        let members = trial.len() as f32 * scale;
        let copies = total + wide - members;
        if copies > (members * allowed).min(self.spare as f32) || total == 0.0 {
            return None;
        }
        // Children with more areas are thought to see more packets.
        let aside = if wide > 0.0 { cost_of(wide) } else { 0.0 };
        Some(NODE_COST + cost_of(squares / total) + aside)
    }
}

/// What a node, a leaf beside its entries, and an entry are thought to cost, in half nanoseconds or so: the first two stand for a
/// memory access each and a branch that nobody foresees; an entry is a quarter of a [`Block`]. Chosen by trial: dearer nodes make
/// trees a little smaller and packets of access lists a little slower, dearer entries cost both.
const NODE_COST: f32 = 60.0;
const LEAF_COST: f32 = 60.0;
const ENTRY_COST: f32 = 6.0;

fn leaf_cost(members: f32) -> f32 {
    LEAF_COST + ENTRY_COST * members
}

/// What a subtree is thought to cost: that it can be cut to leaves of [`FEW`] by nodes with all their children.
fn cost_of(members: f32) -> f32 {
    let few = FEW as f32;
    let nodes = (members.max(few) / few).log2() / (CUTS as f32 + 1.0).log2();
    leaf_cost(members.min(few)) + NODE_COST * nodes
}

/// The first and the last child that an area lies in.
fn span<K: Number>(area: &Area<K>, field: Field, keys: &[K]) -> (usize, usize) {
    let (first, last) = area.range(field);
    let child = |value: K| keys.iter().map(|key| usize::from(*key <= value)).sum();
    (child(first), child(last))
}

/// The part of a region that a child has.
fn part_of<K: Number>(region: &Region<K>, cut: &Cut<K>, child: usize) -> Region<K> {
    let mut part = *region;
    if let Some((low, high)) = part.get_mut(cut.field as usize) {
        if let Some(key) = child.checked_sub(1).and_then(|before| cut.keys.get(before)) {
            *low = *key;
        }
        if let Some(before) = cut.keys.get(child).and_then(|key| key.before()) {
            *high = before;
        }
    }
    part
}

/// Some of the members, spread evenly but not regularly, so that rules that come in turns do not fool it.
fn sample(members: &[u32], most: usize) -> Vec<u32> {
    if members.len() <= most {
        return members.to_vec();
    }
    let stretch = members.len() / most;
    let place = |n: usize| n * members.len() / most + (n.wrapping_mul(0x9e37_79b1) >> 16) % stretch;
    (0..most).filter_map(|n| members.get(place(n)).copied()).collect()
}
