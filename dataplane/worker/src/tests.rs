//! Whole data planes over software devices, without huge pages and without rights: packets out of a file, through one or
//! two workers and the engine, into a file. DPDK starts once in a process, so the tests share it and take turns.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sluice_engine::DropReason;
use sluice_engine::conntrack::{FlowBudget, Reservations};
use sluice_engine::counters::{Counter, WorkerCounters};
use sluice_engine::ids::{Generation, InterfaceId, PortId, Tick};
use sluice_engine::message::{Command, Event};
use sluice_engine::world::{
    Fib, Hop, Interface, Interfaces, Neighbour, NeighbourKey, NeighbourState, Neighbours, Route, RouteKind,
    RpFilter, World,
};
use sluice_rte::{Eal, EalConfig, Mempool, SocketId, memory_needed};
use sluice_wire::MacAddr;
use sluice_wire::build::{Datagram, Link, udp};

use crate::config::{DataplaneConfig, Device, Hugepages, Idle, PortSpec, StartConfig};
use crate::dataplane::{Dataplane, open_on};
use crate::hold::Hold;
use crate::memory::MemoryPlan;

const MBUFS: u32 = 8191;
const ROOM: u16 = 2176;
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
/// Where the sequence number of a test packet is: behind the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 14 + 20 + 8;

fn eal() -> Arc<Eal> {
    static EAL: OnceLock<Arc<Eal>> = OnceLock::new();
    let start = || {
        let memory_mb = ((memory_needed(MBUFS, ROOM) * 8) >> 20) as u32 + 64;
        Arc::new(Eal::init(EalConfig { memory_mb, ..EalConfig::default() }).expect("dpdk starts"))
    };
    Arc::clone(EAL.get_or_init(start))
}

/// Two data planes at once would share two cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sluice-worker-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_pcap(path: &str, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

fn read_pcap(path: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(Path::new(path)).unwrap();
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// Packet `sequence` of a flow from port 1000 + `flow`, to be routed by way of the gateway.
fn packet(flow: u16, sequence: u32) -> Vec<u8> {
    packet_to(Ipv4Addr::new(203, 0, 113, 7), flow, sequence)
}

fn packet_to(destination: Ipv4Addr, flow: u16, sequence: u32) -> Vec<u8> {
    let link = Link { destination: ROUTER, source: MacAddr([2, 0, 0, 0, 0, 5]), vlan: None };
    let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
    let datagram = Datagram { link, ..Datagram::between(source, IpAddr::V4(destination)).unwrap() };
    let mut frame = vec![0; 128];
    let len = udp(&mut frame, &datagram, (1000 + flow, 53), &sequence.to_be_bytes()).unwrap();
    frame.truncate(len);
    frame
}

/// Flow and sequence number of such a packet.
fn read(frame: &[u8]) -> (u16, u32) {
    let flow = u16::from_be_bytes(frame[34..36].try_into().unwrap()) - 1000;
    (flow, u32::from_be_bytes(frame[PAYLOAD..PAYLOAD + 4].try_into().unwrap()))
}

/// A router between 10.0.0.0/24 and 198.18.0.0/24, with everything else behind the gateway there.
fn world(gateway_known: bool) -> Arc<World> {
    let interface = |name: &str, port, address| Interface {
        name: name.to_owned(),
        port: PortId(port),
        vlan: None,
        mac: ROUTER,
        mtu: 1500,
        addresses: vec![(IpAddr::V4(address), 24)],
        groups: Vec::new(),
        kernel_addresses: false,
        rp_filter: RpFilter::Off,
    };
    let interfaces = Interfaces::new(vec![
        interface("in", 0, Ipv4Addr::new(10, 0, 0, 1)),
        interface("out", 1, Ipv4Addr::new(198, 18, 0, 1)),
    ]);
    let hop = Hop { interface: InterfaceId(1), gateway: Some(IpAddr::V4(GATEWAY)), weight: 1 };
    let default = Route {
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        prefix_len: 0,
        kind: RouteKind::Unicast(vec![hop]),
        metric: 0,
    };
    let key = NeighbourKey { interface: InterfaceId(1), address: IpAddr::V4(GATEWAY) };
    let gateway = Neighbour::new(NeighbourState::Reachable(GATEWAY_MAC), Arc::new(AtomicU32::new(0)));
    let known = gateway_known.then_some((key, gateway));
    Arc::new(World {
        generation: Generation(1),
        fib: Arc::new(Fib::new(&[default], &interfaces)),
        interfaces: Arc::new(interfaces),
        neighbours: Arc::new(Neighbours::new(u32::from(gateway_known), known)),
        ruleset: Arc::default(),
        settings: Arc::default(),
    })
}

struct Run {
    plane: Dataplane,
    pool: Mempool,
    counters: Vec<Arc<WorkerCounters>>,
}

impl Run {
    /// Starts `workers` workers from `input` to `output`.
    fn start(workers: usize, input: Device, output: Device, world: Arc<World>) -> Run {
        let port = |name: &str, device| PortSpec {
            name: name.to_owned(),
            device,
            mtu: 1500,
            mac: Some(ROUTER),
            taps: Vec::new(),
        };
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let config = DataplaneConfig {
            workers: vec![core; workers],
            idle: Idle::Yield,
            hugepages: Hugepages::Off,
            mbufs: MBUFS,
            ports: vec![port("in", input), port("out", output)],
            debug_eal: false,
        };
        let memory = MemoryPlan { room: ROOM, needed_mb: 0, hugepages: false };
        let opened = open_on(eal(), config, memory).expect("devices");
        let pool = opened.pool().clone();
        let counters: Vec<_> =
            (0..workers).map(|_| Arc::new(WorkerCounters::new(world.interfaces.len()))).collect();
        let start = StartConfig {
            world,
            budget: Arc::new(FlowBudget::new(10_000)),
            counters: counters.clone(),
            flow_capacity: 10_000,
            resident_flows: 100,
            seed: 7,
            reservations: Arc::new(Reservations::new(10_000)),
        };
        Run { plane: opened.start(start).expect("workers"), pool, counters }
    }

    fn sum(&self, of: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| of(counters)).sum()
    }

    fn wait(&self, what: &str, done: impl Fn(&Run) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(10), "never: {what}\n{:?}", self.counters);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops, and checks that every buffer is back.
    fn stop(self) -> Vec<Arc<WorkerCounters>> {
        self.plane.stop();
        assert_eq!(self.pool.in_use(), 0, "buffers not given back");
        self.counters
    }
}

fn forwarded(run: &Run) -> u64 {
    run.sum(|counters| counters.interfaces[0].forwarded.get())
}

fn vdev(text: &str) -> Device {
    Device::Vdev(text.to_owned())
}

fn pcap(input: &str, output: &str) -> Device {
    Device::Pcap { input: input.to_owned(), output: Some(output.to_owned()) }
}

/// Sends `frames` through so many workers, and returns what came out and what was counted.
fn route(name: &str, workers: usize, frames: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Arc<WorkerCounters>>) {
    let folder = Folder::new(name);
    let (input, nothing) = (folder.file("in.pcap"), folder.file("nothing.pcap"));
    write_pcap(&input, frames);
    write_pcap(&nothing, &[]);
    let output = folder.file("out.pcap");
    let devices = (pcap(&input, &folder.file("back.pcap")), pcap(&nothing, &output));
    let run = Run::start(workers, devices.0, devices.1, world(true));
    run.wait("all forwarded", |run| forwarded(run) == frames.len() as u64);
    let counters = run.stop();
    (read_pcap(&output), counters)
}

#[test]
fn a_worker_routes_packets_in_order() {
    let _turn = turn();
    let frames: Vec<_> = (0..500).map(|at| packet((at % 7) as u16, at)).collect();
    let (out, counters) = route("one", 1, &frames);
    assert_eq!(out.len(), frames.len());
    for (sent, frame) in frames.iter().zip(&out) {
        assert_eq!(read(frame), read(sent));
        assert_eq!(frame[..6], GATEWAY_MAC.0);
        assert_eq!(frame[22], sent[22] - 1, "time to live");
    }
    assert_eq!(counters[0].interfaces[0].rx_packets.get(), 500);
    assert_eq!(counters[0].handed_over.get(), 0);
    assert!(counters[0].busy_cycles.get() > 0);
    let latency = &counters[0].latency;
    let followed: u64 = latency.by_duration.iter().map(Counter::get).sum();
    assert!((1..=3).contains(&followed), "one packet in 128: {followed}");
    assert!((1..=counters[0].busy_cycles.get()).contains(&latency.cycles.get()), "{latency:?}");
}

#[test]
fn two_workers_hand_over_and_keep_each_flow_in_order() {
    let _turn = turn();
    let frames: Vec<_> = (0..1500).map(|at| packet((at % 50) as u16, at)).collect();
    let (out, counters) = route("two", 2, &frames);
    assert_eq!(out.len(), frames.len());
    let mut last = [None; 50];
    for frame in &out {
        let (flow, sequence) = read(frame);
        assert!(last[usize::from(flow)] < Some(sequence), "flow {flow}: {sequence} came late");
        last[usize::from(flow)] = Some(sequence);
    }
    // The file has one queue: the first worker reads all, and sends all for the second too.
    let handed_over = counters[0].handed_over.get();
    assert_eq!(counters[0].interfaces[0].rx_packets.get(), 1500);
    assert!((500..1000).contains(&handed_over), "{handed_over} handed over");
    assert_eq!(counters[1].interfaces[0].forwarded.get(), handed_over);
}

#[test]
fn a_packet_in_several_buffers_is_dropped_and_the_others_go_on() {
    let _turn = turn();
    let folder = Folder::new("segments");
    let (input, nothing, output) =
        (folder.file("in.pcap"), folder.file("nothing.pcap"), folder.file("out.pcap"));
    let mut frames: Vec<_> = (0..9).map(|at| packet(0, at)).collect();
    frames[4] = vec![0; 3000];
    write_pcap(&input, &frames);
    write_pcap(&nothing, &[]);
    let run = Run::start(1, pcap(&input, &folder.file("back.pcap")), pcap(&nothing, &output), world(true));
    run.wait("the others forwarded", |run| forwarded(run) == 8);
    let counters = run.stop();
    assert_eq!(counters[0].drops[DropReason::FrameSegmented as usize].get(), 1);
    assert_eq!(counters[0].interfaces[0].rx_packets.get(), 9);
    let sequences: Vec<_> = read_pcap(&output).iter().map(|frame| read(frame).1).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 5, 6, 7, 8]);
}

#[test]
fn packets_wait_for_their_next_hop() {
    let _turn = turn();
    let folder = Folder::new("hold");
    let (input, nothing, output) =
        (folder.file("in.pcap"), folder.file("nothing.pcap"), folder.file("out.pcap"));
    let frames: Vec<_> = (0..20).map(|at| packet(0, at)).collect();
    write_pcap(&input, &frames);
    write_pcap(&nothing, &[]);
    let run = Run::start(1, pcap(&input, &folder.file("back.pcap")), pcap(&nothing, &output), world(false));
    run.wait("all held", |run| run.sum(|counters| counters.held.get()) == 20);
    let asked = run.plane.events().recv_timeout(Duration::from_secs(1)).unwrap();
    assert!(matches!(asked, Event::Resolve(key) if key.address == IpAddr::V4(GATEWAY)), "{asked:?}");
    assert_eq!(forwarded(&run), 0);

    run.plane.commands()[0].send(Command::Adopt(world(true))).unwrap();
    run.wait("all released", |run| forwarded(run) == 20);
    let adopted = run.plane.events().recv_timeout(Duration::from_secs(1)).unwrap();
    assert!(matches!(adopted, Event::Adopted { .. }), "{adopted:?}");
    assert_eq!(run.counters[0].held.get(), 0);
    run.stop();
    let sequences: Vec<_> = read_pcap(&output).iter().map(|frame| read(frame).1).collect();
    assert_eq!(sequences, (0..20).collect::<Vec<_>>());
}

#[test]
fn what_finds_no_room_on_its_way_out_is_a_drop() {
    let _turn = turn();
    let folder = Folder::new("full");
    let input = folder.file("in.pcap");
    let mut frames: Vec<_> = (0..200).map(|at| packet(0, at)).collect();
    frames.push(packet_to(Ipv4Addr::new(10, 0, 0, 1), 0, 200));
    write_pcap(&input, &frames);
    // Nobody is at the other end of the output, and the input has no tap beside it.
    let run = Run::start(
        1,
        pcap(&input, &folder.file("back.pcap")),
        Device::Memif(folder.file("memif.sock")),
        world(true),
    );
    let dropped = |run: &Run, reason: DropReason| run.sum(|counters| counters.drops[reason as usize].get());
    run.wait("the last packet dropped", |run| dropped(run, DropReason::TapQueue) == 1);
    let counters = &run.counters[0].interfaces[0];
    assert_eq!(counters.rx_packets.get(), 201);
    assert_eq!(counters.delivered.get(), 0);
    assert_eq!(counters.forwarded.get(), 64, "a burst waits for room");
    assert_eq!(dropped(&run, DropReason::TxQueue), 136);
    assert_eq!(run.counters[0].interfaces[1].tx_packets.get(), 64);
    run.stop();
}

#[test]
fn stopping_under_load_gives_every_buffer_back() {
    let _turn = turn();
    // Frames of zeroes for ever: not IP, so dropped.
    let run = Run::start(2, vdev("net_null_stop_in"), vdev("net_null_stop_out,no-rx=1"), world(true));
    let received = |run: &Run| run.sum(|counters| counters.polled_packets.get());
    run.wait("packets received", |run| received(run) > 100_000);
    let counters = run.stop();
    for counters in counters {
        let received = counters.interfaces[0].rx_packets.get();
        let dropped: u64 = counters.drops.iter().map(|counter| counter.get()).sum();
        assert_eq!(received, dropped);
    }
}

#[test]
fn stopping_waits_for_nobody_who_does_not_listen() {
    let _turn = turn();
    let run = Run::start(1, vdev("net_null_deaf_in,no-rx=1"), vdev("net_null_deaf_out,no-rx=1"), world(true));
    for _ in 0..=crate::notice::CAPACITY {
        run.plane.commands()[0].send(Command::Adopt(world(true))).unwrap();
    }
    run.wait("no room for answers", |run| run.plane.events().is_full());
    run.stop();
}

#[test]
fn a_full_next_hop_loses_its_oldest_packet() {
    let eal = eal();
    let pool = Mempool::new(&eal, "held", 255, 0, ROOM, SocketId::ANY).unwrap();
    let key =
        |last| NeighbourKey { interface: InterfaceId(0), address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)) };
    let numbered = |number: u32| {
        let mut mbuf = pool.alloc().unwrap();
        mbuf.set_tag(number);
        mbuf
    };
    let mut hold = Hold::new(100);
    for number in 0..64 {
        assert!(hold.push(Tick(0), key(1), numbered(number)).unwrap().is_none());
    }
    assert_eq!(hold.push(Tick(0), key(1), numbered(64)).unwrap().unwrap().tag(), 0);
    assert_eq!(hold.newest_mut(&key(1)).unwrap().tag(), 64);
    for number in 0..36 {
        assert!(hold.push(Tick(1), key(2), numbered(number)).is_ok());
    }
    assert!(hold.push(Tick(1), key(3), numbered(0)).is_err(), "no room for the 101st");
    assert_eq!(hold.len(), 100);
    assert!(hold.overdue(Tick(3999)).is_none());
    assert_eq!(hold.overdue(Tick(4000)), Some((key(1), 64)));
    for number in 1..=64 {
        assert_eq!(hold.pop(&key(1)).unwrap().tag(), number);
    }
    assert!(hold.pop(&key(1)).is_none());
    assert!(hold.push(Tick(2), key(3), numbered(0)).is_ok());
    drop(hold);
    assert_eq!(pool.in_use(), 0);
}
