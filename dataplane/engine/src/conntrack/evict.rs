//! A full table: what gives way to a new flow, and what is cleared away when the table is nearly full.
//!
//! The kernel looks at eight buckets of its hash, from that of the new flow on, and evicts every entry that is not
//! ASSURED in the first of them that has any (`early_drop`). Each of its flows is in two buckets. Here the same share
//! of the hash's range is looked at, in the buckets of this index, and as many evicted at most as such a bucket holds.
//! If there are none, the packet is dropped before any rule sees it.
//!
//! At 95 % of the limit and above, the kernel's garbage collector also removes what is not ASSURED, and flows that
//! are closing: here a sweep over the table does, a few flows a poll.

use super::info::Status;
use super::table::{Shared, Table};
use super::tuple::Address;
use crate::ids::{Millis, Tick};

/// Kernel buckets that are looked at, times the two that each flow is in.
const RANGE: u64 = 16;

/// Flows looked at in one step of the sweep.
const SWEEP_STEP: u32 = 64;

/// At most so often all flows are swept, as often as the kernel's collector under load.
const SWEEP_INTERVAL: Millis = Millis::from_secs(20);

/// The sweep's place in the table.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: u32,
    began: Option<Tick>,
}

impl<A: Address> Table<A> {
    /// Takes a place for a new flow, if need be from another one.
    #[inline]
    pub(super) fn admit(&mut self, shared: &mut Shared, now: Tick, hash: u64) -> bool {
        self.reserve(shared) || self.evict(shared, now, hash) && self.reserve(shared)
    }

    /// Makes room for one more; false if nothing gives way.
    #[cold]
    pub(super) fn evict(&mut self, shared: &mut Shared, now: Tick, hash: u64) -> bool {
        let kernel_buckets = shared.budget.buckets();
        let flows_per_bucket = (2 * u64::from(self.used()) / kernel_buckets).max(1);
        let range = (RANGE * self.buckets()).div_ceil(kernel_buckets).clamp(1, RANGE.min(self.buckets()));
        for n in 0..range {
            let mut evicted = 0;
            for place in self.neighbourhood(hash, n) {
                let Some(flow) = self.flow(place) else { continue };
                if evicted < flows_per_bucket
                    && flow.status.contains(Status::CONFIRMED)
                    && (!flow.status.contains(Status::ASSURED) || !flow.is_live(now))
                {
                    self.remove(shared, place);
                    evicted += 1;
                }
            }
            if evicted > 0 {
                shared.counters.conntrack.early_drop.add(evicted);
                return true;
            }
        }
        false
    }

    /// A step of the sweep, if the table is nearly full.
    pub(super) fn sweep(&mut self, shared: &mut Shared, now: Tick, sweep: &mut Sweep) {
        if sweep.next == 0 {
            if now.since(*sweep.began.get_or_insert(now)) < SWEEP_INTERVAL || self.places() == 0 {
                return;
            }
            sweep.began = Some(now);
        }
        let end = self.places().min(sweep.next.saturating_add(SWEEP_STEP));
        for place in sweep.next..end {
            let gives_way = |flow: &super::flow::Flow<A>| {
                flow.status.contains(Status::CONFIRMED)
                    && (!flow.status.contains(Status::ASSURED) || flow.is_closing())
            };
            if self.flow(place).is_some_and(gives_way) {
                self.remove(shared, place);
                shared.counters.conntrack.early_drop.add(1);
            }
        }
        sweep.next = if end == self.places() { 0 } else { end };
    }
}
