//! A router of one engine, without devices: packets go in at the times of the capture, and what became of each comes out.

use std::sync::Arc;

use serde::Serialize;
use sluice_compiler::{Compiled, Surroundings, TimeoutRegistry, packet_line, settings};
use sluice_config::System;
use sluice_engine::conntrack::FlowBudget;
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::EngineConfig;
use sluice_engine::ids::{Generation, InterfaceId, Now, PortId, WorkerId};
use sluice_engine::message::LogRecord;
use sluice_engine::ruleset::{RuleId, RuleInfo, Ruleset};
use sluice_engine::world::fib::Target;
use sluice_engine::world::{AddressKind, NeighbourKey, Neighbours, World};
use sluice_engine::{Engine, Frame, Origin, Outbox, Outlet, RxChecksum, Verdict};
use sluice_wire::{Addrs, MacAddr, Parsed, checksum, parse};

/// Before the first packet, in nanoseconds: no time may lie before the clock's beginning.
const BEGIN: u64 = 1 << 40;

/// Room before and behind the frame.
const HEADROOM: usize = 64;

/// How often the ends of flows are looked for between packets, in nanoseconds; and how often at the most.
const TICK: u64 = 100_000_000;
const TICKS: u64 = 1000;

/// The MAC address of all hosts around, and the router's own.
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// The router.
pub(super) struct Router {
    engine: Engine,
    world: Arc<World>,
    counters: Arc<WorkerCounters>,
    /// Time of the first packet in the capture.
    first: Option<u64>,
    now: u64,
    states: [u64; 5],
    /// Packets of each rule so far; empty if nobody asks for the rules of single packets.
    counted: Vec<u64>,
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// In by an interface.
    Wire(InterfaceId),
    /// The box's own sockets, to leave by this interface.
    Box(InterfaceId),
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fate {
    /// The interface that it came in by; none: the router's own.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub(super) ingress: Option<String>,
    /// The packet in one line.
    pub(super) packet: String,
    /// What the tracker said, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'static str>,
    /// `accept`, `drop`, `answered`, `consumed` or `held`.
    pub(super) verdict: &'static str,
    /// Why it was dropped: the label of the drop reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// Where it left; none: to the box itself, or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) out: Option<String>,
    /// The packet as it left, if that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<String>,
    /// Rules that it was counted for, in the order of the policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) rules: Vec<String>,
}

impl Router {
    /// One with this policy. `each`: the rules of each packet are told, which costs as much as there are rules.
    pub(super) fn new(system: &System, compiled: Compiled, each: bool) -> Router {
        let Surroundings { interfaces, fib } = Surroundings::new(system);
        let mut timeouts = TimeoutRegistry::default();
        let mut ruleset = compiled.ruleset;
        ruleset.number_timeouts(timeouts.adopt(&compiled.timeouts));
        let counted = if each { vec![0; ruleset.rules().len()] } else { Vec::new() };
        let counters = Arc::new(WorkerCounters::new(interfaces.len()));
        let capacity = system.conntrack.max.clamp(1 << 10, 1 << 20);
        let budget = FlowBudget::default();
        settings::share_out(&budget, &system.conntrack, capacity);
        settings::count_for(&budget, &ruleset, capacity);
        let config = EngineConfig {
            worker: WorkerId(0),
            workers: 1,
            flow_capacity: capacity,
            seed: 1,
            budget: Arc::new(budget),
            counters: Arc::clone(&counters),
            reservations: None,
        };
        let world = Arc::new(World {
            generation: Generation(1),
            interfaces: Arc::new(interfaces),
            fib: Arc::new(fib),
            neighbours: Arc::new(Neighbours::new(1, Vec::new())),
            ruleset: Arc::new(ruleset),
            settings: Arc::new(settings::settings(system, &timeouts)),
        });
        let engine = Engine::new(config, Arc::clone(&world));
        Router { engine, world, counters, first: None, now: BEGIN, states: [0; 5], counted }
    }

    /// Its policy, with counters.
    pub(super) fn ruleset(&self) -> &Ruleset {
        &self.world.ruleset
    }

    /// Flows that are live.
    pub(super) fn flows(&self) -> u64 {
        self.counters.conntrack.entries.get()
    }

    /// The interface of that name.
    pub(super) fn interface(&self, name: &str) -> Option<InterfaceId> {
        let mut ids = (0u16..).take(self.world.interfaces.len()).map(InterfaceId);
        ids.find(|id| self.name(*id).is_some_and(|known| known == name))
    }

    /// Where a datagram comes from, by the route to its source; None: nobody knows.
    pub(super) fn origin(&self, addrs: &Addrs) -> Option<From> {
        let via = |addrs: &Addrs| match self.world.fib.route(addrs) {
            Some(Target::Via(hop)) => Some(hop.interface),
            _ => None,
        };
        if self.world.interfaces.kind(addrs.src()) == AddressKind::Local {
            return via(addrs).map(From::Box);
        }
        let back = match *addrs {
            Addrs::V4 { src, dst } => Addrs::V4 { src: dst, dst: src },
            Addrs::V6 { src, dst } => Addrs::V6 { src: dst, dst: src },
        };
        via(&back).map(From::Wire)
    }

    /// A datagram at a time of the capture. `trusted`: its checksums are not looked at.
    pub(super) fn judge(&mut self, nanos: u64, from: From, datagram: &[u8], trusted: bool) -> Fate {
        let now = self.pass_time(nanos);
        let (From::Wire(interface) | From::Box(interface)) = from;
        let own = matches!(from, From::Box(_));
        let (mut buffer, len) = self.frame(interface, datagram, trusted);
        let checksum = if trusted { RxChecksum::Good } else { RxChecksum::Unknown };
        let mut frames = [Frame {
            buffer: &mut buffer,
            start: HEADROOM as u16,
            len,
            port: PortId(interface.0),
            origin: if own { Origin::Local(interface) } else { Origin::Wire },
            ingress: None,
            egress: None,
            rss: None,
            ip_checksum: checksum,
            l4_checksum: checksum,
            verdict: Verdict::Pending,
        }];
        let before = frames.first().and_then(|frame| line_of(frame.bytes()));
        self.engine.process(now, &mut frames, &mut Sink::default());
        let [frame] = frames;
        let (verdict, reason, left) = told(frame.verdict);
        let out = frame.egress.filter(|_| left).and_then(|id| self.name(id));
        let after = line_of(frame.bytes()).filter(|after| left && Some(after) != before.as_ref());
        Fate {
            ingress: (!own).then(|| self.name(interface)).flatten(),
            packet: before.unwrap_or_else(|| format!("{} bytes that are no packet", datagram.len())),
            state: self.state(),
            verdict,
            reason,
            out,
            left: after,
            rules: self.rules(),
        }
    }

    /// Lets the time pass until a packet of the capture; one that comes before the one before it comes with that.
    fn pass_time(&mut self, nanos: u64) -> Now {
        let first = *self.first.get_or_insert(nanos);
        let goal = (BEGIN + nanos.saturating_sub(first)).max(self.now);
        let steps = ((goal - self.now) / TICK).clamp(1, TICKS);
        let stride = (goal - self.now) / steps;
        for _ in 0..steps {
            self.now += stride;
            let now = Now::from_nanos(self.now);
            self.engine.tick(now);
            self.engine.expire_fragments(now, &mut Sink::default());
        }
        self.now = goal;
        Now::from_nanos(goal)
    }

    /// A frame to the router's interface with room around it, and its length. `mended`: with its header's checksum made good.
    fn frame(&self, interface: InterfaceId, datagram: &[u8], mended: bool) -> (Vec<u8>, u16) {
        let known = self.world.interfaces.get(interface);
        let mut buffer = vec![0; HEADROOM];
        buffer.extend(known.map_or(MacAddr::ZERO, |interface| interface.mac).0);
        buffer.extend(HOST.0);
        if let Some(tag) = known.and_then(|interface| interface.vlan) {
            buffer.extend([0x81, 0]);
            buffer.extend(tag.to_be_bytes());
        }
        let is_v6 = datagram.first().is_some_and(|byte| byte >> 4 == 6);
        buffer.extend(if is_v6 { [0x86, 0xdd] } else { [8, 0] });
        let header = buffer.len();
        buffer.extend(datagram);
        if mended && !is_v6 {
            mend(buffer.get_mut(header..).unwrap_or_default());
        }
        let len = u16::try_from(buffer.len() - HEADROOM).unwrap_or(u16::MAX);
        buffer.resize(buffer.len() + HEADROOM, 0);
        (buffer, len)
    }

    fn name(&self, id: InterfaceId) -> Option<String> {
        self.world.interfaces.get(id).map(|interface| interface.name.clone())
    }

    /// What the tracker said since it was asked last.
    fn state(&mut self) -> Option<&'static str> {
        let states = &self.counters.states;
        let now = [
            ("new", states.new.get()),
            ("established", states.established.get()),
            ("related", states.related.get()),
            ("invalid", states.invalid.get()),
            ("untracked", states.untracked.get()),
        ];
        let changed = now.iter().zip(&self.states).find(|((_, now), before)| now != *before);
        let name = changed.map(|((name, _), _)| *name);
        self.states = now.map(|(_, count)| count);
        name
    }

    /// Rules that counted since they were asked last.
    fn rules(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for (id, (info, before)) in
            (0..).map(RuleId).zip(self.world.ruleset.rules().iter().zip(&mut self.counted))
        {
            let (packets, _) = self.world.ruleset.rule_counters(id);
            if packets != *before {
                *before = packets;
                names.push(place(info));
            }
        }
        names
    }
}

/// A rule by its name, or else by its place.
pub(super) fn place(info: &RuleInfo) -> String {
    match &info.name {
        Some(name) => name.to_string(),
        None if info.table == "chains" => format!("{} {}", info.chain, info.index),
        None => format!("{}.{} {}", info.table, info.chain, info.index),
    }
}

/// A verdict in a word, why, and whether the packet left by an interface.
const fn told(verdict: Verdict) -> (&'static str, Option<&'static str>, bool) {
    match verdict {
        Verdict::Transmit(_) | Verdict::Hold(_) | Verdict::Copied => ("accept", None, true),
        Verdict::Deliver(_) | Verdict::Delivered(_) => ("accept", None, false),
        Verdict::Answered => ("answered", None, false),
        Verdict::Punt => ("consumed", None, false),
        Verdict::Drop(reason) => ("drop", Some(reason.label()), false),
        Verdict::Collected | Verdict::HandOver(_) | Verdict::Pending => ("held", None, false),
    }
}

/// Writes the checksum of an IPv4 header.
fn mend(datagram: &mut [u8]) {
    let length = datagram.first().map_or(0, |first| usize::from(first & 15) * 4);
    let Some(header) = datagram.get_mut(..length) else { return };
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.fill(0);
    }
    let sum = checksum::plain(header);
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.copy_from_slice(&sum);
    }
}

/// The packet in a frame, in one line.
fn line_of(frame: &[u8]) -> Option<String> {
    match parse(frame) {
        Ok(Parsed::Ip(packet)) => Some(packet_line(&packet)),
        _ => None,
    }
}

/// What the router itself sends goes nowhere.
#[derive(Default)]
struct Sink(Vec<u8>);

impl Outbox for Sink {
    fn frame(&mut self, _: Outlet, len: usize) -> Option<&mut [u8]> {
        self.0.resize(len, 0);
        Some(&mut self.0)
    }

    fn resolve(&mut self, _: NeighbourKey) {}

    fn log(&mut self, _: &LogRecord) {}

    fn punt(&mut self, _: InterfaceId, _: &[u8]) -> bool {
        true
    }
}
