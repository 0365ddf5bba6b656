//! Safe wrappers over DPDK: all hand-written unsafe code of the project, but for two vector helpers in the engine.
//!
//! What the types promise, so that callers need no care:
//! - [`Eal`] exists only after DPDK's start, and is asked for by everything that needs that.
//! - A [`Mbuf`] has one owner and goes back to its pool on drop. It is not `Clone`: a copy that frees twice would be.
//! - A queue ([`RxQueue`], [`TxQueue`], [`RingProducer`], [`RingConsumer`]) is `Send`, not `Sync`, and takes `&mut self`:
//!   two threads cannot poll one.
//! - A [`Port`] is configured, then started; the device stops when the [`StartedPort`] and all its queues are gone.
//! - What a partial transmit leaves stays with the caller, in its [`Burst`].
//!
//! Nothing here knows packets' contents; what a device says of a packet (lengths, checksums, hash) is handed on as such.
//!
//! Source: DPDK 22.11 programmer's guide and API reference; 24.11 is kept building.

#![allow(
    unsafe_code,
    reason = "this crate is where the project's unsafe code lives; one operation a block, each argued"
)]

mod alloc;
mod burst;
mod eal;
mod error;
mod log;
mod mbuf;
mod mempool;
mod port;
mod privilege;
mod queue;
mod ring;
mod rss;
#[cfg(test)]
mod tests;
pub mod vdev;

pub use alloc::{LargePageAllocator, populate};
pub use burst::{BURST, Burst, Drain};
pub use eal::{Eal, EalConfig, LcoreGuard, PortIndex, SocketId, free_huge_pages_mb, tsc};
pub use error::Error;
pub use log::LogLevel;
pub use mbuf::{HEADROOM, Mbuf, Offloads, Place, RxChecksum};
pub use mempool::{Mempool, memory_needed};
pub use port::{Port, PortConfig, PortInfo, PortStats, StartedPort};
pub use queue::{RxQueue, TxQueue};
pub use ring::{RingConsumer, RingProducer, spsc_ring};
pub use rss::{RETA_PERIOD, SYMMETRIC_KEY};
