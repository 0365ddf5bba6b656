//! Raw bindings to the installed libdpdk, made by bindgen, and to a C shim over its static inline functions.
//!
//! No logic here: `sluice-rte` wraps what it uses, and nothing else may depend on this crate. A binary that depends on it,
//! however far up, links the DPDK libraries and the drivers listed in `build.rs` without work of its own.
//!
//! Source: DPDK 22.11's headers (Debian 12); 24.11 is kept building.

#![allow(
    unsafe_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    reason = "generated from C headers; names and shapes are DPDK's own"
)]
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "generated code"
)]
#![allow(rustdoc::all, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
