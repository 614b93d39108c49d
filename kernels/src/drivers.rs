//! What AMD's NPU and its library say of themselves on this machine: what `doctor` asks. GPUs are asked by [`crate::gpu`].

use std::path::Path;

pub use xrt_sys::{Clock, Firmware, Grid, NpuError, PowerMode, Sensor};

/// Why a vendor's library gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// XRT is absent or does not load.
    #[error("xrt: {0}")]
    XrtLoad(#[from] xrt_sys::LoadError),
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
