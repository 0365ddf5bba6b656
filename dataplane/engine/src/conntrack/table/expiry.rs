//! When flows run out: deadlines are put off where they lie, and looked at when their slot of the wheel comes up.

use super::Table;
use crate::conntrack::shared::Shared;
use crate::conntrack::tuple::Address;
use crate::ids::Tick;

/// Flows whose memory is asked for at once when they expire.
const BATCH: usize = 16;

/// Slots of the wheel that one call may pass.
const STEPS: u32 = 4096;

impl<A: Address> Table<A> {
    /// Gives a flow another deadline. The wheel is told only where it would come too late.
    #[inline]
    pub(in crate::conntrack) fn refresh(&mut self, place: u32, deadline: Tick) {
        let Some(flow) = self.flows.get_mut(place as usize) else { return };
        let sooner = !deadline.is_due(flow.deadline);
        flow.deadline = deadline;
        if sooner && self.wheel.is_late(flow.filed, deadline) {
            let slot = flow.filed;
            self.wheel.unfile(place, slot);
            self.file_again(place, deadline);
        }
    }

    fn file_again(&mut self, place: u32, deadline: Tick) {
        let slot = self.wheel.file(place, deadline);
        if let Some(flow) = self.flow_mut(place) {
            flow.filed = slot;
        }
    }

    /// Removes flows that ran out, looking at about `budget` of them; returns how many went.
    pub(in crate::conntrack) fn expire(&mut self, shared: &mut Shared, now: Tick, budget: usize) -> usize {
        let (mut left, mut expired, mut steps) = (budget, 0, STEPS);
        while left > 0 {
            let mut batch = [0u32; BATCH];
            let mut n = 0;
            for slot in batch.iter_mut().take(left) {
                let Some(place) = self.wheel.pop(now, &mut steps) else { break };
                self.prefetch_flow(place);
                (*slot, n) = (place, n + 1);
            }
            let batch = batch.get(..n).unwrap_or_default();
            for place in batch {
                if let Some(flow) = self.flow(*place) {
                    self.index.prefetch(flow.original().hash(&self.seeds));
                }
            }
            expired += batch.iter().filter(|place| self.expire_one(shared, now, **place)).count();
            left -= n;
            if n == 0 {
                break;
            }
        }
        expired
    }

    fn expire_one(&mut self, shared: &mut Shared, now: Tick, place: u32) -> bool {
        let Some(flow) = self.flow(place).copied() else { return false };
        if flow.is_live(now) {
            self.file_again(place, flow.deadline);
            return false;
        }
        self.drop_flow(shared, place, flow);
        true
    }
}
