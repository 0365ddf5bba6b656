//! The next hop of a translated packet does not answer: its sender is told, wherever the packet seemed to come from when it
//! was to leave. As Linux 6.18 has it, but that there a route to the pool is needed too.

use super::*;
use crate::testing::{Fate, Sent, with_frame};
use crate::world::{Neighbour, NeighbourKey, NeighbourState};

/// What the engine sends when a packet from `link` that is held is given up.
pub(super) fn given_up(router: &mut Router, link: InterfaceId, held: &Fate) -> Sent {
    let Verdict::Hold(key) = held.verdict else { panic!("{:?}", held.verdict) };
    let now = crate::ids::Now::from_nanos(router.nanos);
    let mut sent = Sent::default();
    router.received += 1;
    with_frame(&held.bytes, |frame| {
        (frame.ingress, frame.origin) = (Some(link), crate::Origin::HandedOver);
        router.engine.unreachable(now, frame, key, &mut sent);
        assert_eq!(frame.verdict, Verdict::Answered);
    });
    sent
}

/// The server's link without the server: nobody knows yet whether it answers, or it is known that it does not.
fn without(router: &mut Router, server: &str, known: bool) {
    let key = NeighbourKey { interface: SRV, address: ip(server) };
    let failed = Neighbour::new(NeighbourState::Failed, std::sync::Arc::default());
    let others = hosts().into_iter().filter(|(other, _)| *other != key);
    router.neighbours(others.chain(known.then_some((key, failed))));
}

/// A datagram of `from` to the client that its server answers with: who is told of it, by whom, and what it quotes.
fn told(router: &mut Router, frame: &[u8]) -> (IpAddr, IpAddr, (IpAddr, u16, IpAddr, u16)) {
    let fate = router.receive(CLI, frame);
    let bytes = match fate.verdict {
        Verdict::Answered => fate.sent.frames[0].1.clone(),
        _ => given_up(router, CLI, &fate).frames[0].1.clone(),
    };
    let error = parsed(&bytes);
    let down = Transport::Icmp { kind: 3, code: 1, id: 0 };
    let down_v6 = Transport::Icmpv6 { kind: 1, code: 3, id: 0 };
    assert!([down, down_v6].contains(&error.transport), "{error:?}");
    let quote = quoted(&error, &bytes).unwrap();
    let (sport, dport) = quote.transport.ports().unwrap();
    (error.addrs.dst(), error.addrs.src(), (quote.addrs.src(), sport, quote.addrs.dst(), dport))
}

#[test]
fn who_sent_it_is_told() {
    for [client, _, server, own, pool] in WORLDS {
        let (near, far) =
            if server.contains(':') { ("fd00:1::1", "fd00:9::9") } else { ("10.1.0.1", "10.9.0.9") };
        let both = || {
            let to = NatRange { ports: Some((53, 53)), ..NatRange::address(ip(server)) };
            let from = NatRange::address(ip(pool));
            Router::new()
                .rule(Hook::NatPrerouting, vec![to_port(8080)], Action::Translate(Translate::Dnat(to)))
                .rule(Hook::NatPostrouting, vec![out_by(SRV)], Action::Translate(Translate::Snat(from)))
                .ready()
        };
        // What was asked for, and who says that it is not there.
        for (name, mut router, asked, port, by) in [
            ("masquerade", masquerading(), server, 53, near),
            ("snat to another address", snat(pool, Some((6000, 6009))), server, 53, near),
            ("snat to an address without a route", snat(far, None), server, 53, near),
            ("snat to the router's own", snat(own, None), server, 53, near),
            ("dnat of the router's own", dnat(8080, server, 53), near, 8080, near),
            ("dnat of an address of nobody", dnat(8080, server, 53), far, 8080, far),
            ("both", both(), far, 8080, far),
        ] {
            for (known, sport) in [(false, 5000), (true, 5001), (false, 5000)] {
                without(&mut router, server, known);
                let sent = udp(&between(CLI, client, asked), (sport, port), b"q");
                let expected = (ip(client), ip(by), (ip(client), sport, ip(asked), port));
                assert_eq!(told(&mut router, &sent), expected, "{name}, known: {known}");
            }
        }
    }
}

/// Who answers a flow is told in its own terms too.
#[test]
fn so_is_who_answered_it() {
    for [server, _, client, ..] in WORLDS {
        let (asked, near) =
            if server.contains(':') { ("fd00:9::9", "fd00:1::1") } else { ("10.9.0.9", "10.1.0.1") };
        let mut router = dnat(8080, server, 80);
        let query = udp(&between(SRV, client, asked), (5000, 8080), b"q");
        assert!(matches!(router.receive(SRV, &query).verdict, Verdict::Transmit(_)));
        let answer = udp(&between(CLI, server, client), (80, 5000), b"a");
        for known in [false, true] {
            without(&mut router, client, known);
            let expected = (ip(server), ip(near), (ip(server), 80, ip(client), 5000));
            assert_eq!(told(&mut router, &answer), expected, "known: {known}");
        }
    }
}
