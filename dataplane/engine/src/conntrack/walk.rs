//! Listing, deleting and changing flows for control: a bounded step at a time, between bursts.

use sluice_wire::{Family, Protocol};

use super::filter::{FlowFilter, FlowUpdate};
use super::icmp;
use super::record::{FlowId, FlowRecord, TupleRecord, TupleTransport};
use super::table::{Shared, Table};
use super::tuple::{Address, Tuple};
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

impl<A: Address> Table<A> {
    /// The record of a live flow.
    pub(super) fn record(&self, shared: &Shared, now: Now, acct: bool, place: u32) -> Option<FlowRecord> {
        let flow = self.flow(place).filter(|flow| flow.is_live(now.tick))?;
        let (tuple, outward) = (flow.original(), self.outward_at(place)?);
        let start = self.aside.start(place);
        Some(FlowRecord {
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
            accounting: acct.then(|| self.aside.accounting(place)),
            start,
            age: start.map(|start| now.nanos.saturating_sub(start)),
        })
    }

    /// Lists from `from` on until `batch` is full or `steps` places were looked at; where to go on, if not at the
    /// end.
    pub(super) fn list(
        &self,
        shared: &Shared,
        now: Now,
        acct: bool,
        from: u32,
        filter: &FlowFilter,
        batch: &mut Vec<FlowRecord>,
    ) -> Option<u32> {
        let end = self.places().min(from.saturating_add(STEP));
        for place in from..end {
            if batch.len() == batch.capacity() {
                return Some(place);
            }
            batch.extend(self.record(shared, now, acct, place).filter(|record| filter.matches(record)));
        }
        (end < self.places()).then_some(end)
    }

    /// Deletes from `from` on, at most `budget`; how many, and where to go on, if not at the end.
    pub(super) fn delete(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: u32,
        filter: &FlowFilter,
        budget: usize,
    ) -> (u64, Option<u32>) {
        let end = self.places().min(from.saturating_add(STEP));
        let mut deleted = 0;
        for place in from..end {
            if deleted as usize >= budget {
                return (deleted, Some(place));
            }
            if self.record(shared, now, false, place).is_some_and(|record| filter.matches(&record)) {
                self.remove(shared, place);
                deleted += 1;
            }
        }
        (deleted, (end < self.places()).then_some(end))
    }

    /// Changes the flow with this id; false if it is gone.
    pub(super) fn update(
        &mut self,
        shared: &mut Shared,
        now: Tick,
        id: FlowId,
        place: u32,
        update: FlowUpdate,
    ) -> bool {
        if self.id(shared.worker, place) != id {
            return false;
        }
        let Some(flow) = self.flow_mut(place).filter(|flow| flow.is_live(now)) else { return false };
        match update {
            FlowUpdate::Delete => self.remove(shared, place),
            FlowUpdate::Mark { value, mask } => flow.mark = flow.mark & !mask | value & mask,
            FlowUpdate::Timeout(timeout) => self.refresh(place, now.after(timeout)),
        }
        true
    }
}

/// One direction as packets carry it: ICMP's tuple is kept as the request has it.
fn record_of<A: Address>(tuple: &Tuple<A>, reply: bool) -> TupleRecord {
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
