//! 1.25 bits a weight: four consecutive columns in a 5-bit code, for weights with a fixed number of zeros in
//! every four: exactly one (Sherry's 3:4, 32 patterns) or exactly two (strict 2:4, 24 patterns).
//!
//! A step is 640 bytes: 32 rows by 128 columns, or eight *groups* of 128 codes, each code standing for one byte
//! of [`super::p2`]. Bytes 0..512 hold the codes' low half bytes (group 2·i in the low half of bytes 128·i ..,
//! group 2·i + 1 in the high half), bytes 512..640 their fifth bits (group g in bit g). Within a group byte
//! 4·r + j belongs to row r and columns 4·j .. 4·j + 4 of the group's 16.
//!
//! **Decoding** is a look-up of p2's byte: with AVX2 two half tables and a blend on the fifth bit, moved to the
//! byte's top; with AVX-512 VBMI one byte permute, whose index takes bits 0 to 3 from the half byte and bit 4
//! from the shifted plane (bit 5 is the neighbour's, so the 64-entry table repeats its 32). Then p2's sums.

use super::BLOCK_ROWS;
use super::kernel::{BlockCodes, GemvBlock, Unpack};
use super::p2::fields;

/// Bytes of one step of 128 columns.
const STEP_BYTES: usize = BLOCK_ROWS * 20;
/// Bytes of one group's row lanes.
const GROUP_BYTES: usize = BLOCK_ROWS * 4;
/// Groups (of 16 columns) in a step.
const GROUPS: usize = 8;
/// Where the fifth bits start.
const FIFTH: usize = 4 * GROUP_BYTES;
/// Marks a pattern without a code.
const NONE: u8 = 255;

/// Patterns of four weights and their codes.
#[derive(Debug)]
pub(super) struct Codebook {
    /// Code to four 2-bit fields of weight + 1, first column lowest.
    fields: [u8; 32],
    /// Codes in use.
    len: usize,
}

/// Exactly one zero in four, numbered as they are enumerated below.
pub(super) static ONE_ZERO: Codebook = Codebook::with_zeros(1);
/// Exactly two zeros in four.
pub(super) static TWO_ZEROS: Codebook = Codebook::with_zeros(2);

impl Codebook {
    /// All patterns with `zeros` zeros, in the order of their p2 bytes; unused codes mean four zeros.
    const fn with_zeros(zeros: usize) -> Codebook {
        let mut book = Codebook {
            fields: [0x55; 32],
            len: 0,
        };
        let mut byte = 0;
        while byte < 256 {
            let (mut found, mut ternary, mut f) = (0, true, 0);
            while f < 4 {
                let code = byte >> (2 * f) & 3;
                found += (code == 1) as usize;
                ternary = ternary && code < 3;
                f += 1;
            }
            if ternary && found == zeros {
                book.fields[book.len] = byte as u8;
                book.len += 1;
            }
            byte += 1;
        }
        book
    }

    /// The p2 byte of every code.
    pub(super) fn fields(&self) -> &[u8; 32] {
        &self.fields
    }

    /// Code of every p2 byte, or [`NONE`].
    fn codes(&self) -> [u8; 256] {
        let mut codes = [NONE; 256];
        for (code, byte) in self.fields[..self.len].iter().enumerate() {
            codes[usize::from(*byte)] = code as u8;
        }
        codes
    }

    /// The first code whose first `n` weights are these; the others lie beyond the matrix.
    fn prefix(&self, byte: u8, n: usize) -> Option<u8> {
        let mask = (1u16 << (2 * n)) - 1;
        let found = self.fields[..self.len]
            .iter()
            .position(|f| u16::from(f ^ byte) & mask == 0);
        found.map(|code| code as u8)
    }
}

/// Bytes of a block of 32 rows.
pub(super) fn block_bytes(columns: usize) -> usize {
    columns.div_ceil(128) * STEP_BYTES
}

/// Packs 32 rows; the error is the row in the block and the first column of four that no code stands for.
pub(super) fn pack(
    book: &Codebook,
    codes: &BlockCodes<'_>,
    out: &mut [u8],
) -> Result<(), (usize, usize)> {
    let by_byte = book.codes();
    for row in 0..BLOCK_ROWS {
        for (quad, four) in codes
            .row(row)
            .as_chunks::<4>()
            .0
            .iter()
            .enumerate()
            .take(out.len() / STEP_BYTES * 32)
        {
            let byte = fields(*four);
            let code = match codes.real(row).saturating_sub(4 * quad) {
                n @ 0..4 => book.prefix(byte, n),
                _ => Some(by_byte[usize::from(byte)]).filter(|c| *c != NONE),
            };
            let code = code.ok_or((row, 4 * quad))?;
            let step = &mut out[quad / 32 * STEP_BYTES..][..STEP_BYTES];
            let (group, at) = (quad / 4 % GROUPS, 4 * row + quad % 4);
            step[group / 2 * GROUP_BYTES + at] |= (code & 15) << (group % 2 * 4);
            step[FIFTH + at] |= code >> 4 << group;
        }
    }
    Ok(())
}

/// The p2 byte at place `at` (row and four columns) of a group.
fn decode(book: &Codebook, step: &[u8; STEP_BYTES], group: usize, at: usize) -> u8 {
    let low = step[group / 2 * GROUP_BYTES + at] >> (group % 2 * 4) & 15;
    let fifth = step[FIFTH + at] >> group & 1;
    book.fields[usize::from(low | fifth << 4)]
}

/// The variants of `y = codes · x` over one block that this machine can run, slowest first. `$book` is named
/// here, not passed, so that each is a plain function pointer.
macro_rules! variants {
    ($gemv:ident, $unpack:ident, $book:ident) => {
        pub(super) fn $gemv() -> Vec<(&'static str, GemvBlock)> {
            #[allow(unused_mut, reason = "other architectures add nothing")]
            let mut list: Vec<(&'static str, GemvBlock)> =
                vec![("scalar", |w, x, y| scalar(&$book, w, x, y))];
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: avx2 was detected on the line above.
                    list.push(("avx2", |w, x, y| unsafe { x86::avx2(&$book, w, x, y) }));
                }
                if super::kernel::x86::has_vbmi() {
                    // SAFETY: all its features were detected on the line above.
                    list.push(("avx512vbmi", |w, x, y| unsafe {
                        x86::avx512vbmi(&$book, w, x, y)
                    }));
                }
            }
            list
        }

        pub(super) fn $unpack() -> Vec<(&'static str, Unpack)> {
            #[allow(unused_mut, reason = "other architectures add nothing")]
            let mut list: Vec<(&'static str, Unpack)> =
                vec![("scalar", |w, first, tile| unpack(&$book, w, first, tile))];
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: avx2 was detected on the line above.
                list.push(("avx2", |w, first, tile| unsafe {
                    x86::unpack(&$book, w, first, tile)
                }));
            }
            list
        }
    };
}

variants!(one_zero_gemv_variants, one_zero_unpack_variants, ONE_ZERO);
variants!(
    two_zeros_gemv_variants,
    two_zeros_unpack_variants,
    TWO_ZEROS
);

/// The definition.
fn scalar(book: &Codebook, w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
    for (row, y) in y.iter_mut().enumerate() {
        *y = 0;
        for (step, x) in w
            .as_chunks::<STEP_BYTES>()
            .0
            .iter()
            .zip(x.as_chunks::<128>().0)
        {
            for (group, x) in x.as_chunks::<16>().0.iter().enumerate() {
                for j in 0..4 {
                    let byte = decode(book, step, group, 4 * row + j);
                    *y += (0..4)
                        .map(|f| i32::from(byte >> (2 * f) & 3) * i32::from(x[4 * f + j]))
                        .sum::<i32>();
                }
            }
        }
    }
}

fn unpack(book: &Codebook, w: &[u8], first: usize, tile: &mut [u8]) {
    for (lane, out) in tile.as_chunks_mut::<GROUP_BYTES>().0.iter_mut().enumerate() {
        let (group, f) = ((first + lane) / 4, (first + lane) % 4);
        let step = &w.as_chunks::<STEP_BYTES>().0[group / GROUPS];
        for (at, out) in out.iter_mut().enumerate() {
            *out = decode(book, step, group % GROUPS, at) >> (2 * f) & 3;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::kernel::x86::{
        AHEAD, broadcast, broadcast512, fields_avx2, fields_vnni, load, load512, prefetch, store,
        store512, table, widen,
    };
    use super::{BLOCK_ROWS, Codebook, FIFTH, GROUP_BYTES, GROUPS, STEP_BYTES};
    use std::arch::x86_64::*;

    /// The p2 bytes of eight rows (`part` of four) of a group. `UP` moves the group's fifth bit to bit 7.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode<const GROUP: usize, const UP: i32>(
        step: &[u8; STEP_BYTES],
        part: usize,
        tables: [__m256i; 2],
    ) -> __m256i {
        let halves = load(step, GROUP / 2 * GROUP_BYTES + 32 * part);
        let halves = if GROUP.is_multiple_of(2) {
            halves
        } else {
            _mm256_srli_epi16::<4>(halves)
        };
        let low = _mm256_and_si256(halves, _mm256_set1_epi8(15));
        let fifth = _mm256_slli_epi16::<UP>(load(step, FIFTH + 32 * part));
        _mm256_blendv_epi8(
            _mm256_shuffle_epi8(tables[0], low),
            _mm256_shuffle_epi8(tables[1], low),
            fifth,
        )
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn tables(book: &Codebook) -> [__m256i; 2] {
        let (low, high) = book.fields.split_at(16);
        let half = |t: &[u8]| std::array::from_fn(|i| t[i]);
        [table(&half(low)), table(&half(high))]
    }

    /// 16-bit sums: a step is eight groups, p2's eight steps, so the same limits hold.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(book: &Codebook, w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 128 * steps.len(),
            "activations are padded to whole steps"
        );
        let tables = tables(book);
        let mut sums = [_mm256_setzero_si256(); 4];
        for (step, x) in steps.iter().zip(x.as_chunks::<128>().0) {
            for line in 0..STEP_BYTES / 64 {
                prefetch(step, AHEAD + 64 * line);
            }
            let mut ones = [_mm256_setzero_si256(); 4];
            let mut fours = [_mm256_setzero_si256(); 4];
            macro_rules! group {
                ($group:literal, $up:literal) => {
                    let at = 16 * $group;
                    let x = [
                        broadcast(x, at),
                        broadcast(x, at + 4),
                        broadcast(x, at + 8),
                        broadcast(x, at + 12),
                    ];
                    for i in 0..4 {
                        fields_avx2(
                            decode::<$group, $up>(step, i, tables),
                            x,
                            &mut ones[i],
                            &mut fours[i],
                        );
                    }
                };
            }
            group!(0, 7);
            group!(1, 6);
            group!(2, 5);
            group!(3, 4);
            group!(4, 3);
            group!(5, 2);
            group!(6, 1);
            group!(7, 0);
            for i in 0..4 {
                sums[i] = _mm256_add_epi32(sums[i], widen(ones[i], fours[i]));
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            store(y, 8 * i, sum);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
    pub(super) fn avx512vbmi(book: &Codebook, w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 128 * steps.len(),
            "activations are padded to whole steps"
        );
        let bytes: [u8; 64] = std::array::from_fn(|i| book.fields[i % 32]);
        let (table, low) = (load512(&bytes, 0), _mm512_set1_epi8(15));
        let mut sums = [[_mm512_setzero_si512(); 4]; 2];
        for (step, x) in steps.iter().zip(x.as_chunks::<128>().0) {
            for line in 0..STEP_BYTES / 64 {
                prefetch(step, AHEAD + 64 * line);
            }
            // $shift moves the group's fifth bit to bit 4; 0xca picks from the half byte where `low` is set.
            macro_rules! group {
                ($group:literal, $fifth:ident => $shift:expr) => {
                    let at = 16 * $group;
                    let x = [
                        broadcast512(x, at),
                        broadcast512(x, at + 4),
                        broadcast512(x, at + 8),
                        broadcast512(x, at + 12),
                    ];
                    for i in 0..2 {
                        let halves = load512(step, $group / 2 * GROUP_BYTES + 64 * i);
                        let halves = if $group / 2 * 2 == $group {
                            halves
                        } else {
                            _mm512_srli_epi16::<4>(halves)
                        };
                        let $fifth = load512(step, FIFTH + 64 * i);
                        let index = _mm512_ternarylogic_epi32::<0xca>(low, halves, $shift);
                        fields_vnni(_mm512_permutexvar_epi8(index, table), x, &mut sums[i]);
                    }
                };
            }
            group!(0, fifth => _mm512_slli_epi16::<4>(fifth));
            group!(1, fifth => _mm512_slli_epi16::<3>(fifth));
            group!(2, fifth => _mm512_slli_epi16::<2>(fifth));
            group!(3, fifth => _mm512_slli_epi16::<1>(fifth));
            group!(4, fifth => fifth);
            group!(5, fifth => _mm512_srli_epi16::<1>(fifth));
            group!(6, fifth => _mm512_srli_epi16::<2>(fifth));
            group!(7, fifth => _mm512_srli_epi16::<3>(fifth));
        }
        for (i, s) in sums.iter().enumerate() {
            let low = _mm512_add_epi32(s[0], _mm512_srai_epi32::<2>(s[1]));
            let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(s[2]), _mm512_srai_epi32::<6>(s[3]));
            store512(y, 16 * i, _mm512_add_epi32(low, high));
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn unpack(book: &Codebook, w: &[u8], first: usize, tile: &mut [u8]) {
        assert!(first.is_multiple_of(4 * GROUPS), "a tile starts at a step");
        let (tables, mask) = (tables(book), _mm256_set1_epi8(3));
        let steps = &w.as_chunks::<STEP_BYTES>().0[first / (4 * GROUPS)..];
        for (step, out) in steps
            .iter()
            .zip(tile.chunks_exact_mut(4 * GROUPS * GROUP_BYTES))
        {
            for i in 0..4 {
                let bytes = [
                    decode::<0, 7>(step, i, tables),
                    decode::<1, 6>(step, i, tables),
                    decode::<2, 5>(step, i, tables),
                    decode::<3, 4>(step, i, tables),
                    decode::<4, 3>(step, i, tables),
                    decode::<5, 2>(step, i, tables),
                    decode::<6, 1>(step, i, tables),
                    decode::<7, 0>(step, i, tables),
                ];
                for (lanes, p) in out.chunks_exact_mut(4 * GROUP_BYTES).zip(bytes) {
                    let fields = [
                        p,
                        _mm256_srli_epi16::<2>(p),
                        _mm256_srli_epi16::<4>(p),
                        _mm256_srli_epi16::<6>(p),
                    ];
                    for (lane, field) in lanes
                        .as_chunks_mut::<GROUP_BYTES>()
                        .0
                        .iter_mut()
                        .zip(fields)
                    {
                        store(lane, 32 * i, _mm256_and_si256(field, mask));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codebooks_hold_every_pattern_once() {
        assert_eq!((ONE_ZERO.len, TWO_ZEROS.len), (32, 24));
        for (book, zeros) in [(&ONE_ZERO, 1), (&TWO_ZEROS, 2)] {
            let codes = book.codes();
            for byte in 0..=255u8 {
                let weights: [u8; 4] = std::array::from_fn(|f| byte >> (2 * f) & 3);
                let held = weights.iter().all(|&c| c < 3)
                    && weights.iter().filter(|&&c| c == 1).count() == zeros;
                assert_eq!(codes[usize::from(byte)] != NONE, held, "{weights:?}");
            }
        }
    }
}
