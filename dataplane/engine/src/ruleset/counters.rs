//! Packets and bytes of each rule: written by the workers without a lock, summed by whoever shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::Counter;
use crate::ids::WorkerId;
use crate::ruleset::CounterId;

/// Counters of one ruleset. Each worker writes a stretch of memory of its own, so that no line of a cache is shared.
#[derive(Clone, Debug, Default)]
pub struct RuleCounters {
    workers: Arc<[Box<[Line]>]>,
    /// What rules of the same identity counted in rulesets before.
    carried: Arc<[Carried]>,
}

#[derive(Debug, Default)]
struct Cell {
    packets: Counter,
    bytes: Counter,
}

/// A cache line of cells.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Cell; CELLS]);

const CELLS: usize = 4;

#[derive(Debug, Default)]
struct Carried {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl RuleCounters {
    /// Zeroed counters.
    pub(super) fn new(workers: usize, counters: usize) -> RuleCounters {
        let lines = || (0..counters.div_ceil(CELLS)).map(|_| Line::default()).collect();
        RuleCounters {
            workers: (0..workers).map(|_| lines()).collect(),
            carried: (0..counters).map(|_| Carried::default()).collect(),
        }
    }

    /// What one worker's take, in bytes.
    pub(super) fn bytes_of_worker(&self) -> usize {
        self.workers.first().map_or(0, |lines| size_of_val(&**lines))
    }

    /// Adds to a counter. Each worker number has one writer: a plain load and store.
    #[inline]
    pub(super) fn add(&self, worker: WorkerId, id: CounterId, packets: u64, bytes: u64) {
        let index = id.0 as usize;
        let line = self.workers.get(usize::from(worker.0)).and_then(|lines| lines.get(index / CELLS));
        if let Some(cell) = line.and_then(|line| line.0.get(index % CELLS)) {
            cell.packets.add(packets);
            cell.bytes.add(bytes);
        }
    }

    /// Packets and bytes over all workers, and before.
    pub(super) fn sum(&self, id: CounterId) -> (u64, u64) {
        let index = id.0 as usize;
        let cells = self.workers.iter().filter_map(|lines| lines.get(index / CELLS)?.0.get(index % CELLS));
        let now = cells.fold((0u64, 0u64), |(packets, bytes), cell| {
            (packets.wrapping_add(cell.packets.get()), bytes.wrapping_add(cell.bytes.get()))
        });
        let carried = self.carried.get(index);
        carried.map_or(now, |before| {
            let packets = before.packets.load(Ordering::Relaxed);
            (now.0.wrapping_add(packets), now.1.wrapping_add(before.bytes.load(Ordering::Relaxed)))
        })
    }

    /// Begins a counter at what another one stands at.
    pub(super) fn carry(&self, id: CounterId, (packets, bytes): (u64, u64)) {
        if let Some(carried) = self.carried.get(id.0 as usize) {
            carried.packets.fetch_add(packets, Ordering::Relaxed);
            carried.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
