//! Kernel, distribution, and the limits this process runs under.

use super::tree::{Tree, value_of};

/// Facts of the operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The kernel's release text, such as `6.17.0-rc3-amd64`.
    pub kernel: Option<String>,
    /// Distribution and its relatives by `os-release`'s names, nearest first (`ubuntu`, `debian`).
    pub distributions: Vec<String>,
    /// The distribution's own name for itself.
    pub name: Option<String>,
    /// Bytes this process may pin in memory. `None` is without limit.
    pub memlock_bytes: Option<u64>,
    /// Whether the kernel drives an IOMMU, which the NPU needs.
    pub iommu: bool,
    /// The IOMMU is switched off on the kernel's command line.
    pub iommu_disabled: bool,
}

impl System {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let release = tree.text("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let value = release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches(['"', '\'']).to_owned())
        };
        let mut distributions: Vec<String> = field("ID").into_iter().collect();
        distributions.extend(
            field("ID_LIKE")
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(str::to_owned),
        );
        let command_line = tree.text("/proc/cmdline").unwrap_or_default();
        Self {
            kernel: tree.text("/proc/sys/kernel/osrelease"),
            distributions,
            name: field("PRETTY_NAME"),
            memlock_bytes: tree.text("/proc/self/limits").as_deref().and_then(memlock),
            iommu: !tree.names("/sys/class/iommu").is_empty(),
            iommu_disabled: command_line
                .split_ascii_whitespace()
                .any(|word| matches!(word, "amd_iommu=off" | "iommu=off")),
        }
    }

    /// The kernel's first two numbers, whatever a distribution appends.
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel.as_deref()?.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// The soft limit in `Max locked memory  8388608  8388608  bytes`; `unlimited` is none.
fn memlock(limits: &str) -> Option<u64> {
    value_of(limits, "Max locked memory")?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_compare_by_number() {
        let of = |kernel: &str| {
            let system = System {
                kernel: Some(kernel.to_owned()),
                distributions: vec![],
                name: None,
                memlock_bytes: None,
                iommu: false,
                iommu_disabled: false,
            };
            system.kernel_version()
        };
        assert_eq!(of("7.0.0-rc4"), Some((7, 0)));
        assert_eq!(of("6.14-1-cachyos"), Some((6, 14)));
        assert_eq!(of("weird"), None);
    }

    #[test]
    fn unlimited_is_no_limit() {
        assert_eq!(
            memlock("Max locked memory         8388608              8388608              bytes"),
            Some(8_388_608)
        );
        assert_eq!(
            memlock("Max locked memory         unlimited            unlimited            bytes"),
            None
        );
    }
}
