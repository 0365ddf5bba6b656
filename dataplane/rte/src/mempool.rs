//! Pools of packet buffers, shared by all ports and workers.
//!
//! A pool is never freed: an [`Mbuf`] is a bare pointer into it, and counting references for each packet would cost more than
//! the memory of the few pools that a process makes.
//!
//! Source: DPDK `rte_mbuf.h`, `rte_mempool.h`.

use std::ptr::NonNull;
use std::sync::Arc;

use sluice_dpdk_sys as sys;

use crate::burst::Burst;
use crate::eal::{Eal, SocketId, c_string};
use crate::error::{Error, check, check_pointer};
use crate::mbuf::Mbuf;

/// A pool of buffers; clones are the same pool.
#[derive(Debug, Clone)]
pub struct Mempool {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    raw: NonNull<sys::rte_mempool>,
    data_room: u16,
}

// SAFETY: made with DPDK's default multi-producer, multi-consumer handler and caches per thread: any thread may take from it.
unsafe impl Send for Pool {}
// SAFETY: as above; all calls take the pool by pointer and synchronise themselves.
unsafe impl Sync for Pool {}

impl Mempool {
    /// Makes a pool of `count` buffers of `data_room` bytes (headroom included).
    ///
    /// `cache` buffers are kept back for each registered thread, 512 at most and two thirds of `count` at most: count them in.
    /// `name` is any that no other pool has, 25 characters at most.
    ///
    /// # Errors
    /// [`Error::NoMemory`] where the EAL's memory does not hold it (see [`memory_needed`]); [`Error::TooLarge`] for the cache;
    /// [`Error::Failed`] for a name taken or too long.
    pub fn new(
        eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
        socket: SocketId,
    ) -> Result<Self, Error> {
        let limit = sys::RTE_MEMPOOL_CACHE_MAX_SIZE.min(count.saturating_mul(2) / 3);
        if cache > limit {
            let what = format!("cache of pool {name}");
            return Err(Error::TooLarge { what, value: u64::from(cache), limit: u64::from(limit) });
        }
        let c_name = c_string("pool name", name)?;
        let action = || format!("pool {name} of {count} buffers of {data_room} bytes");
        // Objects that may lie across pages: else without huge pages each would take a whole one, and the AF_XDP driver, which
        // takes the pool to be packed, would share only the first part of it with the kernel and stall in the rest.
        let flags = if eal.has_dma() { 0 } else { sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG };
        let element = sys::SLUICE_MBUF_SIZE + u32::from(data_room);
        let private = size_of::<sys::rte_pktmbuf_pool_private>() as u32;
        let raw = check_pointer(action, || {
            // SAFETY: the EAL runs (`eal`); the name is terminated, and copied.
            unsafe {
                sys::rte_mempool_create_empty(
                    c_name.as_ptr(),
                    count,
                    element,
                    cache,
                    private,
                    socket.0,
                    flags,
                )
            }
        })?;
        if let Err(error) = fill(raw, data_room, action) {
            // SAFETY: made above, and nothing was taken from it.
            unsafe { sys::rte_mempool_free(raw.as_ptr()) };
            return Err(error);
        }
        Ok(Self { pool: Arc::new(Pool { raw, data_room }) })
    }

    /// Takes a buffer: an empty packet behind the headroom. `None` where the pool is empty.
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives for ever and was made for packets.
        let raw = unsafe { sys::sluice_pktmbuf_alloc(self.raw()) };
        // SAFETY: fresh from the pool, so nobody else has it.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Adds `count` empty packets to `burst`; all of them, or none (false) where the burst or the pool has too few.
    #[inline]
    pub fn alloc_bulk(&self, burst: &mut Burst, count: usize) -> bool {
        if count > burst.remaining() {
            return false;
        }
        let to = burst.spare_pointers();
        // SAFETY: the pool lives for ever; `to` has room for `count` pointers.
        let answer = unsafe { sys::sluice_pktmbuf_alloc_bulk(self.raw(), to, count as u32) };
        if answer != 0 {
            return false;
        }
        // SAFETY: `count` fresh mbufs were written there.
        unsafe { burst.grow(count) };
        true
    }

    /// Buffers free, those in threads' caches included. Walks all caches: not for each packet.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives for ever; the counters are read without regard to other threads, as documented.
        unsafe { sys::rte_mempool_avail_count(self.raw()) }
    }

    /// Buffers in use: held as [`Mbuf`], or by devices' receive and transmit rings.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: as in `available`.
        unsafe { sys::rte_mempool_in_use_count(self.raw()) }
    }

    /// Buffers in all.
    #[must_use]
    pub fn size(&self) -> u32 {
        // SAFETY: the pool lives for ever; its size is fixed.
        unsafe { sys::sluice_mempool_size(self.raw()) }
    }

    /// Bytes in a buffer, headroom included.
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.pool.data_room
    }

    #[inline]
    pub(crate) fn raw(&self) -> *mut sys::rte_mempool {
        self.pool.raw.as_ptr()
    }
}

/// Makes an empty mempool one of packets, as `rte_pktmbuf_pool_create` does, which takes no flags.
fn fill(
    raw: NonNull<sys::rte_mempool>,
    data_room: u16,
    action: impl Fn() -> String + Copy,
) -> Result<(), Error> {
    let pool = raw.as_ptr();
    // SAFETY: no preconditions; a terminated string in DPDK's memory.
    let handler = unsafe { sys::rte_mbuf_best_mempool_ops() };
    check(action, || {
        // SAFETY: the pool has no objects yet; the handler's name is terminated.
        unsafe { sys::rte_mempool_set_ops_byname(pool, handler, std::ptr::null_mut()) }
    })?;
    let mut private = sys::rte_pktmbuf_pool_private { mbuf_data_room_size: data_room, ..Default::default() };
    // SAFETY: the pool was made with private data of that type, which is copied.
    unsafe { sys::rte_pktmbuf_pool_init(pool, (&raw mut private).cast()) };
    // SAFETY: the pool has its handler and no objects yet.
    check(action, || unsafe { sys::rte_mempool_populate_default(pool) })?;
    // SAFETY: each object has the size of an mbuf and its data room, as `rte_pktmbuf_init` wants it.
    unsafe { sys::rte_mempool_obj_iter(pool, Some(sys::rte_pktmbuf_init), std::ptr::null_mut()) };
    Ok(())
}

/// Bytes of memory that a pool takes, generously: for [`crate::EalConfig::memory_mb`].
#[must_use]
pub const fn memory_needed(count: u32, data_room: u16) -> u64 {
    // An mbuf's own lines, the object's header and trailer, and padding that spreads objects over memory channels; then the
    // ring of free ones and the caches.
    let object = (data_room as u64).next_multiple_of(64) + sys::SLUICE_MBUF_SIZE as u64 + 64 + 64;
    (count as u64) * (object + 16) + (2 << 20)
}
