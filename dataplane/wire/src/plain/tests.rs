//! What is said of a frame in one look is what the parser says of it.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::packet::{Packet, Parsed};
use crate::rewrite::{Translation, decrement_ttl};
use crate::samples::{between, built};
use crate::{LinkCast, build, parse, verify};

fn plain<A: PlainAddress>(frame: &[u8]) -> Option<Plain<A>> {
    let is_plain = A::is_plain(frame, false);
    let plain = Plain::read(frame).filter(|_| is_plain);
    assert_eq!(plain.is_some(), is_plain);
    let right = plain.is_some_and(|plain| plain.verify(frame) != Checksum::Bad);
    assert_eq!(A::is_plain(frame, true), right);
    plain
}

/// Compares all that is said of a frame; whether it was plain.
fn compare(frame: &[u8]) -> bool {
    let (v4, v6) = (plain::<u32>(frame), plain::<u128>(frame));
    let Ok(Parsed::Ip(packet)) = parse(frame) else {
        assert!(v4.is_none() && v6.is_none(), "{frame:02x?}");
        return false;
    };
    let packet = Packet { cast: LinkCast::Unicast, ..packet };
    if let Some(plain) = v4 {
        together(plain, &packet, frame);
    }
    if let Some(plain) = v6 {
        together(plain, &packet, frame);
    }
    v4.is_some() || v6.is_some()
}

/// What is done with the frame, done both ways.
fn together<A: PlainAddress>(plain: Plain<A>, packet: &Packet, frame: &[u8]) {
    assert_eq!(plain.packet(frame), *packet, "{frame:02x?}");
    assert_eq!(plain.verify(frame), verify(packet, frame), "{frame:02x?}");
    let (here, there) = (plain.segment(frame), Segment::of(packet, frame));
    if plain.protocol == Protocol::TCP {
        assert_eq!(format!("{here:?}"), format!("{there:?}"));
    }
    if plain.ttl > 0 {
        let (mut one, mut other, mut packet) = (frame.to_vec(), frame.to_vec(), *packet);
        A::forward(&mut one, &[9; 12]);
        decrement_ttl(&mut other, &mut packet);
        other[..12].fill(9);
        assert_eq!(one, other);
    }
}

fn udp(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    built(|out| build::udp(out, &between(src, dst), (5000, 53), payload))
}

fn tcp(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    built(|out| build::tcp(out, &between(src, dst), (5000, 80), build::Tcp::default(), payload))
}

#[test]
fn ordinary_frames_are_plain() {
    for (src, dst) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
        for length in [0, 1, 18, 999, 1400] {
            let payload = vec![7; length];
            let padded = [udp(src, dst, &payload), vec![0; 20]].concat();
            assert!(
                compare(&udp(src, dst, &payload)) && compare(&tcp(src, dst, &payload)) && compare(&padded)
            );
        }
    }
}

#[test]
fn what_is_unusual_is_left_to_the_parser() {
    let udp = udp("10.1.0.2", "10.2.0.2", b"query");
    let tcp = tcp("10.1.0.2", "10.2.0.2", b"query");
    let with = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        // The header's checksum holds again, so that it is not what is found wrong.
        frame[24..26].fill(0);
        let sum = checksum::plain(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum);
        frame
    };
    for (name, frame) in [
        ("cut", udp[..41].to_vec()),
        ("another version", with(&udp, 14, 0x55)),
        ("options", with(&udp, 14, 0x46)),
        ("more fragments", with(&udp, 20, 0x20)),
        ("a fragment's offset", with(&udp, 21, 1)),
        ("the reserved flag", with(&udp, 20, 0x80)),
        ("longer than the frame", with(&udp, 17, 200)),
        ("shorter than its headers", with(&udp, 17, 24)),
        ("another protocol", with(&udp, 23, 132)),
        ("udp's length lies", with(&udp, 39, 7)),
        ("no flags", with(&tcp, 47, 0)),
        ("tcp's offset lies", with(&tcp, 46, 0x40)),
    ] {
        assert!(!compare(&frame), "{name}");
    }
    let mut broken = udp;
    broken[24] ^= 1;
    assert!(!compare(&broken), "the header's checksum");
}

#[test]
fn ordinary_addresses_are_no_martians() {
    let ends = ["10.2.0.2", "192.0.2.1", "223.255.255.255", "1.0.0.0", "126.0.0.1", "128.0.0.1"];
    let others = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "0.1.2.3"];
    let v4 = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
    assert!(
        ends.into_iter().all(|end| v4(end).is_ordinary())
            && !others.into_iter().any(|end| v4(end).is_ordinary())
    );
    let v6 = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
    for (text, ordinary) in
        [("2001:db8::1", true), ("3fff::1", true), ("fd00::1", true), ("::1", false), ("::", false)]
    {
        assert_eq!(v6(text).is_ordinary(), ordinary, "{text}");
    }
    for text in ["fe80::1", "ff02::1", "4000::1", "::ffff:10.0.0.1"] {
        assert!(!v6(text).is_ordinary(), "{text}");
    }
}

proptest! {
    /// Frames of all kinds with some bytes changed, the header's checksum made good now and then.
    #[test]
    fn the_parser_says_the_same(
        family in any::<bool>(),
        protocol in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        changes in proptest::collection::vec((0usize..62, any::<u8>()), 0..3),
        cut in 0usize..20,
        mend in any::<bool>(),
    ) {
        let (src, dst) = if family { ("fd00:1::2", "fd00:2::2") } else { ("10.1.0.2", "10.2.0.2") };
        let mut frame = if protocol { tcp(src, dst, &payload) } else { udp(src, dst, &payload) };
        frame.truncate(frame.len() - cut.min(8) * usize::from(cut > 12));
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if mend && !family && frame.len() >= 34 {
            frame[24..26].fill(0);
            let sum = checksum::plain(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum);
        }
        compare(&frame);
    }

    /// Any ends for any ends, over checksums that hold, are absent, or are neither.
    #[test]
    fn other_ends_are_given_as_the_translation_does(
        (family, protocol) in any::<(bool, bool)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        old in any::<[u32; 8]>(),
        new in any::<[u32; 8]>(),
        (sport, dport) in any::<(u16, u16)>(),
        sum in prop_oneof![Just(None), Just(Some(0)), any::<u16>().prop_map(Some)],
        same in any::<bool>(),
    ) {
        let ([a, b], [c, d]) = match family {
            false => ([old[0], old[1]].map(address_v4), [new[0], new[1]].map(address_v4)),
            true => ([&old[..4], &old[4..]].map(address_v6), [&new[..4], &new[4..]].map(address_v6)),
        };
        let (c, ports) = if same { (a, (5000, 53)) } else { (c, (sport, dport)) };
        let ends = (a.to_string(), b.to_string());
        let mut frame = match protocol {
            false => udp(&ends.0, &ends.1, &payload),
            true => tcp(&ends.0, &ends.1, &payload),
        };
        let l4 = if family { u128::L4 } else { u32::L4 };
        let checksum = l4 + if protocol { tcp::CHECKSUM } else { UDP_CHECKSUM };
        if let Some(sum) = sum {
            frame[checksum..checksum + 2].copy_from_slice(&u16::to_be_bytes(sum));
        }
        let (mut one, mut other) = (frame.clone(), frame.clone());
        let mut packet = match family {
            false => Plain::<u32>::read(&frame).unwrap().packet(&frame),
            true => Plain::<u128>::read(&frame).unwrap().packet(&frame),
        };
        let old = (packet.addrs, packet.ports().unwrap());
        let new = match (c, d) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                u32::readdress(&mut one, packet.protocol, (src.to_bits(), dst.to_bits()), ports);
                Addrs::V4 { src, dst }
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                u128::readdress(&mut one, packet.protocol, (src.to_bits(), dst.to_bits()), ports);
                Addrs::V6 { src, dst }
            }
            _ => unreachable!(),
        };
        Translation::new(old, (new, ports)).apply(&mut other, &mut packet);
        prop_assert_eq!(one, other);
    }
}

fn address_v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn address_v6(bits: &[u32]) -> IpAddr {
    Ipv6Addr::from_bits(bits.iter().fold(0, |all, word| all << 32 | u128::from(*word))).into()
}
