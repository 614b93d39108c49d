//! AMD's HIP runtime and its run-time compiler as tables of function pointers, looked up when a
//! program asks for them; and NVIDIA's driver and compiler under the same names, for their functions take the same
//! arguments: what runs on the one is the code that runs on the other.
//!
//! Nothing is linked: one binary starts on machines with ROCm 5, 6, 7 or none at all. Every symbol
//! is optional, because each ROCm release adds and drops some; calling an absent one is a typed
//! error that names it. No HIP call takes or returns a struct by value and none fills
//! `hipDeviceProp_t`, whose layout changed between ROCm 5 and 6: device facts come from
//! [`Runtime::device_attribute`] and from sysfs.
//!
//! This crate must not know what a kernel computes, when to compile one, or how to choose a device.

mod load;
mod rtc;
mod runtime;
mod table;

pub use load::LoadError;
pub use rtc::{Compiled, NVRTC_NAMES, RTC_NAMES, Rtc};
pub use runtime::{
    CUDA_NAMES, DeviceAttribute, LaunchAttribute, LaunchConfig, RUNTIME_NAMES, Runtime, Version,
};

use std::ffi::c_void;

/// What every HIP and hipRTC call returns: 0 is success.
pub type Status = i32;
/// Whose functions a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// HIP and hipRTC.
    Amd,
    /// CUDA's driver and NVRTC.
    Nvidia,
}

impl Vendor {
    fn name(self, amd: &'static str, nvidia: &'static str) -> &'static str {
        match self {
            Vendor::Amd => amd,
            Vendor::Nvidia => nvidia,
        }
    }
}

/// A device's state for a process (`CUcontext`); NVIDIA only.
pub type Context = *mut c_void;
/// An address in device memory.
pub type DevicePointer = *mut c_void;
/// A loaded code object (`hipModule_t`).
pub type Module = *mut c_void;
/// A kernel inside a [`Module`] (`hipFunction_t`).
pub type Function = *mut c_void;
/// A queue of work (`hipStream_t`); null is the default one.
pub type Stream = *mut c_void;
/// A point in a [`Stream`] (`hipEvent_t`).
pub type Event = *mut c_void;
/// Recorded work (`hipGraph_t`).
pub type Graph = *mut c_void;
/// Recorded work made ready to launch (`hipGraphExec_t`).
pub type GraphExec = *mut c_void;
/// Text being compiled (`hiprtcProgram`).
pub type Program = *mut c_void;

/// `hipErrorNoDevice`: the runtime is there and the GPU is not.
pub const ERROR_NO_DEVICE: Status = 100;

/// Why a call into HIP or hipRTC gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// This release of the library does not have the function.
    #[error("{library} has no {symbol}; install another release of it")]
    MissingSymbol {
        /// The file that was loaded.
        library: String,
        /// The C name that was looked for.
        symbol: &'static str,
    },
    /// The library answered with a status other than success.
    #[error("{symbol} failed with status {status}{}", name.as_deref().map(|n| format!(" ({n})")).unwrap_or_default())]
    Failed {
        /// The C name that was called.
        symbol: &'static str,
        /// HIP's or hipRTC's number for the failure.
        status: Status,
        /// The library's own word for that number, where it gives one.
        name: Option<String>,
    },
    /// A name, option or kernel text holds a zero byte, which C cannot carry.
    #[error("{what} contains a zero byte")]
    ZeroByte {
        /// Which argument it was.
        what: &'static str,
    },
}
