//! What the packets of a burst that took the short way count, put together.

use crate::counters::WorkerCounters;
use crate::frame::{Frame, Origin};
use crate::ids::InterfaceId;
use crate::stage::settle;
use crate::verdict::Verdict;

/// Packets that took the short way, by where they came in and what they were to the tracker.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) ingress: Option<InterfaceId>,
    /// Received here, not at another worker.
    received: u64,
    /// Of them, in bytes.
    bytes: u64,
    forwarded: u64,
    dropped: u64,
    pub(super) established: u64,
    pub(super) untracked: u64,
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
        if self.ingress != Some(ingress) {
            self.settle(counters);
            self.ingress = Some(ingress);
        }
        frame.ingress = Some(ingress);
        frame.verdict = verdict;
        let here = u64::from(frame.origin == Origin::Wire);
        self.received += here;
        self.bytes += here * u64::from(received);
        match verdict {
            Verdict::Drop(reason) => {
                settle::dropped(&counters.drops, reason, 1);
                self.dropped += 1;
            }
            _ => self.forwarded += 1,
        }
    }

    pub(super) fn settle(&mut self, counters: &WorkerCounters) {
        let Tally { ingress, received, bytes, forwarded, dropped, established, untracked } =
            std::mem::take(self);
        if let Some(here) = ingress.and_then(|ingress| counters.interfaces.get(usize::from(ingress.0))) {
            here.rx_packets.add(received);
            here.rx_bytes.add(bytes);
            here.forwarded.add(forwarded);
        }
        counters.states.established.add(established);
        // What is tracked and was not answered yet.
        let new = forwarded + dropped - established - untracked;
        counters.states.new.add(new);
        counters.states.untracked.add(untracked);
        counters.conntrack.found.add(established + new);
        counters.fast_path.add(forwarded + dropped);
    }
}
