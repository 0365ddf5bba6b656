//! The I/O shell around the engine: devices, poll loops, rings between workers, mailboxes to control.
//!
//! [`Dataplane::open`] makes the devices, [`Opened::start`] the worker threads. Each worker polls its queue of every
//! port and tap, hands bursts to its [`sluice_engine::Engine`] and does what the verdicts say. Nothing here decides
//! what happens to a packet, and the engine knows nothing of devices, threads or clocks.

#![forbid(unsafe_code)]

mod account;
mod assemble;
mod capture;
mod clock;
mod config;
mod dataplane;
mod device;
mod error;
mod exit;
mod hold;
mod idle;
mod latency;
mod mailbox;
mod memory;
mod notice;
mod pci;
mod poll;
mod shell;
mod source;
#[cfg(test)]
mod tests;
mod thread;

pub use config::{DataplaneConfig, Device, Hugepages, Idle, PortSpec, StartConfig, TapSpec};
pub use dataplane::{Dataplane, Opened, PortInfo, PortStats};
pub use error::StartError;
pub use sluice_rte::LargePageAllocator;
