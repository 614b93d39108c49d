//! The engine on a tiny random model: what a client is promised, whatever the weights say.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use onebit_kernels::format::TensorKind;
use onebit_kernels::format::gguf::{Array, GgufBuilder, Value};
use onebit_kernels::threads::Threads;

use super::Ternary;
use crate::config::{HeadKind, TernaryConfig};
use crate::domain::{
    ChatEvent, ChatRequest, Finish, FinishReason, Input, Limits, Model, ModelFormat, Sampling,
    Shape,
};
use crate::engines::{Engine, EngineError, Events, Means, Session, Slot};

/// Three marks, then one token for each byte.
const MARKS: usize = 3;
const CONTEXT: u32 = 256;
const EMBD: u64 = 32;
const FF: u64 = 64;

/// Writes the model's file: two llama layers of random weights, a vocabulary of single bytes.
pub(crate) fn write_tiny_model(path: &Path) {
    let mut builder = GgufBuilder::new();
    let vocabulary = MARKS + 256;
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let types = (0..vocabulary).map(|id| match id {
        0 => 2,
        1 | 2 => 3,
        _ => 6,
    });
    let values = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", Value::U32(2)),
        ("llama.context_length", Value::U32(CONTEXT)),
        ("llama.embedding_length", Value::U32(EMBD as u32)),
        ("llama.feed_forward_length", Value::U32(FF as u32)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.attention.head_count_kv", Value::U32(1)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", Value::U32(16)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        (
            "tokenizer.chat_template",
            Value::String(
                "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}".into(),
            ),
        ),
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
        (
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(vec![0.0; vocabulary])),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(types.collect())),
        ),
    ];
    for (key, value) in values {
        builder.value(key, value);
    }
    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("token_embd.weight".into(), vec![EMBD, vocabulary as u64]),
        ("output_norm.weight".into(), vec![EMBD]),
    ];
    for layer in 0..2 {
        let dims: [(&str, Vec<u64>); 9] = [
            ("attn_norm", vec![EMBD]),
            ("attn_q", vec![EMBD, EMBD]),
            ("attn_k", vec![EMBD, 16]),
            ("attn_v", vec![EMBD, 16]),
            ("attn_output", vec![EMBD, EMBD]),
            ("ffn_norm", vec![EMBD]),
            ("ffn_gate", vec![EMBD, FF]),
            ("ffn_up", vec![EMBD, FF]),
            ("ffn_down", vec![FF, EMBD]),
        ];
        tensors.extend(dims.map(|(name, dims)| (format!("blk.{layer}.{name}.weight"), dims)));
    }
    let mut state = 7u64;
    let mut data = Vec::new();
    for (name, dims) in &tensors {
        builder.tensor(name, dims, TensorKind::F32).unwrap();
        let is_norm = name.ends_with("norm.weight");
        let numbers = (0..dims.iter().product::<u64>()).flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let random = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.5;
            (if is_norm { 1.0 } else { random }).to_le_bytes()
        });
        data.push(numbers.collect::<Vec<u8>>());
    }
    let parts: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    std::fs::write(path, builder.to_bytes(&parts).unwrap()).unwrap();
}

async fn session(settings: TernaryConfig) -> Arc<dyn Session> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_tiny_model(&path);
    let model = Model {
        id: "tiny".into(),
        name: "tiny".into(),
        format: ModelFormat::Gguf,
        file_bytes: 0,
        sha256: String::new(),
        architecture: "llama".into(),
        quantisation: "F32".into(),
        context_length: u64::from(CONTEXT),
        kv_bytes_per_position: 0,
        has_template: false,
        imported_at: 0,
        path,
    };
    let slot = Slot {
        memory_bytes_max: 1 << 30,
        lane: "",
        threads: Arc::new(Threads::new(1)),
        means: Arc::new(Means {
            ternary: settings,
            ..Means::default()
        }),
    };
    Ternary.load(&model, slot).await.unwrap()
}

fn request(text: &str, tokens_max: usize) -> ChatRequest {
    ChatRequest {
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        limits: Limits {
            tokens_max: Some(tokens_max),
            ignore_end: true,
            ..Limits::default()
        },
        logprobs: Some(0),
        ..ChatRequest::new(
            "",
            Input::Text {
                text: text.into(),
                parse_special: false,
            },
        )
    }
}

/// The ids of the answer's tokens, its text, and how it ended.
async fn finish(mut events: Events) -> (Vec<u32>, String, Finish) {
    let (mut ids, mut text) = (Vec::new(), String::new());
    while let Some(event) = events.next().await {
        match event.unwrap() {
            ChatEvent::LeftOut { .. } | ChatEvent::Sources(_) => {
                unreachable!("engines know no documents and leave nothing out")
            }
            ChatEvent::Queued { .. } | ChatEvent::Waits { .. } => {}
            ChatEvent::Reasoning(_)
            | ChatEvent::CallBegins { .. }
            | ChatEvent::CallArguments { .. } => panic!("engines send text only"),
            ChatEvent::Piece(piece) => {
                ids.extend(piece.logprobs.iter().map(|token| token.id));
                text.push_str(&piece.text);
            }
            ChatEvent::Finished(finish) => return (ids, text, finish),
        }
    }
    panic!("the stream ended without a finish");
}

async fn ask(
    session: &Arc<dyn Session>,
    text: &str,
    tokens_max: usize,
) -> (Vec<u32>, String, Finish) {
    finish(session.chat(request(text, tokens_max)).unwrap()).await
}

/// Prompts that share a start, differ, and are longer than one piece of a pass.
fn prompts() -> Vec<String> {
    (0..12)
        .map(|i| {
            format!(
                "{} question {i}: {}",
                "same start,".repeat(3),
                "x".repeat(i * 5)
            )
        })
        .collect()
}

#[tokio::test]
async fn answers_together_equal_answers_alone() {
    let alone = session(TernaryConfig {
        kept_max: 0,
        ..TernaryConfig::default()
    })
    .await;
    let mut expected = Vec::new();
    for prompt in prompts() {
        expected.push(ask(&alone, &prompt, 20).await.0);
    }
    assert!(expected.iter().all(|ids| ids.len() == 20));
    // Small pieces, few places, and a cache that holds two answers at most: some have to step back.
    let crowded = TernaryConfig {
        active_max: 5,
        prefill_tokens: 7,
        cache_positions: 256,
        kept_max: 3,
        ..TernaryConfig::default()
    };
    for settings in [TernaryConfig::default(), crowded] {
        let together = session(settings).await;
        let streams: Vec<Events> = prompts()
            .iter()
            .map(|prompt| together.chat(request(prompt, 20)).unwrap())
            .collect();
        for (index, stream) in streams.into_iter().enumerate() {
            assert_eq!(finish(stream).await.0, expected[index], "prompt {index}");
        }
        assert_eq!(together.load().active + together.load().waiting, 0);
    }
}

/// A greedy token is found without a row of logits, one that wants probabilities in a full row: it is the same.
#[tokio::test]
async fn a_greedy_answer_is_the_same_with_and_without_a_full_row() {
    for head in [HeadKind::TwoStep, HeadKind::File] {
        let session = session(TernaryConfig {
            head,
            ..TernaryConfig::default()
        })
        .await;
        for prompt in prompts() {
            let quick = ChatRequest {
                logprobs: None,
                ..request(&prompt, 60)
            };
            let quick = finish(session.chat(quick).unwrap()).await.1;
            assert!(!quick.is_empty());
            assert_eq!(
                quick,
                ask(&session, &prompt, 60).await.1,
                "{head:?} {prompt}"
            );
        }
    }
}

#[tokio::test]
async fn the_next_turn_reads_only_what_is_new() {
    let session = session(TernaryConfig::default()).await;
    let first = "aConversationThatIsLongEnoughToBeKept";
    let (_, text, finish) = ask(&session, first, 8).await;
    assert_eq!(finish.usage.cached_tokens, 0);
    assert_eq!(finish.usage.prompt_tokens, first.len() + 1);
    // Random bytes are seldom text; a second turn that goes on after the question is as good.
    let second = format!("{first}AndGoesOn");
    let (ids, _, again) = ask(&session, &second, 8).await;
    assert!(
        again.usage.cached_tokens >= first.len(),
        "{:?} after {text:?}",
        again.usage
    );
    let fresh = self::session(TernaryConfig {
        kept_max: 0,
        ..TernaryConfig::default()
    })
    .await;
    assert_eq!(ask(&fresh, &second, 8).await.0, ids);
}

#[tokio::test]
async fn a_lost_reader_frees_its_place_and_a_full_queue_says_so() {
    let session = session(TernaryConfig {
        active_max: 1,
        queue_max: 2,
        ..TernaryConfig::default()
    })
    .await;
    // Asking is faster than answering, so the queue fills however fast the engine is.
    let mut streams: Vec<Events> = Vec::new();
    let refused = loop {
        match session.chat(request("hello", 200)) {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert!(streams.len() >= 3, "only {} were let in", streams.len());
    assert!(
        matches!(refused, EngineError::QueueFull { .. }),
        "{refused}"
    );
    drop(streams);
    // The places come back as the scheduler notices; each attempt gives it a turn.
    loop {
        match session.chat(request("hello", 3)) {
            Ok(events) => {
                assert_eq!(finish(events).await.2.reason, FinishReason::Length);
                break;
            }
            Err(EngineError::QueueFull { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn requests_that_cannot_be_answered_are_refused_at_once() {
    let session = session(TernaryConfig::default()).await;
    let with = |input: Input| ChatRequest {
        input,
        ..request("", 1)
    };
    let text = |text: String| Input::Text {
        text,
        parse_special: false,
    };
    let refused = |input: Input| session.chat(with(input)).err().unwrap();
    let long = refused(text("x".repeat(300)));
    assert!(
        matches!(
            long,
            EngineError::PromptTooLong {
                tokens: 301,
                context: 256
            }
        ),
        "{long}"
    );
    assert!(matches!(
        refused(Input::Tokens(vec![])),
        EngineError::EmptyPrompt
    ));
    assert!(matches!(
        refused(Input::Tokens(vec![999])),
        EngineError::BadToken { id: 999, .. }
    ));
    assert!(matches!(
        refused(Input::Messages(vec![])),
        EngineError::NoTemplate
    ));
    // To the very end of the context.
    let (ids, _, finish) = ask(&session, &"y".repeat(250), 1000).await;
    assert_eq!((ids.len(), finish.reason), (5, FinishReason::Length));
}

#[tokio::test]
async fn scores_are_those_of_the_sampler() {
    let session = session(TernaryConfig::default()).await;
    let mut events = session.chat(request("score me", 6)).unwrap();
    let mut sampled = Vec::new();
    while let Some(event) = events.next().await {
        if let ChatEvent::Piece(piece) = event.unwrap() {
            sampled.extend(
                piece
                    .logprobs
                    .into_iter()
                    .map(|token| (token.id, token.logprob)),
            );
        }
    }
    let mut tokens = session.tokens("score me").unwrap();
    let prompt_len = tokens.len();
    tokens.extend(sampled.iter().map(|(id, _)| *id));
    let scores = session.score(tokens).await.unwrap();
    for ((_, logprob), score) in sampled.iter().zip(&scores[prompt_len - 1..]) {
        assert!((logprob - score).abs() < 1e-4, "{logprob} {score}");
    }
}

#[tokio::test]
async fn an_answer_keeps_its_shape_and_ends_when_it_is_complete() {
    let session = session(TernaryConfig::default()).await;
    let shaped = |shape: Shape| ChatRequest {
        shape,
        sampling: Sampling::default(),
        limits: Limits {
            tokens_max: Some(150),
            ..Limits::default()
        },
        ..request("x", 1)
    };
    for seed in 0..20 {
        let mut request = shaped(Shape::Regex("[a-c]{3}-(yes|no)".to_owned()));
        request.sampling.seed = Some(seed);
        let (_, text, end) = finish(session.chat(request).unwrap()).await;
        let (letters, word) = text.split_once('-').unwrap();
        assert!(
            letters.len() == 3 && letters.chars().all(|c| matches!(c, 'a'..='c')),
            "{text}"
        );
        assert!(word == "yes" || word == "no", "{text}");
        assert_eq!(end.reason, FinishReason::Stop, "{text}");
    }
    let schema = r#"{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}"#;
    let (_, text, _) = finish(
        session
            .chat(shaped(Shape::Schema(schema.to_owned())))
            .unwrap(),
    )
    .await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        value == serde_json::json!({"n": 1}) || value == serde_json::json!({"n": 2}),
        "{text}"
    );
}

#[tokio::test]
async fn a_shape_that_cannot_be_kept_is_refused_with_its_reason() {
    let session = session(TernaryConfig::default()).await;
    for (shape, word) in [
        (Shape::Regex("[".to_owned()), "regex"),
        (Shape::Schema("{".to_owned()), "EOF"),
        (
            Shape::Schema(r#"{"type": "array", "uniqueItems": true}"#.to_owned()),
            "uniqueItems",
        ),
        (Shape::Grammar("start: missing".to_owned()), "missing"),
    ] {
        let request = ChatRequest {
            shape: shape.clone(),
            ..request("x", 1)
        };
        let error = session.chat(request).err().unwrap();
        assert!(
            matches!(error, EngineError::BadShape { .. }),
            "{shape:?}: {error}"
        );
        assert!(error.to_string().contains(word), "{shape:?}: {error}");
    }
}
