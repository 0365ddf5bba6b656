//! Time for the engine, out of the CPU's time stamp counter: read once a poll round, no system call.

use sluice_engine::ids::Now;

/// Turns TSC ticks into time since the data plane's start. All workers have the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    /// Nanoseconds a tick, times 2^32.
    factor: u64,
}

impl Clock {
    /// A clock that says 0 at TSC `start`, with `hz` ticks a second.
    pub(crate) fn new(start: u64, hz: u64) -> Clock {
        let factor = (1_000_000_000_u128 << 32) / u128::from(hz.max(1));
        Clock { start, factor: u64::try_from(factor).unwrap_or(u64::MAX) }
    }

    /// So many microseconds in TSC ticks.
    pub(crate) fn ticks(&self, micros: u32) -> u64 {
        let nanos = u128::from(micros) * 1000;
        u64::try_from((nanos << 32) / u128::from(self.factor.max(1))).unwrap_or(u64::MAX)
    }

    /// The time at TSC `ticks`. The counter may differ by some ticks between CPUs: what is before the start is the start.
    #[inline]
    pub(crate) fn at(&self, ticks: u64) -> Now {
        let since = (ticks.wrapping_sub(self.start) as i64).max(0) as u64;
        Now::from_nanos(((u128::from(since) * u128::from(self.factor)) >> 32) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_ticks_is_a_day() {
        let clock = Clock::new(1000, 2_300_000_000);
        let day = 86_400_u64;
        let nanos = clock.at(1000 + 2_300_000_000 * day).nanos;
        assert!(nanos.abs_diff(day * 1_000_000_000) < 100_000, "{nanos}");
        assert_eq!(clock.at(990).nanos, 0);
        assert!(clock.ticks(200).abs_diff(460_000) <= 1, "{}", clock.ticks(200));
    }
}
