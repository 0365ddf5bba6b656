//! What the flow tables of both families of a worker share.

use std::sync::Arc;

use super::adaptive::Factor;
use super::budget::{FlowBudget, Lease};
use super::events::Events;
use super::expect::Expectations;
use super::gre::Calls;
use super::nat::{Answers, Endpoints, PortDraw};
use crate::counters::WorkerCounters;
use crate::ids::WorkerId;

/// One worker's.
pub(super) struct Shared {
    pub(super) worker: WorkerId,
    pub(super) budget: Arc<FlowBudget>,
    pub(super) lease: Lease,
    pub(super) counters: Arc<WorkerCounters>,
    /// Ports for flows whose own is taken.
    pub(super) ports: PortDraw,
    pub(super) events: Events,
    /// What timeouts are multiplied by for now.
    pub(super) factor: Factor,
    /// The packet at hand is to or from the router itself, and may have a place that is kept for those.
    pub(super) may_use_reserve: bool,
    /// What this worker reserved from the others.
    pub(super) answers: Answers,
    /// Who has which outer endpoint, of mappings that are the same for all destinations.
    pub(super) endpoints: Arc<Endpoints>,
    /// What helpers announced.
    pub(super) expectations: Expectations,
    /// Which ids the tunnels of announced calls have.
    pub(super) calls: Calls,
}

impl Shared {
    /// A flow came in this class.
    pub(super) fn enter_class(&self, class: usize) {
        self.counters.conntrack.entries.add(1);
        self.add_to_class(class, 1);
    }

    /// A flow of this class went.
    pub(super) fn leave_class(&self, class: usize) {
        self.counters.conntrack.entries.add(u64::MAX);
        self.add_to_class(class, u64::MAX);
    }

    /// A flow changed its class.
    pub(super) fn move_class(&self, from: usize, to: usize) {
        self.add_to_class(from, u64::MAX);
        self.add_to_class(to, 1);
    }

    /// Gauges wrap, so that adding the largest number is taking one away.
    fn add_to_class(&self, class: usize, n: u64) {
        if let Some(gauge) = self.counters.conntrack.by_state.get(class) {
            gauge.add(n);
        }
    }
}
