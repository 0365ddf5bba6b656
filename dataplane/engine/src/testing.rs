//! A little router to tell stories with: the conformance suite's world of three links, hosts that answer on all of
//! them, and a policy that a test writes with the ruleset's own builder. After every packet the counters must add up.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use sluice_wire::build::{self, Datagram, Link, Tcp};
use sluice_wire::{Family, MacAddr, Packet, Parsed, TcpFlags, parse};

use crate::conntrack::{FlowBudget, Reservations};
use crate::counters::WorkerCounters;
use crate::engine::EngineConfig;
use crate::ids::{Generation, InterfaceId, Now, PortId, WorkerId};
use crate::message::LogRecord;
use crate::ruleset::{Action, Hook, Policy, RuleInfo, RuleSpec, RulesetBuilder, Target, Test};
use crate::world::{
    Fib, Hop, IcmpSettings, Interface, Interfaces, Neighbour, NeighbourKey, NeighbourState, Neighbours,
    Route, RouteKind, RpFilter, Settings, World,
};
use crate::{Engine, Frame, Origin, Outbox, Outlet, RxChecksum, Verdict};

/// Links of the world, by interface.
pub(crate) const CLI: InterfaceId = InterfaceId(0);
pub(crate) const SRV: InterfaceId = InterfaceId(1);
/// On the same port as [`SRV`], with tag 7.
pub(crate) const DMZ: InterfaceId = InterfaceId(2);

const SECOND: u64 = 1_000_000_000;
const HEADROOM: usize = 64;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The router's MAC address on a link.
pub(crate) fn router_mac(link: InterfaceId) -> MacAddr {
    MacAddr([2, 0, 0, 0, link.0 as u8 + 1, 1])
}

/// The MAC address of all hosts on a link.
pub(crate) fn host_mac(link: InterfaceId) -> MacAddr {
    MacAddr([2, 0, 0, 0, link.0 as u8 + 1, 2])
}

/// Runs `test` on a frame with room around it.
pub(crate) fn with_frame<T>(bytes: &[u8], test: impl FnOnce(&mut Frame<'_>) -> T) -> T {
    let mut buffer = vec![0; HEADROOM + bytes.len() + 64];
    buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    test(&mut frame(&mut buffer, bytes.len(), PortId(0), Origin::Wire))
}

fn frame(buffer: &mut [u8], len: usize, port: PortId, origin: Origin) -> Frame<'_> {
    Frame {
        buffer,
        start: HEADROOM as u16,
        len: len as u16,
        port,
        origin,
        ingress: None,
        egress: None,
        rss: None,
        ip_checksum: RxChecksum::Unknown,
        l4_checksum: RxChecksum::Unknown,
        verdict: Verdict::Pending,
    }
}

/// What the engine put into the outbox.
#[derive(Default)]
pub(crate) struct Sent {
    pub frames: Vec<(Outlet, Vec<u8>)>,
    pub wanted: Vec<NeighbourKey>,
    pub logged: Vec<LogRecord>,
    pub punted: Vec<(InterfaceId, Vec<u8>)>,
}

impl Outbox for Sent {
    fn frame(&mut self, outlet: Outlet, len: usize) -> Option<&mut [u8]> {
        self.frames.push((outlet, vec![0; len]));
        self.frames.last_mut().map(|(_, bytes)| bytes.as_mut_slice())
    }

    fn resolve(&mut self, neighbour: NeighbourKey) {
        self.wanted.push(neighbour);
    }

    fn log(&mut self, record: &LogRecord) {
        self.logged.push(record.clone());
    }

    fn punt(&mut self, interface: InterfaceId, frame: &[u8]) -> bool {
        self.punted.push((interface, frame.to_vec()));
        true
    }
}

/// What became of a packet.
pub(crate) struct Fate {
    pub verdict: Verdict,
    /// The frame as the engine left it.
    pub bytes: Vec<u8>,
    pub sent: Sent,
}

impl Fate {
    /// The packet as it leaves, parsed again.
    pub fn packet(&self) -> Packet {
        parsed(&self.bytes)
    }

    /// The router's own answer.
    pub fn answer(&self) -> Packet {
        assert_eq!(self.verdict, Verdict::Answered);
        let [(_, bytes)] = self.sent.frames.as_slice() else { panic!("{} answers", self.sent.frames.len()) };
        parsed(bytes)
    }
}

pub(crate) fn parsed(bytes: &[u8]) -> Packet {
    match parse(bytes) {
        Ok(Parsed::Ip(packet)) => {
            assert_ne!(sluice_wire::verify(&packet, bytes), sluice_wire::Checksum::Bad);
            packet
        }
        other => panic!("{other:?}"),
    }
}

/// The world and its engine.
pub(crate) struct Router {
    pub engine: Engine,
    pub counters: Arc<WorkerCounters>,
    pub world: World,
    pub budget: Arc<FlowBudget>,
    pub nanos: u64,
    policy: RulesetBuilder,
    pub received: u64,
}

impl Router {
    /// Accepts everything; no limit on errors.
    pub fn new() -> Router {
        Router::with_workers(1)
    }

    /// The first of several workers.
    pub fn with_workers(workers: u8) -> Router {
        Router::worker(0, workers)
    }

    /// One of several workers.
    pub fn worker(worker: u8, workers: u8) -> Router {
        Router::seated(WorkerId(worker), workers, None)
    }

    /// All of several workers, which know of each other's answers.
    pub fn team<const N: usize>() -> [Router; N] {
        let reservations = Arc::new(Reservations::new(1000));
        reservations.prepare();
        reservations.prepare_endpoints();
        std::array::from_fn(|n| Router::seated(WorkerId(n as u8), N as u8, Some(Arc::clone(&reservations))))
    }

    fn seated(worker: WorkerId, workers: u8, reservations: Option<Arc<Reservations>>) -> Router {
        let interfaces = Interfaces::new(vec![
            link("cli", CLI, 0, None),
            link("srv", SRV, 1, None),
            link("dmz", DMZ, 1, Some(7)),
        ]);
        let fib = Fib::new(&routes(), &interfaces);
        let settings = Settings { icmp: IcmpSettings::new(None, 1, false), ..Settings::default() };
        let world = World {
            generation: Generation(1),
            interfaces: Arc::new(interfaces),
            fib: Arc::new(fib),
            neighbours: Arc::new(Neighbours::new(1, hosts())),
            ruleset: Arc::default(),
            settings: Arc::new(settings),
        };
        let counters = Arc::new(WorkerCounters::new(3));
        let budget = Arc::new(FlowBudget::new(1000));
        let config = EngineConfig {
            worker,
            workers,
            flow_capacity: 1024,
            seed: 7,
            budget: Arc::clone(&budget),
            counters: counters.clone(),
            reservations,
        };
        let engine = Engine::new(config, Arc::new(world.clone()));
        let policy = RulesetBuilder::new();
        Router { engine, counters, world, budget, nanos: 10 * SECOND, policy, received: 0 }
    }

    /// Adds a rule that all packets meet which pass `tests`.
    pub fn rule(mut self, hook: Hook, tests: Vec<Test>, action: Action) -> Router {
        let rule = RuleSpec { tests, action, info: RuleInfo::default() };
        self.policy.rule(Target::Hook(hook), rule).unwrap();
        self
    }

    /// Sets a policy.
    pub fn policy(mut self, hook: Hook, policy: Policy) -> Router {
        self.policy.policy(hook, policy);
        self
    }

    /// Uses the rules so far.
    pub fn ready(mut self) -> Router {
        self.world.ruleset = Arc::new(std::mem::take(&mut self.policy).build(1).unwrap());
        self.publish();
        self
    }

    /// Changes the world.
    pub fn publish(&mut self) {
        self.world.generation.0 += 1;
        self.engine.adopt(Arc::new(self.world.clone()));
    }

    /// Replaces the neighbours, which is no new generation.
    pub fn neighbours(&mut self, list: impl IntoIterator<Item = (NeighbourKey, Neighbour)>) {
        self.world.neighbours = Arc::new(Neighbours::new(self.world.neighbours.epoch + 1, list));
        self.engine.adopt(Arc::new(self.world.clone()));
    }

    pub fn wait(&mut self, seconds: u64) {
        self.nanos += seconds * SECOND;
    }

    /// A frame from the wire.
    pub fn receive(&mut self, from: InterfaceId, bytes: &[u8]) -> Fate {
        self.received += 1;
        let port = self.world.interfaces.get(from).unwrap().port;
        self.judge(bytes, port, Origin::Wire)
    }

    /// A burst of frames from the wire: what became of each, and its bytes where they go on.
    pub fn receive_all(&mut self, from: InterfaceId, burst: &[Vec<u8>]) -> Vec<(Verdict, Vec<u8>)> {
        let port = self.world.interfaces.get(from).unwrap().port;
        let mut buffers: Vec<_> =
            burst.iter().map(|bytes| [&[0; HEADROOM][..], bytes, &[0; 64]].concat()).collect();
        let mut frames: Vec<_> = buffers
            .iter_mut()
            .zip(burst)
            .map(|(buffer, bytes)| frame(buffer, bytes.len(), port, Origin::Wire))
            .collect();
        self.nanos += 1000;
        self.engine.process(Now::from_nanos(self.nanos), &mut frames, &mut Sent::default());
        let waits = |frame: &&Frame<'_>| matches!(frame.verdict, Verdict::Hold(_) | Verdict::HandOver(_));
        self.received += (frames.len() - frames.iter().filter(waits).count()) as u64;
        self.assert_counted();
        let left = |frame: &Frame<'_>| match frame.verdict {
            Verdict::Drop(_) => Vec::new(),
            _ => frame.bytes().to_vec(),
        };
        frames.iter().map(|frame| (frame.verdict, left(frame))).collect()
    }

    /// A frame from the wire in a buffer that has no room behind it.
    pub fn receive_tight(&mut self, from: InterfaceId, bytes: &[u8]) -> Verdict {
        self.received += 1;
        let port = self.world.interfaces.get(from).unwrap().port;
        let mut buffer = [&[0; HEADROOM], bytes].concat();
        let mut frames = [frame(&mut buffer, bytes.len(), port, Origin::Wire)];
        self.engine.process(Now::from_nanos(self.nanos), &mut frames, &mut Sent::default());
        self.assert_counted();
        frames[0].verdict
    }

    /// A frame from the wire, by way of another worker.
    pub fn receive_handed_over(&mut self, from: InterfaceId, bytes: &[u8]) -> Fate {
        self.received += 1;
        let port = self.world.interfaces.get(from).unwrap().port;
        self.judge(bytes, port, Origin::HandedOver)
    }

    /// Gives up datagrams that were not complete in time.
    pub fn expire_fragments(&mut self) -> Sent {
        let mut sent = Sent::default();
        self.engine.expire_fragments(Now::from_nanos(self.nanos), &mut sent);
        self.assert_counted();
        sent
    }

    /// A frame from the box's own sockets.
    pub fn send(&mut self, tap: InterfaceId, bytes: &[u8]) -> Fate {
        let port = self.world.interfaces.get(tap).unwrap().port;
        self.judge(bytes, port, Origin::Local(tap))
    }

    fn judge(&mut self, bytes: &[u8], port: PortId, origin: Origin) -> Fate {
        let mut buffer = vec![0; HEADROOM + bytes.len() + 64];
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        let mut sent = Sent::default();
        let mut frames = [frame(&mut buffer, bytes.len(), port, origin)];
        self.nanos += 1000;
        self.engine.process(Now::from_nanos(self.nanos), &mut frames, &mut sent);
        let [frame] = frames;
        let fate = Fate { verdict: frame.verdict, bytes: frame.bytes().to_vec(), sent };
        assert_ne!(fate.verdict, Verdict::Pending);
        if let Verdict::Hold(_) | Verdict::HandOver(_) = fate.verdict {
            self.received -= u64::from(origin == Origin::Wire);
        }
        if let Verdict::HandOver(_) = fate.verdict {
            // The I/O shell hands over what the device wrote, and knows nothing of a frame that moved in it.
            assert_eq!(Some(fate.bytes.as_slice()), bytes.get(..fate.bytes.len()), "untouched");
        }
        let elsewhere = |(outlet, _): &&(Outlet, Vec<u8>)| matches!(outlet, Outlet::Worker { .. });
        self.received -= fate.sent.frames.iter().filter(elsewhere).count() as u64;
        self.assert_counted();
        fate
    }

    /// Every packet received ended in exactly one place.
    pub fn assert_counted(&self) {
        let of_interfaces = self.counters.interfaces.iter().map(|here| {
            here.forwarded.get() + here.delivered.get() + here.answered.get() + here.consumed.get()
        });
        let drops = self.counters.drops.iter().map(|count| count.get());
        let held = self.counters.reassembling.get();
        assert_eq!(of_interfaces.chain(drops).chain([held]).sum::<u64>(), self.received);
    }
}

fn link(name: &str, id: InterfaceId, port: u16, vlan: Option<u16>) -> Interface {
    let n = id.0 + 1;
    Interface {
        name: name.into(),
        port: PortId(port),
        vlan,
        mac: router_mac(id),
        mtu: 1500,
        addresses: vec![(ip(&format!("10.{n}.0.1")), 24), (ip(&format!("fd00:{n}::1")), 64)],
        groups: vec![],
        kernel_addresses: false,
        rp_filter: RpFilter::Off,
    }
}

fn routes() -> Vec<Route> {
    let by = |gateway: &str| {
        RouteKind::Unicast(vec![Hop { interface: SRV, gateway: Some(ip(gateway)), weight: 1 }])
    };
    let route = |destination: &str, prefix_len, kind| Route {
        destination: ip(destination),
        prefix_len,
        kind,
        metric: 0,
    };
    vec![
        route("198.51.100.0", 24, by("10.2.0.254")),
        route("2001:db8:ff::", 48, by("fd00:2::fe")),
        route("203.0.113.0", 26, RouteKind::Unreachable),
        route("203.0.113.64", 26, RouteKind::Prohibit),
        route("203.0.113.128", 26, RouteKind::Blackhole),
    ]
}

/// Hosts .2 to .9 and .254 on every link.
pub(crate) fn hosts() -> Vec<(NeighbourKey, Neighbour)> {
    let mut list = Vec::new();
    for link in [CLI, SRV, DMZ] {
        let n = link.0 + 1;
        for host in (2..10u8).chain([254]) {
            for address in [format!("10.{n}.0.{host}"), format!("fd00:{n}::{host:x}")] {
                let key = NeighbourKey { interface: link, address: ip(&address) };
                let state = NeighbourState::Reachable(host_mac(link));
                list.push((key, Neighbour::new(state, Arc::new(AtomicU32::new(0)))));
            }
        }
    }
    list
}

/// The headers of a packet that a host on `from` sends to the router's MAC address.
pub(crate) fn between(from: InterfaceId, src: &str, dst: &str) -> Datagram {
    let vlan = (from == DMZ).then_some(7);
    let link = Link { destination: router_mac(from), source: host_mac(from), vlan };
    Datagram { link, ..Datagram::between(ip(src), ip(dst)).unwrap() }
}

pub(crate) fn udp(datagram: &Datagram, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    built(|room| build::udp(room, datagram, ports, payload))
}

pub(crate) fn tcp(
    datagram: &Datagram,
    ports: (u16, u16),
    flags: TcpFlags,
    (seq, ack): (u32, u32),
) -> Vec<u8> {
    built(|room| build::tcp(room, datagram, ports, Tcp { flags, seq, ack, window: 65535 }, &[]))
}

pub(crate) fn echo(datagram: &Datagram, id: u16) -> Vec<u8> {
    let kind = match datagram.addrs.family() {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    built(|room| build::icmp_echo(room, datagram, (kind, 0), (id, 1), b"ping"))
}

pub(crate) fn built(build: impl FnOnce(&mut [u8]) -> Result<usize, build::BuildError>) -> Vec<u8> {
    let mut room = vec![0; 4096];
    let length = build(&mut room).unwrap();
    room.truncate(length);
    room
}
