//! Large tables on huge pages: an allocator that asks the kernel for them (transparent ones, so none need be set aside).
//!
//! A look-up in a table of many megabytes costs a walk of the page tables for each line it touches, where pages are of 4 KiB.
//! The engine's tables come from plain vectors, so this is done where all memory comes from. Nothing is touched here that
//! was not asked for: a table that is allocated zeroed stays without memory until it is used.
//!
//! Source: madvise(2), MADV_HUGEPAGE.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Range;

/// The system's allocator, with huge pages for what is large. For `#[global_allocator]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LargePageAllocator;

/// Bytes of a huge page, on all machines that matter; elsewhere the kernel rounds as it likes.
const HUGE: usize = 2 << 20;

/// Bytes of the smallest page.
const PAGE: usize = 4096;

/// From this size on it is worth a system call.
const LARGE: usize = 2 * HUGE;

// SAFETY: every call is the system allocator's own; advice changes no contents and no address.
unsafe impl GlobalAlloc for LargePageAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::alloc`.
        let at = unsafe { System.alloc(layout) };
        advise(at, layout.size());
        at
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::alloc_zeroed`.
        let at = unsafe { System.alloc_zeroed(layout) };
        advise(at, layout.size());
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::dealloc`, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `GlobalAlloc::realloc`, and `at` came from `System`.
        let at = unsafe { System.realloc(at, layout, size) };
        advise(at, size);
        at
    }
}

/// Asks for huge pages in the whole ones of a range, if it is large.
#[inline]
fn advise(at: *mut u8, size: usize) {
    if size < LARGE || at.is_null() {
        return;
    }
    let skip = at.addr().next_multiple_of(HUGE) - at.addr();
    let whole = (size - skip) / HUGE * HUGE;
    let from = at.wrapping_add(skip);
    // SAFETY: the range lies within an allocation of ours, and advice changes neither its contents nor who may use it. Where
    // the kernel has no huge pages to give it says so, and nothing is lost.
    unsafe { libc::madvise(from.cast(), whole, libc::MADV_HUGEPAGE) };
}

/// Has the kernel give memory for a range of addresses now, so that nobody waits for it at the first touch: half a
/// millisecond for a huge page, of which a worker polls in less. Contents stay as they are. False where the kernel does not
/// (before Linux 5.14, or nothing is left); then the first touch does, as ever.
///
/// Source: madvise(2), `MADV_POPULATE_WRITE`.
pub fn populate(range: Range<usize>) -> bool {
    if range.is_empty() {
        return true;
    }
    let from = range.start / PAGE * PAGE;
    let length = range.end - from;
    let at = std::ptr::without_provenance_mut::<libc::c_void>(from);
    // SAFETY: no memory is read or written for the program: pages are made as a write would make them, with their
    // contents kept, and what is not mapped, or not writable, is refused. So any range may be asked for.
    unsafe { libc::madvise(at, length, libc::MADV_POPULATE_WRITE) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_there_before_it_is_touched() {
        let memory = vec![7u8; 3 * PAGE];
        let from = memory.as_ptr().addr();
        assert!(populate(from + 5..from + memory.len()));
        assert!(memory.iter().all(|byte| *byte == 7));
        assert!(populate(9..9));
        assert!(!populate(0..PAGE), "nothing is mapped there");
    }

    #[test]
    fn what_is_large_is_zeroed_grows_and_goes() {
        for size in [64, LARGE - 1, LARGE, LARGE + HUGE + 5] {
            let layout = Layout::from_size_align(size, 64).unwrap();
            // SAFETY: the size is not 0.
            let at = unsafe { LargePageAllocator.alloc_zeroed(layout) };
            assert!(!at.is_null());
            let last = at.wrapping_add(size - 1);
            // SAFETY: within the allocation, zeroed above.
            assert_eq!(unsafe { last.read() }, 0);
            // SAFETY: within the allocation.
            unsafe { at.write(7) };
            // SAFETY: allocated above with `layout`; the new size is not 0.
            let at = unsafe { LargePageAllocator.realloc(at, layout, size * 2) };
            // SAFETY: kept by `realloc`.
            assert_eq!(unsafe { at.read() }, 7);
            let layout = Layout::from_size_align(size * 2, 64).unwrap();
            // SAFETY: allocated above, of that size now.
            unsafe { LargePageAllocator.dealloc(at, layout) };
        }
    }
}
