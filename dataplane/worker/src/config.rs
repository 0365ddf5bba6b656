//! What a data plane is made with, as plain values: this crate knows no file format.

use std::fmt;
use std::sync::Arc;

use sluice_engine::conntrack::{FlowBudget, Reservations};
use sluice_engine::counters::WorkerCounters;
use sluice_engine::ids::InterfaceId;
use sluice_engine::world::World;
use sluice_wire::MacAddr;

/// What is fixed before any device exists.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    /// The CPU that each worker is pinned to, 1 to 48 of them. Two workers may share one (with [`Idle::Yield`]).
    pub workers: Vec<usize>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// Whether packet buffers are on huge pages.
    pub hugepages: Hugepages,
    /// Packet buffers, shared by all ports and workers.
    pub mbufs: u32,
    /// The devices; [`sluice_engine::ids::PortId`] is the place in this list.
    pub ports: Vec<PortSpec>,
    /// Lets EAL and its drivers say more than warnings on stderr.
    pub debug_eal: bool,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Idle {
    /// Polls on: least latency, the CPU is taken whole.
    #[default]
    Poll,
    /// Gives the CPU away after some empty rounds, sleeping up to 100 µs: for CPUs shared with other programs.
    Yield,
}

/// Whether packet buffers are on huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Where enough are free; otherwise not, with one line in the log.
    #[default]
    Auto,
    /// A start error where not enough are free.
    Required,
    /// Never.
    Off,
}

/// One device.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// The name of its first interface; it is what errors and logs call the port.
    pub name: String,
    /// What it is.
    pub device: Device,
    /// The largest IP datagram of its interfaces, in bytes.
    pub mtu: u16,
    /// A MAC address in place of the device's own.
    pub mac: Option<MacAddr>,
    /// The taps of its interfaces, for local traffic; none for a port that only forwards, as in benchmarks.
    pub taps: Vec<TapSpec>,
}

/// A kernel interface that stands beside a logical interface and gives the box's own sockets their traffic.
#[derive(Clone, Debug)]
pub struct TapSpec {
    /// The logical interface.
    pub interface: InterfaceId,
    /// Its name in the kernel, at most 15 characters.
    pub name: String,
}

/// A device as `sluice.yaml` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// `pci:ADDRESS`, a NIC bound to vfio-pci or a bifurcated one.
    Pci(String),
    /// `kernel:IFNAME`, an existing kernel interface by AF_PACKET.
    Kernel(String),
    /// `xdp:IFNAME`, an existing kernel interface by AF_XDP.
    Xdp(String),
    /// `tap:NAME`, a kernel interface made here; the peer is the kernel.
    Tap(String),
    /// `memif:PATH`, shared memory with another process, by the socket at that path.
    Memif(String),
    /// `pcap:IN[,OUT]`, packets from a file and to a file.
    Pcap {
        /// Read from this file.
        input: String,
        /// Written to this file; None: transmitted packets are thrown away.
        output: Option<String>,
    },
    /// `vdev:STRING`, a DPDK virtual device verbatim: name, comma, arguments.
    Vdev(String),
}

impl fmt::Display for Device {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Pci(address) => write!(to, "pci:{address}"),
            Device::Kernel(ifname) => write!(to, "kernel:{ifname}"),
            Device::Xdp(ifname) => write!(to, "xdp:{ifname}"),
            Device::Tap(ifname) => write!(to, "tap:{ifname}"),
            Device::Memif(path) => write!(to, "memif:{path}"),
            Device::Pcap { input, output: None } => write!(to, "pcap:{input}"),
            Device::Pcap { input, output: Some(output) } => write!(to, "pcap:{input},{output}"),
            Device::Vdev(text) => write!(to, "vdev:{text}"),
        }
    }
}

/// What is known only once the devices are there.
#[derive(Clone)]
pub struct StartConfig {
    /// The first world.
    pub world: Arc<World>,
    /// `conntrack.max`, shared by all workers.
    pub budget: Arc<FlowBudget>,
    /// Where each worker counts; one for each worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Flows that each worker's shard has memory for.
    pub flow_capacity: u32,
    /// Flows of each family whose memory each worker has the kernel give before it polls, at most: what is touched for the
    /// first time later holds a poll up for half a millisecond. 0: none.
    pub resident_flows: u32,
    /// Random, kept for the life of the process: hash seeds, flow ids.
    pub seed: u64,
    /// Whose answers are whose: what workers tell each other of flows that may be translated.
    pub reservations: Arc<Reservations>,
}
