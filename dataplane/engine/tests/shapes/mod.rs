//! Rules as those that ClassBench makes are shaped, and packets that meet them: pairs of nested prefixes, exact ports and
//! ranges, overlaps. Made by our own generator, so the numbers are comparable with themselves only.
//!
//! Source: Taylor and Turner, "ClassBench: A Packet Classification Benchmark", INFOCOM 2005, for what the three kinds of
//! rule sets (access lists, firewalls, IP chains) are like: which fields are left open, how specific prefixes are.

#![allow(dead_code, reason = "each program that has this module uses a part of it")]

use std::net::Ipv4Addr;

use sluice_engine::ruleset::{
    Action, AddressMatch, Hook, Match, Policy, PortMatch, RuleInfo, RuleSpec, RulesetBuilder, Target, Test,
};
use sluice_wire::{Addrs, Fragment, LinkCast, Packet, Protocol, TcpFlags, Transport};

/// A kind of rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Access lists: specific destinations, exact services, few open fields.
    Acl,
    /// Firewalls: one of the addresses is often open, ports are ranges as often as not.
    Fw,
    /// IP chains: pairs of hosts beside pairs of networks.
    Ipc,
}

impl Shape {
    pub const ALL: [Shape; 3] = [Shape::Acl, Shape::Fw, Shape::Ipc];

    /// How often, of a hundred, a source and a destination are open, a prefix of a network, or else a host.
    const fn openness(self) -> [(u64, u64); 2] {
        match self {
            Shape::Acl => [(4, 70), (1, 40)],
            Shape::Fw => [(30, 40), (20, 40)],
            Shape::Ipc => [(10, 40), (8, 40)],
        }
    }
}

/// Small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end
    }
}

/// A rule: prefixes, ranges of ports, and a protocol, each of them if it is not open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Five {
    pub src: (u32, u8),
    pub dst: (u32, u8),
    pub sport: Option<(u16, u16)>,
    pub dport: Option<(u16, u16)>,
    pub proto: Option<Protocol>,
}

/// So many rules of a shape, the same for the same number.
pub fn rules(shape: Shape, count: usize) -> Vec<Five> {
    let mut chance = Chance(shape as u64 * 1000 + 1);
    // Few networks with much in them, many with little, as in real tables.
    let networks: Vec<u32> = (0..(count / 40).max(8)).map(|_| chance.below(1 << 24) as u32).collect();
    (0..count).map(|_| rule(shape, &networks, &mut chance)).collect()
}

fn rule(shape: Shape, networks: &[u32], chance: &mut Chance) -> Five {
    let [source, destination] = shape.openness();
    let mut address = |(open, network): (u64, u64), least: u64| {
        let kind = chance.below(100);
        let skewed = chance.below(networks.len() as u64).min(chance.below(networks.len() as u64));
        let base = networks.get(skewed as usize).copied().unwrap_or_default() << 8;
        let host = base | chance.below(256) as u32;
        match kind {
            kind if kind < open => (0, 0),
            kind if kind < open + network => prefix(host, (least + chance.below(29 - least)) as u8),
            _ => prefix(host, 32),
        }
    };
    let src = address(source, 14);
    let dst = address(destination, if shape == Shape::Fw { 12 } else { 16 });
    let proto = match chance.below(100) {
        0..60 => Some(Protocol::TCP),
        60..85 => Some(Protocol::UDP),
        85..90 => Some(Protocol::ICMP),
        _ => None,
    };
    if proto.is_none_or(|proto| proto == Protocol::ICMP) {
        return Five { src, dst, proto, ..Five::default() };
    }
    let sport = match (shape, chance.below(100)) {
        (Shape::Acl, _) | (_, 0..70) => None,
        (_, 70..85) => Some((1024, 65535)),
        _ => Some(service(chance)),
    };
    let dport = match (shape, chance.below(100)) {
        (Shape::Acl, 0..10) | (Shape::Fw | Shape::Ipc, 0..25) => None,
        (Shape::Fw, 25..40) => Some((1024, 65535)),
        (Shape::Fw, 40..50) => Some((0, 1023)),
        (Shape::Acl, 10..25) | (_, 25..60) => {
            let first = chance.below(60_000) as u16;
            Some((first, first + chance.below(2000) as u16))
        }
        _ => Some(service(chance)),
    };
    Five { src, dst, sport, dport, proto }
}

fn prefix(address: u32, len: u8) -> (u32, u8) {
    (address & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0), len)
}

fn service(chance: &mut Chance) -> (u16, u16) {
    let known = [20, 21, 22, 25, 53, 80, 110, 123, 143, 161, 443, 445, 993, 1433, 3306, 3389, 5060, 8080];
    let port = match chance.below(4) {
        0 => chance.below(65536) as u16,
        _ => known.get(chance.below(known.len() as u64) as usize).copied().unwrap_or(80),
    };
    (port, port)
}

/// A builder whose forward chain has these rules: most decide, some count.
pub fn builder(rules: &[Five]) -> RulesetBuilder {
    let mut builder = RulesetBuilder::new();
    builder.policy(Hook::FilterForward, Policy::Drop);
    for (n, rule) in rules.iter().enumerate() {
        let action = match n % 10 {
            3 => Action::Count,
            n if n % 2 == 0 => Action::Accept,
            _ => Action::Drop,
        };
        let spec = RuleSpec { tests: rule.tests(), action, info: RuleInfo::default() };
        builder.rule(Target::Hook(Hook::FilterForward), spec).expect("a rule");
    }
    builder
}

impl Five {
    /// What it asks.
    pub fn tests(&self) -> Vec<Test> {
        let net = |(address, len): (u32, u8)| {
            (len > 0).then(|| AddressMatch::of_prefixes([(Ipv4Addr::from(address).into(), len)]))
        };
        let ports = |range: Option<(u16, u16)>| range.map(|range| PortMatch::of([range]));
        let matches = [
            net(self.src).map(Match::Source),
            net(self.dst).map(Match::Destination),
            ports(self.sport).map(Match::SourcePort),
            ports(self.dport).map(Match::DestinationPort),
            self.proto.map(|proto| Match::Protocol([proto].into())),
        ];
        matches.into_iter().flatten().map(Test::is).collect()
    }

    /// A packet that it matches, unless it is one of any protocol.
    pub fn packet(&self, chance: &mut Chance) -> Packet {
        let mut address = |(base, len): (u32, u8)| {
            let hosts = u32::MAX.checked_shr(len.into()).unwrap_or(0);
            Ipv4Addr::from(base | (chance.below(1 << 32) as u32 & hosts))
        };
        let addrs = Addrs::V4 { src: address(self.src), dst: address(self.dst) };
        let mut port = |range: Option<(u16, u16)>| {
            let (first, last) = range.unwrap_or((0, 65535));
            first + chance.below(u64::from(last - first) + 1) as u16
        };
        let (sport, dport) = (port(self.sport), port(self.dport));
        let protocol = self.proto.unwrap_or(Protocol::TCP);
        let transport = match protocol {
            Protocol::ICMP => Transport::Icmp { kind: 8, code: 0, id: 1 },
            Protocol::UDP => Transport::Udp { sport, dport },
            _ => Transport::Tcp { sport, dport, flags: TcpFlags::SYN },
        };
        Packet {
            vlan: None,
            cast: LinkCast::Unicast,
            l3: 14,
            l4: 34,
            end: 60,
            addrs,
            protocol,
            ttl: 64,
            tos: 0,
            dont_fragment: false,
            options: false,
            fragment: Fragment::Whole,
            transport,
            malformed: None,
        }
    }
}
