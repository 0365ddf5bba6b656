//! The same answers in two zones, at several workers: whose they are depends on a rule that nobody has asked yet.

use super::*;
use crate::conntrack::{Zone, ZoneId};
use crate::ruleset::NumberRanges;

/// Two clients with the same port behind one address, each in a zone of his own, keep it; answers find the one whose zone
/// they come in, at whatever worker.
#[test]
fn two_zones_have_the_same_answers() {
    let hops = |ttl| Test::is(Match::Ttl(NumberRanges([(ttl, ttl)].into())));
    let zone = |id| Action::Zone(Zone::both(ZoneId(id)));
    let to = NatRange::address(ip("10.2.0.100"));
    let mut team = Team::<4>::of(|router| {
        router
            .rule(Hook::RawPrerouting, vec![hops(61)], zone(1))
            .rule(Hook::RawPrerouting, vec![hops(62)], zone(2))
            .rule(Hook::NatPostrouting, vec![out_by(SRV)], Action::Translate(Translate::Snat(to)))
    });
    let clients = [(61, "10.1.0.2"), (62, "10.1.0.3")];
    for n in 0..16 {
        let port = 40000 + n;
        let mut owners = Vec::new();
        for (ttl, client) in clients {
            let query = Datagram { ttl, ..between(CLI, client, "10.2.0.2") };
            let (owner, fate) = team.receive(usize::from(n % 4), CLI, &udp(&query, (port, 53), b"?"));
            assert_eq!(fate.packet().ports(), Some((port, 53)), "the port is kept in each zone");
            owners.push(owner);
        }
        for (at, ((ttl, client), owner)) in clients.into_iter().zip(owners).cycle().take(8).enumerate() {
            let answer = Datagram { ttl, ..between(SRV, "10.2.0.2", "10.2.0.100") };
            let (by, fate) = team.receive(at % 4, SRV, &udp(&answer, (53, port), b"!"));
            assert_eq!((by, fate.packet().addrs.dst()), (owner, ip(client)), "{n} at {at}");
        }
    }
}
