//! A worker's ways out, behind the engine's [`Outbox`]: to the wire, to the taps, to other workers, to control.

use arrayvec::ArrayVec;
use sluice_engine::capture::{Fate as CaptureFate, Way};
use sluice_engine::ids::{InterfaceId, Now, PortId, WorkerId};
use sluice_engine::message::LogRecord;
use sluice_engine::world::NeighbourKey;
use sluice_engine::{DropReason, Frame, Origin, Outbox, Outlet, Verdict};
use sluice_rte::{Burst, Mbuf, Mempool, RingConsumer, RingProducer};

use crate::account::Account;
use crate::capture::Captures;
use crate::exit::Exit;
use crate::hold::Hold;
use crate::notice::Notices;
use crate::source::{Source, Tag};

/// Rounds that sending what is left may take: enough for a full ring between workers.
const DRAIN_ROUNDS: usize = 64;

/// A ring to the worker that owns a packet, and what waits to go into it.
pub(crate) struct Peer {
    ring: RingProducer,
    waiting: Burst,
}

impl Peer {
    pub(crate) fn new(ring: RingProducer) -> Peer {
        Peer { ring, waiting: Burst::new() }
    }

    /// Moves what waits into the ring, as much as it takes.
    #[inline]
    fn flush(&mut self) -> usize {
        if self.waiting.is_empty() { 0 } else { self.ring.enqueue(&mut self.waiting) }
    }
}

/// Packets that another worker sends by way of this one: out by which exit, from which ring.
pub(crate) struct Relay {
    pub(crate) outlet: Outlet,
    pub(crate) ring: RingConsumer,
}

/// Everything of a worker but its engine and its receive queues.
pub(crate) struct Shell {
    /// The time of this round.
    pub(crate) now: Now,
    /// By port.
    pub(crate) ports: Vec<Exit>,
    /// By interface; None: the interface has no tap.
    pub(crate) taps: Vec<Option<Exit>>,
    /// By worker; None: this worker itself.
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) relays: Vec<Relay>,
    pub(crate) hold: Hold,
    pub(crate) pool: Mempool,
    pub(crate) notices: Notices,
    pub(crate) account: Account,
    pub(crate) captures: Captures,
}

/// What the engine decided of one packet, small: a burst of these is written and read once.
#[derive(Clone, Copy)]
pub(crate) struct Fate {
    /// Where the frame starts in its buffer.
    pub(crate) start: u16,
    /// Its bytes.
    pub(crate) len: u16,
    /// The interfaces that it was counted at.
    pub(crate) tag: Tag,
    pub(crate) course: Course,
}

/// Where a packet goes; [`Verdict`] without what only the engine wants to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    Transmit(PortId),
    Deliver(InterfaceId),
    HandOver(WorkerId),
    /// For the next hop at this place among those of the burst.
    Hold(u8),
    /// Counted by the engine; the buffer goes back to the pool.
    Done,
}

/// Next hops that packets of one burst are held for.
pub(crate) type Keys = ArrayVec<NeighbourKey, { Burst::CAPACITY }>;

/// What the engine decided of the packets of one burst, in their order.
pub(crate) type Fates = ArrayVec<Fate, { Burst::CAPACITY }>;

impl Fate {
    /// What the engine made of a frame; the next hop of one that is to be held goes to `keys`.
    #[inline]
    pub(crate) fn of(frame: &Frame<'_>, keys: &mut Keys) -> Fate {
        let course = match frame.verdict {
            Verdict::Transmit(port) => Course::Transmit(port),
            Verdict::Deliver(interface) => Course::Deliver(interface),
            Verdict::HandOver(worker) => Course::HandOver(worker),
            Verdict::Hold(key) => {
                let at = keys.len();
                // As many places as a burst has packets.
                let _ = keys.try_push(key);
                Course::Hold(at as u8)
            }
            Verdict::Punt
            | Verdict::Answered
            | Verdict::Copied
            | Verdict::Delivered(_)
            | Verdict::Collected
            | Verdict::Drop(_)
            | Verdict::Pending => Course::Done,
        };
        Fate { start: frame.start, len: frame.len, tag: Tag::new(frame.ingress, frame.egress), course }
    }

    /// Writes the frame's new place, and the interfaces it was counted at, to its buffer. False where the place is not
    /// within the buffer, which the engine never says.
    #[inline]
    fn write(&self, mbuf: &mut Mbuf) -> bool {
        self.tag.mark(mbuf);
        mbuf.set_range(self.start, self.len)
    }
}

impl Shell {
    /// Does with the packets of a burst what the engine decided, and leaves it empty. `keys` is what [`Fate::of`] filled.
    #[inline]
    pub(crate) fn dispatch_all(&mut self, burst: &mut Burst, fates: &Fates, keys: &Keys) {
        for (mbuf, fate) in burst.drain().zip(fates) {
            self.dispatch(mbuf, fate, keys);
        }
    }

    /// Does with a packet what the engine decided. `keys` is what [`Fate::of`] filled for its burst.
    #[inline]
    pub(crate) fn dispatch(&mut self, mut mbuf: Mbuf, fate: &Fate, keys: &Keys) {
        if let Course::HandOver(worker) = fate.course {
            return self.hand_over(worker, mbuf);
        }
        if matches!(fate.course, Course::Done) || !fate.write(&mut mbuf) {
            return;
        }
        match fate.course {
            Course::Transmit(port) => self.transmit(port, mbuf),
            Course::Deliver(interface) => self.deliver(interface, mbuf),
            Course::Hold(at) => {
                if let Some(key) = keys.get(usize::from(at)) {
                    let _ = self.keep(*key, mbuf);
                }
            }
            Course::HandOver(_) | Course::Done => {}
        }
    }

    /// Sends on what gathered in this round, and what other workers want sent. Returns how many packets moved.
    pub(crate) fn flush(&mut self) -> usize {
        let mut moved = 0;
        for at in 0..self.relays.len() {
            moved += self.relay(at);
        }
        for exit in self.ports.iter_mut().chain(self.taps.iter_mut().flatten()) {
            moved += exit.flush(&mut self.captures);
        }
        for peer in self.peers.iter_mut().flatten() {
            let count = peer.flush();
            if count > 0 {
                self.account.counters.handed_over.add(count as u64);
                moved += count;
            }
        }
        self.account.counters.held.set(self.hold.received() as u64);
        moved
    }

    /// Sends what there is before the worker ends, as far as the devices take it.
    pub(crate) fn drain(&mut self) {
        for _ in 0..DRAIN_ROUNDS {
            if self.flush() == 0 {
                return;
            }
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortId, mbuf: Mbuf) {
        let Some(exit) = self.ports.get_mut(usize::from(port.0)) else { return };
        if let Err(mbuf) = exit.push(mbuf, &mut self.captures) {
            self.not_sent(port, &mbuf);
        }
    }

    /// Sends all packets of a burst by one port, and leaves it empty.
    #[inline]
    pub(crate) fn transmit_all(&mut self, port: PortId, burst: &mut Burst) {
        if let Some(exit) = self.ports.get_mut(usize::from(port.0)) {
            exit.append(burst, &mut self.captures);
        }
        for mbuf in burst.drain() {
            self.not_sent(port, &mbuf);
        }
    }

    /// Counts a packet that finds no room at the port it was to leave by.
    #[cold]
    fn not_sent(&mut self, port: PortId, mbuf: &Mbuf) {
        self.account.not_sent(mbuf);
        if self.captures.are_running() {
            self.captures.dropped(port, Way::Out, mbuf, DropReason::TxQueue);
        }
    }

    #[inline]
    fn deliver(&mut self, interface: InterfaceId, mbuf: Mbuf) {
        let refused = match self.taps.get_mut(usize::from(interface.0)) {
            Some(Some(tap)) => tap.push(mbuf, &mut self.captures).err(),
            // A port without taps has no sockets behind it: as a tap that takes nothing.
            _ => Some(mbuf),
        };
        if let Some(mbuf) = refused {
            self.account.not_delivered(&mbuf);
            if self.captures.are_running() {
                self.captures.put(
                    interface,
                    Way::In,
                    CaptureFate::Dropped(DropReason::TapQueue),
                    mbuf.data(),
                );
            }
        }
    }

    #[inline]
    fn hand_over(&mut self, worker: WorkerId, mbuf: Mbuf) {
        let refused = match self.peers.get_mut(usize::from(worker.0)) {
            Some(Some(peer)) => {
                if peer.waiting.is_full() {
                    let count = peer.flush();
                    self.account.counters.handed_over.add(count as u64);
                }
                peer.waiting.push(mbuf).err()
            }
            _ => Some(mbuf),
        };
        if let Some(mbuf) = refused {
            self.lost(&mbuf, DropReason::HandoverRing);
        }
    }

    /// Counts a packet that the device delivered and that is not fit for the engine to see.
    #[cold]
    pub(crate) fn unfit(&mut self, mbuf: &Mbuf, reason: DropReason) {
        self.account.unfit(Source::of(mbuf), mbuf, reason);
        self.show_lost(mbuf, reason);
    }

    /// Counts a packet that is as it came.
    #[cold]
    fn lost(&mut self, mbuf: &Mbuf, reason: DropReason) {
        self.account.dropped(Source::of(mbuf), reason);
        self.show_lost(mbuf, reason);
    }

    fn show_lost(&mut self, mbuf: &Mbuf, reason: DropReason) {
        let source = Source::of(mbuf);
        if self.captures.are_running() {
            match source {
                Source::Wire(port) => self.captures.dropped(port, Way::In, mbuf, reason),
                Source::Local(tap) => {
                    self.captures.put(tap, Way::Out, CaptureFate::Dropped(reason), mbuf.data())
                }
                Source::Made => {}
            }
        }
    }

    /// As [`Shell::hand_over`], of a packet made here that stands for one from elsewhere; gives access to it where it waits.
    fn hand_over_copy(&mut self, worker: WorkerId, mbuf: Mbuf) -> Option<&mut Mbuf> {
        let peer = self.peers.get_mut(usize::from(worker.0))?.as_mut()?;
        if peer.waiting.is_full() {
            let count = peer.flush();
            self.account.counters.handed_over.add(count as u64);
        }
        peer.waiting.push(mbuf).ok()?;
        peer.waiting.last_mut()
    }

    /// Holds a packet; false where there was no room for it, which is counted.
    fn keep(&mut self, key: NeighbourKey, mbuf: Mbuf) -> bool {
        let (kept, lost) = match self.hold.push(self.now.tick, key, mbuf) {
            Ok(displaced) => (true, displaced),
            Err(refused) => (false, Some(refused)),
        };
        if let Some(mbuf) = lost {
            self.account.dropped(Source::of(&mbuf), DropReason::NeighbourQueue);
            if self.captures.are_running() {
                let fate = CaptureFate::Dropped(DropReason::NeighbourQueue);
                self.captures.put(key.interface, Way::Out, fate, mbuf.data());
            }
        }
        kept
    }

    fn relay(&mut self, at: usize) -> usize {
        let Some(relay) = self.relays.get_mut(at) else { return 0 };
        let exit = match relay.outlet {
            Outlet::Wire(port) => self.ports.get_mut(usize::from(port.0)),
            Outlet::Tap(interface) => self.taps.get_mut(usize::from(interface.0)).and_then(Option::as_mut),
            Outlet::Hold(_) | Outlet::Worker { .. } => None,
        };
        exit.map_or(0, |exit| exit.relay(&mut relay.ring))
    }
}

impl Outbox for Shell {
    fn frame(&mut self, outlet: Outlet, len: usize) -> Option<&mut [u8]> {
        let mut mbuf = self.pool.alloc()?;
        mbuf.extend(u16::try_from(len).ok()?)?;
        Tag::new(None, None).mark(&mut mbuf);
        let placed = match outlet {
            Outlet::Wire(port) => {
                self.ports.get_mut(usize::from(port.0))?.push_mut(mbuf, &mut self.captures).ok()
            }
            Outlet::Tap(interface) => {
                let tap = self.taps.get_mut(usize::from(interface.0))?.as_mut()?;
                tap.push_mut(mbuf, &mut self.captures).ok()
            }
            Outlet::Hold(key) => self.keep(key, mbuf).then(|| self.hold.newest_mut(&key))?,
            Outlet::Worker { worker, from, port } => {
                match from {
                    Origin::Local(tap) | Origin::LocalHandedOver(tap) => Source::Local(tap).mark(&mut mbuf),
                    Origin::Wire | Origin::HandedOver => Source::Wire(port).mark(&mut mbuf),
                }
                self.hand_over_copy(worker, mbuf)
            }
        };
        placed.map(Mbuf::data_mut)
    }

    fn resolve(&mut self, neighbour: NeighbourKey) {
        self.notices.resolve(self.now.tick, neighbour);
    }

    fn log(&mut self, record: &LogRecord) {
        self.notices.log(record);
    }

    fn punt(&mut self, interface: InterfaceId, frame: &[u8]) -> bool {
        self.notices.punt(interface, frame)
    }
}
