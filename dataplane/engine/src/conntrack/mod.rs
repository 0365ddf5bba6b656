//! Connection tracking: one worker's shard of flows (kernel: `net/netfilter/nf_conntrack_core.c`).

use std::sync::atomic::AtomicU64;

use crate::engine::EngineConfig;
use crate::ids::Now;

/// `conntrack:` of the system file, with the kernel's defaults.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

/// `conntrack.max`, leased to the workers.
#[derive(Debug, Default)]
pub struct FlowBudget {
    /// Flows in all shards.
    pub used: AtomicU64,
    /// The limit.
    pub max: AtomicU64,
}

/// A flow's id, unique while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(pub u64);

/// Which flows a command is about.
#[derive(Clone, Debug, Default)]
pub struct FlowFilter {}

/// A flow as it is listed.
#[derive(Clone, Debug)]
pub struct FlowRecord {}

/// A change to one flow.
#[derive(Clone, Debug)]
pub enum FlowUpdate {
    /// Remove it.
    Delete,
}

/// One worker's shard.
pub struct Conntrack {}

impl Conntrack {
    /// An empty table.
    pub fn new(config: &EngineConfig) -> Conntrack {
        let _ = config;
        Conntrack {}
    }

    /// Removes flows that ran out, at most `budget` of them.
    pub fn expire(&mut self, now: Now, budget: usize) -> usize {
        let _ = (now, budget);
        0
    }
}
