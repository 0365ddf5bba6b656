//! How a flow comes into the table, and how it goes: place, index, wheel, what lies aside, and everybody who is to know.

use super::{SECOND, Table};
use crate::conntrack::aside::Aside;
use crate::conntrack::cells::Charge;
use crate::conntrack::flow::Flow;
use crate::conntrack::help::Help;
use crate::conntrack::info::{Direction, Status};
use crate::conntrack::pending::NewFlow;
use crate::conntrack::shared::Shared;
use crate::conntrack::tuple::{Address, FamilyKey, Seeds};
use crate::ids::{Now, Tick};

impl<A: Address> Table<A> {
    /// Enters a flow, for which a place was taken before. None if there is one of its tuple already.
    pub(in crate::conntrack) fn insert(
        &mut self,
        shared: &mut Shared,
        now: Now,
        new: &NewFlow<A>,
    ) -> Option<u32> {
        if new.refused
            || self.find_or_reap(shared, now.tick, &new.key).is_some()
            || self.answers_clash(shared, now.tick, new)
        {
            return None;
        }
        if !self.reserve_answers(shared, new) {
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
            self.aside.set_help(place, &Help::of_new(new));
        }
        if let (Some(Charge(at)), Some(charge)) = (new.place.charge, self.charges.get_mut(place as usize)) {
            *charge = at;
        }
        let slot = self.wheel.file(place, flow.deadline);
        if let Some(flow) = self.flow_mut(place) {
            flow.filed = slot;
        }
        self.keep_charges(place, new.charges);
        self.enter(new, flow.status, place);
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
        let zone = new.key.zone;
        if !answers.reserve((&new.outward, zone.of(Direction::Reply)), status, &self.seeds) {
            return false;
        }
        if expected {
            answers.reserve_arrivals((&new.flow.original(), zone.of(Direction::Original)), &self.seeds);
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
    pub(in crate::conntrack) fn may_share_answers(&self, new: &NewFlow<A>) -> bool {
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
            if let Some(slot) = new.endpoint {
                self.translations.set_endpoint(place, slot);
            }
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
    pub(in crate::conntrack) fn remove(&mut self, shared: &mut Shared, place: u32) {
        let Some(flow) = self.flow(place).copied() else { return };
        if flow.status.contains(Status::CONFIRMED) {
            self.wheel.unfile(place, flow.filed);
            self.drop_flow(shared, place, flow);
        }
    }

    /// The rest of removing a flow that is in no slot of the wheel any more.
    pub(super) fn drop_flow(&mut self, shared: &mut Shared, place: u32, flow: Flow<A>) {
        if shared.events.are_watched() {
            self.tell_end(shared, place);
        }
        if shared.answers.any()
            && let Some(outward) = self.outward_at(place)
        {
            let zone = self.aside.zone(place, &flow);
            shared.answers.release((&outward, zone.of(Direction::Reply)), &self.seeds);
            if flow.status.contains(Status::EXPECTED) {
                let arrivals = flow.original().reversed();
                shared.answers.release((&arrivals, zone.of(Direction::Original)), &self.seeds);
            }
        }
        if flow.status.is_translated()
            && let Some(slot) = self.translations.take_endpoint(place)
        {
            shared.endpoints.release(slot);
        }
        if flow.status.contains(Status::HELPED) {
            self.forget_expectations(shared, place);
            self.end_call(shared, place);
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
}

/// The hash that a name in the index is under.
fn hash_of<A: Address>(flows: &[Flow<A>], seeds: &Seeds, aside: &Aside, name: u32) -> Option<u64> {
    let place = name & !SECOND;
    let flow = flows.get(place as usize)?;
    let direction = if name == place { Direction::Original } else { Direction::Reply };
    Some(flow.original().hash(seeds) ^ aside.zone(place, flow).of(direction).spread())
}
