//! Listing, deleting and changing flows for control: a bounded step at a time, between bursts.

use std::ops::Range;

use sluice_wire::{Family, Protocol};

use super::filter::{FlowChange, FlowFilter};
use super::flow::Flow;
use super::info::{Direction, FlowHandle, Status};
use super::record::{FlowId, FlowRecord, TupleRecord, TupleTransport};
use super::shared::Shared;
use super::table::Table;
use super::tuple::{Address, Tuple};
use super::{Conntrack, icmp};
use crate::ids::{Now, Tick};
use crate::message::Cursor;

/// Places looked at in one call: some 50 µs when none matches and all miss the cache.
pub(super) const STEP: u32 = 512;

/// A place in the tables of both families: IPv4 first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) family: Family,
    pub(super) place: u32,
}

impl Position {
    const SECOND: u64 = 1 << 32;

    pub(super) fn from_cursor(cursor: Cursor) -> Position {
        let family = if cursor.0 & Position::SECOND != 0 { Family::V6 } else { Family::V4 };
        Position { family, place: cursor.0 as u32 }
    }

    pub(super) fn cursor(self) -> Cursor {
        let family = if self.family == Family::V6 { Position::SECOND } else { 0 };
        Cursor(family | u64::from(self.place))
    }

    /// Where to go on after a step in `family` that ended before `next`; None behind the last flow.
    pub(super) fn following(family: Family, next: Option<u32>) -> Option<Cursor> {
        match (family, next) {
            (family, Some(place)) => Some(Position { family, place }.cursor()),
            (Family::V4, None) => Some(Position { family: Family::V6, place: 0 }.cursor()),
            (Family::V6, None) => None,
        }
    }

    /// Where a [`FlowId`] points to.
    pub(super) fn of(id: FlowId) -> Position {
        let family = if id.0 >> 55 & 1 != 0 { Family::V6 } else { Family::V4 };
        Position { family, place: id.0 as u32 }
    }
}

impl Conntrack {
    /// A flow as it is now, by value; None for a handle that never was one.
    pub(crate) fn record(&self, now: Now, flow: FlowHandle) -> Option<FlowRecord> {
        match flow.family {
            Family::V4 => Some(self.v4.describe(&self.shared, now, flow.index, self.v4.flow(flow.index)?)),
            Family::V6 => Some(self.v6.describe(&self.shared, now, flow.index, self.v6.flow(flow.index)?)),
        }
    }

    /// Fills `batch` up to its capacity with flows that match, from `cursor` on; None at the end. Looks at a bounded
    /// number of flows, so a batch may come back empty with more to follow.
    pub fn list(
        &self,
        now: Now,
        cursor: Cursor,
        filter: &FlowFilter,
        batch: &mut Vec<FlowRecord>,
    ) -> Option<Cursor> {
        let Position { family, place } = Position::from_cursor(cursor);
        let shared = &self.shared;
        let next = match family {
            Family::V4 if filter.family == Some(Family::V6) => None,
            Family::V4 => self.v4.list(shared, now, place, filter, batch),
            Family::V6 => self.v6.list(shared, now, place, filter, batch),
        };
        Position::following(family, next)
    }

    /// Deletes flows that match, from `cursor` on, at most `budget` of them and looking at a bounded number; `gone` is
    /// given as many of them as it has room for. Returns how many, and where to go on.
    pub fn delete(
        &mut self,
        now: Now,
        cursor: Cursor,
        filter: &FlowFilter,
        budget: usize,
        gone: &mut Vec<FlowRecord>,
    ) -> (u64, Option<Cursor>) {
        self.begin_request(now);
        let Position { family, place } = Position::from_cursor(cursor);
        let (shared, budget) = (&mut self.shared, budget as u64);
        let (deleted, next) = match family {
            Family::V4 => self.v4.delete(shared, now, place, filter, budget, gone),
            Family::V6 => self.v6.delete(shared, now, place, filter, budget, gone),
        };
        self.end_request();
        (deleted, Position::following(family, next))
    }

    /// Deletes these flows; how many of them were still there.
    pub fn delete_listed(&mut self, now: Now, flows: &[FlowId]) -> u64 {
        self.begin_request(now);
        let mut deleted = 0;
        for id in flows {
            let Position { family, place } = Position::of(*id);
            let (shared, filter) = (&mut self.shared, FlowFilter { id: Some(*id), ..FlowFilter::default() });
            let (gone, _) = match family {
                Family::V4 => self.v4.delete(shared, now, place, &filter, 1, &mut Vec::new()),
                Family::V6 => self.v6.delete(shared, now, place, &filter, 1, &mut Vec::new()),
            };
            deleted += gone;
        }
        self.end_request();
        deleted
    }

    /// Changes flows that match, from `cursor` on, until `batch` is full of them as they are then, and looking at a
    /// bounded number. A flow that is so already is left out. Returns where to go on.
    pub fn change(
        &mut self,
        now: Now,
        cursor: Cursor,
        filter: &FlowFilter,
        change: &FlowChange,
        batch: &mut Vec<FlowRecord>,
    ) -> Option<Cursor> {
        self.begin_request(now);
        let Position { family, place } = Position::from_cursor(cursor);
        let shared = &mut self.shared;
        let next = match family {
            Family::V4 => self.v4.change(shared, now, place, filter, change, batch),
            Family::V6 => self.v6.change(shared, now, place, filter, change, batch),
        };
        self.end_request();
        Position::following(family, next)
    }
}

impl<A: Address> Table<A> {
    /// The record of a live flow.
    pub(super) fn record(&self, shared: &Shared, now: Now, place: u32) -> Option<FlowRecord> {
        let flow = self.flow(place).filter(|flow| flow.is_live(now.tick))?;
        Some(self.describe(shared, now, place, flow))
    }

    /// The record of a flow at a place, live or not.
    pub(super) fn describe(&self, shared: &Shared, now: Now, place: u32, flow: &Flow<A>) -> FlowRecord {
        let tuple = flow.original();
        let outward = self.outward_at(place).unwrap_or(tuple);
        let start = self.aside.start(place);
        let help = self.help(place).unwrap_or_default();
        let stored = flow.stored(Direction::Original);
        FlowRecord {
            id: self.id(shared.worker, place),
            family: A::FAMILY,
            protocol: Protocol(tuple.protocol),
            state: flow.state_name(),
            timeout: flow.deadline.since(now.tick),
            original: record_of(&tuple, false),
            reply: record_of(&outward.reversed(), true),
            status: flow.status,
            mark: flow.mark,
            zone: self.aside.zone(place, flow),
            helper: help.assigned.map(|assigned| assigned.helper),
            announced_by: help.announced_by,
            ingress: stored.is_something().then_some(stored.ingress),
            accounting: flow.status.contains(Status::ACCOUNTED).then(|| self.aside.accounting(place)),
            start,
            age: start.map(|start| now.nanos.saturating_sub(start)),
        }
    }

    /// The places to look at in one step from `from` on: of a filter that names one flow, its place alone.
    fn step(&self, shared: &Shared, from: u32, filter: &FlowFilter) -> Range<u32> {
        let Some(id) = filter.id else { return from..self.places().min(from.saturating_add(STEP)) };
        let Position { family, place } = Position::of(id);
        let is_here = family == A::FAMILY && place < self.places() && self.id(shared.worker, place) == id;
        if is_here && from <= place { place..place + 1 } else { 0..0 }
    }

    /// Where to go on behind a step.
    fn behind(&self, end: u32, filter: &FlowFilter) -> Option<u32> {
        (filter.id.is_none() && end < self.places()).then_some(end)
    }

    /// Lists from `from` on until `batch` is full or enough places were looked at; where to go on, if not at the end.
    fn list(
        &self,
        shared: &Shared,
        now: Now,
        from: u32,
        filter: &FlowFilter,
        batch: &mut Vec<FlowRecord>,
    ) -> Option<u32> {
        let step = self.step(shared, from, filter);
        for place in step.clone() {
            if batch.len() == batch.capacity() {
                return Some(place);
            }
            batch.extend(self.record(shared, now, place).filter(|record| filter.matches(record)));
        }
        self.behind(step.end, filter)
    }

    /// Deletes from `from` on, at most `budget`; how many, and where to go on, if not at the end.
    fn delete(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: u32,
        filter: &FlowFilter,
        budget: u64,
        gone: &mut Vec<FlowRecord>,
    ) -> (u64, Option<u32>) {
        let step = self.step(shared, from, filter);
        let mut deleted = 0;
        for place in step.clone() {
            if deleted >= budget {
                return (deleted, Some(place));
            }
            let Some(record) = self.record(shared, now, place).filter(|record| filter.matches(record)) else {
                continue;
            };
            self.remove(shared, place);
            deleted += 1;
            if gone.len() < gone.capacity() {
                gone.push(record);
            }
        }
        (deleted, self.behind(step.end, filter))
    }

    /// Changes flows from `from` on until `batch` is full; where to go on, if not at the end.
    fn change(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: u32,
        filter: &FlowFilter,
        change: &FlowChange,
        batch: &mut Vec<FlowRecord>,
    ) -> Option<u32> {
        let step = self.step(shared, from, filter);
        for place in step.clone() {
            if batch.len() == batch.capacity() {
                return Some(place);
            }
            let meant = self.record(shared, now, place).is_some_and(|record| filter.matches(&record));
            if meant && self.change_one(shared, now.tick, place, change) {
                batch.extend(self.record(shared, now, place));
            }
        }
        self.behind(step.end, filter)
    }

    /// Changes a flow; false if it is so already.
    fn change_one(&mut self, shared: &mut Shared, now: Tick, place: u32, change: &FlowChange) -> bool {
        let Some(flow) = self.flow_mut(place) else { return false };
        let (mark, status, class) = (flow.mark, flow.status, flow.class());
        flow.mark = change.mark.map_or(mark, |(value, mask)| mark & !mask ^ value);
        flow.status = status.with(change.status);
        let changed = flow.mark != mark || flow.status != status || change.timeout.is_some();
        let now_class = flow.class();
        if now_class != class {
            shared.move_class(class, now_class);
        }
        if let Some(timeout) = change.timeout {
            self.refresh(place, now.after(timeout));
        }
        if changed && shared.events.are_watched() {
            self.tell_change_by_user(shared, place);
        }
        changed
    }
}

/// One direction as packets carry it: ICMP's tuple is kept as the request has it.
pub(super) fn record_of<A: Address>(tuple: &Tuple<A>, reply: bool) -> TupleRecord {
    let transport = match Protocol(tuple.protocol) {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
            TupleTransport::Ports { sport: tuple.sport, dport: tuple.dport }
        }
        Protocol::ICMP | Protocol::ICMPV6 => icmp_record::<A>(tuple, reply),
        // Tracked by addresses alone; conntrack shows ports all the same.
        Protocol::DCCP => TupleTransport::Ports { sport: 0, dport: 0 },
        Protocol::GRE => TupleTransport::Gre { srckey: tuple.sport, dstkey: tuple.dport },
        _ => TupleTransport::None,
    };
    TupleRecord { src: tuple.src.ip(), dst: tuple.dst.ip(), transport }
}

fn icmp_record<A: Address>(tuple: &Tuple<A>, reply: bool) -> TupleTransport {
    let (id, [request, code]) = if reply {
        (tuple.dport, tuple.sport.to_be_bytes())
    } else {
        (tuple.sport, tuple.dport.to_be_bytes())
    };
    let kind = if reply { icmp::answer_type(A::FAMILY, request) } else { request };
    TupleTransport::Icmp { kind, code, id }
}
