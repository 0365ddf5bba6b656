//! The link header of a packet that leaves: both MAC addresses and the VLAN tag of the link, in place of those that
//! it came with. The packet itself is not moved; the frame's beginning is.

use sluice_wire::{EtherType, Family, MacAddr, Packet, PlainAddress};

use crate::frame::Frame;

/// Everything of an Ethernet header but the EtherType, which stays where it is, right before the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkHeader {
    bytes: [u8; 16],
    tagged: bool,
}

impl LinkHeader {
    const UNTAGGED: usize = 12;
    const ETHERTYPE: u16 = 2;
    /// A frame on the wire has no fewer bytes, check sequence excluded; what pads a packet beyond that is cut off.
    const SHORTEST: u16 = 60;
    /// Bytes of a tag.
    const TAG: u16 = 4;
    /// Without a tag, with the EtherType.
    const LENGTH: u16 = Self::UNTAGGED as u16 + Self::ETHERTYPE;

    /// To `destination` from `source`, on a VLAN or none.
    pub fn new(destination: MacAddr, source: MacAddr, vlan: Option<u16>) -> LinkHeader {
        let [a, b, c, d, e, f] = destination.0;
        let [g, h, i, j, k, l] = source.0;
        let [tag, kind] = EtherType::VLAN.0.to_be_bytes();
        let [high, low] = vlan.unwrap_or(0).to_be_bytes();
        LinkHeader {
            bytes: [a, b, c, d, e, f, g, h, i, j, k, l, tag, kind, high, low],
            tagged: vlan.is_some(),
        }
    }

    /// The same to another station.
    pub fn set_destination(&mut self, destination: MacAddr) {
        for (to, from) in self.bytes.iter_mut().zip(destination.0) {
            *to = from;
        }
    }

    /// The same from another station.
    pub fn set_source(&mut self, source: MacAddr) {
        for (to, from) in self.bytes.iter_mut().skip(6).zip(source.0) {
            *to = from;
        }
    }

    /// With the addresses that a frame without a tag has.
    pub fn of(frame: &[u8], vlan: Option<u16>) -> LinkHeader {
        LinkHeader::new(sluice_wire::destination(frame), sluice_wire::source(frame), vlan)
    }

    /// Writes it into a frame without a tag that is no packet (ARP).
    pub fn insert(&self, frame: &mut Frame<'_>) -> bool {
        let Some(start) = frame.start.checked_sub(self.length() as u16 - Self::LENGTH) else { return false };
        if !self.copy_to(frame.buffer, start) {
            return false;
        }
        frame.len += frame.start - start;
        frame.start = start;
        true
    }

    /// Copies all but the EtherType, by lengths that the compiler knows.
    #[inline]
    fn copy_to(&self, buffer: &mut [u8], start: u16) -> bool {
        let room = buffer.get_mut(usize::from(start)..).unwrap_or_default();
        if self.tagged {
            let Some(room) = room.first_chunk_mut() else { return false };
            *room = self.bytes;
        } else {
            let bytes = self.bytes.first_chunk::<{ Self::UNTAGGED }>();
            let (Some(room), Some(bytes)) = (room.first_chunk_mut(), bytes) else { return false };
            *room = *bytes;
        }
        true
    }

    /// Bytes of the whole Ethernet header.
    pub fn length(&self) -> usize {
        Self::UNTAGGED + if self.tagged { 4 } else { 0 } + usize::from(Self::ETHERTYPE)
    }

    /// Writes it to the beginning of a buffer, for a packet of that family, and returns the room behind it.
    pub fn emit<'a>(&self, room: &'a mut [u8], family: Family) -> Option<&'a mut [u8]> {
        let kind = match family {
            Family::V4 => EtherType::IPV4,
            Family::V6 => EtherType::IPV6,
        };
        let (header, behind) = room.split_at_mut_checked(self.length())?;
        let bytes = self.bytes.iter().copied().take(header.len() - usize::from(Self::ETHERTYPE));
        header.iter_mut().zip(bytes.chain(kind.0.to_be_bytes())).for_each(|(to, from)| *to = from);
        Some(behind)
    }

    /// Whether a frame without a tag has room in front for this one's.
    #[inline]
    pub fn fits(&self, frame: &Frame<'_>) -> bool {
        !self.tagged || frame.start >= Self::TAG
    }

    /// Writes it in front of a plain packet, a datagram of `length` bytes, where it [fits](LinkHeader::fits); the packet has one
    /// hop less to go.
    #[inline(always)]
    pub fn forward<A: PlainAddress>(&self, frame: &mut Frame<'_>, length: u16) {
        let start = usize::from(frame.start);
        if let (Some(addresses), Some(bytes)) = (self.bytes.first_chunk(), frame.buffer.get_mut(start..)) {
            A::forward(bytes, addresses);
        }
        frame.len = length.wrapping_add(Self::LENGTH);
        if self.tagged {
            self.tag(frame);
        }
    }

    #[cold]
    fn tag(&self, frame: &mut Frame<'_>) {
        let start = frame.start.saturating_sub(Self::TAG);
        if self.copy_to(frame.buffer, start) {
            (frame.start, frame.len) = (start, frame.len.saturating_add(Self::TAG));
        }
    }

    /// Writes it in front of `packet`, whose offsets follow the frame's new beginning. False if the buffer has no
    /// room for a tag.
    #[inline]
    pub fn write(&self, frame: &mut Frame<'_>, packet: &mut Packet) -> bool {
        let length = self.length() as u16;
        let Some(start) = frame.start.saturating_add(packet.l3).checked_sub(length) else { return false };
        if !self.copy_to(frame.buffer, start) {
            return false;
        }
        let moved = |offset: u16| offset.saturating_sub(packet.l3).saturating_add(length);
        let (whole, l4, end) = (moved(frame.len), moved(packet.l4), moved(packet.end));
        frame.start = start;
        (packet.l3, packet.l4, packet.end) = (length, l4, end);
        frame.len = whole.min(packet.end.max(Self::SHORTEST));
        true
    }
}

#[cfg(test)]
mod tests {
    use sluice_wire::build::{self, Datagram};
    use sluice_wire::{Parsed, parse};

    use super::*;
    use crate::testing::with_frame;

    const US: MacAddr = MacAddr([2, 0, 0, 0, 9, 1]);
    const THEM: MacAddr = MacAddr([2, 0, 0, 0, 9, 2]);

    #[test]
    fn bytes_behind_the_packet_go_no_further_than_the_shortest_frame() {
        for (payload, trailer, expected) in
            [(10, 8, 60), (10, 100, 60), (30, 100, 72), (30, 0, 72), (1, 0, 43)]
        {
            let mut room = [0xee; 256];
            let length = build::udp(&mut room, &Datagram::default(), (1, 2), &[7; 64][..payload]).unwrap();
            with_frame(&room[..length + trailer], |frame| {
                let Ok(Parsed::Ip(mut packet)) = parse(frame.bytes()) else { panic!() };
                assert!(LinkHeader::new(THEM, US, None).write(frame, &mut packet));
                assert_eq!(frame.bytes().len(), expected, "{payload} and {trailer}");
            });
        }
    }

    #[test]
    fn a_tag_comes_goes_and_changes() {
        for (before, after) in [(None, None), (None, Some(7)), (Some(9), None), (Some(9), Some(7))] {
            let mut room = [0; 128];
            let mut datagram = Datagram::default();
            datagram.link.vlan = before;
            let length = build::udp(&mut room, &datagram, (1, 2), b"payload").unwrap();
            with_frame(&room[..length], |frame| {
                let Ok(Parsed::Ip(mut packet)) = parse(frame.bytes()) else { panic!() };
                assert!(LinkHeader::new(THEM, US, after).write(frame, &mut packet));
                let Ok(Parsed::Ip(again)) = parse(frame.bytes()) else { panic!() };
                assert_eq!(again.vlan, after, "{before:?}");
                assert_eq!((again.l3, again.l4, again.end), (packet.l3, packet.l4, packet.end));
                assert_eq!(usize::from(again.end), frame.bytes().len());
                assert_eq!(sluice_wire::destination(frame.bytes()), THEM);
                assert_eq!(sluice_wire::source(frame.bytes()), US);
            });
        }
    }
}
