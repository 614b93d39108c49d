//! Which vendors' libraries load on this machine, in which release: what `doctor` asks. Choosing and
//! driving a device is not this module's business.

use std::path::Path;

use hip_sys::{CallError, Rtc, Runtime, Version};
pub use xrt_sys::{Clock, Firmware, Grid, NpuError, PowerMode, Sensor};

/// Why a vendor's library gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// HIP is absent or does not load.
    #[error("hip runtime: {0}")]
    HipLoad(#[from] hip_sys::LoadError),
    /// HIP is there and a call failed.
    #[error("hip runtime: {0}")]
    HipCall(#[from] CallError),
    /// XRT is absent or does not load.
    #[error("xrt: {0}")]
    XrtLoad(#[from] xrt_sys::LoadError),
}

/// AMD's HIP as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hip {
    /// The runtime's release.
    pub version: Version,
    /// GPUs the runtime can use.
    pub devices: u32,
    /// The run-time compiler's version; `None` when it is not installed.
    pub compiler: Option<(u32, u32)>,
}

/// Loads HIP and asks for its release. Takes some 100 ms where ROCm is installed.
///
/// # Errors
/// [`DriverError`] when HIP is absent, does not load, or fails its first call.
pub fn hip() -> Result<Hip, DriverError> {
    let runtime = Runtime::load()?;
    let compiler = Rtc::load().ok().and_then(|rtc| rtc.version().ok());
    Ok(Hip {
        version: runtime.version()?,
        devices: runtime.device_count()?,
        compiler,
    })
}

/// Loads XRT and tells its release, when the file's name carries one.
///
/// # Errors
/// [`DriverError::XrtLoad`] when XRT is absent or does not load.
pub fn xrt() -> Result<Option<String>, DriverError> {
    Ok(xrt_sys::Xrt::load()?.version().map(str::to_owned))
}

/// What the NPU's driver tells about it, without XRT.
#[derive(Debug, Clone, PartialEq)]
pub struct NpuTelemetry {
    /// Firmware running on it.
    pub firmware: Firmware,
    /// Its array of tiles.
    pub grid: Grid,
    /// Its clocks now.
    pub clocks: Vec<Clock>,
    /// Its sensors now.
    pub sensors: Vec<Sensor>,
    /// Its power mode.
    pub power_mode: PowerMode,
}

/// Asks the driver behind a device file such as `/dev/accel/accel0`.
///
/// # Errors
/// [`NpuError`] when the file does not open or the driver refuses a question.
pub fn npu(node: &Path) -> Result<NpuTelemetry, NpuError> {
    let npu = xrt_sys::Npu::open(node)?;
    Ok(NpuTelemetry {
        firmware: npu.firmware()?,
        grid: npu.grid()?,
        clocks: npu.clocks()?,
        sensors: npu.sensors()?,
        power_mode: npu.power_mode()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds on machines with and without ROCm: an answer or a message that says what to look for.
    #[test]
    fn hip_answers_or_says_why_not() {
        match hip() {
            Ok(hip) => assert!(hip.version.major >= 5, "{hip:?}"),
            Err(error) => assert!(error.to_string().contains("libamdhip64"), "{error}"),
        }
    }
}
