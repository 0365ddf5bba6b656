//! A ring of packets from one thread to another: how a packet gets to the worker that owns its flow.
//!
//! Single producer, single consumer, no locks, no waiting: what does not fit stays with the producer.
//!
//! Source: DPDK `rte_ring.h`.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use sluice_dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::eal::{Eal, SocketId, c_string};
use crate::error::{Error, check_pointer};

/// Makes a ring for at least `capacity` packets, rounded up to a power of two less one.
///
/// `name` is any that no other ring has, 25 characters at most. When both ends are dropped, packets still in it are freed.
///
/// # Errors
/// [`Error::NoMemory`]; [`Error::Failed`] for a name taken or too long, or a capacity over 2^31.
pub fn spsc_ring(_eal: &Eal, name: &str, capacity: u32) -> Result<(RingProducer, RingConsumer), Error> {
    let c_name = c_string("ring name", name)?;
    let Some(slots) = capacity.checked_add(1).and_then(u32::checked_next_power_of_two) else {
        let what = format!("capacity of ring {name}");
        return Err(Error::TooLarge { what, value: u64::from(capacity), limit: u64::from(i32::MAX as u32) });
    };
    let flags = sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ;
    let raw = check_pointer(
        || format!("ring {name} for {capacity} packets"),
        // SAFETY: the EAL runs (`_eal`); the name is terminated, and copied.
        || unsafe { sys::rte_ring_create(c_name.as_ptr(), slots, SocketId::ANY.0, flags) },
    )?;
    let ring = Arc::new(Ring { raw });
    let producer = RingProducer { ring: Arc::clone(&ring), _one_thread: PhantomData };
    Ok((producer, RingConsumer { ring, _one_thread: PhantomData }))
}

/// The end that packets go in at.
#[derive(Debug)]
pub struct RingProducer {
    ring: Arc<Ring>,
    /// Not `Sync`: the ring has one producer at a time.
    _one_thread: PhantomData<Cell<()>>,
}

impl RingProducer {
    /// Moves packets of `burst` into the ring, from the first on, and returns how many went. The others stay in the burst.
    #[inline]
    pub fn enqueue(&mut self, burst: &mut Burst) -> usize {
        let offered = burst.len() as u32;
        // SAFETY: the ring lives while `self.ring` does; this is its only producer, borrowed mutably; the first `offered`
        // pointers are owned mbufs.
        let moved =
            unsafe { sys::sluice_ring_sp_enqueue_burst(self.ring.raw.as_ptr(), burst.pointers(), offered) };
        // The ring owns the first `moved` now.
        burst.forget_front(moved as usize);
        moved as usize
    }
}

/// The end that packets come out at.
#[derive(Debug)]
pub struct RingConsumer {
    ring: Arc<Ring>,
    /// Not `Sync`: the ring has one consumer at a time.
    _one_thread: PhantomData<Cell<()>>,
}

impl RingConsumer {
    /// Adds up to [`BURST`] packets out of the ring to `burst`, in order, and returns how many came.
    #[inline]
    pub fn dequeue(&mut self, burst: &mut Burst) -> usize {
        self.ring.dequeue(burst)
    }
}

#[derive(Debug)]
struct Ring {
    raw: NonNull<sys::rte_ring>,
}

// SAFETY: a ring is plain memory with no tie to a thread.
unsafe impl Send for Ring {}
// SAFETY: reached through one `RingProducer` and one `RingConsumer` only, neither of which is `Sync` or `Clone`, and a
// single producer and a single consumer may work at once.
unsafe impl Sync for Ring {}

impl Ring {
    /// To be called by the one consumer.
    #[inline]
    fn dequeue(&self, burst: &mut Burst) -> usize {
        let room = burst.remaining().min(BURST) as u32;
        let to = burst.spare_pointers();
        // SAFETY: the ring lives while `self` does; the caller is its only consumer; `to` has room for `room` pointers.
        let count = unsafe { sys::sluice_ring_sc_dequeue_burst(self.raw.as_ptr(), to, room) };
        // SAFETY: `count <= room` mbufs were written there, and the ring gave them up.
        unsafe { burst.grow(count as usize) };
        count as usize
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut left = Burst::new();
        while self.dequeue(&mut left) > 0 {
            left.clear();
        }
        // SAFETY: both ends are gone, so this is the last use; the ring was made by `rte_ring_create`.
        unsafe { sys::rte_ring_free(self.raw.as_ptr()) };
    }
}
