//! Copies of packets for whoever captures: what is received and what becomes of it, what is sent, what is dropped.
//!
//! A received frame that a capture wants is copied before the engine rewrites it, and put down once the engine said what
//! becomes of it. A packet that another worker owns is put down there. What is sent is copied right before the device gets
//! it. Copies go into pages ([`sluice_engine::capture`]); where none is empty the copy is lost, never the packet. A frame
//! costs one run of each capture's filter; while nobody captures, a burst costs one branch.
//!
//! Times are those of the poll round. Not here: fragments that are kept and given up later, whose bytes the engine has by then.

use std::sync::Arc;

use arrayvec::ArrayVec;
use sluice_engine::capture::{CaptureId, Copied, Fate, LONGEST, Order, Way};
use sluice_engine::ids::{InterfaceId, Now, PortId};
use sluice_engine::world::Interfaces;
use sluice_engine::{DropReason, Frame, Verdict};
use sluice_rte::{Burst, Mbuf};

use crate::source::Source;

/// Captures at once; control refuses more.
const MOST: usize = 8;

/// A page with copies in it waits this long for more, in nanoseconds.
const WAIT: u64 = 2_000_000;

/// All captures of one worker.
pub(crate) struct Captures {
    running: ArrayVec<Running, MOST>,
    /// Ports and VLAN tags of these never change.
    interfaces: Arc<Interfaces>,
    now: Now,
    /// Frames of the burst that the engine has at hand, and their bytes as they came.
    staged: ArrayVec<Staged, { Burst::CAPACITY }>,
    bytes: Vec<u8>,
}

struct Running {
    order: Order,
    /// Has copies in it.
    page: Option<Vec<u8>>,
    /// When the first of them was made, in nanoseconds.
    since: u64,
}

/// A frame that was copied before it is judged.
struct Staged {
    /// Its place in the burst.
    place: usize,
    interface: InterfaceId,
    way: Way,
    length: u32,
    wanted: Wanted,
    /// Where its bytes end; they begin where those of the one before end.
    end: usize,
}

/// Which captures want a frame, a bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted(u8);

impl Captures {
    /// None.
    pub(crate) fn new(interfaces: Arc<Interfaces>) -> Captures {
        Captures {
            running: ArrayVec::new(),
            interfaces,
            now: Now::default(),
            staged: ArrayVec::new(),
            bytes: Vec::new(),
        }
    }

    /// Whether anyone captures.
    #[inline(always)]
    pub(crate) fn are_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Begins one.
    pub(crate) fn begin(&mut self, order: Order) {
        self.end(order.id);
        let room = Burst::CAPACITY * order.snaplen.min(LONGEST) as usize;
        if let Err(refused) = self.running.try_push(Running { order, page: None, since: 0 }) {
            tracing::error!(capture = refused.element().order.id.0, "more captures than there is room for");
            return;
        }
        self.bytes.reserve(room.saturating_sub(self.bytes.len()));
    }

    /// Ends one; what was copied so far is handed over.
    pub(crate) fn end(&mut self, id: CaptureId) {
        for running in self.running.iter_mut().filter(|running| running.order.id == id) {
            running.hand_over();
        }
        self.running.retain(|running| running.order.id != id);
        if self.running.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// A round begins: hands over pages that waited for long enough.
    #[inline]
    pub(crate) fn tick(&mut self, now: Now) {
        if self.are_running() {
            self.now = now;
            for running in &mut self.running {
                if now.nanos.saturating_sub(running.since) >= WAIT {
                    running.hand_over();
                }
            }
        }
    }

    /// Copies what is wanted of a burst that is to be judged, all of one source if that is given.
    #[cold]
    pub(crate) fn stage(&mut self, burst: &Burst, source: Option<Source>) {
        self.staged.clear();
        self.bytes.clear();
        for (place, mbuf) in burst.iter().enumerate() {
            let source = source.unwrap_or_else(|| Source::of(mbuf));
            let (bytes, interface) = (mbuf.data(), self.arrival(source, mbuf.data()));
            let (wanted, snaplen) = self.wanted(interface, bytes);
            let copied = bytes.get(..snaplen).unwrap_or(bytes);
            // As much as was set aside, so that nothing is allocated here.
            if wanted.is_none() || self.bytes.capacity() - self.bytes.len() < copied.len() {
                continue;
            }
            self.bytes.extend_from_slice(copied);
            let way = if matches!(source, Source::Wire(_)) { Way::In } else { Way::Out };
            let (length, end) = (length(mbuf.len()), self.bytes.len());
            // As many places as a burst has.
            let _ = self.staged.try_push(Staged { place, interface, way, length, wanted, end });
        }
    }

    /// Puts down what was copied of a burst, now that it is judged.
    #[cold]
    pub(crate) fn judged(&mut self, frames: &[Frame<'_>]) {
        let mut start = 0;
        for staged in std::mem::take(&mut self.staged) {
            let bytes = self.bytes.get(start..staged.end).unwrap_or_default();
            start = staged.end;
            let verdict = frames.get(staged.place).map_or(Verdict::Pending, |frame| frame.verdict);
            let Some(fate) = fate(verdict) else { continue };
            let Staged { interface, way, length, wanted, .. } = staged;
            // What the box sends is seen when it leaves.
            if (way, fate) != (Way::Out, Fate::Passed) {
                let copied = Copied { at: self.now.nanos, length, interface, way, fate };
                put_down(&mut self.running, wanted, copied, bytes);
            }
        }
    }

    /// Copies frames that a port is about to send.
    #[cold]
    pub(crate) fn sent(&mut self, port: PortId, mbufs: &[Mbuf]) {
        for mbuf in mbufs {
            let interface = self.arrival(Source::Wire(port), mbuf.data());
            self.put(interface, Way::Out, Fate::Passed, mbuf.data());
        }
    }

    /// Copies a packet that is lost behind the engine, or never got to it.
    #[cold]
    pub(crate) fn dropped(&mut self, port: PortId, way: Way, mbuf: &Mbuf, reason: DropReason) {
        let interface = self.arrival(Source::Wire(port), mbuf.data());
        self.put(interface, way, Fate::Dropped(reason), mbuf.data());
    }

    /// Copies a frame that was judged once more, when it had waited for its next hop.
    #[cold]
    pub(crate) fn given_up(&mut self, interface: InterfaceId, frame: &Frame<'_>) {
        match fate(frame.verdict) {
            Some(Fate::Passed) | None => {}
            Some(fate) => self.put(interface, Way::Out, fate, frame.bytes()),
        }
    }

    /// Copies a frame for a packet that is lost on its way through an interface.
    #[cold]
    pub(crate) fn put(&mut self, interface: InterfaceId, way: Way, fate: Fate, bytes: &[u8]) {
        let (wanted, _) = self.wanted(interface, bytes);
        let copied = Copied { at: self.now.nanos, length: length(bytes.len()), interface, way, fate };
        put_down(&mut self.running, wanted, copied, bytes);
    }

    /// The interface that a frame came in or leaves by, for its port and its tag.
    fn arrival(&self, source: Source, bytes: &[u8]) -> InterfaceId {
        let port = match source {
            Source::Wire(port) => port,
            Source::Local(interface) => return interface,
            Source::Made => PortId(0),
        };
        let found = self.interfaces.of_port(port, vlan(bytes));
        found.or_else(|| self.interfaces.any_of_port(port)).unwrap_or(InterfaceId(0))
    }

    /// Who wants a frame, and how many bytes of it at the most.
    fn wanted(&self, interface: InterfaceId, bytes: &[u8]) -> (Wanted, usize) {
        let (mut wanted, mut snaplen) = (Wanted(0), 0);
        for (at, Running { order, .. }) in self.running.iter().enumerate() {
            let here = order.interface.is_none_or(|only| only == interface);
            if here && order.filter.as_ref().is_none_or(|filter| filter.matches(bytes)) {
                wanted.0 |= 1 << at;
                snaplen = snaplen.max(order.snaplen.min(LONGEST) as usize);
            }
        }
        (wanted, snaplen)
    }
}

impl Wanted {
    fn is_none(self) -> bool {
        self.0 == 0
    }

    fn contains(self, at: usize) -> bool {
        self.0 & 1 << at != 0
    }
}

/// Puts a copy into the pages of all captures that want it.
fn put_down(running: &mut ArrayVec<Running, MOST>, wanted: Wanted, copied: Copied, bytes: &[u8]) {
    for (at, running) in running.iter_mut().enumerate() {
        let only_drops = running.order.drops && copied.fate == Fate::Passed;
        if wanted.contains(at) && !only_drops {
            running.write(copied, bytes);
        }
    }
}

impl Running {
    fn write(&mut self, copied: Copied, bytes: &[u8]) {
        let bytes = bytes.get(..self.order.snaplen.min(LONGEST) as usize).unwrap_or(bytes);
        let written = self.write_here(copied, bytes) || {
            self.hand_over();
            self.page = self.order.pages.empty();
            self.since = copied.at;
            self.write_here(copied, bytes)
        };
        self.order.pages.count(!written);
    }

    fn write_here(&mut self, copied: Copied, bytes: &[u8]) -> bool {
        self.page.as_mut().is_some_and(|page| copied.write(bytes, page))
    }

    fn hand_over(&mut self) {
        if let Some(page) = self.page.take() {
            self.order.pages.filled(page);
        }
    }
}

/// What a verdict says of a frame; None if it is another worker's to say.
fn fate(verdict: Verdict) -> Option<Fate> {
    match verdict {
        Verdict::Drop(reason) => Some(Fate::Dropped(reason)),
        Verdict::Answered => Some(Fate::Answered),
        Verdict::HandOver(_) | Verdict::Pending => None,
        _ => Some(Fate::Passed),
    }
}

/// The VLAN id of a frame's outer tag.
fn vlan(bytes: &[u8]) -> Option<u16> {
    const TAG: usize = 12;
    match bytes.get(TAG..TAG + 4)? {
        [0x81, 0x00, high, low] => Some(u16::from_be_bytes([*high, *low]) & 0xfff),
        _ => None,
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
