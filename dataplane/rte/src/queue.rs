//! Receive and transmit queues of a started port: one owner each, a burst at a time.
//!
//! Source: DPDK `rte_ethdev.h`, `rte_eth_rx_burst`, `rte_eth_tx_burst`.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use sluice_dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::port::Device;

/// A receive queue of a started port. Keeps the port running while it lives.
#[derive(Debug)]
pub struct RxQueue {
    device: Arc<Device>,
    port: u16,
    queue: u16,
    /// Flags that this device sets and must not be believed in; most often none.
    distrusted: u64,
    /// Not `Sync`: DPDK allows one thread at a time in a queue.
    _one_thread: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(device: Arc<Device>, queue: u16, distrusted: u64) -> Self {
        let port = device.port().get();
        Self { device, port, queue, distrusted, _one_thread: PhantomData }
    }

    /// Adds up to [`BURST`] received packets to `burst` and returns how many came. Never waits.
    ///
    /// A vector driver may give none where less than a [`BURST`] of room is left.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let room = burst.remaining().min(BURST) as u16;
        let to = burst.spare_pointers();
        // SAFETY: the port is started and stays so while `device` lives; the queue exists and only this value, borrowed
        // mutably, stands for it; `to` has room for `room` pointers.
        let count = unsafe { sys::sluice_eth_rx_burst(self.port, self.queue, to, room) };
        // SAFETY: the driver wrote `count <= room` mbufs there and gave them up.
        let received = unsafe { burst.grow(usize::from(count)) };
        if self.distrusted != 0 {
            for mbuf in received {
                mbuf.clear_flags(self.distrusted);
            }
        }
        usize::from(count)
    }

    /// The queue's number on its port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The port's number, as its packets carry it ([`crate::Mbuf::port`]).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.device.port().get()
    }
}

/// A transmit queue of a started port. Keeps the port running while it lives.
#[derive(Debug)]
pub struct TxQueue {
    device: Arc<Device>,
    port: u16,
    queue: u16,
    /// Not `Sync`: DPDK allows one thread at a time in a queue.
    _one_thread: PhantomData<Cell<()>>,
}

impl TxQueue {
    pub(crate) fn new(device: Arc<Device>, queue: u16) -> Self {
        let port = device.port().get();
        Self { device, port, queue, _one_thread: PhantomData }
    }

    /// Hands the packets of `burst` to the device, from the first on, and returns how many it took. The others stay in the
    /// burst, in order: the caller tries again or drops them. Never waits.
    #[inline]
    pub fn transmit(&mut self, burst: &mut Burst) -> usize {
        let offered = burst.len() as u16;
        if offered == 0 {
            return 0;
        }
        // SAFETY: the port is started and stays so while `device` lives; the queue exists and only this value, borrowed
        // mutably, stands for it; the first `offered` pointers are owned mbufs.
        let sent = unsafe { sys::sluice_eth_tx_burst(self.port, self.queue, burst.pointers(), offered) };
        // The driver owns the first `sent` now, and frees them when they are out.
        burst.forget_front(usize::from(sent));
        usize::from(sent)
    }

    /// The queue's number on its port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The port's number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.device.port().get()
    }
}
