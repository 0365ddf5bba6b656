//! Expectations as they are listed, told as events, and deleted: `conntrack -L`, `-E` and `-D expect`.

use std::net::IpAddr;

use sluice_wire::{Family, Protocol};

use super::Expectation;
use crate::conntrack::Conntrack;
use crate::conntrack::filter::Prefix;
use crate::conntrack::record::{FlowId, TupleRecord};
use crate::conntrack::shared::Shared;
use crate::conntrack::table::Table;
use crate::conntrack::tuple::Address;
use crate::conntrack::walk::record_of;
use crate::helper::{Class, Helper};
use crate::ids::{Millis, Now, WorkerId};
use crate::message::Cursor;

/// An expectation, copied out. Addresses and ports are as the packet that is expected comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationRecord {
    /// Names it while the process runs: worker, how often its place was used, place.
    pub id: u64,
    /// Until it runs out.
    pub timeout: Millis,
    /// Protocol number.
    pub protocol: Protocol,
    /// From where; None: from anyone.
    pub src: Option<IpAddr>,
    /// To where.
    pub dst: IpAddr,
    /// From which port; None: from any.
    pub sport: Option<u16>,
    /// To which port.
    pub dport: u16,
    /// The flow that announced it.
    pub master: FlowId,
    /// That flow's first packet.
    pub master_tuple: TupleRecord,
    /// Its zone, 0 being that of all others.
    pub zone: u16,
    /// Its kind.
    pub class: Class,
    /// Who read of it.
    pub helper: Helper,
    /// Whether the flow will be translated.
    pub translated: bool,
}

/// Something that happened to an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectationEvent {
    /// Whether it began; else it is gone: used up, run out or deleted.
    pub begins: bool,
    /// The expectation.
    pub expectation: ExpectationRecord,
    /// Someone asked for it.
    pub by_user: bool,
    /// When, in nanoseconds of [`Now`].
    pub at: u64,
}

/// Which expectations a command is about; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectationFilter {
    /// One by its id.
    pub id: Option<u64>,
    /// Address family.
    pub family: Option<Family>,
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// From where; one from anyone is from there too.
    pub src: Option<Prefix>,
    /// To where.
    pub dst: Option<Prefix>,
    /// To which port.
    pub dport: Option<u16>,
    /// Source of the master's first packet.
    pub master_src: Option<Prefix>,
    /// Destination of the master's first packet.
    pub master_dst: Option<Prefix>,
    /// Who read of it.
    pub helper: Option<Helper>,
}

impl ExpectationFilter {
    /// Whether an expectation is meant.
    pub fn matches(&self, found: &ExpectationRecord) -> bool {
        let family = if found.dst.is_ipv4() { Family::V4 } else { Family::V6 };
        self.id.is_none_or(|id| id == found.id)
            && self.family.is_none_or(|wanted| wanted == family)
            && self.protocol.is_none_or(|protocol| protocol == found.protocol)
            && self.src.is_none_or(|prefix| found.src.is_none_or(|src| prefix.contains(src)))
            && self.dst.is_none_or(|prefix| prefix.contains(found.dst))
            && self.dport.is_none_or(|port| port == found.dport)
            && self.master_src.is_none_or(|prefix| prefix.contains(found.master_tuple.src))
            && self.master_dst.is_none_or(|prefix| prefix.contains(found.master_tuple.dst))
            && self.helper.is_none_or(|helper| helper == found.helper)
    }
}

/// Places that are looked at in one step.
const STEP: u32 = 512;

impl Conntrack {
    /// Fills `batch` up to its capacity with expectations that match, from `cursor` on; where to go on, None at the end.
    /// With `delete`, they are deleted.
    pub fn expectations(
        &mut self,
        now: Now,
        cursor: Cursor,
        filter: &ExpectationFilter,
        delete: bool,
        batch: &mut Vec<ExpectationRecord>,
    ) -> Option<Cursor> {
        let from = u32::try_from(cursor.0).unwrap_or(u32::MAX);
        let end = self.shared.expectations.places().min(from.saturating_add(STEP));
        self.begin_request(now);
        let mut next = (end < self.shared.expectations.places()).then_some(end);
        for place in from..end {
            if batch.len() == batch.capacity() {
                next = Some(place);
                break;
            }
            let Some(record) = self.expectation(now, place).filter(|record| filter.matches(record)) else {
                continue;
            };
            batch.push(record);
            if delete {
                self.unexpect(place);
            }
        }
        self.end_request();
        next.map(|place| Cursor(u64::from(place)))
    }

    fn expectation(&self, now: Now, place: u32) -> Option<ExpectationRecord> {
        let found = self.shared.expectations.get(place)?;
        if now.tick.is_due(found.deadline) {
            return None;
        }
        match found.master.family {
            Family::V4 => self.v4.describe_expectation(&self.shared, now, place, found),
            Family::V6 => self.v6.describe_expectation(&self.shared, now, place, found),
        }
    }
}

impl<A: Address> Table<A> {
    fn describe_expectation(
        &self,
        shared: &Shared,
        now: Now,
        place: u32,
        found: &Expectation,
    ) -> Option<ExpectationRecord> {
        let ask = &found.ask;
        Some(ExpectationRecord {
            id: id(shared.worker, found.uses, place),
            timeout: found.deadline.since(now.tick),
            protocol: ask.protocol,
            src: ask.src,
            dst: ask.dst,
            sport: ask.sport,
            dport: ask.dport,
            master: self.id(shared.worker, found.master.index),
            master_tuple: record_of(&self.original_at(found.master.index)?, false),
            zone: found.zone.0,
            class: ask.class,
            helper: found.by,
            translated: ask.follow.is_some(),
        })
    }

    /// Tells who watches that an expectation began, or ends.
    pub(super) fn tell_expectation(&self, shared: &Shared, now: Now, place: u32, begins: bool) {
        if !shared.events.are_watched() {
            return;
        }
        let found = shared.expectations.get(place);
        if let Some(record) = found.and_then(|found| self.describe_expectation(shared, now, place, found)) {
            shared.events.tell_expectation(begins, record);
        }
    }
}

fn id(worker: WorkerId, uses: u16, place: u32) -> u64 {
    u64::from(worker.0) << 56 | u64::from(uses) << 32 | u64::from(place)
}
