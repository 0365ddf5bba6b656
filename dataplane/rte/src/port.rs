//! A port's life: configured, started with all its queues, stopped when nobody has it any more.
//!
//! Receive offloads asked for: checksums, of real NICs; the RSS hash. Never VLAN stripping, scatter or LRO.
//!
//! Source: DPDK `rte_ethdev.h`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_dpdk_sys as sys;

use crate::eal::{Eal, PortIndex};
use crate::error::{Error, check, is_unsupported};
use crate::mbuf::HEADROOM;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::rss::{RssRequest, RssState, program_reta};

/// Bytes of a frame beyond the MTU: Ethernet header and two VLAN tags. Devices leave the FCS out of the buffer.
const FRAME_OVERHEAD: u16 = 14 + 4 + 4;

/// How a port is set up.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Receive queues, one a worker.
    pub rx_queues: u16,
    /// Transmit queues, one a worker.
    pub tx_queues: u16,
    /// Descriptors of a receive queue; the device adjusts them. Each holds a buffer.
    pub rx_desc: u16,
    /// Descriptors of a transmit queue; the device adjusts them.
    pub tx_desc: u16,
    /// Bytes of the largest IP packet; 0 leaves the device's own. On `kernel:`, `xdp:` and `tap:` devices this sets the kernel
    /// interface's too.
    pub mtu: u16,
    /// Takes in packets for any MAC address.
    pub promiscuous: bool,
    /// Takes in all multicast: needed for neighbour discovery on real NICs.
    pub all_multicast: bool,
    /// Asks the device to hash with [`crate::SYMMETRIC_KEY`] and to lead hashes to queues as workers own them.
    pub rss: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: 0,
            promiscuous: false,
            all_multicast: true,
            rss: true,
        }
    }
}

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// DPDK's driver, such as `net_af_packet`.
    pub driver: String,
    /// Most receive queues.
    pub max_rx_queues: u16,
    /// Most transmit queues.
    pub max_tx_queues: u16,
    /// Entries of its table from hash to queue; 0 where it does no RSS.
    pub reta_size: u16,
    /// NUMA node that it is on, where known.
    pub socket: Option<u16>,
}

impl PortInfo {
    /// Asks the device.
    ///
    /// # Errors
    /// [`Error::Failed`] where it is gone.
    pub fn query(_eal: &Eal, port: PortIndex) -> Result<Self, Error> {
        Ok(Self::of(port, &device_info(port)?))
    }

    fn of(port: PortIndex, raw: &sys::rte_eth_dev_info) -> Self {
        // SAFETY: the EAL runs, as a `PortIndex` shows; answers -1 for what is not known.
        let socket = unsafe { sys::rte_eth_dev_socket_id(port.get()) };
        Self {
            driver: driver_name(raw),
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            reta_size: raw.reta_size,
            socket: u16::try_from(socket).ok(),
        }
    }
}

/// Counters of a device since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub ipackets: u64,
    /// Packets sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Packets that came and found no room: the queue was not polled in time.
    pub imissed: u64,
    /// Packets received with errors.
    pub ierrors: u64,
    /// Packets that could not be sent.
    pub oerrors: u64,
    /// Packets received for which the pool had no buffer.
    pub rx_nombuf: u64,
}

/// A port that is configured and does not run yet; dropped, it is closed.
#[derive(Debug)]
pub struct Port {
    device: Device,
    config: PortConfig,
    info: PortInfo,
    rss: Option<RssRequest>,
    /// The device can put the hash into the mbuf.
    delivers_hash: bool,
    /// The device may set the hash's flag, whether or not we can say what it hashes.
    hashes_at_all: bool,
}

impl Port {
    /// Configures a port and its queues; all receive into `pool`.
    ///
    /// # Errors
    /// [`Error::PortBusy`]; [`Error::TooLarge`] for more queues than the device has, or frames larger than the pool's buffers;
    /// [`Error::NoMemory`] for rings, and where the pool has too few buffers; else as the driver answers.
    pub fn configure(_eal: &Eal, port: PortIndex, config: PortConfig, pool: &Mempool) -> Result<Self, Error> {
        let device = Device::claim(port)?;
        let raw = device_info(port)?;
        let info = PortInfo::of(port, &raw);
        check_limits(port, &config, &info, pool)?;

        let rss = if config.rss { RssRequest::new(&raw) } else { None };
        let mut wanted = sys::rte_eth_conf::default();
        wanted.rxmode.offloads = offloads(&raw, &info.driver, rss.is_some());
        if let Some(request) = &rss {
            request.write(&mut wanted);
        }
        let delivers_hash = wanted.rxmode.offloads & sys::SLUICE_RX_OFFLOAD_RSS_HASH != 0;
        check(
            || format!("port {port} ({}): configuration", info.driver),
            // SAFETY: the port exists and is not started; `wanted` lives on, and the key that it points to is static.
            || unsafe {
                sys::rte_eth_dev_configure(port.get(), config.rx_queues, config.tx_queues, &raw const wanted)
            },
        )?;
        set_up_queues(port, &config, &info, pool)?;
        if config.mtu != 0 {
            set_mtu(port, config.mtu)?;
        }
        let hashes_at_all = raw.flow_type_rss_offloads != 0;
        Ok(Self { device, config, info, rss, delivers_hash, hashes_at_all })
    }

    /// Starts the port and hands out its queues, in order.
    ///
    /// # Errors
    /// As the driver answers; the port is closed then.
    pub fn start(self) -> Result<(StartedPort, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let port = self.device.port;
        self.device.start(&self.info.driver)?;
        let rss = self.set_up_rss();
        if self.config.promiscuous {
            optional(port, "promiscuous mode", || {
                // SAFETY: the port exists, see `Device`.
                unsafe { sys::rte_eth_promiscuous_enable(port.get()) }
            })?;
        }
        if self.config.all_multicast {
            optional(port, "all multicast", || {
                // SAFETY: the port exists, see `Device`.
                unsafe { sys::rte_eth_allmulticast_enable(port.get()) }
            })?;
        }
        let mac = mac_address(port)?;

        let distrusted = if self.hashes_at_all && !rss.hash { sys::SLUICE_RX_RSS_HASH } else { 0 };
        let device = Arc::new(self.device);
        let rx = (0..self.config.rx_queues)
            .map(|queue| RxQueue::new(Arc::clone(&device), queue, distrusted))
            .collect();
        let tx = (0..self.config.tx_queues).map(|queue| TxQueue::new(Arc::clone(&device), queue)).collect();
        let started = StartedPort { device, info: self.info, mac, rss, control: Mutex::new(()) };
        Ok((started, rx, tx))
    }

    /// What the device is and can do.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    fn set_up_rss(&self) -> RssState {
        let Some(request) = &self.rss else { return RssState::default() };
        let port = self.device.port;
        let hash = request.verify_hash(port) && self.delivers_hash;
        let steering = program_reta(port, self.info.reta_size, self.config.rx_queues);
        RssState { hash, steering }
    }
}

/// A port that runs. Stopped and closed when this and all its queues are dropped.
///
/// Its functions are for control, not for the packet path; threads may share it.
#[derive(Debug)]
pub struct StartedPort {
    device: Arc<Device>,
    info: PortInfo,
    mac: [u8; 6],
    rss: RssState,
    /// DPDK wants control functions of one port called one at a time.
    control: Mutex<()>,
}

impl StartedPort {
    /// The port's number, as its packets carry it.
    #[must_use]
    pub fn index(&self) -> PortIndex {
        self.device.port
    }

    /// MAC address that it had when it started, in the order of the wire.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// What the device is and can do.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// DPDK's driver, such as `net_af_packet`.
    #[must_use]
    pub fn driver_name(&self) -> &str {
        &self.info.driver
    }

    /// Whether the device does our part: packets arrive at the queue of their flow's owner and carry its hash. Where not,
    /// each packet is hashed in software and handed over where it must be.
    #[must_use]
    pub fn rss_active(&self) -> bool {
        self.rss.hash && self.rss.steering
    }

    /// Whether [`crate::Mbuf::rss_hash`] gives hashes for this port's packets, wherever they arrive.
    #[must_use]
    pub fn rss_hash_valid(&self) -> bool {
        self.rss.hash
    }

    /// Counters since the start.
    ///
    /// # Errors
    /// [`Error::Failed`] where the driver keeps none.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let _one_at_a_time = self.lock();
        let port = self.device.port;
        let mut raw = sys::rte_eth_stats::default();
        check(
            || format!("port {port}: counters"),
            // SAFETY: the port exists, see `Device`; `raw` is written to during the call only.
            || unsafe { sys::rte_eth_stats_get(port.get(), &raw mut raw) },
        )?;
        Ok(PortStats {
            ipackets: raw.ipackets,
            opackets: raw.opackets,
            ibytes: raw.ibytes,
            obytes: raw.obytes,
            imissed: raw.imissed,
            ierrors: raw.ierrors,
            oerrors: raw.oerrors,
            rx_nombuf: raw.rx_nombuf,
        })
    }

    /// Whether the link is up, as the driver says without waiting.
    #[must_use]
    pub fn link_up(&self) -> bool {
        self.link().is_some_and(|link| link.up != 0)
    }

    /// Speed of the link in Mbit/s, where it is up and the driver knows it.
    #[must_use]
    pub fn link_speed(&self) -> Option<u32> {
        self.link()
            .filter(|link| link.up != 0 && link.speed_mbps != 0 && link.speed_mbps != u32::MAX)
            .map(|link| link.speed_mbps)
    }

    /// Sets the largest IP packet, in bytes.
    ///
    /// # Errors
    /// [`Error::Failed`] where the device refuses: some do while they run.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let _one_at_a_time = self.lock();
        set_mtu(self.device.port, mtu)
    }

    fn link(&self) -> Option<sys::sluice_link> {
        let _one_at_a_time = self.lock();
        let mut link = sys::sluice_link::default();
        // SAFETY: the port exists, see `Device`; `link` is written to during the call only.
        let answer = unsafe { sys::sluice_eth_link_get(self.device.port.get(), &raw mut link) };
        (answer == 0).then_some(link)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim on one of DPDK's ports: while it lives nobody else configures, stops or closes that port.
#[derive(Debug)]
pub(crate) struct Device {
    port: PortIndex,
    started: AtomicBool,
}

static CLAIMED: [AtomicBool; sys::RTE_MAX_ETHPORTS as usize] =
    [const { AtomicBool::new(false) }; sys::RTE_MAX_ETHPORTS as usize];

impl Device {
    fn claim(port: PortIndex) -> Result<Self, Error> {
        let free =
            CLAIMED.get(usize::from(port.get())).is_some_and(|claimed| !claimed.swap(true, Ordering::AcqRel));
        if free {
            Ok(Self { port, started: AtomicBool::new(false) })
        } else {
            Err(Error::PortBusy { port: port.get() })
        }
    }

    pub(crate) fn port(&self) -> PortIndex {
        self.port
    }

    fn start(&self, driver: &str) -> Result<(), Error> {
        let port = self.port;
        check(
            || format!("port {port} ({driver}): start"),
            // SAFETY: the port is configured with all its queues (`Port`), and claimed.
            || unsafe { sys::rte_eth_dev_start(port.get()) },
        )?;
        self.started.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let port = self.port.get();
        if self.started.load(Ordering::Acquire) {
            // SAFETY: no queue and no `StartedPort` is left, or there never was one, so nobody polls it.
            unsafe { sys::rte_eth_dev_stop(port) };
        }
        // SAFETY: stopped, or never started. Its rings give their buffers back.
        unsafe { sys::rte_eth_dev_close(port) };
        if let Some(claimed) = CLAIMED.get(usize::from(port)) {
            claimed.store(false, Ordering::Release);
        }
    }
}

fn device_info(port: PortIndex) -> Result<sys::rte_eth_dev_info, Error> {
    let mut raw = sys::rte_eth_dev_info::default();
    check(
        || format!("port {port}: device information"),
        // SAFETY: the EAL runs, as a `PortIndex` shows; `raw` is written to during the call only.
        || unsafe { sys::rte_eth_dev_info_get(port.get(), &raw mut raw) },
    )?;
    Ok(raw)
}

fn driver_name(raw: &sys::rte_eth_dev_info) -> String {
    if raw.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: a terminated string in the driver's static memory.
    let name = unsafe { CStr::from_ptr(raw.driver_name) };
    name.to_string_lossy().into_owned()
}

fn check_limits(port: PortIndex, config: &PortConfig, info: &PortInfo, pool: &Mempool) -> Result<(), Error> {
    let room = pool.data_room().saturating_sub(HEADROOM);
    let limits = [
        ("receive queues", config.rx_queues, info.max_rx_queues),
        ("transmit queues", config.tx_queues, info.max_tx_queues),
        ("mtu", config.mtu, room.saturating_sub(FRAME_OVERHEAD)),
    ];
    for (what, value, limit) in limits {
        if value > limit {
            let what = format!("port {port} ({}): {what}", info.driver);
            return Err(Error::TooLarge { what, value: u64::from(value), limit: u64::from(limit) });
        }
    }
    Ok(())
}

/// What is asked of a device, of what it says it can.
fn offloads(raw: &sys::rte_eth_dev_info, driver: &str, rss: bool) -> u64 {
    let mut wanted = 0;
    // Between virtual machines checksums are left unfinished once the offload is agreed on; the tap driver computes them
    // one by one where we do it along the way.
    let software = ["virtio", "vhost", "tap", "tun"].iter().any(|word| driver.contains(word));
    if !software {
        wanted |= sys::SLUICE_RX_OFFLOAD_IPV4_CKSUM
            | sys::SLUICE_RX_OFFLOAD_UDP_CKSUM
            | sys::SLUICE_RX_OFFLOAD_TCP_CKSUM;
    }
    if rss {
        wanted |= sys::SLUICE_RX_OFFLOAD_RSS_HASH;
    }
    wanted & raw.rx_offload_capa
}

fn set_up_queues(port: PortIndex, config: &PortConfig, info: &PortInfo, pool: &Mempool) -> Result<(), Error> {
    let (mut rx_desc, mut tx_desc) = (config.rx_desc, config.tx_desc);
    check(
        || format!("port {port} ({}): {} and {} descriptors", info.driver, config.rx_desc, config.tx_desc),
        // SAFETY: the port is configured; both numbers are written to during the call only.
        || unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(port.get(), &raw mut rx_desc, &raw mut tx_desc) },
    )?;
    let socket = info.socket.map_or(sys::SOCKET_ID_ANY, i32::from) as u32;
    for queue in 0..config.rx_queues {
        check(
            || format!("port {port} ({}): receive queue {queue} of {rx_desc} descriptors", info.driver),
            // SAFETY: the port is configured, with more queues than `queue`; null means the driver's defaults; the pool was
            // made for packets and lives for ever.
            || unsafe {
                sys::rte_eth_rx_queue_setup(port.get(), queue, rx_desc, socket, std::ptr::null(), pool.raw())
            },
        )?;
    }
    for queue in 0..config.tx_queues {
        check(
            || format!("port {port} ({}): transmit queue {queue} of {tx_desc} descriptors", info.driver),
            // SAFETY: the port is configured, with more queues than `queue`; null means the driver's defaults.
            || unsafe { sys::rte_eth_tx_queue_setup(port.get(), queue, tx_desc, socket, std::ptr::null()) },
        )?;
    }
    Ok(())
}

fn set_mtu(port: PortIndex, mtu: u16) -> Result<(), Error> {
    let mut now = 0;
    // SAFETY: the EAL runs, as a `PortIndex` shows; `now` is written to during the call only.
    let answer = unsafe { sys::rte_eth_dev_get_mtu(port.get(), &raw mut now) };
    // Asked anyway where it is the same: for kernel interfaces `now` is DPDK's guess, not the interface's.
    let set = optional(port, &format!("mtu {mtu}"), || {
        // SAFETY: as above.
        unsafe { sys::rte_eth_dev_set_mtu(port.get(), mtu) }
    });
    if answer == 0 && now == mtu && set.is_err() { Ok(()) } else { set }
}

/// Does what some drivers have no function for, which is no error.
fn optional(port: PortIndex, what: &str, call: impl FnOnce() -> i32) -> Result<(), Error> {
    match check(|| format!("port {port}: {what}"), call) {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

fn mac_address(port: PortIndex) -> Result<[u8; 6], Error> {
    let mut address = sys::rte_ether_addr::default();
    check(
        || format!("port {port}: mac address"),
        // SAFETY: the EAL runs, as a `PortIndex` shows; `address` is written to during the call only.
        || unsafe { sys::rte_eth_macaddr_get(port.get(), &raw mut address) },
    )?;
    Ok(address.addr_bytes)
}
