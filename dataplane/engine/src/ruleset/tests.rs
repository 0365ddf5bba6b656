//! Each match with its negation, each action, and netfilter's order of evaluation.

use std::net::IpAddr;
use std::time::Duration;

use sluice_wire::{Addrs, Family, Fragment, LinkCast, MacAddr, Packet, Protocol, TcpFlags, Transport};

use super::*;
use crate::conntrack::{
    CtInfo, CtState, Direction, NatRange, OriginalTuple, Status, Template, TimeoutsId, Zone, ZoneId,
};
use crate::ids::{InterfaceId, Now, PortId};
use crate::limit::{Limit, LimitPer};
use crate::world::{AddressKind, Interface, Interfaces, RpFilter};

mod by_classifier;
mod properties;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addrs(src: &str, dst: &str) -> Addrs {
    match (ip(src), ip(dst)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
        (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
        _ => panic!("families differ"),
    }
}

/// 10.0.0.2 to 10.9.0.2, or the same of IPv6.
fn packet(family: Family, protocol: Protocol, transport: Transport) -> Packet {
    let (addrs, header) = match family {
        Family::V4 => (addrs("10.0.0.2", "10.9.0.2"), 20),
        Family::V6 => (addrs("fd00::2", "fd09::2"), 40),
    };
    Packet {
        vlan: None,
        cast: LinkCast::Unicast,
        l3: 14,
        l4: 14 + header,
        end: 14 + header + 20,
        addrs,
        protocol,
        ttl: 64,
        tos: 0xb8,
        dont_fragment: false,
        options: false,
        fragment: Fragment::Whole,
        transport,
        malformed: None,
    }
}

fn tcp(sport: u16, dport: u16, flags: TcpFlags) -> Packet {
    packet(Family::V4, Protocol::TCP, Transport::Tcp { sport, dport, flags })
}

fn tcp6() -> Packet {
    packet(Family::V6, Protocol::TCP, Transport::Tcp { sport: 5, dport: 22, flags: TcpFlags::SYN })
}

fn udp(dport: u16) -> Packet {
    packet(Family::V4, Protocol::UDP, Transport::Udp { sport: 5, dport })
}

fn ping() -> Packet {
    packet(Family::V4, Protocol::ICMP, Transport::Icmp { kind: 8, code: 0, id: 1 })
}

fn ping6() -> Packet {
    packet(Family::V6, Protocol::ICMPV6, Transport::Icmpv6 { kind: 128, code: 0, id: 1 })
}

fn later_fragment() -> Packet {
    let mut packet = packet(Family::V4, Protocol::UDP, Transport::Fragment);
    packet.fragment = Fragment::Later { offset: 1480, more: false, id: 7 };
    packet
}

fn router() -> Interfaces {
    let interface = |name: &str, port, address: &str| Interface {
        name: name.into(),
        port: PortId(port),
        vlan: None,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses: vec![(ip(address), 24)],
        groups: Vec::new(),
        kernel_addresses: false,
        rp_filter: RpFilter::Off,
    };
    Interfaces::new(vec![interface("lan", 0, "10.0.0.1"), interface("wan", 1, "10.9.0.1")])
}

fn info(state: CtState) -> CtInfo {
    let status = match state {
        CtState::Established => Status::SEEN_REPLY.with(Status::CONFIRMED),
        _ => Status::default(),
    };
    let original = OriginalTuple { src: ip("10.0.0.2"), dst: ip("192.0.2.80"), sport: 5, dport: 80 };
    CtInfo { state, direction: Direction::Original, status, mark: 0x15, original, helper: None }
}

/// From lan to wan, NEW.
fn view<'a>(packet: &'a Packet, interfaces: &'a Interfaces) -> View<'a> {
    View {
        packet,
        ingress: Some(InterfaceId(0)),
        egress: Some(InterfaceId(1)),
        ct: Some(info(CtState::New)),
        mark: 0,
        interfaces,
        now: Now::from_nanos(1_000_000_000),
        worker: WorkerId(0),
        tally: None,
        rehearsed: false,
    }
}

fn spec(tests: Vec<Test>, action: Action) -> RuleSpec {
    RuleSpec { tests, action, info: RuleInfo::default() }
}

/// A ruleset whose forward chain has these rules, under policy drop.
fn forward(rules: Vec<RuleSpec>) -> Ruleset {
    let mut builder = RulesetBuilder::new();
    builder.policy(Hook::FilterForward, Policy::Drop);
    for rule in rules {
        builder.rule(Target::Hook(Hook::FilterForward), rule).unwrap();
    }
    builder.build(2).unwrap()
}

fn judge(ruleset: &Ruleset, view: &mut View<'_>) -> (Decision, Effects) {
    let mut effects = Effects::default();
    (ruleset.evaluate(Hook::FilterForward, view, &mut effects), effects)
}

/// Whether a rule with this test alone accepts, as it is and negated.
fn both(what: &Match, view: &View<'_>) -> (bool, bool) {
    let accepts = |test: Test| {
        let ruleset = forward(vec![spec(vec![test], Action::Accept)]);
        judge(&ruleset, &mut view.clone()).0 == Decision::Accept
    };
    (accepts(Test::is(what.clone())), accepts(Test::not(what.clone())))
}

const YES: (bool, bool) = (true, false);
const NO: (bool, bool) = (false, true);
/// The packet has no such field: neither holds.
const ABSENT: (bool, bool) = (false, false);

fn net(prefixes: &[(&str, u8)]) -> AddressMatch {
    AddressMatch::of_prefixes(prefixes.iter().map(|&(address, len)| (ip(address), len)))
}

fn ids(list: &[u16]) -> Box<[InterfaceId]> {
    list.iter().map(|&id| InterfaceId(id)).collect()
}

fn numbers(ranges: &[(u16, u16)]) -> NumberRanges {
    NumberRanges(ranges.into())
}

#[test]
fn matches_on_headers_and_their_negations() {
    let interfaces = router();
    let syn = tcp(5, 22, TcpFlags::SYN);
    let to_us = Packet { addrs: addrs("10.0.0.2", "10.0.0.1"), ..syn };
    let to_all = Packet { addrs: addrs("10.0.0.2", "10.9.0.255"), ..syn };
    let ports = |list: &[(u16, u16)]| PortMatch::of(list.iter().copied());
    let icmp = |kind, code| Box::from([IcmpMatch { kind, code }]);
    let flags = |set, mask| Match::TcpFlags { set, mask };
    let syn_of_all = flags(TcpFlags::SYN, TcpFlags::SYN.union(TcpFlags::ACK).union(TcpFlags::RST));
    for (name, what, packet, expected) in [
        ("in", Match::Ingress(ids(&[0])), syn, YES),
        ("in another", Match::Ingress(ids(&[1])), syn, NO),
        ("in any", Match::Ingress(ids(&[1, 0])), syn, YES),
        ("in none", Match::Ingress(ids(&[])), syn, NO),
        ("out", Match::Egress(ids(&[1])), syn, YES),
        ("out another", Match::Egress(ids(&[0, 2])), syn, NO),
        ("to routed", Match::To([AddressKind::Routed].into()), syn, YES),
        ("to local", Match::To([AddressKind::Local].into()), to_us, YES),
        (
            "to broadcast or multicast",
            Match::To([AddressKind::Multicast, AddressKind::Broadcast].into()),
            to_all,
            YES,
        ),
        ("to local, is routed", Match::To([AddressKind::Local].into()), syn, NO),
        ("origin local", Match::Origin([AddressKind::Local].into()), syn, NO),
        ("family", Match::Family([Family::V4].into()), syn, YES),
        ("family of the other", Match::Family([Family::V6].into()), syn, NO),
        ("either family", Match::Family([Family::V6, Family::V4].into()), syn, YES),
        ("proto", Match::Protocol([Protocol::TCP].into()), syn, YES),
        ("proto of several", Match::Protocol([Protocol::UDP, Protocol::GRE].into()), syn, NO),
        ("proto of a fragment", Match::Protocol([Protocol::UDP].into()), later_fragment(), YES),
        ("src", Match::Source(net(&[("10.0.0.0", 8)])), syn, YES),
        ("src of several", Match::Source(net(&[("10.1.0.0", 16), ("10.2.0.0", 16)])), syn, NO),
        ("src of the other family", Match::Source(net(&[("fd00::", 8)])), syn, ABSENT),
        ("src, v6", Match::Source(net(&[("10.0.0.0", 8), ("fd00::", 64)])), tcp6(), YES),
        ("src of both families", Match::Source(net(&[("10.1.0.0", 16), ("fd00::", 8)])), syn, NO),
        ("dst", Match::Destination(net(&[("10.9.0.2", 32)])), syn, YES),
        ("dst of the other family", Match::Destination(net(&[("10.9.0.2", 32)])), tcp6(), ABSENT),
        ("sport", Match::SourcePort(ports(&[(5, 5)])), syn, YES),
        ("sport range", Match::SourcePort(ports(&[(1, 4), (6, 9)])), syn, NO),
        ("dport", Match::DestinationPort(ports(&[(22, 22)])), syn, YES),
        ("dport range", Match::DestinationPort(ports(&[(20, 25)])), udp(25), YES),
        ("dport another", Match::DestinationPort(ports(&[(23, 23)])), syn, NO),
        ("dport 0", Match::DestinationPort(ports(&[(0, 0)])), udp(0), YES),
        ("dport 0 of icmp", Match::DestinationPort(ports(&[(0, 0)])), ping(), ABSENT),
        ("dport of a fragment", Match::DestinationPort(ports(&[(0, 65535)])), later_fragment(), ABSENT),
        ("tcp_flags", syn_of_all.clone(), syn, YES),
        ("tcp_flags with more", syn_of_all.clone(), tcp(5, 22, TcpFlags::SYN.union(TcpFlags::ACK)), NO),
        ("tcp_flags not asked for", syn_of_all.clone(), tcp(5, 22, TcpFlags::SYN.union(TcpFlags::ECE)), YES),
        ("tcp_flags none/all", flags(TcpFlags::NONE, TcpFlags::ALL), tcp(5, 22, TcpFlags::NONE), YES),
        ("tcp_flags of udp", syn_of_all, udp(22), ABSENT),
        ("icmp", Match::Icmp(icmp(8, None)), ping(), YES),
        ("icmp with code", Match::Icmp(icmp(8, Some(0))), ping(), YES),
        ("icmp with another code", Match::Icmp(icmp(8, Some(1))), ping(), NO),
        ("icmp of icmpv6", Match::Icmp(icmp(128, None)), ping6(), ABSENT),
        ("icmp of tcp", Match::Icmp(icmp(8, None)), syn, ABSENT),
        ("icmpv6", Match::Icmpv6(icmp(128, None)), ping6(), YES),
        ("icmpv6 another", Match::Icmpv6(icmp(129, None)), ping6(), NO),
        ("icmpv6 of icmp", Match::Icmpv6(icmp(8, None)), ping(), ABSENT),
        ("fragment", Match::Fragment(true), later_fragment(), YES),
        ("fragment false", Match::Fragment(false), syn, YES),
        ("fragment of a whole one", Match::Fragment(true), syn, NO),
        ("length", Match::Length(numbers(&[(40, 40)])), syn, YES),
        ("length, v6", Match::Length(numbers(&[(60, 70)])), tcp6(), YES),
        ("length above", Match::Length(numbers(&[(41, 65535)])), syn, NO),
        ("ttl", Match::Ttl(numbers(&[(1, 10), (64, 64)])), syn, YES),
        ("ttl another", Match::Ttl(numbers(&[(0, 63)])), syn, NO),
        ("dscp", Match::Dscp(numbers(&[(46, 46)])), syn, YES),
        ("dscp another", Match::Dscp(numbers(&[(0, 45)])), syn, NO),
        ("mark", Match::Mark([MarkMatch { value: 0, mask: u32::MAX }].into()), syn, YES),
        ("mark another", Match::Mark([MarkMatch { value: 1, mask: 1 }].into()), syn, NO),
        ("absent", Match::Absent, syn, ABSENT),
    ] {
        assert_eq!(both(&what, &view(&packet, &interfaces)), expected, "{name}");
    }
}

#[test]
fn matches_on_tracking_and_their_negations() {
    use CtState::{Established, Invalid, New, Related, Untracked};
    let (interfaces, packet) = (router(), tcp(5, 22, TcpFlags::SYN));
    let set = |list: &[CtState]| list.iter().fold(StateSet::default(), |set, state| set.with(*state));
    let ct = |list: &[CtState]| Match::Ct { states: set(list), status: Status::default() };
    let snat = Match::Ct { states: set(&[Related]), status: Status::SNAT };
    let mark = |value, mask| Match::CtMark([MarkMatch { value, mask }].into());
    let original = |src: &[(&str, u8)], dport| {
        let dport = Some(PortMatch::of([(dport, dport)]));
        Match::Original(Box::new(OriginalMatch { src: Some(net(src)), dport, ..OriginalMatch::default() }))
    };
    for (name, what, state, expected) in [
        ("ct", ct(&[New]), Some(New), YES),
        ("ct of several", ct(&[Established, Related]), Some(New), NO),
        ("ct invalid", ct(&[Invalid]), Some(Invalid), YES),
        ("ct untracked", ct(&[Untracked]), Some(Untracked), YES),
        ("ct in raw is invalid", ct(&[Invalid, New]), None, YES),
        ("ct snat", snat.clone(), Some(New), NO),
        ("ct snat or related", snat.clone(), Some(Related), YES),
        ("ct snat, no flow", snat, Some(Invalid), NO),
        ("ct_dir", Match::Direction([Direction::Original].into()), Some(New), YES),
        ("ct_dir reply", Match::Direction([Direction::Reply].into()), Some(New), NO),
        ("ct_dir of invalid", Match::Direction([Direction::Original].into()), Some(Invalid), ABSENT),
        ("ct_dir in raw", Match::Direction([Direction::Original].into()), None, ABSENT),
        ("ct_status", Match::Status(Status::SEEN_REPLY), Some(Established), YES),
        (
            "ct_status of several",
            Match::Status(Status::ASSURED.with(Status::CONFIRMED)),
            Some(Established),
            YES,
        ),
        ("ct_status lacking", Match::Status(Status::ASSURED), Some(Established), NO),
        ("ct_status of untracked", Match::Status(Status::ASSURED), Some(Untracked), ABSENT),
        ("ct_mark", mark(0x15, u32::MAX), Some(New), YES),
        ("ct_mark masked", mark(0x10, 0xf0), Some(New), YES),
        ("ct_mark another", mark(0x16, u32::MAX), Some(New), NO),
        ("ct_mark of untracked", mark(0x15, u32::MAX), Some(Untracked), ABSENT),
        ("ct_orig", original(&[("10.0.0.0", 8)], 80), Some(New), YES),
        ("ct_orig, one differs", original(&[("10.0.0.0", 8)], 22), Some(New), NO),
        ("ct_orig of the other family", original(&[("fd00::", 8)], 80), Some(New), ABSENT),
        ("ct_orig of invalid", original(&[("10.0.0.0", 8)], 80), Some(Invalid), ABSENT),
    ] {
        let view = View { ct: state.map(info), ..view(&packet, &interfaces) };
        assert_eq!(both(&what, &view), expected, "{name}");
    }
}

#[test]
fn a_named_set_speaks_of_both_families() {
    let mut builder = RulesetBuilder::new();
    let set = builder.address_set(AddressSet::of_prefixes([(ip("10.0.0.0"), 24)]));
    let ports = builder.port_set(PortSet::new([(22, 22)]));
    builder.policy(Hook::FilterForward, Policy::Drop);
    let own = AddressSet::of_prefixes([(ip("10.7.0.0"), 16)]);
    let unwanted = Match::Source(AddressMatch { own, sets: [set].into() });
    let wanted = Match::DestinationPort(PortMatch { own: PortSet::default(), sets: [ports].into() });
    let rule = spec(vec![Test::not(unwanted), Test::is(wanted)], Action::Accept);
    builder.rule(Target::Hook(Hook::FilterForward), rule).unwrap();
    let ruleset = builder.build(1).unwrap();
    let interfaces = router();
    let elsewhere = |src| Packet { addrs: addrs(src, "10.9.0.2"), ..tcp(5, 22, TcpFlags::SYN) };
    for (packet, expected) in [
        (tcp(5, 22, TcpFlags::SYN), Decision::Drop),
        (tcp6(), Decision::Accept),
        (elsewhere("10.1.0.1"), Decision::Accept),
        (elsewhere("10.7.1.1"), Decision::Drop),
        (udp(23), Decision::Drop),
    ] {
        assert_eq!(judge(&ruleset, &mut view(&packet, &interfaces)).0, expected, "{packet:?}");
    }
}

#[test]
fn rejections_are_of_the_packets_family() {
    let interfaces = router();
    let unreachable = |icmp, icmpv6| Reject::Unreachable { icmp, icmpv6 };
    let said = Decision::Reject;
    for (how, packet, expected) in [
        (unreachable(Some(3), Some(4)), udp(1), said(Rejection::Icmp(3))),
        (unreachable(Some(3), Some(4)), tcp6(), said(Rejection::Icmpv6(4))),
        (unreachable(Some(0), None), udp(1), said(Rejection::Icmp(0))),
        (unreachable(Some(0), None), tcp6(), Decision::Drop),
        (unreachable(None, Some(3)), tcp6(), said(Rejection::Icmpv6(3))),
        (unreachable(None, Some(3)), udp(1), Decision::Drop),
        (Reject::TcpReset, tcp6(), said(Rejection::TcpReset)),
        (Reject::TcpReset, udp(1), Decision::Drop),
    ] {
        let ruleset = forward(vec![spec(vec![], Action::Reject(how))]);
        let (decision, effects) = judge(&ruleset, &mut view(&packet, &interfaces));
        assert_eq!(decision, expected, "{how:?}");
        assert_eq!(
            effects.rule.is_some(),
            decision != Decision::Drop,
            "a rule that does not match decides nothing"
        );
    }
}

/// A policy over two user chains, `a` and `b`, and the marks that a packet collects on its way.
fn chains(base: &[Step], a: &[Step], b: &[Step]) -> (Decision, u32, Vec<u32>) {
    let mut builder = RulesetBuilder::new();
    builder.policy(Hook::FilterForward, Policy::Drop);
    let ids = [builder.chain("a"), builder.chain("b")];
    let targets = [Target::Hook(Hook::FilterForward), Target::Chain(ids[0]), Target::Chain(ids[1])];
    for (target, steps) in targets.into_iter().zip([base, a, b]) {
        for step in steps {
            let action = match *step {
                Step::Digit(bit) => Action::Mark(MarkSet { value: 1 << bit, mask: 1 << bit }),
                Step::Jump(to) => Action::Jump(ids[to]),
                Step::Goto(to) => Action::Goto(ids[to]),
                Step::Return => Action::Return,
                Step::Accept => Action::Accept,
            };
            builder.rule(target, spec(vec![], action)).unwrap();
        }
    }
    let ruleset = builder.build(1).unwrap();
    let (interfaces, packet) = (router(), udp(1));
    let mut view = view(&packet, &interfaces);
    let (decision, effects) = judge(&ruleset, &mut view);
    (decision, view.mark, effects.counted.ids().iter().map(|id| id.0).collect())
}

#[derive(Clone, Copy)]
enum Step {
    Digit(u32),
    Jump(usize),
    Goto(usize),
    Return,
    Accept,
}

#[test]
fn chains_call_and_return_as_in_netfilter() {
    use super::Decision::{Accept as Passed, Drop as Dropped};
    use Step::*;
    for (name, base, a, b, decision, mark) in [
        ("the policy decides behind the last rule", vec![Digit(0)], vec![], vec![], Dropped, 0b1),
        ("return at a hook leaves it to the policy", vec![Return, Accept], vec![], vec![], Dropped, 0),
        (
            "a chain's end goes on behind the jump",
            vec![Jump(0), Digit(1), Accept],
            vec![Digit(0)],
            vec![],
            Passed,
            0b11,
        ),
        ("so does return", vec![Jump(0), Accept], vec![Digit(0), Return, Digit(1)], vec![], Passed, 0b1),
        ("goto at a hook ends with the policy", vec![Goto(0), Accept], vec![Digit(0)], vec![], Dropped, 0b1),
        (
            "behind goto is the caller's caller",
            vec![Jump(0), Digit(2), Accept],
            vec![Goto(1), Digit(1)],
            vec![Digit(0)],
            Passed,
            0b101,
        ),
        (
            "jumps nest",
            vec![Jump(0), Digit(3)],
            vec![Jump(1), Digit(2)],
            vec![Digit(0), Return, Digit(1)],
            Dropped,
            0b1101,
        ),
        ("accept inside ends it", vec![Jump(0), Digit(0)], vec![Jump(1)], vec![Accept], Passed, 0),
        ("an empty chain does nothing", vec![Jump(1), Jump(1), Accept], vec![], vec![], Passed, 0),
    ] {
        let (seen, marks, _) = chains(&base, &a, &b);
        assert_eq!((seen, marks), (decision, mark), "{name}");
    }
}

#[test]
fn every_rule_that_matches_is_counted_and_policies_too() {
    let (_, _, counted) = chains(&[Step::Jump(0), Step::Digit(0)], &[Step::Digit(1)], &[]);
    let policy = 3 + Hook::FilterForward as u32;
    assert_eq!(counted, [0, 2, 1, policy]);

    let ruleset = forward((0..20).map(|_| spec(vec![], Action::Count)).collect());
    let (interfaces, packet) = (router(), udp(1));
    let (_, effects) = judge(&ruleset, &mut View { worker: WorkerId(1), ..view(&packet, &interfaces) });
    assert!(!effects.is_storable(), "more counters than a stored answer has room for");
    assert_eq!(effects.counted.ids().len(), Counted::ROOM);
    assert_eq!(ruleset.rule_counters(RuleId(17)), (1, 40), "the rest is counted at once");
    effects.counted.ids().iter().for_each(|id| ruleset.count(WorkerId(0), *id, 2, 80));
    assert_eq!(ruleset.rule_counters(RuleId(3)), (2, 80));
    assert_eq!(ruleset.policy(Hook::FilterForward), (Policy::Drop, 1, 40));
}

#[test]
fn marks_are_set_and_seen_by_later_rules() {
    let (interfaces, packet) = (router(), udp(1));
    let set = |value, mask| MarkSet { value, mask };
    let seen = |value| Test::is(Match::CtMark([MarkMatch { value, mask: u32::MAX }].into()));
    let rules = vec![
        spec(vec![], Action::CtMark(set(0x40, 0xf0))),
        spec(vec![], Action::Mark(set(7, u32::MAX))),
        spec(vec![seen(0x45)], Action::Accept),
    ];
    let ruleset = forward(rules);
    let mut judged = view(&packet, &interfaces);
    let (decision, effects) = judge(&ruleset, &mut judged);
    assert_eq!((decision, effects.ct_mark, judged.mark), (Decision::Accept, Some(0x45), 7));

    let (_, effects) = judge(&ruleset, &mut judged);
    assert_eq!(effects.ct_mark, None, "the flow has it already");
    let (decision, effects) =
        judge(&ruleset, &mut View { ct: Some(info(CtState::Untracked)), ..view(&packet, &interfaces) });
    assert_eq!((decision, effects.ct_mark), (Decision::Drop, None), "no flow, no mark");
}

#[test]
fn rules_that_mark_a_flow_in_turn_are_asked_for_every_packet() {
    let (interfaces, packet) = (router(), udp(1));
    let set = |value, mask| Action::CtMark(MarkSet { value, mask });
    for (name, other, storable) in [
        ("the same value", set(1, 0xff), true),
        ("other bits", set(0x100, 0xf00), true),
        ("another value", set(2, 0xff), false),
    ] {
        let from_wan = Test::is(Match::Ingress(ids(&[1])));
        let ruleset = forward(vec![spec(vec![], set(1, 0xff)), spec(vec![from_wan], other)]);
        let (_, effects) = judge(&ruleset, &mut view(&packet, &interfaces));
        assert_eq!(effects.is_storable(), storable, "{name}");
    }
}

#[test]
fn notrack_and_log_go_on() {
    let (interfaces, packet) = (router(), udp(1));
    let one = std::sync::Arc::new(Limit::new(1, Duration::from_secs(1), 1, LimitPer::Rule));
    let rules = vec![
        spec(vec![], Action::Notrack { related: false }),
        spec(vec![], Action::Log(None)),
        spec(vec![], Action::Log(Some(one))),
        spec(vec![], Action::Accept),
    ];
    let ruleset = forward(rules);
    let (decision, first) = judge(&ruleset, &mut view(&packet, &interfaces));
    let (_, second) = judge(&ruleset, &mut view(&packet, &interfaces));
    assert_eq!(decision, Decision::Accept);
    assert!(first.notrack && !first.is_storable());
    assert_eq!(first.logs.ids(), [RuleId(1), RuleId(2)]);
    assert_eq!(second.logs.ids(), [RuleId(1)], "the other is over its limit, which stops nothing else");
    assert_eq!(second.rule, Some(RuleId(3)));
}

#[test]
fn marks_are_saved_and_restored() {
    let (interfaces, packet) = (router(), udp(1));
    // The flow's mark is 0x15.
    let cases = [
        ("save", vec![Action::SaveMark(u32::MAX)], 0xa0, (0xa0, Some(0xa0))),
        ("save some bits", vec![Action::SaveMark(0xf0)], 0xab, (0xab, Some(0xa5))),
        ("save what it has", vec![Action::SaveMark(0xf)], 0x25, (0x25, None)),
        ("restore", vec![Action::RestoreMark(u32::MAX)], 0xa0, (0x15, None)),
        ("restore some bits", vec![Action::RestoreMark(0xf)], 0xa0, (0xa5, None)),
    ];
    for (name, actions, mark, (packets, flows)) in cases {
        let ruleset = forward(actions.into_iter().map(|action| spec(vec![], action)).collect());
        let mut view = View { mark, ..view(&packet, &interfaces) };
        let (_, effects) = judge(&ruleset, &mut view);
        assert_eq!((view.mark, effects.ct_mark), (packets, flows), "{name}");
        assert!(!effects.is_storable(), "{name}");
    }
    let ruleset = forward(vec![spec(vec![], Action::RestoreMark(u32::MAX))]);
    let mut untracked = View { mark: 7, ct: None, ..view(&packet, &interfaces) };
    judge(&ruleset, &mut untracked);
    assert_eq!(untracked.mark, 7, "there is no mark to restore");
}

/// As observed on Linux 6.18: a packet has one template, which the first rule makes; NOTRACK leaves it alone, and it takes
/// NOTRACK back.
#[test]
fn the_first_rule_that_gives_a_zone_or_timeouts_decides() {
    let (interfaces, packet) = (router(), udp(1));
    let zone = |id| Action::Zone(Zone::both(ZoneId(id)));
    let cases = [
        ("none", vec![], false, (0, 0)),
        ("two zones", vec![zone(5), zone(6)], false, (5, 0)),
        ("zone 0 is none", vec![zone(0), zone(6)], false, (6, 0)),
        ("a zone, then notrack", vec![zone(5), Action::Notrack { related: false }], false, (5, 0)),
        ("notrack, then a zone", vec![Action::Notrack { related: false }, zone(5)], false, (5, 0)),
        ("zone and timeouts", vec![Action::CtTimeout(1), zone(5), Action::CtTimeout(0)], false, (5, 8)),
        (
            "timeouts, then notrack",
            vec![Action::CtTimeout(0), Action::Notrack { related: false }],
            false,
            (0, 7),
        ),
        (
            "notrack, then timeouts",
            vec![Action::Notrack { related: false }, Action::CtTimeout(0)],
            true,
            (0, 0),
        ),
    ];
    for (name, actions, notrack, (zone, timeouts)) in cases {
        let mut ruleset = forward(actions.into_iter().map(|action| spec(vec![], action)).collect());
        ruleset.number_timeouts([TimeoutsId(7), TimeoutsId(8)].into());
        let (_, effects) = judge(&ruleset, &mut view(&packet, &interfaces));
        assert_eq!(effects.notrack, notrack, "{name}");
        let expected =
            Template { zone: Zone::both(ZoneId(zone)), timeouts: TimeoutsId(timeouts), helper: None };
        assert_eq!(effects.template, expected, "{name}");
    }
}

#[test]
fn a_limit_is_asked_last_and_negated_means_over() {
    let (interfaces, packet) = (router(), udp(1));
    let limit =
        || Match::Limit(std::sync::Arc::new(Limit::new(1, Duration::from_secs(1), 2, LimitPer::Rule)));
    let other_port = Test::is(Match::DestinationPort(PortMatch::of([(9, 9)])));
    let accepted = |tests: Vec<Test>| {
        let ruleset = forward(vec![spec(tests, Action::Accept)]);
        (0..5).filter(|_| judge(&ruleset, &mut view(&packet, &interfaces)).0 == Decision::Accept).count()
    };
    assert_eq!(accepted(vec![Test::is(limit())]), 2);
    assert_eq!(accepted(vec![Test::not(limit())]), 3);

    let shared = limit();
    assert_eq!(accepted(vec![Test::is(shared.clone()), other_port]), 0);
    assert_eq!(accepted(vec![Test::is(shared)]), 2, "what does not match otherwise takes no token");
}

#[test]
fn what_differs_between_packets_of_a_flow_is_not_stored() {
    let (interfaces, packet) = (router(), tcp(5, 22, TcpFlags::SYN));
    let flags = || Test::is(Match::TcpFlags { set: TcpFlags::SYN, mask: TcpFlags::SYN });
    let proto = |protocol| Test::is(Match::Protocol([protocol].into()));
    let from = |prefix: &str| Test::is(Match::Source(net(&[(prefix, 16)])));
    for (name, tests, storable) in [
        ("tuple and state", vec![proto(Protocol::TCP), from("10.0.0.0")], true),
        ("flags", vec![flags()], false),
        ("flags of another protocol", vec![proto(Protocol::UDP), Test::not(Match::Absent), flags()], true),
        ("flags behind an address that differs", vec![flags(), from("10.1.0.0")], true),
        ("length", vec![Test::is(Match::Length(numbers(&[(1, 9)])))], false),
        ("assured", vec![Test::is(Match::Status(Status::ASSURED))], false),
        ("translated", vec![Test::is(Match::Status(Status::SNAT))], true),
        ("mark of the flow", vec![Test::is(Match::CtMark([].into()))], false),
        ("mark of the packet", vec![Test::is(Match::Mark([].into()))], true),
        ("fragment", vec![Test::is(Match::Fragment(true))], true),
    ] {
        let ruleset = forward(vec![spec(tests, Action::Drop)]);
        let (_, effects) = judge(&ruleset, &mut view(&packet, &interfaces));
        assert_eq!(effects.is_storable(), storable, "{name}");
    }
    let ruleset = forward(vec![spec(vec![proto(Protocol::UDP), flags()], Action::Drop)]);
    assert!(ruleset.reads(Hook::FilterForward).intersects(Reads::TCP_FLAGS), "some packet may read them");
    assert!(ruleset.reads(Hook::FilterInput).is_empty());
}

#[test]
fn loops_and_deep_nests_are_refused() {
    let nest = |depth: usize, last: Option<usize>| {
        let mut builder = RulesetBuilder::new();
        let ids: Vec<ChainId> = (0..depth).map(|n| builder.chain(&format!("c{n}"))).collect();
        builder.rule(Target::Hook(Hook::FilterInput), spec(vec![], Action::Jump(ids[0]))).unwrap();
        for (place, id) in ids.iter().enumerate() {
            let next = ids.get(place + 1).or(last.map(|to| &ids[to]));
            if let Some(&next) = next {
                builder.rule(Target::Chain(*id), spec(vec![], Action::Goto(next))).unwrap();
            }
        }
        builder.build(1).map(|_| ())
    };
    assert_eq!(nest(16, None), Ok(()));
    assert_eq!(nest(17, None), Err(BuildError::TooDeep("input".into())));
    assert!(matches!(nest(5000, None), Err(BuildError::TooDeep(_))));
    assert_eq!(nest(3, Some(1)), Err(BuildError::Loop("c1".into())));
    assert_eq!(nest(1, Some(0)), Err(BuildError::Loop("c0".into())));

    let mut builder = RulesetBuilder::new();
    let ids: Vec<ChainId> = (0..8).map(|n| builder.chain(&format!("c{n}"))).collect();
    for pair in ids.windows(2) {
        (0..10)
            .for_each(|_| builder.rule(Target::Chain(pair[0]), spec(vec![], Action::Jump(pair[1]))).unwrap());
    }
    let error = builder.build(1).map(|_| ()).unwrap_err();
    assert_eq!(error, BuildError::TooLong { chain: "c0".into(), rules: 11_111_110 });

    let nowhere = Target::Chain(ChainId(3));
    assert_eq!(RulesetBuilder::new().rule(nowhere, spec(vec![], Action::Drop)), Err(BuildError::NoChain(3)));
}

#[test]
fn the_deepest_nest_returns_all_the_way() {
    let mut builder = RulesetBuilder::new();
    let ids: Vec<ChainId> = (0..16).map(|n| builder.chain(&format!("c{n}"))).collect();
    let mut from = Target::Hook(Hook::FilterForward);
    for id in ids {
        builder.rule(from, spec(vec![], Action::Jump(id))).unwrap();
        let bump = Action::Mark(MarkSet { value: 1 << id.0, mask: 1 << id.0 });
        builder.rule(from, spec(vec![], bump)).unwrap();
        from = Target::Chain(id);
    }
    let ruleset = builder.build(1).unwrap();
    let (interfaces, packet) = (router(), udp(1));
    let mut view = view(&packet, &interfaces);
    assert_eq!(judge(&ruleset, &mut view).0, Decision::Accept);
    assert_eq!(view.mark, 0xffff);
}

#[test]
fn metrics_go_on_counting_over_a_change_of_policy() {
    let info = |name: Option<&str>, text: &str| RuleInfo {
        name: name.map(Into::into),
        text: text.into(),
        exported: true,
        ..RuleInfo::default()
    };
    let build = |infos: &[RuleInfo]| {
        let rule = |info: &RuleInfo| RuleSpec { tests: vec![], action: Action::Count, info: info.clone() };
        forward(infos.iter().map(rule).collect())
    };
    let old = build(&[info(Some("web"), "a"), info(None, "x"), info(None, "x"), info(None, "gone")]);
    for (rule, packets) in (0..).zip([5, 6, 7, 8]) {
        old.count(WorkerId(0), CounterId(rule), packets, packets * 100);
    }
    let new = build(&[info(None, "x"), info(Some("web"), "changed"), info(None, "new"), info(None, "x")]);
    new.count(WorkerId(1), CounterId(1), 1, 100);
    new.carry(&old);
    let packets: Vec<u64> = (0..4).map(|rule| new.rule_counters(RuleId(rule)).0).collect();
    assert_eq!(packets, [6, 6, 0, 7]);
}

#[test]
fn a_hook_without_rules_is_empty() {
    let ruleset = forward(vec![]);
    assert!(!ruleset.is_empty(Hook::FilterForward) && ruleset.is_empty(Hook::FilterInput));
    let default = Ruleset::default();
    let (interfaces, packet) = (router(), udp(1));
    for hook in Hook::ALL {
        let mut effects = Effects::default();
        assert!(default.is_empty(hook));
        assert_eq!(default.evaluate(hook, &mut view(&packet, &interfaces), &mut effects), Decision::Accept);
        assert!(effects.counted.ids().is_empty() && effects.is_storable());
    }
}

#[test]
fn a_set_gets_other_elements_and_rules_count_on() {
    let mut builder = RulesetBuilder::new();
    let of = |address: &str| AddressSet::of_prefixes([(ip(address), 32)]);
    let (addresses, ports) =
        (builder.address_set(of("10.0.0.2")), builder.port_set(PortSet::new([(80, 80)])));
    let tests = vec![
        Test::is(Match::Source(AddressMatch { own: AddressSet::default(), sets: [addresses].into() })),
        Test::is(Match::DestinationPort(PortMatch { own: PortSet::default(), sets: [ports].into() })),
    ];
    builder.policy(Hook::FilterForward, Policy::Drop);
    builder.rule(Target::Hook(Hook::FilterForward), spec(tests, Action::Accept)).unwrap();
    let before = builder.build(2).unwrap();
    let interfaces = router();
    let accepts = |ruleset: &Ruleset, dport| {
        let (decision, effects) = judge(ruleset, &mut view(&udp(dport), &interfaces));
        effects.counted.ids().iter().for_each(|id| ruleset.count(WorkerId(0), *id, 1, 1));
        decision == Decision::Accept
    };
    assert!(accepts(&before, 80) && !accepts(&before, 81));
    let other = before.with_port_set(ports, PortSet::new([(81, 81)]));
    assert!(!accepts(&other, 80) && accepts(&other, 81));
    assert_eq!(before.rule_counters(RuleId(0)), (2, 2), "one set of counters");
    assert!(!accepts(&other.with_address_set(addresses, of("10.0.0.3")), 81));
    assert!(accepts(&before, 80), "what runs is left alone");
}

#[test]
fn rules_that_give_sources_are_told_with_where_their_packets_leave() {
    let masquerade = || Action::Translate(Translate::Masquerade(crate::conntrack::NatRange::default()));
    let pool = NatRange::address(ip("192.0.2.1"));
    let out = |list: &[u16]| Test::is(Match::Egress(ids(list)));
    let rules = [
        (vec![out(&[1])], masquerade(), Some([false, true, false])),
        (vec![out(&[0, 2])], masquerade(), Some([true, false, true])),
        (vec![Test::not(Match::Egress(ids(&[0])))], masquerade(), Some([false, true, true])),
        (vec![], Action::Translate(Translate::Snat(pool)), Some([true; 3])),
        (vec![], Action::Translate(Translate::Dnat(pool)), None),
        (vec![], Action::Accept, None),
    ];
    let mut builder = RulesetBuilder::new();
    for (tests, action, _) in &rules {
        builder.rule(Target::Hook(Hook::NatPostrouting), spec(tests.clone(), action.clone())).unwrap();
    }
    let ruleset = builder.build(1).unwrap();
    let leaves = |rule| [0, 1, 2].map(|id| ruleset.may_leave_by(rule, InterfaceId(id)));
    let told: Vec<_> = ruleset.source_translations().map(|(rule, _)| (rule.0, leaves(rule))).collect();
    let expected = (0..).zip(&rules).filter_map(|(rule, (.., leaves))| Some((rule, (*leaves)?)));
    assert_eq!(told, expected.collect::<Vec<_>>());
}

/// Those that give none have no such counter; it goes on counting where the rule's own does.
#[test]
fn what_a_rule_had_no_port_for_is_counted_apart() {
    let give = |name: Option<&str>, how: fn(NatRange) -> Translate| RuleSpec {
        tests: vec![],
        action: Action::Translate(how(NatRange::address(ip("192.0.2.1")))),
        info: RuleInfo { name: name.map(Into::into), exported: name.is_some(), ..RuleInfo::default() },
    };
    let old = forward(vec![
        give(None, Translate::Dnat),
        give(Some("out"), Translate::Snat),
        give(None, Translate::Masquerade),
    ]);
    for rule in [0, 1, 1, 2] {
        old.count_exhausted(WorkerId(0), RuleId(rule), 100);
    }
    let counted =
        |of: &Ruleset| [0, 1, 2].map(|rule| (of.exhausted(RuleId(rule)), of.rule_counters(RuleId(rule)).0));
    assert_eq!(counted(&old), [(0, 0), (2, 0), (1, 0)]);
    let new = forward(vec![
        give(Some("out"), Translate::Snat),
        give(None, Translate::Masquerade),
        give(None, Translate::Dnat),
    ]);
    new.count_exhausted(WorkerId(0), RuleId(0), 100);
    new.carry(&old);
    assert_eq!(counted(&new), [(3, 0), (0, 0), (0, 0)]);
}
