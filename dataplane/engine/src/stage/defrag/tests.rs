//! Stories of fragments through a little router. That it does as Linux does, case by case, is for the recordings; these are
//! about workers, NOTRACK and what is counted where.

use sluice_wire::split::Split;
use sluice_wire::{Fragment, Transport};

use super::*;
use crate::ids::PortId;
use crate::ruleset::{Action, Match, Policy, PortMatch, Test};
use crate::testing::*;
use crate::world::{IcmpSettings, Settings};

/// Client, server and the router's own address, by family.
const HOSTS: [(&str, &str, &str); 2] =
    [("10.1.0.2", "10.2.0.2", "10.1.0.1"), ("fd00:1::2", "fd00:2::2", "fd00:1::1")];

/// The fragments of a UDP datagram of 1,008 bytes with its header, three of them.
fn fragments(from: InterfaceId, src: &str, dst: &str, ports: (u16, u16)) -> Vec<Vec<u8>> {
    let whole = udp(&between(from, src, dst), ports, &[7; 1000]);
    let packet = parsed(&whole);
    let split = Split::of(&packet, &whole, 42).unwrap().without_dont_fragment();
    let link = usize::from(packet.l3);
    let piece = |piece| [&whole[..link], &built(|room| split.write(room, piece))].concat();
    [(0, 400), (400, 240), (640, 368)].into_iter().map(piece).collect()
}

/// Offsets of fragments that left, and the ports that they left by.
fn left(sent: &Sent) -> Vec<(Outlet, u16)> {
    let offset = |bytes: &[u8]| match parsed_part(bytes).fragment {
        Fragment::Later { offset, .. } => offset,
        _ => 0,
    };
    sent.frames.iter().map(|(outlet, bytes)| (*outlet, offset(bytes))).collect()
}

fn parsed_part(bytes: &[u8]) -> Packet {
    match sluice_wire::parse(bytes) {
        Ok(sluice_wire::Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn to_port_53() -> Vec<Test> {
    vec![Test::is(Match::DestinationPort(PortMatch::of([(53, 53)])))]
}

#[test]
fn fragments_are_one_packet_to_rules_and_leave_as_they_came() {
    for (client, server, _) in HOSTS {
        let mut router = Router::new().policy(Hook::FilterForward, Policy::Drop);
        router = router.rule(Hook::FilterForward, to_port_53(), Action::Accept).ready();
        let [first, second, last] = &fragments(CLI, client, server, (5000, 53))[..] else { panic!() };
        assert_eq!(router.receive(CLI, last).verdict, Verdict::Collected);
        assert_eq!(router.receive(CLI, first).verdict, Verdict::Collected);
        assert_eq!(router.counters.reassembling.get(), 2);
        let fate = router.receive(CLI, second);
        assert_eq!(fate.verdict, Verdict::Copied);
        let wire = Outlet::Wire(PortId(1));
        assert_eq!(left(&fate.sent), [(wire, 0), (wire, 400), (wire, 640)]);
        for (_, bytes) in &fate.sent.frames {
            assert_eq!(sluice_wire::destination(bytes), host_mac(SRV));
            assert_eq!(parsed_part(bytes).ttl, 63);
        }
        let counters = &router.counters.interfaces;
        assert_eq!((counters[0].forwarded.get(), counters[1].tx_packets.get()), (3, 3));
        assert_eq!((router.counters.reassembling.get(), router.counters.states.new.get()), (0, 1));
        assert_eq!(router.engine.conntrack().len(), 1);
    }
}

#[test]
fn what_the_policy_drops_counts_its_fragments() {
    let mut router = Router::new().policy(Hook::FilterForward, Policy::Drop).ready();
    for bytes in fragments(CLI, "10.1.0.2", "10.2.0.2", (5000, 53)) {
        router.receive(CLI, &bytes);
    }
    assert_eq!(router.counters.drops[DropReason::PolicyForward as usize].get(), 3);
}

#[test]
fn the_box_gets_fragments_and_sends_them() {
    for (client, server, own) in HOSTS {
        let mut router = Router::new();
        let fates: Vec<_> =
            fragments(CLI, client, own, (5000, 53)).iter().map(|bytes| router.receive(CLI, bytes)).collect();
        assert_eq!(fates[2].verdict, Verdict::Delivered(CLI));
        let tap = Outlet::Tap(CLI);
        assert_eq!(left(&fates[2].sent), [(tap, 0), (tap, 400), (tap, 640)]);
        assert_eq!(router.counters.interfaces[0].delivered.get(), 3);

        let mut out = fragments(SRV, own, server, (53, 5000));
        out.iter_mut().for_each(|bytes| bytes[..12].copy_from_slice(&[2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 1]));
        let fates: Vec<_> = out.iter().map(|bytes| router.send(SRV, bytes)).collect();
        assert_eq!((fates[0].verdict, fates[2].verdict), (Verdict::Collected, Verdict::Copied));
        assert_eq!(fates[2].sent.frames.len(), 3);
        assert_eq!(router.counters.interfaces[1].local_tx.get(), 3);
        assert_eq!(router.counters.reassembling.get(), 0, "what the box sends is no part of the sum");
    }
}

#[test]
fn untracked_fragments_go_on_where_nothing_asks_for_the_whole() {
    for (client, server, _) in HOSTS {
        let to_server = || vec![Test::is(Match::Ingress([CLI].into()))];
        for (tests, expected) in [
            (to_server(), [Verdict::Transmit(PortId(1)); 3]),
            (to_port_53(), [Verdict::Collected, Verdict::Collected, Verdict::Copied]),
        ] {
            let mut router =
                Router::new().rule(Hook::RawPrerouting, tests, Action::Notrack { related: false }).ready();
            let parts = fragments(CLI, client, server, (5000, 53));
            let verdicts: Vec<_> = parts.iter().map(|bytes| router.receive(CLI, bytes).verdict).collect();
            assert_eq!(verdicts, expected);
            assert!(router.engine.conntrack().is_empty());
        }
    }
}

#[test]
fn a_datagram_is_handed_to_the_owner_of_its_flow() {
    for (client, server, _) in HOSTS {
        let mut elsewhere = 0;
        for port in 5000..5020 {
            let mut workers = [Router::worker(0, 2), Router::worker(1, 2)];
            let parts = fragments(CLI, client, server, (port, 53));
            let owner = match workers[0].receive(CLI, &parts[0]).verdict {
                Verdict::HandOver(worker) => worker.0,
                Verdict::Collected => 0,
                other => panic!("{other:?}"),
            };
            workers = [Router::worker(0, 2), Router::worker(1, 2)];
            let (here, there) = (usize::from(owner), usize::from(1 - owner));
            let fates: Vec<_> = parts.iter().map(|bytes| workers[here].receive(CLI, bytes)).collect();
            let last = &fates[2];
            if last.verdict == Verdict::Copied {
                continue;
            }
            elsewhere += 1;
            assert_eq!(last.verdict, Verdict::Collected);
            assert_eq!(workers[here].counters.reassembling.get(), 0);
            let worker = WorkerId(1 - owner);
            let mut verdicts = Vec::new();
            for (outlet, bytes) in &last.sent.frames {
                assert_eq!(*outlet, Outlet::Worker { worker, from: Origin::Wire, port: PortId(0) });
                let fate = workers[there].receive_handed_over(CLI, bytes);
                if fate.verdict == Verdict::Copied {
                    assert_eq!(left(&fate.sent).len(), 3);
                }
                verdicts.push(fate.verdict);
            }
            assert_eq!(verdicts, [Verdict::Collected, Verdict::Collected, Verdict::Copied]);
            let forwarded = workers[there].counters.interfaces[0].forwarded.get();
            let received = workers[here].counters.interfaces[0].rx_packets.get();
            assert_eq!((received, forwarded), (3, 3));
            assert_eq!(workers[there].counters.interfaces[0].rx_packets.get(), 0, "counted once");
        }
        assert!(elsewhere > 0, "some flow is another worker's");
    }
}

#[test]
fn who_waited_in_vain_is_told() {
    for (client, server, own) in HOSTS {
        for (dst, told) in [(server, client.contains(':')), (own, true)] {
            let mut router = Router::new();
            let settings = Settings { icmp: IcmpSettings::new(None, 1, false), ..Settings::default() };
            router.world.settings = settings.into();
            router.publish();
            let parts = fragments(CLI, client, dst, (5000, 53));
            router.receive(CLI, &parts[0]);
            router.receive(CLI, &parts[2]);
            router.wait(61);
            let sent = router.expire_fragments();
            assert_eq!(sent.frames.len(), usize::from(told), "{client} to {dst}");
            for (_, bytes) in &sent.frames {
                let code = match parsed(bytes).transport {
                    Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => (kind, code),
                    other => panic!("{other:?}"),
                };
                assert!(code == (11, 1) || code == (3, 1), "{code:?}");
            }
            let dropped = router.counters.drops[DropReason::FragmentTimeout as usize].get();
            let answered = router.counters.interfaces[0].answered.get();
            assert_eq!((dropped, answered), if told { (0, 2) } else { (2, 0) });
        }
    }
}

#[test]
fn each_way_to_lose_a_fragment_has_its_counter() {
    let parts = fragments(CLI, "10.1.0.2", "10.2.0.2", (5000, 53));
    let whole = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), &[7; 1000]);
    let split = |piece| {
        let split = Split::of(&parsed(&whole), &whole, 0).unwrap();
        [&whole[..14], &built(|room| split.write(room, piece))].concat()
    };
    for (name, bytes, reason, count) in [
        ("twice", parts[0].clone(), DropReason::FragmentDuplicate, 1),
        ("overlap", split((632, 16)), DropReason::FragmentOverlap, 3),
        ("empty", split((640, 0)), DropReason::FragmentInvalid, 3),
    ] {
        let mut router = Router::new();
        router.receive(CLI, &parts[0]);
        router.receive(CLI, &parts[1]);
        assert_eq!(router.receive(CLI, &bytes).verdict, Verdict::Drop(reason), "{name}");
        assert_eq!(router.counters.drops[reason as usize].get(), count, "{name}");
    }
    let mut router = Router::new();
    let mut settings = Settings::default();
    settings.conntrack.frag_high_thresh = 0;
    router.receive(CLI, &parts[0]);
    router.world.settings = settings.into();
    router.publish();
    assert_eq!(router.receive(CLI, &parts[1]).verdict, Verdict::Drop(DropReason::FragmentMemory));
    assert_eq!(
        router.counters.drops[DropReason::FragmentMemory as usize].get(),
        2,
        "also the one that was kept"
    );
}
