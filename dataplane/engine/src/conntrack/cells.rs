//! Flows counted by key, over all workers: how many a source has ([`super::quota`]), how many a rule let begin
//! ([`super::connections`]).
//!
//! Counts lie in cells that all workers share: a key is in one of two lines of eight cells, by its keyed hash, and a
//! cell is free again when its key has no flow left. A cell is changed by one compare-and-swap when a flow begins and
//! one when it ends.
//!
//! A key cannot be told from another with the same two lines and the same tag of 32 bits: both are then counted as one.
//! Where all sixteen cells are taken, a flow is not counted. There are twice as many cells as flows, so that this takes a full
//! table of keys with a single flow each.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cells in a line of the cache.
const CELLS: usize = 8;

/// How often a cell is tried again that another worker changed at the same moment.
const ATTEMPTS: usize = 16;

/// Flows in a cell's value; its key's tag is above.
const COUNT: u64 = 0xffff_ffff;

/// Where a flow is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge(pub(super) u32);

/// What became of counting a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charged {
    /// It is counted there, with it so many.
    To(Charge, u32),
    /// Its key has as many as it may have.
    Full,
    /// There was no cell for its key.
    Uncounted,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; CELLS]);

/// Counts of flows by key.
#[derive(Debug)]
pub(super) struct Cells {
    lines: Box<[Line]>,
}

impl Cells {
    /// Room for the keys of `flows` flows. Takes some milliseconds for a million.
    pub(super) fn new(flows: u32) -> Cells {
        let lines = (2 * flows as usize).div_ceil(CELLS).max(2);
        Cells { lines: std::iter::repeat_with(Line::default).take(lines).collect() }
    }

    /// Counts one flow more of the key with this hash, if it has fewer than `max`.
    pub(super) fn charge(&self, hash: u64, max: u32) -> Charged {
        let tag = hash & !COUNT;
        for _ in 0..ATTEMPTS {
            let (mut flows, mut own, mut free) = (0, None, None);
            for at in self.places(hash) {
                let Some(cell) = self.cell(at) else { continue };
                let value = cell.load(Ordering::Relaxed);
                if value & COUNT == 0 {
                    free = free.or(Some((at, value, tag | 1)));
                } else if value & !COUNT == tag {
                    flows += value & COUNT;
                    own = own.or(Some((at, value, value + 1)));
                }
            }
            if flows >= u64::from(max) {
                return Charged::Full;
            }
            let Some((at, old, new)) = own.or(free) else { return Charged::Uncounted };
            let changed = self.cell(at).is_some_and(|cell| {
                cell.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            });
            if changed {
                return Charged::To(Charge(at), flows as u32 + 1);
            }
        }
        Charged::Uncounted
    }

    /// A flow that was counted there is gone.
    pub(super) fn discharge(&self, charge: Charge) {
        if let Some(cell) = self.cell(charge.0) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Flows of the key with this hash.
    pub(super) fn count(&self, hash: u64) -> u32 {
        self.own(hash).fold(0, |flows, (_, value)| flows.saturating_add((value & COUNT) as u32))
    }

    /// Whether a flow that is counted there is counted for the key with this hash.
    pub(super) fn is_of(&self, charge: Charge, hash: u64) -> bool {
        self.own(hash).any(|(at, _)| at == charge.0)
    }

    /// The cells of a key that has flows, and what is in them.
    fn own(&self, hash: u64) -> impl Iterator<Item = (u32, u64)> {
        let values = self.places(hash).filter_map(|at| Some((at, self.cell(at)?.load(Ordering::Relaxed))));
        values.filter(move |(_, value)| value & COUNT != 0 && value & !COUNT == hash & !COUNT)
    }

    /// The cells that a key may be in.
    fn places(&self, hash: u64) -> impl Iterator<Item = u32> + use<> {
        let lines = self.lines.len() as u64;
        // Not the bits that the tag is of: keys in one line would share most of it.
        let line = |odd: u64| (((hash.wrapping_mul(odd) >> 32) * lines) >> 32) as u32;
        let (first, second) = (line(0x9e37_79b9_7f4a_7c15), line(0xc2b2_ae3d_27d4_eb4f));
        let of = |line: u32| (0..CELLS as u32).map(move |cell| line * CELLS as u32 + cell);
        of(first).chain(of(second).filter(move |_| second != first))
    }

    fn cell(&self, at: u32) -> Option<&AtomicU64> {
        let at = at as usize;
        self.lines.get(at / CELLS)?.0.get(at % CELLS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::conntrack::tuple::{Address, Seeds};

    /// Mixed well, as keyed hashes are.
    fn hash(key: u32) -> u64 {
        u32::mix((key, 32), (key, 32), 0, &Seeds::new(7))
    }

    proptest! {
        /// Whatever comes and goes, each source has as many as a plain map counts, and no more than it may have.
        #[test]
        fn counts_are_exact(operations in prop::collection::vec((any::<bool>(), 0u32..40), 0..600)) {
            let cells = Cells::new(200);
            let mut model: HashMap<u32, Vec<Charge>> = HashMap::new();
            for (begins, source) in operations {
                let own = model.entry(source).or_default();
                if begins {
                    match cells.charge(hash(source), 5) {
                        Charged::To(charge, flows) => {
                            own.push(charge);
                            prop_assert_eq!(flows as usize, own.len());
                        },
                        Charged::Full => prop_assert_eq!(own.len(), 5),
                        Charged::Uncounted => prop_assert!(false, "40 cells in 400 cells"),
                    }
                    prop_assert!(own.len() <= 5);
                } else if let Some(charge) = own.pop() {
                    cells.discharge(charge);
                }
                prop_assert_eq!(cells.count(hash(source)) as usize, model.get(&source).map_or(0, Vec::len));
            }
            for charge in model.into_values().flatten() {
                cells.discharge(charge);
            }
            let cells = cells.lines.iter().flat_map(|line| &line.0);
            prop_assert!(cells.map(|cell| cell.load(Ordering::Relaxed) & COUNT).all(|count| count == 0));
        }
    }

    #[test]
    fn as_many_cells_as_flows_are_counted_but_for_bad_luck() {
        let cells = Cells::new(100_000);
        let uncounted = (0..100_000).filter(|n| cells.charge(hash(*n), 1) == Charged::Uncounted).count();
        assert!(uncounted < 100, "{uncounted} of 100000");
    }

    #[test]
    fn workers_share_a_quota_exactly() {
        let cells = Cells::new(1000);
        let granted: usize = std::thread::scope(|scope| {
            let worker =
                || (0..5000).filter(|_| matches!(cells.charge(hash(1), 1000), Charged::To(..))).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!((985..=1000).contains(&granted), "{granted}");
    }
}
