//! What happens to a packet: netfilter's semantics over a routed path. No clock, no I/O, no threads, no DPDK.
//!
//! The worker hands [`Engine::process`] a burst of [`Frame`]s and gets a [`Verdict`] back in each; time, memory
//! and everything that leaves the box go through arguments. So all of it is tested, fuzzed and run under Miri
//! on plain byte slices.

pub mod arch;
pub mod bpf;
pub mod capture;
pub mod conntrack;
pub mod counters;
mod decision;
pub mod engine;
pub mod frame;
pub mod helper;
pub mod ids;
pub mod limit;
pub mod lpm;
pub mod message;
mod pipeline;
mod reassembly;
pub mod ruleset;
mod stage;
#[cfg(test)]
mod testing;
pub mod trace;
mod transit;
pub mod verdict;
pub mod world;

pub use engine::Engine;
pub use frame::{Frame, Origin, Outbox, Outlet, RxChecksum};
pub use verdict::{DropReason, Verdict};
pub use world::World;
