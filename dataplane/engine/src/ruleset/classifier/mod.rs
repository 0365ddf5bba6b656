//! Which rules of a long chain may match a packet: found by its addresses, ports, protocol and interfaces, at a cost that
//! hardly grows with the number of rules.
//!
//! [`super::walk`] goes through chains as ever, with netfilter's jumps and side effects; in a long chain it asks here
//! for the next rule that may match, instead of looking at each. That rule's own tests decide whether it does. So what
//! is said here may name a rule too many, never one too few, and a walk by turn, which the tests hold against this, does
//! the same in every other respect: what is counted, the limits that are asked, and what was read.
//!
//! That last point is why only fields that a packet keeps for its flow are looked at: a rule passed over here
//! would have failed by one of them, and those are tested first ([`super::matching::Match::rank`]).
//!
//! For each family a tree ([`tree`]) over the rules' areas ([`area`]), grown once ([`grow`]); beside it, rules that named sets
//! alone tell apart ([`listed`]), found by which sets hold the packet's addresses ([`membership`]). See docs/adr/0011.

mod area;
mod grow;
mod listed;
mod membership;
mod tree;

pub(super) use membership::Membership;

use crate::ruleset::guard::{Guard, GuardKey};
use crate::ruleset::view::View;
use crate::ruleset::{RuleSpec, SetId};
use area::{Area, Number, Pair, Point};
use listed::{Found, Listed};
use tree::{Heads, Tree};

/// Rules of a chain that is walked by turn: most misses are one comparison.
const SHORT: usize = 8;

/// Areas of one rule at the most, tried until all together are few enough.
const AREAS_OF_RULE: [usize; 3] = [64, 8, 1];

/// Areas for each rule of a chain, on the average, at the most.
const AREAS: usize = 4;

/// The classifier of one chain. Immutable, shared by all workers.
#[derive(Debug)]
pub(super) struct Index {
    v4: Tree<u32>,
    v6: Tree<u128>,
    /// Rules that are in neither.
    listed: Option<Box<Listed>>,
}

/// What the classifier of a chain is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Nodes and entries of leaves, of both families.
    pub nodes: usize,
    /// Entries of leaves, at least one for each rule and family.
    pub entries: usize,
    /// Memory, in bytes.
    pub bytes: usize,
    /// Leaves that one packet may have to read, at the most.
    pub leaves: usize,
    /// Entries in these leaves: rules that one packet may have to be compared with, at the most.
    pub longest: usize,
    /// Rules in no leaf, since named sets alone tell them apart: found by the sets that hold a packet's addresses.
    pub by_sets: usize,
}

impl Index {
    /// Of a chain's rules, with the guards that were split off; the first has number `start`. None if the chain is
    /// short.
    pub(super) fn of(rules: &[(RuleSpec, Guard)], start: u32) -> Option<Box<Index>> {
        if rules.len() <= SHORT {
            return None;
        }
        let listed = Listed::of(rules, start, SHORT);
        let (v4, v6) = (tree_of(rules, start, listed.as_deref()), tree_of(rules, start, listed.as_deref()));
        Some(Box::new(Index { v4, v6, listed }))
    }

    /// The sets that its rules are listed by.
    pub(super) fn sets(&self) -> impl Iterator<Item = SetId> {
        self.listed.iter().flat_map(|listed| listed.sets())
    }

    pub(super) fn stats(&self) -> IndexStats {
        let (v4, v6) = (self.v4.stats(), self.v6.stats());
        let (by_sets, listed) = self.listed.as_ref().map_or((0, 0), |listed| (listed.len(), listed.bytes()));
        IndexStats {
            nodes: v4.nodes + v6.nodes,
            entries: v4.entries + v6.entries,
            bytes: v4.bytes + v6.bytes + listed,
            leaves: v4.leaves.max(v6.leaves),
            longest: v4.longest.max(v6.longest),
            by_sets,
        }
    }
}

/// A rule that may match a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) rule: u32,
    /// It does: nothing of it is left to be asked.
    pub(super) exact: bool,
}

/// The rules of one chain that may match one packet.
#[derive(Debug)]
pub(super) struct Search<'i> {
    /// Nothing was looked for yet.
    begins: bool,
    heads: Heads,
    by_sets: Option<Found<'i>>,
}

impl<'i> Search<'i> {
    /// One that is about to begin.
    #[inline(always)]
    pub(super) fn new() -> Search<'i> {
        Search { begins: true, heads: Heads::NONE, by_sets: None }
    }

    /// Begins anew, in another chain.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.begins = true;
    }

    /// The first rule that is not before rule `from`; to be asked with ever higher numbers. `sets`: those that rules are listed by.
    #[inline(always)]
    pub(super) fn next(
        &mut self,
        index: &'i Index,
        (key, view): (GuardKey, &View<'_>),
        sets: &'i Membership,
        from: u32,
    ) -> Option<Named> {
        let begins = std::mem::take(&mut self.begins);
        let of_tree = match Pair::of(view) {
            Pair::V4(src, dst) => {
                let point = Point::new(src, dst, view, key);
                if begins {
                    self.heads.find(&index.v4, &point);
                }
                self.heads.next(&index.v4, &point, from)
            }
            Pair::V6(src, dst) => {
                let point = Point::new(src, dst, view, key);
                if begins {
                    self.heads.find(&index.v6, &point);
                }
                self.heads.next(&index.v6, &point, from)
            }
        };
        match &index.listed {
            None => of_tree,
            Some(listed) => {
                if begins {
                    self.by_sets = Some(listed.find(key, &view.packet.addrs, sets));
                }
                let listed = self.by_sets.as_ref().and_then(|found| found.next(from));
                let listed = listed.map(|rule| Named { rule, exact: false });
                of_tree.into_iter().chain(listed).min_by_key(|named| named.rule)
            }
        }
    }
}

fn tree_of<K: Number>(rules: &[(RuleSpec, Guard)], start: u32, listed: Option<&Listed>) -> Tree<K> {
    let mut areas = Vec::new();
    for most in AREAS_OF_RULE {
        areas.clear();
        let in_tree = |rule: u32| listed.is_none_or(|listed| !listed.has(rule));
        for ((spec, guard), rule) in rules.iter().zip(start..).filter(|(_, rule)| in_tree(*rule)) {
            Area::<K>::add(&spec.tests, *guard, rule, most, &mut areas);
            if areas.len() > AREAS * rules.len() && most > 1 {
                break;
            }
        }
        if areas.len() <= AREAS * rules.len() {
            break;
        }
    }
    grow::grow(&areas)
}

#[cfg(test)]
mod tests;
