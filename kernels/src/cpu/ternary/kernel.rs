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
    rows: usize,
    columns: usize,
}

impl<'a> BlockCodes<'a> {
    /// Views 32 rows of `stride` codes, of which `rows` by `columns` belong to the matrix.
    pub(super) fn new(
        codes: &'a [u8],
        stride: usize,
        rows: usize,
        columns: usize,
    ) -> BlockCodes<'a> {
        assert_eq!(codes.len(), BLOCK_ROWS * stride, "32 rows of codes");
        BlockCodes {
            codes,
            stride,
            rows,
            columns,
        }
    }

    /// How many columns of a row belong to the matrix: all, or none of a padding row.
    pub(super) fn real(&self, row: usize) -> usize {
        if row < self.rows { self.columns } else { 0 }
    }

    /// One row, padding included.
    pub(super) fn row(&self, row: usize) -> &'a [u8] {
        &self.codes[row * self.stride..][..self.stride]
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    /// Software prefetch distance in bytes: far enough to cover a memory latency of 100 ns at 30 GB/s, within
    /// the reach of the next page (a hardware prefetcher stops at page ends).
    pub(crate) const AHEAD: usize = 4096;

    /// Steps whose products fit 16 bits: see the packing's own derivation.
    pub(crate) const STEPS_IN_16_BITS: usize = 8;

    /// Asks for the cache line `ahead` bytes after `at`. May point past the buffer: a prefetch never faults.
    #[inline]
    #[target_feature(enable = "sse")]
    pub(crate) fn prefetch<T>(at: &T, ahead: usize) {
        _mm_prefetch::<_MM_HINT_T0>((&raw const *at).cast::<i8>().wrapping_add(ahead));
    }

    /// Whether the byte permutes and dot products of the AVX-512 decoders are there (Zen 4, Ice Lake and later).
    pub(crate) fn has_vbmi() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vbmi")
    }

    /// A 16-entry look-up table in both halves.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn table(bytes: &[u8; 16]) -> __m256i {
        // SAFETY: 16 bytes, unaligned.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    /// Adds the products of the fields that `mask` leaves of `p`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn sum_fields(p: __m256i, mask: __m256i, x: __m256i, sum: &mut __m256i) {
        *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(_mm256_and_si256(p, mask), x));
    }

    /// 32 bytes at `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn load<const N: usize>(bytes: &[u8; N], offset: usize) -> __m256i {
        assert!(offset + 32 <= N);
        // SAFETY: the range was checked on the line above; the load may be unaligned.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().add(offset).cast()) }
    }

    /// 32 activations at `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn load_i8<const N: usize>(x: &[i8; N], offset: usize) -> __m256i {
        assert!(offset + 32 <= N);
        // SAFETY: the range was checked on the line above; the load may be unaligned.
        unsafe { _mm256_loadu_si256(x.as_ptr().add(offset).cast()) }
    }

    /// 64 activations at `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn load512_i8<const N: usize>(x: &[i8; N], offset: usize) -> __m512i {
        assert!(offset + 64 <= N);
        // SAFETY: the range was checked on the line above; the load may be unaligned.
        unsafe { _mm512_loadu_si512(x.as_ptr().add(offset).cast()) }
    }

    /// Stores 32 bytes at element `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn store<T: Copy, const N: usize>(to: &mut [T; N], offset: usize, v: __m256i) {
        assert!((offset + 32 / size_of::<T>()) <= N);
        // SAFETY: the range was checked on the line above; T is a plain number of 1 to 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(offset).cast(), v) }
    }

    /// The four activations at `offset`, in every lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn broadcast<const N: usize>(x: &[i8; N], offset: usize) -> __m256i {
        _mm256_set1_epi32(four(x, offset))
    }

    /// 64 bytes at `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn load512<const N: usize>(bytes: &[u8; N], offset: usize) -> __m512i {
        assert!(offset + 64 <= N);
        // SAFETY: the range was checked on the line above; the load may be unaligned.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().add(offset).cast()) }
    }

    /// Stores 64 bytes at element `offset`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn store512<T: Copy, const N: usize>(to: &mut [T; N], offset: usize, v: __m512i) {
        assert!((offset + 64 / size_of::<T>()) <= N);
        // SAFETY: the range was checked on the line above; T is a plain number of 1 to 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(offset).cast(), v) }
    }

    /// The four activations at `offset`, in every lane.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn broadcast512<const N: usize>(x: &[i8; N], offset: usize) -> __m512i {
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
    pub(crate) fn fields_avx2(
        p: __m256i,
        x: [__m256i; 4],
        ones: &mut __m256i,
        fours: &mut __m256i,
    ) {
        let (low, high) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c));
        // The 16-bit shift drags bits across bytes; the masks drop them.
        let q = _mm256_srli_epi16::<4>(p);
        sum_fields(p, low, x[0], ones);
        sum_fields(p, high, x[1], fours);
        sum_fields(q, low, x[2], ones);
        sum_fields(q, high, x[3], fours);
    }

    /// 32-bit lane sums of `ones + fours / 4`; `fours` holds multiples of four, so the shift is exact.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn widen(ones: __m256i, fours: __m256i) -> __m256i {
        let pairs = _mm256_add_epi16(ones, _mm256_srai_epi16::<2>(fours));
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }

    /// Adds the products of four 2-bit fields, field f times 4^f, each to its own sum.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(crate) fn fields_vnni(p: __m512i, x: [__m512i; 4], sums: &mut [__m512i; 4]) {
        for (f, mask) in [0x03, 0x0c, 0x30, 0xc0_u8].into_iter().enumerate() {
            sums[f] = _mm512_dpbusd_epi32(
                sums[f],
                _mm512_and_si512(p, _mm512_set1_epi8(mask.cast_signed())),
                x[f],
            );
        }
    }
}
