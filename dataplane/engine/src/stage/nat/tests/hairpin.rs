//! Two hosts of IPv6 that know each other by their addresses of the pool.

use super::nat64::{SERVER, cut, nat64, part};
use super::*;
use crate::world::RpFilter;

const POOL: &str = "64:ff9b:1::10.2.0.200";
const HOSTS: [(&str, InterfaceId); 3] = [("fd00:1::2", CLI), ("fd00:1::3", CLI), ("fd00:3::2", DMZ)];
const PORTS: [u16; 3] = [5000, 6000, 7000];

fn policy(router: Router) -> Router {
    router.rule(Hook::NatPrerouting, vec![], Action::Translate(nat64("64:ff9b:1::", 96)))
}

/// Speaks to a server, which says what port of the pool the host has.
fn lent(mut receive: impl FnMut(InterfaceId, &[u8]) -> crate::testing::Fate, host: usize) -> u16 {
    let (address, link) = HOSTS[host];
    let asks = udp(&between(link, address, &format!("64:ff9b:1::{SERVER}")), (PORTS[host], 53), b"q");
    ends(&receive(link, &asks).packet()).1
}

/// A datagram of a host to a port of the pool.
fn to_pool(host: usize, port: u16) -> Vec<u8> {
    let (address, link) = HOSTS[host];
    udp(&between(link, address, POOL), (PORTS[host], port), b"hello")
}

/// What another host gets of that.
fn reaches(host: usize, from: u16) -> (IpAddr, u16, IpAddr, u16) {
    (ip(POOL), from, ip(HOSTS[host].0), PORTS[host])
}

#[test]
fn who_was_spoken_to_is_reached() {
    for (one, other) in [(0, 1), (0, 2), (2, 1)] {
        let mut router = policy(Router::new()).ready();
        let outer = [one, other].map(|host| lent(|link, bytes| router.receive(link, bytes), host));
        let mut send = |host: usize, port| router.receive(HOSTS[host].1, &to_pool(host, port));
        let first = send(one, outer[1]);
        assert_eq!(first.verdict, Verdict::Drop(DropReason::Nat64Unmapped), "not spoken to yet");
        for round in 0..3 {
            for (from, to, ports) in [(other, one, (outer[1], outer[0])), (one, other, (outer[0], outer[1]))]
            {
                let fate = send(from, ports.1);
                assert!(matches!(fate.verdict, Verdict::Transmit(_)), "{round}: {:?}", fate.verdict);
                let packet = fate.packet();
                assert_eq!(ends(&packet), reaches(to, ports.0), "{from} to {to}, {round}");
                assert_eq!(packet.ttl, 62, "there and back");
                assert_eq!(sluice_wire::destination(&fate.bytes), host_mac(HOSTS[to].1));
            }
        }
        assert_eq!(
            router.counters.conntrack.entries.get(),
            4,
            "a flow of each to the server, and to the other"
        );
    }
}

#[test]
fn nobody_else_is() {
    let mut router = policy(Router::new()).ready();
    let outer = [0, 1].map(|host| lent(|link, bytes| router.receive(link, bytes), host));
    assert!(matches!(router.receive(CLI, &to_pool(1, outer[0])).verdict, Verdict::Drop(_)));
    let ping = echo(&between(CLI, HOSTS[0].0, POOL), outer[1]);
    let from_outside = udp(&between(SRV, "10.2.0.200", "10.2.0.200"), (outer[1], outer[0]), b"I am inside");
    let [first, last] =
        cut(&udp(&between(SRV, "10.2.0.200", "10.2.0.200"), (outer[1], outer[0]), &[7; 1000]));
    for (name, link, frame, expected) in [
        ("a third host", DMZ, to_pool(2, outer[0]), DropReason::Nat64Unmapped),
        ("a port of nobody", CLI, to_pool(0, 29_999), DropReason::Nat64Unmapped),
        ("a port that is not the pool's", CLI, to_pool(0, 53), DropReason::Nat64Refused),
        ("a ping", CLI, ping, DropReason::Nat64Refused),
        ("one who pretends", SRV, from_outside, DropReason::MartianSource),
        ("one who pretends in fragments", SRV, first, DropReason::MartianSource),
        ("and the last of them", SRV, last, DropReason::MartianSource),
    ] {
        assert_eq!(router.receive(link, &frame).verdict, Verdict::Drop(expected), "{name}");
    }
}

#[test]
fn connections_open_from_both_ends() {
    let mut router = policy(Router::new()).ready();
    let flags = TcpFlags::SYN;
    let mut segment = |host: usize, port, flags, numbers| {
        let (address, link) = HOSTS[host];
        router.receive(link, &tcp(&between(link, address, POOL), (PORTS[host], port), flags, numbers))
    };
    // Whoever is first is refused, and learns his own port from a server as with UDP: here from the refusal of the other.
    let mapped = |host: usize| {
        let mut router = policy(Router::new()).ready();
        let (address, link) = HOSTS[host];
        let to = between(link, address, &format!("64:ff9b:1::{SERVER}"));
        ends(&router.receive(link, &tcp(&to, (PORTS[host], 80), flags, (1, 0))).packet()).1
    };
    let outer = [mapped(0), mapped(1)];
    assert!(matches!(
        segment(0, outer[1], flags, (100, 0)).verdict,
        Verdict::Drop(DropReason::Nat64Unmapped)
    ));
    assert_eq!(ends(&segment(1, outer[0], flags, (900, 0)).packet()), reaches(0, outer[1]));
    let both = flags.union(TcpFlags::ACK);
    assert_eq!(ends(&segment(0, outer[1], both, (100, 901)).packet()), reaches(1, outer[0]));
    assert_eq!(ends(&segment(1, outer[0], TcpFlags::ACK, (901, 101)).packet()), reaches(0, outer[1]));
    assert_eq!(ends(&segment(0, outer[1], TcpFlags::ACK, (101, 901)).packet()), reaches(1, outer[0]));
    let states: Vec<_> = lines(&mut router);
    assert!(states.iter().all(|line| line.contains("ESTABLISHED")), "{states:?}");
}

#[test]
fn errors_and_the_last_hop() {
    let mut router = policy(Router::new()).ready();
    let outer = [0, 2].map(|host| lent(|link, bytes| router.receive(link, bytes), host));
    router.receive(DMZ, &to_pool(2, outer[0]));
    let fate = router.receive(CLI, &to_pool(0, outer[1]));
    let about = (&fate.packet(), fate.bytes.as_slice());
    let error = IcmpError::port_unreachable(sluice_wire::Family::V6);
    let link = between(DMZ, HOSTS[2].0, POOL).link;
    let frame = built(|room| build::icmp_error(room, link, ip(HOSTS[2].0), error, about));
    let told = router.receive(DMZ, &frame);
    assert!(matches!(told.verdict, Verdict::Transmit(_)), "{:?}", told.verdict);
    let packet = told.packet();
    assert_eq!((packet.addrs.src(), packet.addrs.dst()), (ip(POOL), ip(HOSTS[0].0)));
    let quote = quoted(&packet, &told.bytes).unwrap();
    assert_eq!((quote.addrs.src(), quote.addrs.dst()), (ip(HOSTS[0].0), ip(POOL)));
    assert_eq!(quote.transport.ports(), Some((PORTS[0], outer[1])), "as it was sent");

    for (ttl, arrives) in [(3, true), (2, false), (1, false)] {
        let datagram = Datagram { ttl, ..between(CLI, HOSTS[0].0, POOL) };
        let fate = router.receive(CLI, &udp(&datagram, (PORTS[0], outer[1]), b"q"));
        if arrives {
            assert_eq!(fate.packet().ttl, 1);
            continue;
        }
        let told = fate.answer();
        assert_eq!(told.transport, Transport::Icmpv6 { kind: 3, code: 0, id: 0 });
        let quote = quoted(&told, &fate.sent.frames[0].1).unwrap();
        assert_eq!(quote.addrs, datagram.addrs, "{ttl}");
    }
}

#[test]
fn fragments_and_the_reverse_path() {
    let mut router = policy(Router::new()).ready();
    let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, one)| one.clone()).collect();
    list.iter_mut().for_each(|link| link.rp_filter = RpFilter::Strict);
    router.world.interfaces = std::sync::Arc::new(crate::world::Interfaces::new(list));
    router.publish();
    let outer = [0, 2].map(|host| lent(|link, bytes| router.receive(link, bytes), host));
    router.receive(DMZ, &to_pool(2, outer[0]));
    let [first, last] = cut(&udp(&between(CLI, HOSTS[0].0, POOL), (PORTS[0], outer[1]), &[7; 1000]));
    assert_eq!(router.receive(CLI, &first).verdict, Verdict::Collected);
    let fate = router.receive(CLI, &last);
    assert_eq!((fate.verdict, fate.sent.frames.len()), (Verdict::Copied, 2));
    let pieces: Vec<_> = fate.sent.frames.iter().map(|(_, bytes)| part(bytes)).collect();
    assert!(pieces.iter().all(|piece| piece.addrs.dst() == ip(HOSTS[2].0)), "{pieces:?}");
    assert_eq!(pieces[0].ports(), Some((outer[0], PORTS[2])));
}

/// Each host's flow is at whichever worker it hashes to.
#[test]
fn both_flows_are_found_at_several_workers() {
    for shared in [false, true] {
        let pool = if shared { "10.2.0.1" } else { "10.2.0.200" };
        let mut elsewhere = 0;
        for n in 0..16u16 {
            let prefix = sluice_wire::Pref64::new("64:ff9b:1::".parse().unwrap(), 96).unwrap();
            let own = pool.parse().unwrap();
            let how = crate::conntrack::Nat64::new(prefix, (own, own), (20_000, 29_999)).unwrap();
            let mut team = Team::<4>::new(vec![], Hook::NatPrerouting, Translate::Nat64(how));
            let called = format!("64:ff9b:1::{pool}");
            let mut send = |host: usize, to: &str, dport| {
                let (address, link) = HOSTS[host];
                let bytes = udp(&between(link, address, to), (PORTS[host] + n, dport), b"hello");
                team.receive(usize::from(n % 4), link, &bytes)
            };
            let server = format!("64:ff9b:1::{SERVER}");
            let outer = [0, 2].map(|host| ends(&send(host, &server, 53).1.packet()).1);
            assert!(matches!(send(0, &called, outer[1]).1.verdict, Verdict::Drop(_)), "not spoken to yet");
            for (from, to, ports) in [(2, 0, (outer[1], outer[0])), (0, 2, (outer[0], outer[1]))] {
                let (_, fate) = send(from, &called, ports.1);
                assert_eq!(
                    ends(&fate.packet()),
                    (ip(&called), ports.0, ip(HOSTS[to].0), PORTS[to] + n),
                    "{from} to {to} of {pool}"
                );
            }
            elsewhere += team.handed_over;
        }
        assert!(elsewhere > 16, "{elsewhere}");
    }
}
