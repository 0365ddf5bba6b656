//! The one place of this crate that may speak to the processor: asking for a cache line before it is needed, comparing
//! several numbers at once.
#![allow(
    unsafe_code,
    reason = "none of it has a safe form in the standard library; see docs/ARCHITECTURE.md"
)]

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

/// Asks for the cache line that `place` ends in, as [`prefetch`] does for the one that it begins in.
#[inline(always)]
pub fn prefetch_end<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let end = std::ptr::from_ref(place).cast::<i8>().wrapping_add(size_of::<T>().saturating_sub(1));
        // SAFETY: SSE is part of every x86_64 target, and a prefetch never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(end) };
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = place;
}

/// Which of the sixteen 16-bit lanes of four words equal `tag`: bit n for lane n, the lowest of the first word being 0.
#[inline(always)]
pub fn equal_lanes(words: &[u64; 4], tag: u16) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86_64 target.
    unsafe {
        equal_lanes_sse2(words, tag)
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    {
        let lanes = words.iter().flat_map(|word| (0..4).map(move |lane| (word >> (16 * lane)) as u16));
        lanes.enumerate().fold(0, |bits, (at, lane)| bits | u32::from(lane == tag) << at)
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_lanes_sse2(words: &[u64; 4], tag: u16) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16,
    };
    let [a, b, c, d] = words.map(u64::cast_signed);
    let wanted = _mm_set1_epi16(tag.cast_signed());
    let low = _mm_cmpeq_epi16(_mm_set_epi64x(b, a), wanted);
    let high = _mm_cmpeq_epi16(_mm_set_epi64x(d, c), wanted);
    _mm_movemask_epi8(_mm_packs_epi16(low, high)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lanes_are_told_by_their_place() {
        let words = [0x0007_0001_0002_0003, 0x0007_ffff_8000_0007, 0, 0x7fff_0000_0007_0100];
        for (tag, expected) in
            [(7, 1 << 3 | 1 << 4 | 1 << 7 | 1 << 13), (0xffff, 1 << 6), (0x8000, 1 << 5), (9, 0)]
        {
            assert_eq!(equal_lanes(&words, tag), expected, "{tag:#x}");
        }
        assert_eq!(equal_lanes(&words, 0), 0xf00 | 1 << 14);
    }
}
