//! A small laboratory for tests with real programs: a client, the router and a server in network namespaces.
//!
//! ```text
//! client eth0 ──── lan0 router wan0 ──── eth0 server
//!   10.1.0.2        10.1.0.1 10.2.0.1      10.2.0.2
//!   fd00:1::2       fd00:1::1 fd00:2::1    fd00:2::2
//! ```
//!
//! Everything that a [`Lab`] makes goes with it: processes are ended by their id, namespaces removed. The laboratory
//! needs root, iproute2 and ethtool, and the programs `sluiced` and `sluice` in the release profile.

mod daemon;
mod lab;
mod metrics;

pub use daemon::{Daemon, SystemFile, program};
pub use lab::{Lab, Process, text, until};
pub use metrics::Metrics;
