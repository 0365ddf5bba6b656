//! Where expectations lie: places that are used again, in buckets by the hash of what is expected. Room is reserved when
//! the shard is made and touched as it is used.
//!
//! Looking costs one comparison while there are none. What one bucket holds is bounded, so that nobody can make each first
//! packet walk far.

use super::{Ask, Expectation};
use crate::conntrack::template::ZoneId;
use crate::ids::Tick;

/// Places of a shard.
const PLACES: usize = 16_384;
/// Buckets; a power of two.
const BUCKETS: usize = 4096;
/// The most that are in one bucket.
const DEEPEST: usize = 64;
/// Places that are looked at for what ran out, in one poll.
const EXPIRIES: usize = 32;

/// A shard's expectations.
#[derive(Debug)]
pub(in crate::conntrack) struct Expectations {
    places: Vec<Expectation>,
    /// One more than the place of the first in each bucket.
    buckets: Vec<u32>,
    /// One more than the first free place.
    free: u32,
    count: u32,
    /// Where the search for what ran out goes on.
    expiry: usize,
}

impl Expectations {
    /// None.
    pub(in crate::conntrack) fn new() -> Expectations {
        Expectations {
            places: Vec::with_capacity(PLACES),
            buckets: vec![0; BUCKETS],
            free: 0,
            count: 0,
            expiry: 0,
        }
    }

    /// Whether there are any.
    #[inline(always)]
    pub(in crate::conntrack) fn any(&self) -> bool {
        self.count != 0
    }

    /// Places that were ever used.
    pub(super) fn places(&self) -> u32 {
        self.places.len() as u32
    }

    /// The one at a place, if one waits there.
    pub(in crate::conntrack) fn get(&self, place: u32) -> Option<&Expectation> {
        self.places.get(place as usize).filter(|expectation| expectation.waits)
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Expectation> {
        self.places.get_mut(place as usize).filter(|expectation| expectation.waits)
    }

    /// The newest in the bucket of a hash that `check` says yes to, and that has not run out.
    pub(super) fn find(&self, now: Tick, hash: u64, check: impl Fn(&Expectation) -> bool) -> Option<u32> {
        let wanted = |expectation: &Expectation| {
            expectation.hash == hash
                && !expectation.asleep
                && !now.is_due(expectation.deadline)
                && check(expectation)
        };
        self.bucket(hash).find(|(_, expectation)| wanted(expectation)).map(|(place, _)| place)
    }

    /// One that overlaps `ask`, be it due.
    pub(super) fn clash(&self, hash: u64, ask: &Ask, zone: ZoneId) -> Option<u32> {
        let clashes = |expectation: &Expectation| {
            expectation.hash == hash && expectation.zone == zone && expectation.ask.overlaps(ask)
        };
        self.bucket(hash).find(|(_, expectation)| clashes(expectation)).map(|(place, _)| place)
    }

    fn bucket(&self, hash: u64) -> impl Iterator<Item = (u32, &Expectation)> {
        let mut next = self.buckets.get(bucket_of(hash)).copied().unwrap_or_default();
        std::iter::from_fn(move || {
            let place = next.checked_sub(1)?;
            let expectation = self.places.get(place as usize)?;
            next = expectation.next;
            Some((place, expectation))
        })
        .take(DEEPEST)
    }

    /// Whether there is room for one more of a hash.
    pub(super) fn has_room(&self, hash: u64) -> bool {
        (self.free != 0 || self.places.len() < PLACES) && self.bucket(hash).count() < DEEPEST
    }

    /// Enters one, for which there must be room; its place.
    pub(super) fn insert(&mut self, new: Expectation) -> Option<u32> {
        let bucket = self.buckets.get_mut(bucket_of(new.hash))?;
        let mut new = Expectation { next: *bucket, waits: true, ..new };
        let place = match self.free.checked_sub(1) {
            Some(place) => {
                let old = self.places.get_mut(place as usize)?;
                self.free = old.next;
                new.uses = old.uses.wrapping_add(1);
                *old = new;
                place
            }
            None if self.places.len() < PLACES => {
                self.places.push(new);
                self.places.len() as u32 - 1
            }
            None => return None,
        };
        *bucket = place + 1;
        self.count += 1;
        Some(place)
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, place: u32) -> Option<Expectation> {
        let gone = *self.get(place)?;
        let bucket = bucket_of(gone.hash);
        if self.buckets.get(bucket) == Some(&(place + 1)) {
            *self.buckets.get_mut(bucket)? = gone.next;
        } else {
            let (before, _) =
                self.bucket(gone.hash).find(|(_, expectation)| expectation.next == place + 1)?;
            self.places.get_mut(before as usize)?.next = gone.next;
        }
        let free = self.free;
        let slot = self.places.get_mut(place as usize)?;
        (slot.waits, slot.next) = (false, free);
        self.free = place + 1;
        self.count -= 1;
        Some(gone)
    }

    /// The next one that ran out, looking at a bounded number of places in one call.
    pub(super) fn next_due(&mut self, now: Tick, looked: &mut usize) -> Option<u32> {
        while *looked < EXPIRIES.min(self.places.len()) {
            *looked += 1;
            let place = self.expiry % self.places.len().max(1);
            self.expiry = place + 1;
            let place = place as u32;
            if self.get(place).is_some_and(|expectation| now.is_due(expectation.deadline)) {
                return Some(place);
            }
        }
        None
    }
}

fn bucket_of(hash: u64) -> usize {
    (hash >> 32) as usize % BUCKETS
}
