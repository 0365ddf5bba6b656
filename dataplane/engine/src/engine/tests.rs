//! Stories of packets through a little router, each with its IPv6 twin where there is one.

use proptest::prelude::*;
use sluice_wire::{Protocol, TcpFlags, Transport, build, destination, source};

use super::*;
use crate::conntrack::{CtState, LogInvalid, Status, Zone, ZoneId};
use crate::message::{InvalidReason, LogCause};
use crate::ruleset::{Action, Hook, Match, Policy, StateSet, Test};
use crate::testing::*;
use crate::verdict::DropReason;

/// Client, server and an address nobody routes, by family.
const HOSTS: [(&str, &str, &str); 2] =
    [("10.1.0.2", "10.2.0.2", "192.0.2.1"), ("fd00:1::2", "fd00:2::2", "2001:db8::1")];

/// The ICMP type and code of a packet.
fn icmp_of(packet: &Packet) -> (u8, u8) {
    match packet.transport {
        Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => (kind, code),
        other => panic!("no ICMP: {other:?}"),
    }
}

/// Of two values, the one for the packet's family.
fn by_family<T>(packet: &Packet, v4: T, v6: T) -> T {
    match packet.family() {
        sluice_wire::Family::V4 => v4,
        sluice_wire::Family::V6 => v6,
    }
}

#[test]
fn a_packet_is_forwarded_with_new_addresses_and_one_hop_less() {
    for (client, server, _) in HOSTS {
        let mut router = Router::new();
        let fate = router.receive(CLI, &udp(&between(CLI, client, server), (5000, 53), b"query"));
        assert_eq!(fate.verdict, Verdict::Transmit(crate::ids::PortId(1)));
        assert_eq!((destination(&fate.bytes), source(&fate.bytes)), (host_mac(SRV), router_mac(SRV)));
        assert_eq!(fate.packet().ttl, 63);
        assert_eq!(fate.packet().ports(), Some((5000, 53)));
    }
}

#[test]
fn what_is_behind_the_datagram_goes_no_further() {
    for (client, server, _) in HOSTS {
        let mut router = Router::new();
        let datagram = udp(&between(CLI, client, server), (5000, 53), b"query");
        // The first packet, and one that takes the stored decision.
        for _ in 0..2 {
            let fate = router.receive(CLI, &[&datagram[..], b"secret"].concat());
            assert_eq!(fate.bytes.len(), datagram.len());
        }
    }
}

#[test]
fn a_tag_comes_on_the_way_to_a_vlan_and_goes_on_the_way_back() {
    let mut router = Router::new();
    let there = router.receive(CLI, &udp(&between(CLI, "10.1.0.2", "10.3.0.2"), (5000, 53), b"query"));
    assert_eq!((there.packet().vlan, destination(&there.bytes)), (Some(7), host_mac(DMZ)));
    let back = router.receive(DMZ, &udp(&between(DMZ, "10.3.0.2", "10.1.0.2"), (53, 5000), b"answer"));
    assert_eq!((back.packet().vlan, destination(&back.bytes)), (None, host_mac(CLI)));
}

#[test]
fn the_box_gets_what_is_for_it_and_sends_by_the_same_way() {
    for (client, own) in [("10.1.0.2", "10.1.0.1"), ("fd00:1::2", "fd00:1::1")] {
        let mut router = Router::new();
        let ping = router.receive(CLI, &echo(&between(CLI, client, own), 7));
        assert_eq!(ping.verdict, Verdict::Deliver(CLI));
        assert_eq!(ping.packet().ttl, 64, "no hop to one's own");
        let mut to = between(CLI, own, client);
        (to.link.source, to.link.destination) = (router_mac(CLI), router_mac(CLI));
        let sent = router.send(CLI, &udp(&to, (53, 9), b"from the box"));
        assert_eq!(sent.verdict, Verdict::Transmit(crate::ids::PortId(0)));
        assert_eq!((destination(&sent.bytes), sent.packet().ttl), (host_mac(CLI), 64));
        assert_eq!(router.counters.interfaces[0].local_tx.get(), 1);
    }
}

#[test]
fn rules_put_packets_into_zones() {
    let zone = |id| Action::Zone(Zone::both(ZoneId(id)));
    let mut router = Router::new()
        .rule(Hook::RawPrerouting, vec![Test::is(Match::Ingress([CLI].into()))], zone(1))
        .rule(Hook::RawPrerouting, vec![Test::is(Match::Ingress([SRV].into()))], zone(1))
        .rule(Hook::RawOutput, vec![], zone(1))
        .rule(Hook::FilterForward, vec![Test::is(Match::Ingress([CLI].into()))], Action::Accept)
        .rule(
            Hook::FilterForward,
            vec![Test::not(Match::Ct {
                states: StateSet::default().with(CtState::Established),
                status: Status(0),
            })],
            Action::Drop,
        )
        .ready();
    for (client, server, _) in HOSTS {
        let request = udp(&between(CLI, client, server), (5000, 53), b"query");
        assert!(matches!(router.receive(CLI, &request).verdict, Verdict::Transmit(_)));
        let answer = udp(&between(SRV, server, client), (53, 5000), b"answer");
        assert!(matches!(router.receive(SRV, &answer).verdict, Verdict::Transmit(_)));
        let stranger = udp(&between(DMZ, server, client), (53, 5000), b"answer");
        assert!(matches!(router.receive(DMZ, &stranger).verdict, Verdict::Drop(DropReason::PolicyForward)));
    }
    // What the box answers is in the zone that raw.output says.
    let own = router.receive(CLI, &echo(&between(CLI, "10.1.0.2", "10.1.0.1"), 7));
    assert_eq!(own.verdict, Verdict::Deliver(CLI));
    let flows = router.engine.conntrack().len();
    let mut to = between(CLI, "10.1.0.1", "10.1.0.2");
    (to.link.source, to.link.destination) = (router_mac(CLI), router_mac(CLI));
    let reply = built(|room| build::icmp_echo(room, &to, (0, 0), (7, 1), b"ping"));
    assert!(matches!(router.send(CLI, &reply).verdict, Verdict::Transmit(_)));
    assert_eq!(router.engine.conntrack().len(), flows);
}

#[test]
fn invalid_packets_are_logged_where_that_is_wanted_and_not_without_end() {
    let mut router = Router::new();
    let reset = tcp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 80), TcpFlags::RST, (1, 0));
    assert!(router.receive(CLI, &reset).sent.logged.is_empty(), "off by default");
    for (wanted, lines) in [(Some(Protocol::UDP), 0), (Some(Protocol::TCP), 1), (None, 1)] {
        let settings = Arc::make_mut(&mut router.world.settings);
        settings.conntrack.log_invalid = LogInvalid::of(wanted);
        router.publish();
        let logged = router.receive(CLI, &reset).sent.logged;
        assert_eq!(logged.len(), lines, "{wanted:?}");
        for record in logged {
            let reason = InvalidReason::NoFlow;
            assert_eq!(record.cause, LogCause::Invalid { protocol: Protocol::TCP, reason });
            assert_eq!((record.ingress, record.egress), (Some(CLI), None));
        }
    }
    let more = (0..100).map(|_| router.receive(CLI, &reset).sent.logged.len()).sum::<usize>();
    assert_eq!(more, LogInvalid::BURST as usize - 1);
}

#[test]
fn the_reason_of_an_invalid_packet_is_told() {
    let mut router = Router::new();
    Arc::make_mut(&mut router.world.settings).conntrack.log_invalid = LogInvalid::of(None);
    router.publish();
    let there = between(CLI, "10.1.0.2", "10.2.0.2");
    let back = between(SRV, "10.2.0.2", "10.1.0.2");
    let mut bad = udp(&there, (5000, 53), b"query");
    *bad.last_mut().unwrap() ^= 1;
    let quoted = udp(&there, (9, 9), b"never sent");
    let error = built(|room| build::icmp_echo(room, &back, (3, 3), (0, 0), &quoted[14..]));
    router.receive(CLI, &tcp(&there, (5001, 80), TcpFlags::SYN, (1, 0)));
    let cases = [
        ("checksum", CLI, bad, InvalidReason::Checksum),
        ("error", SRV, error, InvalidReason::Error),
        ("no flow", CLI, tcp(&there, (5000, 80), TcpFlags::RST, (1, 0)), InvalidReason::NoFlow),
        (
            "of a flow",
            CLI,
            tcp(&there, (5001, 80), TcpFlags::ACK, (2, 9)),
            InvalidReason::OfFlow(Some("SYN_SENT")),
        ),
    ];
    for (name, from, frame, expected) in cases {
        let logged = router.receive(from, &frame).sent.logged;
        let [record] = &logged[..] else { panic!("{name}: {} lines", logged.len()) };
        assert!(matches!(record.cause, LogCause::Invalid { reason, .. } if reason == expected), "{name}");
    }
}

#[test]
fn the_last_hop_is_answered_before_any_policy() {
    for (client, server, _) in HOSTS {
        for ttl in [0, 1] {
            let mut router = Router::new().policy(Hook::FilterForward, Policy::Drop).ready();
            let datagram = build::Datagram { ttl, ..between(CLI, client, server) };
            let answer = router.receive(CLI, &udp(&datagram, (5000, 53), b"q")).answer();
            assert_eq!(icmp_of(&answer), by_family(&answer, (11, 0), (3, 0)));
            assert_eq!(answer.addrs.dst(), ip(client));
            assert_eq!(answer.addrs.src(), ip(by_family(&answer, "10.1.0.1", "fd00:1::1")));
            assert_eq!(answer.tos, by_family(&answer, 0xc0, 0));
        }
    }
}

#[test]
fn a_policy_of_drop_for_output_silences_the_router() {
    let mut router = Router::new().policy(Hook::FilterOutput, Policy::Drop).ready();
    let datagram = build::Datagram { ttl: 1, ..between(CLI, "10.1.0.2", "10.2.0.2") };
    let fate = router.receive(CLI, &udp(&datagram, (5000, 53), b"q"));
    assert_eq!(fate.verdict, Verdict::Drop(DropReason::TtlExceeded));
    assert!(fate.sent.frames.is_empty());
    assert_eq!(router.counters.local_drops[DropReason::PolicyOutput as usize].get(), 1);
}

#[test]
fn no_route_and_routes_to_no_one() {
    for (to, expected) in [
        ("192.0.2.1", Ok((3, 0))),
        ("203.0.113.5", Ok((3, 1))),
        ("203.0.113.70", Ok((3, 13))),
        ("203.0.113.130", Err(DropReason::Blackhole)),
        ("2001:db8::1", Ok((1, 0))),
        ("fe80::9", Ok((1, 0))),
    ] {
        let mut router = Router::new();
        let from = if to.contains(':') { "fd00:1::2" } else { "10.1.0.2" };
        let fate = router.receive(CLI, &udp(&between(CLI, from, to), (5000, 53), b"q"));
        match expected {
            Ok(error) => assert_eq!(icmp_of(&fate.answer()), error, "{to}"),
            Err(reason) => assert_eq!(fate.verdict, Verdict::Drop(reason), "{to}"),
        }
    }
}

#[test]
fn martians_are_dropped_in_silence() {
    use DropReason::*;
    for (src, dst, reason) in [
        ("127.0.0.1", "10.2.0.2", MartianSource),
        ("0.0.0.0", "10.2.0.2", MartianSource),
        ("255.255.255.255", "10.2.0.2", MartianSource),
        ("224.0.0.1", "10.2.0.2", MartianSource),
        ("10.1.0.1", "10.2.0.2", MartianSource),
        ("10.2.0.1", "10.2.0.2", MartianSource),
        ("10.1.0.2", "127.0.0.1", MartianDestination),
        ("10.1.0.2", "0.0.0.0", MartianDestination),
        ("10.1.0.2", "224.0.0.9", NotForUs),
        ("::1", "fd00:2::2", MartianSource),
        ("ff02::1", "fd00:2::2", MartianSource),
        ("::", "fd00:2::2", MartianSource),
        ("fd00:1::2", "::1", MartianDestination),
        ("fd00:1::2", "ff02::9", NotForUs),
    ] {
        let fate = Router::new().receive(CLI, &udp(&between(CLI, src, dst), (5000, 53), b"q"));
        assert_eq!(fate.verdict, Verdict::Drop(reason), "{src} to {dst}");
        assert!(fate.sent.frames.is_empty(), "{src} to {dst}");
    }
}

#[test]
fn a_source_of_link_scope_goes_no_further() {
    let mut router = Router::new();
    let fate = router.receive(CLI, &udp(&between(CLI, "fe80::2", "fd00:2::2"), (5000, 53), b"q"));
    // Beyond the scope of the source address; it waits for the address of its link.
    assert_eq!(icmp_of(&fate.answer()), (1, 2));
    assert!(matches!(fate.sent.frames[0].0, Outlet::Hold(NeighbourKey { interface: CLI, .. })));
}

#[test]
fn what_does_not_fit_is_answered_or_cut() {
    for (client, server, _) in HOSTS {
        let mut router = Router::new();
        let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, x)| x.clone()).collect();
        list[1].mtu = 1280;
        router.world.interfaces = Arc::new(crate::world::Interfaces::new(list));
        router.publish();
        let mut bytes = udp(&between(CLI, client, server), (5000, 53), &[7; 1400]);
        let answer = router.receive(CLI, &bytes).answer();
        assert_eq!(icmp_of(&answer), by_family(&answer, (3, 4), (2, 0)));
        if answer.addrs.src().is_ipv4() {
            // Without Don't Fragment.
            bytes[20] = 0;
            let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
            bytes[24..26].copy_from_slice(&sum.wrapping_add(0x4000).to_be_bytes());
            let fate = router.receive(CLI, &bytes);
            assert_eq!(fate.verdict, Verdict::Copied);
            let lengths: Vec<_> = fate.sent.frames.iter().map(|(_, piece)| piece.len()).collect();
            assert_eq!(lengths, [14 + 20 + 1256, 14 + 20 + 152]);
            assert_eq!(router.counters.interfaces[1].tx_packets.get(), 2);
        }
    }
}

#[test]
fn a_packet_waits_for_the_next_hop_and_then_goes() {
    let mut router = Router::new();
    let fate = router.receive(CLI, &udp(&between(CLI, "10.1.0.2", "10.2.0.77"), (5000, 53), b"q"));
    let key = NeighbourKey { interface: SRV, address: ip("10.2.0.77") };
    assert_eq!(fate.verdict, Verdict::Hold(key));
    assert_eq!(fate.sent.wanted, [key]);
    let now = Now::from_nanos(router.nanos);
    for (state, expected) in [
        (NeighbourState::Failed, Verdict::Hold(key)),
        (NeighbourState::Reachable(host_mac(DMZ)), Verdict::Transmit(crate::ids::PortId(1))),
    ] {
        router.neighbours([(key, crate::world::Neighbour::new(state, Arc::default()))]);
        with_frame(&fate.bytes, |frame| {
            frame.ingress = Some(CLI);
            router.engine.release(now, frame, key);
            assert_eq!(frame.verdict, expected);
        });
    }
    assert_eq!(router.counters.interfaces[0].forwarded.get(), 1);
    // And one that does not answer is told of.
    router.neighbours(hosts());
    with_frame(&fate.bytes, |frame| {
        frame.ingress = Some(CLI);
        let mut sent = Sent::default();
        router.engine.unreachable(now, frame, key, &mut sent);
        assert_eq!(frame.verdict, Verdict::Answered);
        assert_eq!(icmp_of(&parsed(&sent.frames[0].1)), (3, 1));
    });
}

#[test]
fn rejected_in_every_way() {
    use crate::ruleset::Reject::{TcpReset, Unreachable};
    for (client, server, _) in HOSTS {
        let unreachable = Unreachable { icmp: Some(13), icmpv6: Some(1) };
        let mut router = Router::new()
            .rule(Hook::FilterForward, vec![], Action::Reject(TcpReset))
            .rule(Hook::FilterForward, vec![], Action::Reject(unreachable))
            .ready();
        let datagram = between(CLI, client, server);
        let answer = router.receive(CLI, &udp(&datagram, (5000, 53), b"q")).answer();
        assert_eq!(icmp_of(&answer), by_family(&answer, (3, 13), (1, 1)));
        let fate = router.receive(CLI, &tcp(&datagram, (5000, 80), TcpFlags::SYN, (1000, 0)));
        let answer = fate.answer();
        assert_eq!((answer.addrs.src(), answer.ports()), (ip(server), Some((80, 5000))));
        // A reset, and a segment that was damaged, are answered by nothing.
        let reset = tcp(&datagram, (5000, 80), TcpFlags::RST, (1000, 0));
        let mut damaged = tcp(&datagram, (5000, 80), TcpFlags::SYN, (1000, 0));
        *damaged.last_mut().unwrap() ^= 1;
        for bytes in [reset, damaged] {
            assert_eq!(router.receive(CLI, &bytes).verdict, Verdict::Drop(DropReason::Rejected));
        }
    }
}

#[test]
fn frames_that_are_not_for_the_router() {
    let datagram = between(CLI, "10.1.0.2", "10.2.0.2");
    let good = udp(&datagram, (5000, 53), b"q");
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut tagged = datagram;
    tagged.link.vlan = Some(99);
    for (bytes, reason) in [
        (good[..10].to_vec(), DropReason::FrameTruncated),
        (changed(5, 9), DropReason::OtherHost),
        (changed(12, 0x99), DropReason::UnknownEthertype),
        (udp(&tagged, (5000, 53), b"q"), DropReason::UnknownVlan),
        (changed(14, 0x55), DropReason::IpHeader),
        (changed(24, 0), DropReason::IpChecksum),
    ] {
        assert_eq!(Router::new().receive(CLI, &bytes).verdict, Verdict::Drop(reason), "{reason:?}");
    }
}

#[test]
fn a_unicast_packet_to_everyones_mac_is_not_forwarded() {
    let mut datagram = between(CLI, "10.1.0.2", "10.2.0.2");
    datagram.link.destination = sluice_wire::MacAddr::BROADCAST;
    let fate = Router::new().receive(CLI, &udp(&datagram, (5000, 53), b"q"));
    assert_eq!(fate.verdict, Verdict::Drop(DropReason::NotForUs));
}

#[test]
fn arp_and_neighbour_discovery_are_controls() {
    let mut router = Router::new();
    let asks =
        build::Link { destination: sluice_wire::MacAddr::BROADCAST, source: host_mac(CLI), vlan: None };
    let v4 = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap();
    let arp = built(|room| build::arp_request(room, asks, v4("10.1.0.2"), v4("10.1.0.1")));
    assert_eq!(router.receive(CLI, &arp).verdict, Verdict::Punt);
    let (own, host) = ("fd00:1::1".parse().unwrap(), "fd00:1::2".parse().unwrap());
    let solicitation =
        built(|room| sluice_wire::nd::solicitation(room, (host_mac(CLI), None), host, own, None));
    let fate = router.receive(CLI, &solicitation);
    assert_eq!(fate.verdict, Verdict::Punt);
    assert_eq!(fate.sent.punted.len(), 1);
    assert_eq!(router.counters.interfaces[0].consumed.get(), 2);
    assert_eq!(router.counters.states.untracked.get(), 1);
    // A policy that drops it leaves the box unreachable, as on Linux.
    let mut closed = Router::new().policy(Hook::FilterInput, Policy::Drop).ready();
    assert_eq!(closed.receive(CLI, &solicitation).verdict, Verdict::Drop(DropReason::PolicyInput));
}

#[test]
fn errors_about_errors_groups_and_broadcast_are_not_made() {
    let datagram = |dst| build::Datagram { ttl: 1, ..between(CLI, "10.1.0.2", dst) };
    let error = built(|room| build::icmp_echo(room, &datagram("10.2.0.2"), (3, 1), (0, 0), &[0x45; 40]));
    assert_eq!(Router::new().receive(CLI, &error).verdict, Verdict::Drop(DropReason::TtlExceeded));
    let mut limited = Router::new();
    limited.world.settings = Arc::new(crate::world::Settings {
        icmp: crate::world::IcmpSettings::new(Some(1), 2, false),
        ..Default::default()
    });
    limited.publish();
    let ping = echo(&datagram("10.2.0.2"), 7);
    let answered = (0..5).filter(|_| limited.receive(CLI, &ping).verdict == Verdict::Answered).count();
    assert_eq!(answered, 2, "within the burst");
}

#[test]
fn the_reverse_path_filter() {
    use crate::world::RpFilter::{Loose, Off, Strict};
    for (mode, source, passes) in [
        (Off, "192.0.2.9", true),
        (Loose, "192.0.2.9", false),
        (Loose, "10.2.0.9", true),
        (Strict, "10.2.0.9", false),
        (Strict, "10.1.0.9", true),
        (Strict, "fd00:2::9", false),
        (Strict, "fd00:1::9", true),
    ] {
        let mut router = Router::new();
        let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, x)| x.clone()).collect();
        list[0].rp_filter = mode;
        router.world.interfaces = Arc::new(crate::world::Interfaces::new(list));
        router.publish();
        let server = if source.contains(':') { "fd00:2::2" } else { "10.2.0.2" };
        let fate = router.receive(CLI, &udp(&between(CLI, source, server), (5000, 53), b"q"));
        assert_eq!(matches!(fate.verdict, Verdict::Transmit(_)), passes, "{mode:?} {source}");
    }
}

#[test]
fn a_handshake_is_decided_once_for_each_direction_and_state() {
    for (client, server, _) in HOSTS {
        let mut router = Router::new();
        let (there, back) = (between(CLI, client, server), between(SRV, server, client));
        let syn = tcp(&there, (40000, 80), TcpFlags::SYN, (1000, 0));
        let syn_ack = tcp(&back, (80, 40000), TcpFlags::SYN.union(TcpFlags::ACK), (5000, 1001));
        let ack = tcp(&there, (40000, 80), TcpFlags::ACK, (1001, 5001));
        let answer = tcp(&back, (80, 40000), TcpFlags::ACK, (5001, 1001));
        for (from, segment, fast) in [
            (CLI, &syn, 0),
            (SRV, &syn_ack, 0),
            (CLI, &ack, 0),
            (SRV, &answer, 1),
            (CLI, &ack, 2),
            (CLI, &ack, 3),
        ] {
            let fate = router.receive(from, segment);
            assert!(matches!(fate.verdict, Verdict::Transmit(_)));
            assert_eq!(fate.packet().ttl, 63);
            assert_eq!(router.counters.fast_path.get(), fast);
        }
        assert_eq!(router.counters.states.new.get(), 1);
        assert_eq!(router.engine.conntrack().len(), 1);
    }
}

/// A router with a flow of UDP whose original direction has a stored decision.
fn with_flow(router: Router) -> (Router, Vec<u8>) {
    let mut router = router;
    let query = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"query");
    router.receive(CLI, &query);
    router.receive(SRV, &udp(&between(SRV, "10.2.0.2", "10.1.0.2"), (53, 5000), b"answer"));
    router.receive(CLI, &query);
    let before = router.counters.fast_path.get();
    router.receive(CLI, &query);
    assert_eq!(router.counters.fast_path.get(), before + 1);
    (router, query)
}

#[test]
fn a_new_generation_decides_again() {
    let (mut router, query) = with_flow(Router::new());
    let mut rules = crate::ruleset::RulesetBuilder::new();
    rules.policy(Hook::FilterForward, Policy::Drop);
    router.world.ruleset = Arc::new(rules.build(1).unwrap());
    router.publish();
    for _ in 0..3 {
        assert_eq!(router.receive(CLI, &query).verdict, Verdict::Drop(DropReason::PolicyForward));
    }
}

#[test]
fn another_mac_address_is_used_from_the_next_packet_on_and_its_use_is_noted() {
    let (mut router, query) = with_flow(Router::new());
    let key = NeighbourKey { interface: SRV, address: ip("10.2.0.2") };
    let used = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let state = NeighbourState::Reachable(host_mac(DMZ));
    router.neighbours([(key, crate::world::Neighbour::new(state, used.clone()))]);
    let before = router.counters.fast_path.get();
    for _ in 0..3 {
        assert_eq!(destination(&router.receive(CLI, &query).bytes), host_mac(DMZ));
        assert_eq!(used.load(std::sync::atomic::Ordering::Relaxed), (router.nanos / 1_000_000_000) as u32);
        router.wait(1);
    }
    assert_eq!(router.counters.fast_path.get(), before + 3, "no rule was asked again");
    router.neighbours([]);
    assert_eq!(router.receive(CLI, &query).verdict, Verdict::Hold(key));
}

#[test]
fn a_stored_decision_holds_for_one_interface() {
    let test = crate::ruleset::Test::is(crate::ruleset::Match::Ingress([CLI].into()));
    let policy = Router::new().policy(Hook::FilterForward, Policy::Drop);
    let (mut router, query) = with_flow(policy.rule(Hook::FilterForward, vec![], Action::Accept).ready());
    let closed = Router::new()
        .policy(Hook::FilterForward, Policy::Drop)
        .rule(Hook::FilterForward, vec![test], Action::Accept)
        .ready();
    router.world.ruleset = closed.world.ruleset.clone();
    router.publish();
    assert!(matches!(router.receive(CLI, &query).verdict, Verdict::Transmit(_)));
    let mut elsewhere = query.clone();
    let datagram = between(DMZ, "10.1.0.2", "10.2.0.2");
    elsewhere.splice(.., udp(&datagram, (5000, 53), b"query"));
    assert_eq!(router.receive(DMZ, &elsewhere).verdict, Verdict::Drop(DropReason::PolicyForward));
    assert!(matches!(router.receive(CLI, &query).verdict, Verdict::Transmit(_)));
}

#[test]
fn what_differs_from_packet_to_packet_is_looked_at_every_time() {
    let (mut router, _) = with_flow(Router::new());
    let last = build::Datagram { ttl: 1, ..between(CLI, "10.1.0.2", "10.2.0.2") };
    let answer = router.receive(CLI, &udp(&last, (5000, 53), b"query")).answer();
    assert_eq!(icmp_of(&answer), (11, 0));
    let large = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), &[0; 1600]);
    assert_eq!(icmp_of(&router.receive(CLI, &large).answer()), (3, 4));
    let long = crate::ruleset::Match::Length(crate::ruleset::NumberRanges([(40, 2000)].into()));
    let rules =
        Router::new().rule(Hook::FilterForward, vec![crate::ruleset::Test::is(long)], Action::Drop).ready();
    router.world.ruleset = rules.world.ruleset.clone();
    router.publish();
    let packet = |length| udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), &vec![0; length]);
    for _ in 0..2 {
        assert!(matches!(router.receive(CLI, &packet(5)).verdict, Verdict::Transmit(_)));
        assert_eq!(router.receive(CLI, &packet(50)).verdict, Verdict::Drop(DropReason::PolicyForward));
    }
}

#[test]
fn rules_count_packets_that_took_the_stored_decision() {
    let rule = Router::new().rule(Hook::FilterForward, vec![], Action::Accept).ready();
    let (router, query) = with_flow(rule);
    let (packets, bytes) = router.world.ruleset.rule_counters(crate::ruleset::RuleId(0));
    assert_eq!((packets, bytes), (4, 3 * (query.len() as u64 - 14) + 28 + 6));
}

#[test]
fn untracked_packets_leave_no_flow() {
    let mut router =
        Router::new().rule(Hook::RawPrerouting, vec![], Action::Notrack { related: false }).ready();
    let query = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"query");
    for _ in 0..2 {
        assert!(matches!(router.receive(CLI, &query).verdict, Verdict::Transmit(_)));
    }
    assert!(router.engine.conntrack().is_empty());
    assert_eq!(router.counters.states.untracked.get(), 2);
}

#[test]
fn a_dropped_first_packet_leaves_no_flow() {
    let mut router = Router::new().policy(Hook::FilterForward, Policy::Drop).ready();
    let query = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"query");
    assert_eq!(router.receive(CLI, &query).verdict, Verdict::Drop(DropReason::PolicyForward));
    assert!(router.engine.conntrack().is_empty());
}

#[test]
fn an_error_about_a_flow_is_related_and_one_about_none_is_invalid() {
    let related = crate::ruleset::Match::Ct {
        states: crate::ruleset::StateSet::default().with(crate::conntrack::CtState::Related),
        status: crate::conntrack::Status::default(),
    };
    let tests = vec![crate::ruleset::Test::is(related)];
    let rules = Router::new().policy(Hook::FilterOutput, Policy::Drop);
    let mut router = rules.rule(Hook::FilterOutput, tests, Action::Accept).ready();
    // Even about a packet whose flow never begins: a reject tells its sender under a policy of drop for output.
    let first = build::Datagram { ttl: 1, ..between(CLI, "10.1.0.2", "10.2.0.2") };
    assert_eq!(icmp_of(&router.receive(CLI, &udp(&first, (5000, 53), b"q")).answer()), (11, 0));
    let unknown = tcp(&first, (5000, 80), TcpFlags::SYN.union(TcpFlags::ACK), (1, 1));
    assert_eq!(router.receive(CLI, &unknown).verdict, Verdict::Drop(DropReason::TtlExceeded));
}

#[test]
fn both_directions_and_errors_about_them_have_one_owner() {
    let owner_of = |from, bytes: &[u8]| match Router::with_workers(3).receive(from, bytes).verdict {
        Verdict::HandOver(worker) => worker.0,
        Verdict::Transmit(_) | Verdict::Collected => 0,
        other => panic!("{other:?}"),
    };
    let mut seen = std::collections::BTreeSet::new();
    for port in 5000..5020 {
        let query = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (port, 53), b"query");
        let owner = owner_of(CLI, &query);
        seen.insert(owner);
        let back = between(SRV, "10.2.0.2", "10.1.0.2");
        assert_eq!(owner_of(SRV, &udp(&back, (53, port), b"answer")), owner);
        let error = built(|room| build::icmp_echo(room, &back, (3, 3), (0, 0), &query[14..]));
        assert_eq!(owner_of(SRV, &error), owner);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_program_on_the_box_hears_of_what_it_cannot_reach() {
    let mut router = Router::new();
    let mut datagram = between(CLI, "10.1.0.1", "10.2.0.77");
    datagram.link.destination = router_mac(CLI);
    let fate = router.send(CLI, &udp(&datagram, (5000, 53), b"q"));
    let key = NeighbourKey { interface: SRV, address: ip("10.2.0.77") };
    assert_eq!(fate.verdict, Verdict::Hold(key));
    let now = Now::from_nanos(router.nanos);
    with_frame(&fate.bytes, |frame| {
        let mut sent = Sent::default();
        frame.origin = Origin::LocalHandedOver(CLI);
        router.engine.unreachable(now, frame, key, &mut sent);
        assert_eq!(frame.verdict, Verdict::Answered);
        assert_eq!(sent.frames[0].0, Outlet::Tap(CLI));
        let answer = parsed(&sent.frames[0].1);
        assert_eq!((icmp_of(&answer), answer.addrs.dst()), ((3, 1), ip("10.1.0.1")));
    });
}

#[test]
fn control_sends_frames_of_its_own() {
    let mut router = Router::new();
    let now = Now::from_nanos(router.nanos);
    let v4 = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap();
    let link =
        build::Link { destination: sluice_wire::MacAddr::BROADCAST, source: router_mac(DMZ), vlan: None };
    let arp = built(|room| build::arp_request(room, link, v4("10.3.0.1"), v4("10.3.0.2")));
    let (own, host) = ("fd00:3::1".parse().unwrap(), "fd00:3::2".parse().unwrap());
    let asks = built(|room| sluice_wire::nd::solicitation(room, (router_mac(DMZ), None), own, host, None));
    for bytes in [arp, asks] {
        let mut sent = Sent::default();
        router.engine.originate(now, DMZ, &bytes, &mut sent);
        let [(outlet, frame)] = sent.frames.as_slice() else { panic!() };
        assert_eq!(*outlet, Outlet::Wire(crate::ids::PortId(1)));
        assert_eq!(frame[12..16], [0x81, 0, 0, 7], "the tag of the link");
        assert_eq!((&frame[..12], &frame[16..]), (&bytes[..12], &bytes[12..]));
    }
    assert_eq!(router.counters.interfaces[2].tx_packets.get(), 2);
}

/// A frame that parses, or nearly: one of several kinds with some bytes changed and a few cut off.
fn nearly_good() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((0usize..90, any::<u8>()), 0..4);
    (0usize..8, changes, 0usize..12).prop_map(|(kind, changes, cut)| {
        let v4 = between(CLI, "10.1.0.2", "10.2.0.2");
        let v6 = between(CLI, "fd00:1::2", "fd00:2::2");
        let mut bytes = match kind {
            0 => udp(&v4, (5000, 53), &[7; 40]),
            1 => udp(&v6, (5000, 53), &[7; 40]),
            2 => tcp(&v4, (40000, 80), TcpFlags::SYN, (1, 0)),
            3 => tcp(&v6, (40000, 80), TcpFlags::ACK, (1, 1)),
            4 => echo(&v4, 7),
            5 => echo(&between(CLI, "fd00:1::2", "fd00:1::1"), 7),
            6 => built(|room| build::icmp_echo(room, &v4, (3, 3), (0, 0), &[0x45; 60])),
            _ => udp(&between(CLI, "10.1.0.2", "224.0.0.1"), (5000, 53), &[7; 40]),
        };
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        bytes
    })
}

proptest! {
    #[test]
    fn whatever_comes_ends_in_exactly_one_place(
        frames in prop::collection::vec((0u16..3, nearly_good()), 1..40),
        rejects in any::<bool>(),
    ) {
        let reject = Action::Reject(crate::ruleset::Reject::Unreachable { icmp: Some(3), icmpv6: Some(4) });
        let mut router = Router::new();
        if rejects {
            router = router.rule(Hook::FilterForward, vec![], reject).ready();
        }
        for (from, bytes) in frames {
            // `receive` asserts the sum.
            router.receive(InterfaceId(from), &bytes);
            router.wait(1);
            router.engine.tick(Now::from_nanos(router.nanos));
        }
    }
}
