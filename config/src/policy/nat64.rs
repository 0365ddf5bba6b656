//! `nat64`: IPv6 hosts speak to IPv4 hosts, whom a prefix stands for. What a rule says, and which rules cannot stand beside
//! it: whose an answer from IPv4 is must be told by its address and port.
//!
//! Source: RFC 6146, RFC 6052.

use std::net::{IpAddr, Ipv4Addr};

use sluice_wire::{Pref64, Protocol};

use super::{Action, Policy, PortRange, Rule};
use crate::addr::IpRange;
use crate::decode::Reader;

/// `nat64`: the prefix, and who its flows are in IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat64 {
    /// The pool's addresses, IPv4.
    pub to: IpRange,
    /// The pool's ports; of ping, identifiers.
    pub ports: PortRange,
    /// What stands for IPv4.
    pub prefix: Pref64,
}

impl Nat64 {
    /// The protocols that are translated. Source: RFC 6146 section 1.3.
    pub const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::ICMPV6];

    /// The pool's ports unless others are given.
    pub const PORTS: PortRange = PortRange { first: 1024, last: 65535 };

    /// The pool's addresses.
    pub fn pool(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        match (self.to.first(), self.to.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Some((first, last)),
            _ => None,
        }
    }
}

/// What else takes answers to an address and port.
struct Taker<'p> {
    rule: &'p Rule,
    addresses: IpRange,
    ports: PortRange,
    prefix: Option<Pref64>,
}

/// Refuses pools that give the same port to flows of two prefixes, or to flows of IPv4 too.
pub(super) fn check(reader: &mut Reader<'_>, policy: &Policy) {
    let chains = policy.hooks.iter().map(|chain| &chain.rules);
    let rules = chains.chain(policy.chains.values().map(|chain| &chain.rules)).flatten();
    let takers: Vec<Taker<'_>> = rules.filter_map(Taker::of).collect();
    for (place, one) in takers.iter().enumerate() {
        let clash = takers.iter().take(place).find(|other| one.clashes(other));
        if let Some(other) = clash {
            reader.rule = one.rule.name.as_ref().map(|name| name.value.clone());
            let message = format!(
                "the rule at {} gives the same ports of the same addresses: nobody could tell whose an answer is",
                other.rule.span
            );
            let hint = "give each other addresses, or other ports by `port`".to_owned();
            reader.error_with(one.rule.action.span, message, Some(hint));
        }
    }
    reader.rule = None;
}

impl Taker<'_> {
    fn of(rule: &Rule) -> Option<Taker<'_>> {
        let (addresses, ports, prefix) = match &rule.action.value {
            Action::Nat64(nat64) => (nat64.to, Some(nat64.ports), Some(nat64.prefix)),
            Action::Snat(target) => (target.addr?, target.ports, None),
            _ => return None,
        };
        Some(Taker { rule, addresses, ports: ports.unwrap_or(Nat64::PORTS), prefix })
    }

    fn clashes(&self, other: &Taker<'_>) -> bool {
        let overlap = |one: IpRange, other: IpRange| {
            one.family() == other.family() && one.first() <= other.last() && other.first() <= one.last()
        };
        self.prefix != other.prefix
            && overlap(self.addresses, other.addresses)
            && self.ports.first <= other.ports.last
            && other.ports.first <= self.ports.last
    }
}
