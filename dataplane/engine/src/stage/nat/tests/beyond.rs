//! What netfilter has not: one mapping for all destinations, and ports dealt out to subscribers.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::conntrack::{Block, PortBlocks};
use crate::message::LogCause;

/// The interface's address, one mapping for all destinations.
fn independent(ports: Option<(u16, u16)>) -> Translate {
    Translate::Masquerade(NatRange { ports, endpoint_independent: true, ..NatRange::default() })
}

fn router(how: Translate) -> Router {
    Router::new().rule(Hook::NatPostrouting, vec![out_by(SRV)], Action::Translate(how)).ready()
}

#[test]
fn an_endpoint_has_one_mapping_for_all_destinations() {
    for [client, second, server, router_address, _] in WORLDS {
        let mut router = router(independent(None));
        assert_eq!(port_of(&mut router, client, server, (5000, 53)), Some(5000), "kept");
        // To another destination the kernel would give the second one the same port.
        let theirs = port_of(&mut router, second, server, (5000, 54)).unwrap();
        assert!(
            theirs != 5000 && theirs.is_multiple_of(2),
            "{theirs}: another one's port, of another parity"
        );
        for dport in 55..80 {
            assert_eq!(port_of(&mut router, client, server, (5000, dport)), Some(5000));
            assert_eq!(port_of(&mut router, second, server, (5000, dport)), Some(theirs), "{dport}");
            let answer = udp(&between(SRV, server, router_address), (dport, theirs), b"a");
            let back = ends(&router.receive(SRV, &answer).packet());
            assert_eq!(back, (ip(server), dport, ip(second), 5000));
        }
        // TCP has ports of its own.
        let syn = tcp(&between(CLI, second, server), (5000, 80), TcpFlags::SYN, (1, 0));
        assert_eq!(ends(&router.receive(CLI, &syn).packet()).1, 5000);
        assert_eq!(ends(&router.receive(CLI, &echo(&between(CLI, client, server), 7)).packet()).1, 7);
        let id = ends(&router.receive(CLI, &echo(&between(CLI, second, server), 7)).packet()).1;
        assert_ne!(id, 7);
    }
}

#[test]
fn a_port_is_lent_to_one_and_given_back_with_the_last_flow() {
    let mut router = router(independent(Some((6000, 6003))));
    let ask = |router: &mut Router, client: &str, ports| port_of(router, client, "10.2.0.2", ports);
    let first = ask(&mut router, "10.1.0.2", (5000, 53)).unwrap();
    let second = ask(&mut router, "10.1.0.3", (5000, 53)).unwrap();
    assert_eq!(HashSet::from([first, second]), HashSet::from([6000, 6002]), "even ones for even ones");
    let third = router.receive(CLI, &udp(&between(CLI, "10.1.0.4", "10.2.0.2"), (5000, 99), b"q"));
    assert_eq!(third.verdict, Verdict::Drop(DropReason::NatExhausted), "no port is two endpoints'");
    assert!(ask(&mut router, "10.1.0.4", (5001, 53)).is_some_and(|port| port % 2 == 1));
    // A second flow of the first endpoint keeps it while the other one's runs out.
    router.wait(20);
    assert_eq!(ask(&mut router, "10.1.0.2", (5000, 54)), Some(first));
    router.wait(20);
    for _ in 0..500 {
        router.engine.tick(crate::ids::Now::from_nanos(router.nanos));
    }
    assert_eq!(ask(&mut router, "10.1.0.4", (5000, 53)), Some(second), "free again");
    assert_eq!(ask(&mut router, "10.1.0.2", (5000, 55)), Some(first));
    assert_eq!(ask(&mut router, "10.1.0.3", (5000, 53)), None);
}

/// A flow that is dropped behind `nat` gives back what it took.
#[test]
fn what_no_flow_came_of_is_given_back() {
    let range = NatRange { ports: Some((6000, 6000)), endpoint_independent: true, ..NatRange::default() };
    let mut router = router(Translate::Masquerade(range));
    assert_eq!(port_of(&mut router, "10.1.0.2", "10.2.0.2", (5000, 53)), Some(6000));
    for _ in 0..3 {
        assert_eq!(port_of(&mut router, "10.1.0.3", "10.2.0.2", (5000, 53)), None);
    }
    router.wait(40);
    for _ in 0..500 {
        router.engine.tick(crate::ids::Now::from_nanos(router.nanos));
    }
    assert_eq!(port_of(&mut router, "10.1.0.3", "10.2.0.2", (5000, 53)), Some(6000));
}

#[test]
fn a_pool_gives_one_host_one_address() {
    let pool = (ip("10.2.0.100"), ip("10.2.0.107"));
    let range = NatRange { addresses: Some(pool), endpoint_independent: true, ..NatRange::default() };
    let mut router = router(Translate::Snat(range));
    let mut of = HashMap::new();
    for client in 2..20 {
        for (server, sport) in [("10.2.0.2", 5000), ("10.2.0.3", 5000), ("10.2.0.4", 5002)] {
            let from = format!("10.1.0.{client}");
            let query = udp(&between(CLI, &from, server), (sport, 53), b"q");
            let source = router.receive(CLI, &query).packet().addrs.src();
            assert_eq!(*of.entry(client).or_insert(source), source, "paired");
        }
    }
    assert!(of.values().collect::<HashSet<_>>().len() > 2, "the pool is used");
}

#[test]
fn all_workers_give_an_endpoint_the_same_mapping() {
    let mut team = Team::<4>::new(vec![out_by(SRV)], Hook::NatPostrouting, independent(None));
    let (mut mapped, mut owners) = (HashMap::new(), HashSet::new());
    for dport in 53..85 {
        for client in 2..8u8 {
            let from = format!("10.1.0.{client}");
            let query = udp(&between(CLI, &from, "10.2.0.2"), (5000, dport), b"q");
            let (owner, fate) = team.receive(usize::from(dport % 4), CLI, &query);
            let port = ends(&fate.packet()).1;
            assert_eq!(*mapped.entry(client).or_insert(port), port, "{from} to {dport}");
            owners.insert((client, owner));
            let answer = udp(&between(SRV, "10.2.0.2", "10.2.0.1"), (dport, port), b"a");
            let (by, fate) = team.receive(usize::from(client % 4), SRV, &answer);
            assert_eq!((by, ends(&fate.packet()).3), (owner, 5000));
        }
    }
    assert_eq!(mapped.values().collect::<HashSet<_>>().len(), 6, "nobody shares a port");
    assert!(owners.len() > 6 * 2, "each endpoint has flows at several workers");
}

/// Eight subscribers, two to an address.
fn blocks(endpoint_independent: bool) -> Translate {
    let v4 = |text: &str| text.parse().unwrap();
    let subscribers = (v4("10.1.0.0"), v4("10.1.0.7"));
    let pool = (v4("10.2.0.100"), v4("10.2.0.103"));
    Translate::Blocks(PortBlocks::new(subscribers, pool, (2000, 2199), 100, endpoint_independent).unwrap())
}

#[test]
fn a_subscriber_has_his_block_and_no_other() {
    for endpoint_independent in [false, true] {
        let mut router = router(blocks(endpoint_independent));
        for (client, address, ports) in [
            ("10.1.0.2", "10.2.0.101", 2000..=2099u16),
            ("10.1.0.3", "10.2.0.101", 2100..=2199),
            ("10.1.0.7", "10.2.0.103", 2100..=2199),
        ] {
            for (n, sport) in [5000, 5001, 2050, 80].into_iter().enumerate() {
                let query = udp(&between(CLI, client, "10.2.0.2"), (sport, 53), b"q");
                let fate = router.receive(CLI, &query);
                let (source, port, ..) = ends(&fate.packet());
                assert_eq!(source, ip(address), "{client}");
                assert!(ports.contains(&port), "{client}: {port}");
                let told: Vec<_> = fate.sent.logged.iter().map(|record| record.cause).collect();
                let block =
                    Block { address: address.parse().unwrap(), ports: (*ports.start(), *ports.end()) };
                let line = LogCause::Block { subscriber: ip(client), block };
                assert_eq!(told, if n == 0 { vec![line] } else { vec![] }, "one line for a block");
            }
            let id = ends(&router.receive(CLI, &echo(&between(CLI, client, "10.2.0.2"), 7)).packet()).1;
            assert!(ports.contains(&id), "identifiers are ports: {id}");
        }
        let stranger = udp(&between(CLI, "10.1.0.8", "10.2.0.2"), (5000, 53), b"q");
        assert_eq!(router.receive(CLI, &stranger).verdict, Verdict::Drop(DropReason::NatNoAddress));
    }
}

#[test]
fn a_subscriber_uses_up_his_own_ports_alone() {
    let mut router = router(blocks(true));
    let mut ask = |client: &str, sport: u16| port_of(&mut router, client, "10.2.0.2", (sport, 53));
    let given: HashSet<u16> = (0..300).filter_map(|n| ask("10.1.0.2", 5000 + n)).collect();
    assert_eq!(given.len(), 100, "each port once, and all of them");
    assert!(ask("10.1.0.3", 5000).is_some(), "another one has his");
}
