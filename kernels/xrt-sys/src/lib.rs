//! What can be asked of an AMD NPU without linking anything: XRT's C functions, looked up at run
//! time ([`Xrt`]), and the kernel driver's own telemetry call ([`Npu`]), which needs no XRT at all.
//!
//! XRT's C interface has no hardware contexts, so it cannot run work on an NPU; this crate therefore
//! detects and reports, and runs nothing. It must not know what a model is.

mod driver;
mod library;

pub use driver::{Clock, Firmware, Grid, Npu, NpuError, PowerMode, Sensor};
pub use library::{Device, LoadError, XRT_NAMES, Xrt, XrtError};
