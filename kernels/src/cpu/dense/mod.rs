//! Matrices that stay quantised in memory, repacked at load so that eight rows are read side by side.
//!
//! Owns the repacking (ggml's row-major blocks to groups of eight interleaved rows on huge pages) and the choice
//! of kernel; the arithmetic is one file a family. A group is one sequential range of memory, and whole groups
//! are the unit of work that threads take. Rows beyond the last are zeros in the last group.

pub mod bytes;
pub mod floats;
pub mod nibbles;
pub mod super2;
pub mod super4;
pub mod super6;

use super::activation::{Q8_BLOCK, Q8K_BLOCK, Q8Rows, Q8kRows};
use super::inputs::{Inputs, Wants};
use super::packer::Packer;
use super::shared::{First, Shared};
use super::{Isa, pick};
use crate::format::ternary::{Row, TernaryError, TernaryRows};
use crate::format::{Tensor, TensorKind};
use crate::huge::{HugeBuffer, HugeError};

/// Rows that are interleaved: the 32-bit lanes of a 256-bit vector.
pub const GROUP: usize = 8;

/// `(group, x, first, count, tile)`: one group times rows `first..first+count`, into `tile[count][GROUP]`.
pub type GemmQ8 = fn(&[u8], &Q8Rows, usize, usize, &mut [f32]);
/// As [`GemmQ8`], for Q8K rows.
pub type GemmQ8k = fn(&[u8], &Q8kRows, usize, usize, &mut [f32]);
/// As [`GemmQ8`], for f32 rows (`x` holds `columns` values a row).
pub type GemmFloat = fn(&[u8], &[f32], usize, usize, usize, &mut [f32]);

/// Why a tensor cannot be a matrix of ours.
#[derive(Debug, thiserror::Error)]
pub enum DenseError {
    /// A type that this engine does not multiply.
    #[error(
        "tensor {name} has type {kind}, which the built-in engine does not compute; run this model with the llama.cpp engine"
    )]
    Kind {
        /// Tensor.
        name: String,
        /// Its type's name.
        kind: String,
    },
    /// Not two-dimensional, or rows that do not fill blocks.
    #[error(
        "tensor {name} has shape {dims:?}, expected two dimensions with rows of a multiple of {block} columns"
    )]
    Shape {
        /// Tensor.
        name: String,
        /// Its dimensions.
        dims: Vec<u64>,
        /// Columns of a block.
        block: usize,
    },
    /// Ternary codes that cannot be read.
    #[error("tensor {name}: {source}")]
    Ternary {
        /// Tensor.
        name: String,
        /// What is wrong with them.
        source: TernaryError,
    },
    /// The system refused the memory.
    #[error("tensor {name}: {source}")]
    Memory {
        /// Tensor.
        name: String,
        /// Bytes asked for, and the system's error.
        source: HugeError,
    },
}

#[derive(Clone, Copy)]
enum Kernel {
    Q8(GemmQ8),
    Q8k(GemmQ8k),
    Float(GemmFloat),
}

/// A matrix of `rows` × `columns`, packed in groups of eight rows.
pub struct DenseMatrix {
    rows: usize,
    columns: usize,
    kind: TensorKind,
    group_bytes: usize,
    pages: HugeBuffer,
    kernel: Kernel,
}

/// How one ggml type is packed: columns and bytes of ggml's block, bytes of ours for eight rows.
struct Packing {
    columns: usize,
    source_bytes: usize,
    packed_bytes: usize,
    pack: fn(&[Option<&[u8]>; GROUP], &mut [u8]),
    kernel: Kernel,
}

fn packing(kind: TensorKind, isa: Isa) -> Option<Packing> {
    let nibble = |high, min, pack| {
        let columns = Q8_BLOCK;
        let source_bytes = 2 + if min { 2 } else { 0 } + if high { 4 } else { 0 } + 16;
        let kernel = Kernel::Q8(pick(&nibbles::variants(high, min), isa));
        Packing {
            columns,
            source_bytes,
            packed_bytes: nibbles::block_bytes(high, min),
            pack,
            kernel,
        }
    };
    let float = |bytes, pack, variants: Vec<(Isa, GemmFloat)>| Packing {
        columns: 1,
        source_bytes: bytes,
        packed_bytes: bytes * GROUP,
        pack,
        kernel: Kernel::Float(pick(&variants, isa)),
    };
    Some(match kind {
        TensorKind::Q4_0 => nibble(false, false, |r, p| nibbles::pack(false, false, r, p)),
        TensorKind::Q4_1 => nibble(false, true, |r, p| nibbles::pack(false, true, r, p)),
        TensorKind::Q5_0 => nibble(true, false, |r, p| nibbles::pack(true, false, r, p)),
        TensorKind::Q5_1 => nibble(true, true, |r, p| nibbles::pack(true, true, r, p)),
        TensorKind::Q8_0 => Packing {
            columns: Q8_BLOCK,
            source_bytes: 2 + Q8_BLOCK,
            packed_bytes: bytes::BLOCK_BYTES,
            pack: bytes::pack,
            kernel: Kernel::Q8(pick(&bytes::variants(), isa)),
        },
        TensorKind::Q4K => Packing {
            columns: Q8K_BLOCK,
            source_bytes: crate::format::q4_k::BYTES,
            packed_bytes: super4::BLOCK_BYTES,
            pack: super4::pack,
            kernel: Kernel::Q8k(pick(&super4::variants(), isa)),
        },
        TensorKind::Q6K => Packing {
            columns: Q8K_BLOCK,
            source_bytes: crate::format::q6_k::BYTES,
            packed_bytes: super6::BLOCK_BYTES,
            pack: super6::pack,
            kernel: Kernel::Q8k(pick(&super6::variants(), isa)),
        },
        TensorKind::F32 => float(4, floats::pack::<4>, floats::variants(floats::Kind::F32)),
        TensorKind::F16 => float(2, floats::pack::<2>, floats::variants(floats::Kind::F16)),
        TensorKind::Bf16 => float(2, floats::pack::<2>, floats::variants(floats::Kind::Bf16)),
        _ => return None,
    })
}

impl DenseMatrix {
    /// Packs a two-dimensional tensor for the best kernel within `isa`.
    ///
    /// # Errors
    /// See [`DenseError`].
    pub fn pack(tensor: &Tensor<'_>, isa: Isa, packer: &Packer) -> Result<DenseMatrix, DenseError> {
        let info = tensor.info;
        match info.dims[..] {
            [columns, rows] => DenseMatrix::pack_rows(
                &info.name,
                info.kind,
                (rows as usize, columns as usize),
                tensor.data,
                isa,
                packer,
            ),
            _ => Err(DenseError::Shape {
                name: info.name.clone(),
                dims: info.dims.clone(),
                block: 1,
            }),
        }
    }

    /// Packs `rows` rows of `columns` weights in one of ggml's dense types; `name` is for messages.
    ///
    /// # Errors
    /// See [`DenseError`].
    pub fn pack_rows(
        name: &str,
        kind: TensorKind,
        (rows, columns): (usize, usize),
        data: &[u8],
        isa: Isa,
        packer: &Packer,
    ) -> Result<DenseMatrix, DenseError> {
        let packing = packing(kind, isa).ok_or_else(|| DenseError::Kind {
            name: name.to_owned(),
            kind: kind.name(),
        })?;
        let row_bytes = columns / packing.columns * packing.source_bytes;
        if !columns.is_multiple_of(packing.columns) || data.len() < rows * row_bytes {
            let dims = vec![columns as u64, rows as u64];
            return Err(DenseError::Shape {
                name: name.to_owned(),
                dims,
                block: packing.columns,
            });
        }
        let blocks = columns / packing.columns;
        let group_bytes = blocks * packing.packed_bytes;
        let bytes = rows.div_ceil(GROUP) * group_bytes;
        let mut pages = packer
            .memory
            .take(bytes)
            .map_err(|source| DenseError::Memory {
                name: name.to_owned(),
                source,
            })?;
        let out = Shared::new(pages.bytes_mut());
        packer.threads.run(rows.div_ceil(GROUP), &|g| {
            // SAFETY: these bytes belong to this group alone.
            let group = unsafe { out.range(g * group_bytes, group_bytes) };
            let sources: [Option<&[u8]>; GROUP] = std::array::from_fn(|r| {
                let row = g * GROUP + r;
                (row < rows).then(|| &data[row * row_bytes..][..row_bytes])
            });
            for (b, packed) in group.chunks_exact_mut(packing.packed_bytes).enumerate() {
                let at = b * packing.source_bytes;
                (packing.pack)(
                    &sources.map(|s| s.map(|s| &s[at..][..packing.source_bytes])),
                    packed,
                );
            }
        });
        Ok(DenseMatrix {
            rows,
            columns,
            kind,
            group_bytes,
            pages,
            kernel: packing.kernel,
        })
    }

    /// Packs ternary rows with a scale for each 256 columns (or more) for products with Q8K rows.
    ///
    /// # Errors
    /// Rows that do not fill super-blocks or whose scales change inside one, or no memory.
    pub fn pack_ternary(
        name: &str,
        source: &TernaryRows<'_>,
        isa: Isa,
        packer: &Packer,
    ) -> Result<DenseMatrix, DenseError> {
        let (rows, columns) = (source.rows(), source.columns());
        let shape = || {
            let dims = vec![columns as u64, rows as u64];
            DenseError::Shape {
                name: name.to_owned(),
                dims,
                block: Q8K_BLOCK,
            }
        };
        if !columns.is_multiple_of(Q8K_BLOCK) {
            return Err(shape());
        }
        let group_bytes = columns / Q8K_BLOCK * super2::BLOCK_BYTES;
        let bytes = rows.div_ceil(GROUP) * group_bytes;
        let mut pages = packer
            .memory
            .take(bytes)
            .map_err(|source| DenseError::Memory {
                name: name.to_owned(),
                source,
            })?;
        let (out, failed) = (Shared::new(pages.bytes_mut()), First::new());
        packer.threads.run(rows.div_ceil(GROUP), &|g| {
            // SAFETY: these bytes belong to this group alone.
            let group = unsafe { out.range(g * group_bytes, group_bytes) };
            let mut row = Row::default();
            for r in g * GROUP..rows.min((g + 1) * GROUP) {
                if let Err(source) = source.read(r, &mut row) {
                    let name = name.to_owned();
                    return failed.note(r, DenseError::Ternary { name, source });
                }
                if row.group == 0 || !row.group.is_multiple_of(Q8K_BLOCK) && row.group != columns {
                    return failed.note(r, shape());
                }
                for (b, packed) in group.chunks_exact_mut(super2::BLOCK_BYTES).enumerate() {
                    let first = b * Q8K_BLOCK;
                    super2::pack_row(
                        r % GROUP,
                        &row.trits[first..][..Q8K_BLOCK],
                        row.scales[first / row.group],
                        packed,
                    );
                }
            }
        });
        failed.result()?;
        let kernel = Kernel::Q8k(pick(&super2::variants(), isa));
        Ok(DenseMatrix {
            rows,
            columns,
            kind: TensorKind::Tq2_0,
            group_bytes,
            pages,
            kernel,
        })
    }

    /// Rows: the length of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the length of an activation row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The ggml type that the matrix was packed from.
    pub fn kind(&self) -> TensorKind {
        self.kind
    }

    /// Bytes that one product reads.
    pub fn bytes(&self) -> usize {
        self.groups() * self.group_bytes
    }

    /// Groups of eight rows.
    pub fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    /// The activations that [`DenseMatrix::group`] reads.
    pub fn wants(&self) -> Wants {
        match self.kernel {
            Kernel::Q8(_) => Wants::Q8,
            Kernel::Q8k(_) => Wants::Q8k,
            Kernel::Float(_) => Wants::Float,
        }
    }

    /// Multiplies group `g` by rows `first..first+count` of the inputs, into `tile[count][GROUP]`.
    pub fn group(&self, g: usize, x: &Inputs, first: usize, count: usize, tile: &mut [f32]) {
        let group = &self.pages.bytes()[g * self.group_bytes..][..self.group_bytes];
        match self.kernel {
            Kernel::Q8(kernel) => kernel(group, &x.q8, first, count, tile),
            Kernel::Q8k(kernel) => kernel(group, &x.q8k, first, count, tile),
            Kernel::Float(kernel) => kernel(group, &x.float, self.columns, first, count, tile),
        }
    }
}

/// What all families share: the walk over tokens, loads, and the store of a tile.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::GROUP;
    use std::arch::x86_64::*;

    /// Calls `multiply(t, many, tile)` for `count` tokens: four at once while there are as many, which share what was
    /// unpacked of the weights, then one by one.
    pub(super) fn by_fours(
        count: usize,
        tile: &mut [f32],
        multiply: impl Fn(usize, bool, &mut [f32]),
    ) {
        let mut t = 0;
        while t < count {
            let many = count - t >= 4;
            multiply(t, many, &mut tile[t * GROUP..]);
            t += if many { 4 } else { 1 };
        }
    }

    /// Writes the sums of T tokens.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn put<const T: usize>(y: [__m256; T], tile: &mut [f32]) {
        for (y, out) in y.iter().zip(tile.as_chunks_mut::<GROUP>().0) {
            // SAFETY: `out` is eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), *y) };
        }
    }

    /// # Safety
    /// 32 bytes must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn load(at: *const u8) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    /// Four int8 of one activation row in every lane.
    ///
    /// # Safety
    /// 4 bytes must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn broadcast(at: *const i8) -> __m256i {
        // SAFETY: the caller's.
        _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
    }

    /// Eight bytes, each twice.
    ///
    /// # Safety
    /// 8 bytes must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn twice(at: *const u8) -> __m128i {
        // SAFETY: the caller's.
        let bytes = unsafe { _mm_loadl_epi64(at.cast()) };
        _mm_unpacklo_epi8(bytes, bytes)
    }

    /// Eight f16 as f32.
    ///
    /// # Safety
    /// 16 bytes must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn halves(at: *const u8) -> __m256 {
        // SAFETY: the caller's.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
    }
}

#[cfg(test)]
pub(crate) mod check;

#[cfg(test)]
mod tests {
    use super::check::Noise;
    use super::*;
    use crate::format::{TensorInfo, row};

    /// Every type: the packed product equals the dot product of the decoded row and the quantised activations.
    #[test]
    fn products_equal_decoded_rows() {
        let (columns, rows, tokens) = (512, 19, 5);
        let mut noise = Noise(3);
        for kind in [
            TensorKind::F32,
            TensorKind::F16,
            TensorKind::Bf16,
            TensorKind::Q8_0,
            TensorKind::Q4_0,
            TensorKind::Q4_1,
            TensorKind::Q5_0,
            TensorKind::Q5_1,
            TensorKind::Q4K,
            TensorKind::Q6K,
        ] {
            let row_bytes = kind.row_bytes(columns).unwrap();
            let (block, block_bytes) = (kind.block_len().unwrap(), kind.block_bytes().unwrap());
            // Random bytes are valid codes; random halves might be infinite, so those are set.
            let mut data: Vec<u8> = (0..rows * row_bytes).map(|_| noise.next() as u8).collect();
            for chunk in data.chunks_exact_mut(block_bytes) {
                let scale = half::f16::from_f32(noise.float() * 0.1).to_le_bytes();
                match kind {
                    TensorKind::F32 => chunk.copy_from_slice(&noise.float().to_le_bytes()),
                    TensorKind::F16 => chunk.copy_from_slice(&scale),
                    TensorKind::Bf16 => {
                        chunk.copy_from_slice(&half::bf16::from_f32(noise.float()).to_le_bytes())
                    }
                    TensorKind::Q6K => chunk[208..].copy_from_slice(&scale),
                    TensorKind::Q4_1 | TensorKind::Q5_1 | TensorKind::Q4K => {
                        chunk[..2].copy_from_slice(&scale);
                        chunk[2..4].copy_from_slice(
                            &half::f16::from_f32(noise.float() * 0.3).to_le_bytes(),
                        );
                    }
                    _ => chunk[..2].copy_from_slice(&scale),
                }
            }
            assert!(columns.is_multiple_of(block));
            let info = TensorInfo {
                name: "w".to_owned(),
                dims: vec![columns as u64, rows as u64],
                kind,
                offset: 0,
                bytes: data.len() as u64,
            };
            let matrix = DenseMatrix::pack(
                &Tensor {
                    info: &info,
                    data: &data,
                },
                Isa::detect(),
                &Packer::new(2),
            )
            .unwrap();
            let mut inputs = Inputs::default();
            let x: Vec<f32> = (0..tokens * columns).map(|_| noise.float()).collect();
            let threads = crate::threads::Threads::new(1);
            let quantisers = crate::cpu::inputs::Quantisers::new(Isa::detect());
            inputs.prepare(
                &threads,
                quantisers,
                (tokens, columns),
                &[matrix.wants()],
                &|t, row| {
                    row.copy_from_slice(&x[t * columns..][..columns]);
                },
            );
            let mut decoded = vec![0.0; columns];
            for r in 0..rows {
                row::decode(kind, &data[r * row_bytes..][..row_bytes], &mut decoded).unwrap();
                for t in 0..tokens {
                    let mut tile = vec![0.0; GROUP];
                    matrix.group(r / GROUP, &inputs, t, 1, &mut tile);
                    let quantised = |c: usize| match matrix.wants() {
                        Wants::Float | Wants::Row => x[t * columns + c],
                        Wants::Q8 => {
                            f32::from(inputs.q8.row(t).codes[c])
                                * inputs.q8.row(t).scales[c / Q8_BLOCK]
                        }
                        Wants::Q8k => {
                            f32::from(inputs.q8k.row(t).codes[c])
                                * inputs.q8k.row(t).scales[c / Q8K_BLOCK]
                        }
                    };
                    let terms =
                        (0..columns).map(|c| f64::from(decoded[c]) * f64::from(quantised(c)));
                    let (wanted, size) =
                        terms.fold((0.0, 0.0), |(sum, size), v| (sum + v, size + v.abs()));
                    // f32 rounding of some hundred terms; with minima also the f16 rounding of their sums (2^-11).
                    let error = (f64::from(tile[r % GROUP]) - wanted).abs();
                    assert!(
                        error <= size * 1e-3,
                        "{}: row {r}: {} for {wanted}",
                        kind.name(),
                        tile[r % GROUP]
                    );
                }
            }
        }
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let info = TensorInfo {
            name: "blk.0.w".to_owned(),
            dims: vec![256, 1],
            kind: TensorKind::Q2K,
            offset: 0,
            bytes: 84,
        };
        let Err(error) = DenseMatrix::pack(
            &Tensor {
                info: &info,
                data: &[0; 84],
            },
            Isa::Scalar,
            &Packer::new(1),
        ) else {
            panic!("packed")
        };
        assert_eq!(
            error.to_string(),
            "tensor blk.0.w has type Q2_K, which the built-in engine does not compute; run this model with the llama.cpp engine"
        );
    }
}
