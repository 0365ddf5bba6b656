//! A full table: what gives way to a new flow, and what is cleared away after a packet had to be refused.
//!
//! The kernel looks at eight buckets of its hash, from that of the new flow on, and evicts every entry that is not
//! ASSURED in the first of them that has any (`early_drop`). Each of its flows is in two buckets. Here the same share
//! of the hash's range is looked at, in the buckets of this index, and as many evicted at most as such a bucket holds.
//! If there are none, the packet is dropped before any rule sees it. Flows that ran out give way first, as they do when
//! the kernel comes by them; they are not counted as evicted.
//!
//! Once a packet was dropped so, and as long as 95 % of the limit are taken, the kernel's garbage collector removes what
//! is not ASSURED and flows that are closing, in its next pass, which may take a minute to come. Nothing of that is
//! `early_drop` in its statistics. Here a sweep over the table does, a few flows a poll, at once. The same sweep gives
//! flows without packets their share of timeouts that shrink ([`super::adaptive`]).

use sluice_wire::Family;

use super::Conntrack;
use super::cells::{Charge, Charged};
use super::flow::Flow;
use super::info::{Status, TrackHook};
use super::pending::Place;
use super::quota::SourceQuota;
use super::settings::Settings;
use super::shared::Shared;
use super::table::Table;
use super::track::Context;
use super::tuple::{Address, FamilyKey};
use super::walk::Position;
use crate::ids::{Millis, Tick};
use crate::verdict::DropReason;

/// Kernel buckets that are looked at, times the two that each flow is in.
const RANGE: u64 = 16;

/// Buckets of the index that are looked at for one packet at most, however few flows are in them.
const LONGEST: u64 = 512;

/// Flows that ran out and are still in the wheel: so many are looked at before others give way.
const OVERDUE: usize = 16;

/// Places in a bucket of the index.
const NEIGHBOURS: usize = 10;

/// Flows looked at in one step of the sweep.
const SWEEP_STEP: u32 = 64;

/// At most so often all flows are swept: as often as the kernel's collector comes by at most.
const SWEEP_INTERVAL: Millis = Millis::from_secs(1);

/// The sweep over the tables of both families.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where it is, while it runs.
    at: Option<Position>,
    began: Option<Tick>,
    /// Refused packets by then; those that come later are for the next one.
    refusals: u32,
    /// Whether it removes flows, or only shortens their time.
    clears: bool,
}

/// What a step of the sweep does.
#[derive(Clone, Copy)]
struct Broom<'a> {
    now: Tick,
    settings: &'a Settings,
    clears: bool,
}

impl Shared {
    /// Has timeouts shrink, or not, by how full the table is now.
    #[inline]
    pub(super) fn adapt(&mut self, settings: &Settings) {
        let Some(adaptive) = settings.adaptive else {
            if self.factor != super::Factor::WHOLE {
                self.set_factor(super::Factor::WHOLE);
            }
            return;
        };
        let factor = adaptive.factor(self.budget.leased());
        if factor != self.factor {
            self.set_factor(factor);
        }
    }

    fn set_factor(&mut self, factor: super::Factor) {
        self.factor = factor;
        self.counters.conntrack.timeout_factor.set(u64::from(factor.0));
    }
}

impl Sweep {
    /// Whether there is anything to do.
    #[inline]
    pub(super) fn is_due(&self, shared: &Shared) -> bool {
        self.at.is_some() || shared.factor != super::Factor::WHOLE || self.is_refused(shared)
    }

    /// Whether a packet was refused since the last one began, and the table is still full.
    #[inline]
    fn is_refused(&self, shared: &Shared) -> bool {
        self.refusals != shared.budget.refusals() && shared.budget.is_nearly_full()
    }

    /// Where to go on; None where it is too soon to begin.
    fn begin(&mut self, shared: &Shared, now: Tick) -> Option<Position> {
        if self.at.is_none() && self.began.is_none_or(|began| now.since(began) >= SWEEP_INTERVAL) {
            self.clears = self.is_refused(shared);
            self.refusals = shared.budget.refusals();
            self.began = Some(now);
            self.at = Some(Position { family: Family::V4, place: 0 });
        }
        self.at
    }
}

impl Conntrack {
    /// A step of the sweep.
    #[cold]
    pub(super) fn sweep_on(&mut self, now: Tick, settings: &Settings) {
        let shared = &mut self.shared;
        let Some(Position { family, place }) = self.sweep.begin(shared, now) else { return };
        let clears = self.sweep.clears && shared.budget.is_nearly_full();
        let broom = Broom { now, settings, clears };
        let next = match family {
            _ if !clears && shared.factor == super::Factor::WHOLE => {
                self.sweep.at = None;
                return;
            }
            Family::V4 => self.v4.sweep(shared, broom, place),
            Family::V6 => self.v6.sweep(shared, broom, place),
        };
        self.sweep.at = Position::following(family, next).map(Position::from_cursor);
    }
}

impl<A: Address> Table<A> {
    /// Takes a place for a new flow, if need be from another one.
    #[inline]
    pub(super) fn admit(
        &mut self,
        shared: &mut Shared,
        cx: &Context<'_>,
        hash: u64,
        charge: Option<Charge>,
    ) -> Option<Place> {
        if self.reserve(shared) || self.evict(shared, cx.now.tick, hash) && self.reserve(shared) {
            return Some(Place { charge, reserved: false });
        }
        let is_routers = cx.hook == TrackHook::Output || shared.may_use_reserve;
        if is_routers && self.reserve_for_router(shared) {
            return Some(Place { charge, reserved: true });
        }
        discharge(shared, charge);
        None
    }

    /// Makes room for one more; false if nothing gives way.
    #[cold]
    pub(super) fn evict(&mut self, shared: &mut Shared, now: Tick, hash: u64) -> bool {
        if self.expire(shared, now, OVERDUE) > 0 {
            return true;
        }
        let kernel_buckets = shared.budget.buckets();
        let flows_per_bucket = (2 * u64::from(self.used()) / kernel_buckets).max(1);
        let range = (RANGE * self.buckets()).div_ceil(kernel_buckets).clamp(1, LONGEST.min(self.buckets()));
        for n in 0..range {
            self.prefetch_neighbourhood(hash, n + 1);
            let mut places = [0; NEIGHBOURS];
            let mut found = 0;
            for (slot, place) in places.iter_mut().zip(self.neighbourhood(hash, n)) {
                self.prefetch_flow(place);
                (*slot, found) = (place, found + 1);
            }
            let mut room = false;
            let mut evicted = 0;
            for place in places.into_iter().take(found) {
                let Some(flow) = self.flow(place) else { continue };
                if !flow.status.contains(Status::CONFIRMED) {
                    continue;
                }
                let ran_out = !flow.is_live(now);
                if ran_out || evicted < flows_per_bucket && !flow.status.contains(Status::ASSURED) {
                    self.remove(shared, place);
                    evicted += u64::from(!ran_out);
                    room = true;
                }
            }
            shared.counters.conntrack.early_drop.add(evicted);
            if room {
                return true;
            }
        }
        false
    }

    /// A step of the sweep from `from` on; where to go on, if not at the end.
    fn sweep(&mut self, shared: &mut Shared, broom: Broom<'_>, from: u32) -> Option<u32> {
        let end = self.places().min(from.saturating_add(SWEEP_STEP));
        for place in from..end {
            let Some(flow) = self.flow(place) else { continue };
            if !flow.status.contains(Status::CONFIRMED) {
                continue;
            }
            if broom.clears && gives_way(flow) && shared.budget.is_nearly_full() {
                self.remove(shared, place);
                shared.counters.conntrack.swept.add(1);
            } else if !flow.status.contains(Status::FIXED_TIMEOUT) {
                let timeouts = self.aside.timeouts(place, flow.status, broom.settings);
                let deadline = broom.now.after(shared.factor.of(flow.whole_timeout(timeouts)));
                if !deadline.is_due(flow.deadline) {
                    self.refresh(place, deadline);
                }
            }
        }
        (end < self.places()).then_some(end)
    }

    /// Counts a flow that begins for its source.
    ///
    /// # Errors
    /// [`DropReason::ConntrackQuota`] if its source has as many flows as it may have.
    #[cold]
    pub(super) fn charge_source(
        &self,
        shared: &Shared,
        key: &FamilyKey<A>,
        quota: &SourceQuota,
    ) -> Result<Option<Charge>, DropReason> {
        let Some(sources) = shared.budget.sources() else { return Ok(None) };
        match sources.charge(quota.hash(key.tuple.src, self.seeds()), quota.max) {
            Charged::To(charge, _) => Ok(Some(charge)),
            Charged::Full => Err(DropReason::ConntrackQuota),
            Charged::Uncounted => {
                shared.counters.conntrack.quota_uncounted.add(1);
                Ok(None)
            }
        }
    }
}

fn discharge(shared: &Shared, charge: Option<Charge>) {
    if let (Some(charge), Some(sources)) = (charge, shared.budget.sources()) {
        sources.discharge(charge);
    }
}

/// Whether little is lost with it.
fn gives_way<A: Address>(flow: &Flow<A>) -> bool {
    !flow.status.contains(Status::ASSURED) || flow.is_closing()
}
