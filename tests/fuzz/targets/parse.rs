//! Any frame: parsing it, and everything that takes a packet and its frame, must neither panic nor say what is not so.
//!
//! A frame that does not get past IPv4's header checksum gets a good one, so that the fuzzer need not find it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_wire::build::{self, IcmpError, Link};
use sluice_wire::options::{self, Record};
use sluice_wire::rewrite::{self, Translation};
use sluice_wire::split::Split;
use sluice_wire::tcp::Segment;
use sluice_wire::{
    Checksum, Packet, ParseError, Parsed, checksum, nd, parse, parse_datagram, quoted, verify,
};

fuzz_target!(|bytes: &[u8]| {
    let mut frame = bytes.to_vec();
    if parse(&frame) == Err(ParseError::Ipv4Checksum) {
        seal(&mut frame);
    }
    match parse(&frame) {
        Ok(Parsed::Ip(packet)) => {
            read(&packet, &frame);
            answer(&packet, &frame);
            split(&packet, &frame);
            change(packet, frame);
        }
        Ok(Parsed::Arp(arp)) => {
            let mut out = [0; 64];
            let length = build::arp_reply(&mut out, arp.target_mac, &arp).expect("room for an answer");
            assert!(matches!(parse(&out[..length]), Ok(Parsed::Arp(_))));
        }
        Ok(Parsed::Other(_)) | Err(_) => {}
    }
});

/// Makes the header checksum good, with or without a VLAN tag.
fn seal(frame: &mut [u8]) {
    let l3 = if frame[12..14] == [0x81, 0x00] { 18 } else { 14 };
    let length = usize::from(frame[l3] & 0xf) * 4;
    frame[l3 + 10..l3 + 12].fill(0);
    let sum = checksum::plain(&frame[l3..l3 + length]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&sum);
}

fn read(packet: &Packet, frame: &[u8]) {
    assert!(packet.l3 < packet.l4 && packet.l4 <= packet.end && usize::from(packet.end) <= frame.len());
    let back = sluice_wire::symmetric_toeplitz(&packet.addrs.reversed(), packet.ports().map(|(a, b)| (b, a)));
    assert_eq!(back, sluice_wire::symmetric_toeplitz(&packet.addrs, packet.ports()));
    let _ = (verify(packet, frame), nd::parse(packet, frame), sluice_wire::martian(&packet.addrs));
    let _ = (options::check_ipv4(packet, frame), options::hop_by_hop(packet, frame));
    if let Some(segment) = Segment::of(packet, frame) {
        assert!(segment.options().count() <= 40);
    }
    if let Some(quote) = quoted(packet, frame) {
        assert!(
            packet.l4 < quote.l3 && quote.l3 <= quote.l4 && quote.l4 <= quote.end && quote.end == packet.end
        );
    }
}

/// What the router answers is good, whatever it answers.
fn answer(packet: &Packet, frame: &[u8]) {
    let mut out = [0; 1500];
    let link = Link::answering(packet, frame);
    let error = IcmpError::too_big(packet.family(), 1280);
    let length = build::icmp_error(&mut out, link, packet.addrs.dst(), error, (packet, frame)).expect("room");
    good(&out[..length]);
    if let Ok(length) = build::tcp_reset(&mut out, link, (packet, frame)) {
        good(&out[..length]);
    }
}

fn good(frame: &[u8]) {
    let Ok(Parsed::Ip(packet)) = parse(frame) else { panic!("an answer that does not parse") };
    assert_eq!(packet.malformed, None);
    assert_eq!(verify(&packet, frame), Checksum::Good);
}

/// Fragments parse, and hold all of the datagram's payload.
fn split(packet: &Packet, frame: &[u8]) {
    let Some(split) = Split::of(packet, frame, 7) else { return };
    let mut out = vec![0; frame.len() + 64];
    let mut payload = 0;
    for piece in split.pieces(576) {
        let length = split.write(&mut out, piece).expect("room for a fragment");
        // A fragment of a fragment may end beyond what an offset can tell; reassembly refuses that.
        let (link, mut part) = ((packet.vlan, packet.cast), *packet);
        assert!(parse_datagram(&out[..length], packet.family(), link, &mut part).is_ok());
        payload += piece.1;
    }
    assert_eq!(payload, split.payload());
}

/// A packet that was changed still parses; and there and back is the same, if its checksum was good.
fn change(packet: Packet, mut frame: Vec<u8>) {
    let mut after = packet;
    rewrite::decrement_ttl(&mut frame, &mut after);
    let ours =
        Record { outgoing: [10, 2, 0, 1].into(), incoming: [10, 1, 0, 1].into(), milliseconds: 86_399_999 };
    options::fill_ipv4(&after, &mut frame, &ours);
    let there = Translation::new((packet.addrs, (1, 2)), (packet.addrs.reversed(), (3, 4)));
    if let Some(mut inner) = quoted(&after, &frame) {
        there.apply_quoted(&mut frame, &after, &mut inner);
    }
    let judged = verify(&after, &frame);
    let ports = match after.transport {
        sluice_wire::Transport::Icmp { id, .. } | sluice_wire::Transport::Icmpv6 { id, .. } => (id, 0),
        sluice_wire::Transport::Gre { call_id, .. } => (0, call_id),
        _ => after.ports().unwrap_or_default(),
    };
    let there = Translation::new((after.addrs, ports), (after.addrs.reversed(), (3, 4)));
    let back = Translation::new((after.addrs.reversed(), (3, 4)), (after.addrs, ports));
    there.apply(&mut frame, &mut after);
    assert!(parse(&frame).is_ok(), "a translated packet that does not parse");
    // What is malformed is INVALID, and never translated.
    if judged == Checksum::Good && after.malformed.is_none() {
        assert_eq!(verify(&after, &frame), Checksum::Good);
    }
    back.apply(&mut frame, &mut after);
    assert_eq!(after.addrs, packet.addrs);
    assert!(parse(&frame).is_ok());
}
