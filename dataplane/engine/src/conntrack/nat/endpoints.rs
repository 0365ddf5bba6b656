//! Which outer endpoint is whose: what all workers know of mappings that are the same towards every destination.
//!
//! An endpoint is a protocol, an address and a port. An outer one has a word here, with a fingerprint of the inner one
//! that it is lent to, under the process's secret, and the number of flows that use it; with the last of them it is nobody's.
//! Workers take and give by one atomic operation when a flow begins or ends, and none for any other packet.
//!
//! Two outer endpoints may have the same word: then one of the two can be lent at a time. There are twice as many words as
//! flows, so that this leaves ports unused now and then, and nothing else. Not here: which endpoint is tried ([`mod@super::mapping`]).
//!
//! Why so: `docs/adr`, "Mappings and blocks of ports".

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits of a word that count flows; a fingerprint has the others.
const COUNT: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT) - 1;

/// Words at the least: ports of small tables are spread over as many.
const LEAST: usize = 1 << 12;

/// The word of an outer endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conntrack) struct Slot(u32);

impl Slot {
    /// A number for it that is never 0.
    pub(super) const fn number(self) -> u32 {
        self.0.wrapping_add(1)
    }

    /// Back from [`Slot::number`].
    pub(super) fn of_number(number: u32) -> Option<Slot> {
        number.checked_sub(1).map(Slot)
    }
}

/// Who has an outer endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    /// Nobody.
    Nobody,
    /// The inner endpoint that asks.
    Asker,
    /// Another one.
    Another,
}

/// The table that all workers share.
#[derive(Debug)]
pub(in crate::conntrack) struct Endpoints {
    flows: u32,
    words: OnceLock<Box<[AtomicU64]>>,
}

impl Endpoints {
    /// For as many flows as all workers may have together; takes no memory yet.
    pub(in crate::conntrack) fn new(flows: u32) -> Endpoints {
        Endpoints { flows, words: OnceLock::new() }
    }

    /// Makes the table; without, every endpoint is another's.
    pub(in crate::conntrack) fn prepare(&self) {
        let count = (self.flows as usize).saturating_mul(2).clamp(LEAST, 1 << 31).next_power_of_two();
        let _ = self.words.get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(count).collect());
    }

    /// The word of a port of an address and protocol, of which `base` is a hash. Ports beside each other have words beside
    /// each other.
    pub(super) fn slot(&self, base: u64, port: u16) -> Slot {
        let count = self.words.get().map_or(1, |words| words.len() as u64);
        // `prepare` makes a power of two of at most 2^31 words.
        Slot((base.wrapping_add(port.into()) & (count - 1)) as u32)
    }

    /// Who has an endpoint, as seen by the inner one with this fingerprint.
    pub(super) fn tenant(&self, slot: Slot, print: u64) -> Tenant {
        match self.word(slot).map(|word| word.load(Ordering::Acquire)) {
            Some(0) => Tenant::Nobody,
            Some(word) if word >> COUNT == print >> COUNT => Tenant::Asker,
            _ => Tenant::Another,
        }
    }

    /// Takes an endpoint for one more flow of an inner one. False if it is another's, or has as many flows as can be counted.
    pub(super) fn take(&self, slot: Slot, print: u64) -> bool {
        let more = |word: u64| match word {
            0 => Some(print & !COUNT_MASK | 1),
            _ if word >> COUNT == print >> COUNT && word & COUNT_MASK < COUNT_MASK => Some(word + 1),
            _ => None,
        };
        let Some(word) = self.word(slot) else { return false };
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Gives an endpoint back for one flow.
    pub(in crate::conntrack) fn release(&self, slot: Slot) {
        let less = |word: u64| match word & COUNT_MASK {
            0 => None,
            1 => Some(0),
            _ => Some(word - 1),
        };
        if let Some(word) = self.word(slot) {
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }

    fn word(&self, slot: Slot) -> Option<&AtomicU64> {
        self.words.get()?.get(slot.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = 1 << 40;
    const OTHER: u64 = 2 << 40;

    #[test]
    fn an_endpoint_is_lent_until_its_last_flow_ends() {
        let table = Endpoints::new(100);
        table.prepare();
        let slot = table.slot(77, 5000);
        assert_eq!(table.tenant(slot, ONE), Tenant::Nobody);
        assert!(table.take(slot, ONE) && table.take(slot, ONE) && !table.take(slot, OTHER));
        assert_eq!((table.tenant(slot, ONE), table.tenant(slot, OTHER)), (Tenant::Asker, Tenant::Another));
        table.release(slot);
        assert!(!table.take(slot, OTHER));
        table.release(slot);
        table.release(slot);
        assert!(table.take(slot, OTHER) && !table.take(slot, ONE));
        assert_eq!(Slot::of_number(slot.number()), Some(slot));
        assert_ne!(table.slot(77, 5001), slot);
    }

    #[test]
    fn without_a_table_nothing_is_lent() {
        let table = Endpoints::new(100);
        let slot = table.slot(77, 5000);
        assert!(!table.take(slot, ONE));
        assert_eq!(table.tenant(slot, ONE), Tenant::Another);
        table.release(slot);
    }

    #[test]
    fn of_two_workers_that_want_an_endpoint_one_gets_it() {
        let table = Endpoints::new(100);
        table.prepare();
        for round in 0..2000 {
            let slot = table.slot(0, round);
            let granted: usize = std::thread::scope(|scope| {
                let table = &table;
                let tries =
                    [ONE, OTHER].map(|print| scope.spawn(move || usize::from(table.take(slot, print))));
                tries.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(granted, 1, "round {round}");
            table.release(slot);
            assert_eq!(table.tenant(slot, ONE), Tenant::Nobody);
        }
    }
}
