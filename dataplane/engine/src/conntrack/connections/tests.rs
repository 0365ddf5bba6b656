//! A router that lets each client have two connections.

use sluice_wire::{Protocol, TcpFlags};

use crate::conntrack::ConnLimit;
use crate::ids::{InterfaceId, Now};
use crate::limit::LimitPer;
use crate::ruleset::{Action, Hook, Match, Test};
use crate::testing::*;
use crate::verdict::{DropReason, Verdict};

const SERVER: &str = "10.2.0.2";

fn limit(above: u32, per: LimitPer) -> ConnLimit {
    ConnLimit { rule: 1, above, per }
}

/// Drops what is `above`.
fn router(limit: ConnLimit) -> Router {
    let router = Router::new()
        .rule(Hook::FilterForward, vec![Test::is(Match::Connections(limit))], Action::Drop)
        .ready();
    router.budget.count_connections(100);
    router
}

fn passes(router: &mut Router, from: InterfaceId, bytes: &[u8]) -> bool {
    match router.receive(from, bytes).verdict {
        Verdict::Transmit(_) => true,
        Verdict::Drop(DropReason::PolicyForward) => false,
        other => panic!("{other:?}"),
    }
}

fn asks(router: &mut Router, client: &str, port: u16) -> bool {
    passes(router, CLI, &udp(&between(CLI, client, SERVER), (port, 53), b"?"))
}

fn segment(router: &mut Router, from_client: bool, port: u16, flags: TcpFlags, numbers: (u32, u32)) -> bool {
    let (from, addresses, ports) = match from_client {
        true => (CLI, ("10.1.0.2", SERVER), (port, 80)),
        false => (SRV, (SERVER, "10.1.0.2"), (80, port)),
    };
    passes(router, from, &tcp(&between(from, addresses.0, addresses.1), ports, flags, numbers))
}

/// All flows run out.
fn run_out(router: &mut Router) {
    router.wait(200);
    let (now, settings) = (Now::from_nanos(router.nanos), router.world.settings.conntrack.clone());
    for _ in 0..8 {
        router.engine.conntrack().expire(now, &settings, 64);
    }
}

/// Whether a connection could be opened.
fn opens(router: &mut Router, port: u16) -> bool {
    segment(router, true, port, TcpFlags::SYN, (1, 0))
        && segment(router, false, port, TcpFlags::SYN.union(TcpFlags::ACK), (1, 2))
        && segment(router, true, port, TcpFlags::ACK, (2, 2))
}

#[test]
fn each_client_has_as_many_flows_as_its_limit() {
    let mut router = router(limit(2, LimitPer::Source));
    let asked = [1, 2, 3, 1, 3, 2].map(|port| asks(&mut router, "10.1.0.2", port));
    assert_eq!(
        asked,
        [true, true, false, true, false, true],
        "known flows pass, and a refused one is not counted"
    );
    assert_eq!(router.engine.conntrack().len(), 2);
    let other = [1, 2, 3].map(|port| asks(&mut router, "10.1.0.3", port));
    assert_eq!(other, [true, true, false]);
    assert!(
        passes(&mut router, SRV, &udp(&between(SRV, SERVER, "10.1.0.2"), (53, 1), b"!")),
        "the server's one"
    );
    run_out(&mut router);
    let again = [4, 5, 6].map(|port| asks(&mut router, "10.1.0.2", port));
    assert_eq!(again, [true, true, false], "flows that ran out count no more");
}

#[test]
fn what_is_counted_together() {
    for (per, expected) in [
        (LimitPer::Rule, [true, false, false]),
        (LimitPer::Source, [true, true, false]),
        (LimitPer::Destination, [true, false, false]),
    ] {
        let mut router = router(limit(1, per));
        let asked = [("10.1.0.2", 1), ("10.1.0.3", 1), ("10.1.0.3", 2)];
        assert_eq!(asked.map(|(client, port)| asks(&mut router, client, port)), expected, "{per:?}");
    }
}

#[test]
fn a_closed_connection_counts_no_more_though_its_entry_stays() {
    let mut router = router(limit(2, LimitPer::Source));
    assert_eq!([1, 2, 3].map(|port| opens(&mut router, port)), [true, true, false]);
    let fin = TcpFlags::FIN.union(TcpFlags::ACK);
    assert!(segment(&mut router, true, 1, fin, (2, 2)));
    assert!(segment(&mut router, false, 1, fin, (2, 3)));
    assert!(!opens(&mut router, 3), "in LAST_ACK it is still live");
    assert!(segment(&mut router, true, 1, TcpFlags::ACK, (3, 3)));
    assert_eq!(router.engine.conntrack().len(), 2, "TIME_WAIT");
    assert!(opens(&mut router, 3));
    assert!(segment(&mut router, false, 3, TcpFlags::RST.union(TcpFlags::ACK), (2, 2)));
    assert_eq!([4, 5].map(|port| opens(&mut router, port)), [true, false], "CLOSE");
}

#[test]
fn counts_outlive_a_policy_and_are_the_rules_own() {
    let mut router = router(limit(2, LimitPer::Source));
    assert_eq!([1, 2, 3].map(|port| asks(&mut router, "10.1.0.2", port)), [true, true, false]);
    // The same rule again, behind another that limits flows to one address.
    let other = ConnLimit { rule: 2, ..limit(1, LimitPer::Destination) };
    let udp = Test::is(Match::Protocol([Protocol::UDP].into()));
    let mut router = router
        .rule(Hook::FilterForward, vec![udp, Test::not(Match::Connections(other))], Action::Count)
        .rule(
            Hook::FilterForward,
            vec![Test::is(Match::Connections(limit(2, LimitPer::Source)))],
            Action::Drop,
        )
        .ready();
    assert_eq!([3, 1, 2].map(|port| asks(&mut router, "10.1.0.2", port)), [false, true, true]);
    let counted = router.world.ruleset.rule_counters(crate::ruleset::RuleId(0)).0;
    assert_eq!(
        counted, 2,
        "what was refused is not counted; of the others one is within the other rule's limit"
    );
    run_out(&mut router);
    assert_eq!([7, 8, 9].map(|port| asks(&mut router, "10.1.0.2", port)), [true, true, false]);
}

#[test]
fn a_flow_that_more_rules_count_than_it_has_room_for_passes_by_the_rest() {
    let mut router = Router::new();
    for rule in 0..6 {
        let limit = ConnLimit { rule, above: 1, per: LimitPer::Rule };
        router = router.rule(Hook::FilterForward, vec![Test::is(Match::Connections(limit))], Action::Drop);
    }
    let mut router = router.ready();
    router.budget.count_connections(100);
    assert_eq!([1, 2, 1].map(|port| asks(&mut router, "10.1.0.2", port)), [true, false, true]);
    run_out(&mut router);
    assert_eq!([3, 4].map(|port| asks(&mut router, "10.1.0.2", port)), [true, false]);
}

#[test]
fn without_room_to_count_nothing_is_limited() {
    let mut router = Router::new()
        .rule(Hook::FilterForward, vec![Test::is(Match::Connections(limit(0, LimitPer::Rule)))], Action::Drop)
        .ready();
    assert!(asks(&mut router, "10.1.0.2", 1));
}
