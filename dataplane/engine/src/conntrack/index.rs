//! Where a flow is by its hash: buckets of one cache line, ten places each, with two buckets to choose from.
//!
//! A look-up reads one line as a rule: a flow goes to its first bucket while that has room, and a bucket remembers
//! how many of its flows went elsewhere, so that a miss is known at once. When both buckets are full, one of the ten
//! in the first moves to its other bucket; when none can, the flow goes to a list, which is walked only for buckets
//! that have something there. So an insertion cannot fail; at 80 % load the list is empty but for bad luck.
//!
//! All tags of a bucket are compared at once. A false match is told by the caller, who compares the flow.

use std::ops::Range;

use crate::arch;

/// Words of a bucket: three of tags and counts, five of flow numbers.
const WORDS: usize = 8;
const TAG_WORDS: usize = 3;
/// Flows in a bucket.
const PLACES: usize = 10;
/// Lanes behind the tags: flows that went to their second bucket, and those that went to the list.
const SPILLED: usize = 10;
const LISTED: usize = 11;
/// Flows for each bucket when there are as many as there is memory for.
const FLOWS_PER_BUCKET: u32 = 8;

/// The index. Memory is zero pages until used; the words are 64-byte aligned from `base` on.
pub(super) struct Index {
    words: Vec<u64>,
    base: usize,
    buckets: u64,
    /// Flows with room in neither bucket.
    list: Vec<Listed>,
}

#[derive(Clone, Copy)]
struct Listed {
    tag: u16,
    flow: u32,
}

/// One line of the index.
type Bucket = [u64; WORDS];

impl Index {
    /// An index for `capacity` flows.
    pub(super) fn new(capacity: u32) -> Index {
        let buckets = capacity.div_ceil(FLOWS_PER_BUCKET).max(2);
        let words = vec![0u64; (buckets as usize + 1) * WORDS];
        let offset = words.as_ptr().align_offset(64);
        let base = if offset < WORDS { offset } else { 0 };
        Index { words, base, buckets: u64::from(buckets), list: Vec::with_capacity(capacity as usize) }
    }

    /// Where it lies: every flow may be anywhere in it.
    pub(super) fn memory(&self) -> Range<usize> {
        let from = self.words.as_ptr().addr();
        from..from + self.words.len() * size_of::<u64>()
    }

    /// Asks for the line that a look-up reads first.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(word) = self.words.get(self.base + self.first(hash) * WORDS) {
            arch::prefetch(word);
        }
    }

    /// The flow that most likely has this hash: the first with its tag.
    #[inline(always)]
    pub(super) fn first_of(&self, hash: u64) -> Option<u32> {
        let first = self.bucket(self.first(hash))?;
        if let Some(flow) = candidates(first, tag(hash)).next() {
            return Some(flow);
        }
        if lane(first, SPILLED) | lane(first, LISTED) == 0 {
            return None;
        }
        self.find_elsewhere(hash, Some)
    }

    /// Calls `check` with each flow that may have this hash until it answers.
    #[inline(always)]
    pub(super) fn find<T>(&self, hash: u64, mut check: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let first = self.bucket(self.first(hash))?;
        for flow in candidates(first, tag(hash)) {
            if let Some(found) = check(flow) {
                return Some(found);
            }
        }
        if lane(first, SPILLED) | lane(first, LISTED) == 0 {
            return None;
        }
        self.find_elsewhere(hash, check)
    }

    #[cold]
    fn find_elsewhere<T>(&self, hash: u64, mut check: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let second = self.bucket(self.second(hash))?;
        for flow in candidates(second, tag(hash)) {
            if let Some(found) = check(flow) {
                return Some(found);
            }
        }
        let same = |listed: &&Listed| listed.tag == tag(hash);
        self.list.iter().filter(same).find_map(|listed| check(listed.flow))
    }

    /// Enters a flow. `rehash` tells the hash of a flow that is in already, to move it.
    pub(super) fn insert(&mut self, hash: u64, flow: u32, rehash: impl Fn(u32) -> u64) {
        let (first, second) = (self.first(hash), self.second(hash));
        if self.put(first, hash, flow) {
            return;
        }
        if self.put(second, hash, flow) {
            self.count(first, SPILLED, 1);
            return;
        }
        if self.make_room(first, rehash) && self.put(first, hash, flow) {
            return;
        }
        self.list.push(Listed { tag: tag(hash), flow });
        self.count(first, LISTED, 1);
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, hash: u64, flow: u32) {
        let (first, second) = (self.first(hash), self.second(hash));
        if self.take(first, flow) {
            return;
        }
        if self.take(second, flow) {
            self.count(first, SPILLED, -1);
            return;
        }
        if let Some(at) = self.list.iter().position(|listed| listed.flow == flow) {
            self.list.swap_remove(at);
            self.count(first, LISTED, -1);
        }
    }

    /// Asks for the line of the `n`th bucket from that of `hash` on.
    pub(super) fn prefetch_neighbourhood(&self, hash: u64, n: u64) {
        let at = (self.first(hash) as u64 + n) % self.buckets;
        if let Some(word) = self.words.get(self.base + at as usize * WORDS) {
            arch::prefetch(word);
        }
    }

    /// The flows in the `n`th bucket from that of `hash` on.
    pub(super) fn neighbourhood(&self, hash: u64, n: u64) -> impl Iterator<Item = u32> + use<> {
        let at = (self.first(hash) as u64 + n) % self.buckets;
        let bucket = self.bucket(at as usize).copied().unwrap_or_default();
        (0..PLACES).filter(move |place| lane(&bucket, *place) != 0).map(move |place| flow_at(&bucket, place))
    }

    /// How many buckets there are.
    pub(super) fn buckets(&self) -> u64 {
        self.buckets
    }

    /// Moves one of a full bucket's flows to the bucket that it could be in too.
    #[cold]
    fn make_room(&mut self, at: usize, rehash: impl Fn(u32) -> u64) -> bool {
        for place in 0..PLACES {
            let Some(flow) = self.bucket(at).map(|bucket| flow_at(bucket, place)) else { return false };
            let hash = rehash(flow);
            let (first, second) = (self.first(hash), self.second(hash));
            let (other, spilled) = if first == at { (second, 1) } else { (first, -1) };
            if self.put(other, hash, flow) {
                self.set(at, place, 0, 0);
                self.count(first, SPILLED, spilled);
                return true;
            }
        }
        false
    }

    fn put(&mut self, at: usize, hash: u64, flow: u32) -> bool {
        let Some(bucket) = self.bucket(at) else { return false };
        let Some(place) = (0..PLACES).find(|place| lane(bucket, *place) == 0) else { return false };
        self.set(at, place, tag(hash), flow);
        true
    }

    fn take(&mut self, at: usize, flow: u32) -> bool {
        let Some(bucket) = self.bucket(at) else { return false };
        let held = |place: &usize| lane(bucket, *place) != 0 && flow_at(bucket, *place) == flow;
        let Some(place) = (0..PLACES).find(held) else { return false };
        self.set(at, place, 0, 0);
        true
    }

    fn set(&mut self, at: usize, place: usize, tag: u16, flow: u32) {
        if let Some(bucket) = self.bucket_mut(at) {
            set_lane(bucket, place, tag);
            if let Some(word) = bucket.get_mut(TAG_WORDS + place / 2) {
                let shift = place % 2 * 32;
                *word = *word & !(0xffff_ffff << shift) | u64::from(flow) << shift;
            }
        }
    }

    fn count(&mut self, at: usize, counter: usize, by: i16) {
        if let Some(bucket) = self.bucket_mut(at) {
            set_lane(bucket, counter, lane(bucket, counter).wrapping_add_signed(by));
        }
    }

    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets) >> 32) as usize
    }

    /// Never the first.
    #[inline(always)]
    fn second(&self, hash: u64) -> usize {
        let at = (((hash & 0xffff_ffff) * self.buckets) >> 32) as usize;
        if at != self.first(hash) {
            at
        } else if at + 1 < self.buckets as usize {
            at + 1
        } else {
            0
        }
    }

    #[inline(always)]
    fn bucket(&self, at: usize) -> Option<&Bucket> {
        self.words.get(self.base + at * WORDS..)?.first_chunk()
    }

    #[inline(always)]
    fn bucket_mut(&mut self, at: usize) -> Option<&mut Bucket> {
        self.words.get_mut(self.base + at * WORDS..)?.first_chunk_mut()
    }
}

/// Sixteen bits of the hash, never 0: that is an empty place.
#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash as u16).max(1)
}

/// The flows whose tag is `tag`, which is never that of an empty place.
#[inline(always)]
fn candidates(bucket: &Bucket, tag: u16) -> Candidates<'_> {
    // Three words of tags and counts, and one that the mask leaves out.
    let bits = bucket.first_chunk().map_or(0, |tags| arch::equal_lanes(tags, tag)) & ((1 << PLACES) - 1);
    Candidates { bits, bucket }
}

struct Candidates<'a> {
    bits: u32,
    bucket: &'a Bucket,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.bits == 0 {
            return None;
        }
        let place = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(flow_at(self.bucket, place))
    }
}

#[inline(always)]
fn lane(bucket: &Bucket, n: usize) -> u16 {
    bucket.get(n / 4).map_or(0, |word| (word >> (n % 4 * 16)) as u16)
}

fn set_lane(bucket: &mut Bucket, n: usize, value: u16) {
    if let Some(word) = bucket.get_mut(n / 4) {
        let shift = n % 4 * 16;
        *word = *word & !(0xffff << shift) | u64::from(value) << shift;
    }
}

#[inline(always)]
fn flow_at(bucket: &Bucket, place: usize) -> u32 {
    bucket.get(TAG_WORDS + place / 2).map_or(0, |word| (word >> (place % 2 * 32)) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// What the hash of the `n`th flow is, so that flows can be moved.
    fn hash(n: u32, spread: u64) -> u64 {
        let mixed = u64::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29) & spread
    }

    fn check(operations: Vec<(bool, u32)>, capacity: u32, spread: u64) {
        let mut index = Index::new(capacity);
        let mut model = HashMap::new();
        for (insert, n) in operations {
            let n = n % capacity;
            if insert && !model.contains_key(&n) {
                index.insert(hash(n, spread), n, |flow| hash(flow, spread));
                model.insert(n, ());
            } else if !insert && model.remove(&n).is_some() {
                index.remove(hash(n, spread), n);
            }
        }
        for n in 0..capacity {
            // As the table does: a flow that went is no flow, whatever its place still holds.
            let found = index.find(hash(n, spread), |flow| (flow == n).then(|| model.get(&n)).flatten());
            assert_eq!(found.is_some(), model.contains_key(&n), "flow {n}");
        }
        for n in model.into_keys() {
            index.remove(hash(n, spread), n);
        }
        assert!(index.list.is_empty());
        let tags = (0..index.buckets as usize).filter_map(|at| index.bucket(at));
        assert!(tags.flat_map(|bucket| &bucket[..TAG_WORDS]).all(|word| *word == 0), "counts went back to 0");
    }

    proptest! {
        #[test]
        fn what_went_in_is_found_until_it_is_taken_out(
            operations in prop::collection::vec((prop::bool::weighted(0.7), any::<u32>()), 0..2000),
            capacity in 1u32..600,
        ) {
            check(operations, capacity, u64::MAX);
        }

        /// Hashes that leave a bucket or two for all flows, and few tags.
        #[test]
        fn nothing_is_lost_when_hashes_are_bad(
            operations in prop::collection::vec((prop::bool::weighted(0.7), any::<u32>()), 0..400),
            spread in prop::sample::select(vec![0, 0x3, 0x8000_0000_8000_0001, 0xc000_0000_c000_0003]),
        ) {
            check(operations, 200, spread);
        }
    }

    #[test]
    fn a_full_table_needs_no_list() {
        let mut index = Index::new(100_000);
        for n in 0..100_000 {
            index.insert(hash(n, u64::MAX), n, |flow| hash(flow, u64::MAX));
        }
        assert!(index.list.is_empty(), "{} flows in the list", index.list.len());
        for n in 0..100_000 {
            assert_eq!(index.find(hash(n, u64::MAX), |flow| (flow == n).then_some(flow)), Some(n));
        }
    }

    #[test]
    fn buckets_are_cache_lines() {
        let index = Index::new(1000);
        assert_eq!(std::ptr::from_ref(index.bucket(3).unwrap()).addr() % 64, 0);
        assert_eq!(size_of::<Bucket>(), 64);
    }
}
