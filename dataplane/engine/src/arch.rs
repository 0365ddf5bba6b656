//! The one place of this crate that may speak to the processor: asking for a cache line before it is needed.
#![allow(unsafe_code, reason = "prefetch has no safe form in the standard library; see docs/ARCHITECTURE.md")]

/// Asks for the cache line that `place` begins in. Only a hint: nothing is read that the program can see.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of every x86_64 target, and a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast::<i8>()) };
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = place;
}
