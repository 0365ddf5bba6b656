//! Plain counters, written by one worker and read by whoever collects: no read-modify-write on the packet path.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::verdict::DropReason;

/// A counter with one writer. Adding is a plain load and store.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the owning worker may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Undoes an earlier `add` of the same poll round, for a packet that was counted as sent before its queue turned
    /// out to be full; only the owning worker may. A scrape between the two would see one packet too many.
    #[inline]
    pub fn take_back(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces the value (gauges).
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets of one interface at one worker. Every packet received ends in exactly one of forwarded, delivered,
/// answered, consumed, or a drop.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct InterfaceCounters {
    /// Packets received from the wire.
    pub rx_packets: Counter,
    /// Bytes of them, Ethernet header included, FCS not.
    pub rx_bytes: Counter,
    /// Packets sent to the wire, of whatever origin.
    pub tx_packets: Counter,
    /// Bytes of them.
    pub tx_bytes: Counter,
    /// Received here and sent to a next hop.
    pub forwarded: Counter,
    /// Received here and handed to the box's own sockets.
    pub delivered: Counter,
    /// Received here, dropped and answered with an error or a reset.
    pub answered: Counter,
    /// Received here and used up: ARP, neighbour discovery.
    pub consumed: Counter,
    /// Sent by the box itself and accepted, counted at the interface it left by.
    pub local_tx: Counter,
}

/// Classification just behind the tracker in prerouting.
#[derive(Debug, Default)]
pub struct StateCounters {
    /// ct state new.
    pub new: Counter,
    /// ct state established.
    pub established: Counter,
    /// ct state related.
    pub related: Counter,
    /// ct state invalid.
    pub invalid: Counter,
    /// ct state untracked.
    pub untracked: Counter,
}

/// The kernel's own statistics (`conntrack -S`).
#[derive(Debug, Default)]
pub struct ConntrackCounters {
    /// Look-ups that found an entry.
    pub found: Counter,
    /// Packets that could not be tracked.
    pub invalid: Counter,
    /// Entries made.
    pub insert: Counter,
    /// Entries that could not be put in.
    pub insert_failed: Counter,
    /// Packets dropped because no entry could be made.
    pub drop: Counter,
    /// Entries evicted to make room.
    pub early_drop: Counter,
    /// Packets with errors in ICMP.
    pub error: Counter,
    /// Look-ups begun again; always 0 here, kept for the name.
    pub search_restart: Counter,
    /// Entries removed from a table that had refused a packet: unassured ones and those that are closing.
    pub swept: Counter,
    /// Expectations made.
    pub expect_create: Counter,
    /// Expectations gone: used up, run out or deleted.
    pub expect_delete: Counter,
    /// Flows that were expected.
    pub expect_new: Counter,
    /// Expectations that wait now (gauge).
    pub expectations: Counter,
    /// Entries in places that are kept for the router's own traffic, when they were made.
    pub reserved: Counter,
    /// Entries that no room was left to count for their source's quota.
    pub quota_uncounted: Counter,
    /// What timeouts are multiplied by, in 65,536ths (gauge): 65,536 but where they shrink as the table fills.
    pub timeout_factor: Counter,
    /// Entries in the shard now (gauge).
    pub entries: Counter,
    /// Entries by protocol class and state (gauges), indexed as `conntrack` documents.
    pub by_state: [Counter; 32],
}

/// Bounds that durations are counted by, in microseconds: one is in the first whose bound it does not exceed, or behind
/// the last.
pub const DURATION_BOUNDS: [u32; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// How long something took that is done again and again. On a core that other programs use as well, time that they took
/// is in it.
#[derive(Debug, Default)]
pub struct DurationCounters {
    /// How often it took so long, see [`DURATION_BOUNDS`].
    pub by_duration: [Counter; DURATION_BOUNDS.len() + 1],
    /// TSC cycles of all together.
    pub cycles: Counter,
    /// TSC cycles of the longest one (gauge).
    pub longest: Counter,
}

impl DurationCounters {
    /// Counts one of `cycles` TSC cycles; `bounds` are [`DURATION_BOUNDS`] in cycles.
    #[inline]
    pub fn note(&self, cycles: u64, bounds: &[u64; DURATION_BOUNDS.len()]) {
        let at = bounds.iter().position(|bound| cycles <= *bound).unwrap_or(DURATION_BOUNDS.len());
        if let Some(counter) = self.by_duration.get(at) {
            counter.add(1);
        }
        self.cycles.add(cycles);
        if cycles > self.longest.get() {
            self.longest.set(cycles);
        }
    }
}

/// Everything one worker counts. Shared with the collector; written by that worker alone.
#[derive(Debug)]
pub struct WorkerCounters {
    /// By [`crate::ids::InterfaceId`].
    pub interfaces: Box<[InterfaceCounters]>,
    /// By [`DropReason`].
    pub drops: [Counter; DropReason::COUNT],
    /// Classification in prerouting.
    pub states: StateCounters,
    /// The tracker's own.
    pub conntrack: ConntrackCounters,
    /// Packets given to another worker.
    pub handed_over: Counter,
    /// Packets from the wire whose hash the device brought along.
    pub device_hashed: Counter,
    /// Received packets waiting for a neighbour (gauge).
    pub held: Counter,
    /// Received fragments waiting for the rest of their datagrams (gauge).
    pub reassembling: Counter,
    /// Drops of what the box itself sent; not part of the sum over received packets.
    pub local_drops: [Counter; DropReason::COUNT],
    /// Poll rounds that found at least a packet.
    pub busy_polls: Counter,
    /// Poll rounds that found none.
    pub idle_polls: Counter,
    /// TSC cycles of rounds with packets.
    pub busy_cycles: Counter,
    /// TSC cycles of rounds without.
    pub idle_cycles: Counter,
    /// How long polls took, with packets or without: from the first queue to the last transmission, the pauses of an idle
    /// worker left out, and the very first poll, which pays for memory that was never used.
    pub polls: DurationCounters,
    /// How long packets took from the worker's hands to the device, of some of them.
    pub latency: DurationCounters,
    /// Packets that polls returned.
    pub polled_packets: Counter,
    /// Packets that took the stored decision of their flow.
    pub fast_path: Counter,
}

impl WorkerCounters {
    /// Zeroed counters for `interfaces` interfaces.
    pub fn new(interfaces: usize) -> WorkerCounters {
        WorkerCounters {
            interfaces: (0..interfaces).map(|_| InterfaceCounters::default()).collect(),
            drops: std::array::from_fn(|_| Counter::default()),
            states: StateCounters::default(),
            conntrack: ConntrackCounters::default(),
            handed_over: Counter::default(),
            device_hashed: Counter::default(),
            held: Counter::default(),
            reassembling: Counter::default(),
            local_drops: std::array::from_fn(|_| Counter::default()),
            busy_polls: Counter::default(),
            idle_polls: Counter::default(),
            busy_cycles: Counter::default(),
            idle_cycles: Counter::default(),
            polls: DurationCounters::default(),
            latency: DurationCounters::default(),
            polled_packets: Counter::default(),
            fast_path: Counter::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_once_by_the_first_bound_that_holds_it() {
        let bounds = DURATION_BOUNDS.map(|micros| u64::from(micros) * 1000);
        let polls = DurationCounters::default();
        for cycles in [0, 1000, 1001, 200_000, 10_000_001, 7] {
            polls.note(cycles, &bounds);
        }
        let counted: Vec<u64> = polls.by_duration.iter().map(Counter::get).collect();
        assert_eq!(counted, [3, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!((polls.longest.get(), polls.cycles.get()), (10_000_001, 10_202_009));
    }
}
