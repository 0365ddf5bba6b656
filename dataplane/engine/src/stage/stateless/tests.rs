//! The way of untracked packets against the whole path.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::limit::{Limit, LimitPer};
use crate::ruleset::{Action, MarkSet, Match, NumberRanges, PortMatch, Reject, Test};
use crate::testing::{CLI, DMZ, Router, SRV, between, echo, host_mac, hosts, ip, udp};
use crate::verdict::DropReason;
use crate::world::{Neighbour, NeighbourState, RpFilter};

/// Tracks what concerns the router itself; drops what goes to the DMZ.
fn transit() -> Router {
    let to_us = [AddressKind::Local, AddressKind::Broadcast, AddressKind::Multicast];
    Router::new()
        .rule(Hook::RawPrerouting, vec![Test::is(Match::To(to_us.into()))], Action::Accept)
        .rule(Hook::RawPrerouting, vec![], Action::Notrack { related: false })
        .rule(Hook::FilterForward, vec![Test::is(Match::Egress([DMZ].into()))], Action::Drop)
}

/// The same, and a rule in front that makes every packet be looked at.
fn looked_at() -> Router {
    let never = Test::is(Match::Length(NumberRanges([(65535, 65535)].into())));
    let mut router = Router::new().rule(Hook::RawPrerouting, vec![never], Action::Drop);
    let to_us = [AddressKind::Local, AddressKind::Broadcast, AddressKind::Multicast];
    router = router.rule(Hook::RawPrerouting, vec![Test::is(Match::To(to_us.into()))], Action::Accept);
    router.rule(Hook::RawPrerouting, vec![], Action::Notrack { related: false }).rule(
        Hook::FilterForward,
        vec![Test::is(Match::Egress([DMZ].into()))],
        Action::Drop,
    )
}

/// Name, source, destination, TTL, payload; whether the short way takes it.
const PACKETS: [(&str, &str, &str, u8, usize, bool); 16] = [
    ("to a host on a link", "10.1.0.2", "10.2.0.2", 64, 10, true),
    ("to another one", "10.1.0.3", "10.2.0.3", 64, 10, true),
    ("by a gateway", "10.1.0.2", "198.51.100.9", 2, 10, true),
    ("IPv6 to a host on a link", "fd00:1::2", "fd00:2::2", 64, 10, true),
    ("IPv6 by a gateway", "fd00:1::2", "2001:db8:ff::1", 64, 10, true),
    ("dropped by the filter", "10.1.0.2", "10.3.0.2", 64, 10, true),
    ("at the end of its TTL", "10.1.0.2", "10.2.0.2", 1, 10, false),
    ("dropped, but its TTL comes first", "10.1.0.2", "10.3.0.2", 1, 10, false),
    ("too long", "10.1.0.2", "10.2.0.2", 64, 1600, false),
    ("to a neighbour that is not known", "10.1.0.2", "10.2.0.77", 64, 10, false),
    ("to the router", "10.1.0.2", "10.1.0.1", 64, 10, false),
    ("to a group", "10.1.0.2", "224.0.0.9", 64, 10, false),
    ("from the router's own address", "10.2.0.1", "10.2.0.2", 64, 10, false),
    ("from an impossible address", "127.0.0.1", "10.2.0.2", 64, 10, false),
    ("from a link", "fe80::2", "fd00:2::2", 64, 10, false),
    ("to nowhere", "10.1.0.2", "8.8.8.8", 64, 10, false),
];

#[test]
fn nothing_differs_from_the_whole_path() {
    for strict in [false, true] {
        let (mut short, mut whole) = (transit().ready(), looked_at().ready());
        for router in [&mut short, &mut whole] {
            let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, link)| link.clone()).collect();
            list[usize::from(CLI.0)].rp_filter = if strict { RpFilter::Strict } else { RpFilter::Off };
            router.world.interfaces = crate::world::Interfaces::new(list).into();
            router.publish();
        }
        whole.engine.close_lane();
        for (name, src, dst, ttl, payload, taken) in PACKETS {
            for _ in 0..2 {
                let mut datagram = between(CLI, src, dst);
                datagram.ttl = ttl;
                let bytes = udp(&datagram, (5000, 53), &vec![7; payload]);
                let ahead = |short: &Router, whole: &Router| {
                    short.counters.fast_path.get() - whole.counters.fast_path.get()
                };
                let before = ahead(&short, &whole);
                let (here, there) = (short.receive(CLI, &bytes), whole.receive(CLI, &bytes));
                assert_eq!(here.verdict, there.verdict, "{name}");
                if !matches!(here.verdict, Verdict::Drop(_)) {
                    assert_eq!(here.bytes, there.bytes, "{name}");
                }
                assert_eq!(ahead(&short, &whole) - before, u64::from(taken), "{name}");
            }
        }
        assert_eq!(short.counters.states.untracked.get(), whole.counters.states.untracked.get());
        let counted =
            |router: &Router, rule| router.world.ruleset.rule_counters(crate::ruleset::RuleId(rule));
        for rule in 0..3 {
            assert_eq!(counted(&short, rule), counted(&whole, rule + 1), "rule {rule}");
        }
    }
}

/// A filter that looks at packets one by one, behind what `router` has.
fn filtered(router: Router) -> Router {
    let port = |port| Test::is(Match::DestinationPort(PortMatch::of([(port, port)])));
    let ttl = Test::is(Match::Ttl(NumberRanges([(63, 63)].into())));
    let slow = Arc::new(Limit::new(1, Duration::from_secs(3600), 1, LimitPer::Rule));
    let unreachable = Reject::Unreachable { icmp: Some(3), icmpv6: Some(4) };
    let rules = [
        (vec![port(1)], Action::Drop),
        (vec![port(2)], Action::Count),
        (vec![port(3)], Action::Reject(unreachable)),
        (vec![port(4)], Action::Log(None)),
        (vec![port(5), ttl], Action::Drop),
        (vec![port(6)], Action::Mark(MarkSet { value: 1, mask: 1 })),
        (vec![port(7), Test::is(Match::Limit(slow))], Action::Drop),
    ];
    let add = |router: Router, (tests, action)| router.rule(Hook::FilterForward, tests, action);
    rules.into_iter().fold(router, add)
}

#[test]
fn a_filter_that_looks_at_packets_judges_as_on_the_whole_path() {
    let (mut short, mut whole) = (filtered(transit()).ready(), filtered(looked_at()).ready());
    whole.engine.close_lane();
    // What the filter does with each destination port; whether the short way takes it.
    let taken = [true, true, true, false, false, false, false, false, true];
    for (port, taken) in (0u16..).zip(taken) {
        for dst in ["10.2.0.2", "198.51.100.9"] {
            let bytes = udp(&between(CLI, "10.1.0.2", dst), (5000, port), b"query");
            let before = short.counters.fast_path.get();
            let (here, there) = (short.receive(CLI, &bytes), whole.receive(CLI, &bytes));
            assert_eq!(here.verdict, there.verdict, "{port}");
            assert_eq!(short.counters.fast_path.get() - before, u64::from(taken), "{port}");
            if !matches!(here.verdict, Verdict::Drop(_)) {
                assert_eq!(here.bytes, there.bytes, "{port}");
            }
        }
    }
    let counted = |router: &Router, rule| router.world.ruleset.rule_counters(crate::ruleset::RuleId(rule));
    for rule in 0..10 {
        assert_eq!(counted(&short, rule), counted(&whole, rule + 1), "rule {rule}");
    }
    assert_eq!(short.counters.states.untracked.get(), whole.counters.states.untracked.get());
}

#[test]
fn neighbours_and_routes_that_change_are_seen() {
    let mut router = transit().ready();
    let packet = udp(&between(CLI, "10.1.0.2", "198.51.100.9"), (5000, 53), b"query");
    assert_eq!(&router.receive(CLI, &packet).bytes[..6], &host_mac(SRV).0);
    let others = hosts().into_iter().filter(|(key, _)| key.address != ip("10.2.0.254"));
    router.neighbours(others.clone());
    assert!(matches!(router.receive(CLI, &packet).verdict, Verdict::Hold(_)));
    let gateway = NeighbourKey { interface: SRV, address: ip("10.2.0.254") };
    let moved = Neighbour::new(NeighbourState::Reachable(host_mac(CLI)), Default::default());
    router.neighbours(others.chain([(gateway, moved)]));
    assert_eq!(&router.receive(CLI, &packet).bytes[..6], &host_mac(CLI).0);
    router.world.fib = crate::world::Fib::new(&[], &router.world.interfaces).into();
    router.publish();
    assert_eq!(router.receive(CLI, &packet).verdict, Verdict::Answered);
}

#[test]
fn spoofed_sources_are_dropped_by_a_reverse_path_filter() {
    let mut router = transit().ready();
    let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, link)| link.clone()).collect();
    list[usize::from(CLI.0)].rp_filter = RpFilter::Strict;
    router.world.interfaces = crate::world::Interfaces::new(list).into();
    router.publish();
    for (src, expected) in [("10.1.0.2", None), ("10.2.0.9", Some(DropReason::ReversePath))] {
        let verdict = router.receive(CLI, &echo(&between(CLI, src, "10.2.0.2"), 1)).verdict;
        assert_eq!(
            verdict,
            expected.map_or(Verdict::Transmit(crate::ids::PortId(1)), Verdict::Drop),
            "{src}"
        );
    }
}
