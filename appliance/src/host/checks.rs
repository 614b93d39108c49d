//! Compares what a machine has with what the appliance wants: the checks behind `onebit doctor`.
//!
//! Every check is a pure function of [`Facts`], so that a fixture machine tests it. A check says what
//! was found, what was wanted, why that matters, and, when it is not met, the exact line that helps on
//! this distribution. Nothing here prints or changes anything.

mod compute;
mod npu;

use super::{Access, Gpu, Host, Vendor};

/// Least free memory for the default model with room to spare; smaller machines swap.
const MEMORY_BYTES_MIN: u64 = 1 << 30;
/// Least free space in the data directory: one mid-size model.
const DISK_BYTES_MIN: u64 = 5 << 30;
/// 2026-01-01 in seconds since 1970: a clock before that is not set, for this program is younger.
const CLOCK_S_MIN: u64 = 1_767_225_600;
/// Share of main memory that an integrated GPU should be able to map, in percent.
const GTT_PERCENT_MIN: u64 = 50;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As wanted.
    Good,
    /// The appliance works; something it could use is missing or smaller than it might be.
    Advice,
    /// The appliance does not work until this is mended.
    Problem,
}

impl Verdict {
    /// One word, as `doctor` prints it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Advice => "advice",
            Self::Problem => "problem",
        }
    }
}

/// One prerequisite, compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A stable name, `area.fact`.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub wanted: &'static str,
    /// What depends on it.
    pub why: &'static str,
    /// The command that helps, when something is to be mended and a command can.
    pub fix: Option<String>,
}

/// Whether the address to serve on can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// Nobody listens.
    Free,
    /// This appliance already serves there.
    Ours,
    /// Something else does, or the address is not this machine's; with the system's words.
    Taken(String),
}

/// A library that is loaded at run time: its version, or why there is none.
pub type Library = Result<String, String>;

/// Everything the checks look at.
pub struct Facts<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The GPU that AMD's HIP offers. Asked only where an AMD GPU is, since loading it takes a moment.
    pub hip: Option<Library>,
    /// The GPU that NVIDIA's CUDA offers. Asked only where an NVIDIA GPU is.
    pub cuda: Option<Library>,
    /// The GPU that Vulkan offers for computing. Asked only where a GPU is.
    pub vulkan: Option<Library>,
    /// The lane that ternary models compute on, or why none of a GPU's does. Asked only where a GPU is.
    pub lane: Option<Library>,
    /// The address to serve on, as text, and its state.
    pub port: (String, Port),
    /// The data directory as text, and whether a file could be written there.
    pub data: (String, Result<(), String>),
    /// Free bytes where the data directory is.
    pub disk_free_bytes: Option<u64>,
    /// What the system's clock says, in seconds since 1970.
    pub clock_s: u64,
    /// Names of environment variables that point at an XRT of their own.
    pub xrt_variables: Vec<String>,
}

/// All checks that apply to this machine, in reading order.
pub fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = vec![
        cpu(facts.host),
        memory(facts.host),
        data(facts),
        disk(facts),
        port(facts),
        clock(facts),
    ];
    checks.extend(gpu(facts));
    checks.extend(npu::checks(facts));
    checks
}

fn cpu(host: &Host) -> Check {
    let cpu = &host.cpu;
    let best = ["avx512_vnni", "avx2"]
        .into_iter()
        .find(|feature| cpu.has(feature));
    let cores = cpu.cores.map_or_else(
        || format!("{} threads", cpu.threads),
        |cores| format!("{cores} cores"),
    );
    Check {
        name: "cpu.instructions",
        verdict: if best.is_some() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: format!(
            "{}, {cores}, {}",
            cpu.model.as_deref().unwrap_or("unknown"),
            best.unwrap_or("no avx2")
        ),
        wanted: "avx2, better avx512_vnni",
        why: "without vector instructions the processor answers several times slower",
        fix: best.is_none().then(|| {
            "# in a virtual machine, pass the processor through (qemu: -cpu host); on the metal only another processor helps".to_owned()
        }),
    }
}

fn memory(host: &Host) -> Check {
    let enough = host
        .memory
        .is_some_and(|memory| memory.available_bytes >= MEMORY_BYTES_MIN);
    Check {
        name: "memory.available",
        verdict: if enough { Verdict::Good } else { Verdict::Advice },
        found: match host.memory {
            Some(memory) => format!(
                "{} of {} free",
                gib(memory.available_bytes),
                gib(memory.total_bytes)
            ),
            None => "unknown: /proc/meminfo cannot be read".to_owned(),
        },
        wanted: "1 GiB free or more",
        why: "models live in memory; one that does not fit is refused",
        fix: (!enough).then(|| {
            "ps -eo rss,pid,comm --sort=-rss | head   # shows what takes it; end that, or use a smaller model".to_owned()
        }),
    }
}

fn data(facts: &Facts<'_>) -> Check {
    let (path, writable) = &facts.data;
    Check {
        name: "data.writable",
        verdict: if writable.is_ok() {
            Verdict::Good
        } else {
            Verdict::Problem
        },
        found: match writable {
            Ok(()) => format!("{path} can be written"),
            Err(reason) => format!("{path}: {reason}"),
        },
        wanted: "a folder this user can write",
        why: "chats and models are kept there",
        fix: writable
            .is_err()
            .then(|| format!("sudo install -d -o \"$(id -un)\" -m 700 '{path}'")),
    }
}

fn disk(facts: &Facts<'_>) -> Check {
    let enough = facts
        .disk_free_bytes
        .is_some_and(|bytes| bytes >= DISK_BYTES_MIN);
    Check {
        name: "data.space",
        verdict: if enough { Verdict::Good } else { Verdict::Advice },
        found: facts.disk_free_bytes.map_or_else(
            || "unknown".to_owned(),
            |bytes| format!("{} free", gib(bytes)),
        ),
        wanted: "5 GiB free or more",
        why: "a model file of a few billion weights needs that much",
        fix: (!enough).then(|| {
            format!(
                "du -xh --max-depth=2 '{}' | sort -h | tail   # shows what fills it; models go with: onebit rm NAME",
                facts.data.0
            )
        }),
    }
}

fn clock(facts: &Facts<'_>) -> Check {
    let set = facts.clock_s >= CLOCK_S_MIN;
    Check {
        name: "clock",
        verdict: if set { Verdict::Good } else { Verdict::Advice },
        found: if set {
            "set".to_owned()
        } else {
            format!(
                "{} s after 1970: before this program was made",
                facts.clock_s
            )
        },
        wanted: "the date of today",
        why: "certificates are not valid yet or no more when the clock is wrong, and no model can be fetched",
        fix: (!set).then(|| "sudo timedatectl set-ntp true".to_owned()),
    }
}

fn port(facts: &Facts<'_>) -> Check {
    let (address, state) = &facts.port;
    let number = address.rsplit(':').next().unwrap_or_default();
    let taken = matches!(state, Port::Taken(_));
    Check {
        name: "port",
        verdict: if taken { Verdict::Problem } else { Verdict::Good },
        found: match state {
            Port::Free => format!("{address} is free"),
            Port::Ours => format!("onebit serves on {address}"),
            Port::Taken(reason) => format!("{address}: {reason}"),
        },
        wanted: "free, or served by onebit",
        why: "the page and the interfaces are reached there",
        fix: taken.then(|| format!("ss -ltnp 'sport = :{number}'   # shows who has it; or: onebit serve --listen 127.0.0.1:8001")),
    }
}

fn gpu(facts: &Facts<'_>) -> Vec<Check> {
    let host = facts.host;
    if host.gpus.is_empty() {
        return vec![Check {
            name: "gpu.present",
            verdict: Verdict::Good,
            found: "none: the processor answers".to_owned(),
            wanted: "optional",
            why: "a GPU makes larger models usable",
            fix: None,
        }];
    }
    host.gpus
        .iter()
        .flat_map(|gpu| one_gpu(facts, gpu))
        .chain(
            facts
                .vulkan
                .as_ref()
                .map(|found| compute::vulkan(host, found)),
        )
        .chain(facts.lane.as_ref().map(compute::lane))
        .collect()
}

fn one_gpu(facts: &Facts<'_>, gpu: &Gpu) -> Vec<Check> {
    let name = gpu
        .name
        .clone()
        .unwrap_or_else(|| format!("{:?} {:04x}", gpu.vendor, gpu.device_id));
    let isa = gpu.isa.map(|isa| format!(", {isa}")).unwrap_or_default();
    let units = gpu
        .compute_units
        .map(|n| format!(", {n} compute units"))
        .unwrap_or_default();
    let pool = gpu
        .pool_bytes()
        .map(|bytes| format!(", {}", gib(bytes)))
        .unwrap_or_default();
    let mut checks = vec![Check {
        name: "gpu.driver",
        verdict: if gpu.driver.is_some() {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: format!(
            "{name}{isa}{units}{pool}, driver {}",
            gpu.driver.as_deref().unwrap_or("none")
        ),
        wanted: "a kernel driver in charge",
        why: "a GPU without its driver cannot compute",
        fix: gpu.driver.is_none().then(|| drive(facts.host, gpu.vendor)),
    }];
    if gpu.driver.is_some() {
        checks.push(gpu_access(gpu));
    }
    if gpu.vendor == Vendor::Nvidia {
        checks.extend(
            facts
                .cuda
                .as_ref()
                .map(|cuda| compute::cuda(facts.host, cuda)),
        );
    }
    if gpu.vendor == Vendor::Amd {
        checks.extend(gtt(facts.host, gpu));
        checks.extend(facts.hip.as_ref().map(|hip| compute::rocm(facts.host, hip)));
    }
    checks
}

/// The command that puts a driver in charge of a GPU.
fn drive(host: &Host, vendor: Vendor) -> String {
    match vendor {
        Vendor::Amd => "sudo modprobe amdgpu".to_owned(),
        Vendor::Intel => "sudo modprobe xe || sudo modprobe i915".to_owned(),
        Vendor::Nvidia => install(host, "nvidia-driver", "akmod-nvidia", "nvidia-open"),
    }
}

fn gpu_access(gpu: &Gpu) -> Check {
    let node = gpu.render_node.as_deref().unwrap_or("/dev/dri/renderD*");
    let denied = gpu.render_access == Access::Denied || gpu.kfd_access == Access::Denied;
    Check {
        name: "gpu.access",
        verdict: if gpu.render_access == Access::Granted && !denied {
            Verdict::Good
        } else {
            Verdict::Advice
        },
        found: match (gpu.render_access, gpu.kfd_access) {
            (Access::Absent, _) => format!("{node} does not exist"),
            (Access::Denied, _) => format!("{node} may not be opened"),
            (Access::Granted, Access::Denied) => "/dev/kfd may not be opened".to_owned(),
            (Access::Granted, _) => format!("{node} opens"),
        },
        wanted: "the device files open for this user",
        why: "the GPU is driven through them",
        fix: if denied {
            Some("sudo usermod -aG render,video \"$(id -un)\"   # then sign in again".to_owned())
        } else {
            (gpu.render_access == Access::Absent)
                .then(|| "sudo dmesg | grep -iE 'drm|amdgpu|nvidia' | tail   # says why the driver made no device file".to_owned())
        },
    }
}

/// How much of main memory an integrated GPU may map.
fn gtt(host: &Host, gpu: &Gpu) -> Option<Check> {
    let (Some(true), Some(gtt), Some(memory)) = (gpu.integrated, gpu.gtt_total_bytes, host.memory)
    else {
        return None;
    };
    let enough = gtt >= memory.total_bytes / 100 * GTT_PERCENT_MIN;
    // Leaves an eighth of memory to everything else; the kernel counts in pages of 4 KiB.
    let pages = memory.total_bytes / 8 * 7 / 4096;
    Some(Check {
        name: "gpu.memory",
        verdict: if enough { Verdict::Good } else { Verdict::Advice },
        found: format!("the GPU may map {} of {}", gib(gtt), gib(memory.total_bytes)),
        wanted: "half of main memory or more",
        why: "on this chip models live in main memory, and the GPU sees only what it may map",
        fix: (!enough).then(|| {
            format!("echo 'options ttm pages_limit={pages}' | sudo tee /etc/modprobe.d/onebit-gtt.conf   # then restart")
        }),
    })
}

/// The command that installs something, by the distribution's own names for it; where these are not known, what to look for.
fn install(host: &Host, debian: &str, fedora: &str, arch: &str) -> String {
    host.system
        .distributions
        .iter()
        .find_map(|id| match id.as_str() {
            "debian" | "ubuntu" => Some(format!("sudo apt-get install {debian}")),
            "fedora" | "rhel" => Some(format!("sudo dnf install {fedora}")),
            "arch" | "cachyos" => Some(format!("sudo pacman -S {arch}")),
            _ => None,
        })
        .unwrap_or_else(|| format!("# install what Debian calls {debian}"))
}

/// Bytes for people.
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{BARE_VM, NVIDIA, RX_9070_XT, STRIX_HALO, unpack};
    use super::*;

    fn run(fixture: &str, change: impl FnOnce(&mut Facts<'_>, &mut Host)) -> Vec<Check> {
        let host = Host::read(unpack(fixture).path());
        let mut changed = host.clone();
        let mut facts = Facts {
            host: &host,
            hip: Some(Ok(
                "AMD Radeon 8060S through libamdhip64.so.6 for gfx1151".to_owned()
            )),
            cuda: Some(Ok("NVIDIA GPU through libcuda.so.1 for sm_120".to_owned())),
            vulkan: Some(Ok("AMD Radeon 8060S".to_owned())),
            lane: Some(Ok("ternary.hip on AMD Radeon 8060S".to_owned())),
            port: ("127.0.0.1:8000".to_owned(), Port::Free),
            data: ("/var/lib/onebit".to_owned(), Ok(())),
            disk_free_bytes: Some(80 << 30),
            clock_s: CLOCK_S_MIN,
            xrt_variables: Vec::new(),
        };
        change(&mut facts, &mut changed);
        checks(&Facts {
            host: &changed,
            ..facts
        })
    }

    fn find<'c>(checks: &'c [Check], name: &str) -> &'c Check {
        checks
            .iter()
            .find(|check| check.name == name)
            .unwrap_or_else(|| panic!("no check {name}"))
    }

    #[test]
    fn good_machines_raise_no_alarm() {
        for fixture in [STRIX_HALO, RX_9070_XT, NVIDIA, BARE_VM] {
            for check in run(fixture, |_, _| {}) {
                assert_eq!(check.verdict, Verdict::Good, "{check:?}");
                assert_eq!(check.fix, None, "{check:?}");
            }
        }
    }

    /// One line a fault: how the machine is broken, the check that must notice, how bad, part of its fix.
    #[test]
    fn every_fault_is_noticed_and_its_fix_named() {
        type Break = fn(&mut Facts<'_>, &mut Host);
        let faults: &[(&str, Break, &str, Verdict, &str)] = &[
            (
                "no avx2",
                |_, h| h.cpu.features.clear(),
                "cpu.instructions",
                Verdict::Advice,
                "-cpu host",
            ),
            (
                "little memory",
                |_, h| h.memory.as_mut().unwrap().available_bytes = 1 << 20,
                "memory.available",
                Verdict::Advice,
                "ps -eo rss",
            ),
            (
                "read-only",
                |f, _| f.data.1 = Err("read-only file system".into()),
                "data.writable",
                Verdict::Problem,
                "install -d",
            ),
            (
                "full disk",
                |f, _| f.disk_free_bytes = Some(1 << 20),
                "data.space",
                Verdict::Advice,
                "onebit rm",
            ),
            (
                "port",
                |f, _| f.port.1 = Port::Taken("address in use".into()),
                "port",
                Verdict::Problem,
                "sport = :8000",
            ),
            (
                "clock of 1970",
                |f, _| f.clock_s = 100,
                "clock",
                Verdict::Advice,
                "set-ntp",
            ),
            (
                "no driver",
                |_, h| h.gpus[0].driver = None,
                "gpu.driver",
                Verdict::Advice,
                "modprobe amdgpu",
            ),
            (
                "render",
                |_, h| h.gpus[0].render_access = Access::Denied,
                "gpu.access",
                Verdict::Advice,
                "usermod -aG render",
            ),
            (
                "no device file",
                |_, h| h.gpus[0].render_access = Access::Absent,
                "gpu.access",
                Verdict::Advice,
                "dmesg",
            ),
            (
                "kfd",
                |_, h| h.gpus[0].kfd_access = Access::Denied,
                "gpu.access",
                Verdict::Advice,
                "usermod -aG render",
            ),
            (
                "small gtt",
                |_, h| h.gpus[0].gtt_total_bytes = Some(16 << 30),
                "gpu.memory",
                Verdict::Advice,
                "pages_limit=28405",
            ),
            (
                "no rocm",
                |f, _| f.hip = Some(Err("not installed".into())),
                "gpu.rocm",
                Verdict::Advice,
                "apt-get install libamdhip64",
            ),
            (
                "no vulkan",
                |f, _| f.vulkan = Some(Err("no driver".into())),
                "gpu.vulkan",
                Verdict::Advice,
                "mesa-vulkan-drivers",
            ),
            (
                "no lane",
                |f, _| f.lane = Some(Err("cuda is not installed".into())),
                "gpu.lane",
                Verdict::Advice,
                "onebit kernels list",
            ),
            (
                "no amdxdna",
                |_, h| h.npu.as_mut().unwrap().driver = None,
                "npu.driver",
                Verdict::Advice,
                "modprobe amdxdna",
            ),
            (
                "accel",
                |_, h| h.npu.as_mut().unwrap().access = Access::Denied,
                "npu.access",
                Verdict::Advice,
                "usermod -aG render",
            ),
            (
                "no accel",
                |_, h| h.npu.as_mut().unwrap().access = Access::Absent,
                "npu.access",
                Verdict::Advice,
                "dmesg",
            ),
            (
                "xrt",
                |f, _| f.xrt_variables = vec!["XILINX_XRT".into()],
                "npu.environment",
                Verdict::Advice,
                "unset XILINX_XRT",
            ),
            (
                "firmware",
                |_, h| h.npu.as_mut().unwrap().firmware = None,
                "npu.firmware",
                Verdict::Advice,
                "apt-get install firmware",
            ),
            (
                "memlock",
                |_, h| h.system.memlock_bytes = Some(8 << 20),
                "npu.memlock",
                Verdict::Advice,
                "limits.d",
            ),
            (
                "iommu",
                |_, h| h.system.iommu_disabled = true,
                "npu.iommu",
                Verdict::Advice,
                "amd_iommu=off",
            ),
            (
                "iommu in the firmware",
                |_, h| h.system.iommu = false,
                "npu.iommu",
                Verdict::Advice,
                "AMD-Vi",
            ),
        ];
        // A check that no fixture breaks is a check that nobody knows to work.
        for check in run(STRIX_HALO, |_, _| {}) {
            assert!(
                faults.iter().any(|(_, _, name, ..)| *name == check.name),
                "no fault for {}",
                check.name
            );
        }
        for (fault, break_it, name, verdict, fix) in faults {
            let checks = run(STRIX_HALO, break_it);
            let check = find(&checks, name);
            assert_eq!(check.verdict, *verdict, "{fault}: {check:?}");
            assert!(!fix.is_empty(), "{fault}");
            assert!(
                check.fix.as_deref().unwrap_or_default().contains(fix),
                "{fault}: {check:?}"
            );
            let others: Vec<_> = checks
                .iter()
                .filter(|c| c.verdict != Verdict::Good && c.name != *name)
                .collect();
            assert!(others.is_empty(), "{fault} also raised {others:?}");
        }
    }

    #[test]
    fn the_fix_speaks_the_distributions_language() {
        let checks = run(RX_9070_XT, |facts, _| {
            facts.hip = Some(Err("not installed".into()))
        });
        assert_eq!(
            find(&checks, "gpu.rocm").fix.as_deref(),
            Some("sudo dnf install rocm-hip")
        );
        let checks = run(RX_9070_XT, |facts, host| {
            host.system.distributions = vec!["plan9".into()];
            facts.hip = Some(Err("not installed".into()));
        });
        let fix = find(&checks, "gpu.rocm").fix.as_deref().unwrap();
        assert!(fix.starts_with("# install what Debian calls"), "{fix}");
        let checks = run(NVIDIA, |facts, _| {
            facts.cuda = Some(Err("cuda is not installed: libnvrtc.so".into()))
        });
        let check = find(&checks, "gpu.cuda");
        assert_eq!(check.verdict, Verdict::Advice);
        assert!(check.fix.as_deref().unwrap().contains("nvrtc"), "{check:?}");
        let checks = run(NVIDIA, |_, host| host.gpus[0].driver = None);
        let fix = find(&checks, "gpu.driver").fix.as_deref().unwrap();
        assert!(fix.contains("nvidia"), "{fix}");
        let checks = run(STRIX_HALO, |_, host| {
            host.npu.as_mut().unwrap().driver = None;
            host.system.kernel = Some("6.8.0-31-generic".into());
        });
        assert!(
            find(&checks, "npu.driver")
                .fix
                .as_deref()
                .unwrap()
                .contains("Linux 7.0")
        );
    }
}
