//! Changes to what a packet carries: bytes of its payload replaced by others, more or fewer, and the SACK blocks of a
//! stream whose numbers are shifted. For helpers, which write addresses anew that a payload announces.
//!
//! Lengths and checksums are put right: the header's incrementally, the transport's over all of it, since bytes move to
//! odd places. It does not cut what became too long for a link.
//!
//! Source: RFC 3022 section 4.4, RFC 2018.

use std::ops::Range;

use crate::bytes::HeaderMut;
use crate::checksum::{self, Delta};
use crate::packet::{Packet, Transport};
use crate::tcp::{self, OPTION_END, OPTION_NOP, OPTION_SACK};
use crate::transport::{UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH};
use crate::{Family, ipv4, ipv6};

/// Replaces the bytes `at` (offsets as in `packet`) by `with`, in `buffer`, which begins where `packet` was parsed from
/// and may have room behind it. False, and nothing is changed, where there is no room, the datagram would become longer
/// than one can be, or `at` is not within a TCP or UDP payload.
pub fn splice(buffer: &mut [u8], packet: &mut Packet, at: Range<usize>, with: &[u8]) -> bool {
    splice_all(buffer, packet, std::iter::once((at, with)))
}

/// The same for several places at once, none of which reaches into another, the last one first.
pub fn splice_all<'a>(
    buffer: &mut [u8],
    packet: &mut Packet,
    changes: impl Iterator<Item = (Range<usize>, &'a [u8])> + Clone,
) -> bool {
    let header = match packet.transport {
        Transport::Tcp { .. } => tcp::HEADER,
        Transport::Udp { .. } => UDP_HEADER,
        _ => return false,
    };
    let (mut longest, mut free) = (usize::from(packet.end), usize::from(packet.end));
    for (at, with) in changes.clone() {
        let inside = usize::from(packet.l4) + header <= at.start && at.start <= at.end && at.end <= free;
        if !inside || packet.fragment.is_part() {
            return false;
        }
        // What later changes take away is no room for those before.
        longest += with.len().saturating_sub(at.len());
        free = at.start;
    }
    if longest > buffer.len().min(usize::from(u16::MAX)) {
        return false;
    }
    let mut end = usize::from(packet.end);
    for (at, with) in changes {
        let behind = at.start + with.len();
        buffer.copy_within(at.end..end, behind);
        if let Some(place) = buffer.get_mut(at.start..behind) {
            place.copy_from_slice(with);
        }
        end = end - at.len() + with.len();
    }
    packet.end = u16::try_from(end).unwrap_or(u16::MAX);
    set_lengths(buffer, packet);
    seal(buffer, packet);
    true
}

fn set_lengths(buffer: &mut [u8], packet: &Packet) {
    let l3 = usize::from(packet.l3);
    match packet.family() {
        Family::V4 => {
            let Some(mut header) = HeaderMut::<{ ipv4::HEADER }>::at(buffer, l3) else { return };
            let old = header.view().be16::<{ ipv4::TOTAL_LENGTH }>();
            let sum =
                Delta::NONE.word(old, packet.length()).apply(header.view().be16::<{ ipv4::CHECKSUM }>());
            header.set_be16::<{ ipv4::TOTAL_LENGTH }>(packet.length());
            header.set_be16::<{ ipv4::CHECKSUM }>(sum);
        }
        Family::V6 => {
            let Some(mut header) = HeaderMut::<{ ipv6::HEADER }>::at(buffer, l3) else { return };
            header.set_be16::<{ ipv6::PAYLOAD_LENGTH }>(packet.length().saturating_sub(ipv6::HEADER as u16));
        }
    }
    if let Transport::Udp { .. } = packet.transport
        && let Some(mut header) = HeaderMut::<UDP_HEADER>::at(buffer, packet.l4.into())
    {
        header.set_be16::<UDP_LENGTH>(packet.end.saturating_sub(packet.l4));
    }
}

/// Computes the transport checksum anew; a UDP datagram without one stays without.
fn seal(buffer: &mut [u8], packet: &Packet) {
    let range = usize::from(packet.l4)..usize::from(packet.end);
    let Some(segment) = buffer.get_mut(range) else { return };
    match packet.transport {
        Transport::Tcp { .. } => {
            let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(segment, 0) else { return };
            header.set_be16::<{ tcp::CHECKSUM }>(0);
            let sum = checksum::transport(&packet.addrs, packet.protocol, segment);
            if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(segment, 0) {
                header.set_bytes::<{ tcp::CHECKSUM }, 2>(&sum);
            }
        }
        Transport::Udp { .. } => {
            let Some(mut header) = HeaderMut::<UDP_HEADER>::at(segment, 0) else { return };
            if header.view().be16::<UDP_CHECKSUM>() == 0 {
                return;
            }
            header.set_be16::<UDP_CHECKSUM>(0);
            let sum = checksum::never_zero(checksum::transport(&packet.addrs, packet.protocol, segment));
            if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(segment, 0) {
                header.set_bytes::<UDP_CHECKSUM, 2>(&sum);
            }
        }
        _ => {}
    }
}

/// Gives the edges of all SACK blocks of a segment other numbers.
pub fn map_sack(frame: &mut [u8], packet: &Packet, map: impl Fn(u32) -> u32) {
    let Transport::Tcp { .. } = packet.transport else { return };
    let l4 = usize::from(packet.l4);
    let Some(segment) = frame.get_mut(l4..usize::from(packet.end)) else { return };
    let Some(offset) = segment.get(tcp::DATA_OFFSET).copied() else { return };
    let length = tcp::header_length(offset);
    let mut at = tcp::HEADER;
    while at < length {
        let (Some(&kind), after) = (segment.get(at), segment.get(at + 1).copied()) else { return };
        match (kind, after.map(usize::from)) {
            (OPTION_END, _) | (_, None) => return,
            (OPTION_NOP, _) => at += 1,
            (_, Some(size)) if size < 2 || at + size > length => return,
            (kind, Some(size)) => {
                if kind == OPTION_SACK && (size - 2).is_multiple_of(8) {
                    (at + 2..at + size).step_by(4).for_each(|edge| map_word(segment, edge, &map));
                }
                at += size;
            }
        }
    }
}

/// Changes four bytes of a segment; its checksum knows.
fn map_word(segment: &mut [u8], at: usize, map: &impl Fn(u32) -> u32) {
    let Some(bytes) = segment.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return };
    let old = u32::from_be_bytes(*bytes);
    let new = map(old);
    if old == new {
        return;
    }
    if let Some(place) = segment.get_mut(at..at + 4) {
        place.copy_from_slice(&new.to_be_bytes());
    }
    // At an odd place, the checksum has the bytes of each word the other way round.
    let turned = |word: u32| if at.is_multiple_of(2) { word } else { word.rotate_left(8) };
    let delta = match at.is_multiple_of(2) {
        true => Delta::NONE.double_word(old, new),
        false => Delta::NONE.double_word(turned(old), turned(new)),
    };
    if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(segment, 0) {
        let sum = delta.apply(header.view().be16::<{ tcp::CHECKSUM }>());
        header.set_be16::<{ tcp::CHECKSUM }>(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{self, Tcp};
    use crate::samples::{between, built, packet};
    use crate::{Checksum, verify};

    fn payload<'a>(packet: &Packet, bytes: &'a [u8]) -> &'a [u8] {
        let header = if matches!(packet.transport, Transport::Tcp { .. }) { 20 } else { 8 };
        &packet.segment(bytes)[header..]
    }

    #[test]
    fn payloads_grow_and_shrink() {
        for (src, dst) in [("10.1.0.2", "10.2.0.2"), ("fd00:1::2", "fd00:2::2")] {
            let datagram = between(src, dst);
            let old = b"PORT 10,1,0,2,195,80\r\n";
            let tcp = built(|out| build::tcp(out, &datagram, (5, 21), Tcp::default(), old));
            let udp = built(|out| build::udp(out, &datagram, (5, 69), old));
            for bytes in [tcp, udp] {
                for with in [&b"10,2,0,100,195,80"[..], b"1,2,3,4,5,6", b"10,2,0,2,195,80", b""] {
                    let mut bytes = [&bytes[..], &[0; 16]].concat();
                    let mut changed = packet(&bytes[..bytes.len() - 16]);
                    let at = usize::from(changed.end) - 17..usize::from(changed.end) - 2;
                    assert!(splice(&mut bytes, &mut changed, at, with));
                    let end = usize::from(changed.end);
                    let again = packet(&bytes[..end]);
                    assert_eq!(again, changed);
                    assert_eq!(verify(&again, &bytes[..end]), Checksum::Good);
                    let expected = [&b"PORT "[..], with, b"\r\n"].concat();
                    assert_eq!(payload(&again, &bytes[..end]), expected);
                }
            }
        }
    }

    #[test]
    fn several_places_at_once() {
        let datagram = between("10.1.0.2", "10.2.0.2");
        let mut bytes = built(|out| build::udp(out, &datagram, (5, 69), b"one two three four"));
        let start = bytes.len() - 18;
        bytes.extend([0; 8]);
        let mut changed = packet(&bytes[..start + 18]);
        let at = |from: usize, to: usize| start + from..start + to;
        let changes: [(_, &[u8]); 3] = [(at(14, 18), b"fourteen"), (at(4, 7), b""), (at(0, 3), b"seven")];
        assert!(splice_all(&mut bytes, &mut changed, changes.iter().cloned()));
        let end = usize::from(changed.end);
        let again = packet(&bytes[..end]);
        assert_eq!((payload(&again, &bytes[..end]), again), (&b"seven  three fourteen"[..], changed));
        assert_eq!(verify(&again, &bytes[..end]), Checksum::Good);
        let before = (bytes.clone(), changed);
        for (name, changes) in [
            ("one in the other", [(at(4, 9), &b"x"[..]), (at(0, 5), b"y")]),
            ("in the wrong order", [(at(0, 3), b"x"), (at(4, 9), b"y")]),
            ("too long", [(at(4, 9), &[0; 99]), (at(0, 3), b"y")]),
        ] {
            assert!(!splice_all(&mut bytes, &mut changed, changes.iter().cloned()), "{name}");
            assert_eq!((&bytes, changed), (&before.0, before.1), "{name}");
        }
    }

    #[test]
    fn nothing_changes_where_it_cannot() {
        let datagram = between("10.1.0.2", "10.2.0.2");
        let bytes = built(|out| build::udp(out, &datagram, (5, 69), b"abcd"));
        let end = bytes.len();
        for (name, at, with) in [
            ("no room", end - 4..end, &b"abcde"[..]),
            ("in the header", end - 5..end, b"a"),
            ("beyond", end - 4..end + 1, b"a"),
            #[allow(clippy::reversed_empty_ranges)] // what a mistake would pass
            ("turned round", end..end - 4, b"a"),
        ] {
            let (mut bytes, mut packet) = (bytes.clone(), packet(&bytes));
            assert!(!splice(&mut bytes, &mut packet, at, with), "{name}");
            assert_eq!(packet, crate::samples::packet(&bytes), "{name}");
        }
    }

    #[test]
    fn sack_blocks_are_shifted_wherever_they_stand() {
        for padding in [&[1u8, 1][..], &[1], &[]] {
            let mut options = padding.to_vec();
            options.extend([5, 18]);
            for edge in [1000u32, 1100, 0xffff_fffe, 5] {
                options.extend(edge.to_be_bytes());
            }
            options.resize(20, 0);
            let datagram = between("10.1.0.2", "10.2.0.2");
            let mut bytes = built(|out| build::tcp(out, &datagram, (5, 21), Tcp::default(), &options));
            let plain = packet(&bytes);
            let l4 = usize::from(plain.l4);
            bytes[l4 + tcp::DATA_OFFSET] = 0xa0;
            seal(&mut bytes, &plain);
            map_sack(&mut bytes, &plain, |edge| edge.wrapping_sub(3));
            let read = packet(&bytes);
            assert_eq!(verify(&read, &bytes), Checksum::Good);
            let segment = tcp::Segment::of(&read, &bytes).unwrap();
            let blocks: Vec<_> = segment
                .options()
                .filter_map(|option| match option {
                    tcp::TcpOption::Sack(sack) => Some(sack.iter().collect::<Vec<_>>()),
                    _ => None,
                })
                .flatten()
                .collect();
            assert_eq!(blocks, [(997, 1097), (0xffff_fffb, 2)]);
        }
    }
}
