//! Quotas: how many flows each source prefix has in the table, over all workers, so that one of them cannot fill it.
//!
//! Counts lie in cells that all workers share: a source is in one of two lines of eight cells, by its keyed hash, and a
//! cell is free again when its source has no flow left. A cell is changed by one compare-and-swap when a flow begins and
//! one when it ends; packets of known flows touch none. Leases for each worker would spare that, but a source whose
//! flows are spread over the workers by their ports would then be refused at one while another has places to spare.
//!
//! A source cannot be told from another with the same two lines and the same tag of 32 bits: both then
//! share a quota. Where all sixteen cells are taken, a flow is not counted, and passes. There are twice as many cells as
//! flows, so that this takes a full table of sources with a single flow each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::tuple::{Address, Seeds};

/// Cells in a line of the cache.
const CELLS: usize = 8;

/// How often a cell is tried again that another worker changed at the same moment.
const ATTEMPTS: usize = 16;

/// Flows in a cell's value; its source's tag is above.
const COUNT: u64 = 0xffff_ffff;

/// Most flows that one source prefix may have in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceQuota {
    /// So many.
    pub max: u32,
    /// Length of the prefix that counts as one source, of IPv4; 0 to 32.
    pub prefix_v4: u8,
    /// The same of IPv6; 0 to 128.
    pub prefix_v6: u8,
}

/// Where a flow is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge(pub(super) u32);

/// What became of counting a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charged {
    /// It is counted there.
    To(Charge),
    /// Its source has as many as it may have.
    Full,
    /// There was no cell for its source.
    Uncounted,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; CELLS]);

/// Flows of all sources.
#[derive(Debug)]
pub(super) struct Sources {
    lines: Box<[Line]>,
}

impl Sources {
    /// Room for the sources of `flows` flows. Takes some milliseconds for a million.
    pub(super) fn new(flows: u32) -> Sources {
        let lines = (2 * flows as usize).div_ceil(CELLS).max(2);
        Sources { lines: std::iter::repeat_with(Line::default).take(lines).collect() }
    }

    /// Counts one flow more of the source with this hash, if it has fewer than `max`.
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
                return Charged::To(Charge(at));
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

    /// The cells that a source may be in.
    fn places(&self, hash: u64) -> impl Iterator<Item = u32> + use<> {
        let lines = self.lines.len() as u64;
        // Not the bits that the tag is of: sources in one line would share most of it.
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

impl SourceQuota {
    /// The keyed hash of the prefix that an address is in.
    pub(super) fn hash<A: Address>(&self, source: A, seeds: &Seeds) -> u64 {
        let length = match A::FAMILY {
            sluice_wire::Family::V4 => self.prefix_v4,
            sluice_wire::Family::V6 => self.prefix_v6,
        };
        let prefix = (source.prefix(length), u16::from(length));
        A::mix(prefix, prefix, 0, seeds)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn hash(source: u32) -> u64 {
        let quota = SourceQuota { max: 0, prefix_v4: 32, prefix_v6: 64 };
        quota.hash(source, &Seeds::new(7))
    }

    proptest! {
        /// Whatever comes and goes, each source has as many as a plain map counts, and no more than it may have.
        #[test]
        fn counts_are_exact(operations in prop::collection::vec((any::<bool>(), 0u32..40), 0..600)) {
            let sources = Sources::new(200);
            let mut model: HashMap<u32, Vec<Charge>> = HashMap::new();
            for (begins, source) in operations {
                let flows = model.entry(source).or_default();
                if begins {
                    match sources.charge(hash(source), 5) {
                        Charged::To(charge) => flows.push(charge),
                        Charged::Full => prop_assert_eq!(flows.len(), 5),
                        Charged::Uncounted => prop_assert!(false, "40 sources in 400 cells"),
                    }
                    prop_assert!(flows.len() <= 5);
                } else if let Some(charge) = flows.pop() {
                    sources.discharge(charge);
                }
            }
            for charge in model.into_values().flatten() {
                sources.discharge(charge);
            }
            let cells = sources.lines.iter().flat_map(|line| &line.0);
            prop_assert!(cells.map(|cell| cell.load(Ordering::Relaxed) & COUNT).all(|count| count == 0));
        }
    }

    #[test]
    fn as_many_sources_as_flows_are_counted_but_for_bad_luck() {
        let sources = Sources::new(100_000);
        let uncounted = (0..100_000).filter(|n| sources.charge(hash(*n), 1) == Charged::Uncounted).count();
        assert!(uncounted < 100, "{uncounted} of 100000");
    }

    #[test]
    fn hosts_of_a_prefix_are_one_source() {
        let seeds = Seeds::new(7);
        let quota = SourceQuota { max: 0, prefix_v4: 24, prefix_v6: 0 };
        assert_eq!(quota.hash(0x0a00_0001_u32, &seeds), quota.hash(0x0a00_00ff_u32, &seeds));
        assert_ne!(quota.hash(0x0a00_0001_u32, &seeds), quota.hash(0x0a00_0101_u32, &seeds));
        assert_eq!(quota.hash(1_u128, &seeds), quota.hash(u128::MAX, &seeds));
        let longer = SourceQuota { prefix_v4: 25, ..quota };
        assert_ne!(quota.hash(0x0a00_0001_u32, &seeds), longer.hash(0x0a00_0001_u32, &seeds));
    }

    #[test]
    fn workers_share_a_quota_exactly() {
        let sources = Sources::new(1000);
        let granted: usize = std::thread::scope(|scope| {
            let worker =
                || (0..5000).filter(|_| matches!(sources.charge(hash(1), 1000), Charged::To(_))).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!((985..=1000).contains(&granted), "{granted}");
    }
}
