//! What control wants to know of the data plane's devices; whoever has the data plane tells it.

use sluice_api::Port;

/// The data plane's devices.
pub trait Devices: Send + Sync + 'static {
    /// The ports by their number, with counters and link as they are now.
    fn ports(&self) -> Vec<Port>;

    /// Packet buffers: how many are in use, and how many there are.
    fn buffers(&self) -> (u32, u32);

    /// The time on the workers' clock now, in nanoseconds since the data plane's start.
    fn nanos(&self) -> u64;

    /// Cycles a second of the clock that workers count their time by.
    fn cycles_per_second(&self) -> u64;
}
