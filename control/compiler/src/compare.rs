//! Two policies compared by what they mean: rules added, removed, moved or changed in each chain, other policies of
//! chains, sets and zones with other elements.
//!
//! A rule is the same if its matches and action are, as `show rules` prints them, and its name; comments, tests and the
//! order of chains in the file mean nothing. One is *moved* if the rules that stayed had to be passed for it to get where
//! it is: the fewest that can be said to have moved. One that kept its name, and not its text, is *changed*.
//!
//! Not here: what a change does to packets; that is asked of live flows ([`crate::Recheck`]) and of the policy's tests.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use sluice_config::policy::{ChainPolicy, Rule, SetElements};
use sluice_config::{IpRange, Policy};

use crate::text;

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where: `filter.forward`, `chains.NAME`, `sets.NAME`, `zones.NAME`.
    pub place: String,
    /// How.
    pub kind: ChangeKind,
    /// The rule or the elements, as the policy language has them.
    pub text: String,
}

/// How something differs. Rules are numbered in their chain from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// There is a rule that was not there, now with this number; None: a chain's policy, or elements.
    Added(Option<usize>),
    /// A rule that had this number is gone; None: elements.
    Removed(Option<usize>),
    /// A rule is at another place among those that stayed.
    Moved {
        /// Its number before.
        from: usize,
        /// Its number now.
        to: usize,
    },
    /// A rule kept its name, with another text; or a chain has another policy.
    Changed {
        /// What it was.
        before: String,
        /// Its number now; None: a chain's policy.
        to: Option<usize>,
    },
}

/// What differs between two policies, in the order of the second one.
pub fn compare(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Vec::new();
    zones(old, new, &mut changes);
    sets(old, new, &mut changes);
    let (before, now) = (chains(old), chains(new));
    for place in order(&before, &now) {
        let empty = Chain { policy: ChainPolicy::Accept, rules: &[] };
        let (old, new) = (before.get(place).unwrap_or(&empty), now.get(place).unwrap_or(&empty));
        if old.policy != new.policy {
            let before = format!("policy: {}", policy_name(old.policy));
            let text = format!("policy: {}", policy_name(new.policy));
            let kind = ChangeKind::Changed { before, to: None };
            changes.push(Change { place: place.clone(), kind, text });
        }
        rules(place, old.rules, new.rules, &mut changes);
    }
    changes
}

struct Chain<'a> {
    policy: ChainPolicy,
    rules: &'a [Rule],
}

/// Hook chains and user chains by place.
fn chains(policy: &Policy) -> BTreeMap<String, Chain<'_>> {
    let hooks = policy.hooks.iter().map(|chain| {
        let place = format!("{}.{}", chain.table, chain.hook);
        (place, Chain { policy: chain.policy, rules: &chain.rules })
    });
    let users = policy.chains.values().map(|chain| {
        (format!("chains.{}", chain.name), Chain { policy: ChainPolicy::Accept, rules: &chain.rules })
    });
    hooks.chain(users).collect()
}

/// All places: tables in a packet's order, user chains last.
fn order<'a>(a: &'a BTreeMap<String, Chain<'_>>, b: &'a BTreeMap<String, Chain<'_>>) -> Vec<&'a String> {
    let places: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut places: Vec<_> = places.into_iter().collect();
    let rank = |place: &str| {
        let table = place.split('.').next().unwrap_or_default();
        ["raw", "mangle", "nat", "filter"].iter().position(|known| *known == table).unwrap_or(4)
    };
    places.sort_by_key(|place| rank(place));
    places
}

const fn policy_name(policy: ChainPolicy) -> &'static str {
    match policy {
        ChainPolicy::Accept => "accept",
        ChainPolicy::Drop => "drop",
    }
}

/// A rule's name, empty if it has none, and its text.
type Identity = (String, String);

fn identities(rules: &[Rule]) -> Vec<Identity> {
    let name = |rule: &Rule| rule.name.as_ref().map_or(String::new(), |name| name.value.clone());
    rules.iter().map(|rule| (name(rule), text::rule(rule))).collect()
}

/// What differs in one chain.
fn rules(place: &str, old: &[Rule], new: &[Rule], changes: &mut Vec<Change>) {
    let (old, new) = (identities(old), identities(new));
    // Where each new rule was.
    let mut same = paired(&old, &new, |rule| Some(rule.clone()), &vec![None; new.len()]);
    let stayed = longest_rising(&same);
    let named = |rule: &Identity| (!rule.0.is_empty()).then(|| (rule.0.clone(), String::new()));
    let renewed = paired(&old, &new, named, &same);
    let mut push = |kind, rule: &Identity| {
        changes.push(Change { place: place.to_owned(), kind, text: rule_text(rule) });
    };
    let gone: BTreeSet<usize> = same.iter().chain(&renewed).flatten().copied().collect();
    for (at, rule) in old.iter().enumerate().filter(|(at, _)| !gone.contains(at)) {
        push(ChangeKind::Removed(Some(at + 1)), rule);
    }
    for (at, (rule, was)) in new.iter().zip(&mut same).enumerate() {
        match (was.take(), renewed.get(at).copied().flatten()) {
            (Some(_), _) if stayed.contains(&at) => {}
            (Some(from), _) => push(ChangeKind::Moved { from: from + 1, to: at + 1 }, rule),
            (None, Some(from)) => {
                let before = old.get(from).map_or(String::new(), rule_text);
                push(ChangeKind::Changed { before, to: Some(at + 1) }, rule);
            }
            (None, None) => push(ChangeKind::Added(Some(at + 1)), rule),
        }
    }
}

fn rule_text((name, text): &Identity) -> String {
    if name.is_empty() { format!("{{{text}}}") } else { format!("{{{text}, name: {name}}}") }
}

/// For each new rule without a place in `taken`, the place of the old one with the same key, each given out once, in
/// order.
fn paired(
    old: &[Identity],
    new: &[Identity],
    key: impl Fn(&Identity) -> Option<Identity>,
    taken: &[Option<usize>],
) -> Vec<Option<usize>> {
    let used: BTreeSet<usize> = taken.iter().flatten().copied().collect();
    let mut places: HashMap<Identity, VecDeque<usize>> = HashMap::new();
    for (at, rule) in old.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        if let Some(key) = key(rule) {
            places.entry(key).or_default().push_back(at);
        }
    }
    let place = |(at, rule): (usize, &Identity)| {
        let free = taken.get(at).is_none_or(Option::is_none);
        let key = key(rule).filter(|_| free)?;
        places.get_mut(&key)?.pop_front()
    };
    new.iter().enumerate().map(place).collect()
}

/// The places in `list` of a longest run of rising values: patience sorting, in n log n.
fn longest_rising(list: &[Option<usize>]) -> BTreeSet<usize> {
    // Of each length, the place whose value is the lowest that such a run ends with; and for each place, its predecessor.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; list.len()];
    for (at, value) in list.iter().enumerate() {
        let Some(value) = *value else { continue };
        let length = ends.partition_point(|(end, _)| *end < value);
        let previous = length.checked_sub(1).and_then(|last| ends.get(last)).map(|(_, place)| *place);
        if let Some(slot) = before.get_mut(at) {
            *slot = previous;
        }
        match ends.get_mut(length) {
            Some(end) => *end = (value, at),
            None => ends.push((value, at)),
        }
    }
    let mut run = BTreeSet::new();
    let mut at = ends.last().map(|(_, place)| *place);
    while let Some(place) = at {
        run.insert(place);
        at = before.get(place).copied().flatten();
    }
    run
}

fn zones(old: &Policy, new: &Policy, changes: &mut Vec<Change>) {
    let members = |policy: &Policy| -> BTreeMap<String, BTreeSet<String>> {
        let of = |zone: &sluice_config::policy::Zone| {
            let members = zone.interfaces.iter().map(|name| name.value.clone()).collect();
            (format!("zones.{}", zone.name), members)
        };
        policy.zones.values().map(of).collect()
    };
    elements(&members(old), &members(new), changes);
}

fn sets(old: &Policy, new: &Policy, changes: &mut Vec<Change>) {
    let (mut before, mut now) = (BTreeMap::new(), BTreeMap::new());
    for set in old.sets.values() {
        // The same addresses may be written in many ways.
        let same =
            new.sets.get(&set.name).is_some_and(|new| covered(&new.elements) == covered(&set.elements));
        if !same {
            before.insert(format!("sets.{}", set.name), texts(&set.elements));
        }
    }
    for set in new.sets.values() {
        let place = format!("sets.{}", set.name);
        if before.contains_key(&place) || !old.sets.contains_key(&set.name) {
            now.insert(place, texts(&set.elements));
        }
    }
    elements(&before, &now, changes);
}

/// Elements that came and went, by place.
fn elements(
    old: &BTreeMap<String, BTreeSet<String>>,
    new: &BTreeMap<String, BTreeSet<String>>,
    changes: &mut Vec<Change>,
) {
    let none = BTreeSet::new();
    let places: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for place in places {
        let (old, new) = (old.get(place).unwrap_or(&none), new.get(place).unwrap_or(&none));
        let mut push = |kind, text: &String| {
            changes.push(Change { place: place.clone(), kind, text: text.clone() });
        };
        old.difference(new).for_each(|text| push(ChangeKind::Removed(None), text));
        new.difference(old).for_each(|text| push(ChangeKind::Added(None), text));
    }
}

fn texts(elements: &SetElements) -> BTreeSet<String> {
    match elements {
        SetElements::Net(ranges) => ranges.iter().map(range_text).collect(),
        SetElements::Port(ranges) => ranges.iter().map(ToString::to_string).collect(),
    }
}

/// As one would write it: an address, a prefix, or a range that is neither.
pub fn range_text(range: &IpRange) -> String {
    match range.prefixes().as_slice() {
        [prefix] if prefix.is_host() => prefix.addr().to_string(),
        [prefix] => prefix.to_string(),
        _ => range.to_string(),
    }
}

/// What a set holds, whichever way it is written: families apart (true: IPv6), ranges in order that do not touch, first and
/// last number of each.
pub fn covered(elements: &SetElements) -> Vec<(bool, u128, u128)> {
    let number = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => u128::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => v6.to_bits(),
    };
    let mut ranges: Vec<(bool, u128, u128)> = match elements {
        SetElements::Net(ranges) => ranges
            .iter()
            .map(|range| (range.first().is_ipv6(), number(range.first()), number(range.last())))
            .collect(),
        SetElements::Port(ranges) => {
            ranges.iter().map(|range| (false, range.first.into(), range.last.into())).collect()
        }
    };
    ranges.sort_unstable();
    ranges.dedup_by(|later, kept| {
        let touches = later.0 == kept.0 && later.1 <= kept.2.saturating_add(1);
        if touches {
            kept.2 = kept.2.max(later.2);
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse("p.yaml", text, None).unwrap_or_else(|errors| panic!("{errors}")).0
    }

    fn lines(old: &str, new: &str) -> Vec<String> {
        let line = |change: &Change| {
            let Change { place, kind, text } = change;
            match kind {
                ChangeKind::Added(Some(at)) => format!("{place} +{at} {text}"),
                ChangeKind::Added(None) => format!("{place} + {text}"),
                ChangeKind::Removed(Some(at)) => format!("{place} -{at} {text}"),
                ChangeKind::Removed(None) => format!("{place} - {text}"),
                ChangeKind::Moved { from, to } => format!("{place} {from}>{to} {text}"),
                ChangeKind::Changed { before, .. } => format!("{place} {before} => {text}"),
            }
        };
        compare(&policy(old), &policy(new)).iter().map(line).collect()
    }

    fn forward(rules: &[&str]) -> String {
        let rules: Vec<String> = rules.iter().map(|rule| format!("{{{rule}}}")).collect();
        format!("filter: {{forward: {{policy: drop, rules: [{}]}}}}", rules.join(", "))
    }

    #[test]
    fn rules_come_go_and_move() {
        let (a, b, c) = ("dport: 1, action: accept", "dport: 2, action: accept", "dport: 3, action: drop");
        let f = "filter.forward";
        for (name, old, new, expected) in [
            ("the same", vec![a, b], vec![a, b], vec![]),
            ("written otherwise", vec!["dport: [1], action: accept, comment: x"], vec![a], vec![]),
            ("added", vec![a, c], vec![a, b, c], vec![format!("{f} +2 {{{b}}}")]),
            ("removed", vec![a, b, c], vec![a, c], vec![format!("{f} -2 {{{b}}}")]),
            ("moved up", vec![a, b, c], vec![c, a, b], vec![format!("{f} 3>1 {{{c}}}")]),
            ("moved down", vec![a, b, c], vec![b, c, a], vec![format!("{f} 1>3 {{{a}}}")]),
            ("twice", vec![a, a, b], vec![a, b, a], vec![format!("{f} 3>2 {{{b}}}")]),
            ("one of two", vec![a, a], vec![a], vec![format!("{f} -2 {{{a}}}")]),
        ] {
            assert_eq!(lines(&forward(&old), &forward(&new)), expected, "{name}");
        }
    }

    #[test]
    fn a_name_makes_two_texts_one_rule() {
        let old = forward(&["dport: 22, action: accept, name: ssh", "dport: 80, action: accept"]);
        let new = forward(&["dport: 80, action: accept", "dport: [22, 2222], action: accept, name: ssh"]);
        assert_eq!(
            lines(&old, &new),
            [
                "filter.forward {dport: 22, action: accept, name: ssh} => {dport: [22, 2222], action: accept, name: ssh}"
            ]
        );
    }

    #[test]
    fn chains_sets_and_zones_differ_by_what_is_in_them() {
        let old = "zones: {inside: [a, b]}\n\
                   sets: {m: {type: net, elements: [10.0.0.0/24, 10.0.1.0/24]}, p: {type: port, elements: [1-5]}}\n\
                   chains: {c: [{action: drop}]}\n\
                   filter: {input: [{action: {jump: c}}]}";
        let written_otherwise = old
            .replace("[10.0.0.0/24, 10.0.1.0/24]", "[10.0.0.0/23]")
            .replace("[1-5]", "[4, 5, 1-3]")
            .replace("[a, b]", "[b, a]");
        assert_eq!(lines(old, &written_otherwise), Vec::<String>::new());
        let other = old
            .replace("10.0.1.0/24", "10.0.2.7, \"2001:db8::/32\"")
            .replace("[a, b]", "[a, c]")
            .replace("{action: drop}", "{action: accept}")
            .replace("input: [{action: {jump: c}}]", "input: {policy: drop, rules: [{action: {jump: c}}]}");
        assert_eq!(
            lines(old, &other),
            [
                "zones.inside - b",
                "zones.inside + c",
                "sets.m - 10.0.1.0/24",
                "sets.m + 10.0.2.7",
                "sets.m + 2001:db8::/32",
                "filter.input policy: accept => policy: drop",
                "chains.c -1 {action: drop}",
                "chains.c +1 {action: accept}",
            ]
        );
    }

    #[test]
    fn a_hundred_thousand_rules_are_compared_at_once() {
        let rule = |n: u32| format!("src: 10.{}.{}.{}, action: accept", n >> 16 & 255, n >> 8 & 255, n & 255);
        let all: Vec<String> = (0..20_000).map(rule).collect();
        let old: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut new = old.clone();
        let last = new.pop().unwrap();
        new.insert(0, last);
        assert_eq!(lines(&forward(&old), &forward(&new)), [format!("filter.forward 20000>1 {{{last}}}")]);
    }
}
