//! What the differential fuzzer (`tests/tests/differential`) found, made small: packets, how the kernel's tracker classified
//! each, and the line of the flow that was left.

use std::sync::Arc;

use sluice_wire::{Parsed, parse};

use super::*;
use crate::counters::WorkerCounters;
use crate::ids::WorkerId;
use crate::message::Cursor;

const TCP: u8 = 6;
const GRE: u8 = 47;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// Which way a packet goes, its bytes behind the IP header in hexadecimal digits, and what the kernel says of it.
type Step = (char, String, &'static str);

/// Plays packets of a protocol between two hosts; the flow afterwards, as it is listed.
fn play(protocol: u8, steps: &[Step]) -> String {
    let budget = Arc::new(FlowBudget::new(100));
    let config = EngineConfig {
        worker: WorkerId(0),
        workers: 1,
        flow_capacity: 100,
        seed: 7,
        budget,
        counters: Arc::new(WorkerCounters::new(0)),
        reservations: None,
    };
    let (mut conntrack, settings, now) = (Conntrack::new(&config), Settings::default(), Now::default());
    for (at, (way, l4, expected)) in steps.iter().enumerate() {
        let frame = frame(protocol, *way, l4);
        let Ok(Parsed::Ip(packet)) = parse(&frame) else { panic!("step {at} is no packet") };
        let (hook, checksum) = (TrackHook::Prerouting, RxChecksum::Good);
        let key = conntrack.key(&packet, Zone::default());
        let tracked = conntrack.track(
            now,
            &settings,
            &packet,
            &frame,
            hook,
            checksum,
            Template::default(),
            key.as_ref(),
            None,
        );
        let state = match tracked {
            Tracked::Flow { state: CtState::New, .. } => "new",
            Tracked::Flow { .. } => "established",
            Tracked::New(pending) => {
                conntrack.confirm(now, &settings, pending).expect("no other flow has that tuple");
                "new"
            }
            Tracked::Related { .. } | Tracked::RelatedUntracked(_) => "related",
            Tracked::Untracked => "untracked",
            Tracked::Invalid => "invalid",
            Tracked::Drop(reason) => panic!("step {at}: {reason:?}"),
        };
        assert_eq!(state, *expected, "step {at}");
    }
    let mut flows = Vec::with_capacity(10);
    conntrack.list(now, Cursor::default(), &FlowFilter::default(), &mut flows);
    flows.first().map_or_else(String::new, |flow| flow.line(LineOptions::default()).to_string())
}

/// A datagram from the client (`>`) or from the server.
fn frame(protocol: u8, way: char, l4: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        l4.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    let l4: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 20 + l4.len() as u8, 0, 1, 0, 0, 64, protocol, 0, 0]);
    let (client, server) = ([10, 1, 0, 2], [10, 2, 0, 2]);
    frame.extend(if way == '>' { [client, server] } else { [server, client] }.concat());
    let sum = sluice_wire::checksum::plain(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
    frame.extend(l4);
    frame
}

fn tcp(way: char, flags: &str, seq: u32, ack: u32, expected: &'static str) -> Step {
    let ports = if way == '>' { "04000050" } else { "00500400" };
    (way, format!("{ports} {seq:08x} {ack:08x} 50{flags} 2000 00000000"), expected)
}

/// Chunks in hexadecimal digits, each with its length.
fn sctp(way: char, tag: u32, chunks: &str, expected: &'static str) -> Step {
    let ports = if way == '>' { "04000050" } else { "00500400" };
    (way, format!("{ports} {tag:08x} 00000000 {chunks}"), expected)
}

/// INIT or INIT-ACK with an initiate tag.
fn opening(kind: u8, tag: u32) -> String {
    format!("{kind:02x}000014 {tag:08x} 000000000000000000000000")
}

const HEARTBEAT: &str = "04000004";
const HEARTBEAT_ACK: &str = "05000004";
const COOKIE_ECHO: &str = "0a000004";
const COOKIE_ACK: &str = "0b000004";
const SACK: &str = "03000004";

#[test]
fn a_flow_picked_up_in_the_middle_stays_liberal_when_its_ends_begin_anew() {
    let line = play(
        TCP,
        &[
            tcp('>', "10", 1000, 0, "new"),
            tcp('>', "02", 1001, 0, "new"),
            tcp('<', "12", 5000, 1002, "established"),
            // Of what was never sent.
            tcp('<', "10", 5001, 2000, "established"),
        ],
    );
    assert!(line.contains(" SYN_RECV "), "{line}");
}

#[test]
fn a_reset_that_acknowledges_what_was_let_through_closes_even_from_the_same_side() {
    let line = play(
        TCP,
        &[
            tcp('>', "02", 1000, 0, "new"),
            // Perhaps a challenge: it belongs to another connection.
            tcp('<', "10", 5000, 1001, "established"),
            tcp('<', "14", 0, 5000, "established"),
        ],
    );
    assert!(line.contains(" CLOSE "), "{line}");
}

#[test]
fn udp_lite_is_a_stream_as_soon_as_it_was_answered() {
    let there = || ('>', "00010002 0008 1234".to_owned(), "new");
    let back = || ('<', "00020001 0008 1234".to_owned(), "established");
    assert!(!play(UDPLITE, &[there(), back()]).contains("[ASSURED]"));
    let line = play(UDPLITE, &[there(), back(), back()]);
    assert!(line.contains(" 120 ") && line.contains("[ASSURED]"), "{line}");
}

#[test]
fn pptp_that_is_too_short_for_its_call_id_is_tracked_by_addresses() {
    let line = play(GRE, &[('>', "3001 880b 0004 00".into(), "new")]);
    assert!(line.contains("srckey=0x0 dstkey=0x0 [UNREPLIED]"), "{line}");
}

#[test]
fn an_answered_heartbeat_assures_an_association() {
    let line = play(SCTP, &[sctp('>', 5, HEARTBEAT, "new"), sctp('<', 6, HEARTBEAT_ACK, "established")]);
    assert!(line.contains(" ESTABLISHED ") && line.contains("[ASSURED]"), "{line}");
}

#[test]
fn what_is_bundled_behind_a_cookie_ack_does_not_keep_the_association_from_being_assured() {
    let line = play(
        SCTP,
        &[
            sctp('>', 0, &opening(1, 7), "new"),
            sctp('<', 7, &opening(2, 8), "established"),
            sctp('>', 8, COOKIE_ECHO, "established"),
            sctp('<', 7, &format!("{COOKIE_ACK} 09000004"), "established"),
        ],
    );
    assert!(line.contains(" ESTABLISHED ") && line.contains("[ASSURED]"), "{line}");
}

#[test]
fn what_chunks_in_front_of_an_invalid_one_did_they_did() {
    let line = play(
        SCTP,
        &[
            sctp('>', 0, &opening(1, 7), "new"),
            sctp('<', 7, &opening(2, 8), "established"),
            // An ABORT with its sender's own tag, and a heartbeat's answer that nobody asked for.
            sctp('<', 8, &format!("06010004 {HEARTBEAT_ACK}"), "invalid"),
        ],
    );
    assert!(line.contains(" CLOSED src="), "{line}");
}

#[test]
fn packets_of_sctp_that_begin_nothing() {
    for (name, tag, chunks) in [
        ("an INIT that ends before its parameters", 0, "01000008 00000007".to_owned()),
        ("a chunk without a length", 5, format!("{HEARTBEAT} 03000000")),
        ("COOKIE-ECHO with a tag, and a heartbeat's answer", 5, format!("{COOKIE_ECHO} {HEARTBEAT_ACK}")),
    ] {
        assert_eq!(play(SCTP, &[sctp('>', tag, &chunks, "invalid")]), "", "{name}");
    }
}

/// Out of the blue, a heartbeat tells the tag of its own direction, and a SHUTDOWN-ACK that of the answer.
#[test]
fn what_a_first_packet_of_sctp_tells_of_tags() {
    for (name, first, there, back) in [
        ("heartbeat, error", format!("{HEARTBEAT} 09000004"), 5, 0),
        ("error, heartbeat", format!("09000004 {HEARTBEAT}"), 5, 0),
        ("heartbeat, shutdown-ack", format!("{HEARTBEAT} 08000004"), 5, 5),
    ] {
        for (way, tag, expected) in [('>', there, "new"), ('<', back, "established")] {
            let wrong = sctp(way, tag ^ 1, SACK, "invalid");
            println!("{name}, {way}");
            play(SCTP, &[sctp('>', 5, &first, "new"), wrong, sctp(way, tag, SACK, expected)]);
        }
    }
}

#[test]
fn an_init_that_comes_again_lets_no_other_association_in() {
    let opened = |again| {
        vec![
            sctp('>', 0, &opening(1, 7), "new"),
            sctp('<', 7, &opening(2, 8), "established"),
            sctp('<', 7, COOKIE_ACK, "established"),
            sctp('>', 0, &opening(1, again), "established"),
        ]
    };
    for (again, expected) in [(7, "invalid"), (9, "established")] {
        let mut steps = opened(again);
        steps.push(sctp('<', again, &opening(2, 3), expected));
        play(SCTP, &steps);
    }
}
