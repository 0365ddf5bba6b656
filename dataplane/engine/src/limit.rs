//! Rate limits: nft's token bucket as the generic cell rate algorithm, one word a bucket.
//!
//! A bucket is the *theoretical arrival time*: when it would be full again. A packet conforms if that is no more
//! than `burst - 1` intervals away, and moves it one interval on. So a bucket is one atomic word, exact for all
//! workers together; they meet on it only where a rule with a limit is evaluated.
//!
//! Source: ITU-T I.371 annex A (GCRA); behaviour after nft(8), "limit statement" (burst 5 by default).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What each bucket of a [`Limit`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitPer {
    /// All packets together.
    Rule,
    /// Each source address.
    Source,
    /// Each destination address.
    Destination,
}

/// A rate limit with its state. Times are [`crate::ids::Now::nanos`].
#[derive(Debug)]
pub struct Limit {
    /// Nanoseconds that one packet takes.
    interval: u64,
    /// Nanoseconds that the arrival time may be ahead for one more to conform.
    tolerance: u64,
    buckets: Buckets,
}

#[derive(Debug)]
enum Buckets {
    One(AtomicU64),
    Source(Table),
    Destination(Table),
}

impl Limit {
    /// `count` packets in each `unit`, `burst` (at least 1) at once.
    pub fn new(count: u32, unit: Duration, burst: u32, per: LimitPer) -> Limit {
        let unit = u64::try_from(unit.as_nanos()).unwrap_or(u64::MAX);
        let interval = unit / u64::from(count.max(1));
        Limit {
            interval,
            tolerance: interval.saturating_mul(u64::from(burst.max(1)) - 1),
            buckets: match per {
                LimitPer::Rule => Buckets::One(AtomicU64::new(0)),
                LimitPer::Source => Buckets::Source(Table::new()),
                LimitPer::Destination => Buckets::Destination(Table::new()),
            },
        }
    }

    /// Takes a token for a packet between these addresses; false if there is none.
    pub fn take(&self, nanos: u64, src: IpAddr, dst: IpAddr) -> bool {
        match &self.buckets {
            Buckets::One(bucket) => self.take_one(bucket, nanos),
            Buckets::Source(table) => self.take_of(table, nanos, src),
            Buckets::Destination(table) => self.take_of(table, nanos, dst),
        }
    }

    /// Takes a token of the rule's own bucket, whatever the packet.
    fn take_one(&self, bucket: &AtomicU64, nanos: u64) -> bool {
        let mut seen = bucket.load(Ordering::Relaxed);
        loop {
            let Some(next) = self.conforms(nanos, seen) else { return false };
            match bucket.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// The arrival time after a packet that conforms at `nanos`; None if it does not.
    fn conforms(&self, nanos: u64, arrival: u64) -> Option<u64> {
        (arrival <= nanos.saturating_add(self.tolerance))
            .then(|| arrival.max(nanos).saturating_add(self.interval))
    }

    fn take_of(&self, table: &Table, nanos: u64, address: IpAddr) -> bool {
        let hash = table.hash(address);
        let Some(line) = table.line(hash) else { return false };
        let now = Packed::ticks(nanos);
        let tag = Packed::tag(hash);
        loop {
            let Some((cell, seen)) = line.find(tag, now, self.horizon()) else { return false };
            let arrival = Packed(seen).arrival(now, self.horizon());
            let Some(next) = self.conforms_ticks(now, arrival) else { return false };
            let next = Packed::new(tag, next).0;
            if cell.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// As [`Limit::conforms`], in ticks of a [`Packed`] bucket.
    fn conforms_ticks(&self, now: u64, arrival: u64) -> Option<u64> {
        let interval = Packed::ticks(self.interval).max(1);
        let tolerance = Packed::ticks(self.tolerance);
        (arrival <= now + tolerance).then(|| arrival.max(now) + interval)
    }

    /// Ticks that an arrival time can be ahead at most: one that seems to be farther is left from long ago.
    fn horizon(&self) -> u64 {
        Packed::ticks(self.tolerance) + Packed::ticks(self.interval).max(1)
    }
}

/// Buckets by address, in a fixed amount of memory: 16,384 of them, 128 KiB, however many addresses there are.
///
/// An address looks at the eight buckets of one line. A bucket that is full again is as good as none and is given
/// away; if all eight are in use, a newcomer shares the one that will be full first. So the error is on one side:
/// no address ever gets more than its rate, one that comes when more than 16,384 are active may get less. The
/// hash is seeded by the process, so that nobody can aim at another's line.
#[derive(Debug)]
struct Table {
    seed: std::hash::RandomState,
    lines: Box<[Line]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

const LINES: usize = 2048;

impl Table {
    fn new() -> Table {
        Table { seed: std::hash::RandomState::new(), lines: (0..LINES).map(|_| Line::default()).collect() }
    }

    fn hash(&self, address: IpAddr) -> u64 {
        std::hash::BuildHasher::hash_one(&self.seed, address)
    }

    fn line(&self, hash: u64) -> Option<&Line> {
        self.lines.get(hash as usize % LINES)
    }
}

impl Line {
    /// The bucket of `tag`: its own, else the one that is or will be full first.
    fn find(&self, tag: u64, now: u64, horizon: u64) -> Option<(&AtomicU64, u64)> {
        let mut best: Option<(&AtomicU64, u64, u64)> = None;
        for cell in &self.0 {
            let seen = cell.load(Ordering::Relaxed);
            if seen != 0 && Packed(seen).0 >> Packed::TIME_BITS == tag {
                return Some((cell, seen));
            }
            let arrival = Packed(seen).arrival(now, horizon);
            if best.is_none_or(|(_, _, first)| arrival < first) {
                best = Some((cell, seen, arrival));
            }
        }
        best.map(|(cell, seen, _)| (cell, seen))
    }
}

/// A bucket of a table: 16 bits of the address's hash, and 48 bits of arrival time in ticks of 256 ns, which wrap
/// after two years.
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    const TIME_BITS: u32 = 48;
    const TIME: u64 = (1 << Self::TIME_BITS) - 1;

    fn new(tag: u64, arrival: u64) -> Packed {
        Packed(tag << Self::TIME_BITS | arrival & Self::TIME)
    }

    fn ticks(nanos: u64) -> u64 {
        nanos >> 8
    }

    /// Never 0, which is how an unused bucket begins.
    fn tag(hash: u64) -> u64 {
        (hash >> Self::TIME_BITS).max(1)
    }

    /// The arrival time on the clock of `now`; `now` itself if the bucket is full, or was left long ago.
    fn arrival(self, now: u64, horizon: u64) -> u64 {
        let ahead = (self.0 & Self::TIME).wrapping_sub(now) & Self::TIME;
        if ahead <= horizon { now + ahead } else { now }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn limit(count: u32, burst: u32, per: LimitPer) -> Limit {
        Limit::new(count, Duration::from_secs(1), burst, per)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let limit = limit(10, 5, LimitPer::Rule);
        let take = |at: u64| limit.take(at, ip(1), ip(2));
        let begin = 7 * SECOND;
        assert_eq!((0..8).filter(|_| take(begin)).count(), 5);
        assert!(!take(begin + SECOND / 10 - 1));
        assert!(take(begin + SECOND / 10));
        assert!(!take(begin + SECOND / 10));
        assert_eq!((0..8).filter(|_| take(begin + 10 * SECOND)).count(), 5, "never more than the burst");
    }

    #[test]
    fn each_source_has_its_own() {
        let limit = limit(1, 2, LimitPer::Source);
        for source in 0..50 {
            let taken = (0..5).filter(|_| limit.take(SECOND, ip(source), ip(9))).count();
            assert_eq!(taken, 2, "source {source}");
        }
        assert!(!limit.take(SECOND, ip(3), ip(10)));
        assert!(limit.take(2 * SECOND + 512, ip(3), ip(9)));
        let other = Limit::new(1, Duration::from_secs(1), 1, LimitPer::Destination);
        assert!(other.take(0, ip(1), ip(2)) && !other.take(0, ip(3), ip(2)) && other.take(0, ip(1), ip(4)));
    }

    #[test]
    fn a_full_table_gives_less_and_never_more() {
        let limit = limit(1, 1, LimitPer::Source);
        let taken = (0..100_000u32).filter(|&n| limit.take(SECOND, ip(n), ip(0))).count();
        assert!((15_000..=16_384).contains(&taken), "{taken}");
        assert!((0..16_384u32).all(|n| !limit.take(SECOND, ip(n), ip(0))));
    }

    #[test]
    fn time_wraps() {
        let limit = limit(1, 3, LimitPer::Source);
        let wrap = 1u64 << (48 + 8);
        for at in [wrap - 1, wrap, wrap + 5 * SECOND, 3 * wrap] {
            let taken = (0..9).filter(|_| limit.take(at, ip(1), ip(0))).count();
            assert!((1..=3).contains(&taken), "{taken} at {at}");
        }
    }

    #[test]
    fn a_rate_above_the_clock_never_limits() {
        let limit = Limit::new(u32::MAX, Duration::from_secs(1), 1, LimitPer::Rule);
        assert!((0..100).all(|_| limit.take(0, ip(1), ip(2))));
    }

    proptest! {
        #[test]
        fn never_exceeds_burst_and_rate(
            count in 1u32..1000,
            burst in 1u32..50,
            per in prop_oneof![Just(LimitPer::Rule), Just(LimitPer::Source)],
            gaps in prop::collection::vec(0u64..SECOND / 20, 1..300),
        ) {
            let limit = limit(count, burst, per);
            let (mut now, mut taken) = (SECOND, 0u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(limit.take(now, ip(1), ip(2)));
                let allowed = u64::from(burst) + (now - SECOND + 512 * taken) / (SECOND / u64::from(count) - 512);
                prop_assert!(taken <= allowed, "{} taken, {} allowed", taken, allowed);
            }
        }
    }
}
