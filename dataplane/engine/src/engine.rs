//! One worker's engine: its shard of flows, its view of the world, its counters.

use std::sync::Arc;

use crate::conntrack::{Conntrack, FlowBudget};
use crate::counters::WorkerCounters;
use crate::frame::{Frame, Outbox};
use crate::ids::{Now, WorkerId};
use crate::world::World;

/// What an engine is made with; fixed while it runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This worker.
    pub worker: WorkerId,
    /// All workers; 1 to 127.
    pub workers: u8,
    /// Flows that this shard has memory for.
    pub flow_capacity: u32,
    /// Random, kept for the life of the process: hash seeds, flow ids.
    pub seed: u64,
    /// `conntrack.max`, shared by all workers.
    pub budget: Arc<FlowBudget>,
    /// Where this worker counts.
    pub counters: Arc<WorkerCounters>,
}

/// One worker's engine. Not shared: every method that judges takes `&mut self`.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) world: Arc<World>,
    pub(crate) conntrack: Conntrack,
}

impl Engine {
    /// An engine with an empty table.
    pub fn new(config: EngineConfig, world: Arc<World>) -> Engine {
        let conntrack = Conntrack::new(&config);
        Engine { config, world, conntrack }
    }

    /// Uses `world` from now on and gives the old one back, to be freed elsewhere.
    pub fn adopt(&mut self, world: Arc<World>) -> Arc<World> {
        std::mem::replace(&mut self.world, world)
    }

    /// What this worker runs on.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The worker's flows.
    pub fn conntrack(&mut self) -> &mut Conntrack {
        &mut self.conntrack
    }

    /// Judges a burst: afterwards every frame has a verdict other than [`crate::Verdict::Pending`].
    pub fn process(&mut self, now: Now, burst: &mut [Frame<'_>], out: &mut dyn Outbox) {
        let _ = (now, burst, out);
    }

    /// A frame that was held: its next hop's address is known now. Verdict is `Transmit`, or `Hold` again.
    pub fn release(&mut self, now: Now, frame: &mut Frame<'_>, key: crate::world::NeighbourKey) {
        let _ = (now, frame, key);
    }

    /// A frame that was held: its next hop does not answer. Verdict is `Answered` (host unreachable) or a drop.
    pub fn unreachable(
        &mut self,
        now: Now,
        frame: &mut Frame<'_>,
        key: crate::world::NeighbourKey,
        out: &mut dyn Outbox,
    ) {
        let _ = (now, frame, key, out);
    }

    /// A frame made by control, see [`crate::message::Command::Originate`].
    pub fn originate(
        &mut self,
        now: Now,
        interface: crate::ids::InterfaceId,
        frame: &[u8],
        out: &mut dyn Outbox,
    ) {
        let _ = (now, interface, frame, out);
    }

    /// Work that time asks for: expiry of flows, a bounded step of it. Called once a poll round.
    pub fn tick(&mut self, now: Now) {
        self.conntrack.expire(now, 64);
    }
}
