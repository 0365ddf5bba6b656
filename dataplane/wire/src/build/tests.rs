//! What the router answers, against recordings of what the kernel answers.

use super::*;
use crate::samples::{between, built, frame, hex, packet, v4, v6};
use crate::{Checksum, Fragment, TcpFlags, Transport, checksum, icmp, quoted, verify};

/// Bytes of the IP datagram in a frame.
fn datagram(frame: &[u8]) -> &[u8] {
    packet(frame).datagram(frame)
}

fn error(source: &str, error: IcmpError, asked: &[u8]) -> Vec<u8> {
    let packet = packet(asked);
    let link = Link::answering(&packet, asked);
    built(|out| icmp_error(out, link, source.parse().unwrap(), error, (&packet, asked)))
}

/// Recorded: `ipv6-ext/hbh-unknown-option`, but for the flow label, which a router may choose.
#[test]
fn ipv6_error_as_recorded() {
    let asked = frame(
        "600000000011004 0fd000001000000000000000000000002fd000002000000000000000000000002\
         11009e0400000000138800350009811671"
            .replace(' ', "")
            .as_str(),
    );
    let problem = IcmpError::parameter_problem(crate::Family::V6, icmp::v6::UNKNOWN_OPTION, 42);
    let answer = error("fd00:1::1", problem, &asked);
    let expected = "6000000000413a40fd000001000000000000000000000001fd000001000000000000000000000002\
                    0402f2150000002a6000000000110040fd000001000000000000000000000002\
                    fd00000200000000000000000000000211009e0400000000138800350009811671";
    assert_eq!(datagram(&answer), hex(expected));
    assert_eq!(
        (crate::destination(&answer), crate::source(&answer)),
        (crate::source(&asked), crate::destination(&asked))
    );
}

#[test]
fn quotes_are_as_long_as_the_family_allows() {
    for (src, dst, router, payload, expected) in [
        ("10.1.0.2", "10.2.0.2", "10.1.0.1", 100, 20 + 8 + 20 + 8 + 100),
        ("10.1.0.2", "10.2.0.2", "10.1.0.1", 1400, 576),
        ("fd00:1::2", "fd00:2::2", "fd00:1::1", 100, 40 + 8 + 40 + 8 + 100),
        ("fd00:1::2", "fd00:2::2", "fd00:1::1", 1400, 1280),
    ] {
        let asked = built(|out| udp(out, &between(src, dst), (5000, 53), &vec![7; payload]));
        let family = packet(&asked).family();
        let answer = error(router, IcmpError::too_big(family, 1280), &asked);
        let parsed = packet(&answer);
        assert_eq!(usize::from(parsed.length()), expected, "{src} {payload}");
        assert_eq!(verify(&parsed, &answer), Checksum::Good);
        let quote = quoted(&parsed, &answer).unwrap();
        assert_eq!(
            (quote.addrs, quote.transport),
            (packet(&asked).addrs, Transport::Udp { sport: 5000, dport: 53 })
        );
        assert_eq!(&answer[usize::from(parsed.l4) + 4..usize::from(parsed.l4) + 8], [0, 0, 5, 0], "the MTU");
    }
}

#[test]
fn what_may_be_answered() {
    let ttl = IcmpError::ttl_exceeded(crate::Family::V4);
    let big = IcmpError::too_big(crate::Family::V6, 1280);
    let hop = IcmpError::ttl_exceeded(crate::Family::V6);
    let of = |src: &str, dst: &str| built(|out| udp(out, &between(src, dst), (1, 2), b""));
    let to_all = |mut frame: Vec<u8>, destination: u8| {
        frame[..6].fill(destination);
        frame
    };
    let later = {
        let mut frame = v4(17, "0000000000000000");
        frame[20..22].copy_from_slice(&[0, 1]);
        let sum = [frame[14..24].to_vec(), vec![0, 0], frame[26..34].to_vec()].concat();
        frame[24..26].copy_from_slice(&checksum::plain(&sum));
        frame
    };
    for (name, frame, error, expected) in [
        ("udp", of("10.1.0.2", "10.2.0.2"), ttl, true),
        ("echo", v4(1, "0800f7fe00010000"), ttl, true),
        ("an error", v4(1, "0301000000000000"), ttl, false),
        ("a redirect", v4(1, "0501000000000000"), ttl, false),
        ("an icmp type that nobody uses", v4(1, "0601000000000000"), ttl, false),
        ("an unknown icmp type", v4(1, "2801000000000000"), ttl, false),
        ("icmp that cannot be read", v4(1, "0800"), ttl, false),
        ("from nobody", of("0.0.0.0", "10.2.0.2"), ttl, false),
        ("from everyone", of("255.255.255.255", "10.2.0.2"), ttl, false),
        ("from a group", of("224.0.0.9", "10.2.0.2"), ttl, false),
        ("to a group", of("10.1.0.2", "224.0.0.9"), ttl, false),
        ("to everyone", of("10.1.0.2", "255.255.255.255"), ttl, false),
        ("in an ethernet broadcast", to_all(of("10.1.0.2", "10.2.0.2"), 0xff), ttl, false),
        ("a later fragment", later, ttl, false),
        ("ipv6", of("fd00:1::2", "fd00:2::2"), hop, true),
        ("ipv6 from nobody", of("::", "fd00:2::2"), hop, false),
        ("ipv6 to a group", of("fd00:1::2", "ff05::2"), hop, false),
        ("ipv6 to a group, too big", of("fd00:1::2", "ff05::2"), big, true),
        ("ipv6 redirect", v6(58, "8900000000000000"), hop, false),
        ("ipv6 error", v6(58, "0100000000000000"), big, false),
    ] {
        assert_eq!(may_answer(&packet(&frame), error), expected, "{name}");
    }
}

#[test]
fn resets() {
    let flags = |all: &[TcpFlags]| all.iter().fold(TcpFlags::NONE, |all, flag| all.union(*flag));
    use TcpFlags as F;
    for (src, dst) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        for (name, sent, payload, expected) in [
            ("syn", flags(&[F::SYN]), &b""[..], (0, 1001, flags(&[F::RST, F::ACK]))),
            ("syn with data", flags(&[F::SYN]), b"abc", (0, 1004, flags(&[F::RST, F::ACK]))),
            ("fin without ack", flags(&[F::FIN]), b"abc", (0, 1004, flags(&[F::RST, F::ACK]))),
            ("ack", flags(&[F::ACK]), b"abc", (77, 0, F::RST)),
        ] {
            let segment = Tcp { flags: sent, seq: 1000, ack: 77, window: 1 };
            let asked = built(|out| tcp(out, &between(src, dst), (5, 6), segment, payload));
            let before = packet(&asked);
            let answer = built(|out| tcp_reset(out, Link::answering(&before, &asked), (&before, &asked)));
            let parsed = packet(&answer);
            let reset = crate::tcp::Segment::of(&parsed, &answer).unwrap();
            assert_eq!((reset.seq, reset.ack, reset.flags), expected, "{name}");
            assert_eq!((parsed.ports(), parsed.addrs), (Some((6, 5)), before.addrs.reversed()), "{name}");
            assert_eq!((verify(&parsed, &answer), reset.window), (Checksum::Good, 0), "{name}");
        }
    }
    let link = Datagram::default().link;
    let reset = built(|out| {
        tcp(out, &between("10.1.0.2", "10.2.0.2"), (5, 6), Tcp { flags: F::RST, ..Tcp::default() }, b"")
    });
    let mut out = [0; 100];
    assert_eq!(tcp_reset(&mut out, link, (&packet(&reset), &reset)), Err(BuildError::AnswersReset));
    let udp = v4(17, "0001000200080000");
    assert_eq!(tcp_reset(&mut out, link, (&packet(&udp), &udp)), Err(BuildError::NoSegment));
}

#[test]
fn too_little_room() {
    let datagram = between("10.1.0.2", "10.2.0.2");
    let mut out = [0; 44];
    assert_eq!(udp(&mut out, &datagram, (1, 2), b"abc"), Err(BuildError::NoRoom { need: 45, room: 44 }));
    assert_eq!(udp(&mut out, &datagram, (1, 2), b"ab"), Ok(44));
    assert_eq!(packet(&out).fragment, Fragment::Whole);
    let long = vec![0; 65508];
    assert_eq!(udp(&mut out, &datagram, (1, 2), &long), Err(BuildError::TooLong { length: 65536 }));
}
