//! The packed matrix: which layout, how many blocks, and the two products.

use super::activations::Int8Rows;
use super::gemm::{self, LANE_BYTES, TILE_LANES, Tile};
use super::kernel::{BlockCodes, GemvBlock, Unpack};
use super::lut::{self, Packed};
use super::{BLOCK_ROWS, b5, p2, sparse};
use crate::cpu::packer::Packer;
use crate::cpu::shared::{First, Shared};
use crate::huge::{HugeBuffer, HugeError};
use std::ops::Range;

/// How the weights lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 2.0 bits a weight, any ternary weights.
    P2,
    /// 1.6 bits a weight, any ternary weights.
    B5,
    /// 1.25 bits a weight, exactly one zero in every four columns.
    S34,
    /// 1.25 bits a weight, exactly two zeros in every four columns.
    S24,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 4] = [Layout::P2, Layout::B5, Layout::S34, Layout::S24];

    /// The lower-case name, as shown by the benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Layout::P2 => "p2",
            Layout::B5 => "b5",
            Layout::S34 => "s34",
            Layout::S24 => "s24",
        }
    }

    /// The p2 byte of each of 32 codes; all zeros' bytes where a layout has no codes.
    pub(crate) fn codebook(self) -> [u8; 32] {
        match self {
            Layout::S34 => *sparse::ONE_ZERO.fields(),
            Layout::S24 => *sparse::TWO_ZEROS.fields(),
            Layout::P2 | Layout::B5 => [0x55; 32],
        }
    }

    /// Bytes of a block of 32 rows.
    fn block_bytes(self, columns: usize) -> usize {
        match self {
            Layout::P2 => p2::block_bytes(columns),
            Layout::B5 => b5::block_bytes(columns),
            Layout::S34 | Layout::S24 => sparse::block_bytes(columns),
        }
    }

    /// Lanes (of four columns) in a block, padding included.
    fn lanes(self, columns: usize) -> usize {
        match self {
            Layout::P2 => columns.div_ceil(16) * 4,
            Layout::B5 => b5::lanes(columns),
            Layout::S34 | Layout::S24 => columns.div_ceil(128) * 32,
        }
    }

    /// Lanes unpacked at a time: whole steps, at most [`TILE_LANES`].
    fn tile_lanes(self) -> usize {
        match self {
            Layout::P2 | Layout::S34 | Layout::S24 => TILE_LANES,
            Layout::B5 => b5::TILE_LANES,
        }
    }

    fn gemv_variants(self) -> Vec<(&'static str, GemvBlock)> {
        match self {
            Layout::P2 => p2::gemv_variants(),
            Layout::B5 => b5::gemv_variants(),
            Layout::S34 => sparse::one_zero_gemv_variants(),
            Layout::S24 => sparse::two_zeros_gemv_variants(),
        }
    }

    fn unpack_variants(self) -> Vec<(&'static str, Unpack)> {
        match self {
            Layout::P2 => p2::unpack_variants(),
            Layout::B5 => b5::unpack_variants(),
            Layout::S34 => sparse::one_zero_unpack_variants(),
            Layout::S24 => sparse::two_zeros_unpack_variants(),
        }
    }

    /// Packs one block; the error is the row in the block and the first column of four weights that the layout
    /// cannot hold.
    fn pack_block(self, codes: &BlockCodes<'_>, out: &mut [u8]) -> Result<(), (usize, usize)> {
        match self {
            Layout::P2 => p2::pack(codes, out),
            Layout::B5 => b5::pack(codes, out),
            Layout::S34 => sparse::pack(&sparse::ONE_ZERO, codes, out)?,
            Layout::S24 => sparse::pack(&sparse::TWO_ZEROS, codes, out)?,
        }
        Ok(())
    }
}

/// Why weights cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A weight is not −1, 0 or 1.
    #[error("weight {value} at row {row}, column {column} is not -1, 0 or 1")]
    NotTernary {
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        column: usize,
        /// What it is.
        value: i8,
    },
    /// Four weights with the wrong number of zeros.
    #[error("layout {layout} cannot hold the weights at row {row}, columns {column} to {}: they need {zeros}; pack as p2 or b5", column + 3)]
    Pattern {
        /// The layout's name.
        layout: &'static str,
        /// What the layout asks of every four columns.
        zeros: &'static str,
        /// Row of the weights.
        row: usize,
        /// First column of the four.
        column: usize,
    },
    /// A matrix without rows or columns.
    #[error("a matrix of {rows} rows and {columns} columns has no weights")]
    Empty {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
    },
    /// The size does not fit the address space.
    #[error("a matrix of {rows} rows and {columns} columns is too large for this machine")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
    },
    /// No memory.
    #[error(transparent)]
    Memory(#[from] HugeError),
}

/// A ternary matrix, `rows` by `columns`, packed for this machine's kernels.
#[derive(Debug)]
pub struct TernaryMatrix {
    layout: Layout,
    rows: usize,
    columns: usize,
    weights: HugeBuffer,
    kernels: Kernels,
}

/// The kernels a matrix runs on, chosen once.
#[derive(Clone, Copy, Debug)]
struct Kernels {
    name: &'static str,
    gemv: GemvBlock,
    unpack: Unpack,
    tile: Tile,
    /// Table look-up for large batches, where it is the faster.
    lut: Option<lut::Multiply>,
}

impl TernaryMatrix {
    /// Packs `rows` rows of `columns` weights; `row(r, out)` writes row r's weights (−1, 0, 1) to `out`.
    /// Rows are asked for once each, by any thread.
    ///
    /// # Errors
    /// [`PackError`]: weights that the layout cannot hold, or no memory for them.
    pub fn pack(
        layout: Layout,
        rows: usize,
        columns: usize,
        packer: &Packer,
        row: impl Fn(usize, &mut [i8]) + Sync,
    ) -> Result<TernaryMatrix, PackError> {
        if rows == 0 || columns == 0 {
            return Err(PackError::Empty { rows, columns });
        }
        // Column arithmetic below rounds up by less than this; a single check covers all of it.
        let too_large = || PackError::TooLarge { rows, columns };
        let stride = columns
            .checked_next_multiple_of(640)
            .ok_or_else(too_large)?;
        stride
            .checked_mul(rows.div_ceil(BLOCK_ROWS))
            .and_then(|n| n.checked_mul(BLOCK_ROWS))
            .filter(|&n| n < isize::MAX as usize)
            .ok_or_else(too_large)?;

        let block_bytes = layout.block_bytes(columns);
        let n_blocks = rows.div_ceil(BLOCK_ROWS);
        let mut weights = packer.memory.take(block_bytes * n_blocks)?;
        let (out, failed) = (Shared::new(weights.bytes_mut()), First::new());
        packer.threads.run(n_blocks, &|block| {
            // SAFETY: these bytes belong to this block alone.
            let out = unsafe { out.range(block * block_bytes, block_bytes) };
            // Padding is weight 0, that is code 1, in columns and in rows.
            let (mut codes, mut trits) = (vec![1u8; BLOCK_ROWS * stride], vec![0i8; columns]);
            let first = block * BLOCK_ROWS;
            for (index, codes) in (first..rows).zip(codes.chunks_exact_mut(stride)) {
                row(index, &mut trits);
                let mut worst = 0;
                for (code, &trit) in codes.iter_mut().zip(&trits) {
                    *code = trit.wrapping_add(1).cast_unsigned();
                    worst = worst.max(*code);
                }
                if worst > 2 {
                    let wrong = |trit: &i8| !(-1..=1).contains(trit);
                    let column = trits.iter().position(wrong).unwrap_or(0);
                    let value = trits[column];
                    return failed.note(
                        index,
                        PackError::NotTernary {
                            row: index,
                            column,
                            value,
                        },
                    );
                }
            }
            let codes = BlockCodes::new(&codes, stride, rows - first, columns);
            if let Err((row, column)) = layout.pack_block(&codes, out) {
                let zeros = if layout == Layout::S34 {
                    "exactly one zero"
                } else {
                    "exactly two zeros"
                };
                failed.note(
                    first + row,
                    PackError::Pattern {
                        layout: layout.name(),
                        zeros,
                        row: first + row,
                        column,
                    },
                );
            }
        });
        failed.result()?;
        Ok(TernaryMatrix {
            layout,
            rows,
            columns,
            weights,
            kernels: kernels(layout, None),
        })
    }

    /// The rows of `one` repeated `times` times (benches: packing random weights would take longer than
    /// measuring them).
    pub(crate) fn repeat(one: &TernaryMatrix, times: usize) -> Result<TernaryMatrix, PackError> {
        let bytes = one.bytes();
        let mut weights = HugeBuffer::zeroed(bytes * times)?;
        for copy in weights.bytes_mut().chunks_exact_mut(bytes) {
            copy.copy_from_slice(one.weights.bytes());
        }
        Ok(TernaryMatrix {
            rows: one.n_blocks() * BLOCK_ROWS * times,
            weights,
            ..*one
        })
    }

    /// The packed bytes.
    pub(crate) fn packed(&self) -> &[u8] {
        self.weights.bytes()
    }

    /// The layout it was packed in.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, without padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Blocks of [`BLOCK_ROWS`] rows; the last may be partly padding.
    pub fn n_blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK_ROWS)
    }

    /// Bytes of packed weights: what one product reads from memory.
    pub fn bytes(&self) -> usize {
        self.weights.len()
    }

    /// The kernel variant in use.
    pub fn variant(&self) -> &'static str {
        self.kernels.name
    }

    /// Names of the variants this machine can run for a layout, slowest first.
    pub fn variants(layout: Layout) -> Vec<&'static str> {
        layout.gemv_variants().into_iter().map(|v| v.0).collect()
    }

    /// Chooses a variant by name (tests, benches); `false` if this machine does not have it.
    pub fn use_variant(&mut self, name: &str) -> bool {
        let found = Self::variants(self.layout).contains(&name);
        if found {
            self.kernels = kernels(self.layout, Some(name));
        }
        found
    }

    /// One token: `sums[r] = sum over columns of weight[first + r] · x8`, for the rows of `blocks`
    /// (`sums.len() == 32 · blocks.len()`; rows beyond the matrix give 0). Exact.
    pub fn gemv(&self, blocks: Range<usize>, x: &Int8Rows, sums: &mut [i32]) {
        self.check(&blocks, x, sums);
        assert_eq!(x.tokens(), 1, "gemv takes one token; use gemm");
        let bytes = self.block_bytes();
        let weights = &self.weights.bytes()[blocks.start * bytes..blocks.end * bytes];
        for (w, y) in weights
            .chunks_exact(bytes)
            .zip(sums.as_chunks_mut::<BLOCK_ROWS>().0)
        {
            (self.kernels.gemv)(w, x.row(0), y);
            for y in y {
                *y -= x.sum(0);
            }
        }
        self.clear_padding(&blocks, sums, blocks.len() * BLOCK_ROWS);
    }

    /// Many tokens: `sums[t · 32 · blocks.len() + r]` is what [`TernaryMatrix::gemv`] gives for token t.
    /// (`sums.len() == 32 · blocks.len() · x.tokens()`.) Exact.
    pub fn gemm(&self, blocks: Range<usize>, x: &Int8Rows, sums: &mut [i32]) {
        if x.tokens() == 1 {
            return self.gemv(blocks, x, sums);
        }
        self.check(&blocks, x, sums);
        if x.tokens() == 0 || blocks.is_empty() {
            return;
        }
        let y_stride = blocks.len() * BLOCK_ROWS;
        let by_table = self.kernels.lut.map_or(0, |multiply| {
            let bytes = self.block_bytes();
            let packed = Packed {
                weights: &self.weights.bytes()[blocks.start * bytes..blocks.end * bytes],
                block_bytes: bytes,
                columns: self.columns,
                lanes: self.layout.lanes(self.columns),
                tile_lanes: self.layout.tile_lanes(),
                unpack: self.kernels.unpack,
            };
            let tokens = lut::tokens(x.tokens(), y_stride);
            if tokens > 0 {
                multiply(&packed, x, tokens, sums, y_stride);
            }
            tokens
        });
        if by_table < x.tokens() {
            self.gemm_tiles(&blocks, x, by_table, &mut sums[by_table * y_stride..]);
        }
        self.clear_padding(&blocks, sums, y_stride);
    }

    /// The products of the tokens from `first` on, by tiles of unpacked weights.
    fn gemm_tiles(
        &self,
        blocks: &Range<usize>,
        x: &Int8Rows,
        first_token: usize,
        sums: &mut [i32],
    ) {
        let (y_stride, tokens) = (blocks.len() * BLOCK_ROWS, x.tokens() - first_token);
        for (token, y) in sums.chunks_exact_mut(y_stride).enumerate() {
            y.fill(-x.sum(first_token + token));
        }
        let (lanes, step) = (self.layout.lanes(self.columns), self.layout.tile_lanes());
        let mut tile = [0u8; TILE_LANES * LANE_BYTES];
        // The blocks take turns with the same activations: those of one tile stay in the second-level cache.
        for first in (0..lanes).step_by(step) {
            for block in blocks.clone() {
                let w = &self.weights.bytes()[block * self.block_bytes()..][..self.block_bytes()];
                let tile = &mut tile[..step.min(lanes - first) * LANE_BYTES];
                (self.kernels.unpack)(w, first, tile);
                let y = &mut sums[(block - blocks.start) * BLOCK_ROWS..];
                let codes = &x.codes()[first_token * x.stride() + 4 * first..];
                (self.kernels.tile)(tile, codes, x.stride(), tokens, y, y_stride);
            }
        }
    }

    fn block_bytes(&self) -> usize {
        self.layout.block_bytes(self.columns)
    }

    fn check(&self, blocks: &Range<usize>, x: &Int8Rows, sums: &[i32]) {
        assert!(
            blocks.start <= blocks.end && blocks.end <= self.n_blocks(),
            "blocks {blocks:?} of {}",
            self.n_blocks()
        );
        assert_eq!(
            x.columns(),
            self.columns,
            "activations and matrix have the same columns"
        );
        assert_eq!(
            sums.len(),
            blocks.len() * BLOCK_ROWS * x.tokens(),
            "one sum a row and token"
        );
    }

    /// Sets the sums of rows beyond the matrix to 0.
    fn clear_padding(&self, blocks: &Range<usize>, sums: &mut [i32], y_stride: usize) {
        let first = blocks.start * BLOCK_ROWS;
        if blocks.end * BLOCK_ROWS > self.rows && y_stride > 0 {
            for y in sums.chunks_exact_mut(y_stride) {
                y[self.rows - first..].fill(0);
            }
        }
    }
}

/// The kernels of a layout: the fastest, or for each operation the variant of that name where it has one.
fn kernels(layout: Layout, name: Option<&str>) -> Kernels {
    fn choose<F: Copy>(mut list: Vec<(&'static str, F)>, name: Option<&str>) -> (&'static str, F) {
        // The variants are sorted slowest first; an operation without the wanted one falls to the next slower.
        const ORDER: [&str; 5] = ["scalar", "avx2", "avxvnni", "avx512vnni", "avx512vbmi"];
        let rank = |n: &str| ORDER.iter().position(|o| *o == n);
        if let Some(limit) = name.and_then(rank) {
            list.retain(|v| rank(v.0).is_some_and(|r| r <= limit));
        }
        list[list.len() - 1]
    }
    let (gemv_name, gemv) = choose(layout.gemv_variants(), name);
    let (tile_name, tile) = choose(gemm::variants(), name);
    Kernels {
        name: gemv_name,
        gemv,
        unpack: choose(layout.unpack_variants(), name).1,
        tile,
        lut: lut::multiply().filter(|_| tile_name == "avx2"),
    }
}
