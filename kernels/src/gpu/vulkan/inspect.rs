//! What a driver's own compiler makes of the kernels: registers, spills and waves, by the driver's names. Runs nothing,
//! so that a driver without its device (RADV told to take a family for granted) can be asked too.

use super::super::driver::{GpuError, Identity};
use super::super::source::Source;
use super::device::{Device, failed};
use super::spirv;
use ash::khr::pipeline_executable_properties;
use ash::vk;

/// A device that kernels are compiled for, and nothing else.
pub struct Inspector {
    device: Device,
    identity: Identity,
    ask: pipeline_executable_properties::Device,
}

impl Inspector {
    /// Opens the best GPU, with the extension that tells.
    ///
    /// # Errors
    /// [`GpuError::Missing`], [`GpuError::NoDevice`], or a call that fails.
    pub fn open() -> Result<Inspector, GpuError> {
        let (device, identity) = Device::open(false, true)?;
        let ask = device.executables();
        Ok(Inspector {
            device,
            identity,
            ask,
        })
    }

    /// The device and its driver.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Compiles a source and returns what the driver counts, by its names. Multiply-adds are taken to round once.
    ///
    /// # Errors
    /// [`GpuError::Compile`], or the driver refuses.
    pub fn statistics(&self, source: &Source) -> Result<Vec<(String, u64)>, GpuError> {
        let code = spirv::compile(source, true)?;
        let words: Vec<u32> = code
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let loaded = self.device.pipeline(&words, source.buffers, source.args)?;
        let info = vk::PipelineExecutableInfoKHR::default().pipeline(loaded.pipeline);
        // SAFETY: the pipeline was made with its statistics kept and is alive; it has one executable, the first.
        let told = unsafe { self.ask.get_pipeline_executable_statistics(&info) };
        self.device.unload(&loaded);
        let told = told.map_err(failed("vkGetPipelineExecutableStatisticsKHR"))?;
        let number = |one: &vk::PipelineExecutableStatisticKHR<'_>| {
            use vk::PipelineExecutableStatisticFormatKHR as Format;
            // SAFETY: the format says which member of the union the driver wrote.
            unsafe {
                match one.format {
                    Format::BOOL32 => u64::from(one.value.b32),
                    Format::INT64 => one.value.i64.unsigned_abs(),
                    Format::FLOAT64 => one.value.f64 as u64,
                    _ => one.value.u64,
                }
            }
        };
        let name = |one: &vk::PipelineExecutableStatisticKHR<'_>| {
            one.name_as_c_str().map_or_else(
                |_| String::new(),
                |name| name.to_string_lossy().into_owned(),
            )
        };
        Ok(told.iter().map(|one| (name(one), number(one))).collect())
    }
}
