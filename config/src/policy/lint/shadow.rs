//! Rules that never apply, because an earlier rule of their chain takes all their packets.
//!
//! A hundred thousand rules must not mean ten thousand million comparisons. An earlier rule can only take in a later one if
//! it asks for no field that the later one leaves out; so rules are kept by the fields that they ask for. Among those,
//! equal values are found by hash, and wider ones by comparing with the first [`SCANNED`] rules.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{cover, warn};
use crate::decode::Reader;
use crate::policy::matches::Matches;
use crate::policy::{Policy, Rule};
use crate::source::Spanned;

/// Rules of one combination of fields that each later rule is compared with.
const SCANNED: usize = 32;
/// Combinations of fields that each later rule is compared with.
const COMBINATIONS: usize = 64;

/// Warns about the rules of one chain.
pub(super) fn check(reader: &mut Reader<'_>, policy: &Policy, rules: &[Rule]) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for rule in rules {
        let print = Fingerprint::of(rule);
        if let Some(earlier) = groups.iter().find_map(|group| group.shadower(policy, rule, &print)) {
            let name = earlier.name.as_ref().map(|name| format!(", {}", name.value)).unwrap_or_default();
            warn(
                reader,
                rule,
                format!("rule never applies: the one at {}{name} takes all its packets", earlier.span),
            );
            continue;
        }
        if !rule.action.value.ends_chain() {
            continue;
        }
        if let Some(group) = groups.iter_mut().find(|group| group.fields == print.fields) {
            group.add(rule, &print);
        } else if groups.len() < COMBINATIONS {
            let mut group = Group { fields: print.fields, scanned: Vec::new(), equal: HashMap::new() };
            group.add(rule, &print);
            groups.push(group);
        }
    }
}

/// Earlier rules that ask for the same fields and end the chain.
struct Group<'p> {
    fields: u64,
    scanned: Vec<&'p Rule>,
    equal: HashMap<u64, &'p Rule>,
}

impl<'p> Group<'p> {
    fn add(&mut self, rule: &'p Rule, print: &Fingerprint) {
        if self.scanned.len() < SCANNED {
            self.scanned.push(rule);
        }
        self.equal.entry(print.hash(self.fields)).or_insert(rule);
    }

    fn shadower(&self, policy: &Policy, rule: &Rule, print: &Fingerprint) -> Option<&'p Rule> {
        if self.fields & !print.fields != 0 {
            return None;
        }
        let equal = self.equal.get(&print.hash(self.fields));
        equal.into_iter().chain(&self.scanned).copied().find(|earlier| cover::covers(policy, earlier, rule))
    }
}

/// A hash of each field's values, without their order and places; fields of `matches` first, then those of `not`.
struct Fingerprint {
    hashes: [u64; 2 * FIELDS],
    /// Bit `i` is on if the rule asks for field `i`.
    fields: u64,
}

const FIELDS: usize = 26;

impl Fingerprint {
    fn of(rule: &Rule) -> Self {
        let mut hashes = [0; 2 * FIELDS];
        let not = rule.not.as_deref().map(of_matches);
        let values = of_matches(&rule.matches).into_iter().chain(not.into_iter().flatten());
        let mut fields = 0;
        for (index, (place, value)) in hashes.iter_mut().zip(values).enumerate() {
            *place = value.unwrap_or(0);
            fields |= u64::from(value.is_some()) << index;
        }
        Self { hashes, fields }
    }

    /// The hash of those fields.
    fn hash(&self, fields: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (index, hash) in self.hashes.iter().enumerate() {
            if fields & (1 << index) != 0 {
                hash.hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

fn of_matches(m: &Matches) -> [Option<u64>; FIELDS] {
    let orig = m.ct_orig.as_ref().map(|orig| {
        let parts = [placed(&orig.src), placed(&orig.dst), placed(&orig.sport), placed(&orig.dport)];
        hash(&parts)
    });
    [
        placed(&m.in_interface),
        placed(&m.out_interface),
        list(&m.to),
        list(&m.origin),
        list(&m.family),
        list(&m.proto),
        placed(&m.src),
        placed(&m.dst),
        placed(&m.sport),
        placed(&m.dport),
        m.tcp_flags.as_ref().map(hash),
        list(&m.icmp),
        list(&m.icmpv6),
        list(&m.ct),
        list(&m.ct_dir),
        list(&m.ct_helper),
        list(&m.ct_mark),
        list(&m.mark),
        orig,
        list(&m.ct_status),
        m.fragment.as_ref().map(hash),
        list(&m.length),
        list(&m.ttl),
        list(&m.dscp),
        m.limit.as_ref().map(hash),
        m.connlimit.as_ref().map(hash),
    ]
}

fn hash<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn list<T: Hash>(list: &Option<Vec<T>>) -> Option<u64> {
    list.as_ref().map(|list| list.iter().map(hash).fold(0, u64::wrapping_add))
}

fn placed<T: Hash>(list: &Option<Vec<Spanned<T>>>) -> Option<u64> {
    list.as_ref().map(|list| list.iter().map(|entry| hash(&entry.value)).fold(0, u64::wrapping_add))
}
