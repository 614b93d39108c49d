//! Any bytes as a GGUF file: header, tensor data, tokenizer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_kernels::format::{Gguf, row};
use onebit_kernels::tokenizer::{Encode, Tokenizer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::from_bytes(bytes.to_vec()) else {
        return;
    };
    for info in gguf.tensors() {
        let Some(tensor) = gguf.tensor(&info.name) else {
            continue;
        };
        // A row longer than the file holds a kind of less than one bit: none is decoded.
        if info.dims[0] <= 8 * bytes.len() as u64
            && let Some(size) = info.kind.row_bytes(info.columns())
        {
            let _ = row::decode(
                info.kind,
                &tensor.data[..size],
                &mut vec![0.0; info.columns()],
            );
        }
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        let ids = tokenizer.encode(
            "Hello <|im_end|> wörld 42\n",
            Encode {
                add_special: true,
                parse_special: true,
            },
        );
        tokenizer.decode(&ids);
    }
});
