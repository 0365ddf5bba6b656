//! Control.

pub mod kernel_interfaces;
