//! What other workers must know of an expectation: to whom they hand over a packet that is expected, and that nobody else
//! may expect the same.
//!
//! An expectation is a word in the table of reserved answers, as the answers of a translated flow are: a fingerprint of
//! what is expected, and the worker that has the master. What the packet may differ in (source, source port) is left out
//! of the fingerprint, so whoever looks tries each of the four kinds.
//!
//! The flow that comes of it lives away from where its packets hash to, and reserves both of its directions.

use sluice_wire::{Packet, Protocol};

use super::Ask;
use crate::conntrack::Conntrack;
use crate::conntrack::info::Direction;
use crate::conntrack::nat::{Answers, Reservations};
use crate::conntrack::template::{Zone, ZoneId};
use crate::conntrack::tuple::{Address, FamilyKey, FamilyKeys, Key, Seeds};
use crate::ids::WorkerId;

/// Which of a source's address and port count.
#[derive(Clone, Copy)]
struct Kind {
    address: bool,
    port: bool,
}

impl Kind {
    const ALL: [Kind; 4] = [
        Kind { address: true, port: false },
        Kind { address: false, port: false },
        Kind { address: true, port: true },
        Kind { address: false, port: true },
    ];

    /// The fingerprint of a packet's ends as this kind has it; never that of an answer.
    fn hash<A: Address>(self, src: (A, u16), dst: (A, u16), protocol: u8, seeds: &Seeds) -> u64 {
        let address = if self.address { src.0 } else { A::ZERO };
        let port = if self.port { src.1 } else { 0 };
        let number = u64::from(self.address) + 2 * u64::from(self.port) + 1;
        let hash = A::mix((address, port), dst, protocol, seeds);
        hash.rotate_left(17) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn hash_of<A: Address>(ask: &Ask, zone: ZoneId, seeds: &Seeds) -> Option<u64> {
    // Of a tunnel's call, the sender's id is in no packet.
    let sport = ask.sport.filter(|_| ask.protocol != Protocol::GRE);
    let kind = Kind { address: ask.src.is_some(), port: sport.is_some() };
    let address = match ask.src {
        Some(src) => A::of(src)?,
        None => A::ZERO,
    };
    let source = (address, sport.unwrap_or_default());
    Some(kind.hash(source, (A::of(ask.dst)?, ask.dport), ask.protocol.0, seeds) ^ zone.spread())
}

impl Answers {
    /// Tells the other workers; false if one of them expects the same.
    pub(super) fn announce<A: Address>(&mut self, ask: &Ask, zone: ZoneId, seeds: &Seeds) -> bool {
        let Some(table) = self.table() else { return true };
        let Some(hash) = hash_of::<A>(ask, zone, seeds) else { return true };
        table.mark(ask.dst);
        if zone != ZoneId(0) {
            table.note_zone();
        }
        // What this worker expects itself clashed before, in its own list.
        let announced = table.owner(hash) == Some(self.worker()) || table.reserve(hash, self.worker());
        if announced {
            table.expect_more();
        }
        announced
    }

    /// Tells them that it is expected no more.
    pub(super) fn withdraw<A: Address>(&mut self, ask: &Ask, zone: ZoneId, seeds: &Seeds) {
        if let (Some(table), Some(hash)) = (self.table(), hash_of::<A>(ask, zone, seeds)) {
            table.release(hash, self.worker());
            table.expect_less();
        }
    }
}

impl Conntrack {
    /// The other worker that expects a packet, if it is of no flow that this one knows.
    #[cold]
    pub(in crate::conntrack) fn expected_by(
        &self,
        table: &Reservations,
        packet: &Packet,
        zone: Zone,
    ) -> Option<WorkerId> {
        let key = self.key(packet, zone)?;
        let owner = match &key.0 {
            FamilyKeys::V4(key) => self.owner_expecting(table, key),
            FamilyKeys::V6(key) => self.owner_expecting(table, key),
        };
        owner.filter(|_| !self.knows(&key))
    }

    fn owner_expecting<A: Address>(&self, table: &Reservations, key: &FamilyKey<A>) -> Option<WorkerId> {
        let tuple = &key.tuple;
        let (src, dst) = ((tuple.src, tuple.sport), (tuple.dst, tuple.dport));
        let zone = key.zone.of(Direction::Original).spread();
        let hashes = Kind::ALL.iter().map(|kind| kind.hash(src, dst, tuple.protocol, &self.seeds) ^ zone);
        hashes.into_iter().find_map(|hash| table.owner(hash))
    }

    fn knows(&self, key: &Key) -> bool {
        match &key.0 {
            FamilyKeys::V4(key) => self.v4.knows(key),
            FamilyKeys::V6(key) => self.v6.knows(key),
        }
    }
}
