//! Packets from one family to the other and back, header by header, with what cannot be translated.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::build::{self, Datagram, IcmpError, Link, Tcp};
use crate::samples::{between, built, hex, packet};
use crate::{Checksum, Parsed, parse, quoted, verify};

const V4: (&str, &str) = ("198.51.100.7", "192.0.2.33");
const V6: (&str, &str) = ("64:ff9b::198.51.100.7", "64:ff9b::192.0.2.33");
const PREFIX: Pref64 = Pref64::WELL_KNOWN;
const CUT: Cut = Cut { id: 77, in_fragments: false };

/// The frame translated, behind `room` bytes of nothing, and what is said of it.
fn translated(frame: &[u8], room: usize, cut: Cut) -> Result<(Vec<u8>, Packet), Refusal> {
    let mut buffer = [&vec![0; room], frame].concat();
    let mut packet = packet(frame);
    let start = room as u16;
    let start = match packet.family() {
        Family::V4 => to_ipv6(&mut buffer, start, &mut packet, &PREFIX)?,
        Family::V6 => to_ipv4(&mut buffer, start, &mut packet, &PREFIX, cut)?,
    };
    let frame = buffer[usize::from(start)..usize::from(start) + usize::from(packet.end)].to_vec();
    Ok((frame, packet))
}

/// The same, and what is said of it is what parsing says.
fn good(frame: &[u8]) -> (Vec<u8>, Packet) {
    let (frame, told) = translated(frame, ROOM, CUT).unwrap();
    let parsed = packet(&frame);
    assert_eq!(Packet { dont_fragment: told.dont_fragment, ..parsed }, told);
    assert_eq!(verify(&parsed, &frame), Checksum::Good);
    (frame, told)
}

fn datagram((src, dst): (&str, &str), vlan: Option<u16>) -> Datagram {
    let datagram = between(src, dst);
    Datagram { link: Link { vlan, ..datagram.link }, tos: 0xb9, ttl: 17, ..datagram }
}

/// One of each kind that is translated.
fn kinds(ends: (&str, &str), vlan: Option<u16>) -> Vec<(&'static str, Vec<u8>)> {
    let datagram = datagram(ends, vlan);
    let (request, reply) = if ends == V4 { (8, 0) } else { (128, 129) };
    vec![
        ("tcp", built(|out| build::tcp(out, &datagram, (5, 6), Tcp::default(), b"abcde"))),
        ("udp", built(|out| build::udp(out, &datagram, (5, 6), b"abc"))),
        ("udp, long", built(|out| build::udp(out, &datagram, (5, 6), &[7; 1400]))),
        ("echo", built(|out| build::icmp_echo(out, &datagram, (request, 0), (5, 1), b"abc"))),
        ("echo reply", built(|out| build::icmp_echo(out, &datagram, (reply, 0), (5, 1), b""))),
    ]
}

#[test]
fn each_kind_becomes_what_its_sender_would_have_sent() {
    for vlan in [None, Some(7)] {
        for ((name, v4), (_, v6)) in kinds(V4, vlan).into_iter().zip(kinds(V6, vlan)) {
            assert_eq!(good(&v4).0, v6, "{name}");
            let (back, told) = good(&v6);
            // Built ones have Don't Fragment and no identification.
            let long = name == "udp, long";
            assert_eq!(told.dont_fragment, long, "{name}");
            let l3 = usize::from(told.l3);
            let (id, word) = (&back[l3 + 4..l3 + 6], &back[l3 + 6..l3 + 8]);
            assert_eq!(
                (id, word),
                if long { (&[0, 0][..], &[0x40, 0][..]) } else { (&[0, 77][..], &[0, 0][..]) }
            );
            assert_eq!((&back[..l3], &back[l3 + 12..]), (&v4[..l3], &v4[l3 + 12..]), "{name}");
        }
    }
}

#[test]
fn what_leaves_in_fragments_may_be_cut_further() {
    let (_, v6) = kinds(V6, None).swap_remove(2);
    let (_, told) = translated(&v6, 0, Cut { in_fragments: true, ..CUT }).unwrap();
    assert!(!told.dont_fragment);
}

#[test]
fn dont_fragment_is_remembered() {
    let (_, mut v4) = kinds(V4, None).swap_remove(1);
    assert!(translated(&v4, ROOM, CUT).unwrap().1.dont_fragment);
    v4[20] = 0;
    v4[24..26].fill(0);
    let sum = checksum::plain(&v4[14..34]);
    v4[24..26].copy_from_slice(&sum);
    assert!(!translated(&v4, ROOM, CUT).unwrap().1.dont_fragment);
}

#[test]
fn udp_without_a_checksum_gets_one() {
    let (_, mut v4) = kinds(V4, None).swap_remove(1);
    v4[40..42].fill(0);
    assert_eq!(good(&v4).0, kinds(V6, None).swap_remove(1).1);
}

#[test]
fn a_bad_checksum_stays_bad() {
    for ends in [V4, V6] {
        for (name, mut frame) in kinds(ends, None) {
            let last = frame.len() - 1;
            frame[last] ^= 1;
            let (frame, told) = translated(&frame, ROOM, CUT).unwrap();
            assert_eq!(verify(&told, &frame), Checksum::Bad, "{name}");
        }
    }
}

#[test]
fn extension_headers_and_options_end_here() {
    let udp = "0005000600080000";
    for (name, frame, expected) in [
        ("destination options", v6_of(60, &format!("1100010400000000 {udp}")), Ok(())),
        ("a routing header that is done", v6_of(43, &format!("1100020000000000 {udp}")), Ok(())),
        ("a routing header", v6_of(43, &format!("1100020100000000 {udp}")), Err(Refusal::Options)),
        (
            "a routing header behind others",
            v6_of(60, &format!("2b00010400000000 1100020100000000 {udp}")),
            Err(Refusal::Options),
        ),
        ("an atomic fragment", v6_of(44, &format!("1100000000000005 {udp}")), Ok(())),
        ("a fragment", v6_of(44, &format!("1100000100000005 {udp}")), Err(Refusal::Incomplete)),
        ("no operation", v4_of(&["01010100"], udp), Ok(())),
        ("a source route", v4_of(&["83070400000000 00"], udp), Err(Refusal::Options)),
    ] {
        let found = translated(&frame, ROOM, CUT);
        assert_eq!(found.as_ref().map(|_| ()).map_err(|refusal| *refusal), expected, "{name}");
        if let Ok((frame, told)) = found {
            assert_eq!((told.ports(), told.options), (Some((5, 6)), false), "{name}");
            assert_eq!(packet(&frame).end as usize, frame.len(), "{name}");
        }
    }
}

fn v6_of(next: u8, payload: &str) -> Vec<u8> {
    built(|out| build::other(out, &between(V6.0, V6.1), Protocol(next), &hex(payload)))
}

fn v4_of(options: &[&str], payload: &str) -> Vec<u8> {
    let options = hex(&options.concat());
    let mut frame = built(|out| {
        build::other(out, &between(V4.0, V4.1), Protocol::UDP, &[&options[..], &hex(payload)].concat())
    });
    frame[14] += (options.len() / 4) as u8;
    frame[24..26].fill(0);
    let sum = checksum::plain(&frame[14..34 + options.len()]);
    frame[24..26].copy_from_slice(&sum);
    frame
}

#[test]
fn refused() {
    let elsewhere = between("2001:db8::1", V6.1);
    let esp = |ends: (&str, &str)| {
        built(|out| build::other(out, &between(ends.0, ends.1), Protocol::ESP, b"abcdefgh"))
    };
    let timestamp = built(|out| build::icmp_echo(out, &between(V4.0, V4.1), (13, 0), (5, 1), &[0; 12]));
    let solicitation = built(|out| build::icmp_echo(out, &between(V6.0, V6.1), (135, 0), (5, 1), &[0; 16]));
    let longest = built(|out| build::udp(out, &between(V6.0, V6.1), (5, 6), &[0; 65_400]));
    for (name, frame, room, expected) in [
        ("another prefix", built(|out| build::udp(out, &elsewhere, (5, 6), b"")), 0, Refusal::Address),
        ("esp", esp(V4), ROOM, Refusal::Protocol),
        ("esp over v6", esp(V6), 0, Refusal::Protocol),
        ("a timestamp request", timestamp, ROOM, Refusal::Message),
        ("neighbour discovery", solicitation, 0, Refusal::Message),
        ("a buffer without room", kinds(V4, None).swap_remove(1).1, 19, Refusal::NoRoom),
    ] {
        assert_eq!(translated(&frame, room, CUT).unwrap_err(), expected, "{name}");
    }
    // What fits IPv6 fits IPv4, whose header is shorter.
    assert!(translated(&longest, 0, CUT).is_ok());
    let longest = built(|out| build::udp(out, &between(V4.0, V4.1), (5, 6), &[0; 65_490]));
    assert_eq!(translated(&longest, ROOM, CUT).unwrap_err(), Refusal::TooLong);
}

/// An error about a packet of each kind, sent by the router of `ends` that the packet came to.
fn errors(ends: (&str, &str), error: IcmpError) -> Vec<(&'static str, Vec<u8>)> {
    let router: IpAddr = ends.1.parse().unwrap();
    let about = |(name, frame): (&'static str, Vec<u8>)| {
        let inner = packet(&frame);
        let link = Link::answering(&inner, &frame);
        (name, built(|out| build::icmp_error(out, link, router, error, (&inner, &frame))))
    };
    kinds(ends, None).into_iter().map(about).collect()
}

#[test]
fn errors_quote_what_the_receiver_sent() {
    for (ends, error, other) in
        [(V4, IcmpError::port_unreachable(Family::V4), V6), (V6, IcmpError::port_unreachable(Family::V6), V4)]
    {
        for ((name, frame), (_, sent)) in errors(ends, error).into_iter().zip(kinds(other, None)) {
            let (frame, told) = good(&frame);
            assert_eq!(told.addrs, between(other.1, other.0).addrs, "{name}");
            let quote = quoted(&told, &frame).unwrap();
            assert_eq!(quote.addrs, between(other.0, other.1).addrs, "{name}");
            assert_eq!(quote.transport, packet(&sent).transport, "{name}");
            if name != "udp, long" {
                let whole = [&sent[..14], &frame[quote.l3.into()..quote.end.into()]].concat();
                let Ok(Parsed::Ip(again)) = parse(&whole) else { panic!("{name}") };
                assert_eq!(verify(&again, &whole), Checksum::Good, "{name}: the quote's own");
            }
            assert!(other == V4 || told.length() <= 1280, "{name}");
        }
    }
}

#[test]
fn what_errors_say() {
    // Types, codes and the four bytes behind: RFC 7915 sections 4.2 and 5.2.
    for (v4, expected) in [
        ((3, 0, 0), Some((1, 0, 0))),
        ((3, 1, 0), Some((1, 0, 0))),
        ((3, 2, 0), Some((4, 1, 6))),
        ((3, 3, 0), Some((1, 4, 0))),
        ((3, 4, 1400), Some((2, 0, 1420))),
        ((3, 4, 576), Some((2, 0, 1280))),
        ((3, 4, 0), Some((2, 0, 1280))),
        ((3, 5, 0), Some((1, 0, 0))),
        ((3, 9, 0), Some((1, 1, 0))),
        ((3, 10, 0), Some((1, 1, 0))),
        ((3, 12, 0), Some((1, 0, 0))),
        ((3, 13, 0), Some((1, 1, 0))),
        ((3, 14, 0), None),
        ((3, 15, 0), Some((1, 1, 0))),
        ((4, 0, 0), None),
        ((5, 1, 0x0a00_0001), None),
        ((11, 0, 0), Some((3, 0, 0))),
        ((11, 1, 0), Some((3, 1, 0))),
        ((12, 0, 8 << 24), Some((4, 0, 7))),
        ((12, 0, 16 << 24), Some((4, 0, 24))),
        ((12, 0, 4 << 24), None),
        ((12, 1, 0), None),
    ] {
        let (kind, code, rest) = v4;
        let (_, frame) = errors(V4, IcmpError { kind, code, rest }).swap_remove(1);
        assert_eq!(said(&frame), expected, "{v4:?}");
    }
    for (v6, expected) in [
        ((1, 0, 0), Some((3, 1, 0))),
        ((1, 1, 0), Some((3, 10, 0))),
        ((1, 2, 0), Some((3, 1, 0))),
        ((1, 3, 0), Some((3, 1, 0))),
        ((1, 4, 0), Some((3, 3, 0))),
        ((1, 5, 0), None),
        ((2, 0, 1400), Some((3, 4, 1380))),
        ((3, 0, 0), Some((11, 0, 0))),
        ((4, 0, 7), Some((12, 0, 8 << 24))),
        ((4, 0, 30), Some((12, 0, 16 << 24))),
        ((4, 0, 40), None),
        ((4, 1, 6), Some((3, 2, 0))),
        ((4, 2, 40), None),
    ] {
        let (kind, code, rest) = v6;
        let (_, frame) = errors(V6, IcmpError { kind, code, rest }).swap_remove(1);
        assert_eq!(said(&frame), expected, "{v6:?}");
    }
}

/// Type, code and the four bytes behind the checksum of the translated error.
fn said(frame: &[u8]) -> Option<(u8, u8, u32)> {
    let (frame, told) = match translated(frame, ROOM, CUT) {
        Err(Refusal::Message) => return None,
        other => other.unwrap(),
    };
    let message = told.segment(&frame);
    Some((message[0], message[1], u32::from_be_bytes(*message[4..].first_chunk().unwrap())))
}

#[test]
fn a_router_without_an_mtu_is_taken_by_its_plateau() {
    let (_, frame) = errors(V4, IcmpError { kind: 3, code: 4, rest: 0 }).into_iter().nth(2).unwrap();
    // A packet of 1428 bytes did not fit: the next plateau below is 1006, and IPv6 knows nothing below 1280.
    assert_eq!(said(&frame), Some((2, 0, 1280)));
}

#[test]
fn extensions_of_errors_are_left_out() {
    for (ends, rest, unit) in [(V4, 0x0020_0000, 4), (V6, 0x1000_0000, 8)] {
        let error = IcmpError { rest, ..IcmpError::ttl_exceeded(between(ends.0, ends.1).addrs.family()) };
        let (_, frame) = errors(ends, error).swap_remove(2);
        let (frame, told) = good(&frame);
        let quote = quoted(&told, &frame).unwrap();
        let lengths = if ends == V4 { (40, 20) } else { (20, 40) };
        let quoted = usize::from(quote.end - quote.l3);
        let units = if unit == 4 { 0x20 } else { 0x10 };
        assert_eq!(quoted, units * unit + lengths.0 - lengths.1, "{ends:?}");
    }
}

#[test]
fn an_error_with_a_bad_checksum_is_not_mended() {
    for ends in [V4, V6] {
        let family = between(ends.0, ends.1).addrs.family();
        let (_, mut frame) = errors(ends, IcmpError::port_unreachable(family)).swap_remove(1);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert_eq!(translated(&frame, ROOM, CUT).unwrap_err(), Refusal::Checksum);
    }
}

/// As the engine has it that was put together: the frame begins with its IP header, an Ethernet header right before.
#[test]
fn a_datagram_without_an_ethernet_header_of_its_own() {
    for (ends, other) in [(V4, V6), (V6, V4)] {
        let (_, frame) = kinds(ends, None).swap_remove(1);
        let mut buffer = [&[0; ROOM], &frame[..]].concat();
        let start = (ROOM + 14) as u16;
        let whole = packet(&frame);
        let mut told = Packet { l3: 0, l4: whole.l4 - 14, end: whole.end - 14, ..whole };
        let start = match told.family() {
            Family::V4 => to_ipv6(&mut buffer, start, &mut told, &PREFIX),
            Family::V6 => to_ipv4(&mut buffer, start, &mut told, &PREFIX, CUT),
        };
        let start = usize::from(start.unwrap());
        let again = &buffer[start - 14..start + usize::from(told.end)];
        assert_eq!(packet(again).addrs, between(other.0, other.1).addrs);
        assert_eq!((told.l3, &again[..12]), (0, &frame[..12]));
        assert_eq!(verify(&packet(again), again), Checksum::Good);
    }
}

proptest! {
    #[test]
    fn there_and_back_is_the_same(
        payload in proptest::collection::vec(any::<u8>(), 0..1500),
        ports in any::<(u16, u16)>(),
        addresses in any::<(u32, u32)>(),
        tcp in any::<bool>(),
    ) {
        let addrs = Addrs::V4 { src: addresses.0.into(), dst: addresses.1.into() };
        let datagram = Datagram { addrs, ..Datagram::default() };
        let frame = built(|out| match tcp {
            true => build::tcp(out, &datagram, ports, Tcp::default(), &payload),
            false => build::udp(out, &datagram, ports, &payload),
        });
        let (v6, _) = good(&frame);
        let (again, _) = translated(&v6, 0, Cut { id: 0, in_fragments: false }).unwrap();
        prop_assert_eq!(&again[26..], &frame[26..]);
        prop_assert_eq!(packet(&again).transport, packet(&frame).transport);
    }

    #[test]
    fn whatever_the_bytes_are(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        next in prop::sample::select(vec![0u8, 1, 6, 17, 43, 44, 58, 60]),
        v6 in any::<bool>(),
        room in 0..60usize,
    ) {
        let ends = if v6 { V6 } else { V4 };
        let frame = built(|out| build::other(out, &between(ends.0, ends.1), Protocol(next), &bytes));
        if let Ok(Parsed::Ip(packet)) = parse(&frame)
            && let Ok((again, told)) = translated(&frame, room, CUT)
        {
            prop_assert_ne!(told.family(), packet.family());
            let Ok(Parsed::Ip(parsed)) = parse(&again) else { panic!("{again:x?}") };
            prop_assert_eq!((parsed.l3, parsed.l4, parsed.end), (told.l3, told.l4, told.end));
        }
    }
}
