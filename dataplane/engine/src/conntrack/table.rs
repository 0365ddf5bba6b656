//! The flows of one address family: places in memory, the index over them, the wheel that ends them.
//!
//! Nothing of a flow is allocated after [`Table::new`], and memory is touched only as places are used: flows and links are
//! pushed into reserved space, the index and what lies aside are zero pages.

mod entry;
mod expiry;

use std::ops::Range;

use sluice_wire::Family;

use super::aside::Aside;
use super::cells::Charge;
use super::flow::Flow;
use super::index::Index;
use super::info::{Direction, Status};
use super::nat::Translations;
use super::pending::Spare;
use super::record::FlowId;
use super::shared::Shared;
use super::template::Zone;
use super::tuple::{Address, FamilyKey, Seeds, Tuple};
use super::wheel::Wheel;
use crate::arch;
use crate::ids::{Tick, WorkerId};

/// Set in the index where a flow is entered a second time, under what its answers are looked up by.
const SECOND: u32 = 1 << 31;

/// The flows of one family.
pub(super) struct Table<A> {
    flows: Vec<Flow<A>>,
    index: Index,
    wheel: Wheel,
    /// Where flows are counted for their source's quota: [`Status::COUNTED`].
    charges: Vec<u32>,
    /// Of flows that are translated.
    translations: Translations<A>,
    /// Flows that are in the index twice.
    twice: u32,
    /// What few flows need.
    pub(super) aside: Aside,
    seeds: Seeds,
    capacity: u32,
    /// In the table, or pending.
    used: u32,
    /// Where flows are until they are confirmed.
    pub(super) spare: Spare<A>,
}

impl<A: Address> Table<A> {
    /// An empty table.
    pub(super) fn new(capacity: u32, seeds: Seeds) -> Table<A> {
        let n = capacity as usize;
        Table {
            flows: Vec::with_capacity(n),
            index: Index::new(capacity),
            wheel: Wheel::new(capacity, Tick(0)),
            charges: vec![0; n],
            translations: Translations::new(capacity, seeds),
            twice: 0,
            aside: Aside::new(n),
            seeds,
            capacity,
            used: 0,
            spare: Spare::new(),
        }
    }

    /// The memory that a first `flows` flows take with all that every flow has: for touching it beforehand.
    pub(super) fn memory(&self, flows: u32) -> [Range<usize>; 3] {
        let flows = flows.min(self.capacity) as usize;
        let from = self.flows.as_ptr().addr();
        [from..from + flows * size_of::<Flow<A>>(), self.index.memory(), self.wheel.memory(flows)]
    }

    /// Asks for the line of the index that a look-up reads first.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
        self.translations.prefetch(hash);
    }

    /// Asks for both lines of a flow.
    #[inline(always)]
    pub(super) fn prefetch_flow(&self, place: u32) {
        if let Some(flow) = self.flows.get(place as usize) {
            arch::prefetch(flow);
            arch::prefetch_end(flow);
        }
    }

    /// Asks for what is read of a flow whatever its protocol.
    #[inline(always)]
    pub(super) fn prefetch_head(&self, place: u32) {
        if let Some(flow) = self.flows.get(place as usize) {
            arch::prefetch(flow);
            if A::FAMILY == Family::V6 {
                arch::prefetch_end(&flow.mark);
            }
        }
    }

    /// The flow that is most likely that of a hash.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: u64) -> Option<u32> {
        let first = self.index.first_of(hash).map(|name| name & !SECOND);
        first.or_else(|| self.translations.find(hash, Some))
    }

    /// The live flow of a packet.
    #[inline(always)]
    pub(super) fn find(&self, now: Tick, key: &FamilyKey<A>) -> Option<(u32, Direction)> {
        self.look_up(key, |place| self.direction_at(now, key, place))
    }

    /// Whether a packet is of a flow in the table, be it one that ran out.
    pub(super) fn knows(&self, key: &FamilyKey<A>) -> bool {
        self.known(key).is_some()
    }

    /// The flow of a packet, be it one that ran out.
    pub(super) fn known(&self, key: &FamilyKey<A>) -> Option<(u32, Direction)> {
        self.look_up(key, |place| {
            let flow = self.flow(place).filter(|flow| flow.status.contains(Status::CONFIRMED))?;
            self.direction_in(flow, place, key)
        })
    }

    /// The flow that `check` says a direction of, by either hash that a packet's may be under.
    #[inline(always)]
    fn look_up(
        &self,
        key: &FamilyKey<A>,
        check: impl Fn(u32) -> Option<Direction>,
    ) -> Option<(u32, Direction)> {
        let under = |hash| {
            let check = |name| {
                let place = name & !SECOND;
                check(place).map(|direction| (place, direction))
            };
            self.index.find(hash, check).or_else(|| self.translations.find(hash, check))
        };
        under(key.hash).or_else(|| under(key.reply_hash()?))
    }

    /// Which way a packet goes in the flow at a place, if that is its flow, and alive.
    #[inline(always)]
    pub(super) fn direction_at(&self, now: Tick, key: &FamilyKey<A>, place: u32) -> Option<Direction> {
        let flow = self.flows.get(place as usize)?;
        let direction = self.direction_in(flow, place, key)?;
        flow.is_live(now).then_some(direction)
    }

    /// Which way a packet goes in a flow, if that has its tuple and zone.
    #[inline(always)]
    fn direction_in(&self, flow: &Flow<A>, place: u32, key: &FamilyKey<A>) -> Option<Direction> {
        let original = flow.original();
        if key.zone.is_default() && !flow.status.intersects(Status::SPECIAL) {
            return key.direction_in(&original);
        }
        key.direction_in_zone(&original, &self.outward_at(place)?, self.aside.zone(place, flow))
    }

    /// As [`Table::find`]; a flow of this tuple that ran out is removed, so that another may take its place.
    pub(super) fn find_or_reap(
        &mut self,
        shared: &mut Shared,
        now: Tick,
        key: &FamilyKey<A>,
    ) -> Option<(u32, Direction)> {
        let (place, direction) = self.known(key)?;
        if self.flows.get(place as usize)?.is_live(now) {
            return Some((place, direction));
        }
        self.remove(shared, place);
        None
    }

    /// What NAT keeps beside the flows.
    #[inline(always)]
    pub(super) fn translations(&self) -> &Translations<A> {
        &self.translations
    }

    /// How packets of the flow at a place leave.
    #[inline]
    pub(super) fn outward_at(&self, place: u32) -> Option<Tuple<A>> {
        let flow = self.flow(place)?;
        match flow.status.is_translated() {
            true => self.translations.get(place, flow.protocol()).map(|(outward, _)| outward),
            false => Some(flow.original()),
        }
    }

    /// How packets of a direction leave that are of the flow at a place.
    #[inline]
    pub(super) fn leaving_at(&self, place: u32, direction: Direction) -> Option<Tuple<A>> {
        match direction {
            Direction::Original => self.outward_at(place),
            Direction::Reply => self.original_at(place).map(|original| original.reversed()),
        }
    }

    /// The tuple of the first packet of the flow at a place.
    pub(super) fn original_at(&self, place: u32) -> Option<Tuple<A>> {
        self.flow(place).map(Flow::original)
    }

    /// The zone of the flow at a place.
    pub(super) fn zone_at(&self, place: u32) -> Option<Zone> {
        self.flow(place).map(|flow| self.aside.zone(place, flow))
    }

    /// Secrets of the hash.
    pub(super) fn seeds(&self) -> &Seeds {
        &self.seeds
    }

    /// The flow at a place.
    #[inline(always)]
    pub(super) fn flow(&self, place: u32) -> Option<&Flow<A>> {
        self.flows.get(place as usize)
    }

    /// The flow at a place.
    #[inline(always)]
    pub(super) fn flow_mut(&mut self, place: u32) -> Option<&mut Flow<A>> {
        self.flows.get_mut(place as usize)
    }

    /// Flows in the table, or pending.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Places that were ever used; all flows are below.
    pub(super) fn places(&self) -> u32 {
        self.flows.len() as u32
    }

    /// Whether there is memory for one flow more.
    pub(super) fn has_room(&self) -> bool {
        self.used < self.capacity
    }

    /// Takes a place for a flow that begins; false where there is none.
    pub(super) fn reserve(&mut self, shared: &mut Shared) -> bool {
        let granted = self.has_room() && shared.lease.take(&shared.budget);
        self.used += u32::from(granted);
        granted
    }

    /// The same, of the places that are kept for the router's own traffic.
    #[cold]
    pub(super) fn reserve_for_router(&mut self, shared: &mut Shared) -> bool {
        let granted = self.has_room() && shared.lease.take_reserved(&shared.budget);
        self.used += u32::from(granted);
        granted
    }

    /// Gives a place back that no flow took, or whose flow is gone.
    pub(super) fn give_back(&mut self, shared: &mut Shared, charge: Option<Charge>) {
        self.used = self.used.saturating_sub(1);
        shared.lease.give(&shared.budget);
        if let (Some(charge), Some(sources)) = (charge, shared.budget.sources()) {
            sources.discharge(charge);
        }
    }

    /// Asks for the line of the `n`th bucket from that of `hash` on.
    pub(super) fn prefetch_neighbourhood(&self, hash: u64, n: u64) {
        self.index.prefetch_neighbourhood(hash, n);
    }

    /// The flows in the `n`th bucket from that of `hash` on.
    pub(super) fn neighbourhood(&self, hash: u64, n: u64) -> impl Iterator<Item = u32> + use<A> {
        self.index.neighbourhood(hash, n).filter(|name| name & SECOND == 0)
    }

    /// How many buckets the index has.
    pub(super) fn buckets(&self) -> u64 {
        self.index.buckets()
    }

    /// The id of the flow at a place: worker, family, how often the place was used, place.
    pub(super) fn id(&self, worker: WorkerId, place: u32) -> FlowId {
        let family = u64::from(A::FAMILY == Family::V6);
        let uses = u64::from(self.wheel.uses(place) & 0x7f_ffff);
        FlowId(u64::from(worker.0) << 56 | family << 55 | uses << 32 | u64::from(place))
    }
}
