//! The control plane as a library without DPDK: what runs beside the workers, on one thread.

mod flows;
mod history;
pub mod kernel_interfaces;
mod lock;
mod log_line;
pub mod neighbours;
mod publisher;
pub mod system;
mod workers;
