//! `conntrack.max` over all workers: leased in batches, one by one near the limit, so that the limit is exact.
//!
//! Every entry counts, also one not confirmed yet, as in the kernel (`nf_conntrack_alloc`). A batch that one worker
//! holds unused must not keep another from the last places: within [`NEAR`] of the limit nothing is held, and what
//! was held before is given back at the worker's next poll.
//!
//! Of the places within the limit some can be kept for flows to and from the router itself, so that it can be reached
//! while flows through it take all others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::cells::Cells;
use super::connections::Connections;

/// Flows leased at once.
const BATCH: u64 = 32;

/// Below so many free places they are leased one by one; more than all workers can hold unused.
const NEAR: u64 = 127 * 2 * BATCH;

/// A limit below this leaves the kernel's hash as it was.
const SMALL: u64 = 1024;

/// The kernel's hash then, on a machine with some memory.
const SMALL_BUCKETS: u64 = 65_536;

/// `conntrack.max`, shared by all workers.
#[derive(Debug, Default)]
pub struct FlowBudget {
    leased: AtomicU64,
    max: AtomicU64,
    reserve: AtomicU64,
    buckets: AtomicU32,
    /// How often a packet found the table full and nothing to evict; wraps.
    refusals: AtomicU32,
    sources: OnceLock<Cells>,
    connections: OnceLock<Connections>,
    expectations: AtomicU32,
}

impl FlowBudget {
    /// A limit of `max` flows; 0: none, as in the kernel.
    pub fn new(max: u32) -> FlowBudget {
        let budget = FlowBudget::default();
        budget.set_max(max);
        budget
    }

    /// Changes the limit; flows in excess stay.
    pub fn set_max(&self, max: u32) {
        let max = if max == 0 { u64::MAX } else { u64::from(max) };
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many of the places are kept for flows to and from the router itself; 0, the default, is netfilter's meaning.
    pub fn set_reserve(&self, places: u32) {
        self.reserve.store(u64::from(places), Ordering::Relaxed);
    }

    /// `conntrack.buckets`: how large the kernel's hash would be, which tells how far it would look for something
    /// to evict. 0: the kernel's own choice, as many as the limit.
    pub fn set_buckets(&self, buckets: u32) {
        self.buckets.store(buckets, Ordering::Relaxed);
    }

    /// Makes room to count the flows of each source prefix, `flows` of them in all; takes some milliseconds for a
    /// million. Without, a [`super::SourceQuota`] holds nobody back. Later calls do nothing: flows that are counted
    /// know where.
    pub fn count_sources(&self, flows: u32) {
        self.sources.get_or_init(|| Cells::new(flows));
    }

    /// Takes a place for an expectation; false if there are `max` already.
    pub(super) fn take_expectation(&self, max: u32) -> bool {
        let more = |count: u32| (count < max).then_some(count + 1);
        self.expectations.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives it back.
    pub(super) fn give_expectation(&self) {
        self.expectations.fetch_sub(1, Ordering::Relaxed);
    }

    /// Flows by source.
    pub(super) fn sources(&self) -> Option<&Cells> {
        self.sources.get()
    }

    /// Makes room to count flows for rules with a `connlimit`, `flows` of them in all. Without, such a rule matches nothing. Later
    /// calls do nothing: flows that are counted know where.
    pub fn count_connections(&self, flows: u32) {
        self.connections.get_or_init(|| Connections::new(flows));
    }

    /// Flows by rule.
    pub(super) fn connections(&self) -> Option<&Connections> {
        self.connections.get()
    }

    /// The limit; `u64::MAX` for none.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// What flows may take that pass through.
    #[inline]
    fn ordinary(&self) -> u64 {
        self.max().saturating_sub(self.reserve.load(Ordering::Relaxed)).max(1)
    }

    /// How large the kernel's hash would be. It has as many buckets as flows unless someone chose otherwise, but is not
    /// made smaller for a limit that is: of the few flows then, eight buckets rarely have one.
    pub fn buckets(&self) -> u64 {
        match self.buckets.load(Ordering::Relaxed) {
            0 if self.max() < SMALL => SMALL_BUCKETS,
            0 => self.max().min(1 << 32),
            n => u64::from(n),
        }
    }

    /// Flows in all shards, and what workers hold leased beyond; exact near the limit.
    pub fn leased(&self) -> u64 {
        self.leased.load(Ordering::Relaxed)
    }

    fn take(&self) -> u64 {
        self.lease(self.ordinary(), BATCH)
    }

    /// Leases up to `batch` places below `limit`, fewer near it; how many.
    fn lease(&self, limit: u64, batch: u64) -> u64 {
        let mut leased = self.leased();
        loop {
            let free = limit.saturating_sub(leased);
            let want = if free > NEAR { batch } else { free.min(1) };
            if want == 0 {
                return 0;
            }
            match self.leased.compare_exchange_weak(
                leased,
                leased + want,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return want,
                Err(now) => leased = now,
            }
        }
    }

    fn give(&self, n: u64) {
        self.leased.fetch_sub(n, Ordering::Relaxed);
    }

    /// A packet found the table full, and nothing to evict.
    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that happened; wraps.
    #[inline]
    pub(super) fn refusals(&self) -> u32 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether so many are leased that the table is to be cleared of what it can spare: 95 %, in whole hundreds as the
    /// kernel reckons, so that a limit below 100 never is.
    #[inline]
    pub(super) fn is_nearly_full(&self) -> bool {
        let most = self.ordinary() / 100 * 95;
        self.max() != u64::MAX && most != 0 && self.leased() >= most
    }

    #[inline]
    fn is_near(&self) -> bool {
        self.ordinary().saturating_sub(self.leased()) <= NEAR
    }
}

/// One worker's part of the budget: what it may use without asking.
#[derive(Debug, Default)]
pub(super) struct Lease {
    unused: u64,
}

impl Lease {
    /// A place for one flow; false where there is none.
    #[inline]
    pub(super) fn take(&mut self, budget: &FlowBudget) -> bool {
        if self.unused == 0 {
            self.unused = budget.take();
        }
        let granted = self.unused > 0;
        self.unused -= u64::from(granted);
        granted
    }

    /// A place for one flow to or from the router itself, where [`Lease::take`] found none.
    pub(super) fn take_reserved(&mut self, budget: &FlowBudget) -> bool {
        budget.lease(budget.max(), 1) == 1
    }

    /// Gives back the place of one flow.
    pub(super) fn give(&mut self, budget: &FlowBudget) {
        self.unused += 1;
        if self.unused >= 2 * BATCH {
            self.unused -= BATCH;
            budget.give(BATCH);
        } else if budget.is_near() {
            self.settle(budget);
        }
    }

    /// Gives back what is held unused if places are scarce. Called once a poll: one load of a shared line.
    #[inline]
    pub(super) fn settle(&mut self, budget: &FlowBudget) {
        if self.unused > 0 && budget.is_near() {
            budget.give(self.unused);
            self.unused = 0;
        }
    }
}
