//! GPUs from DRM and KFD sysfs: identity, memory, and what they are doing now.

use std::fmt;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use super::tree::{Tree, value_of};

const DRM: &str = "/sys/class/drm";
const KFD_NODES: &str = "/sys/class/kfd/kfd/topology/nodes";
/// The kernel counts its limit on graphics memory in pages of this size.
const PAGE_BYTES: u64 = 4096;

/// Who makes the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// PCI vendor 1002.
    Amd,
    /// PCI vendor 10de.
    Nvidia,
    /// PCI vendor 8086.
    Intel,
}

/// An AMD instruction set version; displays as `gfx1151`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa {
    /// 11 for RDNA 3 and 3.5, 12 for RDNA 4.
    pub major: u32,
    /// Second part.
    pub minor: u32,
    /// Third part, printed in hexadecimal.
    pub step: u32,
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gfx{}{:x}{:x}", self.major, self.minor, self.step)
    }
}

/// Whether this process may use a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It opened for reading and writing.
    Granted,
    /// It is there and the rights are missing.
    Denied,
    /// There is no such file.
    Absent,
}

impl Access {
    pub(super) fn of(path: &Path) -> Self {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(_) => Self::Granted,
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Absent,
            Err(_) => Self::Denied,
        }
    }
}

/// A GPU's lasting facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// `card1`: the folder in `/sys/class/drm`.
    pub card: String,
    /// PCI address as sysfs writes it. `None` for a GPU that is not on PCI.
    pub pci: Option<String>,
    /// Who makes it.
    pub vendor: Vendor,
    /// PCI device number.
    pub device_id: u32,
    /// The name in the machine's PCI list, when it has one.
    pub name: Option<String>,
    /// The kernel driver in charge; `None` when none is.
    pub driver: Option<String>,
    /// Device file for computing, such as `/dev/dri/renderD128`, and whether it opens.
    pub render_node: Option<String>,
    /// Rights on [`Gpu::render_node`].
    pub render_access: Access,
    /// Rights on `/dev/kfd`, which ROCm needs besides.
    pub kfd_access: Access,
    /// Instruction set, for AMD.
    pub isa: Option<Isa>,
    /// Compute units.
    pub compute_units: Option<u32>,
    /// Threads of a wave.
    pub wave_size: Option<u32>,
    /// Shared memory of a work group, bytes.
    pub lds_bytes: Option<u64>,
    /// Highest engine clock.
    pub clock_mhz_max: Option<u32>,
    /// The GPU has no memory of its own but a carve-out of the host's. `None` when the driver does not tell.
    pub integrated: Option<bool>,
    /// Own memory (on an integrated GPU the carve-out).
    pub vram_total_bytes: Option<u64>,
    /// Host memory the GPU may map: the real size on an integrated GPU.
    pub gtt_total_bytes: Option<u64>,
    /// The kernel's ceiling on mapped host memory.
    pub gtt_limit_bytes: Option<u64>,
}

/// A GPU's load at one moment; each value where the driver tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuReading {
    /// Share of time something ran, 0 to 100.
    pub busy_percent: Option<u32>,
    /// Bytes of own memory in use.
    pub vram_used_bytes: Option<u64>,
    /// Bytes of mapped host memory in use.
    pub gtt_used_bytes: Option<u64>,
    /// Engine clock.
    pub clock_mhz: Option<u32>,
    /// Memory clock.
    pub memory_clock_mhz: Option<u32>,
    /// Power drawn (on an APU: by the whole package).
    pub power_watts: Option<f64>,
    /// Edge temperature.
    pub temperature_celsius: Option<f64>,
}

impl Gpu {
    /// Bytes that models can live in: mapped host memory on an integrated GPU, own memory otherwise.
    pub fn pool_bytes(&self) -> Option<u64> {
        match self.integrated {
            Some(true) => self.gtt_total_bytes,
            _ => self.vram_total_bytes,
        }
    }
}

/// Every compute GPU of the machine.
pub(super) fn read(tree: &Tree<'_>) -> Vec<Gpu> {
    let mut cards: Vec<(u32, String)> = tree
        .names(DRM)
        .into_iter()
        .filter_map(|name| Some((name.strip_prefix("card")?.parse().ok()?, name)))
        .collect();
    cards.sort();
    cards
        .into_iter()
        .filter_map(|(_, card)| card_facts(tree, card))
        .collect()
}

fn card_facts(tree: &Tree<'_>, card: String) -> Option<Gpu> {
    let device = format!("{DRM}/{card}/device");
    let vendor_id = tree.hex(&format!("{device}/vendor"))?;
    let vendor = match vendor_id {
        0x1002 => Vendor::Amd,
        0x10de => Vendor::Nvidia,
        0x8086 => Vendor::Intel,
        _ => return None,
    };
    let device_id = tree.hex(&format!("{device}/device"))?;
    let driver = tree.link_name(&format!("{device}/driver"));
    let render = tree
        .names(&format!("{device}/drm"))
        .into_iter()
        .find(|name| name.starts_with("renderD"));
    let node = render.as_deref().and_then(|render| kfd_node(tree, render));
    let property = |name: &str| value_of(node.as_deref()?, name)?.parse::<u64>().ok();
    let is_amdgpu = driver.as_deref() == Some("amdgpu");
    Some(Gpu {
        pci: tree.link_name(&device).filter(|name| name.contains(':')),
        name: pci_name(tree, vendor_id, device_id),
        render_access: render.as_deref().map_or(Access::Absent, |r| {
            Access::of(&tree.path(&format!("/dev/dri/{r}")))
        }),
        kfd_access: Access::of(&tree.path("/dev/kfd")),
        isa: property("gfx_target_version")
            .and_then(isa)
            .or_else(|| discovered_isa(tree, &device)),
        compute_units: property("simd_count")
            .zip(property("simd_per_cu"))
            .and_then(|(simds, per_cu)| u32::try_from(simds.checked_div(per_cu)?).ok()),
        wave_size: property("wave_front_size").and_then(|n| u32::try_from(n).ok()),
        lds_bytes: property("lds_size_in_kb").map(|kib| kib * 1024),
        clock_mhz_max: property("max_engine_clk_fcompute").and_then(|n| u32::try_from(n).ok()),
        // amdgpu offers this file on every card with memory of its own, and on no APU.
        integrated: is_amdgpu.then(|| !tree.exists(&format!("{device}/mem_busy_percent"))),
        vram_total_bytes: tree.number(&format!("{device}/mem_info_vram_total")),
        gtt_total_bytes: tree.number(&format!("{device}/mem_info_gtt_total")),
        gtt_limit_bytes: tree
            .number::<u64>("/sys/module/ttm/parameters/pages_limit")
            .filter(|_| is_amdgpu)
            .and_then(|pages| pages.checked_mul(PAGE_BYTES)),
        render_node: render.map(|render| format!("/dev/dri/{render}")),
        card,
        vendor,
        device_id,
        driver,
    })
}

/// What a GPU is doing.
pub(super) fn reading(tree: &Tree<'_>, gpu: &Gpu) -> GpuReading {
    let device = format!("{DRM}/{}/device", gpu.card);
    let sensors = tree
        .names(&format!("{device}/hwmon"))
        .into_iter()
        .next()
        .map(|name| format!("{device}/hwmon/{name}"));
    let sensor = |file: &str| tree.number::<f64>(&format!("{}/{file}", sensors.as_deref()?));
    GpuReading {
        busy_percent: tree.number(&format!("{device}/gpu_busy_percent")),
        vram_used_bytes: tree.number(&format!("{device}/mem_info_vram_used")),
        gtt_used_bytes: tree.number(&format!("{device}/mem_info_gtt_used")),
        clock_mhz: tree
            .text(&format!("{device}/pp_dpm_sclk"))
            .as_deref()
            .and_then(chosen_clock),
        memory_clock_mhz: tree
            .text(&format!("{device}/pp_dpm_mclk"))
            .as_deref()
            .and_then(chosen_clock),
        // Older drivers average, newer ones tell the moment; either file can be missing.
        power_watts: sensor("power1_average")
            .or_else(|| sensor("power1_input"))
            .map(|microwatts| microwatts / 1e6),
        temperature_celsius: sensor("temp1_input").map(|thousandths| thousandths / 1e3),
    }
}

/// The properties of the KFD node that belongs to a render node.
fn kfd_node(tree: &Tree<'_>, render: &str) -> Option<String> {
    let minor = render.strip_prefix("renderD")?;
    let nodes = tree.names(KFD_NODES);
    let mut properties = nodes
        .iter()
        .filter_map(|node| tree.text(&format!("{KFD_NODES}/{node}/properties")));
    properties.find(|text| {
        value_of(text, "drm_render_minor") == Some(minor)
            && value_of(text, "simd_count").is_some_and(|n| n != "0")
    })
}

/// `110501` is gfx1151: decimal major * 10000 + minor * 100 + step.
fn isa(packed: u64) -> Option<Isa> {
    let packed = u32::try_from(packed).ok().filter(|&n| n > 0)?;
    Some(Isa {
        major: packed / 10_000,
        minor: packed / 100 % 100,
        step: packed % 100,
    })
}

/// The same from the driver's list of hardware blocks, for kernels without KFD.
fn discovered_isa(tree: &Tree<'_>, device: &str) -> Option<Isa> {
    let part = |name: &str| tree.number(&format!("{device}/ip_discovery/die/0/GC/0/{name}"));
    Some(Isa {
        major: part("major")?,
        minor: part("minor")?,
        step: part("revision")?,
    })
}

/// The line with the star in a list of clocks: `1: 2900Mhz *`.
fn chosen_clock(text: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.trim_end().ends_with('*'))?;
    let (_, clock) = line.split_once(':')?;
    clock
        .trim_end_matches([' ', '*'])
        .trim()
        .strip_suffix("Mhz")?
        .parse()
        .ok()
}

/// A device's name in the machine's own copy of the PCI list.
fn pci_name(tree: &Tree<'_>, vendor: u32, device: u32) -> Option<String> {
    let list = tree
        .text("/usr/share/misc/pci.ids")
        .or_else(|| tree.text("/usr/share/hwdata/pci.ids"))?;
    let mut lines = list
        .lines()
        .skip_while(|line| !line.starts_with(&format!("{vendor:04x}  ")));
    lines.next()?;
    let prefix = format!("\t{device:04x}  ");
    let own =
        lines.take_while(|line| line.starts_with('\t') || line.starts_with('#') || line.is_empty());
    own.into_iter()
        .find_map(|line| line.strip_prefix(prefix.as_str()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_are_named_as_amd_names_them() {
        assert_eq!(isa(110_501).unwrap().to_string(), "gfx1151");
        assert_eq!(isa(110_000).unwrap().to_string(), "gfx1100");
        assert_eq!(isa(120_001).unwrap().to_string(), "gfx1201");
        assert_eq!(isa(90_010).unwrap().to_string(), "gfx90a");
        assert_eq!(isa(0), None);
    }

    #[test]
    fn the_chosen_clock_has_the_star() {
        assert_eq!(
            chosen_clock("0: 600Mhz \n1: 1100Mhz *\n2: 2900Mhz \n"),
            Some(1100)
        );
        assert_eq!(chosen_clock("0: 600Mhz \n"), None);
        assert_eq!(chosen_clock("S: 19Mhz *"), Some(19));
    }
}
