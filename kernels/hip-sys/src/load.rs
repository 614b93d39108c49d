//! Finds a shared library by a list of names. Knows nothing of what is inside.

use libloading::Library;

/// Where ROCm's own packages put libraries; they do not always tell the dynamic linker.
const ROCM_FOLDER: &str = "/opt/rocm/lib/";

/// Why a library could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// None of the names exists on this machine.
    #[error("not installed: looked for {}", tried.join(", "))]
    NotFound {
        /// The names, in the order tried.
        tried: Vec<String>,
    },
    /// A file is there, but the dynamic linker refuses it (often a dependency of its own is missing).
    #[error("{name} is installed but does not load: {reason}")]
    Broken {
        /// The first name that exists.
        name: String,
        /// The linker's words.
        reason: String,
    },
}

/// An opened library and the name that opened it.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) library: Library,
}

/// Opens the first of `names` that loads, first by the linker's own search, then in ROCm's folder.
pub(crate) fn open(names: &[&str]) -> Result<Opened, LoadError> {
    let mut tried = Vec::new();
    let mut broken = None;
    let plain = names.iter().map(|name| (*name).to_owned());
    let in_rocm = names
        .iter()
        .filter(|name| !name.contains('/'))
        .map(|name| format!("{ROCM_FOLDER}{name}"));
    for name in plain.chain(in_rocm) {
        // SAFETY: opening runs the library's initialisers. These are AMD's own runtime libraries (or
        // what a caller named instead), whose initialisers only register tables of their own.
        match unsafe { Library::new(&name) } {
            Ok(library) => return Ok(Opened { name, library }),
            Err(error) => {
                let reason = chain(&error);
                // The linker begins with the file it could not open: ours absent, or something ours needs.
                if broken.is_none()
                    && !reason.contains(&format!("{name}: cannot open shared object file"))
                {
                    broken = Some(LoadError::Broken {
                        name: name.clone(),
                        reason,
                    });
                }
                tried.push(name);
            }
        }
    }
    Err(broken.unwrap_or(LoadError::NotFound { tried }))
}

/// An error with its sources: libloading keeps the linker's words in the source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_library_lists_every_name_tried() {
        let Err(LoadError::NotFound { tried }) =
            open(&["libonebit-absent.so.7", "libonebit-absent.so.6"])
        else {
            panic!("a library of that name cannot exist");
        };
        assert_eq!(tried.len(), 4);
        assert_eq!(tried[0], "libonebit-absent.so.7");
        assert_eq!(tried[3], "/opt/rocm/lib/libonebit-absent.so.6");
    }

    #[test]
    fn a_file_that_is_no_library_is_broken_not_absent() {
        let file =
            std::env::temp_dir().join(format!("onebit-not-a-library-{}.so", std::process::id()));
        std::fs::write(&file, "this is text").unwrap();
        let name = file.to_str().unwrap().to_owned();
        let result = open(&[&name]);
        std::fs::remove_file(&file).unwrap();
        let Err(LoadError::Broken {
            name: found,
            reason,
        }) = result
        else {
            panic!("text was accepted as a library")
        };
        assert_eq!(found, name);
        assert!(
            reason.contains("invalid ELF header") || reason.contains("too short"),
            "{reason}"
        );
    }
}
