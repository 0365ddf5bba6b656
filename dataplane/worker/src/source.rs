//! Where a packet came from and goes to, carried in its buffer over rings and through queues.
//!
//! The source is in the buffer's port field. Drivers are of two minds about that field, so it is written on arrival, for
//! every packet. The interfaces that the engine counted the packet at are in the buffer's tag.

use sluice_engine::ids::{InterfaceId, PortId};
use sluice_rte::{Mbuf, Place};

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Received on a port.
    Wire(PortId),
    /// From the box's own sockets, by an interface's tap.
    Local(InterfaceId),
    /// Made by the engine: errors, resets, fragments, and what control had it send.
    Made,
}

/// What a fresh buffer of the pool has in its port field (`RTE_MBUF_PORT_INVALID`).
const MADE: u16 = u16::MAX;
const LOCAL: u16 = 0x8000;

impl Source {
    /// Notes it in the packet's buffer.
    #[inline]
    pub(crate) fn mark(self, mbuf: &mut Mbuf) {
        mbuf.set_port(self.encode());
    }

    /// Reads what [`Source::mark`] noted; fresh buffers are [`Source::Made`].
    #[inline]
    pub(crate) fn of(mbuf: &Mbuf) -> Source {
        Source::decode(mbuf.port())
    }

    #[inline]
    fn encode(self) -> u16 {
        match self {
            Source::Wire(PortId(port)) => port & !LOCAL,
            Source::Local(InterfaceId(interface)) => interface | LOCAL,
            Source::Made => MADE,
        }
    }

    #[inline]
    fn decode(code: u16) -> Source {
        match code {
            MADE => Source::Made,
            local if local & LOCAL != 0 => Source::Local(InterfaceId(local & !LOCAL)),
            port => Source::Wire(PortId(port)),
        }
    }
}

/// The interfaces that a packet was counted at, for taking that back; noted once the engine has judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    /// Where it came in (None for the box's own packets), and where it leaves by.
    #[inline]
    pub(crate) fn new(ingress: Option<InterfaceId>, egress: Option<InterfaceId>) -> Tag {
        Tag(u32::from(half(ingress)) << 16 | u32::from(half(egress)))
    }

    /// Notes them in the packet's buffer.
    #[inline]
    pub(crate) fn mark(self, mbuf: &mut Mbuf) {
        mbuf.set_tag(self.0);
    }

    /// As [`Tag::mark`], while the buffer is in use.
    #[inline]
    pub(crate) fn mark_place(self, place: &mut Place<'_>) {
        place.set_tag(self.0);
    }

    /// Reads what [`Tag::mark`] noted; only for packets that the engine has judged.
    #[inline]
    pub(crate) fn of(mbuf: &Mbuf) -> Tag {
        Tag(mbuf.tag())
    }

    /// Where it came in.
    pub(crate) fn ingress(self) -> Option<InterfaceId> {
        interface((self.0 >> 16) as u16)
    }

    /// Where it leaves by.
    pub(crate) fn egress(self) -> Option<InterfaceId> {
        interface(self.0 as u16)
    }
}

/// No interface.
const NOWHERE: u16 = u16::MAX;

#[inline]
fn half(interface: Option<InterfaceId>) -> u16 {
    interface.map_or(NOWHERE, |id| id.0)
}

fn interface(half: u16) -> Option<InterfaceId> {
    (half != NOWHERE).then_some(InterfaceId(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_the_port_field() {
        let sources = [
            Source::Wire(PortId(0)),
            Source::Wire(PortId(0x7fff)),
            Source::Local(InterfaceId(3)),
            Source::Made,
        ];
        for source in sources {
            assert_eq!(Source::decode(source.encode()), source);
        }
    }

    #[test]
    fn a_tag_holds_two_interfaces() {
        for (ingress, egress) in [(None, None), (Some(0), None), (None, Some(7)), (Some(12), Some(0))] {
            let (ingress, egress) = (ingress.map(InterfaceId), egress.map(InterfaceId));
            let tag = Tag::new(ingress, egress);
            assert_eq!((tag.ingress(), tag.egress()), (ingress, egress));
        }
    }
}
