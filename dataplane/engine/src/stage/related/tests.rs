//! A web server behind the router, its port 80 NOTRACK, and a client behind a narrow link.

use sluice_wire::build::{self, IcmpError};
use sluice_wire::{Family, Parsed, TcpFlags, parse};

use crate::conntrack::{CtState, Status};
use crate::ids::InterfaceId;
use crate::limit::{Limit, LimitPer};
use crate::ruleset::{Action, Hook, Match, Policy, PortMatch, StateSet, Test};
use crate::testing::*;
use crate::verdict::{DropReason, Verdict};

fn source_port(port: u16) -> Test {
    Test::is(Match::SourcePort(PortMatch::of([(port, port)])))
}

fn in_state(state: CtState) -> Test {
    Test::is(Match::Ct { states: StateSet::default().with(state), status: Status::default() })
}

/// Port 80 is not tracked, and goes out by [`CLI`] alone, at a rate that one packet uses up; what is RELATED passes.
fn router(related: bool) -> Router {
    let limit = Limit::new(1, std::time::Duration::from_secs(86_400), 1, LimitPer::Rule);
    let to_clients = vec![
        in_state(CtState::Untracked),
        source_port(80),
        Test::is(Match::Egress([CLI].into())),
        Test::is(Match::Limit(limit.into())),
    ];
    Router::new()
        .rule(Hook::RawPrerouting, vec![source_port(80)], Action::Notrack { related })
        .rule(Hook::RawPrerouting, vec![source_port(81)], Action::Notrack { related: false })
        .policy(Hook::FilterForward, Policy::Drop)
        .rule(Hook::FilterForward, vec![in_state(CtState::Related)], Action::Accept)
        .rule(Hook::FilterForward, to_clients, Action::Accept)
        .rule(Hook::FilterForward, vec![in_state(CtState::Untracked), source_port(81)], Action::Accept)
        .ready()
}

const HOSTS: [(&str, &str, &str); 2] =
    [("10.1.0.2", "10.2.0.2", "10.1.0.254"), ("fd00:1::2", "fd00:2::2", "fd00:1::fe")];

/// The error that a router behind `from` sends about a segment from the server's `port`.
fn error(from: InterfaceId, hosts: (&str, &str, &str), port: u16, kind: Option<u8>) -> Vec<u8> {
    let (client, server, narrow) = hosts;
    let segment = tcp(&between(SRV, server, client), (port, 5000), TcpFlags::ACK, (1, 1));
    let Ok(Parsed::Ip(packet)) = parse(&segment) else { panic!("no packet") };
    let mut error = IcmpError::too_big(packet.family(), 1400);
    error.kind = kind.unwrap_or(error.kind);
    let link = between(from, narrow, server).link;
    built(|room| build::icmp_error(room, link, ip(narrow), error, (&packet, &segment)))
}

fn is_forwarded(router: &mut Router, from: InterfaceId, bytes: &[u8]) -> bool {
    match router.receive(from, bytes).verdict {
        Verdict::Transmit(_) => true,
        Verdict::Drop(DropReason::PolicyForward) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_about_what_was_let_out_untracked_is_related() {
    for hosts in HOSTS {
        let about = |port| error(CLI, hosts, port, None);
        for (name, related, from, bytes, passes) in [
            ("as the policy says", true, CLI, about(80), true),
            ("not asked for", false, CLI, about(80), false),
            ("of a rule that does not say so", true, CLI, about(81), false),
            ("of what is tracked", true, CLI, about(82), false),
            ("it never left there", true, DMZ, error(DMZ, hosts, 80, None), false),
        ] {
            let mut router = router(related);
            assert_eq!(is_forwarded(&mut router, from, &bytes), passes, "{name}, {hosts:?}");
            let state = &router.counters.states;
            assert_eq!((state.related.get(), state.invalid.get()), (passes as u64, !passes as u64), "{name}");
            assert!(router.engine.conntrack().is_empty(), "{name}");
        }
    }
}

#[test]
fn nothing_follows_from_looking_at_the_policy() {
    let mut router = router(true);
    let (client, server, _) = HOSTS[0];
    for _ in 0..5 {
        assert!(is_forwarded(&mut router, CLI, &error(CLI, HOSTS[0], 80, None)));
    }
    let ruleset = &router.world.ruleset;
    let counts = [0, 1, 2, 3].map(|rule| ruleset.rule_counters(crate::ruleset::RuleId(rule)).0);
    assert_eq!(counts, [0, 0, 5, 0], "only the rule that let the errors pass counts them");
    let segment = tcp(&between(SRV, server, client), (80, 5000), TcpFlags::ACK, (1, 1));
    assert!(is_forwarded(&mut router, SRV, &segment), "the limit's one token is still there");
    assert!(!is_forwarded(&mut router, SRV, &segment));
}

#[test]
fn what_can_be_forged_or_proves_nothing_is_not_related() {
    let (client, server, narrow) = HOSTS[0];
    let good = error(CLI, HOSTS[0], 80, None);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut misdirected = good.clone();
    // To another host behind the server's link, the header's checksum mended.
    misdirected[33] += 1;
    misdirected[25] -= 1;
    let family = Family::V4;
    let (quench, redirect) = (error(CLI, HOSTS[0], 80, Some(4)), error(CLI, HOSTS[0], 80, Some(5)));
    for (name, bytes) in [
        ("checksum", damaged),
        ("not to who sent it", misdirected),
        ("source quench", quench),
        ("redirect", redirect),
    ] {
        let mut router = router(true);
        assert!(!is_forwarded(&mut router, CLI, &bytes), "{name}, {family:?} {client} {server} {narrow}");
    }
}

#[test]
fn what_raw_itself_does_not_track_is_related_too() {
    // A router that tracks nothing that passes through it.
    let mut router = Router::new()
        .rule(Hook::RawPrerouting, vec![], Action::Notrack { related: true })
        .policy(Hook::FilterForward, Policy::Drop)
        .rule(Hook::FilterForward, vec![in_state(CtState::Related)], Action::Accept)
        .rule(Hook::FilterForward, vec![source_port(80)], Action::Accept)
        .ready();
    assert!(is_forwarded(&mut router, CLI, &error(CLI, HOSTS[0], 80, None)));
    assert!(!is_forwarded(&mut router, CLI, &error(CLI, HOSTS[0], 443, None)));
    assert!(router.engine.conntrack().is_empty());
}

#[test]
fn the_routers_own_errors_about_untracked_packets_are_related() {
    for (client, server, _) in HOSTS {
        let mut router = Router::new()
            .rule(Hook::RawPrerouting, vec![source_port(80)], Action::Notrack { related: true })
            .policy(Hook::FilterOutput, Policy::Drop)
            .rule(Hook::FilterOutput, vec![in_state(CtState::Related)], Action::Accept)
            .ready();
        let last_hop = build::Datagram { ttl: 1, ..between(SRV, server, client) };
        let segment = tcp(&last_hop, (80, 5000), TcpFlags::ACK, (1, 1));
        assert_eq!(router.receive(SRV, &segment).verdict, Verdict::Answered);
    }
}
