//! Up to 64 packets on their way between queues, without heap: what a poll fills and a transmit empties.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::slice;

use sluice_dpdk_sys as sys;

use crate::mbuf::Mbuf;

/// Packets that one poll asks a queue for. Vector drivers round down to multiples of 4 or 8, so leave that much room.
pub const BURST: usize = 32;

/// A fixed array of owned packets, in order. Derefs to a slice of them; whatever is in it when it is dropped is freed.
pub struct Burst {
    /// The first `len` are initialised. `MaybeUninit<Mbuf>` has the layout of the pointers that DPDK reads and writes.
    slots: [MaybeUninit<Mbuf>; Burst::CAPACITY],
    len: usize,
}

impl Burst {
    /// Packets that fit: two polls' worth, so that what a transmit left and a new poll go together.
    pub const CAPACITY: usize = 2 * BURST;

    /// An empty one.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: [const { MaybeUninit::uninit() }; Self::CAPACITY], len: 0 }
    }

    /// Packets that still fit.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        Self::CAPACITY - self.len
    }

    /// Whether no more packets fit.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == Self::CAPACITY
    }

    /// Adds a packet at the end, or gives it back where there is no room.
    ///
    /// # Errors
    /// The packet itself, when the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.slots.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes the last packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        let slot = self.slots.get(self.len.checked_sub(1)?)?;
        self.len -= 1;
        // SAFETY: the slot was below `len`, so it is initialised, and it is above `len` from here on, so read once.
        Some(unsafe { slot.assume_init_read() })
    }

    /// Takes packet `index`; the last one moves to its place.
    #[inline]
    pub fn swap_remove(&mut self, index: usize) -> Option<Mbuf> {
        let last = self.len.checked_sub(1)?;
        if index > last {
            return None;
        }
        self.slots.swap(index, last);
        self.pop()
    }

    /// Takes all packets, in order; those not taken when the iterator goes are freed.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let end = self.len;
        // From here on the iterator owns them: should it be forgotten, they leak and are not freed twice.
        self.len = 0;
        Drain { slots: self.slots.get_mut(..end).unwrap_or_default().iter_mut() }
    }

    /// Moves packets from the front of `other` to the end of this one, in order, as many as fit; returns how many.
    #[inline]
    pub fn append(&mut self, other: &mut Burst) -> usize {
        let count = self.remaining().min(other.len);
        for (to, from) in self.spare().iter_mut().zip(other.slots.iter_mut()).take(count) {
            std::mem::swap(to, from);
        }
        self.len += count;
        other.forget_front(count);
        count
    }

    /// Frees all packets, in one call.
    #[inline]
    pub fn clear(&mut self) {
        let count = self.len;
        self.len = 0;
        if count > 0 {
            // SAFETY: the first `count` slots hold one mbuf each, owned here, and are taken as empty from now on.
            unsafe { sys::rte_pktmbuf_free_bulk(self.slots.as_mut_ptr().cast(), count as u32) };
        }
    }

    /// Where DPDK writes up to `remaining()` pointers to; [`Burst::grow`] takes them in.
    #[inline]
    pub(crate) fn spare_pointers(&mut self) -> *mut *mut sys::rte_mbuf {
        self.spare().as_mut_ptr().cast()
    }

    /// Takes in `count` packets that DPDK wrote behind the last one, and returns them.
    ///
    /// # Safety
    /// DPDK wrote `count` owned mbufs, at most `remaining()`, to `spare_pointers()`.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) -> &mut [Mbuf] {
        let before = self.len;
        self.len += count;
        self.get_mut(before..).unwrap_or_default()
    }

    /// Where DPDK reads the packets' pointers from.
    #[inline]
    pub(crate) fn pointers(&mut self) -> *mut *mut sys::rte_mbuf {
        self.slots.as_mut_ptr().cast()
    }

    /// Gives up the first `count` packets, which have another owner now; the others move to the front.
    #[inline]
    pub(crate) fn forget_front(&mut self, count: usize) {
        if let Some(all) = self.slots.get_mut(..self.len)
            && count <= all.len()
        {
            all.rotate_left(count);
            self.len -= count;
        }
    }

    #[inline]
    fn spare(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        self.slots.get_mut(self.len..).unwrap_or_default()
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` slots are initialised, and `MaybeUninit<Mbuf>` has the layout of `Mbuf`.
        unsafe { slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Burst {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "Burst({} packets)", self.len)
    }
}

/// Owned packets out of a [`Burst`], see [`Burst::drain`].
#[derive(Debug)]
pub struct Drain<'a> {
    /// Initialised, and owned by this iterator.
    slots: slice::IterMut<'a, MaybeUninit<Mbuf>>,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        let slot = self.slots.next()?;
        // SAFETY: `drain` handed over initialised slots only, and each is visited once.
        Some(unsafe { slot.assume_init_read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        for mbuf in self.by_ref() {
            drop(mbuf);
        }
    }
}
