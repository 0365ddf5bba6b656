//! IPv6 hosts speak to IPv4 hosts. The client is `fd00:1::2`, and `10.2.0.2` is behind a prefix of the site's own.

use std::sync::Arc;

use sluice_wire::split::Split;
use sluice_wire::{Family, Fragment, Pref64};

use super::down::given_up;
use super::*;
use crate::conntrack::Nat64;
use crate::ids::PortId;
use crate::world::RpFilter;

const CLIENT: &str = "fd00:1::2";
pub(super) const SERVER: &str = "10.2.0.2";
/// What the client calls the server.
const CALLED: &str = "64:ff9b:1::10.2.0.2";
const POOL: &str = "10.2.0.200";
const PORTS: (u16, u16) = (20_000, 29_999);

pub(super) fn nat64(prefix: &str, length: u8) -> Translate {
    let prefix = Pref64::new(prefix.parse().unwrap(), length).unwrap();
    let pool = POOL.parse().unwrap();
    Translate::Nat64(Nat64::new(prefix, (pool, pool), PORTS).unwrap())
}

fn speaking() -> Router {
    Router::new().rule(Hook::NatPrerouting, vec![], Action::Translate(nat64("64:ff9b:1::", 96))).ready()
}

fn asks(ports: (u16, u16)) -> Vec<u8> {
    udp(&between(CLI, CLIENT, CALLED), ports, b"q")
}

fn answers(ports: (u16, u16)) -> Vec<u8> {
    udp(&between(SRV, SERVER, POOL), ports, b"a")
}

/// The port that the client's flow has got.
fn lent(router: &mut Router, ports: (u16, u16)) -> u16 {
    ends(&router.receive(CLI, &asks(ports)).packet()).1
}

/// The link of a frame from a host to the router.
fn from(link: InterfaceId) -> Link {
    Link { destination: router_mac(link), source: host_mac(link), vlan: None }
}

#[test]
fn datagrams_go_there_and_back() {
    let mut router = speaking();
    for round in 0..3 {
        let leaves = router.receive(CLI, &asks((5000, 53)));
        assert_eq!(leaves.verdict, Verdict::Transmit(PortId(1)));
        let packet = leaves.packet();
        let (source, port, destination, dport) = ends(&packet);
        assert_eq!((source, destination, dport), (ip(POOL), ip(SERVER), 53), "round {round}");
        assert!((PORTS.0..=PORTS.1).contains(&port));
        assert_eq!((packet.ttl, sluice_wire::destination(&leaves.bytes)), (63, host_mac(SRV)));
        let back = router.receive(SRV, &answers((53, port)));
        assert_eq!(back.verdict, Verdict::Transmit(PortId(0)));
        assert_eq!(ends(&back.packet()), (ip(CALLED), 53, ip(CLIENT), 5000), "round {round}");
        assert_eq!((back.packet().ttl, back.packet().length()), (63, 49));
    }
    assert_eq!(router.counters.fast_path.get(), 3, "known flows are not judged again");
    let lines = lines(&mut router);
    assert!(lines[0].contains(&format!("dst={} ", ip(CALLED))), "{lines:?}");
    assert!(lines[0].contains("dst=64:ff9b:1::a02:c8 "), "{lines:?}");
}

#[test]
fn connections_and_pings() {
    let mut router = speaking();
    let segment = |from, src: &str, dst: &str, ports, flags, numbers| {
        tcp(&between(from, src, dst), ports, flags, numbers)
    };
    let opens = segment(CLI, CLIENT, CALLED, (5000, 80), TcpFlags::SYN, (100, 0));
    let port = ends(&router.receive(CLI, &opens).packet()).1;
    let both = TcpFlags::SYN.union(TcpFlags::ACK);
    let accepts = segment(SRV, SERVER, POOL, (80, port), both, (900, 101));
    assert_eq!(ends(&router.receive(SRV, &accepts).packet()), (ip(CALLED), 80, ip(CLIENT), 5000));
    let goes_on = segment(CLI, CLIENT, CALLED, (5000, 80), TcpFlags::ACK, (101, 901));
    assert_eq!(ends(&router.receive(CLI, &goes_on).packet()), (ip(POOL), port, ip(SERVER), 80));
    assert!(lines(&mut router)[0].contains("ESTABLISHED"));

    let asked = router.receive(CLI, &echo(&between(CLI, CLIENT, CALLED), 7)).packet();
    let Transport::Icmp { kind: 8, code: 0, id } = asked.transport else { panic!("{asked:?}") };
    assert!((PORTS.0..=PORTS.1).contains(&id), "{id}");
    let reply = built(|room| build::icmp_echo(room, &between(SRV, SERVER, POOL), (0, 0), (id, 1), b"ping"));
    let back = router.receive(SRV, &reply).packet();
    assert_eq!(back.transport, Transport::Icmpv6 { kind: 129, code: 0, id: 7 });
    assert_eq!((back.addrs.src(), back.addrs.dst()), (ip(CALLED), ip(CLIENT)));
}

#[test]
fn an_inner_port_is_the_same_outer_one_to_all_and_nobody_elses() {
    let mut router = speaking();
    let port = lent(&mut router, (5000, 53));
    assert_eq!(lent(&mut router, (5000, 123)), port);
    let other = udp(&between(CLI, CLIENT, "64:ff9b:1::10.2.0.3"), (5000, 53), b"q");
    assert_eq!(ends(&router.receive(CLI, &other).packet()).1, port);
    let second = udp(&between(CLI, "fd00:1::3", CALLED), (5000, 53), b"q");
    assert_ne!(ends(&router.receive(CLI, &second).packet()).1, port);
}

#[test]
fn each_length_of_prefix() {
    for (prefix, length, called) in [
        ("2001:db8::", 32, "2001:db8:a02:2::"),
        ("2001:db8:100::", 40, "2001:db8:10a:200:2::"),
        ("2001:db8:122::", 48, "2001:db8:122:a02:0:200::"),
        ("2001:db8:122:300::", 56, "2001:db8:122:30a:2:2::"),
        ("2001:db8:122:344::", 64, "2001:db8:122:344:a:200:200::"),
        ("2001:db8:122:344::", 96, "2001:db8:122:344::a02:2"),
    ] {
        let mut router =
            Router::new().rule(Hook::NatPrerouting, vec![], Action::Translate(nat64(prefix, length))).ready();
        let leaves = router.receive(CLI, &udp(&between(CLI, CLIENT, called), (5000, 53), b"q"));
        let (_, port, destination, _) = ends(&leaves.packet());
        assert_eq!(destination, ip(SERVER), "{prefix}/{length}");
        let back = router.receive(SRV, &answers((53, port)));
        assert_eq!(ends(&back.packet()), (ip(called), 53, ip(CLIENT), 5000), "{prefix}/{length}");
    }
}

#[test]
fn errors_of_ipv4_routers_find_who_asked() {
    let mut router = speaking();
    let leaves = router.receive(CLI, &asks((5000, 53)));
    for (error, kind, code, rest) in [
        (IcmpError::port_unreachable(Family::V4), 1, 4, 0),
        (IcmpError::ttl_exceeded(Family::V4), 3, 0, 0),
        (IcmpError::too_big(Family::V4, 1400), 2, 0, 1420),
    ] {
        let about = (&leaves.packet(), leaves.bytes.as_slice());
        let frame = built(|room| build::icmp_error(room, from(SRV), ip("10.2.0.9"), error, about));
        let fate = router.receive(SRV, &frame);
        let back = fate.packet();
        let Transport::Icmpv6 { kind: shown, code: of, id } = back.transport else { panic!("{back:?}") };
        assert_eq!((shown, of, u32::from(id) << 16), (kind, code, 0));
        let told = &back.segment(&fate.bytes)[4..8];
        assert_eq!(u32::from_be_bytes(told.try_into().unwrap()), rest);
        assert_eq!((back.addrs.src(), back.addrs.dst()), (ip("64:ff9b:1::10.2.0.9"), ip(CLIENT)));
        let quote = quoted(&back, &fate.bytes).unwrap();
        assert_eq!((quote.addrs.src(), quote.addrs.dst()), (ip(CLIENT), ip(CALLED)));
        assert_eq!(quote.transport, Transport::Udp { sport: 5000, dport: 53 });
    }
}

#[test]
fn errors_of_the_client_reach_the_server() {
    let mut router = speaking();
    let port = lent(&mut router, (5000, 53));
    let got = router.receive(SRV, &answers((53, port)));
    let error = IcmpError::port_unreachable(Family::V6);
    let about = (&got.packet(), got.bytes.as_slice());
    let frame = built(|room| build::icmp_error(room, from(CLI), ip(CLIENT), error, about));
    let fate = router.receive(CLI, &frame);
    let there = fate.packet();
    assert_eq!(there.transport, Transport::Icmp { kind: 3, code: 3, id: 0 });
    assert_eq!((there.addrs.src(), there.addrs.dst()), (ip(POOL), ip(SERVER)));
    let quote = quoted(&there, &fate.bytes).unwrap();
    assert_eq!((quote.addrs.src(), quote.addrs.dst()), (ip(SERVER), ip(POOL)));
    assert_eq!(quote.transport, Transport::Udp { sport: 53, dport: port });
}

#[test]
fn the_routers_own_errors_speak_the_senders_language() {
    let mut router = speaking();
    let port = lent(&mut router, (5000, 53));
    let last_hop = udp(&Datagram { ttl: 1, ..between(CLI, CLIENT, CALLED) }, (5000, 53), b"q");
    let fate = router.receive(CLI, &last_hop);
    let told = fate.answer();
    assert_eq!(
        (told.transport, told.addrs.dst()),
        (Transport::Icmpv6 { kind: 3, code: 0, id: 0 }, ip(CLIENT))
    );

    let last_hop = udp(&Datagram { ttl: 1, ..between(SRV, SERVER, POOL) }, (53, port), b"a");
    let fate = router.receive(SRV, &last_hop);
    let told = fate.answer();
    assert_eq!(told.transport, Transport::Icmp { kind: 11, code: 0, id: 0 });
    assert_eq!((told.addrs.src(), told.addrs.dst()), (ip(POOL), ip(SERVER)));
    let quote = quoted(&told, &fate.sent.frames[0].1).unwrap();
    assert_eq!((quote.addrs.src(), quote.addrs.dst()), (ip(SERVER), ip(POOL)));
    assert_eq!(quote.transport, Transport::Udp { sport: 53, dport: port });
}

#[test]
fn a_rejected_answer_is_answered_in_ipv4() {
    let reject = Action::Reject(crate::ruleset::Reject::TcpReset);
    let mut router = Router::new()
        .rule(Hook::NatPrerouting, vec![], Action::Translate(nat64("64:ff9b:1::", 96)))
        .rule(Hook::FilterForward, vec![Test::is(Match::Ingress([SRV].into()))], reject)
        .ready();
    let opens = tcp(&between(CLI, CLIENT, CALLED), (5000, 80), TcpFlags::SYN, (100, 0));
    let port = ends(&router.receive(CLI, &opens).packet()).1;
    let both = TcpFlags::SYN.union(TcpFlags::ACK);
    let accepts = tcp(&between(SRV, SERVER, POOL), (80, port), both, (900, 101));
    assert_eq!(ends(&router.receive(SRV, &accepts).answer()), (ip(POOL), port, ip(SERVER), 80));
}

#[test]
fn what_is_too_long_is_told_or_cut() {
    let mut router = speaking();
    let port = lent(&mut router, (5000, 53));
    let set_mtu = |router: &mut Router, link: InterfaceId, mtu: u16| {
        let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, one)| one.clone()).collect();
        list[usize::from(link.0)].mtu = mtu;
        router.world.interfaces = Arc::new(crate::world::Interfaces::new(list));
        router.publish();
    };
    let long = |bytes: usize| udp(&between(CLI, CLIENT, CALLED), (5000, 53), &vec![7; bytes]);
    let back = |bytes: usize, dont_fragment: bool| {
        let mut frame = udp(&between(SRV, SERVER, POOL), (53, port), &vec![7; bytes]);
        if !dont_fragment {
            frame[20] = 0;
            frame[24..26].fill(0);
            let sum = sluice_wire::checksum::plain(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum);
        }
        frame
    };
    // 20 bytes shorter there: 1500 bytes become 1480.
    assert!(matches!(router.receive(CLI, &long(1452)).verdict, Verdict::Transmit(_)));
    set_mtu(&mut router, SRV, 1400);
    let fate = router.receive(CLI, &long(1452));
    assert_eq!(fate.answer().transport, Transport::Icmpv6 { kind: 2, code: 0, id: 0 });
    let told = fate.answer().segment(&fate.sent.frames[0].1)[4..8].to_vec();
    assert_eq!(u32::from_be_bytes(told.try_into().unwrap()), 1420);
    // No sender of IPv6 sends less than 1280 bytes: they are cut.
    set_mtu(&mut router, SRV, 1000);
    let fate = router.receive(CLI, &long(1232));
    assert_eq!((fate.verdict, fate.sent.frames.len()), (Verdict::Copied, 2));
    let pieces: Vec<_> = fate.sent.frames.iter().map(|(_, bytes)| part(bytes)).collect();
    assert!(matches!(pieces[1].fragment, Fragment::Later { offset: 976, more: false, .. }), "{pieces:?}");
    assert_eq!((pieces[0].addrs.src(), pieces[0].dont_fragment), (ip(POOL), false));

    set_mtu(&mut router, SRV, 1500);
    // 20 bytes longer here: 1490 bytes become 1510.
    let fate = router.receive(SRV, &back(1462, true));
    assert_eq!(fate.answer().transport, Transport::Icmp { kind: 3, code: 4, id: 0 });
    let told = fate.answer().segment(&fate.sent.frames[0].1)[4..8].to_vec();
    assert_eq!(u32::from_be_bytes(told.try_into().unwrap()), 1480);
    let fate = router.receive(SRV, &back(1462, false));
    assert_eq!((fate.verdict, fate.sent.frames.len()), (Verdict::Copied, 2));
    let pieces: Vec<_> = fate.sent.frames.iter().map(|(_, bytes)| part(bytes)).collect();
    assert!(pieces.iter().all(|piece| piece.addrs.dst() == ip(CLIENT) && piece.length() <= 1500));
}

pub(super) fn part(bytes: &[u8]) -> Packet {
    match sluice_wire::parse(bytes) {
        Ok(sluice_wire::Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// The two fragments of a frame.
pub(super) fn cut(whole: &[u8]) -> [Vec<u8>; 2] {
    let packet = part(whole);
    let split = Split::of(&packet, whole, 42).unwrap().without_dont_fragment();
    let piece = |piece| [&whole[..14], &built(|room| split.write(room, piece))].concat();
    [piece((0, 400)), piece((400, split.payload() - 400))]
}

#[test]
fn fragments_become_fragments() {
    let mut router = speaking();
    let [first, last] = cut(&udp(&between(CLI, CLIENT, CALLED), (5000, 53), &[7; 1000]));
    assert_eq!(router.receive(CLI, &first).verdict, Verdict::Collected);
    let fate = router.receive(CLI, &last);
    assert_eq!((fate.verdict, fate.sent.frames.len()), (Verdict::Copied, 2));
    let pieces: Vec<_> = fate.sent.frames.iter().map(|(_, bytes)| part(bytes)).collect();
    assert!(pieces.iter().all(|piece| (piece.addrs.src(), piece.dont_fragment) == (ip(POOL), false)));
    let port = pieces[0].ports().unwrap().0;

    let [first, last] = cut(&udp(&between(SRV, SERVER, POOL), (53, port), &[7; 1000]));
    assert_eq!(router.receive(SRV, &last).verdict, Verdict::Collected);
    let fate = router.receive(SRV, &first);
    assert_eq!(fate.verdict, Verdict::Copied);
    let pieces: Vec<_> = fate.sent.frames.iter().map(|(_, bytes)| part(bytes)).collect();
    assert!(pieces.iter().all(|piece| piece.addrs.dst() == ip(CLIENT)), "{pieces:?}");
    assert_eq!(pieces[0].ports(), Some((53, 5000)));
}

#[test]
fn what_is_refused() {
    let from_client = |dst: &str| udp(&between(CLI, CLIENT, dst), (5000, 53), b"q");
    let mut well_known =
        Router::new().rule(Hook::NatPrerouting, vec![], Action::Translate(nat64("64:ff9b::", 96))).ready();
    let fate = well_known.receive(CLI, &from_client("64:ff9b::10.2.0.2"));
    assert_eq!(fate.verdict, Verdict::Drop(DropReason::Nat64Refused), "a private host");
    let fate = well_known.receive(CLI, &from_client("64:ff9b::198.51.100.7"));
    assert_eq!(ends(&fate.packet()).2, ip("198.51.100.7"));

    let mut router = speaking();
    for (name, from, frame, expected) in [
        ("a hairpin", CLI, from_client("64:ff9b:1::10.2.0.200"), DropReason::Nat64Refused),
        ("a group", CLI, from_client("64:ff9b:1::224.0.0.5"), DropReason::Nat64Refused),
        ("no route", CLI, from_client("64:ff9b:1::203.0.113.129"), DropReason::Blackhole),
        (
            "one that pretends",
            CLI,
            udp(&between(CLI, CALLED, CLIENT), (53, 5000), b"q"),
            DropReason::MartianSource,
        ),
        ("no flow's", SRV, answers((53, 20_000)), DropReason::Nat64Unmapped),
        (
            "no flow's, in the middle of a connection",
            SRV,
            tcp(&between(SRV, SERVER, POOL), (80, 20_000), TcpFlags::FIN.union(TcpFlags::ACK), (1, 1)),
            DropReason::Nat64Unmapped,
        ),
    ] {
        assert_eq!(router.receive(from, &frame).verdict, Verdict::Drop(expected), "{name}");
    }
    // Another port is none of the pool's: such a packet stays what it is.
    assert!(!matches!(
        router.receive(SRV, &answers((53, 30_000))).verdict,
        Verdict::Drop(DropReason::Nat64Unmapped)
    ));
    assert!(lines(&mut router).iter().all(|line| !line.contains("20000")), "none begins a flow");
    // Another protocol is not translated, and there is no other way to the prefix.
    let other = built(|room| {
        build::other(room, &between(CLI, CLIENT, CALLED), sluice_wire::Protocol::SCTP, &[0; 32])
    });
    let told = router.receive(CLI, &other).answer();
    assert_eq!(told.transport, Transport::Icmpv6 { kind: 1, code: 0, id: 0 });
}

/// Its address is the router's own, which translates other flows to it too.
#[test]
fn an_address_can_be_shared() {
    let prefix = Pref64::new("64:ff9b:1::".parse().unwrap(), 96).unwrap();
    let own = "10.2.0.1".parse().unwrap();
    let how = Translate::Nat64(Nat64::new(prefix, (own, own), (1024, 65535)).unwrap());
    let masquerade = Translate::Masquerade(NatRange::default());
    for workers in [1, 4] {
        let policy = |router: Router| {
            router.rule(Hook::NatPrerouting, vec![], Action::Translate(how.clone())).rule(
                Hook::NatPostrouting,
                vec![out_by(SRV)],
                Action::Translate(masquerade.clone()),
            )
        };
        let mut team = Team::<4>::of(policy);
        if workers == 1 {
            team.workers[0] = policy(Router::new()).ready();
        }
        let mut receive = |from, frame: &[u8]| match workers {
            1 => team.workers[0].receive(from, frame),
            _ => team.receive(0, from, frame).1,
        };
        let answer = |port, dport| udp(&between(SRV, SERVER, "10.2.0.1"), (port, dport), b"a");
        assert_eq!(ends(&receive(CLI, &asks((5000, 53))).packet()), (ip("10.2.0.1"), 5000, ip(SERVER), 53));
        let v4 = udp(&between(CLI, "10.1.0.2", SERVER), (5001, 53), b"q");
        assert_eq!(ends(&receive(CLI, &v4).packet()), (ip("10.2.0.1"), 5001, ip(SERVER), 53));
        assert_eq!(ends(&receive(SRV, &answer(53, 5000)).packet()).2, ip(CLIENT));
        assert_eq!(ends(&receive(SRV, &answer(53, 5001)).packet()).2, ip("10.1.0.2"));
        assert_eq!(receive(SRV, &answer(53, 5002)).verdict, Verdict::Deliver(SRV));
        for (port, who) in [(5000, ip(CLIENT)), (5001, ip("10.1.0.2"))] {
            let sent = udp(&between(CLI, "10.2.0.1", SERVER), (port, 53), b"q");
            let about = (&part(&sent), sent.as_slice());
            let error = IcmpError::port_unreachable(Family::V4);
            let error = built(|room| build::icmp_error(room, from(SRV), ip(SERVER), error, about));
            assert_eq!(receive(SRV, &error).packet().addrs.dst(), who);
        }
        let pings = between(SRV, SERVER, "10.2.0.1");
        assert_eq!(receive(SRV, &echo(&pings, 5000)).verdict, Verdict::Deliver(SRV));
    }
}

#[test]
fn the_reverse_path_of_an_ipv4_host_is_asked_in_ipv4() {
    let mut router = speaking();
    let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, one)| one.clone()).collect();
    list.iter_mut().for_each(|link| link.rp_filter = RpFilter::Strict);
    router.world.interfaces = Arc::new(crate::world::Interfaces::new(list));
    router.publish();
    let port = lent(&mut router, (5000, 53));
    assert_eq!(ends(&router.receive(SRV, &answers((53, port))).packet()).2, ip(CLIENT));
    let elsewhere = udp(&between(SRV, "10.1.0.9", POOL), (53, port), b"a");
    assert!(matches!(router.receive(SRV, &elsewhere).verdict, Verdict::Drop(_)));
}

#[test]
fn a_client_is_told_that_the_next_hop_is_down() {
    let mut router = speaking();
    router.neighbours(hosts().into_iter().filter(|(key, _)| key.address != ip(SERVER)));
    let fate = router.receive(CLI, &asks((5000, 53)));
    let sent = given_up(&mut router, CLI, &fate);
    let told = part(&sent.frames[0].1);
    assert_eq!(
        (told.transport, told.addrs.dst()),
        (Transport::Icmpv6 { kind: 1, code: 3, id: 0 }, ip(CLIENT))
    );
    let quote = quoted(&told, &sent.frames[0].1).unwrap();
    assert_eq!((quote.addrs.src(), quote.addrs.dst()), (ip(CLIENT), ip(CALLED)));
}

#[test]
fn answers_find_the_worker_of_their_flow() {
    let mut team = Team::<4>::new(vec![], Hook::NatPrerouting, nat64("64:ff9b:1::", 96));
    for n in 0..32u16 {
        let (owner, fate) = team.receive(usize::from(n % 4), CLI, &asks((5000 + n, 53)));
        let (_, port, destination, _) = ends(&fate.packet());
        assert_eq!(destination, ip(SERVER));
        for at in 0..4 {
            let (by, fate) = team.receive(at, SRV, &answers((53, port)));
            assert_eq!((by, ends(&fate.packet()).3), (owner, 5000 + n));
        }
        let about = (&fate.packet(), fate.bytes.as_slice());
        let error = IcmpError::port_unreachable(Family::V4);
        let frame = built(|room| build::icmp_error(room, from(SRV), ip("10.2.0.9"), error, about));
        let (by, fate) = team.receive(usize::from(n % 4), SRV, &frame);
        assert_eq!((by, fate.packet().addrs.dst()), (owner, ip(CLIENT)));
    }
    assert!(team.handed_over > 64, "answers come to others");
}
