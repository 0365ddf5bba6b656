//! A packet as the worker hands it over, and the way out for what the engine itself sends.

use sluice_wire::Packet;

use crate::ids::{InterfaceId, PortId, WorkerId};
use crate::message::LogRecord;
use crate::verdict::Verdict;
use crate::world::NeighbourKey;

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A port; not yet counted, may belong to another worker.
    Wire,
    /// A port, by way of another worker, which counted its arrival.
    HandedOver,
    /// The box's own sockets, by the tap of this interface; may belong to another worker.
    Local(InterfaceId),
    /// The same, by way of another worker. Also what the engine made itself and gets back by
    /// [`crate::Engine::release`], with the interface of its next hop.
    LocalHandedOver(InterfaceId),
}

/// What a device says of a checksum. Unknown means unverified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// Nobody looked.
    #[default]
    Unknown,
    /// The device verified it.
    Good,
    /// The device found it wrong.
    Bad,
}

/// One packet of a burst: a buffer with headroom, the frame's place in it, what the device said of it.
pub struct Frame<'a> {
    /// The whole buffer, headroom and tailroom included. At least 8 bytes of headroom precede `start`, so that a
    /// VLAN tag can be put in.
    pub buffer: &'a mut [u8],
    /// Offset of the Ethernet header in `buffer`; the engine moves it when a VLAN tag comes or goes.
    pub start: u16,
    /// Bytes of the frame from `start`.
    pub len: u16,
    /// The port it came from; of the box's own packets, the port of the tap's interface.
    pub port: PortId,
    /// Where it comes from.
    pub origin: Origin,
    /// Where it came in, as the engine found out; None for the box's own packets. Kept with a frame that is held, so
    /// that it is counted there when it leaves.
    pub ingress: Option<InterfaceId>,
    /// Where it leaves by, once its verdict is `Transmit` or `Hold`: for taking back what was counted there.
    pub egress: Option<InterfaceId>,
    /// The device's symmetric RSS hash, where it computed one with our key.
    pub rss: Option<u32>,
    /// The device's word on the IPv4 header checksum.
    pub ip_checksum: RxChecksum,
    /// The device's word on the transport checksum.
    pub l4_checksum: RxChecksum,
    /// What became of it.
    pub verdict: Verdict,
}

impl Frame<'_> {
    /// The frame's bytes, from the Ethernet destination; none if its place lies outside of the buffer.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = usize::from(self.start);
        self.buffer.get(start..start + usize::from(self.len)).unwrap_or_default()
    }

    /// The bytes of its packet from the Ethernet header on: that of a datagram put together from fragments, which begins
    /// with its IP header, stands right before it in the buffer.
    pub(crate) fn ethernet(&self, packet: &Packet) -> &[u8] {
        const HEADER: usize = 14;
        let before = if packet.l3 == 0 { HEADER } else { 0 };
        let (start, len) = (usize::from(self.start), usize::from(self.len));
        self.buffer.get(start.saturating_sub(before)..start + len).unwrap_or_default()
    }

    /// The same, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.start);
        self.buffer.get_mut(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

/// Where a frame that the engine made is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlet {
    /// Out by this port.
    Wire(PortId),
    /// To the box's own sockets by the tap of this interface.
    Tap(InterfaceId),
    /// Complete but for the MAC of this next hop.
    Hold(NeighbourKey),
    /// To the worker that owns it, as if it had come there from `from` (a port, or the box) by way of this worker.
    Worker {
        /// Who owns it.
        worker: WorkerId,
        /// [`Origin::Wire`] or [`Origin::Local`].
        from: Origin,
        /// The port that it came in by.
        port: PortId,
    },
}

/// The worker's side of what the engine sends besides the packets of the burst.
pub trait Outbox {
    /// A buffer of exactly `len` bytes, sent to `outlet` after the engine filled it. None where no buffer is free.
    fn frame(&mut self, outlet: Outlet, len: usize) -> Option<&mut [u8]>;

    /// A next hop is wanted whose address is not known. Called once a packet; the receiver limits the rate.
    fn resolve(&mut self, neighbour: NeighbourKey);

    /// A `log` rule matched.
    fn log(&mut self, record: &LogRecord);

    /// A frame for the control thread (ARP, neighbour discovery); false if its queue is full.
    fn punt(&mut self, interface: InterfaceId, frame: &[u8]) -> bool;
}
