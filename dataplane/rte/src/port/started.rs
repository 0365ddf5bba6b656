//! A port that runs: its counters, its link, its address. For control, not for the packet path.
//!
//! Source: DPDK `rte_ethdev.h`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_dpdk_sys as sys;

use crate::eal::PortIndex;
use crate::error::{Error, check};
use crate::port::device::{Device, PortInfo, optional};
use crate::rss::RssState;

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
    pub(super) fn new(device: Arc<Device>, info: PortInfo, mac: [u8; 6], rss: RssState) -> Self {
        Self { device, info, mac, rss, control: Mutex::new(()) }
    }

    /// The port's number, as its packets carry it.
    #[must_use]
    pub fn index(&self) -> PortIndex {
        self.device.port()
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

    /// Whether packets arrive at the queue of their flow's owner, with or without the hash in the mbuf (virtio: without).
    #[must_use]
    pub fn rss_steering(&self) -> bool {
        self.rss.steering
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
        let port = self.device.port();
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
        set_mtu(self.device.port(), mtu)
    }

    fn link(&self) -> Option<sys::sluice_link> {
        let _one_at_a_time = self.lock();
        let mut link = sys::sluice_link::default();
        // SAFETY: the port exists, see `Device`; `link` is written to during the call only.
        let answer = unsafe { sys::sluice_eth_link_get(self.device.port().get(), &raw mut link) };
        (answer == 0).then_some(link)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
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

pub(super) fn set_mtu(port: PortIndex, mtu: u16) -> Result<(), Error> {
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
