//! What an AMD NPU wants: kernel, driver, device file, firmware, pinned memory, IOMMU, and no second XRT.

use super::{Check, Facts, Verdict, install};
use crate::host::Access;

/// The first kernel with the driver in its tree.
const NPU_KERNEL: (u32, u32) = (6, 14);

/// All that an NPU wants; nothing where there is none.
pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let host = facts.host;
    let Some(npu) = &host.npu else {
        return Vec::new();
    };
    let system = &host.system;
    let kernel = system.kernel.as_deref().unwrap_or("unknown");
    let old = system
        .kernel_version()
        .is_none_or(|version| version < NPU_KERNEL);
    let mut checks = vec![Check {
        name: "npu.driver",
        verdict: if npu.driver.is_some() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: format!(
            "{:?} at {}, driver {}, kernel {kernel}",
            npu.generation,
            npu.pci,
            npu.driver.as_deref().unwrap_or("none")
        ),
        wanted: "driver amdxdna (Linux 6.14 or newer; 7.0 for FastFlowLM)",
        why: "the NPU runs small models at a few watts",
        fix: npu.driver.is_none().then(|| {
            if old {
                format!("# install Linux 7.0 or newer; this is {kernel}")
            } else {
                "sudo modprobe amdxdna".to_owned()
            }
        }),
    }];
    if npu.driver.is_some() {
        checks.push(Check {
            name: "npu.access",
            verdict: if npu.access == Access::Granted {
                Verdict::Good
            } else {
                Verdict::Advice
            },
            found: match npu.access {
                Access::Granted => format!("{} opens", npu.node.as_deref().unwrap_or_default()),
                Access::Denied => format!(
                    "{} may not be opened",
                    npu.node.as_deref().unwrap_or_default()
                ),
                Access::Absent => "no device file in /dev/accel".to_owned(),
            },
            wanted: "the device file opens for this user",
            why: "the NPU is driven through it",
            fix: match npu.access {
                Access::Granted => None,
                Access::Denied => Some("sudo usermod -aG render \"$(id -un)\"   # then sign in again".to_owned()),
                Access::Absent => Some("sudo dmesg | grep -i amdxdna | tail   # says why the driver made no device file".to_owned()),
            },
        });
        checks.push(Check {
            name: "npu.firmware",
            verdict: if npu.firmware.is_some() {
                Verdict::Good
            } else {
                Verdict::Advice
            },
            found: npu
                .firmware
                .clone()
                .unwrap_or_else(|| "the driver tells none".to_owned()),
            wanted: "firmware 1.1 or newer",
            why: "the driver and its firmware must know each other",
            fix: npu.firmware.is_none().then(|| {
                install(
                    host,
                    "firmware-amd-misc",
                    "amd-gpu-firmware",
                    "linux-firmware",
                )
            }),
        });
    }
    checks.push(Check {
        name: "npu.memlock",
        verdict: if system.memlock_bytes.is_none() { Verdict::Good } else { Verdict::Advice },
        found: system.memlock_bytes.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
        wanted: "unlimited",
        why: "the NPU's buffers are pinned in memory",
        fix: system.memlock_bytes.is_some().then(|| {
            "printf '* soft memlock unlimited\\n* hard memlock unlimited\\n' | sudo tee /etc/security/limits.d/99-onebit-memlock.conf   # then sign in again".to_owned()
        }),
    });
    checks.push(Check {
        name: "npu.iommu",
        verdict: if system.iommu && !system.iommu_disabled {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: match (system.iommu, system.iommu_disabled) {
            (_, true) => "switched off on the kernel's command line",
            (true, _) => "on",
            (false, _) => "off",
        }
        .to_owned(),
        wanted: "on",
        why: "the NPU reaches memory only through the IOMMU",
        fix: match (system.iommu, system.iommu_disabled) {
            (_, true) => Some(
                "# remove amd_iommu=off from the boot loader's kernel line, then restart"
                    .to_owned(),
            ),
            (true, _) => None,
            (false, _) => Some(
                "# switch IOMMU (AMD-Vi) on in the machine's firmware settings, then restart"
                    .to_owned(),
            ),
        },
    });
    checks.push(environment(&facts.xrt_variables));
    checks
}

/// XRT's setup script leaves variables behind that make an engine with an XRT of its own see no device.
fn environment(variables: &[String]) -> Check {
    let names = variables.join(" ");
    Check {
        name: "npu.environment",
        verdict: if variables.is_empty() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: if variables.is_empty() {
            "no variables of XRT's setup script".to_owned()
        } else {
            format!("set: {names}")
        },
        wanted: "none of them",
        why: "with them FastFlowLM looks for the NPU in another XRT and finds no device",
        fix: (!variables.is_empty()).then(|| {
            format!("unset {names}   # and take XRT's setup.sh out of the shell's start-up files")
        }),
    }
}
