//! Newtypes for ids and units, so that a queue number is never taken for a port number.

use std::time::Duration;

/// A logical interface of `sluice.yaml` (a port, or a VLAN on one), in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// A device that frames come from and go to, numbered by the worker from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// A worker, numbered from 0; also the queue of every port that it polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

/// The version of everything a stored decision depends on: policy, sets, routes, addresses, settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Generation(pub u32);

/// Milliseconds since the start of the data plane, wrapping after 49 days. Compare with [`Tick::since`] and
/// [`Tick::is_due`] only; no timeout may exceed 2^31 ms (24 days).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// This tick plus a duration, saturating at the longest timeout that can be told from the past.
    #[inline]
    pub fn after(self, timeout: Millis) -> Tick {
        Tick(self.0.wrapping_add(timeout.0.min(Millis::MAX.0)))
    }

    /// Whether `self` is `deadline` or later.
    #[inline]
    pub fn is_due(self, deadline: Tick) -> bool {
        self.0.wrapping_sub(deadline.0) as i32 >= 0
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is in the future.
    #[inline]
    pub fn since(self, earlier: Tick) -> Millis {
        Millis(u32::try_from((self.0.wrapping_sub(earlier.0) as i32).max(0)).unwrap_or(0))
    }
}

/// A timeout in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Millis(pub u32);

impl Millis {
    /// The longest timeout that a [`Tick`] can express, 24 days.
    pub const MAX: Millis = Millis(i32::MAX as u32);

    /// Whole seconds.
    pub const fn from_secs(secs: u32) -> Millis {
        let ms = secs as u64 * 1000;
        if ms > Self::MAX.0 as u64 { Self::MAX } else { Millis(ms as u32) }
    }
}

impl From<Duration> for Millis {
    fn from(d: Duration) -> Millis {
        Millis(u32::try_from(d.as_millis()).unwrap_or(u32::MAX).min(Millis::MAX.0))
    }
}

/// The time of a burst, read once by the worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// For timeouts.
    pub tick: Tick,
    /// Nanoseconds on the same clock, for rate limits and timestamps.
    pub nanos: u64,
}

impl Now {
    /// The time `nanos` nanoseconds after the data plane's start.
    pub fn from_nanos(nanos: u64) -> Now {
        Now { tick: Tick((nanos / 1_000_000) as u32), nanos }
    }
}
