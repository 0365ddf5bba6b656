//! A datagram in one piece, and how it was cut.

use sluice_wire::Family;
use sluice_wire::fragment::Whole;

use super::blocks::Blocks;
use super::datagram::{Arrived, Datagram, MOST_FRAGMENTS};

/// Bytes before a datagram in its [`Assembly`]: room for an Ethernet header, and for a VLAN tag.
const HEADROOM: usize = 64;
/// An Ethernet header without a tag stands right before it.
const LINK: usize = 14;

/// A datagram in one piece.
#[derive(Default)]
pub(crate) struct Assembly {
    /// The datagram from [`Assembly::START`] on, an Ethernet header right before it.
    pub buffer: Vec<u8>,
    pub shape: Shape,
}

impl Assembly {
    /// Where the datagram begins.
    pub const START: u16 = HEADROOM as u16;

    /// Room for the longest datagram.
    pub fn new() -> Assembly {
        let lengths = Vec::with_capacity(usize::from(MOST_FRAGMENTS));
        Assembly {
            buffer: vec![0; HEADROOM + usize::from(u16::MAX)],
            shape: Shape { lengths, ..Shape::default() },
        }
    }

    /// Writes a complete datagram; false if its fragments contradict each other, or make more than a datagram can be.
    pub(super) fn write(&mut self, datagram: &Datagram, blocks: &Blocks) -> bool {
        let (Some(header), Some(congestion)) = (datagram.header(blocks), datagram.congestion()) else {
            return false;
        };
        let payload = datagram.end as u16;
        let whole = Whole { payload, dont_fragment: datagram.dont_fragment(), congestion };
        let Assembly { buffer, shape } = self;
        let Some(room) = buffer.get_mut(HEADROOM..) else { return false };
        let Ok(head) = whole.write(room, &datagram.key.addrs, header) else { return false };
        let mut rest = room.get_mut(head..).unwrap_or_default();
        for bytes in datagram.payload(blocks) {
            let Some((here, behind)) = rest.split_at_mut_checked(bytes.len()) else { return false };
            here.copy_from_slice(bytes);
            rest = behind;
        }
        let cuts = datagram.cuts(blocks);
        let ends = datagram.cuts(blocks).skip(1).chain([payload]);
        shape.lengths.clear();
        shape.lengths.extend(cuts.zip(ends).map(|(start, end)| end.saturating_sub(start)));
        (shape.head, shape.length) = (head as u16, head as u16 + payload);
        (shape.largest, shape.shortest) = (datagram.largest, datagram.shortest);
        (shape.id, shape.arrived) = (datagram.key.id, Some(datagram.arrived));
        write_link(buffer, datagram);
        true
    }

    /// Writes the first fragment as it came.
    pub(super) fn write_first(&mut self, datagram: &Datagram, blocks: &Blocks) {
        let Assembly { buffer, shape } = self;
        let header = datagram.header(blocks).unwrap_or_default();
        let first = usize::from(datagram.first_length(blocks));
        let payload = datagram.payload(blocks).flatten().take(first);
        let room = buffer.get_mut(HEADROOM..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(header.iter().chain(payload)) {
            *to = *from;
        }
        shape.length = (header.len() + first) as u16;
        shape.arrived = Some(datagram.arrived);
        write_link(buffer, datagram);
    }
}

/// How a datagram was cut, so that it can leave the same way.
#[derive(Default)]
pub(crate) struct Shape {
    /// Bytes of payload of each fragment, in order.
    pub lengths: Vec<u16>,
    /// Bytes of the datagram's header, as each fragment repeated it.
    pub head: u16,
    /// Length in bytes of the longest fragment.
    pub largest: u16,
    /// Length in bytes of the shortest header of a later fragment, IPv6's fragment header not included.
    pub shortest: u16,
    /// Identification.
    pub id: u32,
    /// Length in bytes of the datagram.
    pub length: u16,
    pub arrived: Option<Arrived>,
}

impl Shape {
    /// How many fragments it was.
    pub fn fragments(&self) -> u16 {
        self.lengths.len() as u16
    }

    /// Offset and length in bytes of each fragment's payload.
    pub fn cuts(&self) -> impl Iterator<Item = (u16, u16)> {
        self.lengths.iter().scan(0u16, |at, &length| {
            let offset = *at;
            *at = at.saturating_add(length);
            Some((offset, length))
        })
    }
}

/// Writes the Ethernet header of the first fragment before the datagram, without its tag: what log lines show.
fn write_link(buffer: &mut [u8], datagram: &Datagram) {
    let arrived = &datagram.arrived;
    let kind: [u8; 2] = match datagram.key.addrs.family() {
        Family::V4 => [0x08, 0x00],
        Family::V6 => [0x86, 0xdd],
    };
    if let Some(link) = buffer.get_mut(HEADROOM - LINK..HEADROOM) {
        let bytes = arrived.destination.0.into_iter().chain(arrived.source.0).chain(kind);
        link.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }
}
