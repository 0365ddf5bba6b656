//! Where in the space of packets a rule lies: a range of each field that a packet keeps while it walks a chain.
//!
//! An area is never smaller than its rule. What a range cannot say (negations, named sets, which change without a new
//! policy, lists too long) leaves its field open; the rule's own tests decide in the end.

use std::ops::RangeInclusive;

use sluice_wire::{Addrs, Family};

use crate::arch;
use crate::ruleset::classifier::tree::{ABREAST, CUTS};
use crate::ruleset::guard::{Guard, GuardKey, NO_INTERFACE};
use crate::ruleset::matching::{Match, Test};
use crate::ruleset::view::View;
use crate::ruleset::{AddressMatch, AddressSet, PortMatch};

/// A field of packets by which trees cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    Protocol,
    Ingress,
    Egress,
}

impl Field {
    pub(super) const COUNT: usize = Self::ALL.len();

    pub(super) const ALL: [Field; 7] = [
        Field::Source,
        Field::Destination,
        Field::SourcePort,
        Field::DestinationPort,
        Field::Protocol,
        Field::Ingress,
        Field::Egress,
    ];

    /// Whether packets are compared with the range that an area has of it.
    fn is_compared(self) -> bool {
        matches!(self, Field::Source | Field::Destination | Field::SourcePort | Field::DestinationPort)
    }
}

/// An address of one family as a number, wide enough for every other field too.
pub(super) trait Number: Copy + Ord + Default + std::fmt::Debug {
    /// The family whose addresses it holds.
    const FAMILY: Family;

    /// The last address.
    const LAST: Self;

    /// A value of a narrower field.
    fn of(value: u16) -> Self;

    /// Back to a narrow value; what is above its last one becomes that.
    fn narrow(self) -> u16;

    /// The address behind it; None behind the last.
    fn after(self) -> Option<Self>;

    /// The address before it; None before the first.
    fn before(self) -> Option<Self>;

    /// How many of a node's keys are not above a value; they are in order.
    fn above(keys: &[Self; CUTS], value: Self) -> usize;

    /// In which ranges, from the first numbers to the last ones, a value is: a bit each.
    fn within(ranges: &[[Self; ABREAST]; 2], value: Self) -> u32;

    /// The ranges of a set that are of this family.
    fn ranges(set: &AddressSet) -> &[(Self, Self)];
}

impl Number for u32 {
    const FAMILY: Family = Family::V4;
    const LAST: u32 = u32::MAX;

    fn of(value: u16) -> u32 {
        value.into()
    }

    fn narrow(self) -> u16 {
        self.try_into().unwrap_or(u16::MAX)
    }

    fn after(self) -> Option<u32> {
        self.checked_add(1)
    }

    fn before(self) -> Option<u32> {
        self.checked_sub(1)
    }

    #[inline(always)]
    fn above(keys: &[u32; CUTS], value: u32) -> usize {
        arch::not_above(keys, value)
    }

    #[inline(always)]
    fn within(ranges: &[[u32; ABREAST]; 2], value: u32) -> u32 {
        arch::within_32(ranges, value)
    }

    fn ranges(set: &AddressSet) -> &[(u32, u32)] {
        set.ranges_v4()
    }
}

impl Number for u128 {
    const FAMILY: Family = Family::V6;
    const LAST: u128 = u128::MAX;

    fn of(value: u16) -> u128 {
        value.into()
    }

    fn narrow(self) -> u16 {
        self.try_into().unwrap_or(u16::MAX)
    }

    fn after(self) -> Option<u128> {
        self.checked_add(1)
    }

    fn before(self) -> Option<u128> {
        self.checked_sub(1)
    }

    /// By halves, without a branch.
    #[inline(always)]
    fn above(keys: &[u128; CUTS], value: u128) -> usize {
        let mut place = 0;
        for half in [8, 4, 2, 1] {
            if keys.get(place + half - 1).is_some_and(|key| *key <= value) {
                place += half;
            }
        }
        place
    }

    #[inline(always)]
    fn within([first, last]: &[[u128; ABREAST]; 2], value: u128) -> u32 {
        let within = first.iter().zip(last).map(|(first, last)| (*first <= value) & (value <= *last));
        within.enumerate().fold(0, |bits, (n, within)| bits | u32::from(within) << n)
    }

    fn ranges(set: &AddressSet) -> &[(u128, u128)] {
        set.ranges_v6()
    }
}

/// A packet's fields, by [`Field`], and its guard's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point<K> {
    pub(super) fields: [K; Field::COUNT],
    pub(super) ports: (u16, u16),
    pub(super) guard: GuardKey,
}

impl<K: Number> Point<K> {
    /// Of a packet without ports these are 0: rules that ask for ports are not for it, as their guards say, and all
    /// others lie at every port.
    #[inline]
    pub(super) fn new(source: K, destination: K, view: &View<'_>, guard: GuardKey) -> Point<K> {
        let (sport, dport) = view.packet.ports().unwrap_or_default();
        let interface = |id: Option<crate::ids::InterfaceId>| K::of(id.map_or(NO_INTERFACE, |id| id.0));
        let fields = [
            source,
            destination,
            K::of(sport),
            K::of(dport),
            K::of(view.packet.protocol.0.into()),
            interface(view.ingress),
            interface(view.egress),
        ];
        Point { fields, ports: (sport, dport), guard }
    }

    #[inline(always)]
    pub(super) fn field(&self, field: Field) -> K {
        self.fields.get(field as usize).copied().unwrap_or_default()
    }
}

/// Addresses as numbers of the packet's own family.
pub(super) enum Pair {
    V4(u32, u32),
    V6(u128, u128),
}

impl Pair {
    #[inline]
    pub(super) fn of(view: &View<'_>) -> Pair {
        match view.packet.addrs {
            Addrs::V4 { src, dst } => Pair::V4(src.to_bits(), dst.to_bits()),
            Addrs::V6 { src, dst } => Pair::V6(src.to_bits(), dst.to_bits()),
        }
    }
}

/// One range of each field, both ends included, of one rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area<K> {
    pub(super) ranges: [(K, K); Field::COUNT],
    pub(super) guard: Guard,
    pub(super) rule: u32,
    /// A packet that the guard admits, with addresses and ports in these ranges, matches the rule.
    pub(super) exact: bool,
}

impl<K: Number> Area<K> {
    pub(super) fn range(&self, field: Field) -> (K, K) {
        self.ranges.get(field as usize).copied().unwrap_or_default()
    }

    /// Adds the areas of a rule, `most` of them at the most: one for each combination of what its lists name, until
    /// that is too many; then its longest lists are taken for all between their ends. None if no packet of the family
    /// can match.
    pub(super) fn add(tests: &[Test], guard: Guard, rule: u32, most: usize, out: &mut Vec<Area<K>>) {
        if !guard.admits_family(K::FAMILY) {
            return;
        }
        let start = out.len();
        let exact = is_said_by_ranges::<K>(tests);
        out.push(Area { ranges: [(K::default(), K::LAST); Field::COUNT], guard, rule, exact });
        let mut lists: Vec<(Field, Vec<(K, K)>)> = tests.iter().filter_map(list_of).collect();
        lists.sort_by_key(|(_, list)| list.len());
        for (field, list) in lists {
            let made = out.len() - start;
            match list.as_slice() {
                [] => return out.truncate(start),
                [(first, _), .., (_, last)] if made.saturating_mul(list.len()) > most => {
                    for area in out.iter_mut().skip(start) {
                        area.set(field, (*first, *last));
                        area.exact = false;
                    }
                }
                [one, others @ ..] => {
                    for &other in others {
                        out.extend_from_within(start..start + made);
                        out.iter_mut().rev().take(made).for_each(|area| area.set(field, other));
                    }
                    out.iter_mut().skip(start).take(made).for_each(|area| area.set(field, *one));
                }
            }
        }
    }

    fn set(&mut self, field: Field, range: (K, K)) {
        if let Some(place) = self.ranges.get_mut(field as usize) {
            *place = range;
        }
    }
}

/// Whether ranges of the fields that packets are compared by say all that some tests ask: no more than one of a field.
fn is_said_by_ranges<K: Number>(tests: &[Test]) -> bool {
    let mut asked = [false; Field::COUNT];
    tests.iter().all(|test| {
        list_of::<K>(test).is_some_and(|(field, _)| {
            let before = asked.get_mut(field as usize).map(|asked| std::mem::replace(asked, true));
            field.is_compared() && before == Some(false)
        })
    })
}

/// The ranges that a test confines packets to, sorted and apart; None if it confines no field.
fn list_of<K: Number>(test: &Test) -> Option<(Field, Vec<(K, K)>)> {
    if test.negated {
        return None;
    }
    let addresses = |list: &AddressMatch| list.sets.is_empty().then(|| K::ranges(&list.own).to_vec());
    let ports = |list: &PortMatch| {
        let wide = |&(first, last): &(u16, u16)| (K::of(first), K::of(last));
        list.sets.is_empty().then(|| list.own.ranges().iter().map(wide).collect())
    };
    Some(match &test.what {
        Match::Source(list) => (Field::Source, addresses(list)?),
        Match::Destination(list) => (Field::Destination, addresses(list)?),
        Match::SourcePort(list) => (Field::SourcePort, ports(list)?),
        Match::DestinationPort(list) => (Field::DestinationPort, ports(list)?),
        Match::Protocol(list) => (Field::Protocol, singles(list.iter().map(|p| p.0.into()))),
        Match::Ingress(list) => (Field::Ingress, singles(list.iter().map(|id| id.0))),
        Match::Egress(list) => (Field::Egress, singles(list.iter().map(|id| id.0))),
        _ => return None,
    })
}

/// Values as ranges, neighbours joined.
fn singles<K: Number>(values: impl Iterator<Item = u16>) -> Vec<(K, K)> {
    let mut values: Vec<u16> = values.collect();
    values.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for value in values {
        match ranges.last_mut() {
            Some(range) if value <= range.end().saturating_add(1) => *range = *range.start()..=value,
            _ => ranges.push(value..=value),
        }
    }
    ranges.into_iter().map(|range| (K::of(*range.start()), K::of(*range.end()))).collect()
}
