//! Hugging Face folders, written here as the published models are laid out.

use serde_json::json;

use super::*;

/// A safetensors file of these tensors.
fn safetensors(tensors: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}),
        );
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

const HF_NAMES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// A folder with the trits of `model`; `weight` says how a matrix is stored.
fn write_folder(
    folder: &Path,
    config: serde_json::Value,
    weight: impl Fn(&str, &[i8], usize, usize) -> Vec<(String, &'static str, Vec<usize>, Vec<u8>)>,
) {
    std::fs::create_dir(folder).unwrap();
    let mut all = json!({
        "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "tie_word_embeddings": true, "bos_token_id": 4, "eos_token_id": [5],
    });
    all.as_object_mut()
        .unwrap()
        .extend(config.as_object().unwrap().clone());
    std::fs::write(folder.join("config.json"), all.to_string()).unwrap();
    let tokenizer = json!({
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": ["a b"]},
        "added_tokens": [{"id": 4, "content": "<|begin|>", "special": true}, {"id": 5, "content": "<|end|>", "special": true}],
        "pre_tokenizer": {"type": "ByteLevel"},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let vector = |seed: usize, count: usize| {
        floats(
            &(0..count)
                .map(|i| (seed + i) as f32 / 8.0)
                .collect::<Vec<_>>(),
        )
    };
    let mut tensors = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            "F32",
            vec![VOCABULARY, HIDDEN],
            vector(1, HIDDEN * VOCABULARY),
        ),
        (
            "model.norm.weight".to_owned(),
            "F32",
            vec![HIDDEN],
            vector(2, HIDDEN),
        ),
    ];
    let sub_norms = all["architectures"][0] == "BitNetForCausalLM";
    for layer in 0..LAYERS {
        for (index, (norm, length)) in [
            ("input_layernorm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
            ("self_attn.attn_sub_norm", HIDDEN),
            ("mlp.ffn_sub_norm", FEED_FORWARD),
        ]
        .into_iter()
        .enumerate()
        .take(if sub_norms { 4 } else { 2 })
        {
            let name = format!("model.layers.{layer}.{norm}.weight");
            tensors.push((
                name,
                "F32",
                vec![length],
                vector(10 * layer + index, length),
            ));
        }
        for (which, (_, rows, columns)) in shapes().into_iter().enumerate() {
            let name = format!("model.layers.{layer}.{}.weight", HF_NAMES[which].1);
            tensors.extend(weight(
                &name,
                &trits(10 * layer + which, rows * columns, None),
                rows,
                columns,
            ));
        }
    }
    std::fs::write(folder.join("model.safetensors"), safetensors(&tensors)).unwrap();
}

#[test]
fn the_packed_form_of_bitnet_loads() {
    for (class, stored) in [("autobitlinear", 0.25_f32), ("bitlinear", 4.0)] {
        let scene = Scene::new();
        let model = scene.model(None, 0.25);
        let config = json!({"architectures": ["BitNetForCausalLM"], "hidden_act": "relu2",
            "quantization_config": {"quant_method": "bitnet", "linear_class": class}});
        write_folder(&scene.path("hf"), config, |name, trits, rows, columns| {
            let quarter = rows / 4;
            let packed = (0..quarter * columns)
                .map(|at| {
                    (0..4).fold(0, |byte, k| {
                        byte | ((trits[at + k * quarter * columns] + 1) as u8) << (2 * k)
                    })
                })
                .collect();
            vec![
                (name.to_owned(), "U8", vec![quarter, columns], packed),
                (
                    format!("{name}_scale"),
                    "BF16",
                    vec![1],
                    half::bf16::from_f32(stored).to_le_bytes().to_vec(),
                ),
            ]
        });
        run(&scene.path("hf"), &scene.path("out"), "t2").unwrap();
        assert_same_weights(&model, &scene.path("out"), class);
        let gguf = Gguf::open(&scene.path("out")).unwrap();
        assert_eq!(gguf.str("general.architecture").unwrap(), "bitnet-b1.58");
        assert_eq!(gguf.strings("tokenizer.ggml.tokens").unwrap(), tokens());
        assert_eq!(gguf.u32("tokenizer.ggml.eos_token_id").unwrap(), 5);
    }
}

#[test]
fn a_bf16_master_is_quantised_as_bitnet_does() {
    let scene = Scene::new();
    let config = json!({"architectures": ["BitNetForCausalLM"], "hidden_act": "relu2"});
    // Weights of 1.0 and 0.9 and near zero: the mean lies well between, so the trits are those.
    write_folder(&scene.path("hf"), config, |name, trits, rows, columns| {
        let values = trits.iter().enumerate().map(|(i, &trit)| match trit {
            0 => 0.03125,
            sign => f32::from(sign) * if i % 2 == 0 { 1.0 } else { 0.875 },
        });
        let bytes = values
            .flat_map(|value| half::bf16::from_f32(value).to_le_bytes())
            .collect();
        vec![(name.to_owned(), "BF16", vec![rows, columns], bytes)]
    });
    run(&scene.path("hf"), &scene.path("out"), "tq2_0").unwrap();
    let gguf = Gguf::open(&scene.path("out")).unwrap();
    let Matrix::Ternary(rows) = Matrix::open(&gguf, "blk.1.ffn_down.weight").unwrap() else {
        panic!("not ternary")
    };
    let expected = trits(16, HIDDEN * FEED_FORWARD, None);
    let mut row = Row::default();
    for index in 0..HIDDEN {
        rows.read(index, &mut row).unwrap();
        assert_eq!(row.trits, expected[index * FEED_FORWARD..][..FEED_FORWARD]);
    }
    let mean: f64 = expected
        .iter()
        .enumerate()
        .map(|(i, &trit)| {
            if trit == 0 {
                0.03125
            } else if i % 2 == 0 {
                1.0
            } else {
                0.875
            }
        })
        .sum::<f64>()
        / expected.len() as f64;
    assert_eq!(row.scales, [mean as f32, mean as f32]);
}

#[test]
fn unpacked_trilm_loads_with_rotated_rows() {
    let scene = Scene::new();
    let config = json!({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu"});
    write_folder(&scene.path("hf"), config, |name, trits, rows, columns| {
        let bytes = trits
            .iter()
            .flat_map(|&trit| half::f16::from_f32(f32::from(trit) * 0.5).to_le_bytes())
            .collect();
        vec![(name.to_owned(), "F16", vec![rows, columns], bytes)]
    });
    run(&scene.path("hf"), &scene.path("out"), "t5").unwrap();
    let gguf = Gguf::open(&scene.path("out")).unwrap();
    assert_eq!(gguf.str("general.architecture").unwrap(), "llama");
    let Matrix::Ternary(rows) = Matrix::open(&gguf, "blk.0.attn_q.weight").unwrap() else {
        panic!("not ternary")
    };
    let source = trits(0, HIDDEN * HIDDEN, None);
    let mut row = Row::default();
    // Heads of 64: row 1 of the output is row 32 of the source.
    for (index, from) in [(0, 0), (1, 32), (2, 1), (65, 96), (255, 255)] {
        rows.read(index, &mut row).unwrap();
        assert_eq!(row.trits, source[from * HIDDEN..][..HIDDEN], "row {index}");
        assert_eq!(row.scales, [0.5]);
    }
}

#[test]
fn foreign_folders_are_refused_by_name() {
    let refused = |config: serde_json::Value| {
        let scene = Scene::new();
        write_folder(&scene.path("hf"), config, |name, _, rows, columns| {
            vec![(
                name.to_owned(),
                "F16",
                vec![rows, columns],
                vec![0; 2 * rows * columns],
            )]
        });
        run(&scene.path("hf"), &scene.path("out"), "t2")
            .unwrap_err()
            .to_string()
    };
    assert!(
        refused(json!({"architectures": ["MambaForCausalLM"]}))
            .contains("MambaForCausalLM is not supported")
    );
    let scaled = json!({"architectures": ["LlamaForCausalLM"], "rope_scaling": {"type": "yarn"}});
    assert!(refused(scaled).starts_with("rope_scaling in config.json would be lost"));
    let gelu = json!({"architectures": ["LlamaForCausalLM"], "hidden_act": "gelu"});
    assert!(refused(gelu).contains("gelu"));
    let scene = Scene::new();
    assert!(
        run(scene.folder.path(), &scene.path("out"), "t2")
            .unwrap_err()
            .to_string()
            .contains("is no model")
    );
}
