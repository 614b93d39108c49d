//! A few models that are worth starting with, by one name for all their artifacts.
//!
//! Names and what they are good for; sizes and hashes are the hub's to tell, when a model is fetched.

/// A model that comes in several artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curated {
    /// What `onebit pull` takes.
    pub name: &'static str,
    /// The repository of its GGUF files, for the processor and for GPUs.
    pub gguf: &'static str,
    /// FastFlowLM's name for it, for the NPU.
    pub flm: Option<&'static str>,
    pub licence: &'static str,
    pub good_for: &'static str,
}

/// All of them, small ones first.
pub const CURATED: &[Curated] = &[
    Curated {
        name: "qwen3-0.6b",
        gguf: "Qwen/Qwen3-0.6B-GGUF",
        flm: Some("qwen3:0.6b"),
        licence: "Apache-2.0",
        good_for: "titles, tags and short answers; runs everywhere",
    },
    Curated {
        name: "qwen3-1.7b",
        gguf: "Qwen/Qwen3-1.7B-GGUF",
        flm: Some("qwen3:1.7b"),
        licence: "Apache-2.0",
        good_for: "chat and tools with little memory",
    },
    Curated {
        name: "smollm2-1.7b",
        gguf: "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        flm: None,
        licence: "Apache-2.0",
        good_for: "English chat and summaries with little memory",
    },
    Curated {
        name: "qwen3-4b",
        gguf: "Qwen/Qwen3-4B-GGUF",
        flm: Some("qwen3:4b"),
        licence: "Apache-2.0",
        good_for: "everyday chat, tools and documents; thinks when asked to",
    },
    Curated {
        name: "qwen3-8b",
        gguf: "Qwen/Qwen3-8B-GGUF",
        flm: Some("qwen3:8b"),
        licence: "Apache-2.0",
        good_for: "harder questions, code and longer documents",
    },
    Curated {
        name: "nomic-embed-text",
        gguf: "nomic-ai/nomic-embed-text-v1.5-GGUF",
        flm: None,
        licence: "Apache-2.0",
        good_for: "vectors for searching, not for chat",
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
            assert_eq!(source.repo, model.gguf);
            let with = Source::parse(&format!("{}:Q8_0", model.name.to_uppercase())).unwrap();
            assert_eq!(with.quant.as_deref(), Some("Q8_0"));
            assert!(!model.licence.is_empty() && !model.good_for.is_empty());
        }
        assert_eq!(curated("qwen3-4b").unwrap().flm, Some("qwen3:4b"));
        assert!(curated("nobody").is_none() && Source::parse("nobody").is_err());
    }
}
