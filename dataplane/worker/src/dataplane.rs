//! From configuration to running workers and back: opened, started, stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_engine::Outlet;
use sluice_engine::ids::{Now, PortId};
use sluice_engine::message::{Command, Event};
use sluice_rte::{Eal, EalConfig, LogLevel, Mempool, SocketId, StartedPort, tsc};
use sluice_wire::MacAddr;

use crate::assemble::{Outfit, Plan, Queues};
use crate::clock::Clock;
use crate::config::{DataplaneConfig, Device, PortSpec, StartConfig};
use crate::device::{Maker, OpenDevice, longest_frame, router_mac};
use crate::error::StartError;
use crate::memory::MemoryPlan;
use crate::notice;
use crate::pci;
use crate::source::Source;
use crate::thread::{self, Post};

/// Most workers: each has a ring to each other, of which DPDK has room for about 2,500.
const MAX_WORKERS: usize = 48;

/// Buffers that a worker's thread keeps back.
const POOL_CACHE: u32 = 256;

/// Commands that wait for a worker.
const COMMANDS: usize = 1024;

/// Packets on hold at one worker.
const HOLD: u32 = 1024;

/// How long stopping waits for room in a worker's mailbox.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How often stopping looks whether a worker has ended.
const JOIN_INTERVAL: Duration = Duration::from_millis(1);

/// Tells the devices and rings of data planes in one process (as in tests) apart.
static INSTANCES: AtomicU32 = AtomicU32::new(0);

/// Devices that are there and up, with no worker polling them yet.
///
/// The kernel's side of the taps is for control to set up now: addresses, routes, sysctls.
pub struct Opened {
    config: DataplaneConfig,
    eal: Arc<Eal>,
    pool: Mempool,
    instance: u32,
    ports: Vec<PortInfo>,
    devices: Vec<StartedPort>,
    /// Ports in their order, then taps.
    queues: Vec<Queues>,
}

/// What is known of an open port.
#[derive(Clone, Debug)]
pub struct PortInfo {
    /// Its number.
    pub id: PortId,
    /// The name of its first interface.
    pub name: String,
    /// The device as `sluice.yaml` writes it.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// The router's MAC address on it: the one asked for, else the device's own.
    pub mac: MacAddr,
    /// Receive queues; fewer than workers means that the others get their packets handed over.
    pub rx_queues: u16,
    /// Transmit queues; fewer than workers means that the others send by way of one that has a queue.
    pub tx_queues: u16,
    /// Whether packets arrive at the queue of their flow's owner, so that no hand-over is needed.
    pub rss_queue: bool,
    /// Whether packets bring our hash along, so that it is not computed again.
    pub rss_hash: bool,
}

/// A port's device counters and link, as the driver reports them.
#[derive(Clone, Debug, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets lost because no worker fetched them in time.
    pub rx_missed: u64,
    /// Packets the device found faulty.
    pub rx_errors: u64,
    /// Packets lost because no buffer was free.
    pub rx_no_buffer: u64,
    /// Packets the device failed to send.
    pub tx_errors: u64,
    /// Whether the link is up.
    pub link_up: bool,
    /// Link speed in Mbit/s; 0: unknown.
    pub link_mbps: u32,
}

/// Workers that poll. Dropped, it stops as by [`Dataplane::stop`].
pub struct Dataplane {
    commands: Vec<Sender<Command>>,
    events: Receiver<Event>,
    ports: Vec<PortInfo>,
    threads: Vec<JoinHandle<()>>,
    /// Ports in their order, then taps; closed after the workers let go of their queues.
    devices: Vec<StartedPort>,
    pool: Mempool,
    tsc_hz: u64,
    clock: Clock,
}

impl Dataplane {
    /// Sets up DPDK, makes and starts every port and tap. Once per process, also after an error.
    ///
    /// # Errors
    /// What failed first, as one line.
    pub fn open(config: DataplaneConfig) -> Result<Opened, StartError> {
        check(&config)?;
        let memory = MemoryPlan::new(&config)?;
        let eal = start_eal(&config, memory)?;
        open_on(Arc::new(eal), config, memory)
    }

    /// One mailbox for each worker. They are bounded: a full one means that the worker is behind.
    pub fn commands(&self) -> &[Sender<Command>] {
        &self.commands
    }

    /// What the workers say. Answers are never lost; log lines, punted frames and wanted neighbours are, when nobody
    /// reads.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// The ports, by [`PortId`].
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// Each port's device counters and link, by [`PortId`].
    pub fn port_stats(&self) -> Vec<PortStats> {
        self.devices.iter().take(self.ports.len()).map(port_stats).collect()
    }

    /// Packet buffers in use and in all. Walks DPDK's caches: for a scrape, not for each packet.
    pub fn buffers(&self) -> (u32, u32) {
        (self.pool.in_use(), self.pool.size())
    }

    /// The time as workers have it: since the start.
    pub fn now(&self) -> Now {
        self.clock.at(tsc())
    }

    /// Cycles a second of the clock that `busy_cycles` and `idle_cycles` count.
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// Stops and joins the workers, then closes the ports; taps disappear from the kernel.
    pub fn stop(self) {
        drop(self);
    }
}

impl Dataplane {
    /// Waits for a worker's end. It may have an answer that finds no room, and takes no command before that is gone; nobody
    /// else may be reading any more.
    fn join(&self, thread: JoinHandle<()>) {
        while !thread.is_finished() {
            self.events.try_iter().for_each(drop);
            std::thread::sleep(JOIN_INTERVAL);
        }
        // A worker that panics ends the process, so there is nothing to learn here.
        let _ = thread.join();
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        // The last first, each to its end: where a device has fewer queues than there are workers, the first ones send for
        // the others.
        while let Some(sender) = self.commands.pop() {
            // One that does not take it sees that its mailbox has no sender any more.
            let _ = sender.send_timeout(Command::Stop, STOP_PATIENCE);
            drop(sender);
            if let Some(thread) = self.threads.pop() {
                self.join(thread);
            }
        }
    }
}

impl Opened {
    /// The ports, by [`PortId`].
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// The packet buffers, for counting them.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Starts a thread for each worker, and returns when all of them poll.
    ///
    /// # Errors
    /// A thread could not be started, pinned or registered.
    pub fn start(self, config: StartConfig) -> Result<Dataplane, StartError> {
        let Opened { config: opened, eal, pool, instance, ports, devices, queues } = self;
        let workers = opened.workers.len();
        if config.counters.len() != workers {
            let counters = config.counters.len();
            return Err(StartError::Config(format!(
                "counters for {counters} workers, but there are {workers}"
            )));
        }
        let interfaces = &config.world.interfaces;
        let ring_capacity = ring_capacity(workers);
        let seats = Plan { eal: &eal, workers, interfaces, ring_capacity, instance }
            .seats(queues)
            .map_err(|error| StartError::Eal(error.to_string()))?;

        let tsc_hz = eal.tsc_hz();
        let clock = Clock::new(tsc(), tsc_hz);
        let (event_sender, events) = bounded(notice::CAPACITY);
        let (ready, polling) = bounded(workers);
        let hold_capacity = HOLD.min(pool.size() / 16 / workers_u32(workers));
        let mut plane = Dataplane {
            commands: Vec::new(),
            events,
            ports,
            threads: Vec::new(),
            devices,
            pool,
            tsc_hz,
            clock,
        };
        for ((seat, counters), core) in seats.into_iter().zip(&config.counters).zip(&opened.workers) {
            let (sender, commands) = bounded(COMMANDS);
            let outfit = Outfit {
                start: config.clone(),
                workers: u8::try_from(workers).unwrap_or(u8::MAX),
                counters: Arc::clone(counters),
                pool: plane.pool.clone(),
                hold_capacity,
                commands,
                events: event_sender.clone(),
                clock,
                idle: opened.idle,
            };
            let post = Post { eal: Arc::clone(&eal), core: *core, ready: ready.clone() };
            plane.threads.push(thread::start(seat, outfit, post)?);
            plane.commands.push(sender);
        }
        drop(ready);
        for _ in 0..workers {
            thread::wait_until_polling(&polling)?;
        }
        Ok(plane)
    }
}

fn check(config: &DataplaneConfig) -> Result<(), StartError> {
    let workers = config.workers.len();
    if workers == 0 || workers > MAX_WORKERS {
        return Err(StartError::Config(format!("{workers} workers: there must be 1 to {MAX_WORKERS}")));
    }
    let available: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let missing = config.workers.iter().enumerate().find(|(_, core)| !available.contains(core));
    if let Some((worker, core)) = missing {
        let available: Vec<String> = available.iter().map(usize::to_string).collect();
        let reason =
            format!("core {core} may not be used by this process (it may use {})", available.join(", "));
        return Err(StartError::Worker { worker, reason });
    }
    config.ports.iter().try_for_each(takeable)
}

/// Whether a NIC can be had; the others' drivers tell by themselves.
fn takeable(port: &PortSpec) -> Result<(), StartError> {
    let Device::Pci(address) = &port.device else { return Ok(()) };
    pci::usable(address).map_err(|error| StartError::Device {
        name: port.name.clone(),
        device: port.device.to_string(),
        reason: error.to_string(),
    })
}

fn start_eal(config: &DataplaneConfig, memory: MemoryPlan) -> Result<Eal, StartError> {
    let pci = config.ports.iter().filter_map(|port| match &port.device {
        Device::Pci(address) => Some(address.clone()),
        _ => None,
    });
    let eal = EalConfig {
        hugepages: memory.hugepages,
        memory_mb: memory.needed_mb,
        cores: config.workers.clone(),
        pci: pci.collect(),
        log_level: if config.debug_eal { LogLevel::Debug } else { LogLevel::Warning },
    };
    Eal::init(eal).map_err(|error| StartError::Eal(error.to_string()))
}

/// Makes pool and devices on a running EAL.
pub(crate) fn open_on(
    eal: Arc<Eal>,
    config: DataplaneConfig,
    memory: MemoryPlan,
) -> Result<Opened, StartError> {
    let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
    let pool = make_pool(&eal, &config, memory, instance)?;
    let workers = u16::try_from(config.workers.len()).unwrap_or(u16::MAX);
    let maker = Maker { eal: &eal, pool: &pool, workers, instance };

    let (mut ports, mut devices, mut queues) = (Vec::new(), Vec::new(), Vec::new());
    for (number, spec) in config.ports.iter().enumerate() {
        let OpenDevice { started, rx, tx } = maker.port(number, spec)?;
        let id = PortId(u16::try_from(number).unwrap_or(u16::MAX));
        ports.push(describe(id, spec, &started, &rx, &tx));
        devices.push(started);
        let longest = longest_frame(spec);
        queues.push(Queues { outlet: Outlet::Wire(id), source: Source::Wire(id), rx, tx, longest });
    }
    for (spec, port) in config.ports.iter().zip(&ports) {
        for tap in &spec.taps {
            let OpenDevice { started, rx, tx } = maker.local_tap(tap, port.mac, spec.mtu)?;
            devices.push(started);
            let (outlet, source) = (Outlet::Tap(tap.interface), Source::Local(tap.interface));
            queues.push(Queues { outlet, source, rx, tx, longest: usize::MAX });
        }
    }
    Ok(Opened { config, eal, pool, instance, ports, devices, queues })
}

fn make_pool(
    eal: &Eal,
    config: &DataplaneConfig,
    memory: MemoryPlan,
    instance: u32,
) -> Result<Mempool, StartError> {
    let workers = workers_u32(config.workers.len());
    let cache = POOL_CACHE.min(config.mbufs / 8 / workers);
    let name = format!("packets{instance}");
    Mempool::new(eal, &name, config.mbufs, cache, memory.room, SocketId::ANY).map_err(|error| {
        StartError::NoMemory { mbufs: config.mbufs, room: memory.room, reason: error.to_string() }
    })
}

fn describe(
    id: PortId,
    spec: &PortSpec,
    started: &StartedPort,
    rx: &[sluice_rte::RxQueue],
    tx: &[sluice_rte::TxQueue],
) -> PortInfo {
    PortInfo {
        id,
        name: spec.name.clone(),
        device: spec.device.to_string(),
        driver: started.driver_name().to_owned(),
        mac: router_mac(spec, started.mac()),
        rx_queues: u16::try_from(rx.len()).unwrap_or(u16::MAX),
        tx_queues: u16::try_from(tx.len()).unwrap_or(u16::MAX),
        rss_queue: started.rss_steering(),
        rss_hash: started.rss_hash_valid(),
    }
}

fn port_stats(device: &StartedPort) -> PortStats {
    let stats = device.stats().unwrap_or_default();
    PortStats {
        rx_packets: stats.ipackets,
        tx_packets: stats.opackets,
        rx_bytes: stats.ibytes,
        tx_bytes: stats.obytes,
        rx_missed: stats.imissed,
        rx_errors: stats.ierrors,
        rx_no_buffer: stats.rx_nombuf,
        tx_errors: stats.oerrors,
        link_up: device.link_up(),
        link_mbps: device.link_speed().unwrap_or(0),
    }
}

/// Deep enough for a worker that sleeps 100 µs at 10 Mpps, and for many workers shallower: there is a ring for each pair.
fn ring_capacity(workers: usize) -> u32 {
    (16384 / workers_u32(workers)).clamp(256, 2048)
}

fn workers_u32(workers: usize) -> u32 {
    u32::try_from(workers).unwrap_or(u32::MAX).max(1)
}
