//! A way out of a worker: its own transmit queue of a port or tap, or a ring to the worker that has one.
//!
//! Packets gather here and go at the end of the round, or when the buffer is full. What a device does not take stays, in
//! order, for the next round; a packet that finds the buffer full even then is the caller's to drop and count.

use sluice_engine::Outlet;
use sluice_engine::ids::PortId;
use sluice_rte::{Burst, Mbuf, RingConsumer, RingProducer, TxQueue};

use crate::capture::Captures;

/// How packets leave.
pub(crate) enum Way {
    /// By a transmit queue of this worker's own.
    Queue(TxQueue),
    /// By the worker at the other end, for the device has fewer queues than there are workers.
    Ring(RingProducer),
}

/// A way out, and what waits to take it.
pub(crate) struct Exit {
    way: Way,
    waiting: Burst,
    /// Packets that went this way.
    gone: u64,
    /// The port whose transmit queue this is; None for a tap's, and where another worker has the queue.
    port: Option<PortId>,
    /// Of those that wait, how many are captured already.
    shown: usize,
}

impl Exit {
    pub(crate) fn new(way: Way, outlet: Outlet) -> Exit {
        let port = match (&way, outlet) {
            (Way::Queue(_), Outlet::Wire(port)) => Some(port),
            _ => None,
        };
        Exit { way, waiting: Burst::new(), gone: 0, port, shown: 0 }
    }

    /// Adds a packet; gives it back where there is no room.
    #[inline]
    pub(crate) fn push(&mut self, mbuf: Mbuf, captures: &mut Captures) -> Result<(), Mbuf> {
        if self.waiting.is_full() {
            self.flush(captures);
        }
        self.waiting.push(mbuf)
    }

    /// Adds packets in their order, as many as there is room for; the others stay.
    #[inline]
    pub(crate) fn append(&mut self, burst: &mut Burst, captures: &mut Captures) {
        if self.waiting.remaining() < burst.len() {
            self.flush(captures);
        }
        self.waiting.append(burst);
    }

    /// As [`Exit::push`], and gives access to the packet where it waits.
    pub(crate) fn push_mut(
        &mut self,
        mbuf: Mbuf,
        captures: &mut Captures,
    ) -> Result<&mut Mbuf, Option<Mbuf>> {
        self.push(mbuf, captures).map_err(Some)?;
        self.waiting.last_mut().ok_or(None)
    }

    /// Sends what waits, as much as is taken; returns how many packets went.
    #[inline]
    pub(crate) fn flush(&mut self, captures: &mut Captures) -> usize {
        if captures.are_running() {
            self.show(captures);
        }
        let mut gone = 0;
        while !self.waiting.is_empty() {
            let sent = match &mut self.way {
                Way::Queue(queue) => queue.transmit(&mut self.waiting),
                Way::Ring(ring) => ring.enqueue(&mut self.waiting),
            };
            if sent == 0 {
                break;
            }
            gone += sent;
        }
        self.gone += gone as u64;
        self.shown = self.shown.saturating_sub(gone);
        gone
    }

    /// Shows what waits to those who capture, each packet once.
    #[cold]
    fn show(&mut self, captures: &mut Captures) {
        if let (Some(port), Some(new)) = (self.port, self.waiting.get(self.shown..)) {
            captures.sent(port, new);
        }
        self.shown = self.waiting.len();
    }

    /// How many packets will have gone when the one that waits last has.
    pub(crate) fn last_place(&self) -> u64 {
        self.gone + self.waiting.len() as u64
    }

    /// Whether so many packets have gone.
    pub(crate) fn has_passed(&self, place: u64) -> bool {
        self.gone >= place
    }

    /// Takes in packets that another worker sends by way of this one, as many as there is room for. The rest stays in
    /// the ring, so that a full device is the sender's to notice and to count.
    pub(crate) fn relay(&mut self, ring: &mut RingConsumer) -> usize {
        let mut moved = 0;
        while !self.waiting.is_full() {
            let got = ring.dequeue(&mut self.waiting);
            if got == 0 {
                break;
            }
            moved += got;
        }
        moved
    }
}
