//! The events that the kernel sends for the same packets, in its order; recorded with `conntrack -E` on Linux 6.18.

use std::sync::Mutex;

use super::*;
use crate::conntrack::tests::*;
use crate::conntrack::{FlowChange, FlowFilter};
use crate::ids::Millis;
use crate::message::Cursor;

/// Keeps events as lines: kind, state, seconds left, UNREPLIED, ASSURED, mark, and who did it.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl EventSink for Lines {
    fn take(&self, event: &FlowEvent) {
        let FlowRecord { state, timeout, status, mark, .. } = event.flow;
        let mut line = format!("{:?} {}", event.kind, timeout.0.div_ceil(1000));
        let words = [
            (state.is_some(), state.unwrap_or_default()),
            (!status.contains(Status::SEEN_REPLY), "UNREPLIED"),
            (status.contains(Status::ASSURED), "ASSURED"),
            (mark == 7, "mark=7"),
            (event.by_user, "USERSPACE"),
        ];
        for (_, word) in words.iter().filter(|(there, _)| *there) {
            line = line + " " + word;
        }
        self.0.lock().unwrap().push(line);
    }

    fn take_expectation(&self, _: &ExpectationEvent) {}
}

impl Lines {
    fn take_all(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn watched(kinds: EventKinds) -> (Shard, Arc<Lines>) {
    let mut shard = Shard::new(0, &budget(10), 8);
    let lines = Arc::new(Lines::default());
    shard.conntrack.watch(Some(Watch { kinds, sink: Arc::clone(&lines) as Arc<dyn EventSink> }));
    (shard, lines)
}

impl Shard {
    /// The lines of a packet that passes.
    fn told(&mut self, lines: &Lines, frame: &[u8]) -> Vec<String> {
        self.pass(frame);
        self.conntrack.tell_events();
        lines.take_all()
    }
}

#[test]
fn a_connection_is_told_as_the_kernel_tells_it() {
    let (mut shard, lines) = watched(EventKinds::ALL);
    let packets = [
        (tcp(1, 2, SYN, 100, 0), &["New 120 SYN_SENT UNREPLIED"][..]),
        (tcp(1, 2, SYN, 100, 0), &[]),
        (tcp(2, 1, SYN_ACK, 500, 101), &["Update 60 SYN_RECV"]),
        (tcp(1, 2, ACK, 101, 501), &["Update 432000 ESTABLISHED ASSURED"]),
        (tcp(2, 1, ACK, 501, 101), &[]),
        (tcp(1, 2, FIN_ACK, 101, 501), &["Update 120 FIN_WAIT ASSURED"]),
        (tcp(2, 1, ACK, 501, 102), &["Update 60 CLOSE_WAIT ASSURED"]),
        (tcp(2, 1, FIN_ACK, 501, 102), &["Update 30 LAST_ACK ASSURED"]),
        (tcp(1, 2, ACK, 102, 502), &["Update 120 TIME_WAIT ASSURED"]),
        // A connection of the same tuple begins.
        (tcp(1, 2, SYN, 900, 0), &["Destroy 120 TIME_WAIT ASSURED", "New 120 SYN_SENT UNREPLIED"]),
        // Nobody listens there: the flow ends, and that its state changed before is not told.
        (tcp(2, 1, RST_ACK, 0, 901), &["Destroy 120 CLOSE UNREPLIED"]),
    ];
    for (nth, (packet, expected)) in packets.iter().enumerate() {
        assert_eq!(shard.told(&lines, packet), *expected, "packet {nth}");
    }
}

#[test]
fn what_one_packet_changes_is_one_event() {
    let (mut shard, lines) = watched(EventKinds::ALL);
    shard.pass(&tcp(1, 2, SYN, 100, 0));
    let flow = shard.pass(&tcp(2, 1, SYN_ACK, 500, 101)).unwrap();
    shard.conntrack.set_mark(flow, 7);
    shard.pass(&tcp(1, 2, ACK, 101, 501));
    shard.conntrack.close(shard.now, &shard.settings, flow);
    shard.conntrack.tell_events();
    let expected =
        ["New 120 SYN_SENT UNREPLIED", "Update 60 SYN_RECV mark=7", "Update 10 CLOSE ASSURED mark=7"];
    assert_eq!(lines.take_all(), expected);
    // A mark alone: the state, which did not change, is not told.
    shard.conntrack.set_mark(flow, 0);
    shard.conntrack.set_mark(flow, 0);
    shard.conntrack.tell_events();
    assert_eq!(lines.take_all(), ["Update 10 ASSURED"]);
}

#[test]
fn a_stream_of_datagrams_is_told_when_it_is_one() {
    let (mut shard, lines) = watched(EventKinds::ALL);
    let (there, back) = (udp(1, 2, 3, 4), udp(2, 1, 4, 3));
    assert_eq!(shard.told(&lines, &there), ["New 30 UNREPLIED"]);
    assert_eq!(shard.told(&lines, &there), [""; 0]);
    assert_eq!(shard.told(&lines, &back), ["Update 30"]);
    shard.wait(2001);
    assert_eq!(shard.told(&lines, &there), ["Update 120 ASSURED"]);
    assert_eq!(shard.told(&lines, &there), [""; 0]);
    shard.wait(121_000);
    while shard.conntrack.expire(shard.now, &shard.settings, 64) == 0 {}
    assert_eq!(lines.take_all(), ["Destroy 0 ASSURED"]);
}

#[test]
fn what_a_user_does_is_told_as_such() {
    let (mut shard, lines) = watched(EventKinds::ALL);
    shard.pass(&tcp(1, 2, SYN, 100, 0));
    lines.take_all();
    let all = FlowFilter::default();
    let mut change = FlowChange { mark: Some((7, u32::MAX)), timeout: None, status: Status::default() };
    shard.change(&all, &change);
    assert_eq!(lines.take_all(), ["Update 120 SYN_SENT UNREPLIED mark=7 USERSPACE"]);
    shard.change(&all, &change);
    assert_eq!(lines.take_all(), [""; 0], "it is so already");
    change.timeout = Some(Millis::from_secs(9));
    shard.change(&all, &change);
    assert_eq!(lines.take_all(), ["Update 9 SYN_SENT UNREPLIED mark=7 USERSPACE"]);
    shard.conntrack.delete(shard.now, Cursor::default(), &all, 9, &mut Vec::new());
    assert_eq!(lines.take_all(), ["Destroy 9 SYN_SENT UNREPLIED mark=7 USERSPACE"]);
    assert_eq!(shard.told(&lines, &udp(1, 2, 3, 4)), ["New 30 UNREPLIED"]);
}

#[test]
fn only_the_kinds_that_are_wanted_are_told_and_none_to_nobody() {
    let (mut shard, lines) = watched(EventKinds::default().with(EventKind::Destroy));
    let syn = tcp(1, 2, SYN, 100, 0);
    assert_eq!(shard.told(&lines, &syn), [""; 0]);
    assert_eq!(shard.told(&lines, &tcp(2, 1, RST_ACK, 0, 101)), ["Destroy 120 CLOSE UNREPLIED"]);
    shard.conntrack.watch(None);
    shard.told(&lines, &syn);
    assert_eq!(shard.told(&lines, &tcp(2, 1, RST_ACK, 0, 101)), [""; 0]);
    assert_eq!(Arc::strong_count(&lines), 1);
}
