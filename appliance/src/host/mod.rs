//! The facts of this machine: processor, memory, GPUs, NPU, operating system.
//!
//! Everything is read from files below a root folder that the caller names (`/`, or a fixture tree in
//! tests). What a machine does not tell is `None`, never a guess. This module must not know which
//! engine wants a fact or what it is worth: it reads, and [`checks`] compares.

pub mod checks;
mod cpu;
#[cfg(test)]
pub(crate) mod fixture;
mod gpu;
mod memory;
pub mod network;
mod npu;
mod power;
mod system;
mod times;
mod tree;

use std::path::Path;

pub use cpu::Cpu;
pub use gpu::{Access, Gpu, GpuReading, Isa, Vendor};
pub use memory::Memory;
pub use npu::{Npu, NpuGeneration};
pub use power::Energy;
pub use system::System;
pub use times::CpuTimes;
use tree::Tree;

/// What one look at the machine found.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The processor.
    pub cpu: Cpu,
    /// Main memory. `None` when `/proc/meminfo` cannot be read.
    pub memory: Option<Memory>,
    /// Compute GPUs, by DRM card number. Display-only adapters of virtual machines are left out.
    pub gpus: Vec<Gpu>,
    /// The neural processor, driver or not.
    pub npu: Option<Npu>,
    /// Kernel, distribution and limits.
    pub system: System,
}

impl Host {
    /// Reads everything below `root` (`/` on a real machine). Takes about a millisecond.
    pub fn read(root: &Path) -> Self {
        let tree = Tree::new(root);
        Self {
            cpu: Cpu::read(&tree),
            memory: Memory::read(&tree),
            gpus: gpu::read(&tree),
            npu: npu::read(&tree),
            system: System::read(&tree),
        }
    }
}

/// Memory as it is now; cheap enough to ask before every admission.
pub fn memory_now(root: &Path) -> Option<Memory> {
    Memory::read(&Tree::new(root))
}

/// The processors' counters as they are now. `None` when the system does not tell.
pub fn cpu_times(root: &Path) -> Option<CpuTimes> {
    times::read(&Tree::new(root))
}

/// Bytes of the file system of `path`: all of them, and those that this user may still write.
pub fn disk_bytes(path: &Path) -> Option<(u64, u64)> {
    let room = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(room.f_frsize);
    Some((bytes(room.f_blocks)?, bytes(room.f_bavail)?))
}

/// Bytes that this user may still write to the file system of `path`. `None` when it cannot be asked.
pub fn disk_free_bytes(path: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(path).ok()?;
    room.f_bavail.checked_mul(room.f_frsize)
}

/// Whether the machine runs on its battery; `None` when nothing tells.
pub fn on_battery(root: &Path) -> Option<bool> {
    power::on_battery(&Tree::new(root))
}

/// The processor's energy counters, where they may be read.
pub fn energy_now(root: &Path) -> Vec<Energy> {
    power::energy(&Tree::new(root))
}

/// Bytes of memory that this process holds; `None` when the system does not tell.
pub fn own_bytes(root: &Path) -> Option<u64> {
    let status = Tree::new(root).text("/proc/self/status")?;
    let kilobytes = tree::value_of(&status, "VmRSS")?.strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

/// A GPU's load, clocks, heat and power as they are now.
pub fn gpu_now(root: &Path, gpu: &Gpu) -> GpuReading {
    gpu::reading(&Tree::new(root), gpu)
}

#[cfg(test)]
mod tests {
    use super::fixture::{BARE_VM, NVIDIA, RX_9070_XT, STRIX_HALO, unpack};
    use super::*;

    #[test]
    fn a_strix_halo_is_read_whole() {
        let root = unpack(STRIX_HALO);
        let host = Host::read(root.path());

        assert_eq!((host.cpu.threads, host.cpu.cores), (32, Some(16)));
        assert!(host.cpu.has("avx512_vnni") && !host.cpu.has("avx512"));
        assert_eq!(host.cpu.last_level_cache_bytes, Some(32 << 20));
        assert_eq!(host.memory.unwrap().total_bytes, 129_853_452 * 1024);

        let [gpu] = host.gpus.as_slice() else {
            panic!("one GPU, got {:?}", host.gpus)
        };
        assert_eq!(gpu.pci.as_deref(), Some("0000:c5:00.0"));
        assert_eq!(gpu.isa.unwrap().to_string(), "gfx1151");
        assert_eq!(
            (gpu.compute_units, gpu.wave_size, gpu.clock_mhz_max),
            (Some(40), Some(32), Some(2900))
        );
        assert_eq!(gpu.integrated, Some(true));
        assert_eq!(
            gpu.pool_bytes(),
            Some(120_259_084_288),
            "an APU's pool is GTT, not the carve-out"
        );
        assert_eq!(gpu.gtt_limit_bytes, Some(29_360_128 * 4096));
        assert_eq!(
            (gpu.render_access, gpu.kfd_access),
            (Access::Granted, Access::Granted)
        );
        assert!(gpu.name.as_deref().unwrap().contains("8060S"));

        let now = gpu_now(root.path(), gpu);
        assert_eq!(
            (now.busy_percent, now.clock_mhz, now.memory_clock_mhz),
            (Some(37), Some(1500), Some(1000))
        );
        assert_eq!(
            (now.power_watts, now.temperature_celsius),
            (Some(38.012), Some(51.0))
        );

        let npu = host.npu.unwrap();
        assert_eq!(
            (npu.generation, npu.driver.as_deref()),
            (NpuGeneration::Npu5, Some("amdxdna"))
        );
        assert_eq!(
            (npu.firmware.as_deref(), npu.access),
            (Some("1.1.2.65"), Access::Granted)
        );
        assert_eq!(host.system.kernel_version(), Some((7, 0)));
        assert_eq!(host.system.memlock_bytes, None);
        assert!(host.system.iommu && !host.system.iommu_disabled);
    }

    #[test]
    fn a_radeon_card_has_memory_of_its_own() {
        let root = unpack(RX_9070_XT);
        let host = Host::read(root.path());
        let gpu = &host.gpus[0];
        assert_eq!(gpu.isa.unwrap().to_string(), "gfx1201");
        assert_eq!(gpu.integrated, Some(false));
        assert_eq!(gpu.pool_bytes(), Some(17_095_983_104));
        assert_eq!(gpu_now(root.path(), gpu).power_watts, Some(21.0));
        assert_eq!(host.npu, None);
        assert_eq!(host.system.distributions, ["fedora"]);
    }

    #[test]
    fn what_nvidia_does_not_tell_stays_unknown() {
        let host = Host::read(unpack(NVIDIA).path());
        let gpu = &host.gpus[0];
        assert_eq!(
            (gpu.vendor, gpu.driver.as_deref()),
            (Vendor::Nvidia, Some("nvidia"))
        );
        assert_eq!(
            (gpu.pool_bytes(), gpu.isa, gpu.integrated),
            (None, None, None)
        );
        assert_eq!(gpu.kfd_access, Access::Absent);
    }

    #[test]
    fn a_virtual_machine_has_no_gpu_and_obeys_its_group() {
        let host = Host::read(unpack(BARE_VM).path());
        assert!(host.gpus.is_empty());
        assert_eq!(host.cpu.quota_cores, Some(1.5));
        assert_eq!(host.memory.unwrap().available_bytes, 2_000_000_000);
        assert_eq!(host.memory.unwrap().limit_bytes, Some(2_147_483_648));
    }

    #[test]
    fn an_empty_root_is_a_machine_that_tells_nothing() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::read(root.path());
        assert_eq!((host.cpu.threads, host.memory), (0, None));
        assert!(host.gpus.is_empty() && host.npu.is_none());
    }
}
