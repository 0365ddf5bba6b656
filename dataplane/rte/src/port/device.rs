//! One of DPDK's ports: who has it, what it is, and what can be asked of it at any time.
//!
//! Source: DPDK `rte_ethdev.h`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_dpdk_sys as sys;

use crate::eal::{Eal, PortIndex};
use crate::error::{Error, check, is_unsupported};

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

    pub(super) fn of(port: PortIndex, raw: &sys::rte_eth_dev_info) -> Self {
        // SAFETY: the EAL runs, as a `PortIndex` shows; answers -1 for what is not known.
        let socket = unsafe { sys::rte_eth_dev_socket_id(port.get()) };
        let driver = driver_name(raw);
        let most = if driver == TAP { TAP_MAX_QUEUES } else { u16::MAX };
        Self {
            driver,
            max_rx_queues: raw.max_rx_queues.min(most),
            max_tx_queues: raw.max_tx_queues.min(most),
            reta_size: raw.reta_size,
            socket: u16::try_from(socket).ok(),
        }
    }
}

const TAP: &str = "net_tap";

/// At its start the tap driver puts the descriptors of all its queues, receive and transmit, into an array of this size, and
/// writes past the end if there are more.
const TAP_MAX_QUEUES: u16 = (sys::RTE_MP_MAX_FD_NUM / 2) as u16;

/// A claim on one of DPDK's ports: while it lives nobody else configures, stops or closes that port.
#[derive(Debug)]
pub(crate) struct Device {
    port: PortIndex,
    started: AtomicBool,
}

static CLAIMED: [AtomicBool; sys::RTE_MAX_ETHPORTS as usize] =
    [const { AtomicBool::new(false) }; sys::RTE_MAX_ETHPORTS as usize];

impl Device {
    pub(super) fn claim(port: PortIndex) -> Result<Self, Error> {
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

    pub(super) fn start(&self, driver: &str) -> Result<(), Error> {
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

pub(super) fn device_info(port: PortIndex) -> Result<sys::rte_eth_dev_info, Error> {
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

/// Does what some drivers have no function for, which is no error.
pub(super) fn optional(port: PortIndex, what: &str, call: impl FnOnce() -> i32) -> Result<(), Error> {
    match check(|| format!("port {port}: {what}"), call) {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn mac_address(port: PortIndex) -> Result<[u8; 6], Error> {
    let mut address = sys::rte_ether_addr::default();
    check(
        || format!("port {port}: mac address"),
        // SAFETY: the EAL runs, as a `PortIndex` shows; `address` is written to during the call only.
        || unsafe { sys::rte_eth_macaddr_get(port.get(), &raw mut address) },
    )?;
    Ok(address.addr_bytes)
}
