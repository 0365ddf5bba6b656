//! Frames by name, what they are, and why they are not.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::packet::{Fragment, Malformed, Packet, Transport};
use crate::samples::{MACS, built, frame, hex, packet, v4, v6};
use crate::{Checksum, Family, LinkCast, Protocol, TcpFlags, build, nd, options, quoted, verify};

/// UDP 5000 to 53 from 10.1.0.2 to 10.2.0.2.
const UDP: &str = "4500001d000100003f1167c90a0100020a020002 138800350009671871";

#[test]
fn whole_packet() {
    let mut bytes = frame(UDP);
    bytes.extend_from_slice(&[0; 17]); // Ethernet padding
    let packet = packet(&bytes);
    assert_eq!((packet.l3, packet.l4, packet.end), (14, 34, 43));
    assert_eq!(packet.transport, Transport::Udp { sport: 5000, dport: 53 });
    assert_eq!((packet.length(), packet.ttl, packet.vlan), (29, 63, None));
    assert_eq!(packet.addrs.src(), "10.1.0.2".parse::<IpAddr>().unwrap());
    assert_eq!((packet.fragment, packet.options, packet.malformed), (Fragment::Whole, false, None));
    assert_eq!(packet.cast, LinkCast::Unicast);
}

#[test]
fn vlan_tags() {
    for (tag, expected) in [
        ("8100 0064", Ok((Some(100), 18))),
        ("8100 e064", Ok((Some(100), 18))),
        ("8100 e000", Ok((None, 18))),
        ("8100 0fff", Err(ParseError::VlanReserved)),
    ] {
        let parsed = parse(&hex(&format!("{MACS} {tag} 0800 {UDP}")));
        let seen = parsed.map(|parsed| match parsed {
            Parsed::Ip(packet) => (packet.vlan, packet.l3),
            other => panic!("{other:?}"),
        });
        assert_eq!(seen, expected, "{tag}");
    }
    let double = hex(&format!("{MACS} 8100 0064 8100 0065 0800 {UDP}"));
    assert_eq!(parse(&double), Ok(Parsed::Other(EtherType::VLAN)));
    let provider = hex(&format!("{MACS} 88a8 0064 0800 {UDP}"));
    assert_eq!(parse(&provider), Ok(Parsed::Other(EtherType(0x88a8))));
}

#[test]
fn refused() {
    use ParseError::*;
    let cut = |text: &str, length: usize| hex(text)[..length].to_vec();
    let with = |mut bytes: Vec<u8>, at: usize, value: u8| {
        bytes[at] = value;
        bytes
    };
    let good4 = frame(UDP);
    let good6 = v6(17, "1388003500090000 71");
    for (name, bytes, expected) in [
        ("empty", vec![], EthernetShort),
        ("13 bytes", cut(MACS, 12), EthernetShort),
        ("half a tag", hex(&format!("{MACS} 8100 0064 08")), VlanShort),
        ("19 bytes of ipv4", good4[..33].to_vec(), Ipv4Short),
        ("version 5", with(good4.clone(), 14, 0x55), Ipv4Version),
        ("version 0", with(good4.clone(), 14, 0x05), Ipv4Version),
        ("ihl 4", with(good4.clone(), 14, 0x44), Ipv4HeaderLength),
        ("ihl 15 of 29 bytes", with(good4.clone(), 14, 0x4f), Ipv4HeaderBeyond),
        ("ihl 6 without options", with(good4.clone(), 14, 0x46), Ipv4Checksum),
        ("another ttl", with(good4.clone(), 22, 7), Ipv4Checksum),
        ("cut datagram", good4[..42].to_vec(), Ipv4LengthBeyond),
        ("total length 19", frame("45000013000100003f1167d30a0100020a020002"), Ipv4LengthBelowHeader),
        ("39 bytes of ipv6", good6[..53].to_vec(), Ipv6Short),
        ("version 4 in ipv6", with(good6.clone(), 14, 0x40), Ipv6Version),
        ("cut ipv6", good6[..62].to_vec(), Ipv6LengthBeyond),
        ("jumbogram", v6(0, ""), Ipv6Jumbo),
        ("hop-by-hop beyond", v6(0, "11ff000000000000"), Ipv6HopByHopBeyond),
        ("hop-by-hop of 4 bytes", v6(0, "11000000"), Ipv6HopByHopBeyond),
        ("short arp", hex(&format!("{MACS} 0806 0001 0800 0604 0001")), ArpShort),
        ("too long", vec![0; 65536], FrameTooLong),
    ] {
        assert_eq!(parse(&bytes), Err(expected), "{name}");
    }
}

#[test]
fn arp_round_trip() {
    let ip = |text: &str| text.parse().unwrap();
    let link =
        build::Link { destination: MacAddr::BROADCAST, source: MacAddr([2, 0, 0, 0, 1, 1]), vlan: Some(7) };
    let request = built(|out| build::arp_request(out, link, ip("10.1.0.1"), ip("10.1.0.2")));
    let Ok(Parsed::Arp(asked)) = parse(&request) else { panic!("no arp") };
    assert_eq!(
        (asked.operation, asked.sender, asked.target),
        (ArpOperation::Request, ip("10.1.0.1"), ip("10.1.0.2"))
    );
    assert_eq!((asked.cast, asked.vlan, asked.sender_mac), (LinkCast::Broadcast, Some(7), link.source));

    let mac = MacAddr([2, 0, 0, 0, 1, 2]);
    let reply = built(|out| build::arp_reply(out, mac, &asked));
    let Ok(Parsed::Arp(said)) = parse(&reply) else { panic!("no arp") };
    assert_eq!((said.operation, said.sender, said.target), (ArpOperation::Reply, asked.target, asked.sender));
    assert_eq!((said.sender_mac, said.target_mac, said.cast), (mac, link.source, LinkCast::Unicast));

    let mut other = request.clone();
    other[25] = 3;
    assert_eq!(parse(&other), Err(ParseError::ArpOperation));
    other[18] = 6;
    assert_eq!(parse(&other), Err(ParseError::ArpKind));
}

/// The kernel's verdict on each is recorded: INVALID or not, and forwarded in any case.
#[test]
fn malformed_transports() {
    use Malformed::*;
    let tcp = |offset_flags: &str| format!("1388 0035 00000001 00000000 {offset_flags} ffff 0000 0000");
    for (name, bytes, expected) in [
        ("tcp of 12 bytes", v4(6, "138800350000000000000000"), Some(TcpShort)),
        ("tcp offset 4", v4(6, &tcp("4002")), Some(TcpDataOffset)),
        ("tcp offset 6 of 20 bytes", v4(6, &tcp("6002")), Some(TcpDataOffset)),
        ("tcp syn", v4(6, &tcp("5002")), None),
        ("tcp syn psh", v4(6, &tcp("500a")), None),
        ("tcp rst ack psh", v4(6, &tcp("501c")), None),
        ("tcp null", v4(6, &tcp("5000")), Some(TcpFlags)),
        ("tcp psh", v4(6, &tcp("5008")), Some(TcpFlags)),
        ("tcp fin", v4(6, &tcp("5001")), Some(TcpFlags)),
        ("tcp syn rst", v4(6, &tcp("5006")), Some(TcpFlags)),
        ("tcp syn ack urg", v4(6, &tcp("5032")), Some(TcpFlags)),
        ("tcp xmas", v4(6, &tcp("5029")), Some(TcpFlags)),
        ("udp of 4 bytes", v4(17, "13880035"), Some(UdpShort)),
        ("udp length above", v4(17, "13880035000a000071"), Some(UdpLength)),
        ("udp length below", v4(17, "138800350007000071"), Some(UdpLength)),
        ("udp length zero", v4(17, "138800350000000071"), Some(UdpLength)),
        ("udp shorter than ip", v4(17, "138800350008000071"), None),
        ("udp-lite without checksum", v4(136, "138800350000000071"), Some(UdpLiteNoChecksum)),
        ("udp-lite coverage 4", v4(136, "138800350004123471"), Some(UdpLiteCoverage)),
        ("udp-lite coverage above", v4(136, "13880035000a123471"), Some(UdpLiteCoverage)),
        ("udp-lite of 7 bytes", v4(136, "13880035000812"), Some(UdpLiteShort)),
        ("icmp of 4 bytes", v4(1, "0800f7ff"), Some(IcmpShort)),
        ("icmp type 19", v4(1, "1300ecff00000000"), Some(IcmpType)),
        ("icmpv6 in ipv4", v4(58, "80007fff00000000"), Some(IcmpFamily)),
        ("icmp in ipv6", v6(1, "0800f7ff00000000"), Some(IcmpFamily)),
        ("icmpv6 of 2 bytes", v6(58, "8000"), Some(IcmpShort)),
        ("sctp of 8 bytes", v4(132, "1388003500000000"), Some(SctpShort)),
        ("dccp of 2 bytes", v4(33, "1388"), None),
        ("gre of 2 bytes", v4(47, "3001"), None),
        ("gre version 1 without ppp", v4(47, "3001080000040007"), Some(GrePptp)),
        ("gre version 1 without call id", v4(47, "3001080000"), None),
        ("gre version 1", v4(47, "3001880b00040007"), None),
        ("no next header", v6(59, "0000000000000000"), Some(NoNextHeader)),
        ("destination options beyond", v6(60, "11ff000000000000"), Some(UdpShort)),
        ("destination options beyond, no tracker", v6(60, "fdff000000000000"), None),
        ("fragment header of 1 byte", v6(44, "11"), Some(FragmentShort)),
        ("fragment header of 7 bytes", v6(44, "11000001000000"), Some(FragmentShort)),
        ("no byte of a fragment header", v6(44, ""), Some(ExtensionOverrun)),
        ("fragment header behind what ends beyond", v6(60, "2cff000000000000"), Some(ExtensionOverrun)),
        ("fragment header behind the last byte", v6(60, "2c00010400000000"), Some(FragmentShort)),
        ("destination options beyond, others behind", v6(60, "3cff000000000000"), Some(ExtensionOverrun)),
        ("routing of 2 bytes", v6(43, "1101"), Some(UdpShort)),
        ("routing of 1 byte", v6(43, "11"), Some(ExtensionOverrun)),
        ("mobility header", v6(135, "3b00000000000000"), None),
        ("esp", v6(50, "00000001"), None),
        (
            "17 extension headers",
            v6(60, &format!("{} 11000104 00000000", "3c000104 00000000".repeat(16))),
            Some(ExtensionCount),
        ),
    ] {
        let packet = packet(&bytes);
        assert_eq!(packet.malformed, expected, "{name}");
        assert!(packet.l3 < packet.l4 && packet.l4 <= packet.end, "{name}");
    }
}

#[test]
fn the_filter_sees_ports_of_invalid_packets() {
    for (protocol, short) in
        [(6, "138800350000"), (17, "13880035"), (136, "13880035000812"), (132, "13880035")]
    {
        assert_eq!(packet(&v4(protocol, short)).ports(), Some((5000, 53)));
        assert_eq!(packet(&v4(protocol, "138800")).ports(), None);
    }
    let bytes = v4(17, "13880035000a000071");
    assert_eq!(packet(&bytes).ports(), Some((5000, 53)));
    let bytes = v4(6, "1388 0035 00000001 00000000 5029 ffff 0000 0000");
    let flags = TcpFlags::FIN.union(TcpFlags::PSH).union(TcpFlags::URG);
    assert_eq!(packet(&bytes).transport, Transport::Tcp { sport: 5000, dport: 53, flags });
}

#[test]
fn transports() {
    for (name, bytes, expected) in [
        ("sctp", v4(132, "1388003500000000 00000000"), Transport::Sctp { sport: 5000, dport: 53 }),
        ("dccp", v4(33, "13880035 05000000"), Transport::Dccp { sport: 5000, dport: 53 }),
        ("udp-lite", v4(136, "1388003500001234"), Transport::UdpLite { sport: 5000, dport: 53 }),
        ("gre", v4(47, "2000080000000007"), Transport::Gre { version: 0, call_id: 0 }),
        ("pptp", v4(47, "3001880b00040007"), Transport::Gre { version: 1, call_id: 7 }),
        ("icmp", v4(1, "0800000012345678"), Transport::Icmp { kind: 8, code: 0, id: 0x1234 }),
        ("icmpv6", v6(58, "8001000012345678"), Transport::Icmpv6 { kind: 128, code: 1, id: 0x1234 }),
        ("unknown", v4(253, "00"), Transport::Other),
    ] {
        assert_eq!(packet(&bytes).transport, expected, "{name}");
    }
}

#[test]
fn ipv4_fragments() {
    let with = |word: &str, payload: &str| {
        let mut bytes = v4(17, payload);
        bytes[18..20].copy_from_slice(&[0, 9]);
        bytes[20..22].copy_from_slice(&hex(word));
        bytes[24..26].fill(0);
        let sum = crate::checksum::plain(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum);
        packet(&bytes)
    };
    let first = with("2000", "1388003505b4000071");
    assert_eq!(first.fragment, Fragment::First { id: 9 });
    assert_eq!((first.transport, first.malformed), (Transport::Udp { sport: 5000, dport: 53 }, None));
    let tiny = with("2000", "13880035");
    assert_eq!((tiny.transport, tiny.malformed), (Transport::Fragment, None));
    let later = with("2001", "13880035");
    assert_eq!(later.fragment, Fragment::Later { offset: 8, more: true, id: 9 });
    assert_eq!(later.transport, Transport::Fragment);
    let last = with("1fff", "13880035");
    assert_eq!(last.fragment, Fragment::Later { offset: 65528, more: false, id: 9 });
    assert!(with("4000", "1388003500080000").dont_fragment);
}

#[test]
fn ipv6_extension_headers() {
    let udp = "1388003500090000 71";
    for (name, next, headers, l4, fragment) in [
        ("hop-by-hop", 0, "1100050200000100".to_owned(), 62, Fragment::Whole),
        (
            "destination, then hop-by-hop",
            60,
            format!("0000010400000000 {}", "1100010400000000"),
            70,
            Fragment::Whole,
        ),
        ("routing", 43, "1100000000000000".to_owned(), 62, Fragment::Whole),
        ("authentication", 51, format!("1104 {}", "00".repeat(22)), 78, Fragment::Whole),
        ("atomic fragment", 44, "1100000000000001".to_owned(), 62, Fragment::Atomic { id: 1 }),
        ("first fragment", 44, "1100000100000005".to_owned(), 62, Fragment::First { id: 5 }),
        (
            "16 headers",
            60,
            format!("{} 1100010400000000", "3c00010400000000".repeat(15)),
            182,
            Fragment::Whole,
        ),
    ] {
        let packet = packet(&v6(next, &format!("{headers} {udp}")));
        assert_eq!((packet.l4, packet.protocol, packet.fragment), (l4, Protocol::UDP, fragment), "{name}");
        assert_eq!((packet.ports(), packet.malformed), (Some((5000, 53)), None), "{name}");
        assert!(packet.options, "{name}");
    }
    let later = packet(&v6(44, "3c00 00a8 00000005 3cff"));
    assert_eq!(later.fragment, Fragment::Later { offset: 168, more: false, id: 5 });
    assert_eq!(
        (later.protocol, later.transport, later.malformed),
        (Protocol::DESTINATION, Transport::Fragment, None)
    );
}

/// Everything that takes a packet and its frame, on whatever frame.
fn use_all(packet: &Packet, frame: &[u8]) {
    assert!(packet.l3 < packet.l4 && packet.l4 <= packet.end && usize::from(packet.end) <= frame.len());
    let _ = (verify(packet, frame), crate::shard_hash(packet), crate::martian(&packet.addrs));
    let _ =
        (nd::parse(packet, frame), options::hop_by_hop(packet, frame), options::check_ipv4(packet, frame));
    if let Some(segment) = crate::tcp::Segment::of(packet, frame) {
        assert!(segment.options().count() <= 40);
    }
    let link = build::Link::answering(packet, frame);
    let mut out = [0; 1600];
    let _ = build::tcp_reset(&mut out, link, (packet, frame));
    let error = build::IcmpError::ttl_exceeded(packet.family());
    let _ = build::may_answer(packet, error);
    if let Ok(length) = build::icmp_error(&mut out, link, packet.addrs.dst(), error, (packet, frame)) {
        let answer = &out[..length];
        let Ok(Parsed::Ip(parsed)) = parse(answer) else { panic!("an answer that does not parse") };
        assert_eq!(verify(&parsed, answer), Checksum::Good);
    }
    if let Some(split) = crate::split::Split::of(packet, frame, 7) {
        for piece in split.pieces(1280) {
            let _ = split.write(&mut out, piece);
        }
    }
    let mut changed = frame.to_vec();
    let mut after = *packet;
    crate::rewrite::decrement_ttl(&mut changed, &mut after);
    let ours =
        options::Record { outgoing: [10, 2, 0, 1].into(), incoming: [10, 1, 0, 1].into(), milliseconds: 1 };
    options::fill_ipv4(&after, &mut changed, &ours);
    let translation =
        crate::rewrite::Translation::new((packet.addrs, (1, 2)), (packet.addrs.reversed(), (3, 4)));
    if let Some(mut inner) = quoted(&after, &changed) {
        translation.apply_quoted(&mut changed, &after, &mut inner);
    }
    translation.apply(&mut changed, &mut after);
    assert!(parse(&changed).is_ok());
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_ipv4_payload(protocol in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..120)) {
        let datagram = crate::samples::between("10.1.0.2", "10.2.0.2");
        let frame = built(|out| build::other(out, &datagram, Protocol(protocol), &payload));
        use_all(&packet(&frame), &frame);
    }

    #[test]
    fn any_ipv4_options(options in proptest::collection::vec(any::<u8>(), 40), words in 0..=10usize, more in any::<bool>()) {
        let mut frame = v4(17, &"00".repeat(60));
        frame[14] = 0x45 + words as u8;
        frame[20] = if more { 0x20 } else { 0 };
        frame[34..34 + words * 4].copy_from_slice(&options[..words * 4]);
        frame[24..26].fill(0);
        let sum = crate::checksum::plain(&frame[14..34 + words * 4]);
        frame[24..26].copy_from_slice(&sum);
        use_all(&packet(&frame), &frame);
    }

    #[test]
    fn any_ipv6_payload(
        next in prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(58), Just(60), any::<u8>()],
        payload in proptest::collection::vec(prop_oneof![Just(0u8), Just(60), Just(58), any::<u8>()], 0..200),
    ) {
        let datagram = crate::samples::between("fd00:1::2", "fd00:2::2");
        let frame = built(|out| build::other(out, &datagram, Protocol(next), &payload));
        if let Ok(Parsed::Ip(packet)) = parse(&frame) {
            use_all(&packet, &frame);
        }
    }

    #[test]
    fn built_packets_parse(
        ports in any::<(u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        vlan in proptest::option::of(1..4095u16),
        v6 in any::<bool>(),
    ) {
        let (src, dst) = if v6 { ("fd00:1::2", "fd00:2::2") } else { ("10.1.0.2", "10.2.0.2") };
        let mut datagram = crate::samples::between(src, dst);
        datagram.link.vlan = vlan;
        for (protocol, frame) in [
            (Protocol::UDP, built(|out| build::udp(out, &datagram, ports, &payload))),
            (Protocol::TCP, built(|out| build::tcp(out, &datagram, ports, build::Tcp::default(), &payload))),
        ] {
            let packet = packet(&frame);
            prop_assert_eq!((packet.protocol, packet.ports(), packet.addrs), (protocol, Some(ports), datagram.addrs));
            prop_assert_eq!((packet.vlan, usize::from(packet.end), packet.malformed), (vlan, frame.len(), None));
            prop_assert_eq!(verify(&packet, &frame), Checksum::Good);
            prop_assert_eq!(packet.family() == Family::V6, v6);
        }
    }
}
