//! A model of Kokoro's as one file: an uncompressed zip of `model.onnx` and `voices/NAME.bin`.
//!
//! The hub has the graph and each voice as files of their own, and a model here is one file, named by its content. A
//! voice is rows of 256 numbers of four bytes; the row is chosen by how many phonemes are said.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Numbers in a row of a voice.
pub const STYLE: usize = 256;
/// The graph's name inside.
const GRAPH: &str = "model.onnx";
/// Largest graph that is read: the model in whole floats has 330 MB.
const GRAPH_BYTES_MAX: u64 = 1 << 30;
/// Largest voice: 511 rows.
const VOICE_BYTES_MAX: u64 = 1 << 20;

/// What an archive holds.
pub struct Contents {
    /// The graph.
    pub graph: Vec<u8>,
    /// Rows of each voice, by its name.
    pub voices: BTreeMap<String, Vec<f32>>,
}

/// The names of the voices; `None` when the file is no such archive.
#[must_use]
pub fn voices(path: &Path) -> Option<Vec<String>> {
    let zip = ZipArchive::new(File::open(path).ok()?).ok()?;
    let names = names(&zip);
    let mut voices: Vec<String> = names.iter().filter_map(|name| voice(name)).collect();
    voices.sort();
    let speaks = names.iter().any(|name| name == GRAPH) && !voices.is_empty();
    speaks.then_some(voices)
}

/// Reads an archive whole.
///
/// # Errors
/// It is none, or something in it is too large or no voice.
pub fn read(path: &Path) -> Result<Contents, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|e| told(&e))?;
    let mut zip = ZipArchive::new(file).map_err(|e| told(&e))?;
    let names = names(&zip);
    let mut contents = Contents {
        graph: entry(&mut zip, GRAPH, GRAPH_BYTES_MAX)?,
        voices: BTreeMap::new(),
    };
    for name in names {
        let Some(voice) = voice(&name) else { continue };
        let bytes = entry(&mut zip, &name, VOICE_BYTES_MAX)?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        let rows: Vec<f32> = numbers
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect();
        if !rest.is_empty() || rows.is_empty() || !rows.len().is_multiple_of(STYLE) {
            return Err(format!("{name} holds no rows of {STYLE} numbers"));
        }
        contents.voices.insert(voice, rows);
    }
    if contents.voices.is_empty() {
        return Err("there is no voice in it".to_owned());
    }
    Ok(contents)
}

/// The names of what is inside; one that cannot be read is none of ours.
fn names<R: Read + Seek>(zip: &ZipArchive<R>) -> Vec<String> {
    let readable = zip.file_names().filter_map(Result::ok);
    readable.map(std::borrow::Cow::into_owned).collect()
}

fn entry<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    name: &str,
    bytes_max: u64,
) -> Result<Vec<u8>, String> {
    let file = zip.by_name(name).map_err(|e| format!("{name}: {e}"))?;
    let mut bytes = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("{name}: {e}"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{name} is larger than {bytes_max} bytes"));
    }
    Ok(bytes)
}

fn voice(name: &str) -> Option<String> {
    let voice = name.strip_prefix("voices/")?.strip_suffix(".bin")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!voice.is_empty() && voice.chars().all(plain)).then(|| voice.to_owned())
}

/// Makes an archive of a graph and voices that lie as files.
///
/// # Errors
/// A file cannot be read, or the archive cannot be written.
pub fn pack(graph: &Path, voices: &[PathBuf], to: &mut File) -> std::io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let mut zip = ZipWriter::new(to);
    zip.start_file(GRAPH, options)?;
    std::io::copy(&mut File::open(graph)?, &mut zip)?;
    // A fetched file's name tells its folder too.
    let name = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        Some(name.strip_prefix("voices_").unwrap_or(name).to_owned())
    };
    let mut voices: Vec<_> = voices
        .iter()
        .filter_map(|path| Some((name(path)?, path)))
        .collect();
    voices.sort();
    for (name, path) in voices {
        zip.start_file(format!("voices/{name}"), options)?;
        std::io::copy(&mut File::open(path)?, &mut zip)?;
    }
    zip.finish()?.flush()
}

/// The graph and the voices below a folder, as hubs lay them out: one `.onnx` somewhere, `.bin` files in `voices`.
///
/// # Errors
/// There is no graph, more than one, or no voice.
pub fn parts(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>), String> {
    let (mut graphs, mut voices) = (Vec::new(), Vec::new());
    for place in [
        folder.to_owned(),
        folder.join("onnx"),
        folder.join("voices"),
    ] {
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let path = entry.path();
            let extension = path.extension().and_then(|e| e.to_str());
            match extension {
                Some("onnx") => graphs.push(path),
                Some("bin") if place.ends_with("voices") => voices.push(path),
                _ => {}
            }
        }
    }
    match (graphs.as_slice(), voices.is_empty()) {
        ([graph], false) => Ok((graph.clone(), voices)),
        ([], _) => Err("there is no .onnx file in it or in its folder onnx".to_owned()),
        ([_], true) => Err("there are no voices (voices/*.bin) in it".to_owned()),
        (graphs, _) => Err(format!(
            "there are {} .onnx files in it; leave one",
            graphs.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_becomes_an_archive_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(parts(folder.path()).unwrap_err().contains(".onnx"));
        std::fs::create_dir_all(at("onnx")).unwrap();
        std::fs::create_dir_all(at("voices")).unwrap();
        std::fs::write(at("onnx/model_quantized.onnx"), b"graph").unwrap();
        assert!(parts(folder.path()).unwrap_err().contains("voices"));
        std::fs::write(at("voices/af_heart.bin"), [0; STYLE * 4]).unwrap();
        std::fs::write(
            at("voices/bm_george.bin"),
            1.0_f32.to_le_bytes().repeat(STYLE * 2),
        )
        .unwrap();
        let (graph, found) = parts(folder.path()).unwrap();
        let path = at("kokoro.zip");
        pack(&graph, &found, &mut File::create(&path).unwrap()).unwrap();
        assert_eq!(voices(&path).unwrap(), ["af_heart", "bm_george"]);
        let contents = read(&path).unwrap();
        assert_eq!(contents.graph, b"graph");
        assert_eq!(contents.voices["bm_george"], vec![1.0; STYLE * 2]);
    }

    #[test]
    fn another_file_is_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "PK\x03\x04 and nothing more").unwrap();
        assert_eq!(voices(&path), None);
        assert!(read(&path).is_err());
    }
}
