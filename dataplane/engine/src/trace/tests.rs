//! Packets followed through a little router: what is told is what happens, and following changes nothing.

use std::sync::{Arc, Mutex};

use sluice_wire::TcpFlags;

use super::*;
use crate::conntrack::NatRange;
use crate::ruleset::{Action, Match, PortMatch, PortSet, Reject, Test, Translate};
use crate::testing::*;

#[derive(Debug, Default)]
struct Sink {
    traces: Mutex<Vec<Trace>>,
    limited: Mutex<u32>,
}

impl TraceSink for Sink {
    fn take(&self, trace: &Trace) {
        self.traces.lock().unwrap().push(trace.clone());
    }

    fn limited(&self) {
        *self.limited.lock().unwrap() += 1;
    }
}

impl Sink {
    fn follow(router: &mut Router, rate: u32) -> Arc<Sink> {
        let sink = Arc::new(Sink::default());
        let order = TraceOrder { filter: None, interface: None, rate, sink: sink.clone() };
        router.engine.trace(Some(order));
        sink
    }

    fn take_all(&self) -> Vec<Trace> {
        std::mem::take(&mut self.traces.lock().unwrap())
    }
}

fn to_port(port: u16) -> Vec<Test> {
    vec![Test::is(Match::DestinationPort(PortMatch {
        own: PortSet::new(vec![(port, port)]),
        sets: [].into(),
    }))]
}

/// Drops what is for port 9, answers what is for port 7.
fn router() -> Router {
    Router::new()
        .rule(Hook::FilterForward, to_port(9), Action::Drop)
        .rule(
            Hook::FilterForward,
            to_port(7),
            Action::Reject(Reject::Unreachable { icmp: Some(3), icmpv6: Some(4) }),
        )
        .ready()
}

#[test]
fn the_first_packet_shows_each_stage_and_the_next_what_was_stored() {
    for (client, server) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        let mut router = router();
        let sink = Sink::follow(&mut router, 100);
        let there = udp(&between(CLI, client, server), (5000, 53), b"query");
        let back = udp(&between(SRV, server, client), (53, 5000), b"answer");
        for (from, bytes) in [(CLI, &there), (SRV, &back), (CLI, &there), (CLI, &there)] {
            router.receive(from, bytes);
        }
        let traces = sink.take_all();
        let [first, answer, _, last] = traces.as_slice() else { panic!("{traces:?}") };
        let [tracked, onward, hook, entered] = first.steps() else { panic!("{:?}", first.steps()) };
        let (original, begins) = (Direction::Original, true);
        assert_eq!(*tracked, Step::Tracked { state: CtState::New, direction: original, begins });
        assert_eq!(*onward, Step::Onward { interface: SRV, next: Some(ip(server)) });
        let Step::Hook { hook: Hook::FilterForward, met, rule: None, decision: Decision::Accept, .. } = hook
        else {
            panic!("{hook:?}")
        };
        assert_eq!(first.met(*met).len(), 1, "the policy alone");
        assert_eq!(*entered, Step::Entered);
        assert!(matches!(first.verdict, Verdict::Transmit(_)) && first.egress == Some(SRV));
        assert_eq!(first.packet.unwrap().ports(), Some((5000, 53)));
        assert_eq!(answer.ingress, Some(SRV));
        let [tracked, Step::Stored { met }] = last.steps() else { panic!("{:?}", last.steps()) };
        let begins = false;
        assert_eq!(*tracked, Step::Tracked { state: CtState::Established, direction: original, begins });
        assert_eq!(last.met(*met).len(), 1);
        assert_eq!(last.flow.map(|flow| flow.id), first.flow.map(|flow| flow.id));
        assert_eq!((last.id, last.more), (first.id, false));
    }
}

#[test]
fn a_drop_names_its_rule_and_an_answer_shows_its_own_way() {
    let mut router = router();
    let sink = Sink::follow(&mut router, 100);
    let there = between(CLI, "10.1.0.2", "10.2.0.2");
    router.receive(CLI, &udp(&there, (5000, 9), b"query"));
    router.receive(CLI, &udp(&there, (5000, 7), b"query"));
    let traces = sink.take_all();
    let [dropped, answered] = traces.as_slice() else { panic!("{traces:?}") };
    let decided = |trace: &Trace| {
        trace.steps().iter().find_map(|step| match step {
            Step::Hook { rule: Some(rule), decision, .. } => Some((rule.0, *decision)),
            _ => None,
        })
    };
    assert_eq!(decided(dropped), Some((0, Decision::Drop)));
    assert!(dropped.flow.is_none());
    assert!(matches!(decided(answered), Some((1, Decision::Reject(_)))));
    assert_eq!(answered.verdict, Verdict::Answered);
    let behind = answered.steps().iter().skip_while(|step| **step != Step::Answer);
    assert!(behind.skip(1).any(|step| matches!(step, Step::Onward { interface: CLI, .. })), "{answered:?}");
}

#[test]
fn a_translation_is_told_where_it_happens_and_for_stored_decisions_too() {
    let masquerade = Action::Translate(Translate::Masquerade(NatRange::default()));
    let mut router = Router::new().rule(Hook::NatPostrouting, vec![], masquerade).ready();
    let sink = Sink::follow(&mut router, 100);
    let there = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"query");
    let back = udp(&between(SRV, "10.2.0.2", "10.2.0.1"), (53, 5000), b"answer");
    for (from, bytes) in [(CLI, &there), (SRV, &back), (CLI, &there), (CLI, &there)] {
        router.receive(from, bytes);
    }
    let becomes = |trace: &Trace| {
        trace.steps().iter().find_map(|step| match step {
            Step::Translated(ends) => Some((ends.src, ends.sport, ends.dst, ends.dport)),
            _ => None,
        })
    };
    let traces = sink.take_all();
    let out = Some((ip("10.2.0.1"), 5000, ip("10.2.0.2"), 53));
    let expected = [out, Some((ip("10.2.0.2"), 53, ip("10.1.0.2"), 5000)), out, out];
    assert_eq!(traces.iter().map(becomes).collect::<Vec<_>>(), expected);
    assert!(matches!(traces[3].steps(), [_, Step::Stored { .. }, Step::Translated(_)]), "{traces:?}");
}

#[test]
fn whoever_is_followed_ends_as_if_nobody_looked() {
    let four = between(CLI, "10.1.0.2", "10.2.0.2");
    let six = between(CLI, "fd00:1::2", "fd00:2::2");
    let frames = [
        udp(&four, (5000, 53), b"query"),
        udp(&four, (5000, 53), b"again"),
        udp(&six, (5000, 9), b"dropped"),
        udp(&six, (5000, 7), b"answered"),
        tcp(&four, (40000, 80), TcpFlags::SYN, (1, 0)),
        tcp(&four, (40000, 80), TcpFlags::RST, (2, 0)),
        echo(&between(CLI, "10.1.0.2", "10.1.0.1"), 7),
        udp(&four, (5000, 53), b"cut")[..30].to_vec(),
    ];
    let (mut seen, mut unseen) = (router(), router());
    let sink = Sink::follow(&mut seen, 100);
    for frame in &frames {
        let (followed, other) = (seen.receive(CLI, frame), unseen.receive(CLI, frame));
        assert_eq!((followed.verdict, &followed.bytes), (other.verdict, &other.bytes));
        assert_eq!(followed.sent.frames, other.sent.frames);
    }
    assert_eq!(sink.take_all().len(), frames.len());
    assert_eq!(seen.counters.fast_path.get(), unseen.counters.fast_path.get());
}

#[test]
fn a_packet_has_one_number_at_both_of_its_workers() {
    let mut team = Router::team::<2>();
    let sinks: Vec<_> = team.iter_mut().map(|router| Sink::follow(router, 100)).collect();
    for port in 5000..5008 {
        let bytes = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (port, 53), b"query");
        let Verdict::HandOver(owner) = team[0].receive(CLI, &bytes).verdict else { continue };
        assert_eq!(owner, WorkerId(1));
        team[1].receive_handed_over(CLI, &bytes);
        let (first, second) = (sinks[0].take_all().pop().unwrap(), sinks[1].take_all().pop().unwrap());
        assert_eq!(first.id, second.id);
        assert_eq!((first.verdict, second.origin), (Verdict::HandOver(owner), Origin::HandedOver));
        return;
    }
    panic!("some port of eight belongs to the other worker");
}

#[test]
fn no_more_are_followed_than_asked_for_and_that_is_said() {
    let mut router = router();
    let sink = Sink::follow(&mut router, 3);
    let bytes = udp(&between(CLI, "10.1.0.2", "10.2.0.2"), (5000, 53), b"query");
    for _ in 0..10 {
        router.receive(CLI, &bytes);
    }
    assert_eq!((sink.take_all().len(), *sink.limited.lock().unwrap()), (3, 1));
    router.wait(1);
    router.receive(CLI, &bytes);
    assert_eq!(sink.take_all().len(), 1);
}
