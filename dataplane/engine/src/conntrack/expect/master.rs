//! What masters and their expectations know of each other: made, met by the flow that was expected, deleted.

use std::net::IpAddr;

use sluice_wire::{Family, Protocol};

use super::{Ask, Expectation, Follow, Refused};
use crate::conntrack::Conntrack;
use crate::conntrack::help::Help;
use crate::conntrack::info::{Direction, FlowHandle, Status};
use crate::conntrack::nat::{Manip, NatRange};
use crate::conntrack::pending::NewFlow;
use crate::conntrack::settings::Settings;
use crate::conntrack::shared::Shared;
use crate::conntrack::table::Table;
use crate::conntrack::tuple::{Address, Seeds};
use crate::helper::sip::SIGNALLING;
use crate::helper::{Assigned, Class, Helper};
use crate::ids::{Millis, Now, Tick};

impl Conntrack {
    /// Expects what the helper of `master` read of.
    ///
    /// # Errors
    /// [`Refused`]; the packet that asked for it is to be dropped.
    pub(crate) fn expect(
        &mut self,
        now: Now,
        settings: &Settings,
        master: FlowHandle,
        ask: &Ask,
    ) -> Result<(), Refused> {
        self.events_from(now);
        let shared = &mut self.shared;
        match master.family {
            Family::V4 => self.v4.expect(shared, now, settings, master.index, ask),
            Family::V6 => self.v6.expect(shared, now, settings, master.index, ask),
        }
    }

    /// Takes back what was expected last for a master.
    pub(crate) fn unexpect_newest(&mut self, master: FlowHandle) {
        let newest = self.help(master).and_then(|help| help.newest.checked_sub(1));
        if let Some(place) = newest {
            self.unexpect(place);
        }
    }

    /// Deletes those of a master's expectations that are of a class `which` says yes to.
    pub(crate) fn unexpect_classes(&mut self, master: FlowHandle, which: impl Fn(Class) -> bool) {
        let mut next = self.help(master).map_or(0, |help| help.newest);
        while let Some(place) = next.checked_sub(1)
            && let Some(found) = self.shared.expectations.get(place)
        {
            next = found.older;
            if which(found.ask.class) {
                self.unexpect(place);
            }
        }
    }

    /// Wakes the lasting expectation of a master for a port, for so long; false if there is none.
    pub(crate) fn wake(&mut self, now: Now, master: FlowHandle, port: u16, timeout: Millis) -> bool {
        let mut next = self.help(master).map_or(0, |help| help.newest);
        while let Some(place) = next.checked_sub(1)
            && let Some(found) = self.shared.expectations.get_mut(place)
        {
            if found.ask.lasting && found.ask.dport == port {
                (found.asleep, found.deadline) = (false, now.tick.after(timeout));
                return true;
            }
            next = found.older;
        }
        false
    }

    /// On which port a master expects, in a class, what is meant for one of its ends' own.
    pub(crate) fn announced_port(
        &self,
        master: FlowHandle,
        class: Class,
        (address, port): (IpAddr, u16),
    ) -> Option<u16> {
        let wanted = |(_, found): (u32, &Expectation)| {
            let own = found.ask.follow.is_some_and(|follow| follow.destination == (address, Some(port)));
            (own && found.ask.class == class).then_some(found.ask.dport)
        };
        match master.family {
            Family::V4 => self.v4.waiting_of(&self.shared, master.index).find_map(wanted),
            Family::V6 => self.v6.waiting_of(&self.shared, master.index).find_map(wanted),
        }
    }

    /// Has a flow live so long from now on, unless its next packet says otherwise.
    pub(crate) fn extend(&mut self, now: Now, flow: FlowHandle, timeout: Millis) {
        let deadline = now.tick.after(timeout);
        match flow.family {
            Family::V4 => self.v4.refresh(flow.index, deadline),
            Family::V6 => self.v6.refresh(flow.index, deadline),
        }
    }

    /// Deletes one expectation.
    pub(in crate::conntrack) fn unexpect(&mut self, place: u32) {
        let Some(master) = self.shared.expectations.get(place).map(|found| found.master) else { return };
        match master.family {
            Family::V4 => self.v4.unexpect(&mut self.shared, place),
            Family::V6 => self.v6.unexpect(&mut self.shared, place),
        }
    }

    /// Deletes what ran out, looking at a bounded number.
    pub(in crate::conntrack) fn expire_expectations(&mut self, now: Tick) {
        let mut looked = 0;
        while self.shared.expectations.any()
            && let Some(place) = self.shared.expectations.next_due(now, &mut looked)
        {
            self.unexpect(place);
        }
    }
}

impl<A: Address> Table<A> {
    fn expect(
        &mut self,
        shared: &mut Shared,
        now: Now,
        settings: &Settings,
        master: u32,
        ask: &Ask,
    ) -> Result<(), Refused> {
        let (help, zone) = self.help(master).zip(self.zone_at(master)).ok_or(Refused::Full)?;
        let (zone, by) = (zone.of(Direction::Original), help.assigned.ok_or(Refused::Full)?.helper);
        let hash = destination_hash::<A>(ask, self.seeds()).ok_or(Refused::Full)?;
        let owner = FlowHandle { family: A::FAMILY, index: master };
        while let Some(place) = shared.expectations.clash(hash, ask, zone) {
            let Some(old) = shared.expectations.get(place) else { break };
            let (same, of_others) = (old.ask.is_same(ask), (old.master, old.ask.class) != (owner, ask.class));
            if (of_others || !same) && !now.tick.is_due(old.deadline) {
                return Err(if same { Refused::Same } else { Refused::Busy });
            }
            self.unexpect(shared, place);
        }
        let allowance = by.allowance(ask.class);
        while self.waiting(master, ask) >= allowance.limit {
            let oldest = self.oldest(shared, master, ask).ok_or(Refused::Full)?;
            self.unexpect(shared, oldest);
        }
        if !shared.expectations.has_room(hash) || !shared.budget.take_expectation(settings.expect_max) {
            return Err(Refused::Full);
        }
        if !shared.answers.announce::<A>(ask, zone, self.seeds()) {
            shared.budget.give_expectation();
            return Err(Refused::Busy);
        }
        let deadline = now.tick.after(allowance.timeout);
        let new = Expectation {
            ask: *ask,
            by,
            zone,
            master: owner,
            deadline,
            hash,
            uses: 0,
            waits: true,
            asleep: ask.lasting,
            next: 0,
            older: 0,
            newer: 0,
        };
        let place = shared.expectations.insert(new).ok_or(Refused::Full)?;
        self.adopt(shared, master, place);
        shared.counters.conntrack.expectations.add(1);
        shared.counters.conntrack.expect_create.add(1);
        self.tell_expectation(shared, now, place, true);
        Ok(())
    }

    fn waiting(&self, master: u32, ask: &Ask) -> u8 {
        let help = self.help(master).unwrap_or_default();
        help.waiting.get(usize::from(ask.class.0)).copied().unwrap_or(u8::MAX)
    }

    /// The oldest of a master's in a class.
    fn oldest(&self, shared: &Shared, master: u32, ask: &Ask) -> Option<u32> {
        let waiting = self.waiting_of(shared, master);
        waiting.filter(|(_, found)| found.ask.class == ask.class).last().map(|(place, _)| place)
    }

    /// Makes one the newest of its master.
    fn adopt(&mut self, shared: &mut Shared, master: u32, place: u32) {
        let Some(mut help) = self.help(master) else { return };
        let before = help.newest;
        if let Some(expectation) = shared.expectations.get_mut(place) {
            expectation.older = before;
            count(&mut help, expectation, 1);
        }
        if let Some(before) = before.checked_sub(1).and_then(|before| shared.expectations.get_mut(before)) {
            before.newer = place + 1;
        }
        help.newest = place + 1;
        self.aside.set_help(master, &help);
    }

    /// Deletes one whose master is in this table.
    fn unexpect(&mut self, shared: &mut Shared, place: u32) {
        if shared.events.are_watched() {
            self.tell_expectation(shared, shared.events.now(), place, false);
        }
        let Some(gone) = shared.expectations.remove(place) else { return };
        let neighbours = [(gone.older, gone.newer, true), (gone.newer, gone.older, false)];
        for (at, other, is_older) in neighbours {
            if let Some(at) = at.checked_sub(1).and_then(|at| shared.expectations.get_mut(at)) {
                *(if is_older { &mut at.newer } else { &mut at.older }) = other;
            }
        }
        let mut help = self.aside.help(gone.master.index);
        if gone.newer == 0 {
            help.newest = gone.older;
        }
        count(&mut help, &gone, u8::MAX);
        self.aside.set_help(gone.master.index, &help);
        shared.answers.withdraw::<A>(&gone.ask, gone.zone, self.seeds());
        shared.budget.give_expectation();
        shared.counters.conntrack.expectations.add(u64::MAX);
        shared.counters.conntrack.expect_delete.add(1);
    }

    /// Deletes all of a master that goes.
    #[cold]
    pub(in crate::conntrack) fn forget_expectations(&mut self, shared: &mut Shared, master: u32) {
        while let Some(place) = self.aside.help(master).newest.checked_sub(1) {
            let before = shared.expectations.get(place).map(|found| found.older);
            self.unexpect(shared, place);
            if before.is_none() {
                break;
            }
        }
    }

    /// Has a flow that begins use up what expected it: it is a child of the master then.
    #[cold]
    pub(in crate::conntrack) fn meet(&mut self, shared: &mut Shared, now: Tick, new: &mut NewFlow<A>) {
        let tuple = new.flow.original();
        let (src, dst) = ((tuple.src.ip(), tuple.sport), (tuple.dst.ip(), tuple.dport));
        let hash = hash_to(tuple.dst, tuple.dport, Protocol(tuple.protocol), self.seeds());
        let zone = new.key.zone.of(Direction::Original);
        let place = shared.expectations.find(now, hash, |expectation| {
            expectation.zone == zone && expectation.ask.fits(tuple.protocol, src, dst)
        });
        let Some(place) = place else { return };
        let Some(found) = shared.expectations.get(place).copied() else { return };
        let Some(master) = self.flow(found.master.index).filter(|master| master.is_live(now)) else { return };
        new.flow.mark = master.mark;
        new.flow.status = new.flow.status.with(Status::EXPECTED);
        new.announced_by = Some(found.by);
        if let Some(helper) = found.ask.helper {
            new.assign(Assigned { helper, loose: false });
        }
        if found.by == Helper::Pptp {
            // Either end may begin its call's tunnel, and there is one.
            self.forget_expectations(shared, found.master.index);
        } else if !found.ask.lasting {
            self.unexpect(shared, place);
        }
        shared.counters.conntrack.expect_new.add(1);
        if let Some(mut follow) = found.ask.follow {
            if let Some(own) = self.own_port(shared, &found, src) {
                follow.source = own;
            }
            self.follow_master(shared, now, new, &follow);
        }
    }

    /// As whom a medium's packets leave that come from where its sender expects some itself: from there, as the other end
    /// knows it.
    fn own_port(
        &self,
        shared: &Shared,
        found: &Expectation,
        (address, port): (IpAddr, u16),
    ) -> Option<(IpAddr, Option<u16>)> {
        if found.by != Helper::Sip || found.ask.class == SIGNALLING {
            return None;
        }
        let mut waiting = self.waiting_of(shared, found.master.index);
        waiting.find_map(|(_, pair)| {
            let own = pair.ask.follow.is_some_and(|follow| follow.destination == (address, Some(port)));
            (own && pair.ask.class == found.ask.class).then_some((pair.ask.dst, Some(pair.ask.dport)))
        })
    }

    /// What a master expects, the newest first, with its places.
    fn waiting_of<'a>(
        &self,
        shared: &'a Shared,
        master: u32,
    ) -> impl Iterator<Item = (u32, &'a Expectation)> + use<'a, A> {
        let mut next = self.aside.help(master).newest;
        std::iter::from_fn(move || {
            let place = next.checked_sub(1)?;
            let found = shared.expectations.get(place)?;
            next = found.older;
            Some((place, found))
        })
    }

    /// Translates a child as its master is; rules of `nat` are not asked.
    fn follow_master(&mut self, shared: &mut Shared, now: Tick, new: &mut NewFlow<A>, follow: &Follow) {
        for (manip, (address, port)) in
            [(Manip::Source, follow.source), (Manip::Destination, follow.destination)]
        {
            let range = NatRange { ports: port.map(|port| (port, port)), ..NatRange::address(address) };
            self.bind(shared, now, new, manip, &range);
        }
        new.follows = true;
    }
}

/// One more, or one less, in a class.
fn count(help: &mut Help, expectation: &Expectation, by: u8) {
    if let Some(waiting) = help.waiting.get_mut(usize::from(expectation.ask.class.0)) {
        *waiting = waiting.wrapping_add(by);
    }
}

/// Of what is expected; None if it is not of this family.
fn destination_hash<A: Address>(ask: &Ask, seeds: &Seeds) -> Option<u64> {
    Some(hash_to(A::of(ask.dst)?, ask.dport, ask.protocol, seeds))
}

fn hash_to<A: Address>(dst: A, dport: u16, protocol: Protocol, seeds: &Seeds) -> u64 {
    A::mix((dst, dport), (A::ZERO, 0), protocol.0, seeds)
}
