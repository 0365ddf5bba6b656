//! The control plane as a library without DPDK: what runs beside the workers, on one thread.
//!
//! A start goes [`Boot::load`] (both files), [`KernelInterfaces::prepare`] (devices), the data plane's own opening,
//! [`KernelInterfaces::configure_taps`], [`Boot::launch`] (the first world), and, with workers polling, [`Control::new`].
//! From then on [`Control::serve_workers`], [`api`] and [`metrics`] run side by side on one runtime.
//!
//! | file | what |
//! |---|---|
//! | `boot`, `system`, `history` | files: which policy starts, what the engine gets, what was applied |
//! | `kernel_interfaces` | devices that the kernel gives up, and taps |
//! | `control`, `workers`, `publisher` | the daemon's state, the line to the workers, the swap of worlds |
//! | `apply`, `confirm` | policies and reloads; which wait to be confirmed, and the way back |
//! | `neighbours` | ARP and neighbour discovery |
//! | `explain` | what would happen to a packet |
//! | `sets` | elements of sets, as a policy defines them and as they were changed since |
//! | `recheck` | live flows against another policy |
//! | `flows`, `watch` | listing, deleting and changing flows; their events |
//! | `learned` | addresses and routes of the kernel |
//! | `nat_pools` | how much of what translations may give is in use |
//! | `capture`, `trace` | copies of packets on their way to a file; what becomes of packets, told |
//! | `ipfix` | flows told to a collector |
//! | `groups` | multicast groups of the box |
//! | `log_line`, `log_output`, `journal` | what `log` rules write, and where |
//! | `api`, `metrics`, `connection` | HTTP, and what a client may cost |
//! | `page` | what the router does now, in a browser |
//! | `actor`, `remote` | who asks; clients on other hosts, over mutual TLS |

mod actor;
pub mod api;
mod apply;
mod boot;
mod capture;
mod confirm;
mod connection;
mod control;
mod devices;
mod explain;
mod flows;
pub mod groups;
mod history;
mod ipfix;
mod journal;
pub mod kernel_interfaces;
pub mod learned;
mod lock;
mod log_line;
mod log_output;
pub mod metrics;
mod nat_pools;
pub mod neighbours;
mod page;
mod publisher;
mod recheck;
mod remote;
mod sets;
pub mod system;
mod trace;
mod watch;
mod workers;

pub use actor::{Actor, Peer};
pub use apply::ApplyError;
pub use boot::{Boot, BootError, Launch};
pub use control::{Control, Parts};
pub use devices::Devices;
pub use kernel_interfaces::KernelInterfaces;
pub use remote::RemoteError;
pub use sluice_api::Port;
pub use workers::WorkerError;
