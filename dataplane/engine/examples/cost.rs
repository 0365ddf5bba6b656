//! What one packet costs the engine, as a number of instructions: bursts of one kind of packet through
//! [`Engine::process`], for callgrind to count (`scripts/cost`). Instructions, unlike time, are the same on a busy machine.
//!
//! usage: cost WORKLOAD PACKETS: judges so many packets in bursts of 32, over 256 flows that were set up before; prints
//! how many. No argument: prints the names of the workloads.

#[path = "../tests/shapes/mod.rs"]
mod shapes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use shapes::Shape;
use sluice_engine::conntrack::{CtState, FlowBudget, NatRange};
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::EngineConfig;
use sluice_engine::ids::{Generation, InterfaceId, Now, PortId, WorkerId};
use sluice_engine::message::LogRecord;
use sluice_engine::ruleset::{
    Action, Hook, Match, Policy, RuleInfo, RuleSpec, Ruleset, RulesetBuilder, StateSet, Target, Test,
    Translate,
};
use sluice_engine::world::{
    Fib, Hop, Interface, Interfaces, Neighbour, NeighbourKey, NeighbourState, Neighbours, Route, RouteKind,
    RpFilter,
};
use sluice_engine::{Engine, Frame, Origin, Outbox, Outlet, RxChecksum, Verdict, World};
use sluice_wire::build::{self, Datagram, Link, Tcp};
use sluice_wire::{MacAddr, TcpFlags};

const FLOWS: u32 = 256;
const BURST: usize = 32;
const HEADROOM: usize = 128;

/// Rules of the policies that show what rules cost.
const MANY: [usize; 4] = [10, 1000, 10_000, 100_000];

/// A kind of packet, and the policy that it meets.
struct Workload {
    name: &'static str,
    policy: fn(&mut RulesetBuilder),
    packet: fn(flow: u32, reply: bool, out: &mut [u8]) -> usize,
    /// Every packet begins a flow, which runs out soon.
    first: bool,
}

const WORKLOADS: [Workload; 17] = [
    Workload { name: "untracked", policy: notrack_all, packet: udp4, first: false },
    Workload { name: "untracked, a transit policy", policy: transit, packet: udp4, first: false },
    Workload { name: "untracked, IPv6", policy: transit, packet: udp6, first: false },
    Workload { name: "untracked, 10 rules", policy: untracked::<0>, packet: scattered, first: false },
    Workload { name: "untracked, 1000 rules", policy: untracked::<1>, packet: scattered, first: false },
    Workload { name: "untracked, 10000 rules", policy: untracked::<2>, packet: scattered, first: false },
    Workload { name: "untracked, 100000 rules", policy: untracked::<3>, packet: scattered, first: false },
    Workload { name: "established UDP", policy: stateful, packet: udp4, first: false },
    Workload { name: "established UDP, IPv6", policy: stateful, packet: udp6, first: false },
    Workload { name: "established TCP", policy: stateful, packet: tcp4, first: false },
    Workload { name: "established UDP, source NAT", policy: translating, packet: udp4_behind, first: false },
    Workload { name: "established TCP, source NAT", policy: translating, packet: tcp4_behind, first: false },
    Workload { name: "new UDP flows that run out", policy: stateful, packet: udp4, first: true },
    Workload { name: "new UDP flows, 10 rules", policy: tracked::<0>, packet: scattered, first: true },
    Workload { name: "new UDP flows, 1000 rules", policy: tracked::<1>, packet: scattered, first: true },
    Workload { name: "new UDP flows, 10000 rules", policy: tracked::<2>, packet: scattered, first: true },
    Workload { name: "new UDP flows, 100000 rules", policy: tracked::<3>, packet: scattered, first: true },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, packets] = arguments.as_slice() else {
        return WORKLOADS.iter().for_each(|workload| println!("{}", workload.name));
    };
    let workload = WORKLOADS.iter().find(|workload| workload.name == name).expect("the name of a workload");
    println!("{}", run(workload, packets.parse().expect("a number of packets")));
}

/// Judges the packets; returns how many there were, all of which left.
fn run(workload: &Workload, packets: usize) -> usize {
    let (mut engine, mut now) = (engine(workload.policy), 1_000_000_000);
    let frames: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|reply| (0..FLOWS).map(move |flow| (flow, reply)))
        .map(|(flow, reply)| {
            let mut bytes = vec![0; 256];
            let length = (workload.packet)(flow, reply, &mut bytes[HEADROOM..]);
            (bytes, length, u16::from(reply))
        })
        .collect();
    let frames = if workload.first { &frames[..FLOWS as usize] } else { &frames[..] };
    let (mut buffers, mut judged, mut serial) = (vec![vec![0; 256]; BURST], 0, 0u16);
    for burst in frames.chunks(BURST).cycle() {
        if judged >= packets {
            break;
        }
        for (buffer, (bytes, ..)) in buffers.iter_mut().zip(burst) {
            buffer.copy_from_slice(bytes);
        }
        if workload.first {
            serial = serial.wrapping_add(1);
            buffers.iter_mut().for_each(|buffer| renumber(&mut buffer[HEADROOM..], serial));
        }
        let mut frames: Vec<_> = buffers
            .iter_mut()
            .zip(burst)
            .map(|(buffer, (_, len, port))| frame(buffer, *len, *port))
            .collect();
        now += 10_000_000;
        engine.process(Now::from_nanos(now), &mut frames, &mut Nowhere);
        engine.tick(Now::from_nanos(now));
        assert!(
            frames.iter().all(|frame| matches!(frame.verdict, Verdict::Transmit(_))),
            "a packet did not leave"
        );
        judged += frames.len();
    }
    judged
}

/// Takes nothing: no packet here makes the router say anything.
struct Nowhere;

impl Outbox for Nowhere {
    fn frame(&mut self, _: Outlet, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn resolve(&mut self, _: NeighbourKey) {}
    fn log(&mut self, _: &LogRecord) {}
    fn punt(&mut self, _: InterfaceId, _: &[u8]) -> bool {
        false
    }
}

fn frame(buffer: &mut [u8], len: usize, port: u16) -> Frame<'_> {
    Frame {
        buffer,
        start: HEADROOM as u16,
        len: len as u16,
        port: PortId(port),
        origin: Origin::Wire,
        ingress: None,
        egress: None,
        rss: None,
        ip_checksum: RxChecksum::Unknown,
        l4_checksum: RxChecksum::Unknown,
        verdict: Verdict::Pending,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A router between two links, with a next hop on each for everything beyond.
fn engine(policy: fn(&mut RulesetBuilder)) -> Engine {
    let link = |n: u16, v4: &str, v6: &str| Interface {
        name: format!("link{n}"),
        port: PortId(n),
        vlan: None,
        mac: router(n),
        mtu: 1500,
        addresses: vec![(ip(v4), 24), (ip(v6), 64)],
        groups: vec![],
        kernel_addresses: false,
        rp_filter: RpFilter::Off,
    };
    let interfaces = Interfaces::new(vec![
        link(0, "192.168.0.1", "fd00:0:0:a::1"),
        link(1, "192.168.1.1", "fd00:0:0:b::1"),
    ]);
    let hops = [(0, "192.168.0.2", "10.0.0.0", 8), (1, "192.168.1.2", "198.18.0.0", 15)];
    let hops6 = [(0, "fd00:0:0:a::2", "2001:db8:1::", 48), (1, "fd00:0:0:b::2", "2001:db8:2::", 48)];
    let hops: Vec<_> = hops.into_iter().chain(hops6).collect();
    let routes: Vec<_> = hops
        .iter()
        .map(|&(n, gateway, destination, prefix_len)| Route {
            destination: ip(destination),
            prefix_len,
            kind: RouteKind::Unicast(vec![Hop {
                interface: InterfaceId(n),
                gateway: Some(ip(gateway)),
                weight: 1,
            }]),
            metric: 0,
        })
        .collect();
    let neighbours = hops.iter().map(|&(n, gateway, ..)| {
        let state = NeighbourState::Reachable(host(n));
        let key = NeighbourKey { interface: InterfaceId(n), address: ip(gateway) };
        (key, Neighbour::new(state, Arc::new(AtomicU32::new(0))))
    });
    let world = World {
        generation: Generation(1),
        fib: Arc::new(Fib::new(&routes, &interfaces)),
        interfaces: Arc::new(interfaces),
        neighbours: Arc::new(Neighbours::new(1, neighbours)),
        ruleset: Arc::new(ruleset(policy)),
        settings: Arc::default(),
    };
    let config = EngineConfig {
        worker: WorkerId(0),
        workers: 1,
        flow_capacity: 1 << 18,
        seed: 1,
        budget: Arc::new(FlowBudget::new(1 << 18)),
        counters: Arc::new(WorkerCounters::new(2)),
        reservations: None,
    };
    Engine::new(config, Arc::new(world))
}

fn ruleset(policy: fn(&mut RulesetBuilder)) -> Ruleset {
    let mut builder = RulesetBuilder::new();
    policy(&mut builder);
    builder.build(1).expect("a policy")
}

fn rule(builder: &mut RulesetBuilder, hook: Hook, tests: Vec<Match>, action: Action) {
    let tests = tests.into_iter().map(Test::is).collect();
    let rule = RuleSpec { tests, action, info: RuleInfo::default() };
    builder.rule(Target::Hook(hook), rule).expect("a rule");
}

fn notrack_all(builder: &mut RulesetBuilder) {
    rule(builder, Hook::RawPrerouting, vec![], Action::Notrack { related: false });
}

/// Tracks what concerns the router itself, lets through what is routed.
fn transit(builder: &mut RulesetBuilder) {
    use sluice_engine::world::AddressKind::{Broadcast, Local, Multicast};
    let to_us = Match::To([Local, Broadcast, Multicast].into());
    rule(builder, Hook::RawPrerouting, vec![to_us], Action::Accept);
    rule(builder, Hook::RawPrerouting, vec![], Action::Notrack { related: false });
    builder.policy(Hook::FilterForward, Policy::Drop);
    rule(builder, Hook::FilterForward, vec![state(&[CtState::Untracked])], Action::Accept);
}

/// Untracked packets that pass by the last of many rules.
fn untracked<const SIZE: usize>(builder: &mut RulesetBuilder) {
    notrack_all(builder);
    many_rules(builder, MANY[SIZE]);
}

/// Tracked ones.
fn tracked<const SIZE: usize>(builder: &mut RulesetBuilder) {
    rule(
        builder,
        Hook::FilterForward,
        vec![state(&[CtState::Established, CtState::Related])],
        Action::Accept,
    );
    many_rules(builder, MANY[SIZE]);
}

/// Rules shaped as an access list, about the networks that the packets are of, half of them for each direction. All
/// accept, so that every packet leaves, by whichever comes first, or by the one behind them all.
fn many_rules(builder: &mut RulesetBuilder, count: usize) {
    builder.policy(Hook::FilterForward, Policy::Drop);
    for (n, mut five) in shapes::rules(Shape::Acl, count - 1).into_iter().enumerate() {
        let near = |(address, len): (u32, u8)| (0x0a00_0000 | address & 0x00ff_ffff, len);
        let far = |(address, len): (u32, u8)| (0xc612_0000 | address & 0x0001_ffff, len.max(15));
        (five.src, five.dst) = (near(five.src), far(five.dst));
        if n % 2 == 1 {
            std::mem::swap(&mut five.src, &mut five.dst);
        }
        let tests = five.tests().into_iter().map(|test| test.what).collect();
        rule(builder, Hook::FilterForward, tests, Action::Accept);
    }
    rule(builder, Hook::FilterForward, vec![], Action::Accept);
}

fn stateful(builder: &mut RulesetBuilder) {
    builder.policy(Hook::FilterForward, Policy::Drop);
    let known = state(&[CtState::Established, CtState::Related]);
    rule(builder, Hook::FilterForward, vec![known], Action::Accept);
    rule(builder, Hook::FilterForward, vec![state(&[CtState::Invalid])], Action::Drop);
    rule(builder, Hook::FilterForward, vec![Match::Ingress([InterfaceId(0)].into())], Action::Accept);
}

/// The same, with an address of the router's before all hosts of link 0.
fn translating(builder: &mut RulesetBuilder) {
    stateful(builder);
    let outside = Match::Egress([InterfaceId(1)].into());
    let action = Action::Translate(Translate::Snat(NatRange::address(OUTSIDE.into())));
    rule(builder, Hook::NatPostrouting, vec![outside], action);
}

fn state(states: &[CtState]) -> Match {
    let states = states.iter().fold(StateSet::default(), |set, state| set.with(*state));
    Match::Ct { states, status: Default::default() }
}

const fn router(n: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, n as u8, 1])
}

const fn host(n: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, n as u8, 2])
}

/// Addresses and link header of a packet from link 0 to link 1, or back.
fn between(near: IpAddr, far: IpAddr, reply: bool) -> Datagram {
    let (src, dst, n) = if reply { (far, near, 1) } else { (near, far, 0) };
    let link = Link { destination: router(n), source: host(n), vlan: None };
    Datagram { link, ..Datagram::between(src, dst).expect("one family") }
}

fn between4(flow: u32, reply: bool) -> Datagram {
    between(Ipv4Addr::from(0x0a00_0002 + flow).into(), Ipv4Addr::from(0xc612_0000 + flow).into(), reply)
}

/// From all over the near network to all over the far one.
fn scattered(flow: u32, reply: bool, out: &mut [u8]) -> usize {
    let (near, far) = (Ipv4Addr::from(0x0a00_0002 + flow * 0xff17), Ipv4Addr::from(0xc612_0000 + flow * 499));
    build::udp(out, &between(near.into(), far.into(), reply), ports(reply), &[0; 18]).expect("a packet")
}

fn ports(reply: bool) -> (u16, u16) {
    if reply { (53, 1000) } else { (1000, 53) }
}

fn udp4(flow: u32, reply: bool, out: &mut [u8]) -> usize {
    build::udp(out, &between4(flow, reply), ports(reply), &[0; 18]).expect("a packet")
}

fn udp6(flow: u32, reply: bool, out: &mut [u8]) -> usize {
    let address = |net: u16| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 1, flow as u16).into();
    let datagram = between(address(1), address(2), reply);
    build::udp(out, &datagram, ports(reply), &[0; 18]).expect("a packet")
}

/// Picked up in the middle: every segment is ten bytes of old data with an acknowledgement.
fn tcp4(flow: u32, reply: bool, out: &mut [u8]) -> usize {
    tcp(&between4(flow, reply), reply, out)
}

fn tcp(datagram: &Datagram, reply: bool, out: &mut [u8]) -> usize {
    let (seq, ack) = if reply { (2000, 1010) } else { (1000, 2010) };
    let tcp = Tcp { flags: TcpFlags::ACK, seq, ack, window: 60_000 };
    build::tcp(out, datagram, ports(reply), tcp, &[0; 10]).expect("a packet")
}

/// Where the hosts of link 0 seem to be, seen from link 1.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn behind(flow: u32, reply: bool) -> Datagram {
    let far = Ipv4Addr::from(0xc612_0000 + flow).into();
    if reply { between(OUTSIDE.into(), far, true) } else { between4(flow, false) }
}

fn udp4_behind(flow: u32, reply: bool, out: &mut [u8]) -> usize {
    build::udp(out, &behind(flow, reply), ports(reply), &[0; 18]).expect("a packet")
}

fn tcp4_behind(flow: u32, reply: bool, out: &mut [u8]) -> usize {
    tcp(&behind(flow, reply), reply, out)
}

/// Gives an IPv4 UDP packet another source port, and no checksum.
fn renumber(frame: &mut [u8], serial: u16) {
    frame[34..36].copy_from_slice(&serial.to_be_bytes());
    frame[40..42].copy_from_slice(&[0, 0]);
}
