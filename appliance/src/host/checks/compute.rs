//! The two ways to compute on a GPU: Vulkan and ROCm.

use super::{Check, Library, Verdict, install};
use crate::host::Host;

pub(super) fn vulkan(host: &Host, found: &Library) -> Check {
    Check {
        name: "gpu.vulkan",
        verdict: if found.is_ok() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: match found {
            Ok(device) => device.clone(),
            Err(reason) => format!("the processor answers instead: {reason}"),
        },
        wanted: "a Vulkan 1.3 driver that offers the GPU",
        why: "ternary models compute on the GPU through it",
        fix: found.is_err().then(|| {
            let fedora = "mesa-vulkan-drivers vulkan-loader";
            install(
                host,
                "mesa-vulkan-drivers libvulkan1",
                fedora,
                "vulkan-radeon vulkan-icd-loader",
            )
        }),
    }
}

pub(super) fn rocm(host: &Host, hip: &Library) -> Check {
    Check {
        name: "gpu.rocm",
        verdict: if hip.is_ok() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: match hip {
            Ok(version) => format!("HIP {version}"),
            Err(reason) => reason.clone(),
        },
        wanted: "optional: HIP 6 or newer",
        why: "one of two ways to compute on an AMD GPU; the other, Vulkan, needs no ROCm",
        fix: hip.is_err().then(|| {
            install(
                host,
                "libamdhip64-6 libhiprtc6",
                "rocm-hip",
                "hip-runtime-amd",
            )
        }),
    }
}
