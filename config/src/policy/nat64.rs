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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AddrMatch;

    fn policy(hook: &str, rules: &str) -> Result<Policy, String> {
        let text = format!("nat: {{{hook}: [{rules}]}}");
        let read = Policy::parse("policy.yaml", &text, None);
        read.map(|(policy, _)| policy).map_err(|errors| errors.to_string())
    }

    #[test]
    fn short_and_long() {
        for (action, to, ports, prefix) in [
            ("203.0.113.9", "203.0.113.9", (1024, 65535), "64:ff9b::/96"),
            ("{to: 203.0.113.8/30}", "203.0.113.8-203.0.113.11", (1024, 65535), "64:ff9b::/96"),
            (
                "{to: 203.0.113.9, port: 20000-29999, prefix: '2001:db8:64::/64'}",
                "203.0.113.9",
                (20000, 29999),
                "2001:db8:64::/64",
            ),
        ] {
            let policy = policy("prerouting", &format!("{{action: {{nat64: {action}}}}}")).unwrap();
            let rule = &policy.hooks[0].rules[0];
            let Action::Nat64(nat64) = &rule.action.value else { panic!("{rule:?}") };
            assert_eq!(nat64.to, to.parse().unwrap(), "{action}");
            assert_eq!((nat64.ports.first, nat64.ports.last), ports, "{action}");
            let hosts = AddrMatch::Prefix(prefix.parse().unwrap());
            assert_eq!(rule.matches.dst.as_ref().unwrap()[0].value, hosts, "it is for what it can translate");
            assert_eq!(rule.matches.proto.as_deref(), Some(&Nat64::PROTOCOLS[..]));
        }
    }

    #[test]
    fn refused() {
        let with = |fields: &str| format!("{{action: {{nat64: {{{fields}}}}}}}");
        let two = |second: &str| format!("{{action: {{nat64: 203.0.113.9}}}}, {second}");
        for (hook, rules, expected) in [
            ("postrouting", with("to: 203.0.113.9"), "it belongs into nat.prerouting"),
            ("prerouting", with("port: 1-9"), "`nat64` needs `to`"),
            ("prerouting", with("to: '2001:db8::1'"), "`nat64` gives IPv4 addresses"),
            ("prerouting", with("to: 203.0.113.9, prefix: '2001:db8::/33'"), "cannot stand for IPv4"),
            ("prerouting", with("to: 203.0.113.9, prefix: 10.0.0.0/8"), "cannot stand for IPv4"),
            ("prerouting", with("to: 203.0.113.9, prefix: '2001:db8:0:0:100::/96'"), "cannot stand for IPv4"),
            (
                "prerouting",
                "{dst: '2001:db8::/32', action: {nat64: 203.0.113.9}}".to_owned(),
                "`nat64` is for 64:ff9b::/96: `dst` must lie in it, or be left out",
            ),
            ("prerouting", "{family: ipv4, action: {nat64: 203.0.113.9}}".to_owned(), "can never hold"),
            (
                "prerouting",
                two("{action: {nat64: {to: 203.0.113.8/30, prefix: '2001:db8::/96'}}}"),
                "nobody could tell whose an answer is",
            ),
        ] {
            let found = policy(hook, &rules).unwrap_err();
            assert!(found.contains(expected), "{rules}\n{found}");
        }
        // Other ports, or the same prefix for others, are no clash.
        for second in [
            "{in: lan, action: {nat64: {to: 203.0.113.9}}}",
            "{action: {nat64: {to: 203.0.113.7, prefix: '2001:db8::/96'}}}",
        ] {
            policy("prerouting", &two(second)).unwrap_or_else(|errors| panic!("{second}\n{errors}"));
        }
    }

    #[test]
    fn what_ipv4_speaks_from_is_not_given_twice() {
        let text = |snat: &str| {
            format!(
                "nat: {{prerouting: [{{action: {{nat64: {{to: 203.0.113.9, port: 40000-65535}}}}}}], postrouting: [{{action: {{snat: {{{snat}}}}}}}]}}"
            )
        };
        for (snat, good) in [
            ("to: 203.0.113.9", false),
            ("to: 203.0.113.0/24, port: 1024-40000", false),
            ("to: 203.0.113.9, port: 1024-39999", true),
            ("to: 203.0.113.8", true),
            ("to: '2001:db8::1'", true),
        ] {
            assert_eq!(Policy::parse("policy.yaml", &text(snat), None).is_ok(), good, "{snat}");
        }
    }
}
