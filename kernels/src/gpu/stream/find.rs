//! A vendor's first device as its libraries describe it, before any of its memory is taken.

use super::super::driver::{GpuError, Identity};
use super::super::hip;
use super::failed;
use hip_sys::{DeviceAttribute, LoadError, Rtc, Runtime, Vendor};
use std::ffi::c_int;

/// `cuDeviceGetAttribute`'s numbers for what is asked of NVIDIA.
mod cuda_attribute {
    pub(super) const UNITS: i32 = 16;
    pub(super) const INTEGRATED: i32 = 18;
    pub(super) const MAJOR: i32 = 75;
    pub(super) const MINOR: i32 = 76;
}

fn backend(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Amd => "hip",
        Vendor::Nvidia => "cuda",
    }
}

fn missing(vendor: Vendor) -> impl Fn(LoadError) -> GpuError {
    move |error| GpuError::Missing {
        backend: backend(vendor),
        reason: error.to_string(),
    }
}

/// A vendor's libraries and what they say of their first device.
pub(super) struct Found {
    pub(super) runtime: Runtime,
    pub(super) compiler: Rtc,
    pub(super) identity: Identity,
    pub(super) architecture: String,
}

/// Asks a vendor's libraries for their first device; takes none of its memory.
pub(super) fn find(vendor: Vendor) -> Result<Found, GpuError> {
    // AMD's libraries take a tenth of a second and 100 MB: they are left alone where the kernel knows of no GPU.
    if vendor == Vendor::Amd && hip::first_target().is_none() {
        return Err(GpuError::NoDevice {
            reason: "/sys/class/kfd names no gpu; load the amdgpu driver".to_owned(),
        });
    }
    let (runtime, compiler) = match vendor {
        Vendor::Amd => (Runtime::load(), Rtc::load()),
        Vendor::Nvidia => (Runtime::load_cuda(), Rtc::load_nvrtc()),
    };
    let runtime = runtime.map_err(missing(vendor))?;
    // SAFETY: takes a number.
    if let Err(error) = unsafe { runtime.init(0) } {
        return Err(GpuError::NoDevice {
            reason: error.to_string(),
        });
    }
    if runtime.device_count().map_err(failed)? == 0 {
        return Err(GpuError::NoDevice {
            reason: format!("{} offers no gpu", runtime.library_name()),
        });
    }
    let compiler = compiler.map_err(missing(vendor))?;
    let (identity, architecture) = describe(&runtime, &compiler)?;
    if let Some(oldest) = too_old(&architecture) {
        return Err(GpuError::NoDevice {
            reason: format!(
                "{} is {architecture}, and the {} kernels are written for {oldest} and newer; vulkan computes on it",
                identity.device, identity.backend
            ),
        });
    }
    Ok(Found {
        runtime,
        compiler,
        identity,
        architecture,
    })
}

/// The oldest architecture that the texts are written for, where `architecture` is older: NVIDIA's kernels wait for each
/// other as those of `sm_90` do, AMD's multiply bytes as those of `gfx11` do.
fn too_old(architecture: &str) -> Option<&'static str> {
    let number = |prefix: &str| Some(u32::from_str_radix(architecture.strip_prefix(prefix)?, 16));
    match (number("sm_"), number("gfx")) {
        (Some(Ok(version)), _) if version < 0x90 => Some("sm_90"),
        (_, Some(Ok(version))) if version < 0x1100 => Some("gfx1100"),
        _ => None,
    }
}

/// A vendor's first device, as its libraries describe it.
///
/// # Errors
/// [`GpuError::Missing`] without driver or compiler, [`GpuError::NoDevice`], or a call that fails.
pub fn device(vendor: Vendor) -> Result<Identity, GpuError> {
    find(vendor).map(|found| found.identity)
}

/// What the device and its software say of themselves, and the architecture that code is compiled for.
fn describe(runtime: &Runtime, compiler: &Rtc) -> Result<(Identity, String), GpuError> {
    let vendor = runtime.vendor();
    let number = |attribute: c_int| -> Result<u32, GpuError> {
        let mut value = 0;
        // SAFETY: a live integer; the device exists.
        unsafe { runtime.device_get_attribute(&mut value, attribute, 0) }.map_err(failed)?;
        Ok(value.unsigned_abs())
    };
    let mut packed = 0;
    let mut memory_bytes = 0;
    // SAFETY: live numbers that the calls fill; the device exists.
    unsafe {
        runtime
            .runtime_get_version(&mut packed)
            .and_then(|()| runtime.device_total_mem(&mut memory_bytes, 0))
            .map_err(failed)?;
    }
    let (architecture, units, shared) = match vendor {
        Vendor::Amd => (
            hip::first_target().ok_or_else(|| GpuError::NoDevice {
                reason: "/sys/class/kfd names no gpu; load the amdgpu driver".to_owned(),
            })?,
            number(DeviceAttribute::MultiprocessorCount as c_int)?,
            number(DeviceAttribute::Integrated as c_int)? != 0,
        ),
        Vendor::Nvidia => (
            format!(
                "sm_{}{}",
                number(cuda_attribute::MAJOR)?,
                number(cuda_attribute::MINOR)?
            ),
            number(cuda_attribute::UNITS)?,
            number(cuda_attribute::INTEGRATED)? != 0,
        ),
    };
    let (major, minor) = compiler.version().map_err(failed)?;
    let identity = Identity {
        backend: backend(vendor),
        device: runtime.device_name(0).map_err(failed)?,
        units,
        driver: format!("{} {packed} for {architecture}", runtime.library_name()),
        compiler: format!("{} {major}.{minor}", compiler.library_name()),
        software: false,
        shared_memory: shared,
        memory_bytes: memory_bytes as u64,
        binding_bytes_max: u64::MAX,
        fused: true,
    };
    Ok((identity, architecture))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_that_the_texts_are_not_for_are_refused() {
        for good in ["sm_90", "sm_100", "sm_120", "gfx1151", "gfx1100", "gfx1201"] {
            assert_eq!(too_old(good), None, "{good}");
        }
        assert_eq!(too_old("sm_86"), Some("sm_90"));
        assert_eq!(too_old("gfx1030"), Some("gfx1100"));
        assert_eq!(too_old("gfx90a"), Some("gfx1100"));
    }
}
