//! Models that listen or speak: which files of a repository make one, and how they come together.
//!
//! Whisper's are single files, `ggml-SIZE.bin`; Kokoro's are a graph in `onnx` and a file for each voice.

use std::path::{Path, PathBuf};

use super::super::pack_voices;
use super::{App, AppError, CatalogError, Choice, HubFile, NewModel, Source};
use crate::domain::Model;

/// What is taken where nobody says which: the size that most machines hear in time.
const USUAL_SIZE: &str = "base";
/// And the graph of eight bits, which sounds as the whole one does.
const USUAL_GRAPH: &str = "quantized";

/// The files of the model that is asked for; `None` when the repository is of another kind.
pub(super) fn choose(source: &Source, files: &[HubFile]) -> Result<Option<Choice>, CatalogError> {
    let sizes = named(files, |path| {
        path.strip_prefix("ggml-")?.strip_suffix(".bin")
    });
    if !sizes.is_empty() {
        return pick(source, &sizes, USUAL_SIZE).map(Some);
    }
    let graphs = named(files, |path| {
        let name = path.strip_prefix("onnx/model")?.strip_suffix(".onnx")?;
        Some(name.trim_start_matches('_')).map(|name| if name.is_empty() { "whole" } else { name })
    });
    let speaks = |file: &&HubFile| {
        // Other languages' voices have no phonemes here.
        let name = file.path.strip_prefix("voices/");
        name.is_some_and(|name| name.ends_with(".bin") && name.starts_with(['a', 'b']))
    };
    let voices: Vec<HubFile> = files.iter().filter(speaks).cloned().collect();
    if graphs.is_empty() || voices.is_empty() {
        return Ok(None);
    }
    let mut choice = pick(source, &graphs, USUAL_GRAPH)?;
    choice.files.extend(voices);
    Ok(Some(choice))
}

fn named<'a>(
    files: &'a [HubFile],
    name: impl Fn(&'a str) -> Option<&'a str>,
) -> Vec<(&'a str, &'a HubFile)> {
    files
        .iter()
        .filter_map(|file| Some((name(&file.path)?, file)))
        .collect()
}

fn pick(source: &Source, found: &[(&str, &HubFile)], usual: &str) -> Result<Choice, CatalogError> {
    let wanted = source.quant.as_deref().unwrap_or(usual);
    let hit = found
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    match hit {
        Some((name, file)) => Ok(Choice {
            quant: (*name).to_owned(),
            files: vec![(*file).clone()],
        }),
        None => Err(CatalogError::NoSuchQuant {
            repo: source.repo.clone(),
            wanted: wanted.to_owned(),
            found: found.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }),
    }
}

impl App {
    /// Imports what was fetched: one file, or a graph and its voices.
    pub(super) async fn import_spoken(
        &self,
        first: &Path,
        voices: &[PathBuf],
        name: Option<String>,
        folder: &Path,
    ) -> Result<Model, AppError> {
        let path = if voices.is_empty() {
            first.to_owned()
        } else {
            let packed = folder.join("packed.zip");
            pack_voices(first, voices, &packed)?;
            packed
        };
        let model = self.import(NewModel { path, name }).await?;
        // Imported means copied; a pull that stays only takes room.
        let _ = std::fs::remove_dir_all(folder);
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(asked: &str, paths: &[&str]) -> Result<Option<Vec<String>>, String> {
        let files: Vec<HubFile> = paths
            .iter()
            .map(|path| HubFile {
                path: (*path).to_owned(),
                bytes: 1,
                sha256: None,
            })
            .collect();
        let source = Source::parse(asked).unwrap();
        let choice = choose(&source, &files).map_err(|error| error.to_string())?;
        Ok(choice.map(|choice| choice.files.into_iter().map(|file| file.path).collect()))
    }

    #[test]
    fn a_whisper_is_one_file_and_a_kokoro_has_voices() {
        let whisper = [
            "README.md",
            "ggml-tiny.bin",
            "ggml-base.bin",
            "ggml-base.en-q5_1.bin",
        ];
        assert_eq!(chosen("a/w", &whisper).unwrap().unwrap(), ["ggml-base.bin"]);
        assert_eq!(
            chosen("a/w:base.en-q5_1", &whisper).unwrap().unwrap(),
            ["ggml-base.en-q5_1.bin"]
        );
        assert!(
            chosen("a/w:huge", &whisper)
                .unwrap_err()
                .contains("tiny, base, base.en-q5_1")
        );
        let kokoro = [
            "onnx/model.onnx",
            "onnx/model_quantized.onnx",
            "voices/af_heart.bin",
            "voices/zf_xiaoni.bin",
        ];
        assert_eq!(
            chosen("a/k", &kokoro).unwrap().unwrap(),
            ["onnx/model_quantized.onnx", "voices/af_heart.bin"]
        );
        assert_eq!(
            chosen("a/k:whole", &kokoro).unwrap().unwrap()[0],
            "onnx/model.onnx"
        );
        assert_eq!(chosen("a/m", &["model.gguf"]).unwrap(), None);
    }
}
