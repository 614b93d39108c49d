//! AMD's neural processor: found by its PCI numbers, with or without a driver.

use super::gpu::Access;
use super::tree::Tree;

const PCI: &str = "/sys/bus/pci/devices";
const AMD: u32 = 0x1022;

/// Which NPU it is; decides which programs can run on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NpuGeneration {
    /// Phoenix and Hawk Point (first XDNA).
    Npu1,
    /// A class of chips between, without a product here.
    Npu3,
    /// Strix Point.
    Npu4,
    /// Strix Halo.
    Npu5,
    /// Krackan Point.
    Npu6,
    /// Right device number, newer revision.
    Unknown,
}

impl NpuGeneration {
    /// By PCI device and revision. `None` when it is no NPU.
    fn of(device: u32, revision: u32) -> Option<Self> {
        Some(match (device, revision) {
            (0x1502, _) => Self::Npu1,
            (0x17f0, 0x10) => Self::Npu4,
            (0x17f0, 0x11) => Self::Npu5,
            (0x17f0, 0x20) => Self::Npu6,
            (0x17f0, _) => Self::Unknown,
            (0x17f1..=0x17f3 | 0x1b0a..=0x1b0c, _) => Self::Npu3,
            _ => return None,
        })
    }

    /// XDNA 2, which FastFlowLM's models need.
    pub fn is_xdna2(self) -> bool {
        matches!(self, Self::Npu4 | Self::Npu5 | Self::Npu6)
    }
}

/// An NPU's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Npu {
    /// PCI address.
    pub pci: String,
    /// Which one it is.
    pub generation: NpuGeneration,
    /// `amdxdna` when the driver is in charge.
    pub driver: Option<String>,
    /// Firmware, as the driver writes it (`1.1.2.65`).
    pub firmware: Option<String>,
    /// The driver's text for the product.
    pub product: Option<String>,
    /// Device file, such as `/dev/accel/accel0`.
    pub node: Option<String>,
    /// Rights on [`Npu::node`].
    pub access: Access,
}

/// The first NPU of the machine (there is no machine with two).
pub(super) fn read(tree: &Tree<'_>) -> Option<Npu> {
    tree.names(PCI).into_iter().find_map(|pci| {
        let folder = format!("{PCI}/{pci}");
        let number = |file: &str| tree.hex(&format!("{folder}/{file}"));
        if number("vendor")? != AMD {
            return None;
        }
        let generation = NpuGeneration::of(number("device")?, number("revision").unwrap_or(0))?;
        let node = tree
            .names(&format!("{folder}/accel"))
            .into_iter()
            .find(|name| name.starts_with("accel"));
        let node = node.map(|name| format!("/dev/accel/{name}"));
        Some(Npu {
            generation,
            driver: tree.link_name(&format!("{folder}/driver")),
            firmware: tree.text(&format!("{folder}/fw_version")),
            product: tree.text(&format!("{folder}/vbnv")),
            access: node
                .as_deref()
                .map_or(Access::Absent, |node| Access::of(&tree.path(node))),
            node,
            pci,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_tell_the_chips_apart() {
        assert_eq!(NpuGeneration::of(0x17f0, 0x11), Some(NpuGeneration::Npu5));
        assert_eq!(
            NpuGeneration::of(0x17f0, 0x77),
            Some(NpuGeneration::Unknown)
        );
        assert_eq!(NpuGeneration::of(0x1502, 0), Some(NpuGeneration::Npu1));
        assert_eq!(NpuGeneration::of(0x1b0b, 0), Some(NpuGeneration::Npu3));
        assert_eq!(NpuGeneration::of(0x1586, 0), None);
    }
}
