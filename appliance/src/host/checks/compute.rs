//! The ways to compute on a GPU (Vulkan, ROCm, CUDA), and the lane that is taken of them.

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
    let packages = || {
        install(
            host,
            "libamdhip64-6 libhiprtc6",
            "rocm-hip",
            "hip-runtime-amd",
        )
    };
    let why =
        "the first choice for ternary models on an AMD GPU; the second, Vulkan, needs no ROCm";
    optional(
        "gpu.rocm",
        hip,
        "optional: HIP 6 or newer with hipRTC",
        why,
        packages,
    )
}

pub(super) fn cuda(host: &Host, cuda: &Library) -> Check {
    let packages = || install(host, "libcuda1 libnvrtc12", "cuda-nvrtc", "cuda");
    let why = "the first choice for ternary models on an NVIDIA GPU; the second, Vulkan, needs its driver alone";
    let wanted = "optional: NVIDIA's driver with NVRTC 12 or newer, and a GPU of sm_90 or newer";
    optional("gpu.cuda", cuda, wanted, why, packages)
}

fn optional(
    name: &'static str,
    library: &Library,
    wanted: &'static str,
    why: &'static str,
    packages: impl FnOnce() -> String,
) -> Check {
    Check {
        name,
        verdict: if library.is_ok() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: match library {
            Ok(found) => found.clone(),
            Err(reason) => reason.clone(),
        },
        wanted,
        why,
        fix: library.is_err().then(packages),
    }
}

/// What ternary models compute on.
pub(super) fn lane(lane: &Library) -> Check {
    Check {
        name: "gpu.lane",
        verdict: if lane.is_ok() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: match lane {
            Ok(found) => found.clone(),
            Err(reason) => format!("ternary.cpu: {reason}"),
        },
        wanted: "ternary.hip, ternary.cuda or ternary.vulkan",
        why: "ternary models answer several times faster on the GPU than on the processor",
        fix: lane.is_err().then(|| {
            "onebit kernels list   # names what each way lacks; if ternary.device names one, \"auto\" takes any".to_owned()
        }),
    }
}
