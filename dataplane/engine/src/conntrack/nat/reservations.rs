//! Whose answers are these? What workers tell each other of flows that may be translated: the tuple of the answers, and
//! the worker that has the flow.
//!
//! Answers to a translated flow hash to any worker. Before a flow's first packet leaves, its worker writes the tuple of
//! its answers here, and no other flow can have the same; the worker that an answer comes to reads here whom to give it
//! to. A word is a fingerprint of the tuple under the process's secret, and the owner; a tuple has sixteen places,
//! in two lines. Written when flows begin and end, by atomic operations; known flows touch nothing here.
//!
//! Most packets are no such answers, and are told by a small filter over the addresses that such answers come
//! from or go to. There is no table while no policy translates, and none ever with one worker.
//!
//! The reason, and what else was weighed: `docs/adr`, "Answers of translated flows".

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sluice_wire::Addrs;

use super::Endpoints;
use crate::conntrack::template::Zone;
use crate::engine::EngineConfig;
use crate::ids::WorkerId;

/// Places in a line.
const PLACES: usize = 8;
/// Bits of the filter, in words of 64.
const FILTER: usize = 64;
/// Bits of a word that name the owner.
const OWNER: u32 = 8;

/// One line of the table.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; PLACES]);

/// The table that all workers share.
#[derive(Debug)]
pub struct Reservations {
    flows: u32,
    lines: OnceLock<Box<[Line]>>,
    filter: [AtomicU64; FILTER],
    /// Expectations among the words.
    expected: AtomicU32,
    /// Whether anything was ever reserved in another zone than 0.
    zoned: AtomicBool,
    endpoints: Arc<Endpoints>,
}

impl Reservations {
    /// For as many flows as all workers may have together; takes no memory yet.
    pub fn new(flows: u32) -> Reservations {
        Reservations {
            flows,
            lines: OnceLock::new(),
            filter: std::array::from_fn(|_| AtomicU64::new(0)),
            expected: AtomicU32::new(0),
            zoned: AtomicBool::new(false),
            endpoints: Arc::new(Endpoints::new(flows)),
        }
    }

    /// Makes the table of outer endpoints. To be called, not by a worker, before the first world whose rules lend them.
    pub fn prepare_endpoints(&self) {
        self.endpoints.prepare();
    }

    /// The table of outer endpoints that a worker shares with the others, or its own where it is alone.
    pub(in crate::conntrack) fn endpoints_of(config: &EngineConfig) -> Arc<Endpoints> {
        match &config.reservations {
            Some(shared) => Arc::clone(&shared.endpoints),
            None => Arc::new(Endpoints::new(config.flow_capacity)),
        }
    }

    /// Makes the table, twice as large as it needs to be. To be called, not by a worker, before the first world that
    /// translates or has helpers is published; without, workers do as if they were alone.
    pub fn prepare(&self) {
        let count = (self.flows as usize * 2).div_ceil(PLACES).max(2);
        let _ = self.lines.get_or_init(|| std::iter::repeat_with(Line::default).take(count).collect());
    }

    /// Whether there is a table.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.lines.get().is_some()
    }

    /// Something is reserved in a zone.
    pub(in crate::conntrack) fn note_zone(&self) {
        if !self.zoned.load(Ordering::Relaxed) {
            self.zoned.store(true, Ordering::Release);
        }
    }

    /// A packet's zone, as `ask` has it: asked only where anything was reserved in one.
    #[inline]
    pub(super) fn zone(&self, ask: impl Fn() -> Zone) -> Zone {
        if self.zoned.load(Ordering::Acquire) { ask() } else { Zone::default() }
    }

    /// Answers that are reserved now. Reads the whole table, which takes milliseconds: not for workers.
    pub fn count(&self) -> u64 {
        let lines: &[Line] = self.lines.get().map_or(&[], |lines| lines);
        let words = lines.iter().flat_map(|line| &line.0);
        words.filter(|word| word.load(Ordering::Relaxed) != 0).count() as u64
    }

    /// Whether anything is expected by anyone.
    pub(in crate::conntrack) fn any_expected(&self) -> bool {
        self.expected.load(Ordering::Acquire) != 0
    }

    /// An expectation was reserved.
    pub(in crate::conntrack) fn expect_more(&self) {
        self.expected.fetch_add(1, Ordering::Release);
    }

    /// One is gone.
    pub(in crate::conntrack) fn expect_less(&self) {
        self.expected.fetch_sub(1, Ordering::Release);
    }

    /// Whether answers between these addresses may belong to a worker that they do not hash to.
    #[inline]
    pub(super) fn concern(&self, addrs: &Addrs) -> bool {
        self.is_marked(addrs.dst()) || self.is_marked(addrs.src())
    }

    /// Notes that answers from or to an address may belong to a worker that they do not hash to.
    pub(in crate::conntrack) fn mark(&self, address: IpAddr) {
        let (word, bit) = place_in_filter(address);
        if let Some(word) = self.filter.get(word)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    #[inline]
    fn is_marked(&self, address: IpAddr) -> bool {
        let (word, bit) = place_in_filter(address);
        self.filter.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Whose answers have this hash.
    pub(in crate::conntrack) fn owner(&self, hash: u64) -> Option<WorkerId> {
        self.words(hash).map(|word| word.load(Ordering::Acquire)).find_map(|word| owner_in(word, hash))
    }

    /// Reserves answers; false if they are reserved already, or there is no room.
    pub(in crate::conntrack) fn reserve(&self, hash: u64, owner: WorkerId) -> bool {
        let Some(own) = self.take_place(hash, word_of(hash, owner)) else { return false };
        // Another worker may have looked at the same moment and found nothing either. One of the two sees both words
        // now, perhaps both do: whoever does gives way.
        let clash = self
            .words(hash)
            .any(|word| !std::ptr::eq(word, own) && owner_in(word.load(Ordering::SeqCst), hash).is_some());
        if clash {
            own.store(0, Ordering::SeqCst);
        }
        !clash
    }

    /// Gives answers free again.
    /// False if they were not reserved.
    pub(in crate::conntrack) fn release(&self, hash: u64, owner: WorkerId) -> bool {
        let wanted = word_of(hash, owner);
        let word = self.words(hash).find(|word| word.load(Ordering::Relaxed) == wanted);
        if let Some(word) = word {
            word.store(0, Ordering::Release);
        }
        word.is_some()
    }

    fn take_place(&self, hash: u64, new: u64) -> Option<&AtomicU64> {
        if self.owner(hash).is_some() {
            return None;
        }
        let (order, failure) = (Ordering::SeqCst, Ordering::Relaxed);
        self.words(hash).find(|word| word.compare_exchange(0, new, order, failure).is_ok())
    }

    /// The places that a hash can be in.
    fn words(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let lines: &[Line] = self.lines.get().map_or(&[], |lines| lines);
        let second = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = |hash: u64| (((hash >> 32) * lines.len() as u64) >> 32) as usize;
        [at(hash), at(second)].into_iter().filter_map(move |at| lines.get(at)).flat_map(|line| &line.0)
    }
}

/// Never 0: that is an empty place.
fn word_of(hash: u64, owner: WorkerId) -> u64 {
    hash << OWNER | (u64::from(owner.0) + 1)
}

fn owner_in(word: u64, hash: u64) -> Option<WorkerId> {
    let owner = (word as u8).checked_sub(1)?;
    (word >> OWNER == hash & (u64::MAX >> OWNER)).then_some(WorkerId(owner))
}

#[inline]
fn place_in_filter(address: IpAddr) -> (usize, u64) {
    let number = match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ (v6.to_bits() as u64).rotate_left(32),
    };
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    ((mixed >> 6) as usize, 1 << (mixed & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(flows: u32) -> Reservations {
        let reservations = Reservations::new(flows);
        reservations.prepare();
        reservations
    }

    fn hash(n: u64) -> u64 {
        (n + 1).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ n << 40
    }

    #[test]
    fn what_is_reserved_has_one_owner_until_it_is_released() {
        let table = ready(1000);
        for n in 0..1000 {
            assert!(table.reserve(hash(n), WorkerId((n % 127) as u8)), "{n}");
        }
        for n in 0..1000 {
            assert_eq!(table.owner(hash(n)), Some(WorkerId((n % 127) as u8)));
            assert!(!table.reserve(hash(n), WorkerId(3)), "taken");
        }
        assert_eq!(table.count(), 1000);
        for n in 0..1000 {
            table.release(hash(n), WorkerId((n % 127) as u8));
            assert_eq!(table.owner(hash(n)), None);
        }
        assert_eq!(table.count(), 0);
    }

    #[test]
    fn without_a_table_nothing_is_reserved() {
        let table = Reservations::new(1000);
        assert!(!table.is_ready() && !table.reserve(1, WorkerId(0)));
        assert_eq!(table.owner(1), None);
    }

    #[test]
    fn only_addresses_that_were_marked_concern_anyone() {
        let table = ready(10);
        let addrs = |src: &str, dst: &str| Addrs::V4 { src: src.parse().unwrap(), dst: dst.parse().unwrap() };
        assert!(!table.concern(&addrs("10.0.0.1", "192.0.2.1")));
        table.mark("192.0.2.1".parse().unwrap());
        assert!(table.concern(&addrs("10.0.0.1", "192.0.2.1")));
        assert!(table.concern(&addrs("192.0.2.1", "10.0.0.1")));
    }

    #[test]
    fn of_two_who_want_the_same_at_once_at_most_one_gets_it() {
        let table = ready(64);
        for round in 0..2000 {
            let granted: usize = std::thread::scope(|scope| {
                let tries = [0, 1].map(|owner| {
                    let table = &table;
                    scope.spawn(move || usize::from(table.reserve(hash(round), WorkerId(owner))))
                });
                tries.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert!(granted <= 1, "round {round}");
            table.release(hash(round), WorkerId(0));
            table.release(hash(round), WorkerId(1));
        }
    }
}
