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

/// How many of some numbers in order are not above `value`.
#[inline(always)]
pub fn not_above(numbers: &[u32; 14], value: u32) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86_64 target.
    unsafe {
        not_above_sse2(numbers, value)
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    numbers.iter().filter(|number| **number <= value).count()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn not_above_sse2(numbers: &[u32; 14], value: u32) -> usize {
    use std::arch::x86_64::{_mm_cmpgt_epi32, _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32};
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *numbers;
    let value = signed([value; 4]);
    let above = |four| _mm_cmpgt_epi32(signed(four), value);
    // The last four overlap those before them: lanes 12 and 13 say again what 10 and 11 do.
    let low = _mm_packs_epi32(above([a, b, c, d]), above([e, f, g, h]));
    let high = _mm_packs_epi32(above([i, j, k, l]), above([k, l, m, n]));
    let above = _mm_movemask_epi8(_mm_packs_epi16(low, high)) | 1 << 16;
    let first = above.trailing_zeros() as usize;
    if first < 12 { first } else { first - 2 }
}

/// In which of four ranges, from the first numbers to the last ones, a value is: bit n for the nth.
#[inline(always)]
pub fn within_32(ranges: &[[u32; 4]; 2], value: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86_64 target.
    unsafe {
        within_32_sse2(ranges, value)
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    bits_of(ranges[0].iter().zip(&ranges[1]).map(|(first, last)| (*first..=*last).contains(&value)))
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn within_32_sse2([first, last]: &[[u32; 4]; 2], value: u32) -> u32 {
    use std::arch::x86_64::{_mm_castsi128_ps, _mm_cmpgt_epi32, _mm_movemask_ps, _mm_or_si128};
    let value = signed([value; 4]);
    let (below, above) = (_mm_cmpgt_epi32(signed(*first), value), _mm_cmpgt_epi32(value, signed(*last)));
    !_mm_movemask_ps(_mm_castsi128_ps(_mm_or_si128(below, above))).cast_unsigned() & 0xf
}

/// The same of eight ranges of smaller numbers: the first value is looked for in the first four, the second in the others.
#[inline(always)]
pub fn within_16(ranges: &[[u16; 8]; 2], values: [u16; 2]) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86_64 target.
    unsafe {
        within_16_sse2(ranges, values)
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    {
        let values = values.iter().flat_map(|value| [*value; 4]);
        let ranges = ranges[0].iter().zip(&ranges[1]);
        bits_of(ranges.zip(values).map(|((first, last), value)| (*first..=*last).contains(&value)))
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn within_16_sse2([first, last]: &[[u16; 8]; 2], [a, b]: [u16; 2]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_or_si128, _mm_packs_epi16, _mm_setzero_si128, _mm_subs_epu16,
    };
    let values = vector_16([a, a, a, a, b, b, b, b]);
    // Saturated differences: 0 where the one is not above the other.
    let below = _mm_subs_epu16(vector_16(*first), values);
    let above = _mm_subs_epu16(values, vector_16(*last));
    let within = _mm_cmpeq_epi16(_mm_or_si128(below, above), _mm_setzero_si128());
    _mm_movemask_epi8(_mm_packs_epi16(within, _mm_setzero_si128())).cast_unsigned()
}

/// Which of four masks give their value with `word`: bit n for the nth. Masks, then values.
#[inline(always)]
pub fn equal_masked(pairs: &[[u64; 4]; 2], word: u64) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of every x86_64 target.
    unsafe {
        equal_masked_sse2(pairs, word)
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    bits_of(pairs[0].iter().zip(&pairs[1]).map(|(mask, value)| word & mask == *value))
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_masked_sse2([masks, values]: &[[u64; 4]; 2], word: u64) -> u32 {
    use std::arch::x86_64::{
        _mm_and_ps, _mm_and_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_ps, _mm_set_epi64x,
        _mm_set1_epi64x, _mm_shuffle_ps,
    };
    let word = _mm_set1_epi64x(word.cast_signed());
    let two = |a: u64, b: u64| _mm_set_epi64x(b.cast_signed(), a.cast_signed());
    let equal = |mask, value| _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_and_si128(mask, word), value));
    let ([a, b, c, d], [e, f, g, h]) = (*masks, *values);
    let (low, high) = (equal(two(a, b), two(e, f)), equal(two(c, d), two(g, h)));
    // Halves of each word: the even ones, the odd ones.
    let (even, odd) = (_mm_shuffle_ps::<0x88>(low, high), _mm_shuffle_ps::<0xdd>(low, high));
    _mm_movemask_ps(_mm_and_ps(even, odd)).cast_unsigned()
}

/// Numbers in an order that comparisons of signed ones see.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn signed([a, b, c, d]: [u32; 4]) -> std::arch::x86_64::__m128i {
    use std::arch::x86_64::{_mm_set_epi32, _mm_set1_epi32, _mm_xor_si128};
    let four = _mm_set_epi32(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed());
    _mm_xor_si128(four, _mm_set1_epi32(i32::MIN))
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "sse2")]
fn vector_16(numbers: [u16; 8]) -> std::arch::x86_64::__m128i {
    let [a, b, c, d, e, f, g, h] = numbers.map(u16::cast_signed);
    std::arch::x86_64::_mm_set_epi16(h, g, f, e, d, c, b, a)
}

#[cfg(any(not(target_arch = "x86_64"), miri))]
fn bits_of(answers: impl Iterator<Item = bool>) -> u32 {
    answers.enumerate().fold(0, |bits, (n, yes)| bits | u32::from(yes) << n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// Numbers that meet each other, at both ends and in the middle.
    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..4, Just(0x7fff_ffff), Just(0x8000_0000), Just(0x8000_0001), u32::MAX - 3..=u32::MAX]
    }

    fn numbers<const N: usize>() -> impl Strategy<Value = [u32; N]> {
        prop::collection::vec(number(), N).prop_map(|numbers| numbers.try_into().unwrap())
    }

    fn bits(answers: impl Iterator<Item = bool>) -> u32 {
        answers.enumerate().map(|(n, yes)| u32::from(yes) << n).sum()
    }

    proptest! {
        #[test]
        fn numbers_not_above_another_are_counted(mut sorted in numbers::<14>(), value in number()) {
            sorted.sort_unstable();
            prop_assert_eq!(not_above(&sorted, value), sorted.iter().filter(|n| **n <= value).count());
        }

        #[test]
        fn ranges_around_a_value_are_told(first in numbers(), last in numbers(), value in number()) {
            let within = first.iter().zip(last).map(|(first, last)| (*first..=last).contains(&value));
            prop_assert_eq!(within_32(&[first, last], value), bits(within));
        }

        #[test]
        fn small_ranges_too(first in numbers::<8>(), last in numbers::<8>(), a in number(), b in number()) {
            // The upper halves of numbers meet each other as well.
            let [first, last] = [first, last].map(|list| list.map(|n| (n >> 16) as u16 ^ n as u16));
            let [a, b] = [a, b].map(|n| (n >> 16) as u16 ^ n as u16);
            let values = [a, a, a, a, b, b, b, b];
            let within =
                first.iter().zip(last).zip(values).map(|((first, last), value)| (*first..=last).contains(&value));
            prop_assert_eq!(within_16(&[first, last], [a, b]), bits(within));
        }

        #[test]
        fn masked_words_are_compared_whole(
            masks in any::<[u64; 4]>(), word: u64, flips in prop::collection::vec((0usize..4, 0u32..64), 0..3),
        ) {
            let mut values = masks.map(|mask| mask & word);
            for (n, bit) in flips {
                values[n] ^= 1 << bit;
            }
            let equal = masks.iter().zip(values).map(|(mask, value)| word & mask == value);
            prop_assert_eq!(equal_masked(&[masks, values], word), bits(equal));
        }
    }
}
