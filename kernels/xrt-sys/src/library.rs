//! `libxrt_coreutil`: present or not, which release, and whether it sees a device.

use std::ffi::{c_int, c_uint, c_void};

use libloading::Library;

/// File names of XRT's core library: the linker's search first, then where AMD's own packages put it.
pub const XRT_NAMES: &[&str] = &[
    "libxrt_coreutil.so.2",
    "libxrt_coreutil.so",
    "/opt/xilinx/xrt/lib/libxrt_coreutil.so.2",
    "/opt/xilinx/xrt/lib/libxrt_coreutil.so",
];

/// Why XRT's library could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// None of the names exists on this machine.
    #[error("not installed: looked for {}", tried.join(", "))]
    NotFound {
        /// The names, in the order tried.
        tried: Vec<String>,
    },
    /// A file is there, but the dynamic linker refuses it.
    #[error("{name} is installed but does not load: {reason}")]
    Broken {
        /// The first name that exists.
        name: String,
        /// The linker's words.
        reason: String,
    },
}

/// Why a call into XRT gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XrtError {
    /// This release of the library does not have the function.
    #[error("{library} has no {symbol}; install XRT 2.x")]
    MissingSymbol {
        /// The file that was loaded.
        library: String,
        /// The C name that was looked for.
        symbol: &'static str,
    },
    /// XRT sees no device of that number (it says no more than that).
    #[error(
        "xrt sees no device {index}; check the amdxdna driver and that no XRT set-up script is sourced"
    )]
    NoDevice {
        /// The number asked for.
        index: u32,
    },
}

type DeviceOpen = unsafe extern "C" fn(c_uint) -> *mut c_void;
type DeviceClose = unsafe extern "C" fn(*mut c_void) -> c_int;

/// XRT's C functions; each may be absent.
pub struct Xrt {
    library_name: String,
    file: Option<String>,
    device_open: Option<DeviceOpen>,
    device_close: Option<DeviceClose>,
}

/// An open XRT device; closed when dropped.
pub struct Device<'a> {
    handle: *mut c_void,
    close: DeviceClose,
    _library: std::marker::PhantomData<&'a Xrt>,
}

impl Xrt {
    /// Loads XRT from the usual names.
    ///
    /// # Errors
    /// [`LoadError`] when it is not installed or does not load.
    pub fn load() -> Result<Self, LoadError> {
        Self::load_from(XRT_NAMES)
    }

    /// Loads XRT from the first of `names` that opens.
    ///
    /// # Errors
    /// [`LoadError`] when none opens.
    pub fn load_from(names: &[&str]) -> Result<Self, LoadError> {
        let mut broken = None;
        for &name in names {
            // SAFETY: opening runs the library's initialisers; XRT's only register its own tables.
            match unsafe { Library::new(name) } {
                Ok(library) => return Ok(Self::from_library(name, library)),
                Err(error) => {
                    let reason = std::error::Error::source(&error)
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    if broken.is_none()
                        && !reason.contains(&format!("{name}: cannot open shared object file"))
                    {
                        broken = Some(LoadError::Broken {
                            name: name.to_owned(),
                            reason,
                        });
                    }
                }
            }
        }
        let tried = names.iter().map(|name| (*name).to_owned()).collect();
        Err(broken.unwrap_or(LoadError::NotFound { tried }))
    }

    fn from_library(name: &str, library: Library) -> Self {
        let xrt = Self {
            library_name: name.to_owned(),
            file: mapped_file(name),
            // SAFETY: `xrtDeviceHandle xrtDeviceOpen(unsigned int)` in every release of xrt/deprecated/xrt.h.
            device_open: unsafe { library.get::<DeviceOpen>(b"xrtDeviceOpen") }
                .ok()
                .map(|symbol| *symbol),
            // SAFETY: `int xrtDeviceClose(xrtDeviceHandle)`, likewise.
            device_close: unsafe { library.get::<DeviceClose>(b"xrtDeviceClose") }
                .ok()
                .map(|symbol| *symbol),
        };
        // The pointers above live as long as the library, which starts threads of its own: never closed.
        std::mem::forget(library);
        xrt
    }

    /// The release, read from the file that was really mapped (`libxrt_coreutil.so.2.25.0` is 2.25.0):
    /// the C interface has no call for it. None when the file's name carries none.
    pub fn version(&self) -> Option<&str> {
        let (_, version) = self.file.as_deref()?.rsplit_once(".so.")?;
        Some(version)
    }

    /// Opens a device by its number.
    ///
    /// # Errors
    /// [`XrtError::NoDevice`] when XRT does not see it, [`XrtError::MissingSymbol`] when it cannot be asked.
    pub fn open(&self, index: u32) -> Result<Device<'_>, XrtError> {
        let missing = |symbol| XrtError::MissingSymbol {
            library: self.library_name.clone(),
            symbol,
        };
        let open = self.device_open.ok_or_else(|| missing("xrtDeviceOpen"))?;
        let close = self.device_close.ok_or_else(|| missing("xrtDeviceClose"))?;
        // SAFETY: takes a number; null means that there is no such device.
        let handle = unsafe { open(index) };
        if handle.is_null() {
            return Err(XrtError::NoDevice { index });
        }
        Ok(Device {
            handle,
            close,
            _library: std::marker::PhantomData,
        })
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        // SAFETY: a handle that `xrtDeviceOpen` gave and nobody else holds. Its status says nothing useful.
        let _status = unsafe { (self.close)(self.handle) };
    }
}

/// The file behind a library of this process, with its links resolved by the kernel.
fn mapped_file(name: &str) -> Option<String> {
    let stem = name.rsplit('/').next()?.split(".so").next()?;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5))
        .find(|path| {
            path.rsplit('/').next().is_some_and(|file| {
                file.strip_prefix(stem)
                    .is_some_and(|rest| rest.starts_with(".so"))
            })
        })?;
    Some(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_lists_the_names() {
        let Err(LoadError::NotFound { tried }) = Xrt::load_from(&["libonebit-absent.so.2"]) else {
            panic!("a library of that name cannot exist");
        };
        assert_eq!(tried, ["libonebit-absent.so.2"]);
    }

    #[test]
    fn a_library_without_xrt_names_the_missing_function() {
        let libc = Xrt::load_from(&["libc.so.6"]).expect("libc opens");
        assert_eq!(libc.version(), Some("6"));
        let error = libc.open(0).err().expect("libc has no devices");
        assert_eq!(
            error,
            XrtError::MissingSymbol {
                library: "libc.so.6".into(),
                symbol: "xrtDeviceOpen"
            }
        );
    }
}
