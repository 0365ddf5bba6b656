//! What the packets of a burst that took the short way count, put together.

use crate::counters::WorkerCounters;
use crate::frame::{Frame, Origin};
use crate::ids::InterfaceId;
use crate::stage::settle;
use crate::verdict::Verdict;

/// Packets that took the short way, by where they came in and what they were to the tracker.
#[derive(Clone, Copy)]
pub(super) struct Tally {
    /// Where all of them came in.
    ingress: InterfaceId,
    /// They were received here, not at another worker.
    received: bool,
    packets: u64,
    /// As they came.
    bytes: u64,
    dropped: u64,
    pub(super) established: u64,
    pub(super) untracked: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        let ingress = InterfaceId(0);
        Tally { ingress, received: true, packets: 0, bytes: 0, dropped: 0, established: 0, untracked: 0 }
    }
}

impl Tally {
    /// Writes a frame's verdict into it and counts it; `received` is the length that it came with, in bytes.
    #[inline(always)]
    pub(super) fn note(
        &mut self,
        counters: &WorkerCounters,
        frame: &mut Frame<'_>,
        (ingress, received): (InterfaceId, u16),
        verdict: Verdict,
    ) {
        let here = frame.origin == Origin::Wire;
        if (self.ingress != ingress) | (self.received != here) {
            self.settle(counters);
            (self.ingress, self.received) = (ingress, here);
        }
        frame.ingress = Some(ingress);
        frame.verdict = verdict;
        self.packets += 1;
        self.bytes += u64::from(received);
        if let Verdict::Drop(reason) = verdict {
            settle::dropped(&counters.drops, reason, 1);
            self.dropped += 1;
        }
    }

    /// Whether there is nothing to count.
    pub(super) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    #[inline(never)]
    pub(super) fn settle(&mut self, counters: &WorkerCounters) {
        let Tally { ingress, received, packets, bytes, dropped, established, untracked } =
            std::mem::take(self);
        if let Some(here) = counters.interfaces.get(usize::from(ingress.0)) {
            if received {
                here.rx_packets.add(packets);
                here.rx_bytes.add(bytes);
            }
            here.forwarded.add(packets - dropped);
        }
        counters.states.established.add(established);
        // What is tracked and was not answered yet.
        let new = packets - established - untracked;
        counters.states.new.add(new);
        counters.states.untracked.add(untracked);
        counters.conntrack.found.add(established + new);
        counters.fast_path.add(packets);
    }
}
