//! What every packing's kernels share: their signatures and a few vector steps.

use super::BLOCK_ROWS;

/// `y[r] = sum of code[r] * x` over one block of 32 rows, codes unsigned (weight + 1); `x` in the order of
/// [`super::activations`], zero-padded to the block's last step.
pub(super) type GemvBlock = fn(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]);

/// Unpacks lanes `first ..` of a block to one byte a weight: `tile[128·i + 4·r + j]` is the code of row r that
/// meets activation `4·(first + i) + j`. The tile's length says how many.
pub(super) type Unpack = fn(w: &[u8], first: usize, tile: &mut [u8]);

/// Codes (weight + 1) of 32 rows in column order, each row padded with weight 0 (code 1).
pub(super) struct BlockCodes<'a> {
    codes: &'a [u8],
    stride: usize,
}

impl<'a> BlockCodes<'a> {
    /// Views 32 rows of `stride` codes.
    pub(super) fn new(codes: &'a [u8], stride: usize) -> BlockCodes<'a> {
        assert_eq!(codes.len(), BLOCK_ROWS * stride, "32 rows of codes");
        BlockCodes { codes, stride }
    }

    /// One row, padding included.
    pub(super) fn row(&self, row: usize) -> &'a [u8] {
        &self.codes[row * self.stride..][..self.stride]
    }
}

#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod x86 {
    use std::arch::x86_64::*;

    /// Software prefetch distance in bytes: far enough to cover a memory latency of 100 ns at 30 GB/s, within
    /// the reach of the next page (a hardware prefetcher stops at page ends).
    pub(in crate::cpu) const AHEAD: usize = 4096;

    /// Steps whose products fit 16 bits: see the packing's own derivation.
    pub(in crate::cpu) const STEPS_IN_16_BITS: usize = 8;

    /// Asks for the cache line `ahead` bytes after `at`. May point past the buffer: a prefetch never faults.
    #[inline]
    #[target_feature(enable = "sse")]
    pub(in crate::cpu) fn prefetch<T>(at: &T, ahead: usize) {
        _mm_prefetch::<_MM_HINT_T0>((&raw const *at).cast::<i8>().wrapping_add(ahead));
    }

    /// 32 bytes at `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu) fn load<const N: usize>(bytes: &[u8; N], offset: usize) -> __m256i {
        assert!(offset + 32 <= N);
        // SAFETY: the range was checked on the line above; the load may be unaligned.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().add(offset).cast()) }
    }

    /// Stores 32 bytes at element `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu) fn store<T: Copy, const N: usize>(
        to: &mut [T; N],
        offset: usize,
        v: __m256i,
    ) {
        assert!((offset + 32 / size_of::<T>()) <= N);
        // SAFETY: the range was checked on the line above; T is a plain number of 1 to 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(offset).cast(), v) }
    }

    /// The four activations at `offset`, in every lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu) fn broadcast<const N: usize>(x: &[i8; N], offset: usize) -> __m256i {
        _mm256_set1_epi32(four(x, offset))
    }

    /// 64 bytes at `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) fn load512<const N: usize>(bytes: &[u8; N], offset: usize) -> __m512i {
        assert!(offset + 64 <= N);
        // SAFETY: the range was checked on the line above; the load may be unaligned.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().add(offset).cast()) }
    }

    /// Stores 64 bytes at element `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) fn store512<T: Copy, const N: usize>(
        to: &mut [T; N],
        offset: usize,
        v: __m512i,
    ) {
        assert!((offset + 64 / size_of::<T>()) <= N);
        // SAFETY: the range was checked on the line above; T is a plain number of 1 to 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(offset).cast(), v) }
    }

    /// The four activations at `offset`, in every lane.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) fn broadcast512<const N: usize>(x: &[i8; N], offset: usize) -> __m512i {
        _mm512_set1_epi32(four(x, offset))
    }

    #[inline]
    fn four<const N: usize>(x: &[i8; N], offset: usize) -> i32 {
        assert!(offset + 4 <= N);
        // SAFETY: the range was checked on the line above; the read may be unaligned.
        unsafe { x.as_ptr().add(offset).cast::<i32>().read_unaligned() }
    }

    /// Adds the products of four 2-bit fields: fields 0 and 2 to `ones`, fields 1 and 3, times four, to `fours`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu) fn fields_avx2(
        p: __m256i,
        x: [__m256i; 4],
        ones: &mut __m256i,
        fours: &mut __m256i,
    ) {
        let (low, high) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c));
        // The 16-bit shift drags bits across bytes; the masks drop them.
        let q = _mm256_srli_epi16::<4>(p);
        *ones = _mm256_add_epi16(*ones, _mm256_maddubs_epi16(_mm256_and_si256(p, low), x[0]));
        *fours = _mm256_add_epi16(
            *fours,
            _mm256_maddubs_epi16(_mm256_and_si256(p, high), x[1]),
        );
        *ones = _mm256_add_epi16(*ones, _mm256_maddubs_epi16(_mm256_and_si256(q, low), x[2]));
        *fours = _mm256_add_epi16(
            *fours,
            _mm256_maddubs_epi16(_mm256_and_si256(q, high), x[3]),
        );
    }

    /// 32-bit lane sums of `ones + fours / 4`; `fours` holds multiples of four, so the shift is exact.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu) fn widen(ones: __m256i, fours: __m256i) -> __m256i {
        let pairs = _mm256_add_epi16(ones, _mm256_srai_epi16::<2>(fours));
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }

    /// Adds the products of four 2-bit fields, field f times 4^f, each to its own sum.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(in crate::cpu) fn fields_vnni(p: __m512i, x: [__m512i; 4], sums: &mut [__m512i; 4]) {
        for (f, mask) in [0x03, 0x0c, 0x30, 0xc0_u8].into_iter().enumerate() {
            sums[f] = _mm512_dpbusd_epi32(
                sums[f],
                _mm512_and_si512(p, _mm512_set1_epi8(mask.cast_signed())),
                x[f],
            );
        }
    }
}
