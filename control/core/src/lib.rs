//! The control plane as a library without DPDK: what runs beside the workers, on one thread.

pub mod kernel_interfaces;
pub mod neighbours;
