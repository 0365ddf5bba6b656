//! The flows of one address family: places in memory, the index over them, the wheel that ends them.
//!
//! Nothing is allocated after [`Table::new`], and memory is touched only as places are used: flows and links are
//! pushed into reserved space, the index and what lies aside are zero pages.

use std::ops::Range;
use std::sync::Arc;

use super::adaptive::Factor;
use super::aside::Aside;
use super::budget::{FlowBudget, Lease};
use super::cells::Charge;
use super::events::Events;
use super::expect::Expectations;
use super::flow::Flow;
use super::help::Help;
use super::index::Index;
use super::info::{Direction, Status};
use super::nat::{Answers, PortDraw, Translations};
use super::pending::NewFlow;
use super::record::FlowId;
use super::template::Zone;
use super::tuple::{Address, FamilyKey, Seeds, Tuple};
use super::wheel::Wheel;
use crate::arch;
use crate::counters::WorkerCounters;
use crate::ids::{Now, Tick, WorkerId};

/// Flows whose memory is asked for at once when they expire.
const BATCH: usize = 16;

/// Set in the index where a flow is entered a second time, under what its answers are looked up by.
const SECOND: u32 = 1 << 31;

/// Slots of the wheel that one call may pass.
const STEPS: u32 = 4096;

/// What the tables of both families share.
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
    /// What helpers announced.
    pub(super) expectations: Expectations,
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
            arch::prefetch(&flow.track);
        }
    }

    /// The flow that is most likely that of a hash.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: u64) -> Option<u32> {
        let first = self.index.find(hash, |name| Some(name & !SECOND));
        first.or_else(|| self.translations.find(hash, Some))
    }

    /// The live flow of a packet.
    #[inline(always)]
    pub(super) fn find(&self, now: Tick, key: &FamilyKey<A>) -> Option<(u32, Direction)> {
        self.look_up(key, |place| self.direction_at(now, key, place))
    }

    /// Whether a packet is of a flow in the table, be it one that ran out.
    pub(super) fn knows(&self, key: &FamilyKey<A>) -> bool {
        self.look_up(key, |place| {
            let flow = self.flow(place).filter(|flow| flow.status.contains(Status::CONFIRMED))?;
            self.direction_in(flow, place, key)
        })
        .is_some()
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
        let (place, direction) = self.look_up(key, |place| {
            let flow = self.flow(place).filter(|flow| flow.status.contains(Status::CONFIRMED))?;
            self.direction_in(flow, place, key)
        })?;
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

    /// Enters a flow, for which a place was taken before. None if there is one of its tuple already.
    pub(super) fn insert(&mut self, shared: &mut Shared, now: Now, new: NewFlow<A>) -> Option<u32> {
        if self.find_or_reap(shared, now.tick, &new.key).is_some()
            || self.answers_clash(shared, now.tick, &new)
        {
            return None;
        }
        if !self.reserve_answers(shared, &new) {
            return None;
        }
        let mut flow = new.flow;
        flow.status = flow.status.with(Status::CONFIRMED);
        flow.deadline = now.tick.after(shared.factor.of(new.timeout));
        if new.place.charge.is_some() {
            flow.status = flow.status.with(Status::COUNTED);
        }
        let place = self.place(flow)?;
        self.aside.keep(place, flow.status, new.template);
        if flow.status.intersects(Status::HELPED.with(Status::EXPECTED)) {
            self.aside.set_help(place, &Help::of_new(&new));
        }
        if let (Some(Charge(at)), Some(charge)) = (new.place.charge, self.charges.get_mut(place as usize)) {
            *charge = at;
        }
        let slot = self.wheel.file(place, flow.deadline);
        if let Some(flow) = self.flow_mut(place) {
            flow.filed = slot;
        }
        self.keep_charges(place, new.charges);
        self.enter(&new, flow.status, place);
        shared.enter_class(flow.class());
        Some(place)
    }

    /// Reserves what of a flow may come to other workers: answers to one that may be translated, and both directions of one
    /// that was announced, since that one lives with its master. False if another flow has it.
    fn reserve_answers(&self, shared: &mut Shared, new: &NewFlow<A>) -> bool {
        let status = new.flow.status;
        let expected = status.contains(Status::EXPECTED);
        if !expected && !new.bound {
            return true;
        }
        let answers = &mut shared.answers;
        if !answers.reserve(&new.outward, status, &self.seeds) {
            return false;
        }
        if expected {
            answers.reserve_arrivals(&new.flow.original(), &self.seeds);
        }
        true
    }

    /// Whether answers to a new flow would be taken for packets of another one.
    fn answers_clash(&mut self, shared: &mut Shared, now: Tick, new: &NewFlow<A>) -> bool {
        self.may_share_answers(new) && {
            let answer = FamilyKey::answering(&new.outward, new.key.zone, &self.seeds);
            self.find_or_reap(shared, now, &answer).is_some()
        }
    }

    /// Whether another flow may have the answers of a new one without having its first packet: where no flow is
    /// translated or in two zones, none has.
    pub(super) fn may_share_answers(&self, new: &NewFlow<A>) -> bool {
        !self.translations.is_empty()
            || self.twice > 0
            || new.flow.status.is_translated()
            || new.key.zone.is_directional()
    }

    /// Enters a flow into the index, under what its packets and its answers are looked up by.
    fn enter(&mut self, new: &NewFlow<A>, status: Status, place: u32) {
        let hashes = [Some(new.key.hash), new.key.reply_hash().filter(|_| !status.is_translated())];
        let (flows, seeds, aside) = (&self.flows, &self.seeds, &self.aside);
        for (hash, name) in hashes.into_iter().zip([place, place | SECOND]) {
            let Some(hash) = hash else { continue };
            self.index.insert(hash, name, |name| hash_of(flows, seeds, aside, name).unwrap_or_default());
            self.twice += u32::from(name != place);
        }
        if status.is_translated() {
            let original = new.flow.original();
            let zone = new.key.zone.of(Direction::Reply);
            let tuple_of = |place: u32| flows.get(place as usize).map(Flow::original);
            self.translations.insert(place, &original, (&new.outward, zone), new.masquerade, tuple_of);
        }
    }

    fn place(&mut self, flow: Flow<A>) -> Option<u32> {
        if let Some(place) = self.wheel.reuse() {
            *self.flow_mut(place)? = flow;
            return Some(place);
        }
        let place = self.wheel.extend()?;
        self.flows.push(flow);
        Some(place)
    }

    /// Takes a flow out. Its memory stays as it is until another flow needs the place, so that the packet at hand
    /// can still be judged by it.
    pub(super) fn remove(&mut self, shared: &mut Shared, place: u32) {
        let Some(flow) = self.flow(place).copied() else { return };
        if flow.status.contains(Status::CONFIRMED) {
            self.wheel.unfile(place, flow.filed);
            self.drop_flow(shared, place, flow);
        }
    }

    /// The rest of removing a flow that is in no slot of the wheel any more.
    fn drop_flow(&mut self, shared: &mut Shared, place: u32, flow: Flow<A>) {
        if shared.events.are_watched() {
            self.tell_end(shared, place);
        }
        if shared.answers.any()
            && let Some(outward) = self.outward_at(place)
        {
            shared.answers.release(&outward, &self.seeds);
            if flow.status.contains(Status::EXPECTED) {
                shared.answers.release(&flow.original().reversed(), &self.seeds);
            }
        }
        if flow.status.contains(Status::HELPED) {
            self.forget_expectations(shared, place);
        }
        if flow.status.contains(Status::LIMITED) {
            self.release_charges(shared.budget.connections(), place);
        }
        self.forget(place, &flow);
        self.wheel.release(place);
        if let Some(flow) = self.flow_mut(place) {
            flow.status = flow.status.without(Status::CONFIRMED).with(Status::DYING);
        }
        shared.leave_class(flow.class());
        let charge = flow.status.contains(Status::COUNTED).then(|| self.charges.get(place as usize).copied());
        self.give_back(shared, charge.flatten().map(Charge));
    }

    /// Takes a flow out of the index.
    fn forget(&mut self, place: u32, flow: &Flow<A>) {
        let original = flow.original();
        let hash = original.hash(&self.seeds);
        let zone = self.aside.zone(place, flow);
        self.index.remove(hash ^ zone.of(Direction::Original).spread(), place);
        if flow.status.is_translated() {
            let flows = &self.flows;
            self.translations.remove(place, &original, |place| flows.get(place as usize).map(Flow::original));
        } else if zone.is_directional() {
            self.index.remove(hash ^ zone.of(Direction::Reply).spread(), place | SECOND);
            self.twice -= 1;
        }
    }

    /// Gives a flow another deadline. The wheel is told only where it would come too late.
    #[inline]
    pub(super) fn refresh(&mut self, place: u32, deadline: Tick) {
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
    pub(super) fn expire(&mut self, shared: &mut Shared, now: Tick, budget: usize) -> usize {
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
        let family = u64::from(A::FAMILY == sluice_wire::Family::V6);
        let uses = u64::from(self.wheel.uses(place) & 0x7f_ffff);
        FlowId(u64::from(worker.0) << 56 | family << 55 | uses << 32 | u64::from(place))
    }
}

/// The hash that a name in the index is under.
fn hash_of<A: Address>(flows: &[Flow<A>], seeds: &Seeds, aside: &Aside, name: u32) -> Option<u64> {
    let place = name & !SECOND;
    let flow = flows.get(place as usize)?;
    let direction = if name == place { Direction::Original } else { Direction::Reply };
    Some(flow.original().hash(seeds) ^ aside.zone(place, flow).of(direction).spread())
}
