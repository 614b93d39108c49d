//! The element types a GGUF tensor can have: names, ids, block sizes. Knows no layout beyond sizes.

/// How one id of the format is called and how large its blocks are.
struct Row {
    kind: TensorKind,
    id: u32,
    name: &'static str,
    /// Weights in one block; a tensor's row is a whole number of blocks.
    block: usize,
    /// Bytes of one block.
    bytes: usize,
    /// Bytes after the last block of a tensor (only I2_S has any).
    tail: usize,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $id:literal, $name:literal, $block:literal => $bytes:literal $(+ $tail:literal)?;)*) => {
        /// A tensor's element type, as ggml numbers them. `Unknown` keeps the number so that
        /// whoever refuses it can say which one it was.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TensorKind {
            $($(#[$doc])* $kind,)*
            /// A number that this build has no name for.
            Unknown(u32),
        }
        const ROWS: &[Row] = &[
            $(Row { kind: TensorKind::$kind, id: $id, name: $name, block: $block, bytes: $bytes, tail: 0 $(+ $tail)? },)*
        ];
    };
}

kinds! {
    F32 = 0, "F32", 1 => 4;
    F16 = 1, "F16", 1 => 2;
    Q4_0 = 2, "Q4_0", 32 => 18;
    Q4_1 = 3, "Q4_1", 32 => 20;
    Q5_0 = 6, "Q5_0", 32 => 22;
    Q5_1 = 7, "Q5_1", 32 => 24;
    Q8_0 = 8, "Q8_0", 32 => 34;
    Q8_1 = 9, "Q8_1", 32 => 36;
    Q2K = 10, "Q2_K", 256 => 84;
    Q3K = 11, "Q3_K", 256 => 110;
    Q4K = 12, "Q4_K", 256 => 144;
    Q5K = 13, "Q5_K", 256 => 176;
    Q6K = 14, "Q6_K", 256 => 210;
    Q8K = 15, "Q8_K", 256 => 292;
    Iq2Xxs = 16, "IQ2_XXS", 256 => 66;
    Iq2Xs = 17, "IQ2_XS", 256 => 74;
    Iq3Xxs = 18, "IQ3_XXS", 256 => 98;
    Iq1S = 19, "IQ1_S", 256 => 50;
    Iq4Nl = 20, "IQ4_NL", 32 => 18;
    Iq3S = 21, "IQ3_S", 256 => 110;
    Iq2S = 22, "IQ2_S", 256 => 82;
    Iq4Xs = 23, "IQ4_XS", 256 => 136;
    I8 = 24, "I8", 1 => 1;
    I16 = 25, "I16", 1 => 2;
    I32 = 26, "I32", 1 => 4;
    I64 = 27, "I64", 1 => 8;
    F64 = 28, "F64", 1 => 8;
    Iq1M = 29, "IQ1_M", 256 => 56;
    Bf16 = 30, "BF16", 1 => 2;
    Tq1_0 = 34, "TQ1_0", 256 => 54;
    Tq2_0 = 35, "TQ2_0", 256 => 66;
    /// Microsoft's bitnet.cpp: 2-bit codes, one scale behind the whole tensor, padded to 32 bytes.
    I2S = 36, "I2_S", 128 => 32 + 32;
    Mxfp4 = 39, "MXFP4", 32 => 17;
    Nvfp4 = 40, "NVFP4", 64 => 36;
    /// PrismML's binary groups of 128: a tag of its own fork.
    Q1G128 = 41, "Q1_0_g128", 128 => 18;
    /// PrismML's ternary groups of 128: a tag of its own fork.
    Q2G128 = 42, "Q2_0_g128", 128 => 34;
    /// llama.cpp's blocks of 64 under the same number; the reader tells the two apart by the room
    /// between tensors.
    Q2G64 = 42, "Q2_0", 64 => 18;
}

impl TensorKind {
    /// The kind that a file's number means; numbers without a name become `Unknown`.
    pub fn from_id(id: u32) -> TensorKind {
        ROWS.iter()
            .find(|row| row.id == id)
            .map_or(TensorKind::Unknown(id), |row| row.kind)
    }

    /// The number as it stands in a file.
    pub fn id(self) -> u32 {
        match self {
            TensorKind::Unknown(id) => id,
            known => known.row().map_or(u32::MAX, |row| row.id),
        }
    }

    /// ggml's name, such as `Q4_K`, or `unknown type 77`.
    pub fn name(self) -> String {
        match self.row() {
            Some(row) => row.name.to_owned(),
            None => format!("unknown type {}", self.id()),
        }
    }

    /// Weights per block; `None` for an unknown kind.
    pub fn block_len(self) -> Option<usize> {
        self.row().map(|row| row.block)
    }

    /// Bytes per block; `None` for an unknown kind.
    pub fn block_bytes(self) -> Option<usize> {
        self.row().map(|row| row.bytes)
    }

    /// Bytes of one row of `columns` weights; `None` when the kind is unknown or the columns are
    /// no whole number of blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let row = self.row()?;
        (columns.is_multiple_of(row.block))
            .then(|| columns / row.block)?
            .checked_mul(row.bytes)
    }

    /// Bytes of a whole tensor with these dimensions (row length first); `None` when the kind is
    /// unknown, a row is no whole number of blocks, or the product does not fit 64 bits.
    pub fn tensor_bytes(self, dims: &[u64]) -> Option<u64> {
        let row = self.row()?;
        let first = *dims.first()?;
        if !first.is_multiple_of(row.block as u64) {
            return None;
        }
        let mut blocks = first / row.block as u64;
        for &dim in &dims[1..] {
            blocks = blocks.checked_mul(dim)?;
        }
        blocks
            .checked_mul(row.bytes as u64)?
            .checked_add(row.tail as u64)
    }

    fn row(self) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.kind == self)
    }
}

impl std::fmt::Display for TensorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_return() {
        for row in ROWS {
            let known = TensorKind::from_id(row.id);
            assert!(
                known == row.kind || row.kind == TensorKind::Q2G64,
                "{}",
                row.name
            );
            assert_eq!(row.kind.id(), row.id);
        }
        assert_eq!(TensorKind::from_id(4), TensorKind::Unknown(4));
        assert_eq!(TensorKind::Unknown(77).name(), "unknown type 77");
    }

    #[test]
    fn sizes_follow_the_block() {
        assert_eq!(TensorKind::Q4K.row_bytes(512), Some(288));
        assert_eq!(TensorKind::Q4K.row_bytes(576), None);
        assert_eq!(TensorKind::Tq1_0.tensor_bytes(&[256, 3]), Some(162));
        assert_eq!(TensorKind::I2S.tensor_bytes(&[256, 2]), Some(128 + 32));
        assert_eq!(TensorKind::F32.tensor_bytes(&[u64::MAX, u64::MAX]), None);
        assert_eq!(TensorKind::Unknown(99).tensor_bytes(&[32]), None);
    }
}
