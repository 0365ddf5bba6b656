//! When flows run out: a timing wheel of four levels whose cost goes with what expires, not with what lives.
//!
//! A refresh only writes the flow's deadline. The flow stays filed where it was, never later than its deadline, and
//! is filed again when that slot comes up; so a busy flow is touched here once in as long as its timeout, not at each
//! packet. Only a deadline that comes before the slot moves the flow at once.
//!
//! Source: G. Varghese, A. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 7.

use std::ops::Range;

use crate::ids::Tick;

/// No flow.
pub(super) const NONE: u32 = u32::MAX;

/// Milliseconds of the finest slot, as a power of two: 16 ms. A flow that ran out counts against `conntrack.max` until its
/// slot is over.
const UNIT: u32 = 4;

/// A level of the wheel.
struct Level {
    /// Units of one slot, as a power of two.
    shift: u32,
    /// Its slots, as a power of two.
    bits: u32,
    /// Where its slots begin.
    base: u16,
}

/// 131 s by 16 ms, 2.3 h by 131 s, 6.2 days by 2.3 h, 49 days by 6.2 days: as far as a [`Tick`] goes. The first
/// level holds every default timeout but those of established TCP and generic flows.
const LEVELS: [Level; 4] = [
    Level { shift: 0, bits: 13, base: 0 },
    Level { shift: 13, bits: 6, base: 8192 },
    Level { shift: 19, bits: 6, base: 8256 },
    Level { shift: 25, bits: 3, base: 8320 },
];
const SLOTS: usize = 8328;
/// Time in units wraps with the tick.
const MASK: u32 = u32::MAX >> UNIT;

/// What lies beside a flow.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// The next in the slot, or in the free list.
    next: u32,
    prev: u32,
    /// How often the place was used.
    uses: u32,
}

/// The wheel, and the links of all places.
pub(super) struct Wheel {
    heads: Box<[u32; SLOTS]>,
    links: Vec<Link>,
    capacity: usize,
    /// The first unit of time that is not done with.
    cursor: u32,
    /// First of the free places.
    free: u32,
}

impl Wheel {
    /// A wheel for at most `capacity` flows that begins at `now`.
    pub(super) fn new(capacity: u32, now: Tick) -> Wheel {
        Wheel {
            heads: Box::new([NONE; SLOTS]),
            links: Vec::with_capacity(capacity as usize),
            capacity: capacity as usize,
            cursor: now.0 >> UNIT,
            free: NONE,
        }
    }

    /// Where the links of a first `flows` flows lie.
    pub(super) fn memory(&self, flows: usize) -> Range<usize> {
        let from = self.links.as_ptr().addr();
        from..from + flows.min(self.capacity) * size_of::<Link>()
    }

    /// A free place that was used before; None if there is none.
    pub(super) fn reuse(&mut self) -> Option<u32> {
        let place = self.free;
        let link = self.links.get(place as usize)?;
        self.free = link.next;
        Some(place)
    }

    /// One place more, behind all others; None where there is no memory for it.
    pub(super) fn extend(&mut self) -> Option<u32> {
        if self.links.len() >= self.capacity {
            return None;
        }
        self.links.push(Link { next: NONE, prev: NONE, uses: 0 });
        u32::try_from(self.links.len() - 1).ok()
    }

    /// The place is free for another flow.
    pub(super) fn release(&mut self, place: u32) {
        let free = self.free;
        if let Some(link) = self.links.get_mut(place as usize) {
            link.next = free;
            link.uses = link.uses.wrapping_add(1);
            self.free = place;
        }
    }

    /// How often a place was used before.
    pub(super) fn uses(&self, place: u32) -> u32 {
        self.links.get(place as usize).map_or(0, |link| link.uses)
    }

    /// Files a flow by its deadline; the slot is to be kept with the flow.
    pub(super) fn file(&mut self, place: u32, deadline: Tick) -> u16 {
        let slot = self.slot(deadline);
        let Some(head) = self.heads.get_mut(usize::from(slot)) else { return slot };
        let old = std::mem::replace(head, place);
        if let Some(link) = self.links.get_mut(place as usize) {
            (link.next, link.prev) = (old, NONE);
        }
        if let Some(link) = self.links.get_mut(old as usize) {
            link.prev = place;
        }
        slot
    }

    /// Takes a flow out of the slot that [`Wheel::file`] told.
    pub(super) fn unfile(&mut self, place: u32, slot: u16) {
        let Some(&Link { next, prev, .. }) = self.links.get(place as usize) else { return };
        match self.links.get_mut(prev as usize) {
            Some(link) => link.next = next,
            None => {
                if let Some(head) = self.heads.get_mut(usize::from(slot)) {
                    *head = next;
                }
            }
        }
        if let Some(link) = self.links.get_mut(next as usize) {
            link.prev = prev;
        }
    }

    /// Whether a flow in `slot` would be looked at too late for this deadline.
    #[inline]
    pub(super) fn is_late(&self, slot: u16, deadline: Tick) -> bool {
        let Some(level) = LEVELS.iter().rev().find(|level| level.base <= slot) else { return true };
        let slots = 1 << level.bits;
        let ahead = u32::from(slot - level.base).wrapping_sub(self.cursor >> level.shift) & (slots - 1);
        let begins = ((self.cursor >> level.shift) + ahead) << level.shift;
        let wanted = (deadline.0 >> UNIT).wrapping_sub(self.cursor) & MASK;
        let begins = begins.wrapping_sub(self.cursor) & MASK;
        // A slot that began already counts as now; so does a deadline in the past.
        let past = MASK / 2;
        let begins = if begins > past { 0 } else { begins };
        let wanted = if wanted > past { 0 } else { wanted };
        wanted < begins
    }

    /// The next flow whose slot has come up, taken out of it: it ran out, or is to be filed again. `steps` bounds
    /// the empty slots that are passed.
    pub(super) fn pop(&mut self, now: Tick, steps: &mut u32) -> Option<u32> {
        let now = now.0 >> UNIT;
        loop {
            let ahead = now.wrapping_sub(self.cursor) & MASK;
            if ahead == 0 || ahead > MASK / 2 || *steps == 0 {
                return None;
            }
            if let Some(place) = self.pop_at_cursor() {
                return Some(place);
            }
            self.cursor = self.cursor.wrapping_add(1) & MASK;
            *steps -= 1;
        }
    }

    /// From the coarsest level down: what begins with this unit moves to finer slots, and then the unit itself.
    fn pop_at_cursor(&mut self) -> Option<u32> {
        for level in LEVELS.iter().rev() {
            if self.cursor & ((1 << level.shift) - 1) != 0 {
                continue;
            }
            let slot = level.base + (self.cursor >> level.shift & ((1 << level.bits) - 1)) as u16;
            let head = self.heads.get(usize::from(slot)).copied().unwrap_or(NONE);
            if head != NONE {
                self.unfile(head, slot);
                return Some(head);
            }
        }
        None
    }

    fn slot(&self, deadline: Tick) -> u16 {
        let ahead = (deadline.0 >> UNIT).wrapping_sub(self.cursor) & MASK;
        let at = if ahead > MASK / 2 { self.cursor } else { deadline.0 >> UNIT };
        for level in &LEVELS {
            let distance =
                (at >> level.shift).wrapping_sub(self.cursor >> level.shift) & (MASK >> level.shift);
            if distance < 1 << level.bits {
                return level.base + (at >> level.shift & ((1 << level.bits) - 1)) as u16;
            }
        }
        // Unreachable, since the last level reaches as far as a tick: the soonest slot is never wrong.
        (self.cursor & 8191) as u16
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wheel(n: u32, now: Tick) -> Wheel {
        let mut wheel = Wheel::new(n, now);
        for place in 0..n {
            assert_eq!(wheel.extend(), Some(place));
        }
        wheel
    }

    /// Runs from `start` to when all are gone; says when each was given out for good.
    fn run(start: u32, timeouts: &[u32], step: u32) -> Vec<u32> {
        let mut wheel = wheel(timeouts.len() as u32, Tick(start));
        let deadlines: Vec<_> = timeouts.iter().map(|t| Tick(start.wrapping_add(*t))).collect();
        for (place, deadline) in deadlines.iter().enumerate() {
            wheel.file(place as u32, *deadline);
        }
        let mut gone = vec![0; timeouts.len()];
        let (mut left, mut now, mut pops) = (timeouts.len(), start, 0u64);
        while left > 0 {
            now = now.wrapping_add(step);
            while let Some(place) = wheel.pop(Tick(now), &mut u32::MAX.clone()) {
                pops += 1;
                if Tick(now).is_due(deadlines[place as usize]) {
                    gone[place as usize] = now.wrapping_sub(start);
                    left -= 1;
                } else {
                    wheel.file(place, deadlines[place as usize]);
                }
            }
        }
        assert!(pops <= 4 * timeouts.len() as u64, "a flow is looked at once a level at most: {pops}");
        gone
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_runs_out_at_its_time(
            start in prop_oneof![any::<u32>(), Just(u32::MAX - 1000)],
            timeouts in prop::collection::vec(prop_oneof![0u32..200_000, 0u32..30_000_000, 0u32..1_000_000_000], 1..50),
        ) {
            let step = 100_000;
            for (gone, timeout) in run(start, &timeouts, step).into_iter().zip(&timeouts) {
                prop_assert!(gone >= *timeout);
                prop_assert!(gone <= timeout + step + 32);
            }
        }

        #[test]
        fn a_deadline_before_the_slot_is_noticed(
            start: u32, timeout in 0u32..1_000_000_000, sooner in 0u32..1_000_000_000,
        ) {
            let mut wheel = wheel(1, Tick(start));
            let slot = wheel.file(0, Tick(start.wrapping_add(timeout)));
            prop_assert!(!wheel.is_late(slot, Tick(start.wrapping_add(timeout))));
            if !wheel.is_late(slot, Tick(start.wrapping_add(sooner))) {
                let just_after = start.wrapping_add(sooner).wrapping_add(32);
                let popped = wheel.pop(Tick(just_after), &mut u32::MAX.clone());
                prop_assert_eq!(popped, Some(0));
            }
        }
    }

    #[test]
    fn the_finest_slots_are_exact() {
        assert_eq!(run(0, &[30_000, 256, 0], 16), [30_016, 272, 16]);
    }

    #[test]
    fn places_are_used_again_and_counted() {
        let mut wheel = wheel(2, Tick(0));
        assert_eq!(wheel.extend(), None);
        assert_eq!(wheel.reuse(), None);
        wheel.release(1);
        assert_eq!((wheel.reuse(), wheel.uses(1), wheel.uses(0)), (Some(1), 1, 0));
    }
}
