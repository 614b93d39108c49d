//! Which of a repository's files to fetch: a pure decision.

use std::collections::BTreeMap;

use super::{CatalogError, HubFile, Source};

/// Quantisations from the one we would rather have to those we would rather not. Four bits with the
/// important matrices at more is where quality per byte peaks; below and above come next.
const PREFERRED: [&str; 14] = [
    "Q4_K_M", "Q4_K_XL", "Q5_K_M", "Q4_K_S", "IQ4_XS", "Q4_0", "Q4_1", "Q5_K_S", "Q6_K", "Q8_0",
    "Q3_K_M", "IQ3_M", "IQ2_XXS", "TQ2_0",
];

/// The files that make one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub quant: String,
    /// One file, or all its shards in order.
    pub files: Vec<HubFile>,
}

impl Choice {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// Picks the quantisation asked for, or else the most preferred one of at most `bytes_max`, or else the
/// smallest.
///
/// # Errors
/// There is no GGUF, or not the one asked for; the error lists what there is.
pub fn choose(source: &Source, files: &[HubFile], bytes_max: u64) -> Result<Choice, CatalogError> {
    let mut choices = by_quant(files);
    let found: Vec<String> = choices.keys().cloned().collect();
    if found.is_empty() {
        let found = files.iter().map(|f| f.path.clone()).take(5).collect();
        return Err(CatalogError::NothingToRun {
            repo: source.repo.clone(),
            found,
        });
    }
    let bytes = |files: &[HubFile]| files.iter().map(|f| f.bytes).sum::<u64>();
    let quant = match &source.quant {
        Some(wanted) => choices
            .keys()
            .find(|q| q.eq_ignore_ascii_case(wanted))
            .cloned()
            .ok_or_else(|| CatalogError::NoSuchQuant {
                repo: source.repo.clone(),
                wanted: wanted.clone(),
                found: found.clone(),
            })?,
        None => PREFERRED
            .iter()
            .find(|q| {
                choices
                    .get(**q)
                    .is_some_and(|files| bytes(files) <= bytes_max)
            })
            .map(|q| (*q).to_owned())
            .or_else(|| {
                choices
                    .iter()
                    .min_by_key(|(_, files)| bytes(files))
                    .map(|(q, _)| q.clone())
            })
            .unwrap_or_default(),
    };
    let files = choices.remove(&quant).unwrap_or_default();
    Ok(one(quant, files))
}

/// Every quantisation of a repository, those that we would rather have first.
pub fn variants(files: &[HubFile]) -> Vec<Choice> {
    let rank = |quant: &String| PREFERRED.iter().position(|name| name == quant);
    let mut all: Vec<Choice> = by_quant(files)
        .into_iter()
        .map(|(quant, files)| one(quant, files))
        .collect();
    all.sort_by_key(|choice| rank(&choice.quant).unwrap_or(PREFERRED.len()));
    all
}

fn by_quant(files: &[HubFile]) -> BTreeMap<String, Vec<HubFile>> {
    let mut choices: BTreeMap<String, Vec<HubFile>> = BTreeMap::new();
    for file in files
        .iter()
        .filter(|f| f.path.to_ascii_lowercase().ends_with(".gguf"))
    {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        // Projectors and drafts belong to a model and are none.
        if !name.starts_with("mmproj") {
            choices
                .entry(quant_of(name))
                .or_default()
                .push(file.clone());
        }
    }
    choices
}

/// Several unrelated files of one quantisation: the first by name. Shards belong together.
fn one(quant: String, mut files: Vec<HubFile>) -> Choice {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if !files.iter().all(|f| f.path.contains("-of-")) {
        files.truncate(1);
    }
    Choice { quant, files }
}

/// The quantisation in a file's name, such as `Q4_K_M`; the bare name where there is none.
fn quant_of(name: &str) -> String {
    let stem = name
        .strip_suffix(".gguf")
        .or(name.strip_suffix(".GGUF"))
        .unwrap_or(name);
    // Shards carry -00001-of-00003 behind it.
    let stem = match stem.rfind("-of-") {
        Some(at) if at > 6 => &stem[..at - 6],
        _ => stem,
    };
    let is_quant = |word: &str| {
        let word = word.to_ascii_uppercase();
        let rest = ["IQ", "TQ", "BF", "Q", "F"]
            .iter()
            .find_map(|p| word.strip_prefix(p));
        rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    let word = stem.rsplit(['-', '.']).find(|word| is_quant(word));
    word.map_or_else(|| stem.to_owned(), str::to_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[(&str, u64)]) -> Vec<HubFile> {
        names
            .iter()
            .map(|(path, bytes)| HubFile {
                path: (*path).into(),
                bytes: *bytes,
                sha256: None,
            })
            .collect()
    }

    fn source(quant: Option<&str>) -> Source {
        Source {
            repo: "o/m".into(),
            revision: "main".into(),
            quant: quant.map(str::to_owned),
        }
    }

    #[test]
    fn quantisations_are_read_from_names() {
        for (name, quant) in [
            ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
            ("model.q8_0.gguf", "Q8_0"),
            ("Bonsai-1.7B-IQ1_S.gguf", "IQ1_S"),
            ("x-BF16-00001-of-00003.gguf", "BF16"),
            ("plain.gguf", "plain"),
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ] {
            assert_eq!(quant_of(name), quant, "{name}");
        }
    }

    #[test]
    fn the_preferred_one_that_fits_is_chosen() {
        let all = files(&[
            ("m-Q8_0.gguf", 80),
            ("m-Q4_K_M.gguf", 40),
            ("m-IQ2_XXS.gguf", 20),
            ("mmproj-F16.gguf", 1),
            ("a.md", 1),
        ]);
        let choice = |quant, max| choose(&source(quant), &all, max).unwrap().quant;
        assert_eq!(choice(None, 100), "Q4_K_M");
        assert_eq!(choice(None, 30), "IQ2_XXS");
        assert_eq!(choice(None, 5), "IQ2_XXS", "the smallest, if nothing fits");
        assert_eq!(choice(Some("q8_0"), 5), "Q8_0", "asked for is asked for");
        let error = choose(&source(Some("Q2_K")), &all, 100)
            .unwrap_err()
            .to_string();
        assert!(error.contains("Q4_K_M, Q8_0"), "{error}");
        assert!(choose(&source(None), &files(&[("a.md", 1)]), 100).is_err());
    }

    #[test]
    fn shards_stay_together() {
        let all = files(&[
            ("m-Q4_K_M-00002-of-00002.gguf", 5),
            ("m-Q4_K_M-00001-of-00002.gguf", 5),
        ]);
        let choice = choose(&source(None), &all, 100).unwrap();
        assert_eq!((choice.files.len(), choice.bytes()), (2, 10));
        assert!(choice.files[0].path.contains("00001"));
    }
}
