//! What one worker reserves: the answers to its flows, as soon as a policy translates and there are others.
//!
//! The same answers in two zones are two flows', and may be two workers'. Whose a packet is must be known before any rule
//! of `raw` has seen it; so, once anything is reserved in a zone, `raw` is asked beforehand which zone that would be.
//!
//! The table itself is [`super::Reservations`]. A flow that is only bound to what it has reserves its answers too, so that
//! no other worker takes them for a flow of its own.

use std::net::IpAddr;
use std::sync::Arc;

use sluice_wire::{Addrs, Packet, Protocol, icmp, quoted, symmetric_toeplitz};

use super::Reservations;
use crate::conntrack::Conntrack;
use crate::conntrack::info::{Direction, Status};
use crate::conntrack::template::{Zone, ZoneId};
use crate::conntrack::tuple::{Address, FamilyKey, FamilyKeys, Key, Seeds, Tuple};
use crate::engine::EngineConfig;
use crate::ids::{Now, WorkerId};
use crate::stage::admit::owner;

/// This worker's part in the table.
#[derive(Debug)]
pub(in crate::conntrack) struct Answers {
    worker: WorkerId,
    workers: u8,
    table: Option<Arc<Reservations>>,
    /// Reserved and not released.
    count: u64,
}

impl Answers {
    /// Nothing reserved.
    pub(in crate::conntrack) fn new(config: &EngineConfig) -> Answers {
        let table = config.reservations.clone().filter(|_| config.workers > 1);
        Answers { worker: config.worker, workers: config.workers, table, count: 0 }
    }

    /// Whether anything is reserved.
    #[inline(always)]
    pub(in crate::conntrack) fn any(&self) -> bool {
        self.count != 0
    }

    /// This worker.
    pub(in crate::conntrack) fn worker(&self) -> WorkerId {
        self.worker
    }

    /// All workers.
    pub(super) fn workers(&self) -> u8 {
        self.workers
    }

    /// Whether other workers must know of answers.
    pub(super) fn is_shared(&self) -> bool {
        self.table().is_some()
    }

    /// The table, where there is one.
    pub(in crate::conntrack) fn table(&self) -> Option<&Reservations> {
        self.table.as_deref().filter(|table| table.is_ready())
    }

    /// Whether answers to packets of this tuple hash to this worker.
    pub(super) fn come_home<A: Address>(&self, outward: &Tuple<A>) -> bool {
        let addrs = match (outward.src.ip(), outward.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
            _ => return true,
        };
        let has_ports = matches!(Protocol(outward.protocol), Protocol::TCP | Protocol::UDP);
        let ports = has_ports.then_some((outward.sport, outward.dport));
        owner(symmetric_toeplitz(&addrs, ports), self.workers) == self.worker
    }

    /// Whether no other worker has reserved these answers. What this one reserved, its own flows tell.
    pub(super) fn are_free<A: Address>(&self, answer: &FamilyKey<A>, seeds: &Seeds) -> bool {
        let zone = answer.zone.of(Direction::Reply);
        let by = self.table().and_then(|table| table.owner(answer.answer_hash(seeds)? ^ zone.spread()));
        by.is_none_or(|owner| owner == self.worker)
    }

    /// Reserves the answers to packets that leave with this tuple, in their zone; false if another flow has them.
    pub(in crate::conntrack) fn reserve<A: Address>(
        &mut self,
        (outward, zone): (&Tuple<A>, ZoneId),
        status: Status,
        seeds: &Seeds,
    ) -> bool {
        let Some(table) = self.table() else { return true };
        let Some(hash) = hash_of(outward, zone, seeds) else { return true };
        if !self.come_home(outward) {
            let lent = status.contains(Status::SNAT);
            table.mark(if lent { outward.src.ip() } else { outward.dst.ip() });
        }
        if zone != ZoneId(0) {
            table.note_zone();
        }
        if table.owner(hash) == Some(self.worker) {
            // By an expectation, or a tunnel whose other call id differs.
            return true;
        }
        let reserved = table.reserve(hash, self.worker);
        self.count += u64::from(reserved);
        reserved
    }

    /// Reserves packets of the original direction of a flow that lives here, wherever they hash to.
    pub(in crate::conntrack) fn reserve_arrivals<A: Address>(
        &mut self,
        (original, zone): (&Tuple<A>, ZoneId),
        seeds: &Seeds,
    ) {
        let answers = original.reversed();
        if !self.come_home(original) {
            // Where another flow has the same, this one's later packets go to that: nothing better can be done.
            let _ = self.reserve((&answers, zone), Status::SNAT, seeds);
        }
    }

    /// Gives the answers of a flow that goes free, if they were reserved.
    pub(in crate::conntrack) fn release<A: Address>(
        &mut self,
        (outward, zone): (&Tuple<A>, ZoneId),
        seeds: &Seeds,
    ) {
        let hash = hash_of(outward, zone, seeds);
        if let (Some(table), Some(hash)) = (self.table(), hash)
            && table.release(hash, self.worker)
        {
            self.count -= 1;
        }
    }
}

/// What the answers to packets of this tuple are reserved as, in their zone.
fn hash_of<A: Address>(outward: &Tuple<A>, zone: ZoneId, seeds: &Seeds) -> Option<u64> {
    let answer = FamilyKey::answering(outward, Zone::default(), seeds);
    answer.answer_hash(seeds).map(|hash| hash ^ zone.spread())
}

impl Conntrack {
    /// Whether a packet between these addresses may be reserved by a worker: false is certain.
    #[inline]
    pub(crate) fn may_be_reserved(&self, addrs: &Addrs) -> bool {
        self.shared.answers.table().is_some_and(|table| table.concern(addrs))
    }

    /// The worker that reserved such an answer, or the packet that an ICMP error quotes as one: there the packet
    /// belongs, wherever it hashes to. `zone` tells the packet's, and is asked where that matters.
    #[inline]
    pub fn reserved_by(&self, packet: &Packet, frame: &[u8], zone: impl Fn() -> Zone) -> Option<WorkerId> {
        let table = self.shared.answers.table()?;
        if icmp::is_error(packet) {
            let quote = quoted(packet, frame).filter(|quote| table.concern(&quote.addrs))?;
            let key = self.key_between(&quote.addrs, quote.protocol, &quote.transport)?;
            return self.owner_of(table, &key.reversed(), table.zone(zone));
        }
        if table.concern(&packet.addrs) {
            let zone = table.zone(zone);
            let reserved = self.owner_of(table, &self.key(packet, Zone::default())?, zone);
            match reserved {
                None if table.any_expected() => self.expected_by(table, packet, zone),
                reserved => reserved,
            }
        } else {
            None
        }
    }

    /// Whether some flow, at whichever worker, has such an answer. In zone 0 alone: which one `raw` will say is not known yet.
    pub fn awaits(&self, now: Now, packet: &Packet) -> bool {
        let Some(key) = self.key(packet, Zone::default()) else { return false };
        let table = self.shared.answers.table();
        self.find(now, &key).is_some()
            || table.is_some_and(|table| self.owner_of(table, &key, Zone::default()).is_some())
    }

    /// Of an answer in its zone, or of what was announced in its own.
    fn owner_of(&self, table: &Reservations, key: &Key, zone: Zone) -> Option<WorkerId> {
        let hash = match &key.0 {
            FamilyKeys::V4(key) => key.answer_hash(&self.seeds),
            FamilyKeys::V6(key) => key.answer_hash(&self.seeds),
        }?;
        let within = |direction| table.owner(hash ^ zone.of(direction).spread());
        within(Direction::Reply).or_else(|| within(Direction::Original).filter(|_| zone.is_directional()))
    }
}
