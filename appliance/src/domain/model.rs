//! A model: what a client asks for by name.

use std::path::PathBuf;

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelFormat {
    /// One GGUF file.
    Gguf,
    /// A model of FastFlowLM's own store; its name is FLM's tag.
    Flm,
    /// A model on another server; its path is that server's address.
    Remote,
    /// One file of whisper.cpp's: speech to text.
    Whisper,
    /// One archive with Kokoro's graph and its voices: text to speech.
    Kokoro,
    /// Weights that stable-diffusion.cpp reads: text to pictures.
    Diffusion,
}

impl ModelFormat {
    /// The name that rows and listings use.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelFormat::Gguf => "gguf",
            ModelFormat::Flm => "flm",
            ModelFormat::Remote => "remote",
            ModelFormat::Whisper => "whisper",
            ModelFormat::Kokoro => "kokoro",
            ModelFormat::Diffusion => "diffusion",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<ModelFormat> {
        [
            ModelFormat::Gguf,
            ModelFormat::Flm,
            ModelFormat::Remote,
            ModelFormat::Whisper,
            ModelFormat::Kokoro,
            ModelFormat::Diffusion,
        ]
        .into_iter()
        .find(|format| format.as_str() == text)
    }
}

/// A model that has been imported, as the registry knows it. Shapes come from its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The name that requests use: lower case, unique.
    pub id: String,
    /// The name inside the file, for people.
    pub name: String,
    /// How the weights are stored.
    pub format: ModelFormat,
    /// The file, absolute.
    pub path: PathBuf,
    /// Size of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The graph's name, such as `llama` or `bitnet`.
    pub architecture: String,
    /// The kind of most weight bytes, such as `Q4_1`.
    pub quantisation: String,
    /// Positions that the model was trained for.
    pub context_length: u64,
    /// Bytes of key and value cache for one position at 16 bits a number; 0 when unknown.
    pub kv_bytes_per_position: u64,
    /// Whether the file brings a chat template.
    pub has_template: bool,
    /// When it was imported, unix milliseconds.
    pub imported_at: i64,
}

/// Makes a name that is safe in a URL and a file name: lower case letters, digits, `.`, `_`, `-`.
///
/// Returns `None` when nothing is left.
pub fn slug(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            out.push(c);
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    let out = out.trim_matches(['-', '.', '_']).to_owned();
    (!out.is_empty()).then_some(out)
}

/// Picks the known names that look most like the one asked for, best first, at most three.
pub fn suggestions<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let asked = asked.to_ascii_lowercase();
    let mut scored: Vec<(usize, &str)> = known
        .map(|name| {
            let lower = name.to_ascii_lowercase();
            let inside = lower.contains(&asked) || asked.contains(&lower);
            let distance = if inside {
                0
            } else {
                edit_distance(&asked, &lower)
            };
            (distance, name)
        })
        .filter(|(distance, name)| *distance <= name.len().max(asked.len()) / 2)
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Levenshtein distance over bytes; names are short, so the plain table is enough.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_plain() {
        assert_eq!(
            slug("SmolLM2 135M Instruct").as_deref(),
            Some("smollm2-135m-instruct")
        );
        assert_eq!(
            slug("  ../Ünsafe//name.gguf ").as_deref(),
            Some("nsafe-name.gguf")
        );
        assert_eq!(slug("///"), None);
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["smollm2-135m-instruct", "bitnet-2b", "whisper-base"];
        let near = suggestions("smollm2-135m-instuct", known.into_iter());
        assert_eq!(
            near.first().map(String::as_str),
            Some("smollm2-135m-instruct")
        );
        assert_eq!(
            suggestions("smollm2", known.into_iter()),
            ["smollm2-135m-instruct"]
        );
        assert!(suggestions("gpt-4o", known.into_iter()).is_empty());
    }

    #[test]
    fn edit_distance_counts_edits() {
        for (a, b, d) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(a, b), d, "{a} {b}");
        }
    }
}
