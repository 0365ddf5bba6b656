//! Fragments taken apart, and the header of the datagram that they make.
//!
//! Which fragments belong together, and whether they fit, is not decided here; cutting is in [`split`](crate::split).
//! Source: RFC 791 section 3.2, RFC 8200 section 4.5, RFC 3168 section 5.3.

use crate::build::{BuildError, room};
use crate::bytes::{Header, HeaderMut, copy};
use crate::packet::{Fragment, Malformed, Packet, Transport};
use crate::transport::{self, UDP_HEADER};
use crate::{Addrs, Family, Protocol, icmp, ipv4, ipv6, options, tcp};

/// ECN's two bits saying that congestion was met.
const CONGESTION: u8 = 0b11;

/// A fragment.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Everything before its payload, from the IP header on; in IPv6 the fragment header is the last of it.
    pub header: &'a [u8],
    /// What it brings of the datagram's payload.
    pub payload: &'a [u8],
    /// Where that belongs, in bytes; a multiple of eight.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

impl<'a> Part<'a> {
    /// The parts of a fragment; `None` of what is none.
    pub fn of(packet: &Packet, frame: &'a [u8]) -> Option<Self> {
        let (offset, more) = match packet.fragment {
            Fragment::Whole => return None,
            Fragment::Atomic { .. } => (0, false),
            Fragment::First { .. } => (0, true),
            Fragment::Later { offset, more, .. } => (offset, more),
        };
        let datagram = packet.datagram(frame);
        let behind = match packet.family() {
            Family::V4 => usize::from(packet.l4.saturating_sub(packet.l3)),
            Family::V6 => fragment_header(datagram)?.1 + ipv6::EXTENSION,
        };
        let (header, payload) = datagram.split_at_checked(behind)?;
        Some(Self { header, payload, offset, more })
    }
}

/// Whether an IPv6 datagram's first fragment lacks a part of the header chain, which it must hold to the first byte of
/// whatever it carries; of TCP, UDP and ICMPv6 their whole header. Source: RFC 7112, RFC 8200 section 4.5; how much of the
/// transport header, observed on Linux 6.18.
pub fn lacks_headers(packet: &Packet) -> bool {
    let first = matches!(packet.fragment, Fragment::First { .. } | Fragment::Atomic { .. });
    if !first || packet.family() == Family::V4 {
        return false;
    }
    let needed = match packet.protocol {
        Protocol::TCP => tcp::HEADER,
        Protocol::UDP => UDP_HEADER,
        Protocol::ICMPV6 => icmp::HEADER,
        Protocol::NO_NEXT_HEADER => 0,
        _ => 1,
    };
    let there = usize::from(packet.end.saturating_sub(packet.l4));
    matches!(packet.transport, Transport::Malformed(Malformed::ExtensionOverrun)) || there < needed
}

/// Makes a first fragment that is part of no datagram a packet by itself, whose transport header is judged as it is:
/// netfilter's tracker looks no further than to the offset. Source: observed on Linux 6.18 (`ipv6_get_l4proto`).
pub fn stand_alone(packet: &mut Packet, frame: &[u8]) {
    let Fragment::First { id } = packet.fragment else { return };
    packet.fragment = Fragment::Atomic { id };
    if !matches!(packet.transport, Transport::Malformed(Malformed::ExtensionOverrun)) {
        let read = transport::parse(packet.segment(frame), packet.family(), packet.protocol, packet.fragment);
        (packet.transport, packet.malformed) = read;
    }
}

/// What a datagram put together says of itself beside what its first fragment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Bytes of payload, in IPv6 behind the headers that the first fragment had before its fragment header.
    pub payload: u16,
    /// IPv4's Don't Fragment.
    pub dont_fragment: bool,
    /// Whether a fragment met congestion.
    pub congestion: bool,
}

impl Whole {
    /// Writes the header for it, made of the first fragment's, and returns its length: the payload begins there.
    ///
    /// # Errors
    /// The buffer is too small, or the datagram would be longer than 65535 bytes.
    pub fn write(&self, out: &mut [u8], addrs: &Addrs, first: &[u8]) -> Result<usize, BuildError> {
        let fragment_header = match addrs {
            Addrs::V4 { .. } => 0,
            Addrs::V6 { .. } => ipv6::EXTENSION,
        };
        let (head, fragment) =
            first.split_at_checked(first.len().saturating_sub(fragment_header)).unwrap_or((first, &[]));
        let length = head.len() + usize::from(self.payload);
        if length > usize::from(u16::MAX) {
            return Err(BuildError::TooLong { length });
        }
        let out = room(out, head.len())?;
        copy(out, 0, head);
        match addrs {
            Addrs::V4 { .. } => self.finish_v4(out, length as u16),
            Addrs::V6 { .. } => self.finish_v6(out, length.saturating_sub(ipv6::HEADER) as u16, fragment),
        }
        Ok(head.len())
    }

    fn finish_v4(&self, header: &mut [u8], length: u16) {
        if let Some(mut fixed) = HeaderMut::<{ ipv4::HEADER }>::at(header, 0) {
            let word = if self.dont_fragment { ipv4::DONT_FRAGMENT } else { 0 };
            let tos = fixed.view().byte::<{ ipv4::TOS }>();
            fixed.set_be16::<{ ipv4::FRAGMENT }>(word);
            fixed.set_be16::<{ ipv4::TOTAL_LENGTH }>(length);
            fixed.set_byte::<{ ipv4::TOS }>(if self.congestion { tos | CONGESTION } else { tos });
        }
        options::seal(header);
    }

    fn finish_v6(&self, header: &mut [u8], payload: u16, fragment: &[u8]) {
        let next = fragment.get(ipv6::EXTENSION_NEXT).copied().unwrap_or(Protocol::NO_NEXT_HEADER.0);
        let next_at = fragment_header(header).map_or(ipv6::NEXT_HEADER, |(next_at, _)| next_at);
        if let Some(field) = header.get_mut(next_at) {
            *field = next;
        }
        if let Some(mut fixed) = HeaderMut::<{ ipv6::HEADER }>::at(header, 0) {
            fixed.set_be16::<{ ipv6::PAYLOAD_LENGTH }>(payload);
            if self.congestion {
                let word = fixed.view().be32::<{ ipv6::VERSION_CLASS_FLOW }>();
                fixed.set_be32::<{ ipv6::VERSION_CLASS_FLOW }>(word | u32::from(CONGESTION) << 20);
            }
        }
    }
}

/// Where an IPv6 datagram names its fragment header, and where that begins, which may be where the bytes end.
fn fragment_header(datagram: &[u8]) -> Option<(usize, usize)> {
    let (mut next_at, mut at) = (ipv6::NEXT_HEADER, ipv6::HEADER);
    for _ in 0..=ipv6::MAX_EXTENSIONS {
        let kind = Protocol(*datagram.get(next_at)?);
        if kind == Protocol::FRAGMENT {
            return Some((next_at, at));
        }
        if !ipv6::is_extension(kind) {
            return None;
        }
        let header = Header::<{ ipv6::EXTENSION_START }>::at(datagram, at)?;
        next_at = at + ipv6::EXTENSION_NEXT;
        at += ipv6::extension_length(kind, header);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{between, built, packet, v4, v6};
    use crate::split::Split;
    use crate::{Parsed, build, parse};

    #[test]
    fn parts_of_fragments() {
        let udp = "1388003500090000 71";
        for (name, frame, header, offset, more, payload) in [
            ("atomic", v6(44, &format!("1100000000000005 {udp}")), 48, 0, false, 9),
            ("first", v6(44, &format!("1100000100000005 {udp}")), 48, 0, true, 9),
            ("later", v6(44, &format!("1100001000000005 {udp}")), 48, 16, false, 9),
            ("behind options", v6(0, &format!("2c00010400000000 1100001100000005 {udp}")), 56, 16, true, 9),
            ("before options", v6(44, &format!("3c00000100000005 1100010400000000 {udp}")), 48, 0, true, 17),
            ("in each other", v6(44, &format!("2c00000100000005 1100000000000006 {udp}")), 48, 0, true, 17),
        ] {
            let part = Part::of(&packet(&frame), &frame).unwrap_or_else(|| panic!("{name}"));
            let found = (part.header.len(), part.offset, part.more, part.payload.len());
            assert_eq!(found, (header, offset, more, payload), "{name}");
        }
        let whole = v4(17, udp);
        assert!(Part::of(&packet(&whole), &whole).is_none());
    }

    #[test]
    fn a_first_fragment_holds_all_headers() {
        for (name, first, expected) in [
            ("udp", "1100000100000005 1388003500100000", false),
            ("udp cut", "1100000100000005 13880035", true),
            ("tcp cut", "0600000100000005 1388003500100000 1388003500100000", true),
            ("options alone", "3c00000100000005 1100010400000000", true),
            ("options cut", "3c00000100000005 1101010400000000", true),
            ("another protocol", "6300000100000005 1388003500100000", false),
            ("nothing", "3b00000100000005 1388003500100000", false),
        ] {
            assert_eq!(lacks_headers(&packet(&v6(44, first))), expected, "{name}");
        }
        assert!(!lacks_headers(&packet(&v6(44, "0600001000000005 13880035"))), "a later one");
    }

    /// Cut, then made one again.
    #[test]
    fn whole_again() {
        for (name, frame) in [
            ("v4", built(|out| build::udp(out, &between("10.1.0.2", "10.2.0.2"), (1, 2), &[7; 100]))),
            ("v6", built(|out| build::udp(out, &between("fd00:1::2", "fd00:2::2"), (1, 2), &[7; 100]))),
            ("v6, options", v6(0, "1100010400000000 138800350010ffff 7171717171717171 71717171")),
        ] {
            let before = packet(&frame);
            let split = Split::of(&before, &frame, 5).unwrap();
            let parts: Vec<Vec<u8>> = split
                .pieces(split.head() as u16 + 16)
                .map(|piece| [&frame[..14], &built(|out| split.write(out, piece))].concat())
                .collect();
            assert!(parts.len() > 1, "{name}");
            let mut payload = Vec::new();
            for bytes in &parts {
                payload.extend_from_slice(Part::of(&packet(bytes), bytes).unwrap().payload);
            }
            let first = Part::of(&packet(&parts[0]), &parts[0]).unwrap();
            let whole = Whole {
                payload: payload.len() as u16,
                dont_fragment: before.family() == Family::V4,
                congestion: true,
            };
            let mut again = frame[..14].to_vec();
            again.extend(built(|out| whole.write(out, &before.addrs, first.header)));
            again.extend(payload);
            let Ok(Parsed::Ip(after)) = parse(&again) else { panic!("{name}") };
            assert_eq!(after.tos, 3, "{name}");
            assert_eq!(after.segment(&again), before.segment(&frame), "{name}");
            assert_eq!(Packet { tos: 0, ..after }, before, "{name}");
        }
    }
}
