//! Models: imported by content, listed, loaded, unloaded, removed.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use onebit_kernels::format::gguf::{Gguf, Value};
use onebit_kernels::kv::KvKind;
use onebit_kernels::model::{Config, LoadError};
use sha2::{Digest, Sha256};

use super::{App, AppError};
use crate::domain::model::slug;
use crate::domain::{Model, ModelFormat};
use crate::engines::pool::{Lease, ModelState};
use crate::engines::{Load, Task, kokoro, remote, whisper};
use crate::store::{new_id, now_ms};

/// Bytes copied and hashed at a time: large enough that system calls do not count.
const COPY_BYTES: usize = 1 << 20;

/// A model and what it is doing.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    /// The model.
    pub model: Model,
    /// What it is doing; `None` when nobody has asked for it.
    pub state: Option<ModelState>,
    /// Whether its file is there.
    pub present: bool,
}

impl ModelStatus {
    /// Bytes held and load, when it is loaded.
    pub fn held(&self) -> Option<(u64, Load)> {
        match &self.state {
            Some(ModelState::Loaded {
                memory_bytes, load, ..
            }) => Some((*memory_bytes, *load)),
            Some(ModelState::Loading | ModelState::Failed { .. }) | None => None,
        }
    }
}

/// A file to import.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// The file.
    pub path: PathBuf,
    /// The name that requests will use; made from the file's own name when `None`.
    pub name: Option<String>,
}

impl App {
    /// Lists the models, the default one first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn models(&self) -> Result<Vec<ModelStatus>, AppError> {
        let models = self.registry().await?;
        let mut states = self.inner.pool.states().await;
        let status = |model: Model| ModelStatus {
            state: states.remove(&model.id),
            // What an engine keeps elsewhere is as much there as its engine.
            present: matches!(model.format, ModelFormat::Flm | ModelFormat::Remote)
                || model.path.is_file(),
            model,
        };
        Ok(models.into_iter().map(status).collect())
    }

    /// Finds a model by name; an empty name means the default model, and a name that stands for several
    /// models the one that a plain request would get.
    ///
    /// # Errors
    /// [`AppError::ModelNotFound`] with names that look like it, or [`AppError::NoModels`].
    pub async fn model(&self, name: &str) -> Result<Model, AppError> {
        self.meant(name).await
    }

    /// Returns a model loaded where a plain request would go.
    ///
    /// # Errors
    /// It is not known, or cannot be loaded.
    pub async fn load(&self, name: &str) -> Result<(Model, Lease), AppError> {
        let model = self.model(name).await?;
        self.know_programs().await;
        let lease = self.inner.pool.session(&model).await?;
        Ok((model, lease))
    }

    /// Returns a model loaded where a task is done.
    ///
    /// # Errors
    /// It is not known, or cannot be loaded.
    pub async fn load_for(&self, name: &str, task: Task) -> Result<(Model, Lease), AppError> {
        let model = self.model(name).await?;
        self.know_programs().await;
        let lease = self.inner.pool.session_for(&model, task).await?;
        Ok((model, lease))
    }

    /// Unloads a model once nobody uses it; `false` when it was not loaded.
    ///
    /// # Errors
    /// It is not known.
    pub async fn unload(&self, name: &str) -> Result<bool, AppError> {
        let model = self.model(name).await?;
        if self.pins().await?.contains(&model.id) {
            // Otherwise it would come back at once.
            self.pin(&model.id, false).await?;
        }
        Ok(self.inner.pool.unload(&model.id).await)
    }

    /// Copies a model file into the data directory, named by its content, and registers it.
    ///
    /// # Errors
    /// The file is not a model that an engine runs, or cannot be read or copied, or the name is taken.
    pub async fn import(&self, new: NewModel) -> Result<Model, AppError> {
        let folder = self.inner.store.folder().join("models");
        let task = tokio::task::spawn_blocking(move || bring_in(&new, &folder));
        let model = task.await.map_err(|panic| AppError::NotAModel {
            path: PathBuf::new(),
            why: panic.to_string(),
        })??;
        self.inner.store.models().put(&model).await?;
        tracing::info!(model = model.id, bytes = model.file_bytes, "model imported");
        Ok(model)
    }

    /// Takes a model file that is ours into the data directory, where it is moved and not copied: it needs no room of
    /// its own.
    ///
    /// # Errors
    /// As [`App::import`]; the file then stays where it was.
    pub(super) async fn take_in(&self, new: NewModel) -> Result<Model, AppError> {
        let folder = self.inner.store.folder().join("models");
        let from = new.path.clone();
        let task = tokio::task::spawn_blocking(move || move_in(&new, &folder));
        let (model, moved) = task.await.map_err(|panic| AppError::NotAModel {
            path: PathBuf::new(),
            why: panic.to_string(),
        })??;
        if let Err(error) = self.inner.store.models().put(&model).await {
            if moved && let Err(error) = std::fs::rename(&model.path, &from) {
                tracing::warn!(%error, file = %model.path.display(), "a file that is no model stays");
            }
            return Err(error.into());
        }
        tracing::info!(model = model.id, bytes = model.file_bytes, "model imported");
        Ok(model)
    }

    /// Registers a model file where it lies: it is neither copied nor ever deleted.
    ///
    /// # Errors
    /// The file is not a model that an engine runs, or cannot be read.
    pub(super) async fn adopt(&self, new: NewModel) -> Result<Model, AppError> {
        let task = tokio::task::spawn_blocking(move || leave_in_place(&new));
        let model = task.await.map_err(|panic| AppError::NotAModel {
            path: PathBuf::new(),
            why: panic.to_string(),
        })??;
        self.inner.store.models().put(&model).await?;
        Ok(model)
    }

    /// Gives a model a second name.
    ///
    /// # Errors
    /// It is not known, or the name cannot be used or belongs to another file.
    pub async fn copy_model(&self, source: &str, name: &str) -> Result<Model, AppError> {
        if slug(name).as_deref() != Some(name) {
            return Err(AppError::BadName(name.to_owned()));
        }
        let model = Model {
            id: name.to_owned(),
            imported_at: now_ms(),
            ..self.model(source).await?
        };
        self.inner.store.models().put(&model).await?;
        Ok(model)
    }

    /// Forgets a model and deletes its file when no other model uses it.
    ///
    /// # Errors
    /// It is not known, somebody uses it, or it comes with the program.
    pub async fn remove_model(&self, name: &str) -> Result<Model, AppError> {
        let model = self.model(name).await?;
        if self.is_builtin(&model) {
            return Err(AppError::ComesWithTheProgram(model.id));
        }
        let states = self.inner.pool.states().await;
        if let Some(ModelState::Loaded { load, .. }) = states.get(&model.id)
            && load.active + load.waiting > 0
        {
            return Err(AppError::InUse(model.id));
        }
        self.inner.pool.unload(&model.id).await;
        let others = self.inner.store.models().remove(&model.id).await?;
        let file = match model.format {
            // Theirs to delete.
            ModelFormat::Flm => None,
            ModelFormat::Remote => Some(remote::key_file(&self.inner.means.remotes, &model.id)),
            _ => (others == 0).then(|| model.path.clone()),
        };
        if let Some(file) = file.filter(|file| file.exists()) {
            std::fs::remove_file(&file).map_err(file_error("cannot delete", &file))?;
        }
        Ok(model)
    }
}

/// Describes a file, and copies it under its hash.
fn bring_in(new: &NewModel, folder: &Path) -> Result<Model, AppError> {
    std::fs::create_dir_all(folder).map_err(file_error("cannot make", folder))?;
    if new.path.is_dir() {
        return bring_in_parts(new, folder);
    }
    let model = describe(new)?;
    let (path, sha256) = copy_by_hash(&new.path, folder)?;
    Ok(Model {
        path,
        sha256,
        ..model
    })
}

/// Describes a file, hashes it and moves it under its hash; tells whether it was not there yet.
fn move_in(new: &NewModel, folder: &Path) -> Result<(Model, bool), AppError> {
    std::fs::create_dir_all(folder).map_err(file_error("cannot make", folder))?;
    let model = leave_in_place(new)?;
    let path = folder.join(format!("{}.gguf", model.sha256));
    let is_new = !path.exists();
    if is_new {
        std::fs::rename(&new.path, &path).map_err(file_error("cannot move", &new.path))?;
    } else {
        std::fs::remove_file(&new.path).map_err(file_error("cannot delete", &new.path))?;
    }
    Ok((Model { path, ..model }, is_new))
}

/// A folder with the parts of a voice model is packed into one file first.
fn bring_in_parts(new: &NewModel, folder: &Path) -> Result<Model, AppError> {
    let (graph, voices) = kokoro::archive::parts(&new.path).map_err(|why| AppError::NotAModel {
        path: new.path.clone(),
        why: format!("it is a folder, and {why}"),
    })?;
    let packed = folder.join(format!(".{}.zip", new_id()?));
    let whole = pack_voices(&graph, &voices, &packed).and_then(|()| {
        let path = packed.clone();
        let name = new.name.clone();
        bring_in(&NewModel { path, name }, folder)
    });
    // It was copied under its hash, or could not be.
    let _ = std::fs::remove_file(&packed);
    whole
}

/// Packs a graph and its voices into one file.
pub(super) fn pack_voices(graph: &Path, voices: &[PathBuf], to: &Path) -> Result<(), AppError> {
    let mut file = File::create(to).map_err(file_error("cannot write", to))?;
    kokoro::archive::pack(graph, voices, &mut file).map_err(file_error("cannot write", to))
}

/// Describes a file and hashes it where it lies.
fn leave_in_place(new: &NewModel) -> Result<Model, AppError> {
    let model = describe(new)?;
    let mut file = File::open(&new.path).map_err(file_error("cannot read", &new.path))?;
    let sha256 = copy_hashing(&mut file, &mut std::io::sink(), &new.path, &new.path)?;
    Ok(Model {
        path: new.path.clone(),
        sha256,
        ..model
    })
}

/// What a file's metadata says; path and hash are left open.
fn describe(new: &NewModel) -> Result<Model, AppError> {
    let wrong = |why: String| AppError::NotAModel {
        path: new.path.clone(),
        why,
    };
    // A folder, a pipe or a missing file gets the system's own words.
    let metadata = std::fs::metadata(&new.path).map_err(file_error("cannot read", &new.path))?;
    if !metadata.is_file() {
        return Err(wrong("it is not a plain file".to_owned()));
    }
    if let Some(head) = whisper_head(&new.path) {
        return whisper(new, head, metadata.len());
    }
    if kokoro::archive::voices(&new.path).is_some() {
        let facts = ("kokoro", "kokoro", "", ModelFormat::Kokoro);
        return speech_model(new, facts, metadata.len());
    }
    let stem = new
        .path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    if safetensors_draw(&new.path) {
        return drawing_model(new, &stem, "safetensors", metadata.len());
    }
    let gguf = Gguf::open(&new.path).map_err(|error| wrong(error.to_string()))?;
    if gguf.tensors().iter().any(|tensor| draws(&tensor.name)) {
        return drawing_model(new, &stem, &quantisation(&gguf), metadata.len());
    }
    let shape = shape(&gguf).map_err(wrong)?;
    let text = |key: &str| {
        gguf.optional_str(key)
            .map_err(|error| wrong(error.to_string()))
    };
    let own_name = text("general.name")?.unwrap_or(&stem);
    let name = new.name.clone().unwrap_or_else(|| own_name.to_owned());
    let id = slug(&name).ok_or_else(|| AppError::BadName(name.clone()))?;
    Ok(Model {
        id,
        name,
        format: ModelFormat::Gguf,
        path: PathBuf::new(),
        file_bytes: gguf.file_bytes(),
        sha256: String::new(),
        architecture: shape.architecture,
        quantisation: quantisation(&gguf),
        context_length: shape.context_length,
        kv_bytes_per_position: shape.kv_bytes_per_position,
        has_template: text("tokenizer.chat_template")?.is_some(),
        imported_at: now_ms(),
    })
}

/// The head of a model of whisper.cpp's; `None` for any other file, of which its own reader says more.
fn whisper_head(path: &Path) -> Option<whisper::Head> {
    let mut bytes = [0; whisper::Head::BYTES];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    whisper::Head::read(&bytes)
}

fn whisper(new: &NewModel, head: whisper::Head, file_bytes: u64) -> Result<Model, AppError> {
    let size = head.size().ok_or_else(|| AppError::NotAModel {
        path: new.path.clone(),
        why: "it is a model of whisper.cpp's whose layers no Whisper has".to_owned(),
    })?;
    let usual = format!("whisper-{size}");
    let facts = (&*usual, &*usual, head.quantisation(), ModelFormat::Whisper);
    speech_model(new, facts, file_bytes)
}

/// Whether a tensor belongs to a model that draws: the name that every checkpoint of this family gives its parts.
fn draws(tensor: &str) -> bool {
    tensor.starts_with("model.diffusion_model.")
}

/// Whether a safetensors file holds a model that draws. Its head is a length and then JSON with every tensor's name.
fn safetensors_draw(path: &Path) -> bool {
    let head = || {
        let mut file = File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        if !(2..=SAFETENSORS_HEAD_MAX).contains(&length) {
            return None;
        }
        let mut head = String::new();
        file.take(length).read_to_string(&mut head).ok()?;
        let names: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&head).ok()?;
        Some(names.keys().any(|name| draws(name)))
    };
    head().unwrap_or(false)
}

/// Heads of models with some thousand tensors have less than a megabyte.
const SAFETENSORS_HEAD_MAX: u64 = 16 << 20;

fn drawing_model(
    new: &NewModel,
    stem: &str,
    quantisation: &str,
    file_bytes: u64,
) -> Result<Model, AppError> {
    let facts = (
        stem,
        "stable-diffusion",
        quantisation,
        ModelFormat::Diffusion,
    );
    speech_model(new, facts, file_bytes)
}

/// A model that listens, speaks or draws, of its usual name, architecture, quantisation and format.
fn speech_model(
    new: &NewModel,
    (usual, architecture, quantisation, format): (&str, &str, &str, ModelFormat),
    file_bytes: u64,
) -> Result<Model, AppError> {
    let name = new.name.clone().unwrap_or_else(|| usual.to_owned());
    Ok(Model {
        id: slug(&name).ok_or_else(|| AppError::BadName(name.clone()))?,
        name,
        format,
        path: PathBuf::new(),
        file_bytes,
        sha256: String::new(),
        architecture: architecture.to_owned(),
        quantisation: quantisation.to_owned(),
        context_length: 0,
        kv_bytes_per_position: 0,
        has_template: false,
        imported_at: now_ms(),
    })
}

/// What memory a conversation takes, by the file.
struct Shape {
    architecture: String,
    context_length: u64,
    kv_bytes_per_position: u64,
}

/// Reads it as the built-in engine does, or for graphs that only other engines compute by the names that all files use.
fn shape(gguf: &Gguf) -> Result<Shape, String> {
    let name = match Config::from_gguf(gguf) {
        Ok(config) => {
            return Ok(Shape {
                architecture: config.architecture.name().to_owned(),
                context_length: config.context_length as u64,
                kv_bytes_per_position: config.kv_bytes_per_position(KvKind::F16) as u64,
            });
        }
        Err(LoadError::Architecture { name }) if name != "clip" => name,
        Err(LoadError::Architecture { .. }) => {
            return Err(
                "it is the part of a model that sees pictures; import the model itself".into(),
            );
        }
        Err(error) => return Err(error.to_string()),
    };
    let number = |key: &str| {
        let value = gguf.value(&format!("{name}.{key}"));
        value.and_then(Value::as_u64)
    };
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    let length = number("embedding_length").unwrap_or_default() / heads;
    let of = |key: &str| number(key).unwrap_or(length);
    let per_head = of("attention.key_length") + of("attention.value_length");
    // Some models have another number of them in each layer; the widest stands for all.
    let key = format!("{name}.attention.head_count_kv");
    let kv_heads = match gguf.optional_u32s(&key) {
        Ok(Some(each)) => each.into_iter().max().map(u64::from),
        Ok(None) | Err(_) => number("attention.head_count_kv"),
    };
    let layers = number("block_count").unwrap_or_default();
    Ok(Shape {
        context_length: number("context_length").unwrap_or_default(),
        kv_bytes_per_position: 2 * layers * per_head * kv_heads.unwrap_or(heads),
        architecture: name,
    })
}

/// The kind that holds most bytes of the weights.
fn quantisation(gguf: &Gguf) -> String {
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for tensor in gguf.tensors() {
        let bytes = tensor.kind.tensor_bytes(&tensor.dims).unwrap_or(0);
        let name = tensor.kind.name();
        match kinds.iter_mut().find(|(known, _)| *known == name) {
            Some((_, total)) => *total += bytes,
            None => kinds.push((name, bytes)),
        }
    }
    // Our own packings stand in I8 tensors and are named by the metadata.
    match gguf.optional_str("onebit.packing") {
        Ok(Some(packing)) => packing.to_owned(),
        Ok(None) | Err(_) => kinds
            .into_iter()
            .max_by_key(|(_, bytes)| *bytes)
            .map(|(name, _)| name)
            .unwrap_or_default(),
    }
}

/// Copies a file to `folder/<sha256>.gguf`; it appears there whole or not at all.
fn copy_by_hash(source: &Path, folder: &Path) -> Result<(PathBuf, String), AppError> {
    let mut from = File::open(source).map_err(file_error("cannot read", source))?;
    let part = folder.join(format!(".{}.part", new_id()?));
    let mut to = File::create(&part).map_err(file_error("cannot write", &part))?;
    let copied = copy_hashing(&mut from, &mut to, source, &part);
    let result = copied.and_then(|sha256| {
        to.sync_all().map_err(file_error("cannot write", &part))?;
        let path = folder.join(format!("{sha256}.gguf"));
        std::fs::rename(&part, &path).map_err(file_error("cannot write", &path))?;
        Ok((path, sha256))
    });
    if result.is_err() {
        // What remains is only room on the disk; the first error is the one to tell.
        let _ = std::fs::remove_file(&part);
    }
    result
}

fn copy_hashing(
    from: &mut File,
    to: &mut impl Write,
    source: &Path,
    part: &Path,
) -> Result<String, AppError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let n = from
            .read(&mut buffer)
            .map_err(file_error("cannot read", source))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n])
            .map_err(file_error("cannot write", part))?;
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn file_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl Fn(std::io::Error) -> AppError + use<'a> {
    move |source| AppError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_kernels::format::gguf::GgufBuilder;

    #[test]
    fn a_copy_is_named_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.bin");
        std::fs::write(&source, b"abc").unwrap();
        let (path, sha256) = copy_by_hash(&source, folder.path()).unwrap();
        assert_eq!(
            sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn graphs_of_other_engines_are_measured_by_their_names() {
        let mut builder = GgufBuilder::new();
        for (key, value) in [
            ("general.architecture", Value::String("gemma9".into())),
            ("gemma9.block_count", Value::U32(10)),
            ("gemma9.context_length", Value::U32(4096)),
            ("gemma9.embedding_length", Value::U32(256)),
            ("gemma9.attention.head_count", Value::U32(4)),
            ("gemma9.attention.head_count_kv", Value::U32(2)),
        ] {
            builder.value(key, value);
        }
        let gguf = Gguf::from_bytes(builder.to_bytes(&[]).unwrap()).unwrap();
        let shape = shape(&gguf).unwrap();
        assert_eq!(
            (&*shape.architecture, shape.context_length),
            ("gemma9", 4096)
        );
        assert_eq!(shape.kv_bytes_per_position, 2 * 10 * (64 + 64) * 2);
        let mut builder = GgufBuilder::new();
        builder.value("general.architecture", Value::String("clip".into()));
        let gguf = Gguf::from_bytes(builder.to_bytes(&[]).unwrap()).unwrap();
        assert!(super::shape(&gguf).err().unwrap().contains("pictures"));
    }

    #[test]
    fn rubbish_and_folders_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, b"not a model").unwrap();
        for path in [
            path,
            folder.path().to_owned(),
            folder.path().join("missing"),
        ] {
            let new = NewModel {
                path: path.clone(),
                name: None,
            };
            let error = bring_in(&new, &folder.path().join("models"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
        }
    }
}
