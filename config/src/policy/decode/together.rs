//! Whether the matches of one rule can hold together for any packet at all.
//!
//! Each match narrows the families and the protocols that a packet may have; when nothing is left, the rule is an error,
//! placed at the match that took the last.

use std::collections::BTreeMap;

use sluice_wire::{Family, Protocol};

use crate::decode::Reader;
use crate::policy::action::{Action, Masquerade, Reject};
use crate::policy::matches::{AddrMatch, CtState, Matches};
use crate::policy::{Nat64, Rule, Set, SetElements};
use crate::source::{Span, Spanned};

/// A set of families: bit 0 for IPv4, bit 1 for IPv6.
pub(super) type Families = u8;

const BOTH: Families = 3;

const fn bit(family: Family) -> Families {
    match family {
        Family::V4 => 1,
        Family::V6 => 2,
    }
}

/// The families of the addresses in each set; an empty set says nothing, since elements may come at runtime.
pub(super) fn families_of_sets(sets: &BTreeMap<String, Set>) -> BTreeMap<String, Families> {
    let families = |set: &Set| match &set.elements {
        SetElements::Net(list) if !list.is_empty() => {
            list.iter().fold(0, |bits, range| bits | bit(range.family()))
        }
        SetElements::Net(_) | SetElements::Port(_) => BOTH,
    };
    sets.iter().map(|(name, set)| (name.clone(), families(set))).collect()
}

/// A set of protocol numbers.
#[derive(Clone, Copy, PartialEq)]
struct Protocols([u128; 2]);

impl Protocols {
    const NONE: Self = Self([0; 2]);
    const ALL: Self = Self([u128::MAX; 2]);

    fn of(list: &[Protocol]) -> Self {
        let mut bits = [0u128; 2];
        for protocol in list {
            let [low, high] = &mut bits;
            let half = if protocol.0 < 128 { low } else { high };
            *half |= 1 << (protocol.0 & 127);
        }
        Self(bits)
    }

    fn and(self, other: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, other.0);
        Self([a & c, b & d])
    }

    fn without(self, other: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, other.0);
        Self([a & !c, b & !d])
    }
}

/// Those with ports. Source: netfilter's `th sport`, and [`Protocol::has_ports`].
const PORTS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP, Protocol::DCCP];

/// What one match leaves of families and protocols.
struct Narrowing {
    key: &'static str,
    families: Families,
    protocols: Protocols,
}

/// Checks `rule`; `place` tells where a key of it stands.
pub(super) fn check(
    reader: &mut Reader<'_>,
    rule: &Rule,
    sets: &BTreeMap<String, Families>,
    place: impl Fn(&str) -> Span,
) {
    let mut narrowings = Vec::new();
    positive(&rule.matches, sets, &mut narrowings);
    negated(rule.unwanted(), sets, &mut narrowings);
    by_action(&rule.action, &mut narrowings);
    let (mut families, mut protocols) = (BOTH, Protocols::ALL);
    for (index, narrowing) in narrowings.iter().enumerate() {
        let before = (families, protocols);
        families &= narrowing.families;
        protocols = protocols.and(narrowing.protocols);
        let message = match (families, protocols) {
            (0, _) => "they are of different address families",
            (_, Protocols::NONE) => "no protocol has both",
            _ => continue,
        };
        // The other side of the clash: a single earlier match that excludes this one, if there is one.
        let earlier = narrowings.iter().take(index);
        let clashes = |other: &&Narrowing| {
            other.families & narrowing.families == 0
                || other.protocols.and(narrowing.protocols) == Protocols::NONE
        };
        let other = earlier.clone().find(clashes).map_or("the matches before it", |other| other.key);
        let other = if other.contains(' ') { other.to_string() } else { format!("`{other}`") };
        reader.error(
            place(narrowing.key),
            format!("`{}` and {other} can never hold together: {message}", narrowing.key),
        );
        (families, protocols) = before;
    }
    tracked(reader, &rule.matches, &place);
    fragments(reader, rule, &place);
    if rule.action.value == Action::Reject(Reject::TcpReset)
        && rule.matches.proto.as_ref().is_some_and(|list| list.iter().any(|p| *p != Protocol::TCP))
    {
        reader.error(rule.action.span, "a TCP reset can answer `proto: tcp` only");
    }
}

fn addresses(list: Option<&Vec<Spanned<AddrMatch>>>, sets: &BTreeMap<String, Families>) -> Families {
    let family = |entry: &Spanned<AddrMatch>| match &entry.value {
        AddrMatch::Prefix(prefix) => bit(prefix.family()),
        AddrMatch::Range(range) => bit(range.family()),
        AddrMatch::Set(name) => sets.get(name).copied().unwrap_or(BOTH),
    };
    list.map_or(BOTH, |list| list.iter().fold(0, |bits, entry| bits | family(entry)))
}

/// What a match of a field tells of a packet whether it is negated or not: that it has the field.
fn presence(m: &Matches, sets: &BTreeMap<String, Families>, found: &mut Vec<Narrowing>) {
    let mut add = |key, families, protocols| found.push(Narrowing { key, families, protocols });
    add("src", addresses(m.src.as_ref(), sets), Protocols::ALL);
    add("dst", addresses(m.dst.as_ref(), sets), Protocols::ALL);
    if let Some(orig) = &m.ct_orig {
        let families = addresses(orig.src.as_ref(), sets) & addresses(orig.dst.as_ref(), sets);
        // The original addresses are of the packet's family: there is no NAT between families.
        add("ct_orig", families, Protocols::ALL);
    }
    if m.sport.is_some() {
        add("sport", BOTH, Protocols::of(&PORTS));
    }
    if m.dport.is_some() {
        add("dport", BOTH, Protocols::of(&PORTS));
    }
    if m.tcp_flags.is_some() {
        add("tcp_flags", BOTH, Protocols::of(&[Protocol::TCP]));
    }
    if m.icmp.is_some() {
        add("icmp", bit(Family::V4), Protocols::of(&[Protocol::ICMP]));
    }
    if m.icmpv6.is_some() {
        add("icmpv6", bit(Family::V6), Protocols::of(&[Protocol::ICMPV6]));
    }
}

fn positive(m: &Matches, sets: &BTreeMap<String, Families>, found: &mut Vec<Narrowing>) {
    if let Some(list) = &m.family {
        let families = list.iter().fold(0, |bits, family| bits | bit(*family));
        found.push(Narrowing { key: "family", families, protocols: Protocols::ALL });
    }
    if let Some(list) = &m.proto {
        found.push(Narrowing { key: "proto", families: BOTH, protocols: Protocols::of(list) });
    }
    presence(m, sets, found);
}

fn negated(m: &Matches, sets: &BTreeMap<String, Families>, found: &mut Vec<Narrowing>) {
    if let Some(list) = &m.family {
        let families = list.iter().fold(BOTH, |bits, family| bits & !bit(*family));
        found.push(Narrowing { key: "not", families, protocols: Protocols::ALL });
    }
    if let Some(list) = &m.proto {
        let protocols = Protocols::ALL.without(Protocols::of(list));
        found.push(Narrowing { key: "not", families: BOTH, protocols });
    }
    let first = found.len();
    presence(m, sets, found);
    for narrowing in found.iter_mut().skip(first) {
        narrowing.key = "not";
    }
}

fn by_action(action: &Action, found: &mut Vec<Narrowing>) {
    let mut add = |families, protocols| found.push(Narrowing { key: "action", families, protocols });
    match action {
        Action::Reject(Reject::Icmp(_)) => add(bit(Family::V4), Protocols::ALL),
        Action::Reject(Reject::Icmpv6(_)) => add(bit(Family::V6), Protocols::ALL),
        Action::Snat(target) | Action::Dnat(target) => {
            let families = target.addr.map_or(BOTH, |range| bit(range.family()));
            // The kernel also maps the id of an ICMP echo as if it were a port.
            let ports = target.ports.is_some() && target.blocks.is_none();
            add(families, if ports { Protocols::of(&PORTS) } else { Protocols::ALL });
        }
        Action::Nat64(_) => add(bit(Family::V6), Protocols::of(&Nat64::PROTOCOLS)),
        Action::Redirect(Some(_)) | Action::Masquerade(Masquerade { ports: Some(_), .. }) => {
            add(BOTH, Protocols::of(&PORTS));
        }
        _ => {}
    }
}

/// What belongs to a flow cannot be asked of a packet that has none.
fn tracked(reader: &mut Reader<'_>, m: &Matches, place: &impl Fn(&str) -> Span) {
    let Some(states) = &m.ct else { return };
    if !states.iter().all(|state| matches!(state, CtState::Untracked | CtState::Invalid)) {
        return;
    }
    let asked = [
        ("ct_dir", m.ct_dir.is_some()),
        ("ct_helper", m.ct_helper.is_some()),
        ("ct_mark", m.ct_mark.is_some()),
        ("ct_orig", m.ct_orig.is_some()),
        ("ct_status", m.ct_status.is_some()),
    ];
    for (key, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        let message =
            format!("`{key}` and `ct` can never hold together: an invalid or untracked packet has no flow");
        reader.error(place(key), message);
    }
}

/// A later fragment has no header of layer 4.
fn fragments(reader: &mut Reader<'_>, rule: &Rule, place: &impl Fn(&str) -> Span) {
    if rule.matches.fragment != Some(true) {
        return;
    }
    let m = &rule.matches;
    let asked = [
        ("sport", m.sport.is_some()),
        ("dport", m.dport.is_some()),
        ("tcp_flags", m.tcp_flags.is_some()),
        ("icmp", m.icmp.is_some()),
        ("icmpv6", m.icmpv6.is_some()),
    ];
    for (key, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        let message =
            format!("`{key}` and `fragment` can never hold together: a later fragment has no such header");
        reader.error(place(key), message);
    }
}
