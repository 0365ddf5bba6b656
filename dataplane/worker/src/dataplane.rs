//! From configuration to running workers and back: opened, started, stopped.

use crossbeam_channel::{Receiver, Sender};
use sluice_engine::ids::PortId;
use sluice_engine::message::{Command, Event};
use sluice_wire::MacAddr;

use crate::config::{DataplaneConfig, StartConfig};
use crate::error::StartError;

/// Devices that are there and up, with no worker polling them yet.
///
/// The kernel's side of the taps is for control to set up now: addresses, routes, sysctls.
pub struct Opened {
    ports: Vec<PortInfo>,
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
    /// Whether the device spreads flows by our own hash, so that no hand-over is needed.
    pub rss: bool,
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

/// Workers that poll.
pub struct Dataplane {
    commands: Vec<Sender<Command>>,
    events: Receiver<Event>,
    ports: Vec<PortInfo>,
}

impl Dataplane {
    /// Sets up DPDK, makes and starts every port and tap. Once per process, also after an error.
    ///
    /// # Errors
    /// What failed first, as one line.
    pub fn open(config: DataplaneConfig) -> Result<Opened, StartError> {
        let _ = config;
        Err(StartError::Eal("not there yet".into()))
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
        Vec::new()
    }

    /// Cycles a second of the clock that `busy_cycles` and `idle_cycles` count.
    pub fn tsc_hz(&self) -> u64 {
        0
    }

    /// Stops and joins the workers, then closes the ports; taps disappear from the kernel.
    pub fn stop(self) {}
}

impl Opened {
    /// The ports, by [`PortId`].
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// Starts a thread for each worker, and returns when all of them poll.
    ///
    /// # Errors
    /// A thread could not be started, pinned or registered.
    pub fn start(self, config: StartConfig) -> Result<Dataplane, StartError> {
        let _ = config;
        Err(StartError::Eal("not there yet".into()))
    }
}
