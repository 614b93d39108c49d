//! Any bytes as each of the smaller containers: .h1b, .htok, safetensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_kernels::format::h1b::{H1b, MATRICES};
use onebit_kernels::format::htok::Htok;
use onebit_kernels::format::safetensors::Safetensors;
use onebit_kernels::format::ternary::Row;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(h1b) = H1b::from_bytes(bytes.to_vec()) {
        let mut row = Row::default();
        for which in 0..MATRICES.len() {
            if let Ok(matrix) = h1b.matrix(0, which) {
                let _ = matrix.read(matrix.rows() - 1, &mut row);
            }
        }
    }
    if let Ok(htok) = Htok::from_bytes(bytes) {
        htok.merge_texts();
    }
    if let Ok(file) = Safetensors::from_bytes(bytes.to_vec()) {
        assert!(file.entries().all(|(name, _)| file.tensor(name).is_some()));
    }
});
