//! Stories of translated flows, each in both families where there are two.

mod beyond;
mod down;
mod hairpin;
mod nat64;
mod zones;

use std::net::IpAddr;

use proptest::prelude::*;
use sluice_wire::build::{self, Datagram, IcmpError, Link};
use sluice_wire::{Packet, Protocol, TcpFlags, Transport, icmp, quoted};

use crate::Verdict;
use crate::conntrack::{FlowFilter, LineOptions, NatRange};
use crate::frame::Outlet;
use crate::ids::InterfaceId;
use crate::message::Cursor;
use crate::ruleset::{Action, Hook, Match, PortMatch, PortSet, Test, Translate};
use crate::testing::*;
use crate::verdict::DropReason;

/// Client, second client, server, the router's address towards the server, another address there.
const WORLDS: [[&str; 5]; 2] = [
    ["10.1.0.2", "10.1.0.3", "10.2.0.2", "10.2.0.1", "10.2.0.100"],
    ["fd00:1::2", "fd00:1::3", "fd00:2::2", "fd00:2::1", "fd00:2::100"],
];

fn out_by(interface: InterfaceId) -> Test {
    Test::is(Match::Egress([interface].into()))
}

fn to_port(port: u16) -> Test {
    Test::is(Match::DestinationPort(PortMatch { own: PortSet::new(vec![(port, port)]), sets: [].into() }))
}

fn masquerading() -> Router {
    let masquerade = Action::Translate(Translate::Masquerade(NatRange::default()));
    Router::new().rule(Hook::NatPostrouting, vec![out_by(SRV)], masquerade).ready()
}

fn snat(to: &str, ports: Option<(u16, u16)>) -> Router {
    let range = NatRange { ports, ..NatRange::address(ip(to)) };
    let action = Action::Translate(Translate::Snat(range));
    Router::new().rule(Hook::NatPostrouting, vec![out_by(SRV)], action).ready()
}

/// What comes to this port goes to `to`.
fn dnat(port: u16, to: &str, new: u16) -> Router {
    let range = NatRange { ports: Some((new, new)), ..NatRange::address(ip(to)) };
    let action = Action::Translate(Translate::Dnat(range));
    Router::new().rule(Hook::NatPrerouting, vec![to_port(port)], action).ready()
}

fn ends(packet: &Packet) -> (IpAddr, u16, IpAddr, u16) {
    let (sport, dport) = match packet.transport {
        Transport::Icmp { id, .. } | Transport::Icmpv6 { id, .. } => (id, id),
        transport => transport.ports().unwrap(),
    };
    (packet.addrs.src(), sport, packet.addrs.dst(), dport)
}

fn lines(router: &mut Router) -> Vec<String> {
    let now = crate::ids::Now::from_nanos(router.nanos);
    let (mut lines, mut cursor) = (Vec::new(), Some(Cursor::default()));
    while let Some(at) = cursor {
        let mut batch = Vec::with_capacity(16);
        cursor = router.engine.conntrack().list(now, at, &FlowFilter::default(), &mut batch);
        lines.extend(batch.iter().map(|flow| flow.line(LineOptions::default()).to_string()));
    }
    lines
}

/// Sends a datagram from the client's link, and tells the source port that it leaves with.
fn port_of(router: &mut Router, client: &str, server: &str, ports: (u16, u16)) -> Option<u16> {
    let fate = router.receive(CLI, &udp(&between(CLI, client, server), ports, b"q"));
    matches!(fate.verdict, Verdict::Transmit(_)).then(|| ends(&fate.packet()).1)
}

#[test]
fn many_speak_as_one_and_each_gets_its_own_answers() {
    for [client, second, server, router_address, _] in WORLDS {
        let mut router = masquerading();
        let query = udp(&between(CLI, client, server), (5000, 53), b"q");
        let leaves = router.receive(CLI, &query).packet();
        assert_eq!(ends(&leaves), (ip(router_address), 5000, ip(server), 53), "the port is kept");
        let other = port_of(&mut router, second, server, (5000, 53)).unwrap();
        assert!(other >= 1024 && other != 5000, "{other}");
        for (port, asked) in [(5000, client), (other, second)] {
            for round in 0..3 {
                let answer = udp(&between(SRV, server, router_address), (53, port), b"a");
                let back = router.receive(SRV, &answer).packet();
                assert_eq!(ends(&back), (ip(server), 53, ip(asked), 5000), "round {round}");
            }
        }
        assert!(router.counters.fast_path.get() >= 2, "known flows are not judged again");
        let again = router.receive(CLI, &query).packet();
        assert_eq!(ends(&again), ends(&leaves), "translated by what is stored too");
        let line = &lines(&mut router)[0];
        let reply = format!("src={server} dst={router_address} sport=53 dport=5000");
        assert!(line.contains(&reply), "{line}");
    }
}

#[test]
fn a_stranger_to_the_port_is_not_let_in() {
    let mut router = masquerading();
    port_of(&mut router, "10.1.0.2", "10.2.0.2", (5000, 53)).unwrap();
    let stranger = udp(&between(SRV, "10.2.0.3", "10.2.0.1"), (53, 5000), b"a");
    assert_eq!(router.receive(SRV, &stranger).verdict, Verdict::Deliver(SRV));
}

#[test]
fn pings_are_told_apart_by_their_identifier() {
    for [client, second, server, router_address, _] in WORLDS {
        let mut router = masquerading();
        let mut ids = Vec::new();
        for from in [client, second] {
            let leaves = router.receive(CLI, &echo(&between(CLI, from, server), 7)).packet();
            assert_eq!(leaves.addrs.src(), ip(router_address));
            ids.push(ends(&leaves).1);
        }
        assert_eq!(ids[0], 7);
        assert_ne!(ids[1], 7);
        for (id, asked) in ids.into_iter().zip([client, second]) {
            let kind = if server.contains(':') { 129 } else { 0 };
            let datagram = between(SRV, server, router_address);
            let answer = built(|room| build::icmp_echo(room, &datagram, (kind, 0), (id, 1), b"pong"));
            let back = router.receive(SRV, &answer).packet();
            assert_eq!((back.addrs.dst(), ends(&back).1), (ip(asked), 7));
        }
    }
}

#[test]
fn low_ports_stay_low() {
    for (port, range) in [(123, 1..512u16), (700, 600..1024), (40_000, 1024..65535)] {
        let mut router = masquerading();
        assert_eq!(port_of(&mut router, "10.1.0.2", "10.2.0.2", (port, 53)), Some(port));
        let other = port_of(&mut router, "10.1.0.3", "10.2.0.2", (port, 53)).unwrap();
        assert!(range.contains(&other) && other != port, "{port} became {other}");
    }
}

#[test]
fn a_source_is_mapped_alike_to_all() {
    let mut router = masquerading();
    port_of(&mut router, "10.1.0.2", "10.2.0.2", (5000, 53)).unwrap();
    let mapped = port_of(&mut router, "10.1.0.3", "10.2.0.2", (5000, 53)).unwrap();
    let elsewhere = port_of(&mut router, "10.1.0.3", "10.2.0.3", (5000, 53)).unwrap();
    assert_eq!(elsewhere, mapped);
}

#[test]
fn a_range_is_used_up_before_a_flow_is_refused() {
    let mut router = snat("10.2.0.100", Some((6000, 6009)));
    let mut used: Vec<_> =
        (0..10).map(|n| port_of(&mut router, "10.1.0.2", "10.2.0.2", (5000 + n, 53)).unwrap()).collect();
    used.sort_unstable();
    assert_eq!(used, (6000..6010).collect::<Vec<_>>());
    let one_more = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5010, 53), b"q");
    assert_eq!(router.receive(CLI, &one_more).verdict, Verdict::Drop(DropReason::NatExhausted));
    assert_eq!(router.counters.conntrack.insert_failed.get(), 1);
    assert_eq!(router.world.ruleset.exhausted(crate::ruleset::RuleId(0)), 1);
    let elsewhere = port_of(&mut router, "10.1.0.2", "10.2.0.3", (5010, 53));
    assert!(elsewhere.is_some(), "to another server the same port serves again");
    router.wait(60);
    for _ in 0..200 {
        router.engine.tick(crate::ids::Now::from_nanos(router.nanos));
    }
    let later = port_of(&mut router, "10.1.0.2", "10.2.0.2", (5010, 53));
    assert!(later.is_some(), "what ran out is free again");
}

#[test]
fn a_published_port_is_answered_from_where_it_was_asked() {
    for [server, _, client, router_address, _] in WORLDS {
        let mut router = dnat(8080, server, 80);
        let syn = tcp(&between(SRV, client, router_address), (5000, 8080), TcpFlags::SYN, (1, 0));
        let inside = router.receive(SRV, &syn).packet();
        assert_eq!(ends(&inside), (ip(client), 5000, ip(server), 80));
        let flags = TcpFlags::from_bits(TcpFlags::SYN.bits() | TcpFlags::ACK.bits());
        let answer = tcp(&between(CLI, server, client), (80, 5000), flags, (9, 2));
        let outside = router.receive(CLI, &answer).packet();
        assert_eq!(ends(&outside), (ip(router_address), 8080, ip(client), 5000));
    }
}

#[test]
fn a_prefix_takes_the_place_of_another() {
    for [client, other, server, ..] in WORLDS {
        let (length, inside, outside) = match ip(client) {
            IpAddr::V4(_) => (16, "10.1.0.0", "10.9.0.0"),
            IpAddr::V6(_) => (64, "fd00:1::", "fd00:9::"),
        };
        let range = |to: &str| NatRange { prefix: Some(length), ..NatRange::address(ip(to)) };
        let mut router = Router::new()
            .rule(Hook::NatPostrouting, vec![out_by(SRV)], Action::Translate(Translate::Snat(range(outside))))
            .rule(
                Hook::NatPrerouting,
                vec![Test::is(Match::Ingress([SRV].into()))],
                Action::Translate(Translate::Dnat(range(inside))),
            )
            .ready();
        for host in [client, other] {
            let seen = host.replacen("10.1.", "10.9.", 1).replacen("fd00:1:", "fd00:9:", 1);
            let query = udp(&between(CLI, host, server), (5000, 53), b"q");
            assert_eq!(ends(&router.receive(CLI, &query).packet()), (ip(&seen), 5000, ip(server), 53));
            let visit = udp(&between(SRV, server, &seen), (7000, 80), b"v");
            assert_eq!(ends(&router.receive(SRV, &visit).packet()), (ip(server), 7000, ip(host), 80));
        }
    }
}

#[test]
fn two_doors_to_one_server_do_not_mix_their_visitors() {
    let range = NatRange { ports: Some((80, 80)), ..NatRange::address(ip("10.1.0.2")) };
    let ports = PortMatch { own: PortSet::new(vec![(8080, 8081)]), sets: [].into() };
    let mut router = Router::new()
        .rule(
            Hook::NatPrerouting,
            vec![Test::is(Match::DestinationPort(ports))],
            Action::Translate(Translate::Dnat(range)),
        )
        .ready();
    let mut visit = |port| {
        let query = udp(&between(SRV, "10.2.0.2", "10.2.0.1"), (5000, port), b"q");
        ends(&router.receive(SRV, &query).packet())
    };
    assert_eq!(visit(8080), (ip("10.2.0.2"), 5000, ip("10.1.0.2"), 80));
    let (_, sport, to, dport) = visit(8081);
    assert_eq!((to, dport), (ip("10.1.0.2"), 80));
    assert_ne!(sport, 5000, "the server's answers must tell which");
}

#[test]
fn a_redirected_flow_is_the_boxs_own() {
    for [client, _, server, ..] in WORLDS {
        let mut router = Router::new()
            .rule(
                Hook::NatPrerouting,
                vec![to_port(80)],
                Action::Translate(Translate::Redirect(Some((3128, 3128)))),
            )
            .ready();
        let own = router.world.interfaces.source_for(CLI, ip(client)).unwrap();
        let asks = udp(&between(CLI, client, server), (5000, 80), b"get");
        for _ in 0..2 {
            let fate = router.receive(CLI, &asks);
            assert_eq!(fate.verdict, Verdict::Deliver(CLI));
            assert_eq!(ends(&fate.packet()), (ip(client), 5000, own, 3128));
        }
        let mut datagram = between(CLI, &own.to_string(), client);
        (datagram.link.source, datagram.link.destination) = (router_mac(CLI), router_mac(CLI));
        let answer = router.send(CLI, &udp(&datagram, (3128, 5000), b"page")).packet();
        assert_eq!(ends(&answer), (ip(server), 80, ip(client), 5000));
    }
}

#[test]
fn errors_from_outside_find_who_asked() {
    for [client, _, server, router_address, _] in WORLDS {
        let mut router = masquerading();
        let leaves = router.receive(CLI, &udp(&between(CLI, client, server), (5000, 53), b"q"));
        let (about, bytes) = (leaves.packet(), leaves.bytes);
        let link = Link { destination: router_mac(SRV), source: host_mac(SRV), vlan: None };
        let error = IcmpError::port_unreachable(about.family());
        let frame = built(|room| build::icmp_error(room, link, ip(server), error, (&about, &bytes)));
        let told = router.receive(SRV, &frame);
        let packet = told.packet();
        assert_eq!((packet.addrs.src(), packet.addrs.dst()), (ip(server), ip(client)));
        let quote = quoted(&packet, &told.bytes).unwrap();
        assert_eq!((quote.addrs.src(), quote.addrs.dst()), (ip(client), ip(server)), "{router_address}");
        assert_eq!(quote.transport.ports(), Some((5000, 53)));
    }
}

#[test]
fn redirects_about_translated_flows_are_not_passed_on() {
    let mut router = masquerading();
    let leaves = router.receive(CLI, &udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"q"));
    let (about, bytes) = (leaves.packet(), leaves.bytes);
    let link = Link { destination: router_mac(SRV), source: host_mac(SRV), vlan: None };
    let error = IcmpError::new(icmp::v4::REDIRECT, icmp::v4::REDIRECT_HOST);
    let frame = built(|room| build::icmp_error(room, link, ip("10.2.0.254"), error, (&about, &bytes)));
    assert_eq!(router.receive(SRV, &frame).verdict, Verdict::Drop(DropReason::NatRedirect));
}

#[test]
fn the_routers_own_errors_quote_what_the_sender_sent() {
    for [server, _, client, router_address, _] in WORLDS {
        let mut router = dnat(8080, server, 80);
        let datagram = Datagram { ttl: 1, ..between(SRV, client, router_address) };
        let fate = router.receive(SRV, &udp(&datagram, (5000, 8080), b"q"));
        let answer = fate.answer();
        assert_eq!(answer.addrs.src(), ip(router_address));
        let quote = quoted(&answer, &fate.sent.frames[0].1).unwrap();
        assert_eq!(quote.addrs.dst(), ip(router_address));
        assert_eq!(quote.transport.ports(), Some((5000, 8080)));
    }
}

#[test]
fn without_a_chain_of_nat_nothing_is_translated_any_more() {
    let mut router = masquerading();
    port_of(&mut router, "10.1.0.2", "10.2.0.2", (5000, 53)).unwrap();
    router.world.ruleset = std::sync::Arc::default();
    router.publish();
    let leaves = router.receive(CLI, &udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"q")).packet();
    assert_eq!(leaves.addrs.src(), ip("10.1.0.2"));
}

#[test]
fn a_flow_goes_with_the_address_that_it_borrowed() {
    for [client, _, server, ..] in WORLDS {
        let mut router = masquerading();
        port_of(&mut router, client, server, (5000, 53)).unwrap();
        let mut list: Vec<_> = router.world.interfaces.iter().map(|(_, here)| here.clone()).collect();
        for (own, _) in &mut list[1].addresses {
            *own = ip(if own.is_ipv4() { "10.2.0.77" } else { "fd00:2::77" });
        }
        router.world.interfaces = std::sync::Arc::new(crate::world::Interfaces::new(list));
        router.publish();
        for _ in 0..100 {
            router.engine.tick(crate::ids::Now::from_nanos(router.nanos));
        }
        assert_eq!(lines(&mut router), Vec::<String>::new());
        let leaves = router.receive(CLI, &udp(&between(CLI, client, server), (5000, 53), b"q")).packet();
        assert!(leaves.addrs.src() == ip("10.2.0.77") || leaves.addrs.src() == ip("fd00:2::77"));
    }
}

#[test]
fn a_port_that_the_box_itself_speaks_from_is_taken() {
    let mut router = masquerading();
    let mut own = between(SRV, "10.2.0.1", "10.2.0.2");
    (own.link.source, own.link.destination) = (router_mac(SRV), router_mac(SRV));
    let sent = router.send(SRV, &udp(&own, (5000, 53), b"the box")).packet();
    assert_eq!(ends(&sent).1, 5000);
    let other = port_of(&mut router, "10.1.0.2", "10.2.0.2", (5000, 53)).unwrap();
    assert_ne!(other, 5000);
}

#[test]
fn protocols_without_ports_share_an_address_one_at_a_time() {
    let mut router = masquerading();
    let esp = |client: &str| {
        let datagram = between(CLI, client, "10.2.0.2");
        built(|room| build::other(room, &datagram, Protocol::ESP, b"secret payload"))
    };
    let first = router.receive(CLI, &esp("10.1.0.2"));
    assert_eq!(first.packet().addrs.src(), ip("10.2.0.1"));
    let second = router.receive(CLI, &esp("10.1.0.3"));
    assert_eq!(second.verdict, Verdict::Drop(DropReason::NatExhausted));
}

#[test]
fn a_pool_gives_one_pair_of_hosts_always_the_same_address() {
    let pool = NatRange { addresses: Some((ip("10.2.0.100"), ip("10.2.0.107"))), ..NatRange::default() };
    let action = Action::Translate(Translate::Snat(pool));
    let mut router = Router::new().rule(Hook::NatPostrouting, vec![out_by(SRV)], action).ready();
    let mut seen = std::collections::BTreeSet::new();
    for server in 2..10 {
        let server = format!("10.2.0.{server}");
        let mut source = || {
            let sent = udp(&between(CLI, "10.1.0.2", &server), (5000 + seen.len() as u16, 53), b"q");
            router.receive(CLI, &sent).packet().addrs.src()
        };
        let address = source();
        assert_eq!(source(), address);
        assert!(ip("10.2.0.100") <= address && address <= ip("10.2.0.107"));
        seen.insert(address);
    }
    assert!(seen.len() > 2, "the pool is used: {seen:?}");
}

/// Workers that hand packets over to each other, as the I/O shell does.
struct Team<const N: usize> {
    workers: [Router; N],
    handed_over: usize,
}

impl<const N: usize> Team<N> {
    fn new(tests: Vec<Test>, hook: Hook, how: Translate) -> Team<N> {
        Team::of(|router| router.rule(hook, tests.clone(), Action::Translate(how.clone())))
    }

    fn of(policy: impl Fn(Router) -> Router) -> Team<N> {
        Team { workers: Router::team::<N>().map(|router| policy(router).ready()), handed_over: 0 }
    }

    /// A frame that comes to any worker; in the end, who judged it and how.
    fn receive(&mut self, at: usize, from: InterfaceId, bytes: &[u8]) -> (usize, crate::testing::Fate) {
        let mut fate = self.workers[at].receive(from, bytes);
        let mut by = at;
        if let Verdict::HandOver(owner) = fate.verdict {
            self.handed_over += 1;
            by = usize::from(owner.0);
            fate = self.workers[by].receive_handed_over(from, bytes);
        }
        // One that turned back on its way.
        if let (Verdict::Collected, [(Outlet::Worker { worker, .. }, bytes)]) =
            (fate.verdict, fate.sent.frames.as_slice())
        {
            self.handed_over += 1;
            by = usize::from(worker.0);
            fate = self.workers[by].receive_handed_over(from, bytes);
        }
        (by, fate)
    }
}

#[test]
fn answers_find_the_worker_that_asked() {
    for [client, _, server, router_address, _] in WORLDS {
        let mut team = Team::<4>::new(
            vec![out_by(SRV)],
            Hook::NatPostrouting,
            Translate::Masquerade(NatRange::default()),
        );
        for n in 0..64u16 {
            let query = udp(&between(CLI, client, server), (5000 + n, 53), b"q");
            let (owner, fate) = team.receive(usize::from(n % 4), CLI, &query);
            assert_eq!(ends(&fate.packet()), (ip(router_address), 5000 + n, ip(server), 53), "kept");
            let answer = udp(&between(SRV, server, router_address), (53, 5000 + n), b"a");
            for at in 0..4 {
                let (by, fate) = team.receive(at, SRV, &answer);
                assert_eq!((by, ends(&fate.packet()).3), (owner, 5000 + n));
            }
        }
        assert!(team.handed_over > 64, "answers come to others");
    }
}

#[test]
fn published_servers_are_reached_by_every_worker() {
    let to = NatRange { ports: Some((80, 80)), ..NatRange::address(ip("10.1.0.2")) };
    let mut team = Team::<3>::new(vec![to_port(8080)], Hook::NatPrerouting, Translate::Dnat(to));
    for n in 0..32u16 {
        let query = udp(&between(SRV, "10.2.0.2", "10.2.0.1"), (5000 + n, 8080), b"q");
        let (owner, _) = team.receive(0, SRV, &query);
        let answer = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (80, 5000 + n), b"a");
        let (by, fate) = team.receive(usize::from(n % 3), CLI, &answer);
        let expected = (ip("10.2.0.1"), 8080, ip("10.2.0.2"), 5000 + n);
        assert_eq!((by, ends(&fate.packet())), (owner, expected));
    }
}

#[test]
fn errors_about_translated_packets_go_to_their_worker() {
    let mut team =
        Team::<4>::new(vec![out_by(SRV)], Hook::NatPostrouting, Translate::Masquerade(NatRange::default()));
    for n in 0..16u16 {
        let query = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000 + n, 53), b"q");
        let (owner, leaves) = team.receive(0, CLI, &query);
        let link = Link { destination: router_mac(SRV), source: host_mac(SRV), vlan: None };
        let error = IcmpError::port_unreachable(leaves.packet().family());
        let about = (&leaves.packet(), leaves.bytes.as_slice());
        let frame = built(|room| build::icmp_error(room, link, ip("10.2.0.9"), error, about));
        let (by, fate) = team.receive(3, SRV, &frame);
        assert_eq!((by, fate.packet().addrs.dst()), (owner, ip("10.1.0.2")));
    }
}

/// Both clients' packets hash to different workers, yet leave as one address and port unless someone looks.
#[test]
fn no_two_workers_give_the_same_port() {
    let mut team =
        Team::<4>::new(vec![out_by(SRV)], Hook::NatPostrouting, Translate::Masquerade(NatRange::default()));
    let mut seen = std::collections::HashSet::new();
    for client in 2..10 {
        for sport in 5000..5008u16 {
            let from = format!("10.1.0.{client}");
            let (owner, fate) =
                team.receive(0, CLI, &udp(&between(CLI, &from, "10.2.0.2"), (sport, 53), b"q"));
            let port = ends(&fate.packet()).1;
            assert!(seen.insert(port), "{port} was given twice");
            if port != sport {
                let addrs = between(SRV, "10.2.0.2", "10.2.0.1").addrs;
                let hash = sluice_wire::symmetric_toeplitz(&addrs, Some((53, port)));
                assert_eq!(
                    usize::from(crate::stage::admit::owner(hash, 4).0),
                    owner,
                    "a port that hashes home"
                );
            }
        }
    }
}

#[test]
fn answers_are_free_again_when_their_flow_is_gone() {
    let mut team =
        Team::<2>::new(vec![out_by(SRV)], Hook::NatPostrouting, Translate::Masquerade(NatRange::default()));
    for round in 0..3 {
        for client in [2, 3] {
            let from = format!("10.1.0.{client}");
            let fate = team.receive(0, CLI, &udp(&between(CLI, &from, "10.2.0.2"), (5000, 53), b"q")).1;
            assert_eq!(ends(&fate.packet()).1, 5000, "round {round}");
            for router in &mut team.workers {
                router.wait(60);
                for _ in 0..200 {
                    router.engine.tick(crate::ids::Now::from_nanos(router.nanos));
                }
            }
        }
    }
}

proptest! {
    /// Whatever a client sends comes back to it, and what leaves is never taken for another flow's.
    #[test]
    fn there_and_back_is_the_identity(
        flows in prop::collection::vec((2..5u8, 5000..5004u16, 2..4u8, 53..55u16), 1..60),
        narrow in any::<bool>(),
    ) {
        let mut router = if narrow { snat("10.2.0.100", Some((6000, 6005))) } else { masquerading() };
        let mut outward = std::collections::HashMap::new();
        for (client, sport, server, dport) in flows {
            let (client, server) = (format!("10.1.0.{client}"), format!("10.2.0.{server}"));
            let fate = router.receive(CLI, &udp(&between(CLI, &client, &server), (sport, dport), b"q"));
            if fate.verdict == Verdict::Drop(DropReason::NatExhausted) {
                prop_assert!(narrow);
                continue;
            }
            let leaves = ends(&fate.packet());
            let owner = (client.clone(), sport);
            prop_assert_eq!(outward.entry(leaves).or_insert(owner.clone()), &owner, "answers have one owner");
            let answer = between(SRV, &server, &leaves.0.to_string());
            let back = ends(&router.receive(SRV, &udp(&answer, (dport, leaves.1), b"a")).packet());
            prop_assert_eq!(back, (ip(&server), dport, ip(&client), sport));
        }
    }
}
