//! Where translated flows keep their outward tuples, and how they are found by them: beside the flows, so that those
//! that are not translated pay nothing. All of it is zero pages until the first flow is translated.
//!
//! Answers are found in an index of their own, asked only when the flows' own index has nothing. A second one finds
//! the flows of one inner address and port, newest first, since the kernel maps the next flow of the same source alike
//! where it can (`find_appropriate_src`).

use super::super::index::Index;
use super::super::template::ZoneId;
use super::super::tuple::{Address, Seeds, Tuple};
use super::endpoints::Slot;
use crate::arch;
use crate::ids::InterfaceId;

/// Flows of one source that are asked for their mapping.
const KIN: usize = 16;

/// What lies beside a flow: source and destination of the outward tuple; its ports, one more than the interface whose
/// address is borrowed, and the zone of answers; one more than the places of the next older and next newer flow of the same source.
/// A tuple of numbers, since memory for these is zero pages.
type Entry<A> = (A, A, [u16; 4], [u32; 2]);

/// The outward tuples of one family's flows.
pub(in super::super) struct Translations<A> {
    entries: Vec<Entry<A>>,
    /// Of each flow that took an outer endpoint, that one's number ([`Slot::number`]), or 0.
    endpoints: Vec<u32>,
    /// By the hash of the outward tuple, which its answers share.
    replies: Index,
    /// The newest flow of each original source.
    sources: Index,
    /// Flows in here.
    count: u32,
    seeds: Seeds,
}

impl<A: Address> Translations<A> {
    /// Room for as many as there are flows.
    pub(in super::super) fn new(capacity: u32, seeds: Seeds) -> Translations<A> {
        let nothing = (A::ZERO, A::ZERO, [0; 4], [0; 2]);
        Translations {
            entries: vec![nothing; capacity as usize],
            endpoints: vec![0; capacity as usize],
            replies: Index::new(capacity),
            sources: Index::new(capacity),
            count: 0,
            seeds,
        }
    }

    /// Whether no flow is translated.
    #[inline(always)]
    pub(in super::super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Asks for the line of the index that a look-up reads first.
    #[inline(always)]
    pub(in super::super) fn prefetch(&self, hash: u64) {
        if self.count != 0 {
            self.replies.prefetch(hash);
        }
    }

    /// Asks for what lies beside the flow at a place, if that may be translated.
    #[inline(always)]
    pub(in super::super) fn prefetch_entry(&self, place: u32) {
        if self.count != 0
            && let Some(entry) = self.entries.get(place as usize)
        {
            arch::prefetch(entry);
        }
    }

    /// As [`Index::find`], of answers.
    #[inline]
    pub(in super::super) fn find<T>(&self, hash: u64, check: impl FnMut(u32) -> Option<T>) -> Option<T> {
        if self.count == 0 { None } else { self.replies.find(hash, check) }
    }

    /// The outward tuple of the translated flow at a place, and whose address it borrows.
    #[inline]
    pub(in super::super) fn get(&self, place: u32, protocol: u8) -> Option<(Tuple<A>, Option<InterfaceId>)> {
        let &(src, dst, [sport, dport, masquerade, _], _) = self.entries.get(place as usize)?;
        let masquerade = masquerade.checked_sub(1).map(InterfaceId);
        Some((Tuple { src, dst, sport, dport, protocol }, masquerade))
    }

    /// Keeps a flow's outward tuple, with the zone of its answers. `original` is its own, and `tuple_of` tells that of
    /// another one.
    pub(in super::super) fn insert(
        &mut self,
        place: u32,
        original: &Tuple<A>,
        (outward, zone): (&Tuple<A>, ZoneId),
        masquerade: Option<InterfaceId>,
        tuple_of: impl Fn(u32) -> Option<Tuple<A>>,
    ) {
        let borrowed = masquerade.map_or(0, |interface| interface.0.wrapping_add(1));
        let ports = [outward.sport, outward.dport, borrowed, zone.0];
        let Some(entry) = self.entries.get_mut(place as usize) else { return };
        *entry = (outward.src, outward.dst, ports, [0; 2]);
        self.count += 1;
        let (entries, seeds) = (&self.entries, &self.seeds);
        self.replies.insert(outward.hash(seeds) ^ zone.spread(), place, |other| {
            let protocol = tuple_of(other).map_or(0, |tuple| tuple.protocol);
            entries.get(other as usize).map_or(0, |&(src, dst, [sport, dport, _, zone], _)| {
                Tuple { src, dst, sport, dport, protocol }.hash(seeds) ^ ZoneId(zone).spread()
            })
        });
        self.join(place, original, tuple_of);
    }

    /// Notes the outer endpoint that a flow took.
    pub(in super::super) fn set_endpoint(&mut self, place: u32, slot: Slot) {
        if let Some(endpoint) = self.endpoints.get_mut(place as usize) {
            *endpoint = slot.number();
        }
    }

    /// The outer endpoint that a flow took, which it has no more.
    pub(in super::super) fn take_endpoint(&mut self, place: u32) -> Option<Slot> {
        Slot::of_number(std::mem::take(self.endpoints.get_mut(place as usize)?))
    }

    /// Forgets a flow's.
    pub(in super::super) fn remove(
        &mut self,
        place: u32,
        original: &Tuple<A>,
        tuple_of: impl Fn(u32) -> Option<Tuple<A>>,
    ) {
        let Some((outward, _)) = self.get(place, original.protocol) else { return };
        let zone = self.entries.get(place as usize).map_or(ZoneId(0), |&(_, _, [.., zone], _)| ZoneId(zone));
        self.replies.remove(outward.hash(&self.seeds) ^ zone.spread(), place);
        self.leave(place, original, tuple_of);
        self.count = self.count.saturating_sub(1);
    }

    /// Calls `check` with places and outward tuples of flows of this source, newest first, until it answers.
    pub(in super::super) fn kin<T>(
        &self,
        source: &Tuple<A>,
        tuple_of: impl Fn(u32) -> Option<Tuple<A>>,
        mut check: impl FnMut(u32, Tuple<A>) -> Option<T>,
    ) -> Option<T> {
        if self.count == 0 {
            return None;
        }
        let mut next = self.newest(source, tuple_of);
        for _ in 0..KIN {
            let place = next?;
            if let Some(answer) = check(place, self.get(place, source.protocol)?.0) {
                return Some(answer);
            }
            next = self.links(place)?.0.checked_sub(1);
        }
        None
    }

    fn newest(&self, source: &Tuple<A>, tuple_of: impl Fn(u32) -> Option<Tuple<A>>) -> Option<u32> {
        self.sources.find(source.source_hash(&self.seeds), |place| {
            tuple_of(place).filter(|tuple| tuple.has_source_of(source)).map(|_| place)
        })
    }

    /// One more than the places of the next older and the next newer flow.
    fn links(&self, place: u32) -> Option<(u32, u32)> {
        self.entries.get(place as usize).map(|&(.., [older, newer])| (older, newer))
    }

    fn set_older(&mut self, place: u32, older: u32) {
        if let Some((.., [link, _])) = self.entries.get_mut(place as usize) {
            *link = older;
        }
    }

    fn set_newer(&mut self, place: u32, newer: u32) {
        if let Some((.., [_, link])) = self.entries.get_mut(place as usize) {
            *link = newer;
        }
    }

    /// Makes a flow the newest of its source.
    fn join(&mut self, place: u32, original: &Tuple<A>, tuple_of: impl Fn(u32) -> Option<Tuple<A>>) {
        let hash = original.source_hash(&self.seeds);
        if let Some(before) = self.newest(original, &tuple_of) {
            self.sources.remove(hash, before);
            self.set_older(place, before + 1);
            self.set_newer(before, place + 1);
        }
        self.enter(hash, place, tuple_of);
    }

    fn enter(&mut self, hash: u64, place: u32, tuple_of: impl Fn(u32) -> Option<Tuple<A>>) {
        let seeds = &self.seeds;
        self.sources.insert(hash, place, |other| tuple_of(other).map_or(0, |tuple| tuple.source_hash(seeds)));
    }

    fn leave(&mut self, place: u32, original: &Tuple<A>, tuple_of: impl Fn(u32) -> Option<Tuple<A>>) {
        let Some((older, newer)) = self.links(place) else { return };
        if let Some(older) = older.checked_sub(1) {
            self.set_newer(older, newer);
        }
        match newer.checked_sub(1) {
            Some(newer) => self.set_older(newer, older),
            None => {
                let hash = original.source_hash(&self.seeds);
                self.sources.remove(hash, place);
                if let Some(older) = older.checked_sub(1) {
                    self.enter(hash, older, tuple_of);
                }
            }
        }
    }
}
