//! Cutting a datagram into fragments: IPv4 for the MTU of the next link, and IPv6 that was put together for tracking
//! and leaves as it came. Which lengths to cut is for the caller, since they may be those that came.
//!
//! IPv4 options that are not copied into later fragments become no-operations there, so that all fragments have one
//! header length, as Linux does.
//! Source: RFC 791 section 3.2, RFC 8200 section 4.5.

use crate::build::{BuildError, room};
use crate::bytes::{Header, HeaderMut, copy};
use crate::options::{self, V4_COPIED, Walk};
use crate::packet::{Fragment, Packet};
use crate::{Addrs, Family, Protocol, ipv4, ipv6};

const V4_NOP: u8 = 1;

/// A datagram to be cut, or an IPv4 fragment to be cut further.
#[derive(Debug, Clone, Copy)]
pub struct Split<'a> {
    /// From the IP header on.
    datagram: &'a [u8],
    family: Family,
    /// Bytes of headers that each fragment repeats: in IPv6 all that come before the fragment header.
    head: usize,
    id: u32,
    /// Where this payload begins in the original datagram's: not zero for a fragment.
    base: u16,
    /// Whether fragments of the original follow behind this one.
    more: bool,
    /// Whether IPv4's Don't Fragment stays.
    dont_fragment: bool,
}

impl<'a> Split<'a> {
    /// A packet to be cut. `id` is the identification of IPv6 fragments; IPv4 has its own. `None` if `packet` is an
    /// IPv6 fragment already, or has a chain of extension headers that cannot be followed.
    pub fn of(packet: &Packet, frame: &'a [u8], id: u32) -> Option<Self> {
        let datagram = packet.datagram(frame);
        let dont_fragment = true;
        match packet.addrs {
            Addrs::V4 { .. } => {
                let header = Header::<{ ipv4::HEADER }>::at(datagram, 0)?;
                let more = header.be16::<{ ipv4::FRAGMENT }>() & ipv4::MORE_FRAGMENTS != 0;
                let base = match packet.fragment {
                    Fragment::Later { offset, .. } => offset,
                    _ => 0,
                };
                let head = usize::from(packet.l4.saturating_sub(packet.l3));
                Some(Self { datagram, family: Family::V4, head, id, base, more, dont_fragment })
            }
            Addrs::V6 { .. } if !packet.fragment.is_part() => {
                let head = unfragmentable(datagram)?;
                Some(Self { datagram, family: Family::V6, head, id, base: 0, more: false, dont_fragment })
            }
            Addrs::V6 { .. } => None,
        }
    }

    /// The same with an IPv6 fragment header `head` bytes into the datagram, where one was before.
    #[must_use]
    pub fn with_head(self, head: u16) -> Self {
        match self.family {
            Family::V4 => self,
            Family::V6 => Self { head: usize::from(head).min(self.datagram.len()), ..self },
        }
    }

    /// The same, and IPv4's fragments say nothing against being cut further.
    #[must_use]
    pub fn without_dont_fragment(self) -> Self {
        Self { dont_fragment: false, ..self }
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Bytes of headers that each fragment repeats, without IPv6's fragment header.
    pub fn head(&self) -> usize {
        self.head
    }

    /// Bytes to be spread over fragments.
    pub fn payload(&self) -> u16 {
        self.datagram.len().saturating_sub(self.head) as u16
    }

    /// Bytes of payload in every fragment but the last for links of `mtu`: a multiple of eight, and at least eight.
    pub fn step(&self, mtu: u16) -> u16 {
        let headers = self.head + self.fragment_header();
        (usize::from(mtu).saturating_sub(headers) as u16 & !7).max(8)
    }

    /// Offset and length in bytes of each fragment's payload for links of `mtu`.
    pub fn pieces(&self, mtu: u16) -> impl Iterator<Item = (u16, u16)> + use<> {
        let (payload, step) = (self.payload(), self.step(mtu));
        (0..payload).step_by(step.into()).map(move |offset| (offset, step.min(payload - offset)))
    }

    /// Bytes of the fragment with `length` bytes of payload, from the IP header on.
    pub fn length(&self, length: u16) -> usize {
        self.head + self.fragment_header() + usize::from(length)
    }

    /// Writes the fragment with `length` bytes of payload from `offset` on, IP header first, and returns how many bytes
    /// it has. All but the last must be multiples of eight.
    ///
    /// # Errors
    /// The buffer is too small, or the payload has no such bytes.
    pub fn write(&self, out: &mut [u8], (offset, length): (u16, u16)) -> Result<usize, BuildError> {
        let (at, need) = (self.head + usize::from(offset), self.length(length));
        let end = at + usize::from(length);
        let absent = BuildError::TooLong { length: end };
        let payload = self.datagram.get(at..end).ok_or(absent)?;
        let head = self.datagram.get(..self.head).ok_or(absent)?;
        let out = room(out, need)?;
        let last = end == self.datagram.len();
        let part = Part { offset: self.base.saturating_add(offset), more: self.more || !last };
        copy(out, 0, head);
        copy(out, self.head + self.fragment_header(), payload);
        match self.family {
            Family::V4 => self.finish_v4(out, part, need as u16),
            Family::V6 => self.finish_v6(out, part, need.saturating_sub(ipv6::HEADER) as u16),
        }
        Ok(need)
    }

    const fn fragment_header(&self) -> usize {
        match self.family {
            Family::V4 => 0,
            Family::V6 => ipv6::EXTENSION,
        }
    }

    fn finish_v4(&self, out: &mut [u8], part: Part, length: u16) {
        let Some(header) = out.get_mut(..self.head) else { return };
        if let Some(mut fixed) = HeaderMut::<{ ipv4::HEADER }>::at(header, 0) {
            let kept = if self.dont_fragment { ipv4::DONT_FRAGMENT } else { 0 };
            let dont = fixed.view().be16::<{ ipv4::FRAGMENT }>() & kept;
            let more = if part.more { ipv4::MORE_FRAGMENTS } else { 0 };
            fixed.set_be16::<{ ipv4::FRAGMENT }>(dont | more | (part.offset / 8));
            fixed.set_be16::<{ ipv4::TOTAL_LENGTH }>(length);
        }
        if part.offset != 0 {
            blank_first_only(header);
        }
        options::seal(header);
    }

    fn finish_v6(&self, out: &mut [u8], part: Part, payload: u16) {
        let last_next = self.head_next_at();
        let next = out.get(last_next).copied().unwrap_or(Protocol::NO_NEXT_HEADER.0);
        if let Some(field) = out.get_mut(last_next) {
            *field = Protocol::FRAGMENT.0;
        }
        if let Some(mut fixed) = HeaderMut::<{ ipv6::HEADER }>::at(out, 0) {
            fixed.set_be16::<{ ipv6::PAYLOAD_LENGTH }>(payload);
        }
        if let Some(mut header) = HeaderMut::<{ ipv6::EXTENSION }>::at(out, self.head) {
            header.set_byte::<{ ipv6::EXTENSION_NEXT }>(next);
            header.set_byte::<{ ipv6::EXTENSION_LENGTH }>(0);
            header.set_be16::<{ ipv6::FRAGMENT_WORD }>(part.offset | u16::from(part.more));
            header.set_be32::<{ ipv6::FRAGMENT_ID }>(self.id);
        }
    }

    /// The next-header field that the fragment header is to stand behind.
    fn head_next_at(&self) -> usize {
        let (mut next_at, mut at) = (ipv6::NEXT_HEADER, ipv6::HEADER);
        while at < self.head
            && let Some(header) = Header::<{ ipv6::EXTENSION_START }>::at(self.datagram, at)
        {
            let kind = self.datagram.get(next_at).copied().unwrap_or_default();
            next_at = at + ipv6::EXTENSION_NEXT;
            at += ipv6::extension_length(Protocol(kind), header);
        }
        next_at
    }
}

/// What a fragment says about its place.
#[derive(Clone, Copy)]
struct Part {
    offset: u16,
    more: bool,
}

/// The extension headers that stand before a fragment header.
struct PerHop<'a> {
    datagram: &'a [u8],
    /// Where the next header's number is.
    next_at: usize,
    /// Where the next header is.
    at: usize,
}

impl PerHop<'_> {
    /// Passes over one extension header, and tells which it was; `None` at the end of the chain.
    fn step(&mut self) -> Option<Protocol> {
        let kind = Protocol(*self.datagram.get(self.next_at)?);
        let options = matches!(kind, Protocol::HOP_BY_HOP | Protocol::ROUTING | Protocol::DESTINATION);
        let header = Header::<{ ipv6::EXTENSION }>::at(self.datagram, self.at).filter(|_| options)?;
        self.next_at = self.at + ipv6::EXTENSION_NEXT;
        self.at += (usize::from(header.byte::<{ ipv6::EXTENSION_LENGTH }>()) + 1) * 8;
        Some(kind)
    }
}

/// Bytes of an IPv6 datagram that every fragment repeats: hop-by-hop, routing and destination options headers, up to
/// destination options behind a routing header. RFC 8200 would have others in the first fragment alone; observed on
/// Linux 6.18.
fn unfragmentable(datagram: &[u8]) -> Option<usize> {
    let mut walk = PerHop { datagram, next_at: ipv6::NEXT_HEADER, at: ipv6::HEADER };
    let (mut length, mut routed) = (ipv6::HEADER, false);
    for _ in 0..ipv6::MAX_EXTENSIONS {
        match walk.step() {
            None => break,
            Some(Protocol::DESTINATION) if routed => break,
            Some(kind) => routed |= kind == Protocol::ROUTING,
        }
        length = walk.at;
    }
    (length <= datagram.len()).then_some(length)
}

/// Makes no-operations of the options that only the first fragment has.
fn blank_first_only(header: &mut [u8]) {
    let mut at = ipv4::HEADER;
    loop {
        let mut walk = Walk { header, at };
        let Ok(Some(option)) = walk.next() else { return };
        let (first_only, start) = (option.kind & V4_COPIED == 0, option.at);
        at = walk.at;
        if let (true, Some(bytes)) = (first_only, header.get_mut(start..at)) {
            bytes.fill(V4_NOP);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build;
    use crate::samples::{between, built, hex, packet, v6};

    fn cut(frame: &[u8], mtu: u16) -> Vec<Vec<u8>> {
        let packet = packet(frame);
        let split = Split::of(&packet, frame, 0x1234_5678).unwrap();
        split
            .pieces(mtu)
            .map(|piece| [&frame[..14], &built(|out| split.write(out, piece))].concat())
            .collect()
    }

    fn udp(src: &str, dst: &str, payload: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..payload).map(|at| at as u8).collect();
        built(|out| build::udp(out, &between(src, dst), (5000, 53), &payload))
    }

    /// Recorded: `fragment/fragment-by-router`, 1428 bytes for a link of 1280.
    #[test]
    fn ipv4_lengths_as_recorded() {
        let fragments = cut(&udp("10.1.0.2", "10.2.0.2", 1400), 1280);
        let seen: Vec<_> =
            fragments.iter().map(|frame| (packet(frame).length(), packet(frame).fragment)).collect();
        let expected =
            [(1276, Fragment::First { id: 0 }), (172, Fragment::Later { offset: 1256, more: false, id: 0 })];
        assert_eq!(seen, expected);
    }

    #[test]
    fn ipv4_options_that_are_not_copied_become_nothing() {
        let mut frame = udp("10.1.0.2", "10.2.0.2", 92);
        frame[14] = 0x48;
        // Record route (first only), security (copied), end.
        frame[34..46].copy_from_slice(&hex("0703040182040102 01010100"));
        options::seal(&mut frame[14..46]);
        let fragments = cut(&frame, 72);
        assert_eq!(fragments.len(), 3);
        assert_eq!(fragments[0][34..46], hex("0703040182040102 01010100"));
        for later in &fragments[1..] {
            assert_eq!(later[34..46], hex("0101010182040102 01010100"));
            assert!(packet(later).options);
        }
    }

    #[test]
    fn a_fragment_is_cut_further() {
        let whole = udp("10.1.0.2", "10.2.0.2", 1000);
        let twice: Vec<_> = cut(&whole, 600).iter().flat_map(|part| cut(part, 300)).collect();
        let places: Vec<_> = twice.iter().map(|frame| packet(frame).fragment).collect();
        assert!(places.iter().rev().skip(1).all(|part| !matches!(part, Fragment::Later { more: false, .. })));
        assert_eq!(together(&twice, 20), whole[34..]);
    }

    #[test]
    fn ipv6_headers_that_every_hop_reads_stand_before_the_fragment_header() {
        let udp = "1388003500090000 71";
        for (name, next, headers, before) in [
            ("none", 17, "", 0),
            ("hop-by-hop", 0, "1100010400000000", 8),
            ("destination", 60, "1100010400000000", 8),
            ("destination, routing", 60, "2b00010400000000 1100000000000000", 16),
            ("hop-by-hop, routing, destination", 0, "2b00010400000000 3c00000000000000 1100010400000000", 16),
        ] {
            let frame = v6(next, &format!("{headers} {udp}"));
            let fragments = cut(&frame, 8);
            let first = packet(&fragments[0]);
            assert_eq!(first.fragment, Fragment::First { id: 0x1234_5678 }, "{name}");
            let again = together(&fragments, 40 + before + 8);
            assert_eq!(again, frame[54 + before..], "{name}");
            assert_eq!(first.malformed, None, "{name}");
        }
        let part = v6(44, "1100000100000005 1388003500090000 71");
        assert!(Split::of(&packet(&part), &part, 1).is_none(), "a fragment already");
    }

    /// Payloads one after another, each behind that many bytes of IP headers.
    fn together(fragments: &[Vec<u8>], headers: usize) -> Vec<u8> {
        fragments.iter().flat_map(|frame| &frame[14 + headers..packet(frame).end.into()]).copied().collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost(payload in 0..3000usize, mtu in 68..1600u16, v6 in any::<bool>()) {
            let (src, dst, header) = if v6 { ("fd00:1::2", "fd00:2::2", 48) } else { ("10.1.0.2", "10.2.0.2", 20) };
            let whole = udp(src, dst, payload);
            let fragments = cut(&whole, mtu);
            prop_assert_eq!(together(&fragments, header), &whole[packet(&whole).l4.into()..]);
            for frame in &fragments {
                let packet = packet(frame);
                prop_assert!(packet.length() <= mtu);
            }
        }
    }
}
