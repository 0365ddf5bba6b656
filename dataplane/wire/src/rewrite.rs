//! Changes to a packet on its way through: hop count, translated addresses and ports, sequence numbers. Checksums
//! are kept up incrementally (RFC 1624), so that one which was bad stays bad; SCTP's, which cannot, is computed anew.
//!
//! Source: RFC 1812 section 5.3.1, RFC 3022 section 4.

use crate::bytes::HeaderMut;
use crate::checksum::{self, Delta};
use crate::packet::{Packet, Transport};
use crate::quoted::Quoted;
use crate::transport::{DESTINATION_PORT, SCTP_CHECKSUM, SCTP_HEADER, SOURCE_PORT, UDP_CHECKSUM, UDP_HEADER};
use crate::{Addrs, Family, icmp, ipv4, ipv6, tcp};

/// Where DCCP has its checksum, and how much of its header is touched.
const DCCP_HEADER: usize = 8;
const DCCP_CHECKSUM: usize = 6;
/// PPTP's call id in GRE version 1.
const PPTP_HEADER: usize = 8;
const PPTP_CALL_ID: usize = 6;

/// Decrements time to live or hop limit, in the frame and in `packet`. The caller has answered a packet on its
/// last hop before.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], packet: &mut Packet) {
    let l3 = usize::from(packet.l3);
    let old = packet.ttl;
    packet.ttl = old.saturating_sub(1);
    match packet.family() {
        Family::V4 => {
            let Some(mut header) = HeaderMut::<{ ipv4::HEADER }>::at(frame, l3) else { return };
            let word = |ttl: u8| u16::from_be_bytes([ttl, packet.protocol.0]);
            let delta = Delta::NONE.word(word(old), word(packet.ttl));
            let sum = delta.apply(header.view().be16::<{ ipv4::CHECKSUM }>());
            header.set_be16::<{ ipv4::CHECKSUM }>(sum);
            header.set_byte::<{ ipv4::TTL }>(packet.ttl);
        }
        Family::V6 => {
            let Some(mut header) = HeaderMut::<{ ipv6::HEADER }>::at(frame, l3) else { return };
            header.set_byte::<{ ipv6::HOP_LIMIT }>(packet.ttl);
        }
    }
}

/// A translation of addresses and ports that every packet of one direction of a flow undergoes, its differences to
/// checksums worked out once.
///
/// Ports stand for the two 16-bit halves of netfilter's tuple: source and destination port; of ICMP the first is
/// the identifier; of PPTP the second is the call id. All in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    addrs: Addrs,
    ports: (u16, u16),
    of_addrs: Delta,
    /// Of the first half: ICMP's identifier.
    of_id: Delta,
    /// Of addresses and ports.
    of_all: Delta,
}

impl Translation {
    /// From what the packets have to what they get. Both must be of one family.
    pub fn new(old: (Addrs, (u16, u16)), new: (Addrs, (u16, u16))) -> Self {
        let of_addrs = Delta::NONE.address(old.0.src(), new.0.src()).address(old.0.dst(), new.0.dst());
        let of_id = Delta::NONE.word(old.1.0, new.1.0);
        let of_all = of_addrs.and(of_id).word(old.1.1, new.1.1);
        Self { addrs: new.0, ports: new.1, of_addrs, of_id, of_all }
    }

    /// One that changes addresses alone, as for a protocol without ports, a fragment, or an ICMP error itself.
    pub fn of_addresses(old: Addrs, new: Addrs) -> Self {
        Self::new((old, (0, 0)), (new, (0, 0)))
    }

    /// The addresses that packets get.
    #[inline]
    pub const fn addrs(&self) -> &Addrs {
        &self.addrs
    }

    /// The ports that packets get.
    #[inline]
    pub const fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Translates a packet that this was made for, in the frame and in `packet`. An ICMP error keeps its quote and
    /// an SCTP fragment its checksum.
    #[inline]
    pub fn apply(&self, frame: &mut [u8], packet: &mut Packet) {
        let place = Place {
            l3: packet.l3.into(),
            l4: packet.l4.into(),
            end: packet.end.into(),
            whole: !packet.fragment.is_part(),
        };
        let error = icmp::is_error(packet);
        self.network(frame, place.l3);
        packet.transport = self.transport(frame, place, packet.transport, error);
        packet.addrs = self.addrs;
    }

    /// Translates the packet that an ICMP error quotes, and computes the error's own checksum anew. What the quote
    /// is too short for stays as it is.
    pub fn apply_quoted(&self, frame: &mut [u8], packet: &Packet, quoted: &mut Quoted) {
        let place =
            Place { l3: quoted.l3.into(), l4: quoted.l4.into(), end: quoted.end.into(), whole: false };
        self.network(frame, place.l3);
        quoted.transport = self.transport(frame, place, quoted.transport, false);
        quoted.addrs = self.addrs;
        seal_icmp(frame, packet);
    }

    #[inline(always)]
    fn network(&self, frame: &mut [u8], l3: usize) {
        match self.addrs {
            Addrs::V4 { src, dst } => {
                let Some(mut header) = HeaderMut::<{ ipv4::HEADER }>::at(frame, l3) else { return };
                header.set_bytes::<{ ipv4::SOURCE }, 4>(&src.octets());
                header.set_bytes::<{ ipv4::DESTINATION }, 4>(&dst.octets());
                let sum = self.of_addrs.apply(header.view().be16::<{ ipv4::CHECKSUM }>());
                header.set_be16::<{ ipv4::CHECKSUM }>(sum);
            }
            Addrs::V6 { src, dst } => {
                let Some(mut header) = HeaderMut::<{ ipv6::HEADER }>::at(frame, l3) else { return };
                header.set_bytes::<{ ipv6::SOURCE }, 16>(&src.octets());
                header.set_bytes::<{ ipv6::DESTINATION }, 16>(&dst.octets());
            }
        }
    }

    /// Writes ports and checksum, and returns what the packet shows then.
    #[inline(always)]
    fn transport(&self, frame: &mut [u8], place: Place, shown: Transport, error: bool) -> Transport {
        let (sport, dport) = self.ports;
        let delta = self.of_all;
        // A header that this datagram does not have whole (in a short quote) must not reach beyond it.
        let bytes = frame.get_mut(..place.end).unwrap_or_default();
        match shown {
            Transport::Tcp { flags, .. } => {
                write_ports(bytes, place.l4, self.ports);
                if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(bytes, place.l4) {
                    let sum = delta.apply(header.view().be16::<{ tcp::CHECKSUM }>());
                    header.set_be16::<{ tcp::CHECKSUM }>(sum);
                }
                Transport::Tcp { sport, dport, flags }
            }
            Transport::Udp { .. } => {
                write_ports(bytes, place.l4, self.ports);
                write_udp_checksum(bytes, place.l4, delta);
                Transport::Udp { sport, dport }
            }
            other => self.less_common(bytes, place, other, error),
        }
    }

    fn less_common(&self, bytes: &mut [u8], place: Place, shown: Transport, error: bool) -> Transport {
        let (sport, dport) = self.ports;
        match shown {
            Transport::UdpLite { .. } => {
                write_ports(bytes, place.l4, self.ports);
                write_udp_checksum(bytes, place.l4, self.of_all);
                Transport::UdpLite { sport, dport }
            }
            Transport::Dccp { .. } => {
                // Its ports are no part of the kernel's tuple, and stay.
                if let Some(mut header) = HeaderMut::<DCCP_HEADER>::at(bytes, place.l4) {
                    let sum = self.of_addrs.apply(header.view().be16::<DCCP_CHECKSUM>());
                    header.set_be16::<DCCP_CHECKSUM>(sum);
                }
                shown
            }
            Transport::Sctp { .. } => {
                write_ports(bytes, place.l4, self.ports);
                if place.whole {
                    seal_sctp(bytes, place.l4);
                }
                Transport::Sctp { sport, dport }
            }
            Transport::Icmp { kind, code, id } => {
                let id = if error { id } else { sport };
                let delta = if error { Delta::NONE } else { self.of_id };
                write_icmp(bytes, place.l4, id, delta);
                Transport::Icmp { kind, code, id }
            }
            Transport::Icmpv6 { kind, code, id } => {
                let id = if error { id } else { sport };
                let of_id = if error { Delta::NONE } else { self.of_id };
                write_icmp(bytes, place.l4, id, self.of_addrs.and(of_id));
                Transport::Icmpv6 { kind, code, id }
            }
            Transport::Gre { version: 1, .. } => {
                if let Some(mut header) = HeaderMut::<PPTP_HEADER>::at(bytes, place.l4) {
                    header.set_be16::<PPTP_CALL_ID>(dport);
                }
                Transport::Gre { version: 1, call_id: dport }
            }
            other => other,
        }
    }
}

/// Where a datagram lies in a frame.
#[derive(Clone, Copy)]
struct Place {
    l3: usize,
    l4: usize,
    end: usize,
    /// Whether its last byte is there too.
    whole: bool,
}

#[inline(always)]
fn write_ports(bytes: &mut [u8], l4: usize, (sport, dport): (u16, u16)) {
    if let Some(mut header) = HeaderMut::<4>::at(bytes, l4) {
        header.set_be16::<SOURCE_PORT>(sport);
        header.set_be16::<DESTINATION_PORT>(dport);
    }
}

#[inline(always)]
fn write_udp_checksum(bytes: &mut [u8], l4: usize, delta: Delta) {
    if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(bytes, l4) {
        let sum = delta.apply_udp(header.view().be16::<UDP_CHECKSUM>());
        header.set_be16::<UDP_CHECKSUM>(sum);
    }
}

fn write_icmp(bytes: &mut [u8], l4: usize, id: u16, delta: Delta) {
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(bytes, l4) {
        header.set_be16::<{ icmp::IDENTIFIER }>(id);
        let sum = delta.apply(header.view().be16::<{ icmp::CHECKSUM }>());
        header.set_be16::<{ icmp::CHECKSUM }>(sum);
    }
}

fn seal_sctp(bytes: &mut [u8], l4: usize) {
    let crc = checksum::sctp(bytes.get(l4..).unwrap_or_default());
    if let Some(mut header) = HeaderMut::<SCTP_HEADER>::at(bytes, l4) {
        header.set_bytes::<SCTP_CHECKSUM, 4>(&crc);
    }
}

/// Computes the checksum of an ICMP or ICMPv6 message anew, for one whose quote was changed.
pub fn seal_icmp(frame: &mut [u8], packet: &Packet) {
    let range = usize::from(packet.l4)..usize::from(packet.end);
    let Some(message) = frame.get_mut(range) else { return };
    let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(message, 0) else { return };
    header.set_be16::<{ icmp::CHECKSUM }>(0);
    let sum = match packet.family() {
        Family::V4 => checksum::plain(message),
        Family::V6 => checksum::transport(&packet.addrs, packet.protocol, message),
    };
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(message, 0) {
        header.set_bytes::<{ icmp::CHECKSUM }, 2>(&sum);
    }
}

/// Writes sequence and acknowledgement number of a TCP segment whose stream was made longer or shorter by a helper.
pub fn tcp_numbers(frame: &mut [u8], packet: &Packet, seq: u32, ack: u32) {
    if !matches!(packet.transport, Transport::Tcp { .. }) {
        return;
    }
    let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(frame, packet.l4.into()) else { return };
    let old = header.view();
    let delta = Delta::NONE
        .double_word(old.be32::<{ tcp::SEQUENCE }>(), seq)
        .double_word(old.be32::<{ tcp::ACKNOWLEDGEMENT }>(), ack);
    let sum = delta.apply(old.be16::<{ tcp::CHECKSUM }>());
    header.set_be32::<{ tcp::SEQUENCE }>(seq);
    header.set_be32::<{ tcp::ACKNOWLEDGEMENT }>(ack);
    header.set_be16::<{ tcp::CHECKSUM }>(sum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{self, IcmpError, Link, Tcp};
    use crate::samples::{between, built, packet, v4};
    use crate::{Checksum, Protocol, quoted, verify};

    /// One packet of each kind that is translated, with the two halves of its tuple.
    fn kinds(v6: bool) -> Vec<(&'static str, Vec<u8>, (u16, u16))> {
        let datagram = if v6 { between("fd00:1::2", "fd00:2::2") } else { between("10.1.0.2", "10.2.0.2") };
        let echo = if v6 { 128 } else { 8 };
        let sctp = {
            let mut bytes = [5u16.to_be_bytes(), 6u16.to_be_bytes()].concat();
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]);
            let crc = checksum::sctp(&bytes);
            bytes[8..12].copy_from_slice(&crc);
            built(|out| build::other(out, &datagram, Protocol::SCTP, &bytes))
        };
        vec![
            ("tcp", built(|out| build::tcp(out, &datagram, (5, 6), Tcp::default(), b"abc")), (5, 6)),
            ("udp", built(|out| build::udp(out, &datagram, (5, 6), b"abc")), (5, 6)),
            ("echo", built(|out| build::icmp_echo(out, &datagram, (echo, 0), (5, 1), b"abc")), (5, 0)),
            ("sctp", sctp, (5, 6)),
            ("esp", built(|out| build::other(out, &datagram, Protocol::ESP, b"abc")), (0, 0)),
        ]
    }

    fn other_addrs(v6: bool) -> Addrs {
        if v6 {
            between("2001:db8::9", "fd00:2::77").addrs
        } else {
            between("203.0.113.9", "10.2.0.77").addrs
        }
    }

    #[test]
    fn there_and_back_is_the_same() {
        for v6 in [false, true] {
            for (name, original, ports) in kinds(v6) {
                let before = packet(&original);
                let there = Translation::new((before.addrs, ports), (other_addrs(v6), (4000, 4001)));
                let back = Translation::new((other_addrs(v6), (4000, 4001)), (before.addrs, ports));
                let (mut frame, mut changed) = (original.clone(), before);
                there.apply(&mut frame, &mut changed);
                assert_eq!(packet(&frame), changed, "{name}: what was written is what is told");
                assert_eq!(verify(&changed, &frame), verify(&before, &original), "{name}");
                assert_eq!(changed.addrs, other_addrs(v6), "{name}");
                back.apply(&mut frame, &mut changed);
                assert_eq!((frame, changed), (original, before), "{name}");
            }
        }
    }

    #[test]
    fn a_bad_checksum_stays_bad() {
        for (name, mut frame, ports) in kinds(false).into_iter().filter(|(name, ..)| *name != "esp") {
            let last = frame.len() - 1;
            frame[last] ^= 1;
            let mut packet = packet(&frame);
            Translation::new((packet.addrs, ports), (other_addrs(false), (7, 8)))
                .apply(&mut frame, &mut packet);
            // SCTP's cannot be carried on; Linux computes it anew too.
            let expected = if name == "sctp" { Checksum::Good } else { Checksum::Bad };
            assert_eq!(verify(&packet, &frame), expected, "{name}");
        }
    }

    #[test]
    fn udp_without_a_checksum_keeps_none() {
        let mut frame = v4(17, "0005000600080000");
        let mut packet = packet(&frame);
        Translation::new((packet.addrs, (5, 6)), (other_addrs(false), (7, 8))).apply(&mut frame, &mut packet);
        assert_eq!((&frame[40..42], packet.ports()), (&[0, 0][..], Some((7, 8))));
    }

    #[test]
    fn pptp_has_its_call_id_translated() {
        let mut frame = v4(47, "3001880b00040007");
        let mut packet = packet(&frame);
        Translation::new((packet.addrs, (0, 7)), (other_addrs(false), (0, 9))).apply(&mut frame, &mut packet);
        assert_eq!(packet.transport, Transport::Gre { version: 1, call_id: 9 });
        assert_eq!(crate::samples::packet(&frame), packet);
    }

    /// A reply direction error: the outer destination and the quoted source are translated back.
    #[test]
    fn errors_and_their_quotes() {
        for v6 in [false, true] {
            for (name, original, ports) in kinds(v6) {
                let inner = packet(&original);
                let router = if v6 { "fd00:2::1" } else { "10.2.0.1" };
                let link = Link::answering(&inner, &original);
                let error = IcmpError::port_unreachable(inner.family());
                let source = router.parse().unwrap();
                let mut frame = built(|out| build::icmp_error(out, link, source, error, (&inner, &original)));
                let mut outer = packet(&frame);
                let mut quote = quoted(&outer, &frame).unwrap();
                let new = other_addrs(v6);
                let outer_new = outer.addrs.with_dst(new.src()).unwrap();
                Translation::new((quote.addrs, ports), (new, (4000, 4001)))
                    .apply_quoted(&mut frame, &outer, &mut quote);
                Translation::of_addresses(outer.addrs, outer_new).apply(&mut frame, &mut outer);

                assert_eq!(packet(&frame), outer, "{name}");
                assert_eq!(verify(&outer, &frame), Checksum::Good, "{name}");
                assert_eq!(quoted(&outer, &frame), Some(quote), "{name}");
                assert_eq!((quote.addrs, outer.addrs), (new, outer_new), "{name}");
                if name == "tcp" || name == "udp" {
                    let whole = [&frame[..14], &frame[quote.l3.into()..quote.end.into()]].concat();
                    assert_eq!(verify(&packet(&whole), &whole), Checksum::Good, "{name}: the quote's own");
                }
            }
        }
    }

    #[test]
    fn sequence_numbers() {
        let datagram = between("10.1.0.2", "10.2.0.2");
        let mut frame = built(|out| build::tcp(out, &datagram, (5, 6), Tcp::default(), b"abc"));
        let packet = packet(&frame);
        tcp_numbers(&mut frame, &packet, 0xdead_beef, 0x0102_0304);
        let segment = tcp::Segment::of(&packet, &frame).unwrap();
        assert_eq!((segment.seq, segment.ack), (0xdead_beef, 0x0102_0304));
        assert_eq!(verify(&packet, &frame), Checksum::Good);
    }

    proptest! {
        #[test]
        fn every_hop_leaves_a_good_header(ttl in 1..=255u8, tos in any::<u8>(), src in any::<u32>(), v6 in any::<bool>()) {
            let mut datagram = if v6 { between("fd00:1::2", "fd00:2::2") } else { between("10.1.0.2", "10.2.0.2") };
            (datagram.ttl, datagram.tos) = (ttl, tos);
            if let Some(addrs) = datagram.addrs.with_src(std::net::Ipv4Addr::from(src).into()) {
                datagram.addrs = addrs;
            }
            let mut frame = built(|out| build::udp(out, &datagram, (5, 6), b"abc"));
            let mut parsed = packet(&frame);
            decrement_ttl(&mut frame, &mut parsed);
            prop_assert_eq!(packet(&frame), parsed);
            prop_assert_eq!((parsed.ttl, parsed.tos), (ttl - 1, tos));
        }

        #[test]
        fn translated_checksums_equal_computed_ones(
            old in any::<((u32, u32), (u16, u16))>(),
            new in any::<((u32, u32), (u16, u16))>(),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let addrs = |(src, dst): (u32, u32)| Addrs::V4 { src: src.into(), dst: dst.into() };
            let datagram = build::Datagram { addrs: addrs(old.0), ..Default::default() };
            let mut frame = built(|out| build::udp(out, &datagram, old.1, &payload));
            let mut parsed = packet(&frame);
            Translation::new((addrs(old.0), old.1), (addrs(new.0), new.1)).apply(&mut frame, &mut parsed);
            let datagram = build::Datagram { addrs: addrs(new.0), ..Default::default() };
            prop_assert_eq!(frame, built(|out| build::udp(out, &datagram, new.1, &payload)));
        }
    }
}
