//! One worker's engine: its shard of flows, its view of the world, its counters, and what it is asked to do.

mod express;
mod follow;
mod fragments;
mod passes;

use std::sync::Arc;

use sluice_wire::build::IcmpError;
use sluice_wire::{Packet, Parsed, TcpFlags, Transport, parse, set_addresses};

use self::express::Express;
use self::passes::Arrival;
pub(crate) use self::passes::judge_hairpin;
use crate::conntrack::{Conntrack, FlowBudget, Reservations};
use crate::counters::WorkerCounters;
use crate::decision::Decisions;
use crate::frame::{Frame, Origin, Outbox, Outlet};
use crate::ids::{InterfaceId, Now, WorkerId};
use crate::message::Cursor;
use crate::reassembly::{Assembly, Reassembly};
use crate::stage::link::LinkHeader;
use crate::stage::{answer, defrag, nat, settle};
use crate::trace::{Trace, TraceOrder, Tracer};
use crate::transit::{Bench, Destination, Egress, NextHop, Sender, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::{AddressKind, NeighbourKey, NeighbourState, World};

/// Frames that are worked through together: enough to hide memory's latency, few enough to stay in the first cache.
pub(crate) const BURST: usize = 64;

/// Flows of each family that are looked at for their end in one poll.
const EXPIRIES: usize = 64;

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
    /// Whose answers are whose, shared by all workers; None where there is one.
    pub reservations: Option<Arc<Reservations>>,
}

/// One worker's engine. Not shared: every method that judges takes `&mut self`.
pub struct Engine {
    config: EngineConfig,
    world: Arc<World>,
    conntrack: Conntrack,
    decisions: Decisions,
    reassembly: Reassembly,
    assembly: Assembly,
    scratch: Vec<u8>,
    /// How far the search has come for flows that borrowed an address which is gone.
    borrowed: Option<Cursor>,
    /// As many as a burst can have, and one more; written over by each.
    arrivals: Vec<Arrival>,
    /// The short way.
    express: Express,
    /// Someone wants to know what becomes of some packets.
    tracer: Option<Box<Tracer>>,
}

/// The least memory for fragments of one worker: four of the longest datagrams.
const LEAST_FRAGMENT_SHARE: u32 = 4 << 16;

/// This worker's part of the memory for fragments, in bytes. Fragments between two hosts are all at one worker.
fn fragment_share(config: &EngineConfig, world: &World) -> u32 {
    let all = world.settings.conntrack.frag_high_thresh;
    (all / u32::from(config.workers.max(1))).max(LEAST_FRAGMENT_SHARE.min(all))
}

impl Engine {
    /// An engine with an empty table.
    pub fn new(config: EngineConfig, world: Arc<World>) -> Engine {
        let conntrack = Conntrack::new(&config);
        if world.ruleset.lends_endpoints() {
            conntrack.prepare_endpoints();
        }
        Engine {
            conntrack,
            decisions: Decisions::new(),
            reassembly: Reassembly::new(fragment_share(&config, &world), config.seed),
            assembly: Assembly::new(),
            express: Express::new(&world),
            config,
            world,
            scratch: vec![0; answer::SCRATCH],
            borrowed: None,
            arrivals: std::iter::repeat_with(Arrival::none).take(BURST + 1).collect(),
            tracer: None,
        }
    }

    /// Uses `world` from now on and gives the old one back, to be freed elsewhere.
    pub fn adopt(&mut self, world: Arc<World>) -> Arc<World> {
        if world.generation != self.world.generation {
            self.decisions.clear();
            self.express.adopt(&world);
        }
        if world.interfaces.lack_any_of(&self.world.interfaces) {
            self.borrowed = Some(Cursor::default());
        }
        if world.ruleset.lends_endpoints() {
            self.conntrack.prepare_endpoints();
        }
        let lost = self.reassembly.resize(fragment_share(&self.config, &world));
        if lost.received + lost.local > 0 {
            settle::lost(&self.config.counters, lost, DropReason::FragmentMemory);
            self.config.counters.reassembling.set(0);
        }
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
        match self.tracer {
            None => self.judge(now, burst, out, None),
            Some(_) => self.follow(now, burst, out),
        }
    }

    /// Has all packets take the whole path until the next world.
    #[cfg(test)]
    pub(crate) fn close_lane(&mut self) {
        self.express = Express::default();
    }

    /// Follows packets from now on, or none any more.
    pub fn trace(&mut self, order: Option<TraceOrder>) {
        self.tracer = order.map(|order| Box::new(Tracer::new(order)));
    }

    #[inline]
    fn judge<'a>(
        &'a mut self,
        now: Now,
        burst: &mut [Frame<'_>],
        out: &'a mut dyn Outbox,
        trace: Option<&'a mut Trace>,
    ) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let mut express = std::mem::take(&mut self.express);
        // What is followed notes each step on the whole path.
        let mut lane = trace.is_none().then_some(&mut express);
        let mut bench = Bench { trace, ..self.bench(now, out) };
        for frames in burst.chunks_mut(BURST) {
            passes::run(&mut bench, frames, &mut arrivals, lane.as_deref_mut());
        }
        bench.conntrack.tell_events();
        (self.arrivals, self.express) = (arrivals, express);
    }

    /// A frame that was held: its next hop's address is known now. Verdict is `Transmit`, or `Hold` again.
    pub fn release(&mut self, now: Now, frame: &mut Frame<'_>, key: NeighbourKey) {
        let known = self.world.neighbours.get(&key);
        let interface = self.world.interfaces.get(key.interface);
        let verdict = match (known.map(|neighbour| (neighbour, neighbour.state)), interface) {
            (Some((neighbour, NeighbourState::Reachable(mac))), Some(interface)) => {
                neighbour.touch(now.tick);
                set_addresses(frame.bytes_mut(), mac, interface.mac);
                frame.egress = Some(key.interface);
                Verdict::Transmit(interface.port)
            }
            _ => Verdict::Hold(key),
        };
        settle::settle(&self.config.counters, frame, verdict);
    }

    /// A frame that was held: its next hop does not answer. Verdict is `Answered` (host unreachable) or a drop.
    pub fn unreachable(&mut self, now: Now, frame: &mut Frame<'_>, key: NeighbourKey, out: &mut dyn Outbox) {
        let mut bench = self.bench(now, out);
        let sender = match (frame.origin, frame.ingress) {
            (Origin::Local(tap) | Origin::LocalHandedOver(tap), _) => Some(Sender::Box(tap)),
            (Origin::Wire | Origin::HandedOver, ingress) => ingress.map(Sender::Wire),
        };
        let verdict = match (parse(frame.bytes()), sender) {
            (Ok(Parsed::Ip(mut packet)), Some(sender)) if !is_reset(&packet) => {
                let mut t = Transit::new(&mut bench, frame, &mut packet, sender);
                nat::undo(&mut t);
                let error = IcmpError::host_unreachable(t.packet.family());
                answer::error(&mut t, error, DropReason::NeighbourFailed)
            }
            _ => Verdict::Drop(DropReason::NeighbourFailed),
        };
        frame.egress = Some(key.interface);
        settle::settle(&self.config.counters, frame, verdict);
    }

    /// A frame made by control, see [`crate::message::Command::Originate`].
    pub fn originate(&mut self, now: Now, interface: InterfaceId, frame: &[u8], out: &mut dyn Outbox) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let length = frame.len();
        if let Some(room) = scratch.get_mut(answer::HEADROOM..answer::HEADROOM + length)
            && let Ok(length) = u16::try_from(length)
        {
            room.copy_from_slice(frame);
            let mut own = answer::own_frame(&mut scratch, length, interface);
            self.originate_own(now, interface, &mut own, out);
        }
        self.scratch = scratch;
    }

    fn originate_own(&mut self, now: Now, id: InterfaceId, frame: &mut Frame<'_>, out: &mut dyn Outbox) {
        let mut bench = self.bench(now, out);
        let Some(interface) = bench.world.interfaces.get(id) else { return };
        if let Ok(Parsed::Ip(_)) = parse(frame.bytes()) {
            let egress = Egress { interface: id, next: NextHop::Given };
            answer::dispatch(&mut bench, frame, Destination::Onward(egress), None);
            return;
        }
        let header = LinkHeader::of(frame.bytes(), interface.vlan);
        if header.insert(frame)
            && let Some(room) = bench.out.frame(Outlet::Wire(interface.port), usize::from(frame.len))
            && room.len() == usize::from(frame.len)
        {
            room.copy_from_slice(frame.bytes());
            settle::piece(bench.counters, Some(id), usize::from(frame.len));
        }
    }

    /// Work that time asks for: expiry of flows, the end of those whose address is gone, a bounded step of each. Called once a poll round.
    pub fn tick(&mut self, now: Now) {
        self.conntrack.expire(now, &self.world.settings.conntrack, EXPIRIES);
        if let Some(cursor) = self.borrowed {
            let interfaces = &self.world.interfaces;
            let still_ours = |address| interfaces.kind(address) == AddressKind::Local;
            self.borrowed = self.conntrack.end_borrowed(cursor, still_ours);
        }
    }

    /// Gives up datagrams whose fragments did not come in time, a bounded number of them. Called once a poll round.
    pub fn expire_fragments(&mut self, now: Now, out: &mut dyn Outbox) {
        if self.reassembly.is_overdue(now.tick) {
            defrag::expire(&mut self.bench(now, out));
        }
    }

    fn bench<'a>(&'a mut self, now: Now, out: &'a mut dyn Outbox) -> Bench<'a> {
        Bench {
            now,
            worker: self.config.worker,
            workers: self.config.workers,
            world: &self.world,
            counters: &self.config.counters,
            conntrack: &mut self.conntrack,
            decisions: &mut self.decisions,
            reassembly: &mut self.reassembly,
            assembly: &mut self.assembly,
            scratch: &mut self.scratch,
            out,
            trace: None,
        }
    }
}

/// Whether it may be an answer of the router's own, which must not be answered.
fn is_reset(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags.contains(TcpFlags::RST))
}

#[cfg(test)]
mod tests;
