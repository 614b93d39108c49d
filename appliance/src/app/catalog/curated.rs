//! A few models that are worth starting with, by one name for all their artifacts.
//!
//! Names and what they are good for; sizes and hashes are the hub's to tell, when a model is fetched.

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It converses.
    Chat,
    /// It makes vectors of text.
    Embed,
    /// It writes down speech.
    Hear,
    /// It speaks.
    Speak,
}

/// A model that comes in several artifacts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curated {
    /// What `onebit pull` takes.
    pub name: &'static str,
    pub role: Role,
    /// The repository of its files, for the processor and for GPUs.
    pub repository: &'static str,
    /// Parameters, in billions, as its makers tell them.
    pub billions: f64,
    /// Whether new appliances are offered it.
    pub starter: bool,
    /// FastFlowLM's name for it, for the NPU.
    pub flm: Option<&'static str>,
    pub licence: &'static str,
    pub good_for: &'static str,
}

/// All of them, small ones first.
pub const CURATED: &[Curated] = &[
    Curated {
        name: "qwen3-0.6b",
        role: Role::Chat,
        repository: "Qwen/Qwen3-0.6B-GGUF",
        billions: 0.6,
        starter: true,
        flm: Some("qwen3:0.6b"),
        licence: "Apache-2.0",
        good_for: "titles, tags and short answers; runs everywhere",
    },
    Curated {
        name: "qwen3-1.7b",
        role: Role::Chat,
        repository: "Qwen/Qwen3-1.7B-GGUF",
        billions: 1.7,
        starter: true,
        flm: Some("qwen3:1.7b"),
        licence: "Apache-2.0",
        good_for: "chat and tools with little memory",
    },
    Curated {
        name: "smollm2-1.7b",
        role: Role::Chat,
        repository: "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        billions: 1.7,
        starter: false,
        flm: None,
        licence: "Apache-2.0",
        good_for: "English chat and summaries with little memory",
    },
    Curated {
        name: "qwen3-4b",
        role: Role::Chat,
        repository: "Qwen/Qwen3-4B-GGUF",
        billions: 4.0,
        starter: true,
        flm: Some("qwen3:4b"),
        licence: "Apache-2.0",
        good_for: "everyday chat, tools and documents; thinks when asked to",
    },
    Curated {
        name: "qwen3-8b",
        role: Role::Chat,
        repository: "Qwen/Qwen3-8B-GGUF",
        billions: 8.2,
        starter: true,
        flm: Some("qwen3:8b"),
        licence: "Apache-2.0",
        good_for: "harder questions, code and longer documents",
    },
    Curated {
        name: "nomic-embed-text",
        role: Role::Embed,
        repository: "nomic-ai/nomic-embed-text-v1.5-GGUF",
        billions: 0.137,
        starter: true,
        flm: None,
        licence: "Apache-2.0",
        good_for: "vectors for searching, not for chat",
    },
    Curated {
        name: "whisper-base",
        role: Role::Hear,
        repository: "ggerganov/whisper.cpp",
        billions: 0.074,
        starter: true,
        flm: None,
        licence: "MIT",
        good_for: "writing down speech in a hundred languages, in time on most machines",
    },
    Curated {
        name: "kokoro",
        role: Role::Speak,
        repository: "onnx-community/Kokoro-82M-v1.0-ONNX",
        billions: 0.082,
        starter: true,
        flm: None,
        licence: "Apache-2.0",
        good_for: "reading answers aloud, in English",
    },
];

/// Finds one by its name.
#[must_use]
pub fn curated(name: &str) -> Option<&'static Curated> {
    CURATED
        .iter()
        .find(|model| model.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    #[test]
    fn every_entry_can_be_pulled_by_its_name() {
        for model in CURATED {
            let source = Source::parse(model.name).unwrap();
            assert_eq!(source.repo, model.repository);
            let with = Source::parse(&format!("{}:Q8_0", model.name.to_uppercase())).unwrap();
            assert_eq!(with.quant.as_deref(), Some("Q8_0"));
            assert!(!model.licence.is_empty() && !model.good_for.is_empty());
        }
        assert_eq!(curated("qwen3-4b").unwrap().flm, Some("qwen3:4b"));
        assert!(curated("nobody").is_none() && Source::parse("nobody").is_err());
    }
}
