//! Which device the built-in engine computes on, and its lane there.
//!
//! AMD's GPUs are driven through HIP where ROCm is whole, NVIDIA's through CUDA where driver and run-time compiler are,
//! and any through Vulkan. A card comes before a GPU that shares the machine's memory, and the vendor's own way before
//! Vulkan; the settings can name one.

use std::sync::OnceLock;

use onebit_kernels::gpu::stream::{self, StreamDriver, Vendor};
use onebit_kernels::gpu::vulkan::{self, Choice, Vulkan};
use onebit_kernels::gpu::{Driver, GpuError, Identity};

use super::super::LANE;
use crate::config::ComputeDevice;
use crate::engines::Means;
use crate::engines::lanes::{Lane, Memory, Silicon};

/// What one way to drive GPUs offers here.
#[derive(Debug, Clone)]
pub struct Way {
    /// `hip`, `cuda` or `vulkan`.
    pub name: &'static str,
    /// Its devices, or why there are none.
    pub devices: Result<Vec<Identity>, GpuError>,
}

/// Every way and what it offers, the preferred first; asked once a process, for loading all drivers takes up to 150 ms.
pub fn ways() -> &'static [Way] {
    static WAYS: OnceLock<Vec<Way>> = OnceLock::new();
    WAYS.get_or_init(|| {
        let one = |vendor| stream::device(vendor).map(|identity| vec![identity]);
        vec![
            Way {
                name: "hip",
                devices: one(Vendor::Amd),
            },
            Way {
                name: "cuda",
                devices: one(Vendor::Nvidia),
            },
            Way {
                name: "vulkan",
                devices: vulkan::devices(),
            },
        ]
    })
}

/// The device that the settings ask for; `None` where that is the processor.
///
/// # Errors
/// Why there is none although one was asked for.
pub fn device(wanted: ComputeDevice) -> Result<Option<Identity>, GpuError> {
    choose(ways(), wanted)
}

/// The choice itself, from what every way offers.
fn choose(ways: &[Way], wanted: ComputeDevice) -> Result<Option<Identity>, GpuError> {
    let only = match wanted {
        ComputeDevice::Cpu => return Ok(None),
        ComputeDevice::Auto => None,
        ComputeDevice::Hip => Some("hip"),
        ComputeDevice::Cuda => Some("cuda"),
        ComputeDevice::Vulkan | ComputeDevice::Software => Some("vulkan"),
    };
    let software = wanted == ComputeDevice::Software;
    let asked = || {
        ways.iter()
            .filter(move |way| only.is_none_or(|name| name == way.name))
    };
    let mut usable: Vec<&Identity> = asked()
        .filter_map(|way| way.devices.as_ref().ok())
        .flatten()
        .filter(|device| device.software == software)
        .collect();
    // Stable: among cards, and among the others, the ways keep their order.
    usable.sort_by_key(|device| device.shared_memory);
    if let Some(best) = usable.first() {
        return Ok(Some((*best).clone()));
    }
    let why = |way: &Way| match &way.devices {
        Err(error) => error.to_string(),
        Ok(_) if software => "the vulkan loader offers no software device".to_owned(),
        Ok(_) => "the vulkan loader offers no gpu".to_owned(),
    };
    let reasons: Vec<String> = asked().map(why).collect();
    match asked().next().map(|way| &way.devices) {
        // One way alone says it best itself.
        Some(Err(error)) if only.is_some() => Err(error.clone()),
        _ => Err(GpuError::NoDevice {
            reason: reasons.join("; "),
        }),
    }
}

/// Opens the device that the settings ask for.
///
/// # Errors
/// It is not there, or its driver refuses.
pub(super) fn open(wanted: ComputeDevice) -> Result<Option<Box<dyn Driver>>, GpuError> {
    let Some(device) = device(wanted)? else {
        return Ok(None);
    };
    Ok(Some(match device.backend {
        "hip" => Box::new(StreamDriver::open(Vendor::Amd)?),
        "cuda" => Box::new(StreamDriver::open(Vendor::Nvidia)?),
        _ if device.software => Box::new(Vulkan::open(Choice::Software)?),
        _ => Box::new(Vulkan::open(Choice::Gpu)?),
    }))
}

/// The lane that a device is.
pub fn lane(device: &Identity) -> Lane {
    let (silicon, memory) = if device.software {
        (LANE.silicon, LANE.memory)
    } else if device.shared_memory {
        (Silicon::Igpu, Memory::Gtt)
    } else {
        (Silicon::Dgpu, Memory::Vram)
    };
    Lane {
        name: match device.backend {
            "hip" => "ternary.hip",
            "cuda" => "ternary.cuda",
            _ => "ternary.vulkan",
        },
        silicon,
        memory,
        ..LANE
    }
}

/// The lanes of this machine for a model, the one that it is loaded on first.
pub fn lanes(means: &Means, model: &crate::domain::Model) -> Vec<Lane> {
    // What is not ternary stays on the processor; of the others a few turn out at loading to do so.
    let ternary = model.architecture.starts_with("bitnet");
    let on_gpu = match device(means.ternary.device) {
        _ if !ternary || means.kernels.as_os_str().is_empty() => None,
        Ok(found) => found.as_ref().map(lane),
        Err(_) => None,
    };
    on_gpu.into_iter().chain([LANE]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(backend: &'static str, shared_memory: bool, software: bool) -> Identity {
        Identity {
            backend,
            device: format!("{backend} device"),
            units: 1,
            driver: String::new(),
            compiler: String::new(),
            software,
            shared_memory,
            memory_bytes: 1 << 30,
            binding_bytes_max: 1 << 30,
            fused: false,
        }
    }

    fn way(name: &'static str, devices: &[(bool, bool)]) -> Way {
        let list = devices.iter().map(|(s, w)| identity(name, *s, *w));
        let none = Err(GpuError::Missing {
            backend: name,
            reason: format!("lib{name}.so: cannot open"),
        });
        Way {
            name,
            devices: if devices.is_empty() {
                none
            } else {
                Ok(list.collect())
            },
        }
    }

    #[test]
    fn the_vendors_own_way_comes_first_a_card_before_it_and_the_settings_before_both() {
        const SHARED: (bool, bool) = (true, false);
        const CARD: (bool, bool) = (false, false);
        const SOFTWARE: (bool, bool) = (true, true);
        let strix = [
            way("hip", &[SHARED]),
            way("cuda", &[]),
            way("vulkan", &[SHARED, SOFTWARE]),
        ];
        let both = [
            way("hip", &[SHARED]),
            way("cuda", &[CARD]),
            way("vulkan", &[SHARED, CARD]),
        ];
        let plain = [way("hip", &[]), way("cuda", &[]), way("vulkan", &[SHARED])];
        let none = [
            way("hip", &[]),
            way("cuda", &[]),
            way("vulkan", &[SOFTWARE]),
        ];
        use ComputeDevice as D;
        let name = |ways: &[Way], wanted| match choose(ways, wanted) {
            Ok(Some(device)) => lane(&device).name.to_owned(),
            Ok(None) => "ternary.cpu".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(name(&strix, D::Auto), "ternary.hip");
        assert_eq!(name(&strix, D::Vulkan), "ternary.vulkan");
        assert_eq!(name(&strix, D::Cpu), "ternary.cpu");
        assert_eq!(name(&both, D::Auto), "ternary.cuda");
        assert_eq!(name(&both, D::Hip), "ternary.hip");
        assert_eq!(name(&plain, D::Auto), "ternary.vulkan");
        assert_eq!(name(&none, D::Software), "ternary.vulkan");
        let reason = name(&none, D::Auto);
        for part in ["libhip.so", "libcuda.so", "offers no gpu"] {
            assert!(reason.contains(part), "{reason}");
        }
        let reason = name(&plain, D::Cuda);
        assert!(
            reason.contains("libcuda.so") && reason.contains("libnvrtc"),
            "{reason}"
        );
        let silicon = |ways: &[Way], wanted| lane(&choose(ways, wanted).unwrap().unwrap()).silicon;
        assert_eq!(silicon(&strix, D::Auto), Silicon::Igpu);
        assert_eq!(silicon(&both, D::Auto), Silicon::Dgpu);
        assert_eq!(silicon(&none, D::Software), Silicon::Cpu);
    }
}
