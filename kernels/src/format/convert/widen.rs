//! A model with every weight as an F32 number: what quantised arithmetic is measured against.
//!
//! The weights are those of the file, exactly; only the rounding of activations, which follows from their
//! storage, goes away.

use std::io::Write;

use super::super::gguf::{Gguf, GgufBuilder};
use super::super::{Matrix, TensorKind};
use super::ConvertError;

/// Writes `gguf` to `out` with all tensors in F32.
///
/// # Errors
/// [`ConvertError`], also for tensors of our own packings, whose scales stand beside them.
pub fn widen(gguf: &Gguf, out: impl Write) -> Result<(), ConvertError> {
    let mut builder = GgufBuilder::new();
    for key in gguf.keys() {
        if let Some(value) = gguf.value(key) {
            builder.value(key, value.clone());
        }
    }
    for info in gguf.tensors() {
        if info.kind == TensorKind::I8 {
            let (name, what) = (info.name.clone(), "only ggml's types can be widened".into());
            return Err(ConvertError::Tensor { name, what });
        }
        builder.tensor(&info.name, &info.dims, TensorKind::F32)?;
    }
    let mut sink = builder.begin(out)?;
    for info in gguf.tensors() {
        let matrix = Matrix::open(gguf, &info.name)?;
        let mut row = vec![0.0; matrix.columns()];
        for index in 0..matrix.rows() {
            matrix.decode_row(&info.name, index, &mut row)?;
            let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
            sink.part(&bytes)?;
        }
        sink.end_tensor()?;
    }
    sink.finish()?;
    Ok(())
}
