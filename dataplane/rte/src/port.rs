//! A port's life: configured, started with all its queues, stopped when nobody has it any more.
//!
//! Receive offloads asked for: checksums, of real NICs; the RSS hash. Never VLAN stripping, scatter or LRO.
//!
//! Source: DPDK `rte_ethdev.h`.

mod device;
mod started;

use std::sync::Arc;

use sluice_dpdk_sys as sys;

use crate::eal::{Eal, PortIndex};
use crate::error::{Error, check};
use crate::mbuf::HEADROOM;
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::rss::{RssRequest, RssState, program_reta};

pub(crate) use device::Device;
pub use device::PortInfo;
use device::{device_info, mac_address, optional};
use started::set_mtu;
pub use started::{PortStats, StartedPort};

/// Bytes of a frame beyond the MTU: Ethernet header and two VLAN tags. Devices leave the FCS out of the buffer.
const FRAME_OVERHEAD: u16 = 14 + 4 + 4;

/// Drivers whose MTU is that of a kernel interface that was there before. DPDK takes none above 1500 for these, though they
/// receive whatever fits their buffers.
const OF_KERNEL_INTERFACES: [&str; 2] = ["net_af_packet", "net_af_xdp"];

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
    /// Bytes of the largest IP packet; 0 leaves the device's own. The MTU of a kernel interface behind AF_PACKET or AF_XDP is
    /// not touched: it is the caller's to set, and to put back.
    pub mtu: u16,
    /// Takes in packets for any MAC address. Sets that on the kernel interface behind AF_PACKET, and does not take it back;
    /// such a port receives them all anyway.
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
        set_up_queues(port, &config, &info, pool).map_err(|error| error.or_not_permitted(&info.driver))?;
        if config.mtu != 0 && !OF_KERNEL_INTERFACES.contains(&info.driver.as_str()) {
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
        let port = self.device.port();
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
        let started = StartedPort::new(device, self.info, mac, rss);
        Ok((started, rx, tx))
    }

    /// What the device is and can do.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    fn set_up_rss(&self) -> RssState {
        let Some(request) = &self.rss else { return RssState::default() };
        let port = self.device.port();
        let table = program_reta(port, self.info.reta_size, self.config.rx_queues);
        let ours = request.verify_hash(port);
        RssState { hash: ours && self.delivers_hash, steering: ours && table }
    }
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
