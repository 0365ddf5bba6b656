//! The first thing asked of a packet by every rule: one mask and one comparison.
//!
//! Most rules of most policies name an interface, a family, a protocol, a destination port or a ct state, each one
//! value. All of that is packed into a word, once for the packet at a hook, and as mask and value for the rule. A
//! rule that asks nothing else is decided by its guard alone; the others are hardly ever looked at.
//!
//! Nothing in a guard differs from packet to packet of a flow with one direction, interface and ct state.

use sluice_wire::{Family, Protocol};

use crate::conntrack::CtState;
use crate::ids::InterfaceId;
use crate::ruleset::explain::Field;
use crate::ruleset::matching::{Match, Test};
use crate::ruleset::settled::Known;
use crate::ruleset::view::View;

/// Where each property lies in the word.
const PROTOCOL: u32 = 0;
const INGRESS: u32 = 8;
const EGRESS: u32 = 24;
const DPORT: u32 = 40;
const DPORT_BITS: u64 = 0xffff << DPORT;
const HAS_PORTS: u64 = 1 << 56;
const IS_V6: u64 = 1 << 57;
/// One bit a [`CtState`], of which a packet has one: a rule that wants any of some forbids all others.
const STATE: u32 = 58;

/// What stands for no interface.
pub(super) const NO_INTERFACE: u16 = u16::MAX;

/// A packet's word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GuardKey(u64);

impl GuardKey {
    /// What [`Guard::words`] are compared with.
    #[inline(always)]
    pub(super) fn word(self) -> u64 {
        self.0
    }

    pub(super) fn of(view: &View<'_>) -> GuardKey {
        let packet = view.packet;
        let interface = |id: Option<InterfaceId>| u64::from(id.map_or(NO_INTERFACE, |id| id.0));
        let ports = packet.ports().map_or(0, |(_, dport)| HAS_PORTS | u64::from(dport) << DPORT);
        GuardKey(
            u64::from(packet.protocol.0) << PROTOCOL
                | interface(view.ingress) << INGRESS
                | interface(view.egress) << EGRESS
                | ports
                | family_bit(packet.family())
                | state_bit(state_of(view)),
        )
    }
}

/// The word of packets of which only some properties are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownKey {
    word: GuardKey,
    /// The bits that are known.
    known: u64,
}

impl KnownKey {
    pub(super) fn of(known: &Known) -> KnownKey {
        let egress = known.egress.map_or(NO_INTERFACE, |id| id.0);
        let word = u64::from(known.ingress.0) << INGRESS
            | u64::from(egress) << EGRESS
            | family_bit(known.family)
            | state_bit(known.state());
        let states = ALL_STATES.into_iter().fold(0, |bits, state| bits | state_bit(state));
        KnownKey { word: GuardKey(word), known: 0xffff << INGRESS | 0xffff << EGRESS | IS_V6 | states }
    }
}

/// The packet's state; before the tracker it is what nft says of a packet without one.
#[inline]
pub(super) fn state_of(view: &View<'_>) -> CtState {
    view.ct.map_or(CtState::Invalid, |ct| ct.state)
}

fn family_bit(family: Family) -> u64 {
    if family == Family::V6 { IS_V6 } else { 0 }
}

fn state_bit(state: CtState) -> u64 {
    1 << (STATE + state as u32)
}

/// A rule's mask and value. The default one admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guard {
    mask: u64,
    value: u64,
}

impl Guard {
    /// Admits nothing.
    pub(super) const NOBODY: Guard = Guard { mask: 0, value: u64::MAX };

    /// Mask and value: a packet's word, masked, is to equal the value.
    pub(super) fn words(self) -> [u64; 2] {
        [self.mask, self.value]
    }

    /// Whether a packet may match the rule.
    #[inline(always)]
    pub(super) fn admits(self, key: GuardKey) -> bool {
        key.0 & self.mask == self.value
    }

    /// Whether packets of a family may match the rule.
    pub(super) fn admits_family(self, family: Family) -> bool {
        (self.value ^ family_bit(family)) & self.mask & IS_V6 == 0
    }

    /// Whether packets that leave by an interface may match the rule.
    pub(super) fn admits_egress(self, egress: InterfaceId) -> bool {
        (self.value ^ u64::from(egress.0) << EGRESS) & self.mask & 0xffff << EGRESS == 0
    }

    /// Whether all such packets may match the rule, or none; None: that depends.
    pub(super) fn admits_known(self, key: KnownKey) -> Option<bool> {
        let at_odds = (key.word.0 ^ self.value) & self.mask & key.known != 0;
        match at_odds {
            true => Some(false),
            false => (self.mask & !key.known == 0).then_some(true),
        }
    }

    /// What it asks, field by field, and whether the packet has what it wants.
    pub(super) fn parts(self, key: GuardKey) -> impl Iterator<Item = (Field, bool)> {
        let states = ALL_STATES.into_iter().fold(0, |bits, state| bits | state_bit(state));
        let ports = if self.mask & DPORT_BITS != 0 {
            (Field::DestinationPort, HAS_PORTS | DPORT_BITS)
        } else {
            (Field::Ports, HAS_PORTS)
        };
        let parts = [
            (Field::Ingress, 0xffff << INGRESS),
            (Field::Egress, 0xffff << EGRESS),
            (Field::Family, IS_V6),
            (Field::Protocol, 0xff << PROTOCOL),
            ports,
            (Field::State, states),
        ];
        let asked = parts.into_iter().filter(move |(_, bits)| self.mask & bits != 0);
        asked.map(move |(field, bits)| (field, (key.0 ^ self.value) & self.mask & bits == 0))
    }

    /// Takes a test over, if a guard can say it; false if the rule must go on testing it.
    pub(super) fn absorb(&mut self, test: &Test) -> bool {
        match (&test.what, test.negated) {
            (Match::Ct { states, status }, negated) if status.0 == 0 => {
                for state in ALL_STATES {
                    if states.contains(state) == negated {
                        self.mask |= state_bit(state);
                    }
                }
                true
            }
            (_, true) => false,
            (Match::Protocol(list), false) => match **list {
                [protocol] => self.demand(0xff << PROTOCOL, u64::from(protocol.0) << PROTOCOL),
                _ => false,
            },
            (Match::Family(list), false) => match **list {
                [family] => self.demand(IS_V6, family_bit(family)),
                _ => false,
            },
            (Match::Ingress(list), false) => self.demand_interface(list, INGRESS),
            (Match::Egress(list), false) => self.demand_interface(list, EGRESS),
            (Match::DestinationPort(ports), false) => match ports.single() {
                Some(port) => self.demand(HAS_PORTS | 0xffff << DPORT, HAS_PORTS | u64::from(port) << DPORT),
                None => false,
            },
            _ => false,
        }
    }

    /// Demands what a test presupposes, negated or not: a packet without the field cannot match.
    pub(super) fn presuppose(&mut self, test: &Test) {
        let family = match &test.what {
            Match::Source(addresses) | Match::Destination(addresses) => addresses.family(),
            Match::Icmp(_) => Some(Family::V4),
            Match::Icmpv6(_) => Some(Family::V6),
            _ => None,
        };
        if let Some(family) = family {
            self.demand(IS_V6, family_bit(family));
        }
        let protocol = match &test.what {
            Match::TcpFlags { .. } => Some(Protocol::TCP),
            Match::Icmp(_) => Some(Protocol::ICMP),
            Match::Icmpv6(_) => Some(Protocol::ICMPV6),
            _ => None,
        };
        if let Some(protocol) = protocol {
            self.demand(0xff << PROTOCOL, u64::from(protocol.0) << PROTOCOL);
        }
        if matches!(test.what, Match::SourcePort(_) | Match::DestinationPort(_)) {
            self.demand(HAS_PORTS, HAS_PORTS);
        }
    }

    fn demand_interface(&mut self, list: &[InterfaceId], at: u32) -> bool {
        match *list {
            [one] if one.0 != NO_INTERFACE => self.demand(0xffff << at, u64::from(one.0) << at),
            _ => false,
        }
    }

    /// False if another value is demanded there already: then the test stays, and the rule never matches.
    fn demand(&mut self, mask: u64, value: u64) -> bool {
        if (self.value ^ value) & self.mask & mask != 0 {
            return false;
        }
        self.mask |= mask;
        self.value |= value;
        true
    }
}

const ALL_STATES: [CtState; 5] =
    [CtState::New, CtState::Established, CtState::Related, CtState::Invalid, CtState::Untracked];
